"""report/health.py: faults of a piece."""

import numpy as np
import pytest

from vqwave.report import health

RATE = 22050


def vitals(sound, codes=None):
    return health.vitals(np.asarray(sound, np.float32), {512: np.arange(50)}
                         if codes is None else codes, RATE)


def test_what_ails_a_piece_is_said(rng):
    minute = 60 * RATE
    alive = 0.1 * rng.normal(size=minute)
    assert health.ailments(vitals(alive)) == []
    dead = alive.copy()
    dead[minute // 2 :] = 0
    assert health.ailments(vitals(dead)) == ["silent for 30 s (peaks of -120 dBFS)",
                                             "ends in silence"]
    paused = alive.copy()
    paused[minute // 2 : minute // 2 + 10 * RATE] = 0
    assert health.ailments(vitals(paused)) == []
    assert any("dBFS over ten seconds" in a for a in health.ailments(vitals(np.sign(alive))))
    assert any("at full scale" in a for a in health.ailments(vitals(np.clip(4 * alive, -1, 1))))
    loop = np.tile(rng.permutation(1024)[:430], 6)  # ten seconds, over and over
    assert health.ailments(vitals(alive, {512: loop})) == ["50 s repeated exactly at 512x"]


def test_a_pause_is_heard_by_rms_whatever_its_peaks(rng):
    """What a codec makes of digital silence: -66 dBFS with a tick of -48 in every tenth of a
    second.
    """
    alive = 0.1 * rng.normal(size=60 * RATE)
    hiss = 10 ** (-70 / 20) * rng.normal(size=25 * RATE)
    hiss[:: RATE // 10] = 10 ** (-48 / 20)
    alive[10 * RATE : 35 * RATE] = hiss
    figures = vitals(alive)
    assert figures["pause"] == pytest.approx(25,
                                             abs=0.21) and figures["pause_at"] == pytest.approx(10,
                                                                                                abs=0.11)
    assert figures["pause_peak_db"] == pytest.approx(-48, abs=0.1)
    assert health.ailments(figures) == ["silent for 25 s (peaks of -48 dBFS)"]
    assert figures["pause_inside"] == pytest.approx(25, abs=0.21)
    assert vitals(0.1 * rng.normal(size=RATE))["pause_peak_db"] is None


def test_silence_at_the_ends_is_no_pause_inside(rng):
    piece = 0.1 * rng.normal(size=30 * RATE)
    piece[: 8 * RATE] = piece[-9 * RATE :] = 0
    piece[15 * RATE : 17 * RATE] = 0
    figures = vitals(piece)
    assert figures["pause"] == pytest.approx(9,
                                             abs=0.11) and figures["pause_inside"] == pytest.approx(2, abs=0.21)
    assert vitals(np.zeros(5 * RATE))["pause_inside"] == 0
