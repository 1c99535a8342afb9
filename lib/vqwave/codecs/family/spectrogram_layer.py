"""Spectrograms as a codec's front end and as its head."""

import keras
from keras import layers, ops

from ...data.vocoders import GriffinLim
from ...dsp.spectrum import mean_filters
from ...levels.kinds import layer_for
from ..blocks_layer import Conv, ReceptiveField
from ..heads_layer import Head
from ..source_layer import InverseSTFT
from ..spectrum_layer import hann_kernel, loudness_of, to_blocks, windowed_amplitudes
from .spectrogram import GriffinLimHead, SpectrogramFrontEnd, SpectrogramHead


@layer_for(SpectrogramFrontEnd)
class Spectrogram(layers.Layer):
    """audio float32 [batch, T] -> loudness float32 [batch, T / hop, channels], see
    `spectrum.loudness_of`. A Hann window is centred on a frame's first sample. The channels are its
    bins, without the bin at half the sample rate, or mel bands: weighted means of the bins.
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
