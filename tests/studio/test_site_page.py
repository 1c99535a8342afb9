"""Sites that `vqwave export-web` writes, in Chromium, from Python's own web server."""

import contextlib
import functools
import http.server
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chains import save_led
from firefox import FIREFOX, PULSEAUDIO, firefox
from page import NEEDS, PATIENCE, RATE

from vqwave import commands
from vqwave.onnx.export import cache_folder
from vqwave.play import api, engine, session
from vqwave.play.sampling import uniforms
from vqwave.studio import pictures, site

pytestmark = NEEDS
AXE = Path(os.environ.get("AXE", Path(sys.prefix, "axe/node_modules/axe-core/axe.min.js")))

# Notes the codes of each level, and the samples, as they come to the page.
NOTE = """() => {
    const { player } = window.vqwave, block = player.block;
    Object.assign(window, { codes: {}, pcm: [] });
    player.block = function (about, payload) {
        window.pcm.push(...payload[0]);
        this.take.levels.forEach(({ level }, i) => (window.codes[level] ??= []).push(...payload[2 + i]));
        return block.call(this, about, payload);
    };
}"""


@contextlib.contextmanager
def served(folder):
    """The address of a folder that `python -m http.server` serves."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def write(folder, generators, codecs, engine):
    if not (cache_folder() / site.PACKAGE.replace("@", "-")).is_dir():
        pytest.skip("needs ONNX Runtime Web, which bash setup.sh --test fetches where npm is")
    arguments = [generators, folder, "--vqvae-weights-dir", codecs, "--engine", engine]
    assert commands.load("export-web").main(list(map(str, arguments))) == 0
    return folder


@pytest.fixture(scope="module")
def led(shared, tmp_path_factory):
    """The site of a small chain of two levels that a score leads, and its music."""
    root = shared("led by a score", save_led)
    folder = write(tmp_path_factory.mktemp("led") / "site", root / "generators", root / "codecs", "onnx-float32")
    with served(folder) as address:
        yield address, api.load(root / "codecs", root / "generators", engine="onnx-float32")


@pytest.fixture
def open_site(browser):
    """Opens a site in a new profile; neither errors nor requests to other places may occur."""
    errors, contexts = [], []

    def open_site(address, path="/", prepare=None, ready="window.vqwave?.ready", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: request.url.startswith((address, "blob:")) or errors.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        if prepare:
            prepare(page)
        else:
            page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.goto(address + path)
        page.wait_for_function(f"() => {ready}")
        return page

    yield open_site
    for context in contexts:
        context.close()
    assert not errors


def play_until(page, seconds, seed=None):
    if seed is not None:
        page.evaluate("seed => { document.querySelector('#seed').value = seed }", str(seed))
    page.evaluate(NOTE)
    page.locator("#play").click()
    page.wait_for_function(f"() => window.vqwave.player.sound?.position >= {seconds * RATE}")


def codes_of(page, level, books=1):
    codes = np.array(page.evaluate(f"() => window.codes[{level}]"))
    return codes if books == 1 else codes.reshape(-1, books)


def native_codes(music, seed, seconds, changes=()):
    """The codes of a piece by level, as Python makes them."""
    codes = {}
    with music.stream(seed=seed, seconds=seconds, past=8.0) as stream:
        for _ in session.replay(stream, changes):
            for level, values in stream.codes.items():
                codes.setdefault(level, []).append(values)
    return {level: np.concatenate(values) for level, values in codes.items()}


def test_a_site_draws_the_same_codes_as_python_and_plays_without_a_network(led, open_site):
    address, music = led
    page = open_site(address)
    for seed, stream, level, start, count, book in ((0, 0, 512, 0, 20, 0), (2**127 + 12345, 3, 8, 1021, 9, 13)):
        drawn = page.evaluate("""async ([seed, ...rest]) => {
            const { uniforms } = await import("/studio/static/philox.js");
            return [...uniforms(BigInt(seed), ...rest)];
        }""", [str(seed), stream, level, start, count, book])
        np.testing.assert_array_equal(np.float32(drawn), uniforms(seed, stream, level, start, count, book))
    play_until(page, 1.5, seed=7)
    assert page.evaluate("() => window.vqwave.player.sound.gaps") == 0
    page.evaluate("""async (until) => {
        const { ask } = await import("/studio/static/wire.js");
        window.vqwave.player.allow = () => {};
        ask("studio/takes/piece/set", { until });
    }""", 30 * RATE)
    page.wait_for_function(f"() => window.pcm.length >= {30 * RATE}")
    for level, codes in native_codes(music, 7, 30).items():
        np.testing.assert_array_equal(codes_of(page, level)[: len(codes)], codes)
    page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
    page.context.set_offline(True)
    page.reload()
    page.wait_for_function("() => window.vqwave?.ready")
    play_until(page, 0.2)


PAUSE = 2000.0
"""Milliseconds after which taps are counted anew."""


def test_four_taps_set_the_tempo(led, open_site):
    page = open_site(led[0])
    play_until(page, 0.2)
    page.locator("#steer-more").evaluate("one => { one.open = true }")
    page.evaluate("""() => {
        window.taps = [];
        document.addEventListener("click", ({ timeStamp }) => window.taps.push(timeStamp), true);
    }""")
    tempo, tap = page.get_by_label("Tempo", exact=True), page.get_by_role("button", name="Tap")
    expected, in_time = 0, [-PAUSE]
    for _ in range(6):
        tap.click()
        page.wait_for_timeout(450)
        at = page.evaluate("() => window.taps.at(-1)")
        in_time = [*in_time, at][-4:] if at - in_time[-1] < PAUSE else [at]
        if len(in_time) == 4:
            expected = min(200, round(180000 / (at - in_time[0])))
        assert abs(float(tempo.input_value()) - expected) <= 1
    page.wait_for_function("() => performance.now() > window.taps.at(-1) + 2000")
    before = tempo.input_value()
    tap.click()
    assert tempo.input_value() == before
    page.wait_for_function("""async () => {
        const { address } = await import("/studio/static/wire.js");
        return address(window.vqwave.player.take).includes("tempo");
    }""")


@pytest.mark.skipif(not (FIREFOX and PULSEAUDIO), reason="needs Firefox and a sound server: sudo apt-get install firefox-esr pulseaudio")
def test_firefox_draws_the_same_codes_and_plays_without_a_gap(led, tmp_path):
    address, music = led
    with firefox(tmp_path) as browser:
        browser.call("WebDriver:Navigate", url=address)
        browser.until("window.vqwave?.ready")
        browser.run(f"document.querySelector('#seed').value = '7'; ({NOTE})()")
        browser.click("#play")
        browser.until(f"window.vqwave.player.sound?.position >= {3 * RATE}")
        for level, codes in native_codes(music, 7, 3).items():
            heard = browser.run(f"return window.codes[{level}]")
            np.testing.assert_array_equal(heard[: len(codes)], codes)
        assert browser.run("return window.vqwave.player.sound.gaps") == 0
        assert browser.run("return document.querySelector('#alert').innerText") == ""


@pytest.mark.large
def test_a_link_repeats_a_session_in_the_browser_and_in_python(led, open_site):
    address, music = led
    page = open_site(address)
    play_until(page, 1.0, seed=3)
    for act in ("#jump", "#hold"):
        page.locator(act).click()
        page.wait_for_timeout(700)
    page.locator("#hold").click()
    page.locator("#steer-more").evaluate("one => { one.open = true }")
    page.get_by_label("Key", exact=True).select_option("D-minor")
    page.get_by_role("button", name="Bring the theme back").click()
    page.get_by_label("Tempo", exact=True).fill("140")
    page.locator("#wild").fill("0.5")
    page.wait_for_function(f"() => window.vqwave.player.sound.position >= {8 * RATE}")
    link = page.evaluate("""async () => {
        const { address } = await import("/studio/static/wire.js");
        return address(window.vqwave.player.take);
    }""")
    heard = codes_of(page, 512)
    changes = json.loads(page.evaluate("link => new URLSearchParams(new URL(link).hash.slice(1)).get('changes')", link))
    assert {name for _, change in changes for name in change} == {"jump", "hold", "key", "section", "tempo", "sampling"}
    expected = native_codes(music, 3, 8.0, session.Session(seed=3, changes=changes).changes)[512]
    np.testing.assert_array_equal(heard[: len(expected)], expected)
    page = open_site(address, link.removeprefix(address))
    play_until(page, 8.0)
    np.testing.assert_array_equal(codes_of(page, 512)[: len(expected)], expected)
    with page.expect_download() as started:
        page.locator("#save").click()
    samples, rate = soundfile.read(started.value.path(), dtype="int16")
    assert rate == RATE and len(samples) >= 8 * RATE
    np.testing.assert_array_equal(samples, page.evaluate("() => window.pcm")[: len(samples)])


@pytest.mark.large
def test_a_midi_keyboard_holds_notes_and_without_an_audio_thread_it_plays_too(led, open_site):
    page = open_site(led[0], prepare=lambda page: page.add_init_script("delete BaseAudioContext.prototype.audioWorklet"))
    play_until(page, 1.5)
    assert page.evaluate("() => window.vqwave.player.sound.gaps") == 0
    page.evaluate("() => { navigator.requestMIDIAccess = async () => ({ inputs: new Map([[1, (window.keyboard = {})]]) }) }")
    page.locator("#steer-more").evaluate("one => { one.open = true }")
    page.locator("#midi").click()
    page.wait_for_function("() => window.keyboard?.onmidimessage")
    page.evaluate("() => window.keyboard.onmidimessage({ data: [0x90, 62, 100] })")
    page.wait_for_function("() => window.vqwave.player.take.link.includes('notes')")
    assert page.locator("#notes [aria-pressed=true]").inner_text() == "D"


@pytest.mark.large
@pytest.mark.parametrize(("prepare", "sentence"), [
    (lambda page: page.route("**/*decode*", lambda route: route.fulfill(status=404)), "is missing or cut off, so nothing can play"),
    (lambda page: page.add_init_script("delete window.DecompressionStream"), "This browser is too old"),
    (lambda page: page.add_init_script("delete window.WebAssembly"), "This browser is too old"),
])
def test_what_cannot_play_is_said_in_one_sentence(led, open_site, prepare, sentence):
    page = open_site(led[0], prepare=prepare, ready="!document.querySelector('#alert').hidden")
    words = page.locator("#alert").inner_text()
    assert sentence in words and "\n" not in words and words.count(". ") == 0


@pytest.mark.large
@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core, which bash setup.sh --test fetches where npm is")
@pytest.mark.parametrize(("theme", "width"), [("dark", 1400), ("light", 1400), ("dark", 390), ("light", 390)])
def test_axe_finds_no_barriers_and_a_phone_is_wide_enough(led, open_site, theme, width):
    page = open_site(led[0], color_scheme=theme, viewport={"width": width, "height": 844})
    play_until(page, 0.5)
    page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.add_script_tag(path=AXE)
    found = page.evaluate("""async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
        .filter(({ impact }) => ["serious", "critical"].includes(impact)).map(({ id, nodes }) => [id, nodes[0].html])""")
    assert not found
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.large
@pytest.mark.parametrize(("weights", "codecs", "precision", "seconds"), [
    ("weights", "final_weights", "onnx-float32", 21), ("weights", "final_weights", "onnx", 61),
    ("weights/timed", "weights/timed", "onnx-float32", 21), ("weights/timed", "weights/timed", "onnx", 61)])
def test_the_shipped_chains_play_without_a_gap(open_site, tmp_path, weights, codecs, precision, seconds):
    folder = write(tmp_path / "site", weights, codecs, precision)
    assert precision != "onnx" or sum(path.stat().st_size for path in folder.rglob("*")) < 22e6
    with served(folder) as address:
        page = open_site(address)
        play_until(page, seconds, seed=1)
        assert page.evaluate("() => window.vqwave.player.sound.gaps") == 0
        if precision == "onnx-float32":
            expected = native_codes(api.load(codecs, weights, engine=precision), 1, 20)[512]
            np.testing.assert_array_equal(codes_of(page, 512, expected.shape[1])[: len(expected)], expected)


def test_the_graph_of_the_picture_draws_what_the_studio_draws():
    audio = np.random.default_rng(1).normal(0, 0.1, 3 * RATE).astype(np.float32) * np.linspace(0, 1, 3 * RATE, dtype=np.float32) ** 4
    padded = np.pad(audio, (pictures.window(RATE) // 2, 0))[None, :, None]
    (drawn,) = engine.session(site.picture(RATE, 512)).run(None, {"audio": padded})
    expected = pictures.Spectrum(RATE, 512).push(audio)
    assert drawn.shape[1:] == expected.shape and len(np.unique(expected)) > 100
    assert np.abs(drawn[0].astype(int) - expected).max() <= 1


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(site.UserError, match="holds other files"):
        site._check(tmp_path / "mine")
    (tmp_path / "other.tgz").write_bytes(b"another package")
    with pytest.raises(site.UserError, match="is not the package"):
        site.runtime(tmp_path / "other.tgz")
    with pytest.raises(site.UserError, match="no such file"):
        site.runtime(tmp_path / "missing.tgz")
