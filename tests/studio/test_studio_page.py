"""The studio's page in a real Chromium: made, heard without a gap, steered, kept, downloaded, varied, refused, shared
and left.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import chains
import imported
import numpy as np
import pytest
import soundfile
from encoded import encode
from prepared import music as tune
from test_studio_codecs import LABELLED, save

import vqwave
from vqwave.config import preset, replace
from vqwave.io import weights

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: sudo apt-get install chromium"),
    pytest.mark.skipif(not find_spec("playwright"), reason="needs playwright: pip install -e '.[dev]'"),
    pytest.mark.skipif(not find_spec("fastapi"), reason="needs FastAPI: pip install -e '.[app]'"),
]
AXE = Path(os.environ.get("AXE", Path(sys.prefix, "axe/node_modules/axe-core/axe.min.js")))
RATE = 22050
CHAIN = preset("tiny").chain
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


@contextlib.contextmanager
def serve(tiny_weights, folder):
    """A studio as a user starts it: its process and address."""
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
            yield process, found[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def url(tiny_weights, tmp_path_factory):
    """At the end the studio reached no other machine, said nothing, and Ctrl-C ended it."""
    folder = tmp_path_factory.mktemp("served")
    with serve(tiny_weights, folder) as (process, address):
        yield address
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not (folder / "reached").exists(), (folder / "reached").read_text()
    noise = [line for line in (folder / "errors").read_text().splitlines() if not line.startswith(("exporting ", "measuring "))]
    assert not noise
    assert not list(folder.glob("vqwave-studio-*")), "nothing is left on the disk"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=microphone)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, url):
    """Opens the page as somebody else each time; at the end nothing was asked of another machine,
    and nothing broke.
    """
    contexts, wrong = [], []

    def open_page(query="", at=url, lost=False, says="Nothing is playing yet.", **options):
        # What listens in the page is not the studio's, and its policy would not let it.
        context = browser.new_context(**{"bypass_csp": True, "viewport": {"width": 1400, "height": 900}} | options)
        contexts.append(context)
        context.add_init_script(LISTEN)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda r: r.url.startswith((at, "data:", "blob:")) or wrong.append(r.url))
        if not lost:
            page.on("console", lambda m: m.type == "error" and "400" not in m.text and wrong.append(m.text))
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.goto(f"{at}/{query}")
        page.wait_for_function("() => window.vqwave")
        page.get_by_text(says).wait_for()
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


def choose(page, group, value):
    page.locator(f"#{group} input[value='{value}']").check()


def ask_for(page, *, level=128, seconds=None, seed=None):
    if not page.locator("#more").get_attribute("open"):
        page.locator("#more").evaluate("one => { one.open = true }")
    choose(page, "level", level)
    page.locator("#endless").set_checked(seconds is None)
    if seconds is not None:
        page.locator("#seconds").fill(str(seconds))
    if seed is not None:
        page.locator("#seed").fill(str(seed))


def until(page, condition):
    page.wait_for_function(f"() => {{ const player = window.vqwave.player, sound = player.sound; return {condition} }}")


def make(page):
    page.locator("#make").click()
    until(page, "sound?.playing")


def download(page, kind, at=0):
    entry = page.locator("#takes li").nth(at)
    entry.locator("details").evaluate("one => { one.open = true }")
    with page.expect_download() as started:
        entry.locator(f"[data-kind={kind}]").click()
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def samples(data):
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def drop(page, where, path, says):
    page.locator(f"#{where}-file").set_input_files(path)
    page.locator(".recording", has=page.locator(f"#{where}-file")).get_by_text(says).wait_for()


def painted(page, canvas):
    """Share of a canvas's points that are drawn on, and how many colours it has."""
    return page.locator(canvas).evaluate("""canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const points = new Uint32Array(data.buffer);
        return [points.filter(Boolean).length / points.length, new Set(points).size];
    }""")


def open_codes(page):
    page.evaluate("() => document.querySelectorAll('#writing, #writing details').forEach((one) => { one.open = true })")


# --------------------------------------------------------------------------------------- what is heard


