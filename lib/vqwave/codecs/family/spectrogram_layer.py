"""Spectrograms as a codec's front end and as its head."""

import math

import keras
import numpy as np
from keras import layers, ops

from ...data.vocoders import GriffinLim
from ...dsp.spectrum import mean_filters
from ...levels.kinds import layer_for
from ..blocks_layer import Conv, ReceptiveField, prepend_past
from ..heads_layer import Head
from ..source_layer import scattered_phases
from ..spectrum_layer import hann_kernel, loudness_of, to_blocks, windowed_amplitudes
from .spectrogram import GriffinLimHead, SpectrogramFrontEnd, SpectrogramHead


@layer_for(SpectrogramFrontEnd)
class Spectrogram(layers.Layer):
    """audio float32 [batch, T] -> loudness float32 [batch, T / hop, channels], see
    `spectrum_layer.loudness_of`. A Hann window is centred on a frame's first sample. The channels
    are its bins, without the bin at half the sample rate, or mel bands: weighted means of the bins.
    """

    def __init__(self, config: SpectrogramFrontEnd, sample_rate: int, **kwargs):
        super().__init__(dtype="float32", name="spectrogram", **kwargs)
        n_fft, mels = config.n_fft, config.mels
        self.hop, self.channels = config.hop, config.channels
        self.receptive_field = (n_fft // 2, n_fft // 2)
        self.kernel = hann_kernel(n_fft, config.hop,
                                  n_fft // 2 + 1 if mels else config.channels)
        self.filters = mean_filters(sample_rate, n_fft, mels).T if mels else None

    def call(self, audio):
        amplitudes = windowed_amplitudes(to_blocks(audio, self.hop), self.kernel)
        if self.filters is not None:
            amplitudes = ops.matmul(amplitudes, self.filters)
        return loudness_of(amplitudes)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] // self.hop, self.channels)


class InverseSTFT(layers.Layer):
    """Features [batch, frames, c] -> a spectrogram -> audio float32 [batch, frames·hop, 1].

    A dense layer gives log magnitude m and phase p of each bin. The audio is the overlap-add of the
    inverse transforms of exp(m)·(cos p + i sin p) under a Hann window (Vocos, Siuzdak 2023,
    section 3). A window is centred on its frame's first sample; with `causal`, it starts there.
    """

    def __init__(self, n_fft: int, hop: int, padding: str = "same", **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.n_fft, self.hop = n_fft, hop
        bins, self.overlap = n_fft // 2 + 1, n_fft // hop
        # The frames before and after a frame whose windows overlap the frame's samples.
        before = self.overlap - 1 if padding == "causal" else self.overlap // 2 - 1
        self.receptive_field = (before, self.overlap - 1 - before)
        self.past_steps = before if padding == "causal" else 0
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
        angle = 2 * np.pi * np.outer(np.arange(bins), np.arange(n_fft)) / n_fft
        mirrored = np.full((bins, 1), 2.0)  # every inner bin also counts for its mirror image
        mirrored[[0, -1]] = 1.0
        basis = np.concatenate([np.cos(angle) * mirrored, -np.sin(angle) * mirrored]) / n_fft
        # Divide by the sum of the overlapping squared windows.
        self.basis = (basis * window * (hop / (window**2).sum())).astype("float32")
        # Initially small magnitudes and scattered phases.
        bias = np.concatenate([np.full(bins, -3.0), scattered_phases(bins)]).astype("float32")
        self.dense = layers.Dense(2 * bins, bias_initializer=keras.initializers.Constant(bias),
                                  name="spectrum", dtype="float32")

    def call(self, x, past=None):
        before, after = self.receptive_field
        x = ops.cast(prepend_past(x, before, past), "float32")
        x = ops.pad(x, [[0, 0], [0, after], [0, 0]]) if after else x
        log_magnitude, phase = ops.split(self.dense(x), 2, axis=-1)
        # Limited to full scale, so that the exponential does not overflow.
        size = ops.exp(ops.minimum(log_magnitude, math.log(self.n_fft)))
        return self.overlap_add(size * ops.cos(phase), size * ops.sin(phase))

    def overlap_add(self, real, imag):
        """Spectra of the frames and of the frames that overlap them, [batch, frames + overlap − 1,
        bins] -> audio [batch, frames·hop, 1].
        """
        pieces = ops.matmul(ops.concatenate([real, imag], axis=-1), self.basis)
        batch, count = ops.shape(pieces)[:2]
        pieces = ops.reshape(pieces, (batch, count, self.overlap, self.hop))
        last = self.overlap - 1
        frames = count - last
        total = sum(pieces[:, last - k : last - k + frames, k] for k in range(self.overlap))
        return ops.reshape(total, (batch, frames * self.hop, 1))


@layer_for(SpectrogramHead)
class SpectrogramOutput(Head):
    """The inverse STFT of magnitudes and phases that the last stage predicts."""

    def synthesise(self, features, start, field: ReceptiveField, gains=None):
        config = self.config
        inverse = InverseSTFT(config.head.n_fft, config.hop(0), config.padding, name="inverse")
        self.receptive_fields = [field.add(inverse)]
        return inverse(features)


@layer_for(GriffinLimHead)
class GriffinLimOutput(Head):
    """Loudness of the spectrogram for Griffin and Lim's algorithm, all frames in one row."""

    OWN_TERMS = ("spectrum",)

    def synthesise(self, features, start, field: ReceptiveField, gains=None):
        config = self.config
        middle = keras.initializers.Constant(0.5)
        dense = Conv(config.front_end.channels, 1, bias_initializer=middle, name="levels",
                     dtype="float32")
        self.auxiliary_output = dense(features)
        self.receptive_fields = [field.add(dense).add(GriffinLim(config))]
        return layers.Reshape((-1, 1), name="row")(self.auxiliary_output)

    def losses_of(self, features, auxiliary) -> dict:
        return {"spectrum": ops.mean(ops.abs(auxiliary - ops.cast(features, "float32")))}
