"""Front ends: what the encoder sees of the audio, one class for each kind of the config's
`front_end`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from keras import layers, ops

from ..config import (
    LEVEL_RANGE,
    PER_OCTAVE,
    Config,
    LogFrequencyFrontEnd,
    SpectrogramFrontEnd,
    WaveformFrontEnd,
)
from ..dsp.metrics import PEAK_NEIGHBOURHOOD, PEAK_PROMINENCE_DB, PEAK_RANGE_DB, mean_filters
from .layers import register


@register
class WaveformInput(layers.Reshape):
    """audio float32 [batch, T] -> [batch, T, 1]: the samples themselves, as one channel.

    What every front end offers: `call` (analyse), `hop` in samples a step, `channels` of a step and
    `receptive_field`, (left, right) in samples.
    """

    hop, channels, receptive_field = 1, 1, (0, 0)

    def __init__(self, target_shape=(-1, 1), **kwargs):
        super().__init__(target_shape, **kwargs)


QUALITY = 1.0 / ((2 ** (2 / PER_OCTAVE) - 1) / (2 ** (2 / PER_OCTAVE) + 1))
"""Periods in a window of the constant-Q transform: neighbouring quarter tones are told apart."""


class ConstantQ:
    """Amplitudes of quarter tones: audio float32 [batch, T] -> [batch, T / hop, bins], a sine of
    amplitude a giving a.

    A Hann window of `QUALITY` periods for each bin, centred on the first sample of a frame (Brown
    1991). Each octave is one convolution over blocks of `hop` samples, half as long as that of the
    octave below, so that it costs little and exports to ONNX.
    """

    def __init__(self, config: LogFrequencyFrontEnd, sample_rate: int):
        self.hop, self.bins = config.hop, config.bins
        frequencies = config.lowest * 2.0 ** (np.arange(self.bins) / PER_OCTAVE)
        lengths = QUALITY * sample_rate / frequencies
        self.kernels = []
        for first in range(0, self.bins, PER_OCTAVE):
            one = slice(first, first + PER_OCTAVE)
            half = math.ceil(lengths[first] / 2 / self.hop)  # blocks to either side of the centre
            time = np.arange(-half * self.hop, half * self.hop)[:, None]
            window = np.where(np.abs(time) < lengths[one] / 2,
                              1.0 + np.cos(2 * np.pi * time / lengths[one]), 0.0)
            window *= 2.0 / window.sum(axis=0)
            angle = 2 * np.pi * frequencies[one] * time / sample_rate
            kernel = np.concatenate([window * np.cos(angle), window * np.sin(angle)], axis=1)
            self.kernels.append(kernel.reshape(2 * half, self.hop,
                                               2 * PER_OCTAVE).astype("float32"))
        self.reach = max(len(kernel) for kernel in self.kernels) // 2
        """Blocks to either side of a frame's first sample that it sees."""
        # Long windows let noise through less: what stands out of it is judged by the root of their
        # length.
        self.emphasis = np.sqrt(lengths).astype("float32")

    def __call__(self, audio):
        blocks = ops.reshape(ops.cast(audio, "float32"), (ops.shape(audio)[0], -1, self.hop))
        octaves = []
        for kernel in self.kernels:
            half = len(kernel) // 2
            around = ops.pad(blocks, [[0, 0], [half, half - 1], [0, 0]])
            parts = ops.conv(around, kernel, 1, "valid")
            real, imag = parts[..., :PER_OCTAVE], parts[..., PER_OCTAVE:]
            # The floor, 120 dB under full scale, keeps the root's gradient finite in silence.
            octaves.append(ops.sqrt(real**2 + imag**2 + 1e-12))
        return ops.concatenate(octaves, axis=-1)

    def peaks(self, amplitudes):
        """How much of a peak each bin is, float32 in [0, 1]: amplitudes [batch, frames, bins] ->
        the same shape.

        A peak, 0.5 and more, is louder than its neighbours, stands `PEAK_PROMINENCE_DB` over the
        median of the `PEAK_NEIGHBOURHOOD` bins around it and lies within `PEAK_RANGE_DB` of its
        frame's loudest, all judged with `emphasis`; a frame under -70 dB has none. Within a
        quarter of a dB of any of these bounds there is no jump, so that rounding makes no other
        codes.
        """
        level = ops.log(amplitudes * self.emphasis) * (20 / math.log(10))
        side = PEAK_NEIGHBOURHOOD // 2
        shifted = neighbourhoods(level, PEAK_NEIGHBOURHOOD)
        median = ops.top_k(shifted, side + 1)[0][..., -1]
        top = ops.max(level, axis=-1, keepdims=True)
        margin = ops.minimum(level - ops.maximum(shifted[..., side - 1], shifted[..., side + 1]),
                             level - median - PEAK_PROMINENCE_DB)
        loudest = ops.log(ops.max(amplitudes, axis=-1, keepdims=True)) * (20 / math.log(10))
        margin = ops.minimum(margin, ops.minimum(level - top + PEAK_RANGE_DB, loudest + 70.0))
        # The first and the last bin have one neighbour only.
        inner = np.zeros(self.bins, "float32")
        inner[1:-1] = 1.0
        return ops.clip(2.0 * margin + 0.5, 0.0, 1.0) * inner


