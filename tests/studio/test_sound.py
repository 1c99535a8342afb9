"""The modules of the page that hand samples to the device, in Chromium without the rest of the page."""

import numpy as np
import pytest
from page import NEEDS

pytestmark = NEEDS
RAMP = 1024


@pytest.fixture(scope="module")
def place(browser, url):
    page = browser.new_page(bypass_csp=True)
    page.goto(f"{url}/studio/about")
    yield page
    page.close()


def test_a_gain_is_heard_at_once_and_only_once(place):
    """Until the samples come that the studio has made louder or softer, the ring does that."""
    heard = np.array(place.evaluate("""async (ramp) => {
        const { Ring } = await import("/studio/static/ring.js");
        const ring = new Ring({ postMessage() {} });
        const share = (i) => Math.min(1, Math.max(0, 0.5 - 0.5 * Math.cos(Math.PI * Math.min(1, Math.max(0, (i - 5000 + 0.5) / ramp)))));
        const made = Int16Array.from({ length: 10000 }, (_, i) => 16384 * (1 - 0.75 * share(i)));
        ring.hear({ pcm: made, position: 0 });
        const out = [];
        const play = (blocks) => { for (let i = 0; i < blocks; i++) { const block = new Float32Array(100); ring.fill(block, 0); out.push(...block); } };
        play(10);
        ring.hear({ gain: 0.25 });
        play(20);
        ring.hear({ sample: 5000, gain: 0.25, ramp });
        play(70);
        return out;
    }""", RAMP))
    np.testing.assert_array_equal(heard[:1000], 0.5)
    np.testing.assert_allclose(heard[1000 + RAMP :], 0.125, atol=1e-3)
    assert heard[2000] < 0.13, "within 1,000 samples, 45 ms"


def test_a_cut_fades_out_and_the_next_sound_begins_where_it_was(place):
    heard = np.array(place.evaluate("""async () => {
        const { Ring } = await import("/studio/static/ring.js");
        const ring = new Ring({ postMessage() {} });
        ring.hear({ pcm: new Int16Array(4000).fill(16384), position: 0 });
        const out = [];
        const play = () => { const block = new Float32Array(1000); ring.fill(block, 0); out.push(...block); };
        play();
        ring.hear({ clear: true });
        play();
        ring.hear({ pcm: new Int16Array(4000).fill(8192), position: 9 });
        play();
        return out;
    }"""))
    assert np.abs(np.diff(heard[:2000])).max() < 0.01 and (heard[1300:2000] == 0).all()
    np.testing.assert_array_equal(heard[2000:], 0.25)


ADAPT = """async (delays) => {
    const { Sound } = await import("/studio/static/sound.js");
    const sound = Object.create(Sound.prototype);
    Object.assign(sound, { rate: 1, need: 0.2, least: Infinity, calm: 0, raised: 0, base: [0, 0], from: Infinity, handed: Infinity, context: { currentTime: 0 } });
    const needs = [];
    for (const delay of delays) {
        sound.context.currentTime += 0.05;
        sound.end = sound.context.currentTime + sound.need - delay;
        sound.adapt();
        needs.push(sound.need);
    }
    return needs;
}"""


def test_the_buffer_grows_and_shrinks_with_the_delays_of_blocks(place):
    quiet, busy = [0.02] * 1200, [0.02] * 39 + [0.4]
    needs = place.evaluate(ADAPT, quiet + 20 * busy + 4 * quiet)
    assert needs[1199] <= 0.13, "small where blocks come in time"
    assert max(needs[1200:2000]) > 0.42, "larger than the delays"
    assert needs[-1] <= 0.13


def test_the_place_in_a_score_is_told(place):
    words = place.evaluate("""async () => {
        document.body.innerHTML = "<p id=beat></p>";
        const { Beats, keyOf } = await import("/studio/static/beat.js");
        const beats = new Beats();
        const from = (start) => Array.from({ length: 8 }, (_, i) => [start + i / 2, i % 4]);
        beats.hear({ tempo: 120, beats: from(0), section: { second: -1, number: 0, returns: false } }, 0);
        beats.hear({ tempo: 120, beats: from(4), section: { second: 4, number: 1, returns: false } }, 4);
        beats.hear({ tempo: 119.6, beats: from(8), section: { second: 8, number: 0, returns: true } }, 8);
        const told = [3, 4.1, 10.6].map((second) => (beats.tell(second, [[0, 1, 60]]), document.querySelector("#beat").textContent));
        const scale = [60, 62, 64, 65, 67, 69, 71, 72, 60, 67].map((midi, i) => [i, 1, midi]);
        return [...told, keyOf(scale), keyOf(scale.map(([a, b, midi]) => [a, b, midi + 2])), keyOf([])];
    }""")
    assert words[0].endswith("the theme · bar 2, beat 3") and words[1].endswith("section B · bar 1, beat 1")
    assert words[2].startswith("120 bpm · ") and words[2].endswith("the theme again · bar 2, beat 2")
    assert words[3:] == ["C major", "D major", ""]
