"""Sites that `vqwave export-web` writes, in Chromium, from Python's own web server."""

import contextlib
import functools
import http.server
import json
import shutil
import threading
from urllib.parse import urlencode

import numpy as np
import pytest
import soundfile
from firefox import FIREFOX, PULSEAUDIO, firefox
from page import AXE, NEEDS, NEEDS_AXE, PATIENCE, RATE

from vqwave import commands
from vqwave.io.files import cache_folder
from vqwave.play import api, engine, session
from vqwave.studio import pictures, site

pytestmark = NEEDS

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
    if not (cache_folder() / site.ONNXRUNTIME_WEB.replace("@", "-")).is_dir():
        pytest.skip("needs ONNX Runtime Web, which bash setup.sh --test fetches where npm is")
    arguments = [generators, folder, "--vqvae-weights-dir", codecs, "--engine", engine]
    assert commands.load("export-web").main(list(map(str, arguments))) == 0
    return folder


@pytest.fixture(scope="module")
def led_folder(led_weights, tmp_path_factory):
    """The site of a small chain of two levels that a score leads."""
    return write(tmp_path_factory.mktemp("led") / "site", led_weights.generators, led_weights.codecs, "onnx-float32")


@pytest.fixture(scope="module")
def led(led_music, led_folder):
    with served(led_folder) as address:
        yield address, led_music


@pytest.fixture
def open_site(browser):
    """Opens a site in a new profile; neither errors nor requests to other places may occur."""
    errors, contexts = [], []

    def open_site(address, path="/", prepare=None, ready="window.vqwave?.ready", **options):
        # The page's policy would refuse what `wait_for_function` evaluates.
        context = browser.new_context(**{"bypass_csp": True} | options)
        contexts.append(context)
        addresses.append(address)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        context.on("request", lambda request: open_site.requests.append(request))
        page.on("pageerror", lambda error: errors.append(str(error)))
        if prepare:
            prepare(page)
        else:
            page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.goto(address + path)
        if ready:
            page.wait_for_function(f"() => {ready}")
        return page

    open_site.requests, open_site.errors, addresses = [], errors, ["blob:"]
    yield open_site
    for context in contexts:
        context.close()
    assert not errors
    assert all(request.url.startswith(tuple(addresses)) for request in open_site.requests)


def play_until(page, seconds, seed=None):
    if seed is not None:
        page.evaluate("seed => { document.querySelector('#seed').value = seed }", str(seed))
    page.evaluate(NOTE)
    page.locator("#play").click()
    page.wait_for_function(f"() => window.vqwave.player.sound?.position >= {seconds * RATE}")


def codes_of(page, level, books=1):
    codes = np.array(page.evaluate(f"() => window.codes[{level}]"))
    return codes if books == 1 else codes.reshape(-1, books)


def native_codes(music, seed, seconds, changes=(), label=None):
    """The codes of a piece by level, as Python makes them."""
    codes = {}
    with music.stream(seed=seed, seconds=seconds, past=8.0, label=label, latency="page") as stream:
        for _ in session.replay(stream, changes):
            for level, values in stream.codes.items():
                codes.setdefault(level, []).append(values)
    return {level: np.concatenate(values) for level, values in codes.items()}


@pytest.mark.large
def test_the_score_comes_ahead_and_a_site_plays_without_a_network(led, open_site):
    page = open_site(led[0])
    play_until(page, 1.5, seed=8)
    assert page.evaluate("() => window.vqwave.player.score.some(([second]) => second > window.vqwave.player.sound.end / window.vqwave.player.take.rate)")
    page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
    assert any(request.service_worker for request in open_site.requests), "the service worker is watched too"
    page.context.set_offline(True)
    page.reload()
    page.wait_for_function("() => window.vqwave?.ready")
    play_until(page, 0.2)


