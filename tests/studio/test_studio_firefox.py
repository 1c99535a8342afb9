"""The studio's page in Firefox: what it paints, plays, steers, keeps and compares, without an error in its console."""

from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
from encoded import encode
from firefox import PROGRAM, Firefox
from prepared import music as tune
from test_studio_page import RATE, serve

pytestmark = [
    pytest.mark.skipif(not PROGRAM, reason="needs Firefox: sudo apt-get install firefox-esr"),
    pytest.mark.skipif(not find_spec("fastapi"), reason="needs FastAPI: pip install -e '.[app]'"),
]
PLAYER = "window.vqwave.player"
# Loudness of what goes to the loudspeaker.
LISTEN = """
const { audio } = window.vqwave;
const ear = (window.ear = audio.createAnalyser());
audio.volume.connect(ear);
window.heard = () => {
    const values = new Float32Array(ear.fftSize);
    ear.getFloatTimeDomainData(values);
    return Math.max(...values.map(Math.abs));
};
"""


@pytest.fixture(scope="module")
def url(tiny_weights, tmp_path_factory):
    with serve(tiny_weights, tmp_path_factory.mktemp("served")) as (_, address):
        yield address


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with Firefox(tmp_path_factory.mktemp("firefox")) as firefox:
        yield firefox


@pytest.fixture
def firefox(started, url):
    """The page as somebody opens it; at the end its console says of no error."""
    started.open(url)
    started.run("localStorage.clear()")
    started.open(url)
    started.until("window.vqwave?.player")
    yield started
    # Who leaves a piece that plays is asked.
    started.run(f"{PLAYER}.stop()")
    started.until(f"!{PLAYER}.live")
    assert started.errors(url) == []


def hear(firefox):
    """Wait until the clock of sound runs; who has no sound device is told so, and what needs one is left out."""
    firefox.until(f"{PLAYER}.sound?.mute || window.vqwave.audio?.currentTime > 0.3")
    if firefox.run(f"return {PLAYER}.sound?.mute"):
        firefox.until("document.querySelector('#status').textContent.includes('has found no loudspeaker')")
        pytest.skip("Firefox finds no sound device: sudo apt-get install pulseaudio")


def painted(firefox, css):
    """How many colours a canvas has."""
    return firefox.run("""
        const canvas = document.querySelector(arguments[0]);
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size;""", css)


def test_it_plays_is_steered_stopped_kept_and_downloaded(firefox):
    assert painted(firefox, "#picture") > 20, "there is a picture from the start"
    firefox.click("#play")
    hear(firefox)
    position = firefox.until(f"{PLAYER}.sound?.position > {RATE} && {PLAYER}.sound.position")
    assert firefox.run("return window.vqwave.audio.state") == "running"
    assert firefox.run("return window.vqwave.audio.sampleRate") == RATE
    firefox.run(LISTEN)
    firefox.until("window.heard() > 0.01")
    assert "Playing." in firefox.run("return document.querySelector('#status').textContent")
    firefox.until(f"{PLAYER}.sound.position > {position + RATE}")
    assert painted(firefox, "#picture") > 50

    firefox.click("#jump")
    firefox.until(f"{PLAYER}.marks.length === 1")
    firefox.keys("#wild", "\ue014" * 4)  # to the right
    assert firefox.run("return Number(document.querySelector('#wild').value)") == pytest.approx(0.2)
    firefox.click("#hold")
    firefox.until(f"{PLAYER}.marks.length === 2")
    firefox.click("#hold")
    firefox.until(f"{PLAYER}.marks.length === 3")
    firefox.until(f"{PLAYER}.sound.position > Math.max(...{PLAYER}.marks.map((one) => one.sample)) + 100")
    firefox.click("#play")
    firefox.until(f"{PLAYER}.sound.paused")
    firefox.keys("#play", " ")
    firefox.until(f"{PLAYER}.sound.playing")
    firefox.click("#stop")
    firefox.until(f"{PLAYER}.record")
    firefox.until("document.querySelectorAll('#takes li').length === 1")
    # Calm and wild may have been asked for too late to be heard; the marks were heard.
    assert firefox.run(f"return {PLAYER}.record.changes") >= 3

    firefox.click("#takes summary")
    firefox.click("#takes [data-kind=wav]")
    seconds = firefox.run(f"return {PLAYER}.record.seconds")
    for _ in range(300):
        if files := [one for one in firefox.folder.glob("*.wav") if one.stat().st_size]:
            break
        firefox.run("return 0")
    assert soundfile.info(files[0]).frames == round(seconds * RATE)


def test_a_recording_is_continued_and_the_codecs_are_compared(firefox, tmp_path):
    path = tmp_path / "my song.mp3"
    encode(path, tune(2.0, 1, 44100)[:, None])
    firefox.click("#more > summary")
    firefox.click("#mode input[value=continue]")
    firefox.keys("#play-file", str(path))
    firefox.until("document.querySelector('#play-said').textContent.includes('my song.mp3: 0:02 long, ready.')")
    firefox.click("#make")
    hear(firefox)
    firefox.until(f"{PLAYER}.sound?.position > {RATE} && {PLAYER}.take.prompt")
    firefox.click("#tab-codecs")
    firefox.keys("#codec-file", str(path))
    firefox.until("window.vqwave.codecs.nodes && window.vqwave.codecs.now > 0.2")
    assert firefox.run(f"return {PLAYER}.sound.paused")
    firefox.click("#codec-stage .picks button:nth-child(3)")
    assert firefox.run("return document.querySelectorAll('#codec-stage tbody tr').length") == 5
    firefox.until("!window.vqwave.codecs.nodes")
    assert painted(firefox, ".compared canvas") > 50


def test_the_microphone_is_recorded(firefox):
    firefox.click("#more > summary")
    firefox.click("#mode input[value=vary]")
    firefox.click("#play-mic")
    firefox.until("document.querySelector('#play-said').textContent === 'Recording …'")
    began = firefox.run("return performance.now()")
    firefox.until(f"performance.now() > {began} + 1500")
    firefox.click("#play-mic")
    firefox.until("/microphone.*: 0:0\\d long, ready/.test(document.querySelector('#play-said').textContent)")


@pytest.mark.parametrize("width", [500, 1400, 1920])
def test_nothing_is_wider_than_the_page(firefox, url, width):
    """Firefox without a window is 500 points wide at least."""
    firefox.open(url, width=width)
    firefox.until("window.vqwave?.player")
    firefox.run("for (const one of document.querySelectorAll('details')) one.open = true")
    for tab in ("music", "codecs"):
        firefox.click(f"#tab-{tab}")
        inner, wide, left, right = firefox.run("""
            const { left, right } = document.querySelector("main").getBoundingClientRect();
            const { clientWidth, scrollWidth } = document.documentElement;
            return [clientWidth, scrollWidth, left, right];""")
        assert wide <= inner
        np.testing.assert_allclose(left, inner - right, atol=1)
