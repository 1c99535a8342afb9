"""Encoders (features of the front end -> latents) and their decoders (vectors -> audio): a pair of
functions for each kind of `encoder` in the config.

An encoder function returns a Keras model, float32 [batch, steps, channels] -> latents [batch, N,
width], and its receptive field in steps of the front end. A decoder function returns a Keras model
and its head.
"""

import keras
import numpy as np
from keras import layers, ops

from ..levels.kinds import layer_for, layer_of
from .blocks_layer import Conv, ReceptiveField, dilated_names, gelu, stage_blocks, upsampling
from .codec import CodecConfig
from .encoders import BandedEncoder, MirrorEncoder
from .gains_layer import Gains, RelativeLoudness
from .heads_layer import Head
from .labels_layer import add_condition, label_vector_input


def mirror_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, ReceptiveField]:
    """The decoder's stages in reverse order, from the front end's hop on.

    With labels the inputs are [features, label vector]. The vector conditions each stage.
    """
    features = x = keras.Input((None, front_end.channels), name="audio")
    label, field = label_vector_input(config), ReceptiveField()
    for i in config.encoder_stages:
        stage = config.stages[i]
        down = Conv(stage.channels, 2 * stage.stride, strides=stage.stride,
                    padding=config.padding, name=f"down_{i}")
        x = add_condition(field.through(x, down), label, f"add_label_{i}")
        x = field.through(x, *stage_blocks(config, i))
    x = field.through(x, *layer_of(config.bottleneck)(config.bottleneck))
    x = layers.Activation(gelu, name="activation")(x)
    latents = Conv(config.quantizer.width, 3, padding=config.padding, name="latents")
    inputs = features if label is None else [features, label]
    return keras.Model(inputs, field.through(x, latents), name="encoder"), field


def mirror_decoder(config: CodecConfig) -> tuple[keras.Model, Head]:
    """(vectors float32 [batch, N, vector_width] -> audio float32 [batch, N·level, 1], the head with
    its receptive fields in codes).

    A head with an auxiliary output adds a second output. A head that needs its position adds the
    input start, int32 [batch], the number of the first code in the piece modulo PERIOD / level.
    Labels add a last input, the piece's label vector float32 [batch, 1, channels], for each stage.
    """
    vectors = keras.Input((None, config.quantizer.vector_width), name="vectors")
    label, field = label_vector_input(config), ReceptiveField()
    start = keras.Input((), dtype="int32", name="start") if config.head.needs_position else None
    expand = Conv(config.stages[-1].channels, 3, padding=config.padding, name="expand")
    x = add_condition(field.through(vectors, expand), label, "add_label")
    x = field.through(x, *layer_of(config.bottleneck)(config.bottleneck))
    head = layer_of(config.head)(config)
    for i in reversed(range(len(config.stages))):
        x = field.through(x, *stage_blocks(config, i))
        x = layers.Activation(gelu, name=f"activation_{i}")(x)
        head.first_stage = head.first_stage or field.copy()
        head.tap(i, x, start, field)
        if i:
            up = upsampling(config, config.stages[i - 1].channels, config.stages[i].stride, 3,
                            f"up_{i}")
            x = add_condition(field.through(x, up), label, f"add_label_{i}")
    gains = (Gains(config.quantizer.gains, name="gains")(vectors)
             if config.quantizer.gain_edges else None)
    audio = head.synthesise(x, start, field, gains)
    inputs = [vectors, *(x for x in (start, label) if x is not None)]
    return keras.Model(inputs if len(inputs) > 1 else vectors, head.outputs(audio),
                       name="decoder"), head