@pytest.mark.skipif(not (FIREFOX and PULSEAUDIO), reason="needs Firefox and a sound server: sudo apt-get install firefox-esr pulseaudio")
@pytest.mark.large
def test_firefox_draws_the_same_codes_and_plays_without_a_gap(led, led_folder, tmp_path):
    (_, music), seconds = led, 20
    with firefox(tmp_path) as browser:
        with served(led_folder) as address:
            browser.call("WebDriver:Navigate", url=address)
            browser.until("window.vqwave?.ready")
            browser.run(f"document.querySelector('#seed').value = '8'; ({NOTE})()")
            browser.click("#play")
            browser.until(f"window.vqwave.player.sound?.position >= {seconds * RATE}")
            for level, codes in native_codes(music, 8, seconds).items():
                heard = browser.run(f"return window.codes[{level}]")
                np.testing.assert_array_equal(heard[: len(codes)], codes)
            assert browser.run("return window.vqwave.player.sound.gaps") == 0
            assert browser.run("return document.querySelector('#alert').innerText") == ""
            browser.run("navigator.serviceWorker.ready.then(() => { window.kept = true })")
            browser.until("window.kept")
        # The server is gone.
        browser.call("WebDriver:Navigate", url=address)
        browser.until("window.vqwave?.ready")
        browser.click("#play")
        browser.until(f"window.vqwave.player.sound?.position >= {0.2 * RATE}")


# Notes where the last picture has words: left, top and width of each.
WRITTEN = """() => {
    const { player } = window.vqwave, { draw } = player, fill = CanvasRenderingContext2D.prototype.fillText;
    window.written = [];
    CanvasRenderingContext2D.prototype.fillText = function (words, left, top) {
        window.writing.push([left, top, this.measureText(words).width]);
        return fill.call(this, words, left, top);
    };
    player.draw = function () {
        window.writing = [];
        draw.call(this);
        window.written = window.writing.filter(([, top]) => top < 100);
    };
}"""


@pytest.mark.large
def test_a_link_repeats_a_session_in_the_browser_and_in_python(led, open_site):
    address, music = led
    page = open_site(address)
    page.locator("#label").evaluate("one => { one.value = 'rain' }")
    play_until(page, 1.0, seed=3)
    for act in ("#jump", "#hold"):
        page.locator(act).click()
        page.wait_for_timeout(700)
    page.locator("#hold").click()
    page.get_by_label("Key", exact=True).select_option("minor")
    page.get_by_role("button", name="Bring the theme back").click()
    page.get_by_label("Tempo", exact=True).fill("140")
    page.get_by_label("Density", exact=True).fill("0.5")
    page.locator("#wild").fill("0.5")
    page.wait_for_function("() => window.vqwave.player.marks.length >= 4")
    page.evaluate(WRITTEN)
    page.wait_for_function("() => window.written.length >= 2")
    boxes = page.evaluate("() => window.written")
    assert all(left + width <= right or right + other <= left for i, (left, line, width) in enumerate(boxes)
               for right, below, other in boxes[:i] if line == below), "labels in the picture do not overlap"
    page.locator("#steer-more").evaluate("one => { one.open = true }")
    for act in ("#freeze", "#hold"):
        page.locator(act).click()
    page.wait_for_timeout(700)
    assert page.locator("#freeze").get_attribute("aria-pressed") == page.locator("#hold").get_attribute("aria-pressed") == "true"
    page.locator("#jump").click()
    assert page.locator("#freeze").get_attribute("aria-pressed") == page.locator("#hold").get_attribute("aria-pressed") == "false"
    assert page.locator("#hold").inner_text() == "Hold this"
    page.wait_for_function(f"() => window.vqwave.player.sound.position >= {8 * RATE}")
    link = page.evaluate("""async () => {
        const { address } = await import("/studio/static/wire.js");
        return address(window.vqwave.player.take);
    }""")
    heard = codes_of(page, 512)
    changes = json.loads(page.evaluate("link => new URLSearchParams(new URL(link).hash.slice(1)).get('changes')", link))
    assert {name for _, change in changes for name in change} == {"jump", "hold", "key", "section", "tempo", "density", "sampling", "freeze"}
    expected = native_codes(music, 3, 8.0, session.Session(seed=3, changes=changes).changes, "rain")[512]
    np.testing.assert_array_equal(heard[: len(expected)], expected)
    page.locator("#stop").click()
    page.get_by_text("Stopped. Press Play to hear it again.").wait_for()
    # A link in an open tab begins anew.
    page.evaluate("link => { location.href = link }", link)
    page.get_by_text("This link holds a piece").wait_for()
    page.wait_for_function("() => window.vqwave?.ready")
    play_until(page, 8.0)
    np.testing.assert_array_equal(codes_of(page, 512)[: len(expected)], expected)
    with page.expect_download() as started:
        page.locator("#save").click()
    samples, rate = soundfile.read(started.value.path(), dtype="int16")
    assert rate == RATE and len(samples) >= 8 * RATE
    np.testing.assert_array_equal(samples, page.evaluate("() => window.pcm")[: len(samples)])


