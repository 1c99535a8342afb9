"""Spectra with `keras.ops`, for front ends, losses and discriminators.

audio: float32 [batch, samples]. The constant-Q transform and the Hann spectrogram are convolutions
over blocks of `hop` samples, so they export to ONNX.
"""

import functools
import math

import numpy as np
from keras import ops

from ..dsp.notes import PEAK_NEIGHBOURHOOD, PEAK_PROMINENCE_DB, PEAK_RANGE_DB
from ..dsp.spectrum import mel_filters
from ..levels.fields import FULL_SCALE, LOUDNESS_RANGE, MOST_LOUDNESS
from .front_ends import PER_OCTAVE, LogFrequencyFrontEnd

QUALITY = 1.0 / ((2 ** (2 / PER_OCTAVE) - 1) / (2 ** (2 / PER_OCTAVE) + 1))
"""The periods in a window of the constant-Q transform, enough to separate quarter tones."""
DECIBELS = 20 / math.log(10)
"""dB per unit of an amplitude's natural logarithm."""


def magnitude(audio, n_fft: int, hop: int, window: int | None = None):
    """|STFT| with a Hann window, float32 [batch, frames, n_fft / 2 + 1]."""
    real, imag = ops.stft(audio, window or n_fft, hop, n_fft)
    # The floor keeps the root's gradient finite in silence.
    return ops.sqrt(real**2 + imag**2 + 1e-9)


