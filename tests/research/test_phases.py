import librosa
import numpy as np
import pytest
from research import phases

from vqwave.dsp import metrics

RATE = 22050
T = np.arange(RATE) / RATE


def magnitudes(sound, window, hop):
    return np.abs(librosa.stft(sound, n_fft=window, hop_length=hop))


@pytest.mark.parametrize("window, hop", [(2048, 512), (1024, 256)])
def test_tones_come_back_from_their_magnitudes(window, hop):
    sound = sum(0.1 * np.sin(2 * np.pi * hertz * T) for hertz in (330.0, 1000.0, 2501.0, 5000.0))
    given = magnitudes(sound, window, hop)
    copy = phases.sound_of_magnitudes(given, window, hop, len(sound))
    random = np.exp(2j * np.pi * np.random.default_rng(0).random(given.shape))
    without = librosa.istft(given * random, hop_length=hop, n_fft=window, length=len(sound))
    assert metrics.spectral_convergence(sound, copy) < -15
    assert metrics.spectral_convergence(sound, without) > -8


def test_a_click_comes_back_in_its_place():
    sound = np.zeros(RATE // 2)
    sound[6000] = 1.0
    copy = phases.sound_of_magnitudes(magnitudes(sound, 1024, 256), 1024, 256, len(sound))
    assert np.square(copy[5950:6050]).sum() > 0.9 * np.square(copy).sum(), "within 2 ms"


def test_the_phase_of_a_tone_advances_by_its_frequency():
    sound, bin_of_tone = np.sin(2 * np.pi * 1000 * T), round(1000 * 2048 / RATE)
    to_next_frame, _ = phases.phase_steps(magnitudes(sound, 2048, 512).T, 2048, 512)
    np.testing.assert_allclose(to_next_frame[5:-5, bin_of_tone], 2 * np.pi * 1000 * 512 / RATE, atol=0.05)
