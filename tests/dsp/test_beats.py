import numpy as np
import pytest

from vqwave.dsp import beats


@pytest.mark.parametrize("tempo", [80, 100, 120, 140])
def test_beats_are_fitted_to_the_starts_of_notes(tempo):
    """Also if the notes are inexact, some are wrong, and the tempo drifts by a tenth."""
    rng = np.random.default_rng(tempo)
    places = np.cumsum(rng.choice([0.5, 1, 1, 1.5], 60))
    for drift in (0, 0.1):
        exact = 0.7 + 60 / tempo * places * (1 + drift * places / places[-1] / 2)
        starts = np.concatenate([exact + rng.normal(0, 0.015, len(exact)), rng.uniform(0, exact[-1], 6)])
        fitted = beats.fit_beats(starts, exact[-1] + 1.5)
        assert -1 < fitted[0] < 0 and fitted[-1] >= exact[-1] + 1.5
        assert np.ptp(np.diff(fitted)) < 0.05 + 0.1 * bool(drift)
        grid = beats.steps(fitted)
        distances = np.abs(exact[:, None] - grid).min(1)
        assert distances.mean() < 0.015 and distances.max() < 0.04


def test_notes_need_not_have_a_beat():
    for starts in (np.zeros(0), np.array([0.0]), np.array([0.1, 0.13, 0.9])):
        fitted = beats.fit_beats(starts, 2.0)
        assert fitted[0] < 0 and fitted[-1] >= 2
        assert np.diff(fitted).min() > 0.499 and np.diff(fitted).max() < 1.001


@pytest.mark.parametrize("noise", [1e-3, 3e-2])
def test_attacks_are_where_sounds_begin(noise):
    """To half a frame of the envelope, whose frames are 12 ms apart, and a little for the noise."""
    rate, times = 22050, np.array([0.5, 1.13, 1.7, 2.42, 3.01])
    random, decay = np.random.default_rng(0), 0.3 * np.exp(-10 * np.arange(8000) / 22050)
    sound = noise * random.standard_normal(4 * rate)
    for time in times:
        sound[round(time * rate) :][: decay.size] += decay * random.standard_normal(decay.size)
    found, bands = beats.find_attacks(sound.astype(np.float32), rate)
    for band in range(4):
        nearest = np.abs(found[bands == band][:, None] - times).argmin(0)
        assert abs(np.median(found[bands == band][nearest] - times)) < 0.012
