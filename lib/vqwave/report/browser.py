"""Measures in Chromium how soon a change is heard in the studio. Needs chromedriver."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator

import numpy as np

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--autoplay-policy=no-user-gesture-required")
CHANGES = {"loudness": '{"loudness": %s}', "pause": "", "transpose": '{"transpose": %s}',
           "hold": '{"hold": %s}', "jump": '{"jump": true}'}
PROBE = """
const [name, change, done] = arguments, { player } = window.vqwave, { sound } = player;
const samples = new Float32Array(window.vqwave.audio.meter.fftSize);
const power = (count) => {
    window.vqwave.audio.meter.getFloatTimeDomainData(samples);
    return samples.slice(-count).reduce((sum, x) => sum + x * x, 0) / count;
};
const [before, began, gaps] = [power(samples.length), performance.now(), sound.gaps];
const soft = () => power(220) < before / 16;
const now = () => performance.now() + 1000 * window.vqwave.audio.outputLatency;
const slide = (value) => (document.getElementById(name).value = value, player.slide(name));
const when = (heard, undo = () => {}) => heard()
    ? done([now() - began, sound.gaps - gaps, 1000 * sound.need, undo()].slice(0, 3))
    : setTimeout(() => when(heard, undo), 1);
const headers = { "Content-Type": "application/json" };
if (name === "pause") when(soft, () => player.toggle(), player.toggle());
else if (name === "loudness") when(soft, () => slide(0), slide(-18));
else fetch(`studio/takes/${player.take.id}/set`, { method: "POST", headers, body: change })
    .then((answer) => answer.json()).then(({ sample }) => when(() => sound.position >= sample));
"""
"""Milliseconds until a change is heard: loudness and pause by the power of 10 ms of sound, others
when the first sample plays that the studio has made after the change. Then gaps, and the buffer in
milliseconds.
"""


class Driver:
    """A page in Chromium, through the WebDriver protocol."""

    def __init__(self, port: int, folder: str):
        self.address = f"http://127.0.0.1:{port}/session"
        options = {"args": [*FLAGS, f"--user-data-dir={folder}"]}
        session = self.post("", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options,
            "timeouts": {"script": 120_000}}}})
        self.address += f"/{session['sessionId']}"

    def close(self):
        """End the browser, which outlives its driver otherwise."""
        self.post("", None, "DELETE")

    def post(self, path: str, body: dict | None, method: str = "POST"):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data,  # noqa: S310
                                         {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=180) as answer:  # noqa: S310
            return json.load(answer)["value"]

    def run(self, script: str, *arguments):
        """The value that a script gives to its last argument, a function."""
        return self.post("/execute/async", {"script": script, "args": arguments})

    def until(self, condition: str):
        self.run(f"const w = () => {condition} ? arguments[0]() : setTimeout(w, 20); w();")


@contextlib.contextmanager
def _page(folders) -> Iterator[Driver]:
    """The page of a studio that plays."""
    studio = [sys.executable, "-m", "vqwave", "studio", "--port", "0", "--vqvae-weights-dir",
              str(folders[0]), "--generator-weights-dir", str(folders[1])]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with contextlib.ExitStack() as stack:
        def start(line) -> subprocess.Popen:
            process = stack.enter_context(
                subprocess.Popen(line, stdout=subprocess.PIPE, text=True))  # noqa: S603
            stack.callback(process.terminate)
            return process

        driver = start([shutil.which("chromedriver"), f"--port={port}"])
        address = re.search(r"http://\S+", start(studio).stdout.readline())[0]
        while "started successfully" not in driver.stdout.readline():
            pass
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        page = stack.enter_context(contextlib.closing(Driver(port, folder)))
        page.post("/url", {"url": address})
        page.until("window.vqwave?.player")
        page.run("window.vqwave.player.press(); arguments[0]();")
        page.until("window.vqwave.player.sound?.position > 22050 * 15")  # the buffer has settled
        yield page


def measure(music, effort, level: int) -> list[dict]:
    """For each of `CHANGES`: milliseconds until a change is heard, gaps, and the buffer. Nothing
    without chromedriver, and at another level than the chain's default.
    """
    if level != music.chain.ending or not shutil.which("chromedriver"):
        return []
    folders = [music.weight_set(names[music.chain.top]).folder
               for names in (music.chain.codecs, music.chain.generators)]
    rows = []
    with _page(folders) as page:
        for name, change in CHANGES.items():
            results = []
            for i in range(effort.changes):
                results.append(page.run(PROBE, name, change % (i % 3) if "%" in change else change))
                time.sleep(1 + 0.1 * (i % 3))
            times, gaps, buffers = np.transpose(results)
            rows.append({"change": name, "median_ms": float(np.median(times)),
                         "most_ms": float(times.max()), "gaps": int(gaps.sum()),
                         "buffer_ms": float(np.median(buffers))})
    return rows
