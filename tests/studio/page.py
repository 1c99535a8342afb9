"""Serves the studio's page and uses it in Chromium, as a person does."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile

import vqwave
from vqwave import commands

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS = [
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: sudo apt-get install chromium"),
    pytest.mark.skipif(not find_spec("playwright"), reason="needs playwright: pip install -e '.[dev]'"),
    pytest.mark.skipif(not find_spec("fastapi"), reason="needs FastAPI: pip install -e '.[app]'"),
]
AXE = Path(os.environ.get("AXE", Path(sys.prefix, "axe/node_modules/axe-core/axe.min.js")))
NEEDS_AXE = pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core, which bash setup.sh --test fetches where npm is")
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


# Runs a script and logs each other machine that the script connects to.
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
    """A studio as a user starts it after `vqwave export`, without TensorFlow: its process and address."""
    script = Path(__file__).parents[2] / "scripts" / "app.py"
    folders = ["--vqvae-weights-dir", str(tiny_weights.codecs), "--generator-weights-dir", str(tiny_weights.generators)]
    assert commands.load("export").main(folders) == 0
    environment = os.environ | {"PYTHONPATH": str(Path(vqwave.__file__).parents[1]), "TMPDIR": str(folder)}
    line = [sys.executable, "-c", WATCHED, folder / "reached", script, "--port", "0", "--streams", STREAMS, *folders]
    with open(folder / "errors", "w+") as errors, subprocess.Popen(
        list(map(str, line)), stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    ) as process:
        try:
            line = process.stdout.readline()
            address = re.fullmatch(r"The studio is at (http://127\.0\.0\.1:\d+) \(Ctrl-C ends it\)\n", line)
            assert address, (line, (folder / "errors").read_text())
            yield process, address[1]
        finally:
            process.kill()


def choose(page, group, value):
    page.locator(f"#{group} input[value='{value}']").check()


def ask_for(page, *, level=128, seconds=None, seed=None):
    if not page.locator("#more").get_attribute("open"):
        page.locator("#more").evaluate("details => { details.open = true }")
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
    entry.locator("details").evaluate("details => { details.open = true }")
    with page.expect_download() as started:
        entry.locator(f"[data-kind={kind}]").click()
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def samples(data):
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def drop(page, where, path, says):
    page.locator(f"#{where}-file").set_input_files(path)
    page.locator(".recording", has=page.locator(f"#{where}-file")).get_by_text(says).wait_for()


def painted(page, canvas):
    """The share of a canvas's pixels that are painted, and its number of colours."""
    return page.locator(canvas).evaluate("""canvas => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const pixels = new Uint32Array(data.buffer);
        return [pixels.filter(Boolean).length / pixels.length, new Set(pixels).size];
    }""")


def open_codes(page):
    page.evaluate("() => document.querySelectorAll('#writing, #writing details').forEach((details) => { details.open = true })")
