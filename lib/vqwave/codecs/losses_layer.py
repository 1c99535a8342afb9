"""The terms of a codec's loss that compare a reconstruction with its recording.

x: the recording; y: the reconstruction; both float32 [batch, samples]. All terms are dimensionless.
"""

from collections.abc import Callable

import numpy as np
from keras import ops

from ..dsp.clarity import CONTRAST_BANDS
from ..dsp.metrics import MEL_BANDS as MEL_SCALES
from ..dsp.metrics import MEL_FLOOR, SC_WINDOWS
from . import spectrum_layer as spectrum
from .codec import CodecConfig
from .front_ends import LogFrequencyFrontEnd
from .losses import LossConfig
from .spectrum_layer import loudness_of, magnitude, mel_magnitude

# (n_fft, hop, window): as in the SC metric, but at twice the hop, for half the cost.
STFT_SCALES = tuple((n_fft, 2 * hop, window) for n_fft, hop, window in SC_WINDOWS)
# In samples. An STFT reflects half a window at each end, so the audio must be longer.
SHORTEST_AUDIO = max(scale[0] for scale in STFT_SCALES + MEL_SCALES) // 2 + 1
MULTI_MEL_SCALES = tuple((n_fft, min(64, n_fft // 8)) for n_fft in (64, 128, 256, 512, 1024, 2048))
# The hop of the term constant_q, and its quarter tones for codecs without such a front end.
CONSTANT_Q = LogFrequencyFrontEnd()
# Bins between two spectral lines at multiples of the code rate; the bins of a line under a Hann
# window, and the bins beside the line.
LINE_BINS = 16
LINE, BESIDE = np.array([-1, 0, 1]), np.array([-7, -6, -5, 5, 6, 7])


def reconstruction_terms(x, y, sample_rate: int) -> dict:
    """The terms that are always in the log, by their names in `LossConfig`.

    spectral_convergence: ‖|S(x)|−|S(y)|‖_F / ‖|S(x)|‖_F; log_magnitude: mean |ln|S(x)| − ln|S(y)||,
    both averaged over the scales (Arık et al. 2019, Yamamoto et al. 2020). mel: the sum of
    `mel_distances`. waveform: mean (x−y)² / mean x².
    """
    convergence, log_magnitude = [], []
    for scale in STFT_SCALES:
        a, b = magnitude(x, *scale), magnitude(y, *scale)
        error, power = ops.sum((a - b) ** 2), ops.sum(a**2)
        convergence.append(ops.sqrt(error + 1e-9) / (ops.sqrt(power) + 1e-3))
        log_magnitude.append(ops.mean(ops.abs(ops.log(a + 1e-3) - ops.log(b + 1e-3))))
    return {
        "spectral_convergence": sum(convergence) / len(convergence),
        "log_magnitude": sum(log_magnitude) / len(log_magnitude),
        "mel": sum(mel_distances(x, y, MEL_SCALES, sample_rate)),
        "waveform": ops.mean((x - y) ** 2) / (ops.mean(x**2) + 1e-6),
    }


def mel_distances(x, y, scales, sample_rate: int) -> list:
    """mean |log10 M(x) − log10 M(y)| of each scale (n_fft, bands); M as in `metrics.mel_distance`.
    """
    distances = []
    for n_fft, bands in scales:
        a, b = (mel_magnitude(audio, n_fft, bands, sample_rate) for audio in (x, y))
        distances.append(ops.mean(ops.abs(ops.log10(a + MEL_FLOOR) - ops.log10(b + MEL_FLOOR))))
    return distances


def multi_mel(x, y, sample_rate: int):
    """`mel_distances` averaged over SoundStream's scales (Zeghidour et al. 2021, III.E)."""
    return sum(mel_distances(x, y, MULTI_MEL_SCALES, sample_rate)) / len(MULTI_MEL_SCALES)


def hum(x, y, level: int):
    """The difference between y and x in the height of the spectral lines at multiples of the code
    rate: mean over k of (e_k(y) − e_k(x))².

    e_k = ln(P_k / P beside line k), where P is the batch's power spectrum over all samples and line
    k is at k/level of the sample rate. The floor of P is 80 dB below x's maximum. The length of x
    is a multiple of level, at least `LINE_BINS` times level.
    """
    samples = x.shape[-1]
    lines = np.arange(samples // level, samples // 2 - LINE_BINS // 2, samples // level)

    def excess(power):
        at, beside = (ops.mean(ops.take(power, lines[:, None] + bins), axis=1)
                      for bins in (LINE, BESIDE))
        return ops.log(at) - ops.log(beside)

    spectra = (ops.rfft(audio * np.hanning(samples).astype("float32")) for audio in (x, y))
    original, reconstruction = (ops.sum(real**2 + imag**2, axis=0) for real, imag in spectra)
    floor = 1e-8 * ops.max(original) + 1e-9
    return ops.mean((excess(reconstruction + floor) - excess(original + floor)) ** 2)


def constant_q(x, y, config: CodecConfig):
    """Mean |difference| of the loudness of quarter tones, in units of 80 dB. The quarter tones are
    those of the codec's front end, or `CONSTANT_Q`. The length of x is a multiple of
    `CONSTANT_Q.hop`.
    """
    front_end = config.front_end
    grid = front_end if isinstance(front_end, LogFrequencyFrontEnd) else CONSTANT_Q
    transform = spectrum.constant_q(config.sample_rate, grid)
    before, after = (loudness_of(transform(audio)) for audio in (x, y))
    return ops.mean(ops.abs(before - after))


def channel_average(x, averages):
    """The distance of the mean channel of each up-sampling stage from the recording at its rate.

    averages: of each stage, the mean m of its channels, float32 [batch, samples / hop]. Returns the
    mean over stages of mean (m − d)² / mean d², where d is the mean of x over each step of m.
    """
    terms = []
    for average in averages:
        batch, steps = ops.shape(average)[:2]
        target = ops.mean(ops.reshape(x, (batch, steps, -1)), axis=-1)
        average = ops.cast(average, "float32")
        terms.append(ops.mean((average - target) ** 2) / (ops.mean(target**2) + 1e-6))
    return sum(terms) / len(terms)


FLUX = ((1024, 64), (512, 32))
"""(window in samples, number of mel bands) of the term `flux`."""


def flux(x, y, sample_rate: int):
    """Mean |Δ ln M(x) − Δ ln M(y)|, where Δ is the change over two frames: attacks and decays.

    The floor of M is 60 dB below the loudest band of each recording.
    """
    terms = []
    for n_fft, bands in FLUX:
        a, b = (mel_magnitude(audio, n_fft, bands, sample_rate) for audio in (x, y))
        floor = 1e-3 * ops.max(a, axis=(1, 2), keepdims=True) + 1e-5
        a, b = ops.log(a + floor), ops.log(b + floor)
        terms.append(ops.mean(ops.abs((a[:, 2:] - a[:, :-2]) - (b[:, 2:] - b[:, :-2]))))
    return sum(terms) / len(terms)


CONTRAST_WINDOW, CONTRAST_EDGES = 2048, (*CONTRAST_BANDS[1:], 2 * CONTRAST_BANDS[-1])
"""The window of the term `contrast` in samples, and the edges of its bands in Hz."""


def contrast(x, y, sample_rate: int):
    """Mean |ln S(x) − ln S(y)| of magnitudes that are sorted within each band of a frame: how far
    peaks stand above valleys, wherever they stand. This is the distance of two distributions
    (Wasserstein, of order 1), so noise does not help to be near what cannot be predicted.
    """
    edges = np.array(CONTRAST_EDGES) * CONTRAST_WINDOW // sample_rate
    logs = [ops.log(magnitude(audio, CONTRAST_WINDOW, CONTRAST_WINDOW // 4)
                    * (4.0 / CONTRAST_WINDOW) + 1e-5) for audio in (x, y)]
    bands = zip(*(ops.split(log, edges.tolist(), axis=-1) for log in logs), strict=True)
    terms = [ops.mean(ops.abs(ops.sort(a, axis=-1) - ops.sort(b, axis=-1))) for a, b in bands]
    return sum(terms) / len(terms)


LOSS_TERMS: dict[tuple[str, ...], Callable] = {
    ("spectral_convergence", "log_magnitude", "mel", "waveform"):
        lambda x, y, config: reconstruction_terms(x, y, config.sample_rate),
    ("multi_mel",): lambda x, y, config: {"multi_mel": multi_mel(x, y, config.sample_rate)},
    ("hum",): lambda x, y, config: {"hum": hum(x, y, config.level)},
    ("flux",): lambda x, y, config: {"flux": flux(x, y, config.sample_rate)},
    ("constant_q",): lambda x, y, config: {"constant_q": constant_q(x, y, config)},
    ("contrast",): lambda x, y, config: {"contrast": contrast(x, y, config.sample_rate)},
}
"""Names of terms in `LossConfig`, and their function: (x, y, codec config) -> terms by name. The
first terms are always computed, for the log; the others only if they have a weight.
"""
DISTRIBUTIONS = ("contrast",)
"""The terms that do not compare bin with bin."""


def terms_of(loss: LossConfig) -> dict[tuple[str, ...], Callable]:
    """The entries of `LOSS_TERMS` that a loss uses."""
    first = next(iter(LOSS_TERMS))
    return {names: compute for names, compute in LOSS_TERMS.items()
            if names == first or any(getattr(loss, name) for name in names)}