def test_what_is_heard_is_the_take_sample_by_sample_and_so_are_its_downloads(open_page):
    page = open_page()
    ask_for(page, level=8, seconds=4, seed=7)
    make(page)
    open_codes(page)
    page.wait_for_function("() => window.listening")
    # While it plays, sound advances as time does.
    first, at = page.evaluate("() => [window.vqwave.player.sound.position, performance.now()]")
    until(page, f"sound.position >= {first + RATE}")
    took = page.evaluate("() => performance.now()") - at
    until(page, "player.record && sound.over")
    page.locator("#play").click()  # once more: by now the ear is there from the first sample on
    page.evaluate("() => { window.heard = [] }")
    until(page, "sound.over")
    gaps = page.evaluate("() => window.vqwave.player.sound.gaps")
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
    # Each picture is there, and as long as the piece; all have one time axis.
    sides = page.evaluate("""() => [...document.querySelectorAll("#picture, .codes canvas")].map((one) => {
        const { left, right } = one.getBoundingClientRect();
        return [left, right];
    })""")
    assert len(sides) == 1 + len(CHAIN.sizes) and all(side == sides[0] for side in sides)
    assert painted(page, "#picture")[1] > 50
    for level in CHAIN.sizes:
        share, colours = painted(page, f".codes-{level} canvas")
        assert share > 0.3 and colours > 5, level
    assert "Generating" in page.evaluate("() => document.body.innerText") or "Finished. Press Play." in page.locator(
        "#status").inner_text()


def test_a_take_is_stopped_remembered_and_made_again_from_its_link(open_page):
    page = open_page()
    ask_for(page)
    make(page)
    until(page, f"sound.position > {0.7 * RATE}")
    page.locator("#stop").click()
    page.locator("#takes li").wait_for()
    _, wav = download(page, "wav")
    command = page.locator("#takes .command").inner_text()
    seconds = len(samples(wav)) / RATE
    assert 0.7 <= seconds < 20 and f"--seconds {seconds:.3f}"[:-3] in command and "generator_128" in command
    page.reload()
    entry = page.locator("#takes li")
    assert f"{seconds:.1f} s, seed" in entry.inner_text()
    entry.locator("summary").click()
    entry.get_by_role("link", name="Use its settings").click()
    page.wait_for_function("() => document.querySelector('#seed')?.value")
    assert page.locator("#seed").input_value() in command
    assert page.locator("#level input[value='128']").is_checked()
    assert not page.locator("#endless").is_checked()
    make(page)
    until(page, "player.record")
    assert download(page, "wav")[1] == wav
    assert page.locator("#takes .command").inner_text() == command
    assert page.locator("#takes li").count() == 1, "the same take is listed once"


# ------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.large
def test_a_double_click_makes_one_take_and_it_can_be_stopped(open_page):
    page = open_page()
    begun = []
    page.on("request", lambda r: r.method == "POST" and r.url.endswith("/takes") and begun.append(r.url))
    page.locator("#play").dblclick()
    until(page, "sound?.playing")
    page.evaluate("() => { for (let i = 0; i < 5; i++) document.querySelector('#make').click() }")
    page.evaluate("() => { document.querySelector('#die').click(); document.querySelector('#make').click() }")
    until(page, f"!player.busy && sound?.position > {2 * RATE}")
    assert len(begun) == 2, "the double click made one, all the others one more"
    ahead = page.evaluate("() => window.vqwave.player.sound.end - window.vqwave.player.sound.position")
    assert ahead < 11 * RATE, "reading ahead has a bound"
    page.locator("#stop").click()
    until(page, "player.state === 'ended'")
    assert page.locator("#takes li").count() == 2, "what was heard of the first is kept"


def test_who_reloads_is_asked_and_what_was_heard_stays(open_page):
    page = open_page()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.locator("#play").click()
    until(page, f"sound?.position > {5.5 * RATE}")
    page.reload()
    assert asked == ["beforeunload"]
    entry = page.locator("#takes li")
    entry.wait_for()
    entry.get_by_role("button", name="Play New piece").click()
    until(page, "sound?.playing && player.record")
    assert page.evaluate("() => window.vqwave.player.record.seconds") > 5


@pytest.mark.large
def test_what_was_heard_can_be_played_and_saved_when_the_studio_is_gone(open_page, tiny_weights, tmp_path):
    with serve(tiny_weights, tmp_path) as (process, address):
        page = open_page(at=address, lost=True)
        page.locator("#play").click()
        until(page, f"sound?.position > {RATE}")
        process.kill()
        process.wait()
        page.locator("#stop").click()
        page.get_by_role("alert").get_by_text("The studio cannot be reached").wait_for()
        page.get_by_text("made so far can still be heard and saved").wait_for()
        with page.expect_download() as started:
            page.locator("#save").click()
        made = page.evaluate("() => window.vqwave.player.sound.end")
        assert len(samples(Path(started.value.path()).read_bytes())) == made > RATE
        page.locator("#play").click()
        until(page, "!sound.paused")


