"""The studio's page in a real Chromium: made, heard without a gap, downloaded, varied, refused,
shared and left.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from encoded import encode
from prepared import music as tune

import vqwave

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: sudo apt-get install chromium"),
    pytest.mark.skipif(not find_spec("playwright"), reason="needs playwright: pip install -e '.[dev]'"),
    pytest.mark.skipif(not find_spec("gradio"), reason="needs Gradio: pip install -e '.[app]'"),
]
RATE = 22050
STREAMS = 2
PATIENCE = 120_000  # milliseconds that a starved machine may take

# What reaches the loudspeaker, sample by sample.
LISTEN = """
localStorage.setItem("vqwave.volume", 1);
window.heard = [];
const code = `registerProcessor("ear", class extends AudioWorkletProcessor {
    process([input]) { if (input.length) this.port.postMessage(input[0].slice()); return true; }
})`;
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...more) {
    if (to === this.context.destination) {
        const module = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
        this.context.audioWorklet.addModule(module).then(() => {
            const ear = new AudioWorkletNode(this.context, "ear");
            ear.port.onmessage = ({ data }) => window.heard.push(data);
            connect.call(this, ear);
            window.listening = true;
        });
    }
    return connect.call(this, to, ...more);
};
"""
HEARD = "() => window.heard.flatMap((part) => Array.from(part, (x) => Math.round(x * 32768)))"


# Runs a script that writes down each machine but this one that it wants to reach.
WATCHED = """
import runpy, sys
log, *sys.argv = sys.argv[1:]
def watch(event, arguments):
    if event == "socket.getaddrinfo":
        where = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        where = arguments[1][0]
    else:
        return
    if where not in (None, "127.0.0.1", "::1", "localhost"):
        with open(log, "a") as file:
            print(event, where, file=file)
sys.addaudithook(watch)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def url(tiny_weights, tmp_path_factory):
    """A studio as a user starts it. At the end it reached no other machine, said nothing, and
    Ctrl-C ended it.
    """
    folder = tmp_path_factory.mktemp("served")
    script = Path(__file__).parents[2] / "scripts" / "app.py"
    folders = ["--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir", tiny_weights.generators]
    environment = os.environ | {"PYTHONPATH": str(Path(vqwave.__file__).parents[1]), "TMPDIR": str(folder)}
    line = [sys.executable, "-c", WATCHED, folder / "reached", script, "--port", "0", "--streams", STREAMS, *folders]
    with open(folder / "errors", "w+") as errors, subprocess.Popen(
        list(map(str, line)), stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    ) as process:
        try:
            said = process.stdout.readline()
            found = re.fullmatch(r"The studio is at (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\n", said)
            assert found, (said, (folder / "errors").read_text())
            yield found[1]
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not (folder / "reached").exists(), (folder / "reached").read_text()
    noise = [line for line in (folder / "errors").read_text().splitlines() if not line.startswith("exporting ")]
    assert not noise
    assert not list(folder.glob("vqwave-studio-*")), "nothing is left on the disk"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, url):
    """Opens the page as somebody else each time; at the end nothing was asked of another machine,
    and nothing broke.
    """
    contexts, wrong = [], []

    def open_page(query="", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        context.add_init_script(LISTEN)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda r: r.url.startswith((url, "data:", "blob:")) or wrong.append(r.url))
        page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.goto(f"{url}/{query}")
        page.get_by_role("button", name="Make music").wait_for()
        page.get_by_text("Nothing is playing yet").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("dropped") / "my song.mp3"
    encode(path, tune(2.0, 1, 44100)[:, None])
    return path


def ask_for(page, *, level="128x", seconds=None, seed=None):
    page.locator("#level").get_by_role("radio", name=re.compile(rf"^{level}")).click()
    if seconds is None:
        page.get_by_label("Until I stop it").check()
    else:
        page.locator("#seconds input").fill(str(seconds))
    if seed is not None:
        page.locator("#seed").get_by_role("textbox").fill(str(seed))


def make(page):
    page.get_by_role("button", name="Make music").click()
    page.wait_for_function("window.vqwave.player.sound?.playing")


def to_the_end(page):
    page.wait_for_function("window.vqwave.player.record && window.vqwave.player.sound.over")


