import numpy as np
import pytest
from research import phases

from vqwave.dsp import metrics

RATE = 22050
T = np.arange(RATE) / RATE


@pytest.mark.parametrize("window, hop", [(2048, 512), (1024, 256)])
def test_tones_come_back_from_their_magnitudes(window, hop, monkeypatch):
    sound = sum(0.1 * np.sin(2 * np.pi * hertz * T) for hertz in (330.0, 1000.0, 2501.0, 5000.0))
    copy = phases.resynthesise(sound, window, hop)
    monkeypatch.setattr(phases, "TOLERANCE", 1.0)  # random phases
    assert metrics.spectral_convergence(sound, copy) < -15
    assert metrics.spectral_convergence(sound, phases.resynthesise(sound, window, hop)) > -8


def test_a_click_comes_back_in_its_place():
    sound = np.zeros(RATE // 2)
    sound[6000] = 1.0
    copy = phases.resynthesise(sound, 1024, 256)
    assert np.square(copy[5950:6050]).sum() > 0.9 * np.square(copy).sum(), "within 2 ms"
