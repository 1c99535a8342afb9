"""Gains of a few frequency bands in units of `spectrum_layer.loudness_of`, for codecs with codes of
gain and codes of shape. They are measured before the encoder, and restored by the decoder.
"""

import math

import numpy as np
from keras import layers, ops

from .codec import CodecConfig
from .front_ends import PER_OCTAVE
from .spectrum_layer import loudness_of

TAPS = 255
"""The length, in samples, of the filters that split audio into gain bands."""
PHASES = 16
"""The samples that a step of these filters computes together."""


class FilterBank:
    """Filters of audio, float [bands, TAPS], centred: audio float32 [batch, T] -> float32 [batch,
    T, bands]; T a multiple of the hop.

    Computed as a convolution of blocks of up to `PHASES` samples, because convolutions of one
    channel are slow.
    """

    def __init__(self, filters: np.ndarray, hop: int):
        self.bands, phases = len(filters), math.gcd(hop, PHASES)
        side = -(-(TAPS // 2) // phases)
        place = np.arange((2 * side + 1) * phases)[:, None] - np.arange(phases)
        place += TAPS // 2 - side * phases
        taps = np.where((place >= 0) & (place < TAPS), filters[:, np.clip(place, 0, TAPS - 1)], 0)
        self.kernel = taps.transpose(1, 2, 0).reshape(
            2 * side + 1, phases, phases * self.bands).astype("float32")

    def __call__(self, audio):
        blocks = ops.reshape(audio, (ops.shape(audio)[0], -1, self.kernel.shape[1]))
        bands = ops.conv(blocks, self.kernel, 1, "same")
        return ops.reshape(bands, (ops.shape(bands)[0], -1, self.bands))


class BandGains:
    """Splits audio into gain bands, whose sum is the audio. edges: the frequencies between bands,
    in Hz. The gain of a band is its loudness under a Hann window of 2·hop samples, centred on a
    frame's first sample.
    """

    def __init__(self, edges, hop: int, sample_rate: int):
        self.hop, self.bands = hop, len(edges) + 1
        time = np.arange(TAPS) - TAPS // 2
        window = np.hanning(TAPS + 2)[1:-1]
        low_passes = [np.sinc(2 * edge / sample_rate * time) * 2 * edge / sample_rate * window
                      for edge in edges]
        filters = np.diff([np.zeros(TAPS), *low_passes, (time == 0).astype(float)], axis=0)
        self.filters = FilterBank(filters, hop)
        weights = np.hanning(2 * hop + 1)[:-1]
        self.weights = (weights / weights.sum()).reshape(2, hop).astype("float32")

    def split(self, audio):
        """audio float32 [batch, T] -> float32 [batch, T, bands]; T a multiple of the hop."""
        return self.filters(audio)

    def gains(self, bands):
        """bands float32 [batch, T, bands] -> gains [batch, T / hop, bands]."""
        power = ops.reshape(bands**2, (ops.shape(bands)[0], -1, self.hop, self.bands))
        halves = ops.matmul(self.weights, power)
        power = halves[:, :, 1] + ops.pad(halves[:, :, 0], [[0, 0], [1, 0], [0, 0]])[:, :-1]
        return loudness_of(ops.sqrt(power + 1e-9))


class FeaturesAndGains(layers.Layer):
    """A front end that appends the gains of the bands to each frame."""

    def __init__(self, front_end, edges, sample_rate: int, **kwargs):
        # "levels" is the name in weights files.
        super().__init__(**({"dtype": "float32", "name": "levels"} | kwargs))
        self.front_end = front_end
        self.measure = BandGains(edges, front_end.hop, sample_rate)
        self.hop, self.channels = front_end.hop, front_end.channels + self.measure.bands
        side = self.hop + TAPS // 2
        self.receptive_field = tuple(max(side, x) for x in front_end.receptive_field)

    def build(self, shape):
        self.front_end.build(shape)

    def call(self, audio):
        audio = ops.cast(audio, "float32")
        gains = self.measure.gains(self.measure.split(audio))
        return ops.concatenate([self.front_end(audio), gains], axis=-1)

    def compute_output_shape(self, shape):
        return (*self.front_end.compute_output_shape(shape)[:-1], self.channels)


def centres_of(edges, sample_rate: int) -> np.ndarray:
    """log2 of the centres of gain bands, in Hz. edges: the frequencies between the bands, in Hz."""
    ends = np.log2([edges[0] / 4, *edges, min(2 * edges[-1], sample_rate / 2)])
    return (ends[1:] + ends[:-1]) / 2


def interpolation(places, nodes) -> np.ndarray:
    """Linear interpolation as a matrix, float32 [nodes, places]; constant beyond the nodes."""
    return np.stack([np.interp(places, nodes, row)
                     for row in np.eye(len(nodes))]).astype("float32")


class RelativeLoudness(layers.Layer):
    """Features [batch, frames, 2·bins + gains] -> [batch, frames, 2·bins]: loudness relative to
    the gains around, then the same at peaks only.
    """

    def __init__(self, config: CodecConfig, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        front_end, edges = config.front_end, config.quantizer.edges
        octaves = math.log2(front_end.lowest) + np.arange(front_end.bins) / PER_OCTAVE
        centres = centres_of(edges, config.sample_rate)
        self.bins = front_end.bins
        # The gain around a bin is interpolated between the centres of the gain bands.
        self.interpolation = interpolation(octaves, centres)

    def call(self, x):
        loudness, peaks, gains = ops.split(x, [self.bins, 2 * self.bins], axis=-1)
        around = ops.matmul(gains, self.interpolation)
        relative = ops.clip(loudness - around, -0.6, 0.4) + 0.8
        peaks = ops.clip(peaks / ops.maximum(loudness, 0.05), 0.0, 1.0)
        return ops.concatenate([relative, peaks * relative], axis=-1)


class Gains(layers.Layer):
    """The gains, float32: the last `count` channels of features, latents or vectors."""

    def __init__(self, count: int, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.count = count

    def call(self, x):
        return ops.cast(x[..., -self.count :], "float32")