def download(page, kind):
    with page.expect_download() as started:
        page.locator(f"#download-{kind}").click()
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def samples(data):
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def drop(page, where, path, says):
    page.locator(f"#{where}-file input[type=file]").set_input_files(path)
    page.locator(f"#{where}-said").get_by_text(says).wait_for()


def painted(page, canvas):
    """Share of a canvas's points that are drawn on, and how many colours it has."""
    return page.locator(canvas).evaluate("""canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const points = new Uint32Array(data.buffer);
        return [points.filter(Boolean).length / points.length, new Set(points).size];
    }""")


def test_what_is_heard_is_the_take_sample_by_sample_and_so_are_its_downloads(open_page):
    page = open_page()
    ask_for(page, level="8x", seconds=4, seed=7)
    page.wait_for_function("window.listening")
    make(page)
    # While it plays, sound advances as time does.
    first, at = page.evaluate("[window.vqwave.player.sound.position, performance.now()]")
    page.wait_for_function(f"window.vqwave.player.sound.position >= {first + RATE}")
    took = page.evaluate("performance.now()") - at
    to_the_end(page)
    gaps = page.evaluate("window.vqwave.player.sound.gaps")
    page.wait_for_timeout(300)  # the last samples are on their way
    heard = np.array(page.evaluate(HEARD), np.int16)
    name, wav = download(page, "wav")
    piece = samples(wav)
    assert len(piece) == 4 * RATE and name == "vqwave-seed-7-4.0s.wav"
    np.testing.assert_array_equal(heard[heard != 0], piece[piece != 0])
    if not gaps:
        start = np.flatnonzero(heard)[0] - np.flatnonzero(piece)[0]
        np.testing.assert_array_equal(heard[start : start + len(piece)], piece)
        assert 800 < took < 2500
    np.testing.assert_array_equal(samples(download(page, "flac")[1]), piece)
    # Each picture is there, and as long as the piece.
    assert painted(page, ".spectrum canvas")[1] > 50
    for level in (512, 128, 32, 8):
        share, colours = painted(page, f".codes-{level} canvas")
        assert share > 0.3 and colours > 5, level


def test_a_take_is_stopped_remembered_and_made_again_from_its_link(open_page):
    page = open_page()
    ask_for(page)
    make(page)
    page.wait_for_function(f"window.vqwave.player.sound.position > {0.7 * RATE}")
    page.locator("#stop").click()
    page.locator("#command").wait_for()
    _, wav = download(page, "wav")
    command = page.locator("#command").inner_text()
    seconds = len(samples(wav)) / RATE
    assert 0.7 <= seconds < 20 and f"--seconds {seconds:.3f}"[:-3] in command and "generator_128" in command
    page.reload()
    entry = page.locator(".history li")
    assert f"{seconds:.1f} s, down to 128x" in entry.inner_text()
    entry.get_by_role("link", name="Settings").click()
    page.wait_for_function("document.querySelector('#seed textarea, #seed input')?.value")
    assert page.locator("#seed").get_by_role("textbox").input_value() in command
    assert page.locator("#level").get_by_label("128x").is_checked()
    assert not page.get_by_label("Until I stop it").is_checked()
    make(page)
    page.wait_for_function("window.vqwave.player.record")
    assert download(page, "wav")[1] == wav
    assert page.locator("#command").inner_text() == command
    assert page.locator(".history li").count() == 1, "the same take is listed once"


def test_a_dropped_mp3_is_varied_and_what_is_no_music_is_refused_in_words(open_page, song, tmp_path):
    page = open_page()
    page.get_by_label("Vary a recording").click()
    page.get_by_text("Drop in a recording (m4a, mp3").first.wait_for()
    ask_for(page, level="32x", seconds=30, seed=1)
    page.get_by_role("button", name="Make music").click()
    page.get_by_role("alert").get_by_text("There is no recording yet: drop one in").wait_for()
    (tmp_path / "words.mp3").write_text("This is a letter, not a song.")
    drop(page, "play", tmp_path / "words.mp3", "words.mp3: not audio that can be decoded")
    page.get_by_label("Remove").or_(page.get_by_label("Clear")).first.click()
    drop(page, "play", song, "my song.mp3: 2.0 s, ready.")
    page.locator("#keep").get_by_label("128x").click()
    make(page)
    page.wait_for_function("window.vqwave.player.record")
    piece = samples(download(page, "wav")[1])
    assert abs(len(piece) / RATE - 2.0) < 0.1
    assert "kept from the recording" in page.locator(".codes-128").inner_text()
    assert "bits a frame" in page.locator(".codes-32").inner_text()
    assert page.locator(".codes-512").count() == 0
    assert "--variation-of 'my song.mp3' --keep 128" in page.locator("#command").inner_text()


