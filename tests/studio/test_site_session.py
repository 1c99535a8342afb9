"""The modules of a site that make the music, in Chromium without a page: from the same seed and changes, the
same codes as in Python, and nearly the same sound.
"""

import json

import numpy as np
import pytest
from page import NEEDS
from test_site_page import led, led_folder  # noqa: F401 - fixtures

from vqwave.data import melody
from vqwave.generators import ScoreAbove
from vqwave.play import sampling, score

pytestmark = NEEDS
BLOCK, RATE = 3072, 22050
OPEN = """async () => {
    const { env, InferenceSession } = await import("/studio/static/ort.js");
    const { files, wasm, ...site } = await (await fetch("/site.json")).json();
    const read = async (path) => {
        const { body } = await fetch(`/${path}`);
        return new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
    };
    Object.assign(env.wasm, { numThreads: 1, wasmBinary: await read(wasm) });
    const open = async (entry) => {
        for (const [key, value] of Object.entries(entry ?? {})) {
            if (typeof value === "object") await open(value);
            else if (value in files) entry[key] = value.includes(".onnx.") ? await InferenceSession.create(new Uint8Array(await read(value))) : new Float32Array(await read(value));
        }
    };
    await open(site);
    window.site = site;
}"""
PLAY = """async ({ seed, label, changes, count, kept }) => {
    const { Stream } = await import("/studio/static/stream.js");
    const stream = new Stream(window.site, BigInt(seed), label);
    if (kept) stream.score.kept = kept;
    const [codes, audio] = [{}, []];
    for (let number = 0; number < count; number += 1) {
        for (const [at, change] of changes) if (at === number) stream.set(change);
        const block = await stream.nextBlock();
        audio.push(...block.audio);
        for (const [level, frames] of Object.entries(block.codes)) (codes[level] ??= []).push(...frames);
    }
    return { codes, audio, steps: stream.score.frames.length };
}"""


@pytest.fixture(scope="module")
def place(browser, led):  # noqa: F811
    """A page at the address of a site, with open models, and the music of the site in Python."""
    page = browser.new_page(bypass_csp=True)
    page.goto(f"{led[0]}/licences.txt")
    page.evaluate(OPEN)
    yield page, led[1]
    page.close()


def play(music, seed, label, changes, count):
    """The codes by level, the sound, and the steps of the score that are kept, of the first blocks."""
    codes, sound = {}, []
    with music.stream(seed=seed, label=label, past=8.0, latency="page") as stream:
        for number in range(count):
            for at, change in changes:
                if at == number:
                    stream.set(**change)
            sound.append(next(stream))
            for level, values in stream.codes.items():
                codes.setdefault(level, []).append(values)
        steps = stream._chain.score.state.codes.shape[1]
    return {level: np.concatenate(values).ravel() for level, values in codes.items()}, np.concatenate(sound), steps


def assert_equal(heard, expected):
    codes, sound, steps = expected
    for level, values in codes.items():
        np.testing.assert_array_equal(heard["codes"][str(level)], values, err_msg=str(level))
    np.testing.assert_allclose(heard["audio"], sound, atol=2e-3 * np.abs(sound).max())
    assert heard["steps"] == steps


SESSIONS = {
    "as it comes": (8, "", []),
    "score": (3, "", [(1, {"key": "minor"}), (3, {"tempo": 140, "density": 0.5}), (6, {"key": "", "section": "new"})]),
    "chords": (4, "", [(1, {"chords": "Am, F#7 | Bbmaj7 g"}), (9, {"tempo": 180}), (14, {"chords": ""})]),
    "bars": (3, "", [(4, {"density": 2.0, "bar": True}), (5, {"tempo": 90}), (9, {"section": "new"}), (10, {"key": "minor", "bar": True}),
                    (11, {"chords": "C G", "bar": True}), (12, {"sampling": {"score": {"temperature": 1.4}}})]),
    "theme": (3, "", [(0, {"tempo": 200}), (2, {"section": "new"}), (48, {"section": "theme"}),
                     (70, {"section": "new"})]),  # the theme returns between the last two
    "label": (4, "rain", [(4, {"label": "wind"}), (9, {"label": "rain:0.7, wind:0.3"}), (14, {"label": ""})]),
    "freeze": (5, "", [(3, {"freeze": 1.1}), (4, {"mutate": 0.5}), (13, {"freeze": 0})]),
    "hold": (5, "", [(3, {"hold": 2 * BLOCK / RATE}), (6, {"hold": 0}), (8, {"hold": BLOCK / RATE}), (10, {"hold": 0}),
                     (30, {"hold": 7.9}), (32, {"hold": 2 * BLOCK / RATE})]),
    "jumps": (6, "", [(2, {"loudness": -6}), (4, {"jump": 77}), (7, {"sampling": {512: {"temperature": 0.5, "top_p": 0.9}}}),
                      (9, {"loudness": -60}), (10, {"loudness": 3})]),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_in_the_browser_is_that_of_python(place, name):
    page, music = place
    seed, label, changes = SESSIONS[name]
    count = 16 if not changes else changes[-1][0] + 4
    session = {"seed": str(seed), "label": label, "changes": changes, "count": count}
    heard = page.evaluate(PLAY, json.loads(json.dumps(session)))  # names of levels are texts
    assert_equal(heard, play(music, seed, label or None, changes, count))


def test_what_the_score_forgets_changes_nothing_that_is_heard(place, monkeypatch):
    page, music = place
    whole = play(music, 8, None, [], 60)
    monkeypatch.setattr(score, "KEPT", 6)
    short = play(music, 8, None, [], 60)
    assert short[2] < whole[2] / 2
    assert_equal(page.evaluate(PLAY, {"seed": "8", "label": "", "changes": [], "count": 60, "kept": 6}), short)


def test_random_numbers_are_those_of_python(place):
    for seed, stream, level, start, count, book in ((0, 0, 512, 0, 20, 0), (2**127 + 12345, 3, 8, 1021, 9, 13)):
        drawn = place[0].evaluate("""async ([seed, ...rest]) => {
            const { uniforms } = await import("/studio/static/philox.js");
            return [...uniforms(BigInt(seed), ...rest)];
        }""", [str(seed), stream, level, start, count, book])
        np.testing.assert_array_equal(np.float32(drawn), sampling.uniforms(seed, stream, level, start, count, book))


def test_runs_of_notes_are_hashed_as_in_python(place, rng):
    """Also over rests that are longer than a byte counts."""
    steps = np.cumsum(rng.choice([1, 2, 300], (5, melody.ORDER + 1)), axis=1)
    books = rng.integers(0, ScoreAbove().books - 4, steps.shape)
    expected = [melody._hash(melody.moves(*line)[:, None])[0] for line in zip(steps, books, strict=True)]
    assert place[0].evaluate("""async ([lines, base]) => {
        const { ScoreLevel } = await import("/studio/static/score.js");
        return lines.map((line) => ScoreLevel.prototype.hash.call({ base }, line));
    }""", [np.stack([steps, books], -1).tolist(), melody.BASE]) == expected
