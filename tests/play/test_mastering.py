"""Normalisation without clipping, fades, and loops without a seam."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepared import music

from vqwave.play import mastering

RATE = 22050


def test_a_cross_fade_keeps_the_loudness(rng):
    one, other = rng.normal(0, 0.1, (2, 200, 2048)).astype(np.float32)
    np.testing.assert_allclose(mastering.cross_fade(one[0], one[0]), one[0], atol=1e-6)
    mixed = np.stack([mastering.cross_fade(a, b) for a, b in zip(one, other, strict=True)])
    loudness = np.sqrt((mixed**2).mean(0)).reshape(16, -1).mean(1)
    np.testing.assert_allclose(loudness, 0.1, rtol=0.03)
    assert np.abs(mixed[:, 0] - one[:, 0]).max() < 1e-3
    assert np.abs(mixed[:, -1] - other[:, -1]).max() < 1e-3
    assert not mastering.cross_fade(np.zeros(10, np.float32), np.zeros(10, np.float32)).any()


@given(st.integers(1, 300), st.integers(1, 900),
       st.lists(st.integers(1, 200), min_size=1, max_size=8))
def test_a_fade_does_not_depend_on_blocks(length, total, cuts):
    whole = mastering.fade(np.ones(total, np.float32), 0, length, total)
    edges = [0, *sorted({min(c, total) for c in np.cumsum(cuts)}), total]
    parts = [mastering.fade(np.ones((2, b - a), np.float32), a, length, total)[1]
             for a, b in zip(edges[:-1], edges[1:], strict=True)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_allclose(whole, whole[::-1], atol=1e-6)
    assert np.all(np.diff(whole[: total // 2]) >= 0)
    if total > 2 * length:
        np.testing.assert_array_equal(whole[length : total - length], 1)


def quiet(seconds=4.0):
    return 0.05 * music(seconds, 1)


@pytest.mark.parametrize("sound, looped", [
    (quiet(), False), (quiet(), True), (music(0.3), True),
    (np.sign(np.sin(np.arange(2 * RATE) / 9)), False),
])
def test_music_has_the_target_loudness_and_never_clips(sound, looped):
    made = mastering.normalize(sound, RATE, looped=looped)
    assert made.dtype == np.float32 and made.shape == sound.shape
    assert mastering.loudness(made, RATE) == pytest.approx(-14, abs=0.15)
    assert mastering.true_peak(np.tile(made, 2) if looped else made) <= 10 ** (-0.9 / 20)


def test_loudness_is_that_of_the_standard():
    """ITU-R BS.1770-4: a full-scale sine of 997 Hz in one channel reads -3.01 LUFS."""
    sine = np.sin(2 * np.pi * 997 * np.arange(48000 * 5) / 48000)
    assert mastering.loudness(sine, 48000) == pytest.approx(-3.01, abs=0.05)
    # A quarter of the sampling rate, sampled half way between its peaks: 3 dB more than the samples
    # show.
    between = np.sin(np.pi / 2 * np.arange(4000) + np.pi / 4) * np.hanning(4000)
    assert mastering.true_peak(between) == pytest.approx(1, abs=0.02)


def rough(audio, at):
    """The largest second difference near a place, which a click raises."""
    return np.abs(np.diff(audio[at - 64 : at + 64], 2)).max()


@pytest.mark.parametrize("sound", [
    music(6.0, 2), np.random.default_rng(1).normal(0, 0.2, 5 * RATE),
    0.5 * np.sin(np.arange(4 * RATE) / 17.3),
])
def test_a_loop_has_no_seam(sound):
    sound = sound.astype(np.float32)
    looped = mastering.loop(sound, RATE)
    assert looped.dtype == np.float32 and len(sound) - RATE <= len(looped) <= len(sound) - RATE // 2
    twice = np.tile(looped, 2)
    seam = rough(twice, len(looped))
    # The last sample is followed by what followed it.
    assert twice[len(looped)] == pytest.approx(sound[len(looped)], abs=1e-3)
    elsewhere = [rough(sound, at) for at in range(100, len(sound) - 100, 500)]
    assert seam <= 1.01 * max(elsewhere)
    loud = [np.sqrt((x**2).mean())
            for x in np.array_split(twice[len(looped) - RATE // 4 :][: RATE], 8)]
    usual = [np.sqrt((x**2).mean()) for x in np.array_split(sound, len(sound) // (RATE // 8))]
    assert 0.7 * min(usual) <= min(loud) and max(loud) <= 1.3 * max(usual)
