import math

import numpy as np
import pytest
from encoded import tone
from scipy import signal

from vqwave.dsp import metrics, spectrum

RATE = 22050


def noise(samples=RATE, seed=0, scale=0.1):
    return (np.random.default_rng(seed).standard_normal(samples) * scale).astype(np.float32)


def distances(x, y):
    return (metrics.spectral_convergence(x, y), metrics.mel_distance(x, y, RATE), metrics.si_sdr(x, y))


@pytest.mark.parametrize(("n_fft", "hop", "window"), metrics.SC_WINDOWS + ((2048, 512, 2048),))
@pytest.mark.parametrize("samples", [5000, 5040, 1])
def test_magnitudes_are_of_hann_windows_in_blocks_of_any_size(n_fft, hop, window, samples):
    audio = noise(samples)
    padded, left = np.pad(audio, n_fft // 2), (n_fft - window) // 2
    hann = np.zeros(n_fft)
    hann[left : left + window] = signal.get_window("hann", window)
    expected = np.abs([np.fft.rfft(hann * padded[t * hop :][:n_fft]) for t in range(1 + samples // hop)])
    for frames in (1, 7, 4096):
        blocks = np.concatenate(list(spectrum.magnitudes(audio, n_fft, hop, window, frames)))
        assert blocks.shape == (1 + samples // hop, n_fft // 2 + 1)
        np.testing.assert_allclose(blocks, expected, atol=1e-4)


def test_spectral_convergence_of_a_scaled_copy_is_the_scale():
    x = noise()
    assert metrics.spectral_convergence(x, 0.9 * x) == pytest.approx(-20.0, abs=1e-3)
    assert metrics.spectral_convergence(x, 1.5 * x) == pytest.approx(20 * math.log10(0.5), abs=1e-3)
    assert metrics.spectral_convergence(x, -x) == -120.0  # phases do not count


def test_mel_is_of_magnitudes_through_mel_filters():
    x, y = noise(9000), noise(9000, seed=1)
    expected = 0.0
    for n_fft, bands in metrics.MEL_BANDS:
        filters = spectrum.mel_filters(RATE, n_fft, bands)  # librosa's, see test_librosa.py
        a, b = (np.log10(np.maximum(
            np.concatenate(list(spectrum.magnitudes(s, n_fft, n_fft // 4))) @ filters.T, 1e-5))
            for s in (x, y))
        expected += np.abs(a - b).mean()
    assert metrics.mel_distance(x, y, RATE) == pytest.approx(expected, rel=1e-5)


def test_si_sdr_is_the_ratio_of_orthogonal_noise_and_deaf_to_scale_and_offset():
    x, error = tone(1.0, RATE), tone(1.0, RATE, 880.0, 0.05)  # whole periods, so orthogonal; 20 dB below
    assert metrics.si_sdr(x, x + error) == pytest.approx(20.0, abs=1e-3)
    assert metrics.si_sdr(x, 0.1 * (x + error) + 0.2) == pytest.approx(20.0, abs=1e-2)
    assert metrics.si_sdr(x, error) < -60
    assert metrics.si_sdr(x, -x) > 100  # a negative scale is a scale


@pytest.mark.parametrize("samples", [1, 100, 2048, 5000])
def test_silence_and_short_signals_have_finite_figures(samples):
    silent, constant = np.zeros(samples, np.float32), np.full(samples, 0.3, np.float32)
    loud = noise(samples)
    assert distances(silent, silent) == (-120.0, 0.0, 120.0)
    for x, y in [(silent, loud), (loud, silent), (silent, constant), (constant, loud),
                 (loud, constant), (loud, loud)]:
        assert all(abs(value) <= 120 for value in distances(x, y))
    assert metrics.spectral_convergence(loud, silent) == pytest.approx(0.0, abs=1e-6)
    assert metrics.spectral_convergence(silent, loud) == 120.0
    assert metrics.si_sdr(constant, silent) == 120.0  # less their means, both are silent
    if samples > 1:
        assert metrics.si_sdr(loud, silent) == metrics.si_sdr(silent, loud) == -120.0


def test_usage_and_perplexity_follow_their_definitions():
    counts = metrics.histogram(np.array([3, 3, 5, 5]), 8)
    np.testing.assert_array_equal(counts, [0, 0, 0, 2, 0, 2, 0, 0])
    assert metrics.usage(counts) == 0.25
    assert metrics.perplexity(counts) == pytest.approx(2.0)
    p = np.array([6, 3, 1]) / 10
    assert metrics.perplexity([6, 3, 1]) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    for codes in ([], [-1, 0], [0, 8]):
        with pytest.raises(ValueError, match="codes"):
            metrics.histogram(np.array(codes, np.int32), 8)
