"""Measures in Chromium how soon a change is heard in the studio. Needs playwright."""

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

CHANGES = {"loudness": '{"loudness": %s}', "pause": "", "transpose": '{"transpose": %s}',
           "hold": '{"hold": %s}', "jump": '{"jump": true}'}
PROBE = """([name, change]) => new Promise((done) => {
const { player } = window.vqwave, { sound } = player;
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
})"""
"""Milliseconds until a change is heard: loudness and pause by the power of 10 ms of sound, others
when the first sample plays that the studio has made after the change. Then gaps, and the buffer in
milliseconds.
"""


@contextlib.contextmanager
def _page(folders) -> Iterator:
    """The page of a studio that plays."""
    from playwright.sync_api import sync_playwright

    studio = [sys.executable, "-m", "vqwave", "studio", "--port", "0", "--vqvae-weights-dir",
              str(folders[0]), "--generator-weights-dir", str(folders[1])]
    with (subprocess.Popen(studio, stdout=subprocess.PIPE, text=True) as process,  # noqa: S603
          sync_playwright() as playwright):
        try:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--autoplay-policy=no-user-gesture-required"])
            page = browser.new_page(bypass_csp=True)
            page.goto(re.search(r"http://\S+", process.stdout.readline())[0])
            page.wait_for_function("window.vqwave?.player")
            page.evaluate("window.vqwave.player.press()")
            page.wait_for_function(  # the buffer has settled
                "window.vqwave.player.sound?.position > 22050 * 15", timeout=120_000)
            yield page
            browser.close()
        finally:
            process.terminate()


def measure(music, effort, level: int) -> list[dict]:
    """For each of `CHANGES`: milliseconds until a change is heard, gaps, and the buffer. Nothing
    without playwright and Chromium, and at another level than the chain's default.
    """
    if (level != music.chain.ending or not importlib.util.find_spec("playwright")
            or not shutil.which("chromium")):
        return []
    folders = [music.weight_set(names[music.chain.top]).folder
               for names in (music.chain.codecs, music.chain.generators)]
    rows = []
    with _page(folders) as page:
        for name, change in CHANGES.items():
            results = []
            for i in range(effort.changes):
                body = change % (i % 3) if "%" in change else change
                results.append(page.evaluate(PROBE, [name, body]))
                time.sleep(1 + 0.1 * (i % 3))
            times, gaps, buffers = np.transpose(results)
            rows.append({"change": name, "median_ms": float(np.median(times)),
                         "most_ms": float(times.max()), "gaps": int(gaps.sum()),
                         "buffer_ms": float(np.median(buffers))})
    return rows