def test_two_at_once_hear_their_own_music_and_a_closed_tab_frees_its_stream(open_page):
    first, second, third = open_page(), open_page(), open_page()
    for page, seed in ((first, 1), (second, 2)):
        ask_for(page, seed=seed)
        make(page)
    ask_for(third, seconds=1, seed=2)
    third.get_by_role("button", name="Make music").click()
    third.get_by_role("alert").get_by_text(f"{STREAMS} takes are being made here at this moment").wait_for()
    first.wait_for_function(f"window.vqwave.player.sound.position > {0.5 * RATE}")
    first.close()
    # The studio notices in its own time.
    for _ in range(60):
        third.get_by_role("button", name="Make music").click()
        third.wait_for_function("window.vqwave.player.sound || window.vqwave.player.state === 'empty'")
        if third.evaluate("Boolean(window.vqwave.player.sound)"):
            break
        third.wait_for_timeout(500)
    third.wait_for_function("window.vqwave.player.record")
    second.wait_for_function(f"window.vqwave.player.sound.position > {RATE}")
    second.locator("#stop").click()
    same = [samples(download(page, "wav")[1]) for page in (second, third)]
    length = min(map(len, same))
    np.testing.assert_array_equal(same[0][:length], same[1][:length])


def test_the_codecs_are_heard_side_by_side_with_their_figures(open_page, song):
    page = open_page()
    page.get_by_role("tab", name="Codecs").click()
    page.get_by_text("Hear what the codecs keep").wait_for()
    page.locator("#codec-listen").click()
    page.get_by_role("alert").get_by_text("drop it in").wait_for()
    drop(page, "codec", song, "my song.mp3: 2.0 s, ready.")
    page.locator("#codec-listen").click()
    page.locator("#codec-play").click()
    assert page.locator("vq-codecs tbody tr").count() == 5
    numbers = [float(x) for x in page.locator("vq-codecs tbody tr td:nth-child(2)").all_inner_texts() if x]
    np.testing.assert_allclose(numbers, [22.05 / level * 6 for level in (512, 128, 32, 8)], atol=0.01)
    before = page.evaluate("window.vqwave.codecs.now")
    page.get_by_role("button", name="32x", exact=True).click()
    assert page.get_by_role("button", name="32x", exact=True).get_attribute("aria-pressed") == "true"
    page.wait_for_function(f"window.vqwave.codecs.now > {before} + 0.3 || !window.vqwave.codecs.nodes")
    assert page.evaluate("window.heard.some((part) => part.some(Boolean))")
    assert page.locator(".compared canvas").count() == 9
    with page.expect_download() as started:
        page.locator("vq-codecs tbody tr a").last.click()
    assert abs(len(samples(Path(started.value.path()).read_bytes())) / RATE - 2.0) < 0.1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_is_drawn_on_light_and_on_dark(open_page, scheme):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    ask_for(page, seconds=1)
    make(page)
    page.wait_for_function("window.vqwave.player.record")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # What is quiet looks like the paper.
    paper = page.evaluate("getComputedStyle(document.body).getPropertyValue('--vq-paper').trim()")
    assert paper == ("#0b0f14" if scheme == "dark" else "#ffffff")
    assert painted(page, ".spectrum canvas")[1] > 50


def test_a_link_that_cannot_be_read_says_why_and_an_unknown_recording_asks_for_it(open_page):
    page = open_page("?seed=minus")
    page.get_by_text("The seed must be a whole number").wait_for()
    page = open_page("?mode=vary&recording=abc&name=theirs.mp3&keep=128&level=32")
    page.get_by_text("theirs.mp3 is not in this studio (any more): drop it in again").wait_for()
    assert page.get_by_label("Vary a recording").is_checked()
