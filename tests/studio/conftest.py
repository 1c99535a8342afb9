"""Studios of the tiny weights and their page in Chromium, for more than one test file."""

import contextlib
import signal

import pytest
from encoded import encode
from messages import read_messages
from page import CHROMIUM, LISTEN, PATIENCE, serve
from prepared import music as tune

from vqwave.studio import Studio, TakeRequest


@pytest.fixture(scope="module")
def studio(tiny_weights):
    with contextlib.closing(Studio(tiny_weights.codecs, [tiny_weights.generators])) as studio:
        yield studio


@pytest.fixture
def open_studio():
    """Opens studios that are closed at the end."""
    with contextlib.ExitStack() as opened:
        yield lambda *arguments, **options: opened.enter_context(
            contextlib.closing(Studio(*arguments, **options)))


@pytest.fixture
def led_studio(open_studio, led_weights):
    """A studio whose weights have a score."""
    return open_studio(led_weights.codecs, [led_weights.generators])


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("dropped") / "my song.mp3"
    encode(path, tune(2.0, 1, 44100)[:, None])
    return path


@pytest.fixture
def make_take(studio):
    """Generates a take to its end: (header, blocks as (about, payload), record)."""

    def make_take(**settings):
        frames = read_messages(studio.make_take(TakeRequest(**settings)))
        kinds = [next(iter(about)) for about, _ in frames]
        assert kinds[-1] == "end", frames[-1][0]
        first = kinds.index("take")
        assert set(kinds[:first]) <= {"progress"}
        return frames[first][0]["take"], frames[first + 1 : -1], frames[-1][0]["end"]

    return make_take


@pytest.fixture(scope="module")
def url(tiny_weights, tmp_path_factory):
    """The address of a studio. It connects to no other machine, prints nothing, and ends by Ctrl-C."""
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
    """Opens the page with a new profile; neither errors nor requests to other machines may occur."""
    contexts, errors = [], []

    def open_page(query="", at=url, lost=False, says="Nothing is playing yet.", **options):
        # The page's policy would refuse the script that listens.
        context = browser.new_context(**{"bypass_csp": True, "viewport": {"width": 1400, "height": 900}} | options)
        contexts.append(context)
        context.add_init_script(LISTEN)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda r: r.url.startswith((at, "data:", "blob:")) or errors.append(r.url))
        if not lost:
            page.on("console", lambda m: m.type == "error" and "400" not in m.text and errors.append(m.text))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(f"{at}/{query}")
        page.wait_for_function("() => window.vqwave")
        page.get_by_text(says).wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors
