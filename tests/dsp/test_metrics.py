"""metrics.py: distances by hand and against librosa's own STFT, their ends, silence, short signals,
code statistics.
"""

import math
import warnings

import librosa
import numpy as np
import pytest

from vqwave.config import preset
from vqwave.dsp import metrics

RATE = 22050


def noise(samples=RATE, seed=0, scale=0.1):
    return (np.random.default_rng(seed).standard_normal(samples) * scale).astype(np.float32)


def tone(samples=RATE, hz=440.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(samples) / RATE)).astype(np.float32)


@pytest.mark.parametrize(("n_fft", "hop", "window"), metrics.SC_WINDOWS + ((2048, 512, 2048),))
@pytest.mark.parametrize("samples", [5000, 5040, 1])
def test_magnitudes_are_librosas_in_blocks_of_any_size(n_fft, hop, window, samples):
    audio = noise(samples)
    padded = np.pad(audio, n_fft // 2)
    wanted = np.abs(librosa.stft(padded, n_fft=n_fft, hop_length=hop, win_length=window,
                                 center=False)).T
    for frames in (1, 7, 4096):
        got = np.concatenate(list(metrics.magnitudes(audio, n_fft, hop, window, frames)))
        assert got.shape == (1 + samples // hop, n_fft // 2 + 1)
        np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_spectral_convergence_of_a_scaled_copy_is_the_scale():
    x = noise()
    assert metrics.spectral_convergence(x, 0.9 * x) == pytest.approx(-20.0, abs=1e-3)
    assert metrics.spectral_convergence(x, 1.5 * x) == pytest.approx(20 * math.log10(0.5), abs=1e-3)
    assert metrics.spectral_convergence(x, -x) == -120.0  # magnitudes alone


def test_mel_of_a_scaled_copy_is_the_number_of_resolutions_times_its_log():
    x = noise(scale=0.3)  # above the floor in every band
    assert metrics.mel_distance(x, x / 10, RATE) == pytest.approx(2.0, abs=1e-3)


def test_mel_is_of_magnitudes_through_librosas_filters():
    x, y = noise(9000), noise(9000, seed=1)
    wanted = 0.0
    for n_fft, bands in metrics.MEL_BANDS:
        m = [np.log10(np.maximum(librosa.feature.melspectrogram(
            y=s, sr=RATE, n_fft=n_fft, hop_length=n_fft // 4, n_mels=bands, power=1.0), 1e-5))
             for s in (x, y)]
        wanted += np.abs(m[0] - m[1]).mean()
    assert metrics.mel_distance(x, y, RATE) == pytest.approx(wanted, rel=1e-5)


def test_mel_has_an_absolute_floor_so_level_counts_below_it():
    x = noise(scale=0.3)
    silent = np.zeros_like(x)
    louder = metrics.mel_distance(2 * x, silent, RATE) - metrics.mel_distance(x, silent, RATE)
    assert louder == pytest.approx(2 * math.log10(2), abs=1e-3)
    assert metrics.mel_distance(1e-9 * x, silent, RATE) == 0.0


def test_si_sdr_is_the_ratio_of_orthogonal_noise_and_blind_to_scale_and_offset():
    x, e = tone(), tone(hz=880.0, amplitude=0.05)  # whole periods, so orthogonal; 20 dB below
    assert metrics.si_sdr(x, x + e) == pytest.approx(20.0, abs=1e-3)
    assert metrics.si_sdr(x, 0.1 * (x + e) + 0.2) == pytest.approx(20.0, abs=1e-2)
    assert metrics.si_sdr(x, e) < -60
    assert metrics.si_sdr(x, -x) > 100  # a scale too, if a negative one


def test_equal_signals_are_at_the_good_end_and_worse_noise_is_worse():
    x = tone() + noise(scale=0.01)
    assert metrics.distances(x, x, RATE) == {"sc_db": -120.0, "mel": 0.0, "si_sdr_db": 120.0}
    near, far = (metrics.distances(x, x + noise(seed=1, scale=s), RATE) for s in (0.001, 0.05))
    assert near["sc_db"] < far["sc_db"] and near["mel"] < far["mel"] and near["si_sdr_db"] > far["si_sdr_db"]


@pytest.mark.parametrize("samples", [1, 2, 100, 2047, 2048, 5000])
def test_silence_and_short_signals_have_finite_figures(samples):
    silent, constant, loud = np.zeros(samples, np.float32), np.full(samples,
                                                                    0.3, np.float32), noise(samples)
    assert metrics.distances(silent, silent, RATE) == {"sc_db": -120.0,
                                                       "mel": 0.0, "si_sdr_db": 120.0}
    for x, y in [(silent, loud), (loud, silent), (silent, constant), (constant, loud),
                 (loud, constant), (loud, loud)]:
        assert all(math.isfinite(v) and abs(v) <= 120
                   for v in metrics.distances(x, y, RATE).values())
    assert metrics.spectral_convergence(loud, silent) == pytest.approx(0.0, abs=1e-6)
    assert metrics.spectral_convergence(silent, loud) == 120.0
    assert metrics.si_sdr(constant, silent) == 120.0  # less their means, both are silent
    if samples > 1:
        assert metrics.si_sdr(loud, silent) == metrics.si_sdr(silent, loud) == -120.0


@pytest.mark.parametrize("name", ["spectral_convergence", "mel_distance", "si_sdr"])
def test_what_cannot_be_compared_is_refused(name):
    x = noise(100)
    for original, other, why in [
        (x, x[:-1], "equal lengths"), (x[:0], x[:0], "at least one "
                                                     "sample"), (x[None], x[None], "shape"),
        (np.append(x, np.nan), np.append(x, 0), "original holds"),
        (x, np.where(x > 0, np.inf, x), "reconstruction holds"),
    ]:
        with pytest.raises(ValueError, match=why):
            getattr(metrics, name)(original, other, *[RATE] * (name == "mel_distance"))


def test_usage_and_perplexity():
    counts = metrics.histogram(np.array([3, 3, 5, 5]), 8)
    np.testing.assert_array_equal(counts, [0, 0, 0, 2, 0, 2, 0, 0])
    assert metrics.usage(counts) == 0.25
    assert metrics.perplexity(counts) == pytest.approx(2.0)
    assert metrics.perplexity(np.ones(64, int)) == pytest.approx(64.0)
    assert metrics.perplexity([10, 0, 0]) == pytest.approx(1.0)
    p = np.array([6, 3, 1]) / 10
    assert metrics.perplexity([6, 3, 1]) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    for codes in ([], [-1, 0], [0, 8]):
        with pytest.raises(ValueError, match="codes"):
            metrics.histogram(np.array(codes, np.int32), 8)


def test_each_book_has_figures_of_its_own():
    codes = np.stack([np.zeros(8, int), np.arange(8), np.arange(8) // 4], axis=-1)[None]
    counts = metrics.histogram(codes, 8)
    np.testing.assert_array_equal(counts, [[8] + [0] * 7, [1] * 8, [4, 4] + [0] * 6])
    figures = metrics.codebook_figures(counts)
    assert [b["usage"] for b in figures["books"]] == [1 / 8, 1.0, 2 / 8]
    assert [b["perplexity"] for b in figures["books"]] == pytest.approx([1.0, 8.0, 2.0])
    assert figures["usage"] == pytest.approx(11 / 24) and figures["perplexity"] == pytest.approx(11 / 3)
    assert metrics.codebook_figures(counts[1:2]) == {"usage": 1.0, "perplexity": pytest.approx(8.0)}
    assert metrics.codebook_figures(counts[1]) == metrics.codebook_figures(counts[1:2])
    # Codes that share a codebook count together, and those of the first codes alone are its.
    np.testing.assert_array_equal(metrics.histogram(codes, 8, (0, 1, 0)), [counts[0] + counts[2], counts[1]])
    np.testing.assert_array_equal(metrics.histogram(codes[..., :1], 8, (0, 1, 0)), counts[:1])


def test_bitrates_are_those_of_the_levels():
    rates = [preset("compact").codec(level).bitrate / 1000 for level in (8, 32, 128, 512)]
    assert rates == pytest.approx([27.5625, 6.890625, 1.72265625, 0.4306640625])


def test_bits_of_a_model_that_knows_nothing_everything_or_the_wrong_thing():
    assert metrics.bits(np.full((2, 5), -math.log(1024))) == pytest.approx(10.0)
    assert metrics.bits(np.zeros(3)) == 0.0
    assert metrics.bits(np.log([0.5, 0.125])) == pytest.approx(2.0)
    assert metrics.bits(np.array([0.0, -np.inf])) == math.inf
    for bad in ([], [np.nan, 0.0]):
        with pytest.raises(ValueError, match="log_probs"):
            metrics.bits(np.array(bad))


@pytest.mark.parametrize("rate, n_fft, bands, highest", [
    (22050, 1024, 80, None), (22050, 1024, 256, None), (22050, 1024, 512, None),
    (22050, 64, 32, None), (22050, 1024, 80, 700.0), (3000, 256, 100, None), (44100, 512, 128, 8e3)])
def test_mel_filters_without_a_bin_are_counted(rate, n_fft, bands, highest):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa's of empty filters
        filters = metrics.mel_filters(rate, n_fft, bands, highest)
    empty = int((filters.max(axis=1) == 0).sum())
    assert metrics.empty_mel_filters(rate, n_fft, bands, highest) == empty
