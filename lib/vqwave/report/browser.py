"""Measures in Chromium how soon a change is heard in the studio, and in the page that plays without
a server. Needs playwright.
"""

import contextlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

LEAST = 0.02
"""The least difference of two samples that is heard, as a share of full scale."""
CHANGES = {
    "another piece": "{ jump: true }", "hold": "{ hold: 2 }",
    "held notes": "{ notes: [61, 66, 68] }", "freeze": "{ freeze: 2 }",
    "label": "{ label: player.take.labels.at(-1) }",
    "calm to wild": "{ wild: 1 }", "tempo": "{ tempo: 150 }", "density": "{ density: 2 }",
    "key": '{ key: "F#-major" }', "chords": '{ chords: "F# B" }'}
"""Changes of controls, in JavaScript. The changes from "calm to wild" on are those of the score,
which is composed beat by beat.
"""
GAIN = """(name) => new Promise((done) => {
const { player } = window.vqwave, { sound } = player;
const samples = new Float32Array(window.vqwave.audio.meter.fftSize);
const power = (count) => {
    window.vqwave.audio.meter.getFloatTimeDomainData(samples);
    return samples.slice(-count).reduce((sum, x) => sum + x * x, 0) / count;
};
const [before, began, gaps] = [power(samples.length), performance.now(), sound.gaps];
const now = () => performance.now() + 1000 * window.vqwave.audio.outputLatency;
const slide = (value) => (document.getElementById(name).value = value, player.slide(name));
const [act, undo] = name === "pause" ? [() => player.toggle(), () => player.toggle()]
    : [() => slide(-18), () => slide(0)];
const when = () => power(220) < before / 16
    ? (undo(), done([now() - began, sound.gaps - gaps, 1000 * sound.need])) : setTimeout(when, 1);
act();
when();
})"""
"""Milliseconds until 10 ms of sound are softer by 12 dB, gaps, and the buffer in milliseconds."""
PROBE = """async ([seed, second, least]) => {
const { player } = window.vqwave;
const until = async (holds) => { while (!holds()) await new Promise((go) => setTimeout(go, 1)); };
await player.make({ seed, changes: "" });
const { sound } = player, { rate } = sound;
await until(() => sound.position > second * rate);
const [at, gaps, need] = [sound.position, sound.gaps, sound.need];
const change = CHANGE;
if (change) player.steer(change);
await until(() => sound.end > at + (change ? 2 : 4) * rate);
const heard = sound.samples(0, sound.end).flatMap((part) => [...part]);
if (!change) window.unchanged = heard;
const other = (x, i) => i > at && Math.abs(x - window.unchanged[i]) > 32768 * least;
const first = (heard.findIndex(other) - at) / rate;
return [1000 * (first + window.vqwave.audio.outputLatency), sound.gaps - gaps, 1000 * need];
}"""
"""Plays a piece again, and makes a change at a second. Returns as `GAIN`: the time until the sound
differs from that of the piece without the change, which must have played before; or a negative time
if there is no difference within two seconds.
"""


@contextlib.contextmanager
def _page(*line: str) -> Iterator:
    """A page that plays. line: the arguments of vqwave, which serves the page."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "vqwave", *line, "--port", "0"]
    with (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,  # noqa: S603
          sync_playwright() as playwright):
        try:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--autoplay-policy=no-user-gesture-required"])
            page = browser.new_page(bypass_csp=True)
            page.goto(next(filter(None, (re.search(r"http://\S+", x) for x in process.stdout)))[0])
            page.wait_for_function("window.vqwave?.player")
            page.evaluate("window.vqwave.player.press()")
            page.wait_for_function(  # the buffer has settled
                "window.vqwave.player.sound?.position > 22050 * 15", timeout=120_000)
            yield page
            browser.close()
        finally:
            process.terminate()


def _rows(page, effort) -> list[dict]:
    results: dict[str, list] = {name: [] for name in ("loudness", "pause", *CHANGES)}
    for number in range(effort.changes):
        for name in ("loudness", "pause"):
            time.sleep(1 + 0.1 * (number % 3))
            results[name].append(page.evaluate(GAIN, name))
        for name, change in {"": "null", **CHANGES}.items():
            measured = page.evaluate(PROBE.replace("CHANGE", change),
                                     [str(number), 1.5 + 0.37 * (number % 3), LEAST])
            if name:
                results[name].append(measured)
    rows = []
    for name, measured in results.items():
        times, gaps, buffers = np.transpose(measured)
        heard = times[times > 0]
        rows.append({"change": name, "heard": len(heard), "gaps": int(gaps.sum()),
                     "median_ms": float(np.median(heard)) if len(heard) else None,
                     "most_ms": float(heard.max(initial=0)),
                     "buffer_ms": float(np.median(buffers))})
    return rows


def measure(music, effort, level: int, *, studio: bool) -> list[dict]:
    """For loudness, pause and each of `CHANGES`: milliseconds until a change is heard, gaps, and
    the buffer. studio: in the studio; otherwise in the page of `vqwave export-web`. Nothing without
    playwright and Chromium, and at another level than the chain's default.
    """
    if (level != music.chain.ending or not importlib.util.find_spec("playwright")
            or not shutil.which("chromium")):
        return []
    codecs, generators = (str(music.weight_set(names[music.chain.top]).folder)
                          for names in (music.chain.codecs, music.chain.generators))
    with tempfile.TemporaryDirectory() as site:
        line = (["studio", "--vqvae-weights-dir", codecs, "--generator-weights-dir", generators]
                if studio else ["export-web", generators, site, "--serve", "--vqvae-weights-dir",
                                codecs])
        with _page(*line) as page:
            return _rows(page, effort)
