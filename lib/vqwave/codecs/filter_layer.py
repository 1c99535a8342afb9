"""A head of two halves: the source, oscillators and noise that follow the codes; and the filter, a
network that turns their spectrum into that of recordings.

The source gives phase for nothing (Wang, Takaki and Yamagishi 2019, "Neural source-filter waveform
models"), and an inverse STFT in place of up-sampling plays (Siuzdak 2023, "Vocos"). All that
follows the decoder's features looks back only, so one definition, `SourceFilter.stream`, trains and
plays in blocks.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from ..levels.fields import LOUDNESS_RANGE
from . import source_layer
from .blocks_layer import Conv, gelu
from .codec import PERIOD
from .gains_layer import centres_of, interpolation
from .memory_layer import Memory
from .spectrum_layer import amplitude_of, loudness_of

NOISE_INPUTS = 16
"""Channels of noise that the network reads, so that it can vary what the codes do not say."""
RANGE = 3.0
"""The largest change of a bin by the network, in nats (26 dB)."""
CUT, BOOST = 0.6, 0.35
"""The largest changes of a gain band: -48 and +28 dB, in units of `spectrum_layer.loudness_of`."""
SILENCE = 1e-5
"""Added to magnitudes before their logarithm; a full-scale sine has 1."""


class STFT:
    """Spectra under Hann windows of `window` samples, every `hop` samples, as products of matrices.
    A spectrum is scaled so that a sine of amplitude a has a magnitude of a.
    """

    def __init__(self, window: int, hop: int):
        self.hop, self.overlap, self.bins = hop, window // hop, window // 2 + 1
        time = np.arange(window)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / window)
        angle = 2 * np.pi * np.outer(time, np.arange(self.bins)) / window
        scale = 2 / hann.sum()
        self.forward = (hann[:, None] * scale * np.concatenate(
            [np.cos(angle), -np.sin(angle)], axis=1)).astype("float32")
        mirrored = np.full(self.bins, 2.0)  # every inner bin also counts for its mirror image
        mirrored[[0, -1]] = 1.0
        inverse = np.concatenate([np.cos(angle) * mirrored, -np.sin(angle) * mirrored], axis=1)
        # Divide by the sum of the overlapping squared windows.
        self.backward = (inverse.T * hann * hop / ((hann**2).sum() * scale * window)
                         ).astype("float32")
        self.power = 1 / (hann**2).sum() * hann.sum() ** 2 / window / 2
        """The mean square of a signal, over the sum of its squared magnitudes."""

    def spectra(self, blocks):
        """Blocks of `hop` samples [batch, n + overlap − 1, hop] -> [batch, n, 2·bins]: the real
        parts, then the imaginary parts.
        """
        count = ops.shape(blocks)[1] - self.overlap + 1
        windows = ops.concatenate([blocks[:, k : k + count] for k in range(self.overlap)], axis=-1)
        return ops.matmul(windows, self.forward)

    def blocks(self, spectra):
        """[batch, n + overlap − 1, 2·bins] -> the overlap-add, blocks [batch, n, hop]. Block b is
        the sum of the spectra b … b + overlap − 1.
        """
        pieces = ops.matmul(spectra, self.backward)
        count = ops.shape(pieces)[1] - self.overlap + 1
        return sum(pieces[:, k : k + count, (self.overlap - 1 - k) * self.hop :][..., : self.hop]
                   for k in range(self.overlap))


class NoiseSpectra(layers.Layer):
    """The numbers of spectra int32 [batch, n] -> normal draws float32 [batch, n, width], which
    depend on the number alone. They are slices of one table, each from another place on.
    """

    LENGTH, STRIDE = 1 << 16, 40503

    def __init__(self, width: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.width = width
        draws = np.random.Generator(np.random.Philox(key=2))
        self.table = draws.standard_normal(self.LENGTH + width).astype("float32")

    def call(self, number):
        place = ops.mod(number * self.STRIDE, self.LENGTH)
        place = place[..., None] + np.arange(self.width, dtype="int32")
        return ops.take(ops.convert_to_tensor(self.table), place, axis=0)

    def compute_output_shape(self, shape):
        return (*shape, self.width)


class PastShifts(layers.Layer):
    """A depthwise convolution over the past, as a sum of shifted copies, which a CPU trains and
    plays faster than a convolution: x [batch, n, c] -> the same shape. past: see `Memory`.
    """

    def __init__(self, taps: int, dilation: int, **kwargs):
        super().__init__(**kwargs)
        self.taps, self.dilation, self.past_steps = taps, dilation, (taps - 1) * dilation

    def build(self, x_shape, past_shape=None):
        self.weight = self.add_weight(shape=(self.taps, x_shape[-1]), name="weight",
                                      initializer=keras.initializers.RandomNormal(stddev=0.3))
        self.bias = self.add_weight(shape=(x_shape[-1],), initializer="zeros", name="bias")

    def call(self, x, past):
        steps = ops.shape(x)[1]
        whole = ops.concatenate([ops.cast(past, x.dtype), x], axis=1)
        weight = ops.cast(self.weight, x.dtype)
        return sum(whole[:, k * self.dilation : k * self.dilation + steps] * weight[k]
                   for k in range(self.taps)) + ops.cast(self.bias, x.dtype)


class FilterBlock(layers.Layer):
    """x + Dense(gelu(Dense(norm(shifts(x))))): [batch, n, width] -> the same shape (Liu et al.
    2022, "A ConvNet for the 2020s", as in Vocos).
    """

    def __init__(self, width: int, taps: int, dilation: int, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.shifts = PastShifts(taps, dilation, name="shifts", dtype=policy)
        self.norm = layers.LayerNormalization(epsilon=1e-5, name="norm", dtype=policy)
        self.widen = layers.Dense(2 * width, name="widen", dtype=policy)
        self.mix = layers.Dense(width, name="mix", dtype=policy,
                                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01))
        self.past_steps = self.shifts.past_steps

    def build(self, x_shape, past_shape=None):
        for layer in (self.shifts, self.norm, self.widen):
            layer.build(x_shape)
        self.mix.build((*x_shape[:-1], self.widen.units))

    def call(self, x, past):
        return x + self.mix(gelu(self.widen(self.norm(self.shifts(x, past)))))


class SourceFilter(layers.Layer):
    """Features [batch, N, c] of the decoder's trunk, gains [batch, N, g] and start int32 [batch],
    the number of the first frame -> [audio float32 [batch, N·level, 1], clues float32 [batch, N,
    3·bins]].

    clues: for each quarter tone of the front end, the logit of a peak, the peak's loudness and the
    spectrum's, as in `PickedTones`. Tones sound on the peaks. Noise has the predicted spectrum, and
    both are set to the gains, interpolated over frequency and time. The network then reads the
    spectrum of the tones and the features, and changes the magnitudes of tones and noise.
    """

    SPLINE = 1, 2
    """The frames before and after a frame that set its tones, see `ToneBank`."""
    STANDING = 1.15
    """The factor of the usual prominence, above which an overtone sounds. The filter makes tones
    stand out, so a factor of 1 would leave a whistle.
    """

    def __init__(self, config, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        policy = keras.mixed_precision.dtype_policy()
        self.config, head, front = config, config.head, config.front_end
        self.level, self.bins = config.level, front.bins
        self.rate = config.level // head.hop  # spectra to a frame
        self.stft = STFT(head.window, head.hop)
        bias = keras.initializers.Constant(np.repeat([-3.0, 0.5, 0.5], front.bins))
        self.clues = Conv(3 * front.bins, 1, bias_initializer=bias, name="clues", dtype="float32")
        self.picked = source_layer.PickedTones(name="picked")
        self.overtones = source_layer.OvertonesOf(front.bins, head.above, 1.5, front.first_tone,
                                     name="overtones")
        self.prominence = source_layer.Prominence(name="prominence")
        self.usual = source_layer.PastMean(config.level, name="usual")
        # How much of each overtone sounds, at first nearly all.
        self.gate = layers.Dense(front.bins, name="gate", dtype="float32",
                                 bias_initializer=keras.initializers.Constant(3.0))
        # Tones above the front end's octaves are quiet at first.
        self.high = layers.Dense(head.high_tones, name="high", dtype="float32",
                                 bias_initializer=keras.initializers.Constant(-6.0))
        self.bank = source_layer.ToneBank(front.bins + head.high_tones, config.level,
                                          config.sample_rate, front.first_tone, name="tones")
        width, bins = head.width, self.stft.bins
        self.noise = NoiseSpectra(2 * bins + NOISE_INPUTS, name="noise")
        self.noise_level = self.add_weight(shape=(bins,), name="noise_level",
                                           initializer=keras.initializers.Constant(-0.5))
        self.project = layers.Dense(width, name="project", dtype=policy)
        self.read = layers.Dense(width, name="read", dtype=policy)
        self.blocks = [FilterBlock(width, head.taps, dilation, name=f"block_{i}", dtype=policy)
                       for i, dilation in enumerate(head.dilations)]
        self.norm = layers.LayerNormalization(epsilon=1e-5, name="norm", dtype=policy)
        self.change = layers.Dense(2 * bins, name="change", dtype="float32",
                                   kernel_initializer=keras.initializers.RandomNormal(stddev=2e-3))
        self._interpolations(front)
        self.held = -(-(self.stft.overlap - 1) // self.rate) * self.rate
        """Spectra that wait before their blocks are whole, in whole frames."""
        self.delay = self.SPLINE[1] + self.held // self.rate
        """The frames by which `stream` is late."""
        past = sum(block.past_steps for block in self.blocks) + self.stft.overlap - 1
        self.receptive_field = self.SPLINE[0] + 1 + math.ceil(past / self.rate), self.delay

    def _interpolations(self, front):
        """Matrices between quarter tones, gain bands, bins and frames."""
        config, stft = self.config, self.stft
        hertz = np.arange(stft.bins) * config.sample_rate / ((stft.bins - 1) * 2)
        octaves = np.log2(np.maximum(hertz, hertz[1] / 2))
        tones = np.log2(source_layer.quarter_tones(front.bins, front.first_tone))
        self.tones_to_bins = interpolation(octaves, tones)
        edges = config.quantizer.gain_edges
        if edges:
            self.bands_to_bins = interpolation(octaves, centres_of(edges, config.sample_rate))
            bands = np.digitize(hertz, edges)
            self.bins_to_bands = (np.eye(len(edges) + 1)[bands] * stft.power).astype("float32")
        # Spectrum i of a frame is centred (i − 1) / rate frames after the frame's first sample.
        places = (np.arange(self.rate) - 1) / self.rate
        self.frames_to_spectra = interpolation(places, np.array([-1.0, 0.0, 1.0])).T

    def call(self, features, start, gains=None):
        """A whole piece. After its end come `delay` frames of silence, and its audio is late."""
        frames, pad = ops.shape(features)[1], [[0, 0], [0, self.delay], [0, 0]]
        inside = ops.pad(ops.ones_like(features[..., :1], dtype="float32"), pad)
        audio, clues = self.stream(ops.pad(features, pad), start, Memory(),
                                   lambda late: ops.pad(inside, [[0, 0], [late, 0], [0, 0]])[
                                       :, : frames + self.delay],
                                   None if gains is None else ops.pad(gains, pad))
        return audio[:, self.delay * self.level :], clues[:, :frames]

    def build(self, features_shape, start_shape=None, gains_shape=None):
        for layer in (self.clues, self.high, self.gate, self.project):
            layer.build(features_shape)
        self.read.build((None, None, self.stft.bins + NOISE_INPUTS))
        inner = (None, None, self.config.head.width)
        for layer in (*self.blocks, self.norm, self.change):
            layer.build(inner)

    def compute_output_shape(self, features_shape, start_shape=None, gains_shape=None):
        batch, frames, _ = features_shape
        return ((batch, None if frames is None else frames * self.level, 1),
                (batch, frames, 3 * self.bins))

    def stream(self, features, start, memory: Memory, inside, gains=None):
        """The next frames of a piece: features [batch, n, c], from frame `start` on -> audio
        [batch, n·level, 1], `delay` frames late, and clues.

        inside: a function of a number of frames. It gives float32 [batch, n, 1], 1 where the frames
            that many before these lie in the piece, and 0 elsewhere.
        """
        clues = self.clues(features)
        features = ops.cast(features, "float32")
        loudness = self._amplitudes(clues, features, inside(0), memory)
        before, after = self.SPLINE
        tones = self.bank(ops.concatenate([memory.past(loudness, before + after), loudness], 1),
                          start - before - after)
        audio = tones[:, before * self.level : -after * self.level, 0]
        blocks = ops.reshape(audio, (ops.shape(audio)[0], -1, self.stft.hop))
        spectra = self.stft.spectra(ops.concatenate(
            [memory.past(blocks, self.stft.overlap - 1, self.rate), blocks], 1))
        parts = [self.project(features) * ops.cast(inside(0), self.project.compute_dtype),
                 clues[..., 2 * self.bins :] * inside(0)]
        parts += [] if gains is None else [ops.cast(gains, "float32") * inside(0)]
        controls = self._at_spectra(ops.concatenate(
            [ops.cast(part, "float32") for part in parts], -1), memory)
        number = ops.mod(source_layer.frame_numbers(spectra, self.rate * (start - after)),
                         PERIOD // self.stft.hop)
        spectra = self._filter(spectra, controls, number,
                               ops.repeat(inside(after), self.rate, axis=1), memory)
        blocks = self.stft.blocks(ops.concatenate(
            [memory.past(spectra, self.held, self.rate), spectra], 1)[
                :, : ops.shape(spectra)[1] + self.stft.overlap - 1])
        return ops.reshape(blocks, (ops.shape(blocks)[0], -1, 1)), clues

    def _amplitudes(self, clues, features, inside, memory: Memory):
        """Of all tones, [batch, n, tones]."""
        prominence = self.prominence(clues) * inside
        past = memory.past(prominence, self.usual.past_steps)
        usual = self.STANDING * self.usual(prominence, past)
        overtones = self.overtones([clues, prominence, usual])
        low = ops.maximum(self.picked(clues), ops.sigmoid(self.gate(features)) * overtones)
        high = 2.0 * ops.sigmoid(self.high(features)) ** 2.3
        return ops.concatenate([low, high], axis=-1) * inside

    def _at_spectra(self, frames, memory: Memory):
        """Frames [batch, n, c], two frames before those of the sound -> [batch, n·rate, c] at the
        centres of the spectra, linear in time.
        """
        _, after = self.SPLINE
        whole = ops.concatenate([memory.past(frames, after + 1), frames], axis=1)
        count = ops.shape(frames)[1]
        around = ops.stack([whole[:, k : k + count] for k in range(3)], axis=2)
        return ops.reshape(ops.matmul(self.frames_to_spectra, around),
                           (ops.shape(frames)[0], -1, frames.shape[-1]))

    def _filter(self, tones, controls, number, inside, memory: Memory):
        """Spectra of tones [batch, m, 2·bins] -> of the sound. number: of each spectrum, int32
        [batch, m]; inside: [batch, m, 1].
        """
        width, bins = self.config.head.width, self.stft.bins
        projected, spectrum, gains = ops.split(controls, [width, width + self.bins], axis=-1)
        draws = self.noise(number)
        noise, inputs = draws[..., : 2 * bins] * math.sqrt(0.5), draws[..., 2 * bins :]
        envelope = amplitude_of(ops.matmul(spectrum, self.tones_to_bins))
        envelope = envelope * ops.exp(self.noise_level)
        real, imag = ops.split(tones, 2, axis=-1)
        power = real**2 + imag**2
        if self.config.quantizer.gain_edges:
            correction = self._correction(power + envelope**2, gains)
        else:
            correction = ops.ones_like(envelope)
        heard = ops.log(ops.sqrt(power + 1e-12) * correction + SILENCE)
        x = self.read(ops.concatenate([heard * 0.4 + 1.0, 0.5 * inputs], axis=-1))
        x = x + ops.cast(projected, x.dtype)
        mask = ops.cast(inside, x.dtype)
        for block in self.blocks:
            x = x * mask
            x = block(x, memory.past(x, block.past_steps, self.rate))
        change = ops.exp(RANGE * ops.tanh(self.change(self.norm(x)) / RANGE))
        of_tones, of_noise = ops.split(change, 2, axis=-1)
        return (tones * _twice(of_tones * correction)
                + noise * _twice(of_noise * correction * envelope * inside))

    def _correction(self, power, gains):
        """The factor of each bin that gives the bands of a spectrum their gains."""
        own = loudness_of(ops.sqrt(ops.matmul(power, self.bins_to_bands) + 1e-9))
        change = ops.clip(gains - own, -CUT, BOOST)
        return ops.exp(ops.matmul(change, self.bands_to_bins)
                       * (LOUDNESS_RANGE * math.log(10) / 20))


def _twice(factors):
    """Factors of bins [..., bins], for real and imaginary parts: [..., 2·bins]."""
    return ops.concatenate([factors, factors], axis=-1)