def mel_magnitude(audio, n_fft: int, bands: int, sample_rate: int):
    """Mel bands of the magnitudes, with hop n_fft / 4: float32 [batch, frames, bands]."""
    return ops.matmul(magnitude(audio, n_fft, n_fft // 4), mel_filters(sample_rate, n_fft, bands).T)


def to_blocks(audio, hop: int):
    """audio [batch, T] -> float32 [batch, T / hop, hop]."""
    return ops.reshape(ops.cast(audio, "float32"), (ops.shape(audio)[0], -1, hop))


def windowed_amplitudes(blocks, kernel):
    """Amplitudes of windowed oscillations: blocks [batch, frames, hop] -> float32 [batch, frames,
    bins].

    kernel: float32 [blocks, hop, 2·bins], cosines and then sines under a window that is centred on
    a frame's first sample.
    """
    half_width = len(kernel) // 2
    padded = ops.pad(blocks, [[0, 0], [half_width, half_width - 1], [0, 0]])
    parts, bins = ops.conv(padded, kernel, 1, "valid"), kernel.shape[-1] // 2
    real, imag = parts[..., :bins], parts[..., bins:]
    # The floor, 120 dB under full scale, keeps the root's gradient finite in silence.
    return ops.sqrt(real**2 + imag**2 + 1e-12)


def hann_kernel(n_fft: int, hop: int, bins: int) -> np.ndarray:
    """The first `bins` bins of an STFT as a kernel; a sine of amplitude a gives a."""
    window = 1.0 - np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    angle = 2 * np.pi * np.outer(np.arange(n_fft), np.arange(bins)) / n_fft
    kernel = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * window[:, None]
    kernel *= 2.0 / window.sum()
    return kernel.reshape(n_fft // hop, hop, -1).astype("float32")


class ConstantQ:
    """Amplitudes of quarter tones: audio float32 [batch, T] -> [batch, T / hop, bins]; a sine of
    amplitude a gives a.

    Each bin has a Hann window of `QUALITY` periods, centred on the first sample of a frame (Brown
    1991). Each octave is one convolution, with half the kernel of the octave below.
    """

    def __init__(self, config: LogFrequencyFrontEnd, sample_rate: int):
        self.hop, self.bins = config.hop, config.bins
        frequencies = config.lowest * 2.0 ** (np.arange(self.bins) / PER_OCTAVE)
        lengths = QUALITY * sample_rate / frequencies
        self.kernels = []
        for first in range(0, self.bins, PER_OCTAVE):
            octave = slice(first, first + PER_OCTAVE)
            half = math.ceil(lengths[first] / 2 / self.hop)  # blocks on either side of the centre
            time = np.arange(-half * self.hop, half * self.hop)[:, None]
            window = np.where(np.abs(time) < lengths[octave] / 2,
                              1.0 + np.cos(2 * np.pi * time / lengths[octave]), 0.0)
            window *= 2.0 / window.sum(axis=0)
            angle = 2 * np.pi * frequencies[octave] * time / sample_rate
            kernel = np.concatenate([window * np.cos(angle), window * np.sin(angle)], axis=1)
            self.kernels.append(kernel.reshape(2 * half, self.hop,
                                               2 * PER_OCTAVE).astype("float32"))
        margin = max(len(kernel) for kernel in self.kernels) // 2 * self.hop
        self.receptive_field = (margin, margin)
        """In samples on either side of a frame's first sample."""
        # Longer windows pass less noise, so peaks are scaled by the square root of the window
        # length before they are compared.
        self.emphasis = np.sqrt(lengths).astype("float32")

    def __call__(self, audio):
        blocks = to_blocks(audio, self.hop)
        return ops.concatenate([windowed_amplitudes(blocks, kernel) for kernel in self.kernels],
                               axis=-1)

    def peaks(self, amplitudes):
        """How clearly each bin is a peak, float32 in [0, 1]: amplitudes [batch, frames, bins] ->
        the same shape.

        A peak (0.5 and more) is louder than its neighbours. It is at least `PEAK_PROMINENCE_DB`
        above the median of the `PEAK_NEIGHBOURHOOD` bins around it, and within `PEAK_RANGE_DB` of
        the frame's loudest bin, all after `emphasis`. A frame below -70 dB has no peaks. Within a
        quarter of a dB of a bound the value is continuous, so that rounding does not change codes.
        """
        decibels = ops.log(amplitudes * self.emphasis) * DECIBELS
        centre = PEAK_NEIGHBOURHOOD // 2
        neighbours = neighbourhoods(decibels, PEAK_NEIGHBOURHOOD)
        median = ops.top_k(neighbours, centre + 1)[0][..., -1]
        top = ops.max(decibels, axis=-1, keepdims=True)
        nearest = ops.maximum(neighbours[..., centre - 1], neighbours[..., centre + 1])
        margin = ops.minimum(decibels - nearest, decibels - median - PEAK_PROMINENCE_DB)
        loudest = ops.log(ops.max(amplitudes, axis=-1, keepdims=True)) * DECIBELS
        margin = ops.minimum(margin, ops.minimum(decibels - top + PEAK_RANGE_DB, loudest + 70.0))
        # The first and the last bin have only one neighbour, so they are never peaks.
        inner = np.zeros(self.bins, "float32")
        inner[1:-1] = 1.0
        return ops.clip(2.0 * margin + 0.5, 0.0, 1.0) * inner


@functools.lru_cache
def constant_q(sample_rate: int, grid: LogFrequencyFrontEnd) -> ConstantQ:
    """The constant-Q transform of a grid's quarter tones below half the sample rate, at the default
    hop.
    """
    octaves = min(grid.octaves, int(np.log2(sample_rate / 2 / grid.lowest)))
    return ConstantQ(LogFrequencyFrontEnd(lowest=grid.lowest, octaves=octaves), sample_rate)


def neighbourhoods(x, count: int):
    """The `count` (odd) bins around each bin: [..., bins] -> [..., bins, count], the bin itself in
    the middle. The outermost bins are repeated beyond the ends.
    """
    half_width, bins = count // 2, x.shape[-1]
    padded = ops.concatenate([x[..., :1]] * half_width + [x] + [x[..., -1:]] * half_width, axis=-1)
    return ops.stack([padded[..., i : i + bins] for i in range(count)], axis=-1)


def larger_neighbour(x, outside: float):
    """The larger neighbour of each bin [..., bins]. outside: the value beyond the ends."""
    border = ops.full_like(x[..., :1], outside)
    return ops.maximum(ops.concatenate([border, x[..., :-1]], axis=-1),
                       ops.concatenate([x[..., 1:], border], axis=-1))


def loudness_of(amplitudes):
    """Amplitudes -> loudness over `LOUDNESS_RANGE` dB: 0.1 at -80 dB, 1.1 for a full-scale sine."""
    decibels = ops.log(amplitudes) * DECIBELS
    return ops.clip((decibels + LOUDNESS_RANGE) / LOUDNESS_RANGE, -0.1, 1.2) + 0.1


def amplitude_of(loudness):
    """The inverse of `loudness_of`."""
    below = ops.clip(loudness, 0.0, MOST_LOUDNESS) - FULL_SCALE
    return ops.exp(below * (LOUDNESS_RANGE * math.log(10) / 20))