@pytest.mark.large
def test_an_upload_that_is_too_large_is_said_and_the_box_goes_on_working(open_page, song, tmp_path):
    with open(tmp_path / "huge.wav", "wb") as file:
        file.truncate(260 << 20)
    page = open_page()
    ask_for(page)
    choose(page, "mode", "continue")
    drop(page, "play", tmp_path / "huge.wav", "huge.wav: larger than 200 MB")
    drop(page, "play", song, "my song.mp3: 0:02 long, ready.")
    assert not page.locator(".recording .alert").first.is_visible()


@pytest.mark.large
def test_a_piece_waits_for_a_recording_that_is_on_its_way(open_page, song):
    page = open_page()
    ask_for(page, seconds=3)
    choose(page, "mode", "continue")
    page.evaluate("""() => {
        const own = window.fetch;
        window.fetch = async (path, ...more) => {
            if (String(path).startsWith("studio/recordings")) await new Promise((done) => (window.arrive = done));
            return own(path, ...more);
        };
    }""")
    page.locator("#play-file").set_input_files(song)
    page.get_by_text("Reading my song.mp3 …").wait_for()
    page.locator("#make").click()
    page.evaluate("() => window.arrive()")
    until(page, "player.record && player.take.prompt")
    assert not page.locator("#alert").is_visible()


def test_a_dropped_mp3_is_varied_and_what_is_no_music_is_refused_in_words(open_page, song, tmp_path):
    page = open_page()
    ask_for(page, level=32, seconds=30, seed=1)
    choose(page, "mode", "vary")
    page.locator("#make").click()
    page.get_by_role("alert").get_by_text("There is no recording yet: drop one in").wait_for()
    (tmp_path / "words.mp3").write_text("This is a letter, not a song.")
    drop(page, "play", tmp_path / "words.mp3", "words.mp3: not audio that can be decoded")
    drop(page, "play", song, "my song.mp3: 0:02 long, ready.")
    choose(page, "keep", 128)
    # What cannot be is not offered, and says why.
    finest = page.locator("#level input[value='512']")
    assert finest.is_disabled() and "nothing would be left" in finest.locator("..").get_attribute("title")
    make(page)
    until(page, "player.record")
    piece = samples(download(page, "wav")[1])
    assert abs(len(piece) / RATE - 2.0) < 0.1
    open_codes(page)
    assert "kept from the recording" in page.locator(".codes-128").inner_text()
    page.wait_for_function("() => document.querySelector('.codes-32').innerText.includes('bits a frame')")
    assert page.locator(".codes-512").count() == 0
    assert "--variation-of 'my song.mp3' --keep 128" in page.locator("#takes .command").inner_text()


def test_two_at_once_hear_their_own_music_and_a_closed_tab_frees_its_stream(open_page):
    first, second, third = open_page(), open_page(), open_page()
    for page, seed in ((first, 1), (second, 2)):
        ask_for(page, seed=seed)
        make(page)
    ask_for(third, seconds=1, seed=2)
    third.locator("#make").click()
    third.get_by_role("alert").get_by_text(f"{STREAMS} takes are being made").wait_for()
    until(first, f"sound.position > {0.5 * RATE}")
    first.close()
    # The studio notices in its own time.
    for _ in range(60):
        third.locator("#make").click()
        until(third, "!player.busy")
        if third.evaluate("() => Boolean(window.vqwave.player.sound)"):
            break
        third.wait_for_timeout(500)
    until(third, "player.record")
    until(second, f"sound.position > {RATE}")
    second.locator("#stop").click()
    until(second, "player.record")
    same = [samples(download(page, "wav")[1]) for page in (second, third)]
    length = min(map(len, same))
    np.testing.assert_array_equal(same[0][:length], same[1][:length])


@pytest.mark.large
def test_a_link_that_cannot_be_read_says_why_and_an_unknown_recording_asks_for_it(open_page):
    page = open_page("?seed=minus")
    page.get_by_text("seed must be a valid integer").wait_for()
    page = open_page("?mode=vary&recording=abc&name=theirs.mp3&keep=128&level=32")
    page.get_by_text("theirs.mp3 is not in this studio (any more): drop it in again").wait_for()
    assert page.locator("#mode input[value='vary']").is_checked()