def neighbourhoods(x, count: int):
    """What lies around each bin: [..., bins] -> [..., bins, count], the bin itself in the middle of
    an odd count; the outermost bins stand beyond the ends.
    """
    side, bins = count // 2, x.shape[-1]
    around = ops.concatenate([x[..., :1]] * side + [x] + [x[..., -1:]] * side, axis=-1)
    return ops.stack([around[..., i : i + bins] for i in range(count)], axis=-1)


def level_of(amplitudes):
    """Amplitudes -> levels over `LEVEL_RANGE` dB under full scale, 0.1 at its bottom, 1.1 for a
    full-scale sine.
    """
    decibels = ops.log(amplitudes) * (20 / math.log(10))
    return ops.clip((decibels + LEVEL_RANGE) / LEVEL_RANGE, -0.1, 1.2) + 0.1


def amplitude_of(levels):
    """What `level_of` undoes, for levels up to 1.3."""
    return ops.exp((ops.clip(levels, 0.0, 1.3) - 1.1) * (LEVEL_RANGE * math.log(10) / 20))


@register
class LogFrequencySpectrum(layers.Layer):
    """audio float32 [batch, T] -> float32 [batch, T / hop, 2·bins]: levels of the quarter tones,
    and the same at peaks only.

    Stays in float32 under mixed precision.
    """

    def __init__(self, hop: int, lowest: float, octaves: int, sample_rate: int, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.settings = {"hop": hop, "lowest": lowest, "octaves": octaves,
                         "sample_rate": sample_rate}
        self.transform = ConstantQ(LogFrequencyFrontEnd(hop=hop, lowest=lowest, octaves=octaves),
                                   sample_rate)
        self.hop, self.channels = hop, 2 * self.transform.bins

    @property
    def receptive_field(self) -> tuple[int, int]:
        reach = self.transform.reach * self.hop
        return reach, reach

    def call(self, audio):
        amplitudes = self.transform(audio)
        levels = level_of(amplitudes)
        return ops.concatenate([levels, levels * self.transform.peaks(amplitudes)], axis=-1)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] // self.hop, self.channels)

    def get_config(self):
        return super().get_config() | self.settings


def _log_frequency(config: LogFrequencyFrontEnd, sample_rate: int):
    return LogFrequencySpectrum(config.hop, config.lowest, config.octaves,
                                sample_rate, name="log_frequency")


@register
class Spectrogram(layers.Layer):
    """audio float32 [batch, T] -> float32 [batch, T / hop, channels]: levels, see `level_of`, of
    the bins of a Hann window centred on a frame's first sample, without that at half the sample
    rate, or of mel bands, each the weighted mean of its bins.

    One convolution over blocks of `hop` samples, so that it exports to ONNX. Stays in float32 under
    mixed precision.
    """

    def __init__(self, hop: int, n_fft: int, mels: int, highest: float | None, sample_rate: int,
                 **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.settings = {"hop": hop, "n_fft": n_fft, "mels": mels, "highest": highest,
                         "sample_rate": sample_rate}
        config = SpectrogramFrontEnd(hop=hop, n_fft=n_fft, mels=mels, highest=highest)
        self.hop, self.channels, self.half = hop, config.channels, n_fft // 2 // hop
        window = 1.0 - np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
        bins = n_fft // 2 + 1 if mels else config.channels
        angle = 2 * np.pi * np.outer(np.arange(n_fft), np.arange(bins)) / n_fft
        kernel = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * window[:, None]
        # A sine of amplitude a gives a.
        kernel *= 2.0 / window.sum()
        self.kernel = kernel.reshape(2 * self.half, hop, -1).astype("float32")
        self.filters = mean_filters(sample_rate, n_fft, mels, highest).T if mels else None

    @property
    def receptive_field(self) -> tuple[int, int]:
        return self.half * self.hop, self.half * self.hop

    def call(self, audio):
        blocks = ops.reshape(ops.cast(audio, "float32"), (ops.shape(audio)[0], -1, self.hop))
        around = ops.pad(blocks, [[0, 0], [self.half, self.half - 1], [0, 0]])
        real, imag = ops.split(ops.conv(around, self.kernel, 1, "valid"), 2, axis=-1)
        # The floor, 120 dB under full scale, keeps the root's gradient finite in silence.
        amplitudes = ops.sqrt(real**2 + imag**2 + 1e-12)
        if self.filters is not None:
            amplitudes = ops.matmul(amplitudes, self.filters)
        return level_of(amplitudes)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] // self.hop, self.channels)

    def get_config(self):
        return super().get_config() | self.settings


def _spectrogram(config: SpectrogramFrontEnd, sample_rate: int):
    return Spectrogram(config.hop, config.n_fft, config.mels, config.highest, sample_rate,
                       name="spectrogram")


FRONT_ENDS: dict[type[Config], Callable] = {
    WaveformFrontEnd: lambda config, sample_rate: WaveformInput(name="channel"),
    LogFrequencyFrontEnd: _log_frequency, SpectrogramFrontEnd: _spectrogram,
}
"""The layer of each kind of front end: (config, sample rate) -> layer."""