def without(*patterns):
    return lambda page: [page.route(pattern, lambda route: route.fulfill(status=404, body="<p>Not here.</p>")) for pattern in patterns]


def with_late_facts(page):
    without("**/philox.js")(page)
    page.route("**/site.json", lambda route: (page.wait_for_timeout(1000), route.continue_()))


def with_a_broken_opening(page):
    code = (site.BROWSER / "stream.js").read_text()
    broken = code.replace("async nextBlock() {", "async nextBlock() {\n    throw new Error('Nothing sounds.');")
    page.route("**/stream.js", lambda route: route.fulfill(body=broken, content_type="text/javascript"))


def changed(change):
    return "/#" + urlencode({"seed": 1, "changes": json.dumps([[RATE, change]])})


def unchanged(_):
    pass


@pytest.mark.large
@pytest.mark.parametrize(("prepare", "path", "sentence"), [
    (without("**/*decode*"), "/", "is missing or cut off, so nothing can play"),
    (without("**/site.json"), "/", "The file site.json is missing"),
    (without("**/ring.js"), "/", "Files of this page are missing"),
    (with_late_facts, "/", "files of the page are missing"),
    (with_a_broken_opening, "/", "Nothing sounds."),
    (lambda page: page.add_init_script("delete window.DecompressionStream"), "/", "This browser is too old"),
    (lambda page: page.add_init_script("delete window.WebAssembly"), "/", "This browser is too old"),
    (unchanged, "/#seed=x", "The seed is x"),
    (unchanged, "/#seed=1&label=calm", "No label is called calm"),
    (unchanged, changed({"label": "calm"}), "No label is called calm"),
    (unchanged, changed({"jump": "x"}), "jump is x"),
    (unchanged, changed({"tempo": "fast"}), "tempo is fast"),
    (unchanged, changed({"tempo": 3}), "tempo is 3; it must be 0 or from 30 to 200"),
    (unchanged, changed({"loudness": 1000}), "loudness is 1000"),
    (unchanged, changed({"transpose": 2}), "This page cannot change transpose"),
    (unchanged, changed({"sampling": {"7": {"temperature": 1}}}), "cannot set temperature of level 7"),
    (unchanged, changed({"sampling": {"128": {"guidance": 2}}}), "cannot set guidance of level 128"),
    (unchanged, changed({"sampling": {"128": {"temperature": "hot"}}}), "of level 128 to hot"),
])
def test_the_page_says_why_it_cannot_play_in_one_sentence(led, open_site, prepare, path, sentence):
    page = open_site(led[0], path, prepare=prepare, ready="!document.querySelector('#alert').hidden")
    words = page.locator("#alert").inner_text()
    assert sentence in words and "\n" not in words and words.count(". ") == 0
    page.get_by_text("Nothing is playing yet.").wait_for()
    assert page.locator("#waiting").is_hidden()
    if "too old" in sentence:
        assert not page.workers, "the player does not start"


@pytest.mark.large
def test_the_policy_of_the_page_holds_in_its_worker(led, led_folder, open_site):
    with served(led_folder) as other:
        page = open_site(led[0], ready=None, bypass_csp=False, prepare=lambda page: None)
        page.get_by_text("Ready. Press Play.").wait_for()
        (worker,) = page.workers
        reach = "address => fetch(address, { mode: 'no-cors' }).then(() => 'reached', () => 'refused')"
        assert worker.evaluate(reach, led[0] + "/site.json") == "reached"
        assert worker.evaluate(reach, other + "/site.json") == "refused"


