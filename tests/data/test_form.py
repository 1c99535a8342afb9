"""What pieces take from training scores."""

import numpy as np
import pytest

from vqwave.data import form
from vqwave.generators.composer import BANDS, SOUNDING, STRUCK


def section(seed: int, semitones: int = 40) -> np.ndarray:
    """Random notes: int [`form.SECTION`, books]."""
    codes = np.random.default_rng(seed).choice([0, SOUNDING, STRUCK], (form.SECTION, semitones + BANDS),
                                               p=[0.95, 0.03, 0.02])
    codes[:, -BANDS:] = STRUCK
    return codes


def track(*seeds: int, late: int = 0) -> np.ndarray:
    return np.roll(np.concatenate([section(seed) for seed in seeds]), late, axis=0)


def test_sections_that_repeat_an_earlier_one_return():
    plain = [track(*range(10 * n, 10 * n + 8)) for n in range(9)]
    assert form.of_scores(plain)["returns"] < 0.1
    # Of eight sections, those after the first can return.
    half = [track(n, n + 50, n, n + 50, n, n + 60, n + 70, n + 80, late=n) for n in range(4)]
    assert form.of_scores(half)["returns"] == pytest.approx(3 / 7, abs=0.11)
    assert form.of_scores([track(*[n] * 9) for n in range(4)])["returns"] == form.MOST_RETURNS


def test_another_version_of_a_track_does_not_make_its_returns_chance():
    """Of eight sections, three return; the fourth track repeats the third."""
    tracks = [track(n, n + 50, n, n + 50, n, n + 60, n + 70, n + 80) for n in (0, 1, 2, 2)]
    assert form.of_scores(tracks)["returns"] == pytest.approx(3 / 7, abs=0.11)


def test_a_section_returns_with_strikes_that_are_a_step_late():
    odd = np.arange(form.SECTION)[:, None] % 2
    late = [np.where(odd, section(n), np.roll(section(n), 1, axis=0)) for n in range(4)]
    played = [np.concatenate([track(n, n + 10), again]) for n, again in enumerate(late)]
    assert form.of_scores(played)["returns"] == pytest.approx(1 / 2)
    # Short tracks have no passages to compare, so they change nothing.
    short = [section(n)[: form.SECTION // 2] for n in range(100, 120)]
    assert form.of_scores([*played, *short])["returns"] == pytest.approx(1 / 2)


def test_strikes_are_counted_by_parts():
    rolls = [section(1), section(2)]
    half = form.SECTION // 2
    strikes = form.of_scores(rolls, [np.repeat([2, 0], half), np.full(form.SECTION, 2)], 4)["part_strikes"]
    struck = [roll[:, :-BANDS] >= STRUCK for roll in rolls]
    np.testing.assert_array_equal(strikes, [
        struck[0][half:].sum(0), 0 * strikes[1], struck[0][:half].sum(0) + struck[1].sum(0), 0 * strikes[1]])
    assert strikes[0].any() and form.of_scores([])["part_strikes"].shape == (0, 0)


def test_quiet_beats_of_a_part_are_like_the_nearest_that_sound():
    curve = np.array([[-90.0, -99], [-30, -20], [-40, -25], [-80, -80], [-99, -99]])
    heard = form._sounding(curve, -30.0)
    np.testing.assert_array_equal(heard, curve[[1, 1, 2, 2, 2]])
    silent = form._sounding(curve[3:], -30.0)
    np.testing.assert_array_equal(silent[0], silent[1])
    np.testing.assert_allclose(form._total(silent), -30, atol=1e-6)
    assert form._sounding(curve[:0], -30.0).shape == (0, 2)