def test_a_chain_of_one_level_with_many_books_plays_everywhere_and_offers_no_variation(open_page, song, tmp_path):
    """Codes of notes, a book a band, and nothing below them."""
    made = chains.save_chain(tmp_path, chains.preset(tmp_path / "preset.yml", {512: 14}, of_notes=(512,)))
    with serve(made, tmp_path) as (process, address):
        page = open_page(at=address)
        page.locator("#play").click()
        until(page, f"sound?.position > {RATE}")
        with page.expect_response(lambda r: r.url.endswith("/set") and "wild" in r.request.post_data) as answered:
            page.locator("#wild").fill("0.5")
        assert answered.value.ok
        for name in ("jump", "hold", "hold"):
            with page.expect_response(lambda r: r.url.endswith("/set") and "until" not in r.request.post_data):
                page.locator(f"#{name}").click()
        open_codes(page)
        lanes = page.locator("#lanes")
        assert "512x the whole of the piece" in lanes.inner_text() and not lanes.get_by_text("Finer levels").count()
        assert "its first is at the bottom" in page.locator("#explained").inner_text()
        page.wait_for_function("() => document.querySelector('.codes-512').innerText.includes('bits a frame')")
        strip = page.evaluate("() => { const { rows, count } = window.vqwave.player.codes[0]; return [rows, count] }")
        assert strip[0] == 14 and strip[1] % 14 == 0 and strip[1] > 14 * 40
        assert painted(page, ".codes-512 canvas")[1] > 20
        canvas = page.locator(".codes-512 canvas")
        tall = canvas.bounding_box()["height"]
        for book, down in ((1, tall - 2), (14, 2)):
            canvas.hover(position={"x": 5, "y": down})
            page.get_by_text(re.compile(rf"code \d+ of book {book} at \d+\.\d+ s")).wait_for()
        page.locator("#onward").click()
        until(page, "player.take?.prompt && sound?.playing")
        page.locator("#stop").click()
        until(page, "player.record")

        page.locator("#more").evaluate("one => { one.open = true }")
        assert page.locator("#level").inner_text() == "all there is 512x, 43 frames a second"
        assert page.locator("#keep").inner_text() == "" and page.locator("#temperatures label").count() == 1
        vary = page.locator("#mode input[value=vary]")
        assert vary.is_disabled() and "one level" in vary.locator("..").get_attribute("title")
        choose(page, "mode", "continue")
        drop(page, "play", song, "my song.mp3: 0:02 long, ready.")
        page.locator("#endless").uncheck()
        page.locator("#seconds").fill("3")
        make(page)
        until(page, "player.record")
        assert len(samples(download(page, "wav")[1])) == 3 * RATE
        assert "--generators generator-of-512" in page.locator("#takes .command").first.inner_text()
        choose(page, "mode", "new")
        page.locator("#seconds").fill("1")
        page.locator("#make-four").click()
        page.get_by_text("Four pieces: play them, and keep one.").wait_for()

        page.get_by_role("tab", name="Codecs").click()
        drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
        page.wait_for_function("() => window.vqwave.codecs.nodes")
        assert page.locator("#codec-stage tbody tr").count() == 2
        page.get_by_role("button", name="512x", exact=True).click()
        assert painted(page, ".compared canvas >> nth=2")[1] > 20
        assert page.evaluate("() => window.vqwave.codecs.sounds[1].codes.rows") == 14


# ------------------------------------------------------------------------------------------- steering


