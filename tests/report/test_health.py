import numpy as np
import pytest

from vqwave.report import health

RATE = 22050


def measure(sound):
    return health.measure(np.asarray(sound, np.float32), RATE)


def test_faults_are_named(rng):
    noise = 0.1 * rng.normal(size=60 * RATE)
    ending, pausing = noise.copy(), noise.copy()
    ending[30 * RATE :] = 0
    pausing[30 * RATE : 40 * RATE] = 0
    for figures, faults in (
            (measure(noise), []), (measure(pausing), []),
            (measure(ending), ["silent for 30 s (peaks of -120 dBFS)", "ends in silence"])):
        assert health.find_faults(figures) == faults
    assert any("over ten seconds" in x for x in health.find_faults(measure(np.sign(noise))))
    assert any("at full scale" in x for x in health.find_faults(measure(np.clip(4 * noise, -1, 1))))


def test_a_pause_is_measured_by_rms_not_by_its_peaks(rng):
    """A codec's copy of digital silence: -66 dBFS with ticks of -48 dBFS every tenth of a second."""
    noise = 0.1 * rng.normal(size=60 * RATE)
    hiss = 10 ** (-70 / 20) * rng.normal(size=25 * RATE)
    hiss[:: RATE // 10] = 10 ** (-48 / 20)
    noise[10 * RATE : 35 * RATE] = hiss
    figures = measure(noise)
    assert figures["pause"] == pytest.approx(25, abs=0.21)
    assert figures["pause_peak_db"] == pytest.approx(-48, abs=0.1)
    assert health.find_faults(figures) == ["silent for 25 s (peaks of -48 dBFS)"]
    assert figures["pause_inside"] == pytest.approx(25, abs=0.21)
    assert measure(0.1 * rng.normal(size=RATE))["pause_peak_db"] is None