@pytest.mark.large
def test_an_open_page_keeps_its_version_and_the_next_visit_has_the_new_one(led_folder, open_site, tmp_path):
    """Under the page's own policy."""
    folder = shutil.copytree(led_folder, tmp_path / "site")
    # The worker is ready where an open page would read the file again.
    ring = "async () => [document.title, (await (await fetch('studio/static/ring.js')).text()).includes('// new')]"
    with served(folder) as address:
        page = open_site(address, ready=None, bypass_csp=False)
        page.get_by_text("Ready. Press Play.").wait_for()
        page.locator("#play").click()
        page.get_by_text(". Playing.").wait_for()
        page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
        for path, old, new in (("index.html", "<title>VQWave", "<title>New VQWave"), ("studio/static/ring.js", "// In:", "// new"),
                               ("sw.js", '"version": "', '"version": "new'), ("sw.js", '"models": [', '"models": ["models/new.packed", ')):
            text = (folder / path).read_text()
            assert old in text
            (folder / path).write_text(text.replace(old, new))
        (folder / "models" / "new.packed").write_bytes(b"new")
        page.reload()
        page.evaluate("""async () => {
            const registration = await navigator.serviceWorker.ready;
            while (!registration.waiting) await new Promise((resume) => setTimeout(resume, 100));
        }""")
        assert page.evaluate(ring) == ["VQWave", False]
        context = page.context
        page.close()
        page = context.new_page()
        page.goto(address)
        page.get_by_text("Ready. Press Play.").wait_for()
        context.set_offline(True)
        assert page.evaluate(ring) == ["New VQWave", True]
        assert page.evaluate("async () => [(await caches.keys()).length, Boolean(await caches.match('models/new.packed'))]") == [2, True]


@pytest.mark.large
@NEEDS_AXE
@pytest.mark.parametrize(("theme", "width"), [("dark", 1400), ("light", 1400), ("dark", 390), ("light", 390)])
def test_axe_finds_no_barriers_and_a_phone_is_wide_enough(led, open_site, theme, width):
    page = open_site(led[0], color_scheme=theme, viewport={"width": width, "height": 844})
    play_until(page, 0.5)
    page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.add_script_tag(path=AXE)
    found = page.evaluate("""async () => (await axe.run(document, {
        runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], resultTypes: ["violations"],
    })).violations.map(({ id, nodes }) => [id, nodes[0].html])""")
    assert not found
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.large
def test_the_shipped_chain_plays_without_a_gap(open_site, tmp_path):
    seconds = 61
    folder = write(tmp_path / "site", "weights", "final_weights", "onnx")
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 22e6
    with served(folder) as address:
        page = open_site(address)
        play_until(page, seconds, seed=1)
        assert page.evaluate("() => window.vqwave.player.sound.gaps") == 0
        expected = native_codes(api.load("final_weights", "weights"), 1, seconds - 1)[512]
        np.testing.assert_array_equal(codes_of(page, 512, expected.shape[1])[: len(expected)], expected)


def test_the_graph_of_the_picture_draws_what_the_studio_draws():
    audio = np.random.default_rng(1).normal(0, 0.1, 3 * RATE).astype(np.float32) * np.linspace(0, 1, 3 * RATE, dtype=np.float32) ** 4
    padded = np.pad(audio, (pictures.window(RATE) // 2, 0))[None, :, None]
    (drawn,) = engine.session(site.picture_graph(RATE, 512)).run(None, {"audio": padded})
    expected = pictures.Spectrum(RATE, 512).push(audio)
    assert drawn.shape[1:] == expected.shape and len(np.unique(expected)) > 100
    assert np.abs(drawn[0].astype(int) - expected).max() <= 1


def test_write_errors_are_one_line(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(site.UserError, match="holds other files"):
        commands.load("export-web").main([str(tmp_path / "no weights"), str(tmp_path / "mine")])
    earlier = tmp_path / "models" / "earlier.packed"
    (tmp_path / "blocked").mkdir()
    site._write(tmp_path, {"models/earlier.packed": b"earlier"})
    with pytest.raises(OSError):
        site._write(tmp_path, {"models/later.packed": b"later", "blocked": b"a folder has this name"})
    assert earlier.is_file(), "what an earlier site needs goes last"
    site._write(tmp_path, {"models/later.packed": b"later"})
    assert not earlier.exists()
    (tmp_path / "other.tgz").write_bytes(b"another package")
    with pytest.raises(site.UserError, match="is not the package"):
        site.runtime(tmp_path / "other.tgz")
    with pytest.raises(site.UserError, match="no such file"):
        site.runtime(tmp_path / "missing.tgz")