class BandedConv(layers.Layer):
    """A convolution with its own kernel for each band: [batch, frames, bands, c] -> [batch, frames,
    bands, units].

    Three taps, `dilation` frames apart, with zero padding; dilation 0 is one tap.
    """

    def __init__(self, units: int, dilation: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dilation = units, dilation
        self.receptive_field = (dilation, dilation)

    def build(self, shape):
        bands, width = shape[-2], shape[-1] * (3 if self.dilation else 1)
        # One matrix for each band, because Muon orthogonalises whole matrices.
        self.kernels = [
            self.add_weight(shape=(width, self.units), name=f"kernel_{k}",
                            initializer=keras.initializers.RandomNormal(stddev=width**-0.5))
            for k in range(bands)]
        self.bias = self.add_weight(shape=(bands, self.units), initializer="zeros", name="bias")

    def call(self, x):
        if side := self.dilation:
            padded = ops.pad(x, [[0, 0], [side, side], [0, 0], [0, 0]])
            x = ops.concatenate([padded[:, : -2 * side], x, padded[:, 2 * side :]], axis=-1)
        batch, _, bands, width = ops.shape(x)
        by_band = ops.reshape(ops.transpose(x, (2, 0, 1, 3)), (bands, -1, width))
        kernels = ops.stack([ops.cast(kernel, x.dtype) for kernel in self.kernels])
        y = ops.reshape(ops.matmul(by_band, kernels), (bands, batch, -1, self.units))
        return ops.transpose(y, (1, 2, 0, 3)) + self.bias


class BandSplit(layers.Layer):
    """Loudness and peaks [batch, frames, 2·bins] -> [batch, frames, bands, 2·(bins / bands +
    2·overlap)], centred and scaled to about 1.
    """

    def __init__(self, bands: int, overlap: int, **kwargs):
        super().__init__(**kwargs)
        self.bands, self.overlap = bands, overlap

    def call(self, x):
        bins = x.shape[-1] // 2
        width = bins // self.bands
        loudness, peaks = x[..., :bins] * 4.0 - 2.0, x[..., bins:] * 2.0
        edge = [[0, 0], [0, 0], [self.overlap, self.overlap]]
        # Pad both ends of the spectrum with silence.
        padded = ops.pad(loudness, edge, constant_values=-2.0), ops.pad(peaks, edge)
        place = np.arange(self.bands)[:, None] * width + np.arange(width + 2 * self.overlap)
        return ops.concatenate([ops.take(part, place, axis=-1) for part in padded], axis=-1)


class UnitLength(layers.Layer):
    """[batch, frames, bands, d] -> [batch, frames, bands·d], each band with mean square 1."""

    def call(self, x):
        x = ops.cast(x, "float32")
        x = x * ops.rsqrt(ops.mean(x**2, axis=-1, keepdims=True) + 1e-5)
        return ops.reshape(x, (*ops.shape(x)[:2], x.shape[-2] * x.shape[-1]))


def banded_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, ReceptiveField]:
    """A small network for each band of the spectrum, so a band's codes describe only this band."""
    encoder, quantizer = config.encoder, config.quantizer
    features, field = keras.Input((None, front_end.channels), name="features"), ReceptiveField()
    x = RelativeLoudness(config, name="relative")(features) if quantizer.gain_edges else features
    x = BandSplit(quantizer.bands, encoder.overlap, name="bands")(x)
    x = field.through(x, BandedConv(encoder.units, 1, name="expand"))
    for name, dilation in dilated_names("dilated", encoder.dilations):
        x = x + field.through(gelu(x), BandedConv(encoder.units, dilation, name=name))
    x = field.through(gelu(x), BandedConv(encoder.units, 1, name="mix"))
    x = field.through(gelu(x), BandedConv(quantizer.code_dim, 0, name="latents"))
    latents = UnitLength(name="unit_length", dtype="float32")(x)
    if quantizer.gain_edges:
        gains = Gains(quantizer.gains, name="gains")(features)
        latents = layers.Concatenate(name="with_gains", dtype="float32")([latents, gains])
    return keras.Model(features, latents, name="encoder"), field


def with_averages(decoder: keras.Model, config: CodecConfig) -> keras.Model:
    """The decoder with one more output for each up-sampled stage: the mean over its channels before
    the activation, [batch, samples / hop].
    """
    stages = [decoder.get_layer(f"activation_{i}").input for i in range(len(config.stages) - 1)]
    return keras.Model(decoder.inputs, [*decoder.outputs, *(ops.mean(x, axis=-1) for x in stages)])


layer_for(MirrorEncoder)((mirror_encoder, mirror_decoder))
layer_for(BandedEncoder)((banded_encoder, mirror_decoder))