def test_a_piece_is_steered_while_it_plays_and_its_link_and_command_make_it_again(open_page, tmp_path, monkeypatch):
    page = open_page()
    assert page.locator("#wild").is_disabled() and page.get_by_text("Press Play first").is_visible()
    ask_for(page, seed=3)
    make(page)
    page.locator("#jump").click()
    page.wait_for_function("() => window.vqwave.player.marks.length === 1")
    page.locator("#hold").click()
    page.wait_for_function("() => window.vqwave.player.marks.length === 2")
    until(page, f"sound.position > {2 * RATE}")
    assert page.locator("#hold").get_attribute("aria-pressed") == "true"
    page.locator("#hold").click()
    with page.expect_response(lambda r: r.url.endswith("/set") and "wild" in r.request.post_data):
        page.locator("#wild").fill("0.8")
    marks = page.evaluate("() => window.vqwave.player.marks.map(({ sample }) => sample)")
    until(page, f"sound.position > {max(marks) + RATE}")
    page.locator("#stop").click()
    page.get_by_text(re.compile("You changed it [34] times")).wait_for(state="attached")
    wav = download(page, "wav")[1]
    name, score = download(page, "json")
    (tmp_path / name).write_bytes(score)
    monkeypatch.chdir(tmp_path)
    _, _, *arguments = shlex.split(page.locator("#takes .command").inner_text())
    assert imported.script("generate_audio").main(arguments) == 0
    assert (tmp_path / "take.wav").read_bytes() == wav
    page.locator("#takes a", has_text="Use its settings").click()
    page.wait_for_function("() => document.querySelector('#seed')?.value")
    assert page.locator("#replay").is_checked()
    make(page)
    until(page, "player.record")
    assert download(page, "wav")[1] == wav
    # Another piece is not changed where this one was.
    with page.expect_request(lambda r: r.method == "POST" and r.url.endswith("/takes")) as asked:
        page.locator("#die").click()
    assert asked.value.post_data_json["changes"] == asked.value.post_data_json["seed"] == ""


@pytest.mark.large
def test_a_take_goes_on_another_way_from_where_it_is_heard(open_page):
    page = open_page()
    page.locator("#play").click()
    until(page, f"sound?.position > {2 * RATE}")
    first = page.evaluate("() => window.vqwave.player.take.id")
    page.locator("#onward").click()
    until(page, f"player.take?.id && player.take.id !== {json.dumps(first)} && sound?.playing")
    take = page.evaluate("() => window.vqwave.player.take")
    assert take["prompt"] >= 1.9 * RATE
    assert page.evaluate("() => window.vqwave.player.sound.position") >= take["prompt"], "heard from where it goes on"


# ---------------------------------------------------------------------------------------------- takes


def test_takes_are_named_starred_deleted_and_brought_back(open_page):
    page = open_page()
    ask_for(page, seconds=1)
    for count in (1, 2):
        make(page)
        page.locator("#takes li").nth(count - 1).wait_for()
    assert page.locator("#takes li").count() == 2
    page.locator("#takes .name").first.fill("Rain")
    page.locator("#takes .name").first.press("Tab")
    page.get_by_role("button", name="Star Rain").click()
    page.reload()
    assert page.locator("#takes .name").first.input_value() == "Rain"
    star = page.get_by_role("button", name="Star Rain")
    assert star.get_attribute("aria-pressed") == "true"
    page.locator("#takes li").first.locator("summary").click()
    page.locator("#takes li").first.get_by_role("button", name="Delete").click()
    assert page.locator("#takes li").count() == 1
    page.get_by_role("button", name="Undo").click()
    assert page.locator("#takes .name").first.input_value() == "Rain"
    # Finished on the way out.
    page.locator("#takes li").first.locator("summary").click()
    page.locator("#takes li").first.locator("[data-finish=fade]").check()
    faded = samples(download(page, "wav")[1])
    assert np.abs(faded[:50].astype(int)).max() < 0.05 * np.abs(faded.astype(int)).max()


# ----------------------------------------------------------------------------------------- recordings


def test_a_clip_is_seen_cut_by_dragging_heard_and_continued(open_page):
    page = open_page()
    ask_for(page, seconds=6)
    choose(page, "mode", "continue")
    page.locator("#form .clip").first.click()
    page.get_by_text("Love Theme (Ryan Reilly): 0:30 long, ready.").wait_for()
    canvas = page.locator("#form .seen canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 20, steps=5)
    page.mouse.up()
    assert float(page.locator("#play-start").input_value()) == pytest.approx(15, abs=0.2)
    assert float(page.locator("#play-seconds").input_value()) == pytest.approx(3, abs=0.2)
    page.locator("#play-hear").click()
    page.wait_for_function("() => document.querySelector('#play-hear').textContent === 'Stop'")
    make(page)
    assert page.locator("#play-hear").inner_text() == "Hear it", "one thing sounds at a time"
    assert page.evaluate("() => window.vqwave.player.take.prompt") == pytest.approx(3 * RATE, abs=0.3 * RATE)


@pytest.mark.large
def test_the_microphone_is_recorded(open_page):
    page = open_page(permissions=["microphone"])
    ask_for(page)
    choose(page, "mode", "vary")
    page.locator("#play-mic").click()
    page.get_by_text("Recording …").wait_for()
    page.wait_for_timeout(1500)
    page.locator("#play-mic").click()
    page.get_by_text(re.compile(r"microphone.webm: 0:0\d long, ready.")).wait_for()


def test_the_codecs_play_at_once_side_by_side_with_their_figures_and_words(open_page, song):
    page = open_page()
    page.get_by_role("tab", name="Codecs").click()
    with page.expect_request(lambda r: r.url.endswith("/comparisons")) as asked:
        drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
    assert asked.value.post_data_json["weights"] == page.locator("#weights").input_value()
    page.wait_for_function("() => window.vqwave.codecs.nodes")
    assert page.locator("#codec-stage tbody tr").count() == 5
    numbers = [float(x) for x in page.locator("#codec-stage tbody tr td:nth-child(3)").all_inner_texts() if x]
    np.testing.assert_allclose(numbers, [22.05 / level * 6 for level in CHAIN.sizes], atol=0.01)
    before = page.evaluate("() => window.vqwave.codecs.now")
    page.get_by_role("button", name="32x", exact=True).click()
    assert page.get_by_role("button", name="32x", exact=True).get_attribute("aria-pressed") == "true"
    page.wait_for_function(f"() => window.vqwave.codecs.now > {before} + 0.3 || !window.vqwave.codecs.nodes")
    assert page.locator(".compared canvas").count() == 9
    verdicts = page.locator("#codec-stage tbody td.words").all_inner_texts()
    assert verdicts[0] == "" and all(words.endswith(".") for words in verdicts[1:])
    with page.expect_download() as started:
        page.locator("#codec-stage tbody tr a").last.click()
    assert abs(len(samples(Path(started.value.path()).read_bytes())) / RATE - 2.0) < 0.1


@pytest.mark.large
def test_codecs_alone_are_heard_and_the_page_of_music_says_why_nothing_plays(open_page, song, tmp_path):
    vae = save(tmp_path / "vae", LABELLED)
    with serve(SimpleNamespace(codecs=vae, generators=vae), tmp_path) as (_, address):
        page = open_page(at=address, says="There are no generators here; the codecs can be heard on the other page.")
        assert not page.locator("#play, #form, #steer, #takes").count() and page.locator("#alert").is_hidden()
        page.get_by_role("tab", name="Codecs").click()
        assert page.locator("#codec-weights").is_hidden()
        drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
        page.wait_for_function("() => window.vqwave.codecs.nodes && !window.vqwave.codecs.dirty")
        assert page.locator(".compared canvas").count() == 2, "no strip of codes"
        assert painted(page, ".compared canvas >> nth=1")[1] > 1
        words, bits, kept, *_, used, _ = page.locator("#codec-stage tbody tr:nth-child(2) td").all_inner_texts()
        assert (bits, used) == ("–", "–") and kept.endswith(" %") and words.endswith(".")
        page.get_by_role("button", name="Light").click()
        page.get_by_role("button", name="512x", exact=True).click()


@pytest.mark.large
def test_the_codecs_of_a_folder_are_chosen_on_their_page_whatever_its_rate(open_page, song, tiny_weights, tmp_path):
    root = tmp_path / "all"
    shutil.copytree(tiny_weights.generators, root / "plays")
    weights.save_chain(root / "plays", replace(CHAIN, levels=CHAIN.levels[:1]))
    save(root / "vae", replace(LABELLED, sample_rate=11025))
    with serve(SimpleNamespace(codecs=tiny_weights.codecs, generators=root), tmp_path) as (_, address):
        page = open_page(at=address)
        assert page.locator("#weights option").all_text_contents() == [str(root / "plays")]
        page.locator("#play").click()
        until(page, f"sound?.position > {RATE}")
        page.get_by_role("tab", name="Codecs").click()
        drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
        page.get_by_text(f"through the codecs of {root / 'plays'}").wait_for()
        assert page.locator(".compared canvas").count() == 3
        page.locator("#codec-weights").select_option(str(root / "vae"))
        page.get_by_text(f"through the codecs of {root / 'vae'}").wait_for()
        assert page.locator(".compared canvas").count() == 2
        assert page.evaluate("() => window.vqwave.audio.sampleRate") == 11025
        page.get_by_role("tab", name="Music").click()
        until(page, "sound.paused")
        page.locator("#play").click()
        until(page, f"sound.playing && sound.position > {2 * RATE}")
        assert page.evaluate("() => window.vqwave.audio.sampleRate") == RATE
        page.locator("#stop").click()
        until(page, "player.record")


# ---------------------------------------------------------------------------- how it looks and is reached


WIDER = """() => [...document.querySelectorAll("main *")]
    .filter((one) => one.checkVisibility() && !one.closest(".scroll"))
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
    .map((one) => one.outerHTML.slice(0, 120))"""


@pytest.mark.large
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_is_drawn_on_light_and_on_dark(open_page, song, theme):
    page = open_page(viewport={"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    if theme == "light":
        page.get_by_role("button", name="Light").click()
        page.reload()
    ask_for(page, seconds=1)
    make(page)
    until(page, "player.record")
    page.locator("#takes summary").first.click()
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(WIDER) == []
    # The player stays at the bottom; the end of the page can be seen above it.
    page.evaluate("() => window.scrollTo(0, document.body.scrollHeight)")
    bar = page.locator(".transport").bounding_box()
    assert bar["y"] + bar["height"] == pytest.approx(844, abs=1)
    last = page.locator("#takes li").last.bounding_box()
    assert last["y"] + last["height"] <= bar["y"]
    # What is quiet is dark, what is loud is bright, in both.
    assert painted(page, "#picture")[1] > 50
    paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(12, 15, 21)" if theme == "dark" else "rgb(251, 250, 247)")
    page.get_by_role("tab", name="Codecs").click()
    drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
    page.wait_for_function("() => window.vqwave.codecs.nodes")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(WIDER) == []
    page.locator("#codec-stage tbody tr a").last.scroll_into_view_if_needed()
    page.locator("#codec-stage tbody tr a").last.click(trial=True)


@pytest.mark.large
def test_the_keyboard_alone_does_everything(open_page, song):
    """Each thing that the mouse does; files alone are chosen in a window of the system."""
    page = open_page()
    focused = """() => {
        const { id, dataset, ariaLabel, textContent, name, value } = document.activeElement;
        return [id, dataset.kind, ariaLabel, name && `${name}=${value}`, textContent.trim()];
    }"""

    def tab_to(name, key="Tab"):
        for _ in range(150):
            page.keyboard.press(key)
            if name in page.evaluate(focused):
                return
        raise AssertionError(f"{name} cannot be reached")

    def press(name, key="Enter"):
        tab_to(name)
        page.keyboard.press(key)

    press("play")
    until(page, f"sound?.position > {RATE}")
    page.keyboard.press("Space")
    until(page, "sound.paused")
    page.keyboard.press("Space")
    until(page, "!sound.paused")
    with page.expect_download():
        press("save")
    tab_to("volume")
    before = page.locator("#volume").input_value()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#volume").input_value() < before
    for name in ("wild", "loudness"):
        with page.expect_response(lambda r, name=name: r.url.endswith("/set") and name in r.request.post_data):
            press(name, "ArrowRight")
    press("jump")
    until(page, "player.marks.length === 1")
    press("hold")
    until(page, "player.marks.length === 2")
    page.keyboard.press("Enter")
    until(page, "player.marks.length === 3")
    identity = page.evaluate("() => window.vqwave.player.take.id")
    press("onward")
    until(page, f"player.take?.id && player.take.id !== {json.dumps(identity)} && sound?.playing")
    press("What the model writes")
    page.locator("#lanes").wait_for()
    press("Finer levels")
    press("die")
    until(page, "!player.busy && player.take && !player.take.prompt && sound?.playing")
    press("stop")
    until(page, "player.record")
    tab_to("wave")
    for key, compared in (("End", ">"), ("ArrowLeft", "<"), ("Home", "<")):
        position = page.evaluate("() => window.vqwave.player.sound.position")
        page.keyboard.press(key)
        until(page, f"sound.position {compared}= {position}")
    assert page.evaluate("() => window.vqwave.player.sound.from") < RATE

    press("More: recordings, detail, length, seed")
    press("mode=new", "ArrowDown")
    assert page.locator("#mode input[value=continue]").is_checked()
    tab_to("play-file")
    drop(page, "play", song, "my song.mp3: 0:02 long, ready.")
    tab_to("play-start")
    page.keyboard.type("0.5")
    press("play-hear")
    page.wait_for_function("() => document.querySelector('#play-hear').textContent === 'Stop'")
    press("keep-original", "Space")
    assert not page.locator("#keep-original").is_checked()
    tab_to(f"level={CHAIN.ending}")
    page.keyboard.press("ArrowUp")
    assert page.locator("#level input:checked").get_attribute("value") == str(CHAIN.sizes[CHAIN.sizes.index(
        CHAIN.ending) - 1])
    press("endless", "Space")
    tab_to("seconds")
    page.keyboard.press("Control+a")
    page.keyboard.type("2")
    tab_to("seed")
    page.keyboard.type("5")
    press("Temperatures and weights")
    press("temperature-512", "ArrowLeft")
    assert page.locator("#temperature-512").input_value() == "0.99"
    press("make")
    until(page, "player.record && player.take.seed === 5 && player.take.prompt")

    listed = page.locator("#takes li").count()
    tab_to("Name of the take")
    page.keyboard.press("Control+a")
    page.keyboard.type("Rain")
    press("Star Rain")
    page.get_by_role("button", name="Star Rain", pressed=True).wait_for()
    press("Finish, download or share Rain")
    with page.expect_download():
        press("wav")
    press("Delete")
    assert page.locator("#takes li").count() == listed - 1
    assert "undo" in page.evaluate(focused), "what was deleted is one key away"
    page.keyboard.press("Enter")
    assert page.locator("#takes li").count() == listed
    press("Play Rain")
    until(page, "player.take?.seed === 5 && sound.playing && !player.busy")
    press("make-four")
    page.get_by_text("Four pieces: play them, and keep one.").wait_for()
    press("Keep piece 2")
    page.wait_for_function(f"() => document.querySelectorAll('#takes li').length === {listed + 1}")

    press("theme")
    assert page.evaluate("() => document.documentElement.dataset.theme") == "light"
    tab_to("tab-music")
    page.keyboard.press("ArrowRight")
    assert page.locator("#codecs").is_visible() and page.locator("#music").is_hidden()
    tab_to("codec-mic")
    drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
    page.wait_for_function("() => window.vqwave.codecs.nodes")
    press("32x", "Space")
    page.get_by_role("button", name="32x", exact=True, pressed=True).wait_for()
    press("codec-place", "Home")
    page.evaluate("() => document.activeElement.blur()")
    playing = page.evaluate("() => Boolean(window.vqwave.codecs.nodes)")
    page.keyboard.press("Space")
    page.wait_for_function(f"() => Boolean(window.vqwave.codecs.nodes) !== {json.dumps(playing)}")
    with page.expect_download():
        press("Download 8x as wav")


def test_the_page_keeps_its_own_policy_and_is_small(browser, url):
    context = browser.new_context()
    page = context.new_page()
    console = []
    page.on("console", lambda message: console.append(message.text))
    page.goto(url)
    page.locator("#form fieldset").first.wait_for(state="attached")
    page.locator("#play").click()
    page.locator("#play.going").wait_for(timeout=PATIENCE)
    assert console == []
    size = page.evaluate(
        "() => performance.getEntriesByType('resource').reduce((sum, one) => sum + one.decodedBodySize, 0)")
    assert size < 500_000
    context.close()


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core, which bash setup.sh --test fetches where npm is")
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_keeps_people_from_using_the_page(open_page, song, theme):
    """What axe-core calls serious or critical, WCAG AA and its contrasts among them."""
    page = open_page()
    page.add_script_tag(path=AXE)
    if theme == "light":
        page.get_by_role("button", name="Light").click()

    def barriers():
        return page.evaluate("""async () => {
            const { violations } = await axe.run(document, { resultTypes: ["violations"] });
            return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
                .map(({ id, nodes }) => [id, nodes.map((one) => one.html.slice(0, 150) + one.failureSummary)]);
        }""")

    assert barriers() == []
    ask_for(page, seconds=2)
    choose(page, "mode", "continue")
    drop(page, "play", song, "my song.mp3: 0:02 long, ready.")
    choose(page, "mode", "vary")
    page.evaluate("() => document.querySelectorAll('#more details').forEach((one) => { one.open = true })")
    assert barriers() == []
    choose(page, "mode", "new")
    make(page)
    until(page, "player.record")
    open_codes(page)
    page.locator("#takes summary").click()
    assert barriers() == []
    page.get_by_role("tab", name="Codecs").click()
    drop(page, "codec", song, "my song.mp3: 0:02 long, ready.")
    page.wait_for_function("() => window.vqwave.codecs.nodes")
    assert barriers() == []
