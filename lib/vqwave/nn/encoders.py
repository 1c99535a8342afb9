"""Encoders: features of the front end -> latents, one function for each kind of the config's
`encoder`.

Each returns a Keras model, float32 [batch, steps, channels] -> latents [batch, N, width], and its
receptive field in steps of the front end.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from ..config import CodecConfig
from .blocks import Conv, ReceptiveField, dilated_names, gelu, stage_blocks
from .bottlenecks import BOTTLENECKS
from .conditions import add_condition, label_vector_input
from .gains import Gains, RelativeLevels
from .planes import plane_encoder


def mirror_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, ReceptiveField]:
    """The decoder's stages in reverse, those after the front end's hop.

    With labels its inputs are [features, the piece's label vector], which conditions every stage.
    """
    features = x = inputs = keras.Input((None, front_end.channels), name="audio")
    label = label_vector_input(config)
    if label is not None:
        inputs = [features, label]
    field = ReceptiveField()
    for i in config.encoder_stages:
        stage = config.stages[i]
        down = Conv(stage.channels, 2 * stage.stride, strides=stage.stride,
                    padding=config.padding, name=f"down_{i}")
        x = add_condition(down(x), label, f"add_label_{i}")
        field.add(down, stride=stage.stride)
        for block in stage_blocks(config, i):
            x = block(x)
            field.add(block)
    for layer in BOTTLENECKS[config.bottleneck.kind](config.bottleneck):
        x = layer(x)
        field.add(layer)
    x = layers.Activation(gelu, name="activation")(x)
    latents = Conv(config.quantizer.width, 3, padding=config.padding, name="latents")
    field.add(latents)
    return keras.Model(inputs, latents(x), name="encoder"), field


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
        # One matrix a band, because Muon orthogonalises whole matrices.
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

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)


class BandSplit(layers.Layer):
    """Levels and peaks [batch, frames, 2·bins] -> [batch, frames, bands, 2·(bins / bands +
    2·overlap)], centred and scaled to about 1.
    """

    def __init__(self, bands: int, overlap: int, **kwargs):
        super().__init__(**kwargs)
        self.bands, self.overlap = bands, overlap

    def call(self, x):
        bins = x.shape[-1] // 2
        width = bins // self.bands
        levels, peaks = x[..., :bins] * 4.0 - 2.0, x[..., bins:] * 2.0
        edge = [[0, 0], [0, 0], [self.overlap, self.overlap]]
        # Silence beyond the ends of the spectrum.
        both = ops.pad(levels, edge, constant_values=-2.0), ops.pad(peaks, edge)
        place = np.arange(self.bands)[:, None] * width + np.arange(width + 2 * self.overlap)
        return ops.concatenate([ops.take(part, place, axis=-1) for part in both], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.bands, shape[-1] // self.bands + 4 * self.overlap)


class UnitLength(layers.Layer):
    """[batch, frames, bands, d] -> float32 [batch, frames, bands·d], each band's part with a mean
    square of 1.
    """

    def call(self, x):
        x = ops.cast(x, "float32")
        x = x * ops.rsqrt(ops.mean(x**2, axis=-1, keepdims=True) + 1e-5)
        return ops.reshape(x, (*ops.shape(x)[:2], x.shape[-2] * x.shape[-1]))


def banded_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, ReceptiveField]:
    """A small network for each band of the spectrum: a band's codes describe this band alone."""
    encoder, quantizer = config.encoder, config.quantizer
    features = keras.Input((None, front_end.channels), name="features")
    field = ReceptiveField()

    def conv(units, dilation, name):
        layer = BandedConv(units, dilation, name=name)
        field.add(layer)
        return layer

    x = RelativeLevels(config, name="relative")(features) if quantizer.gain_edges else features
    x = BandSplit(quantizer.bands, encoder.overlap, name="bands")(x)
    x = conv(encoder.units, 1, "expand")(x)
    for name, dilation in dilated_names("dilated", encoder.dilations):
        x = x + conv(encoder.units, dilation, name)(gelu(x))
    x = conv(encoder.units, 1, "mix")(gelu(x))
    x = conv(quantizer.code_dim, 0, "latents")(gelu(x))
    latents = UnitLength(name="unit_length", dtype="float32")(x)
    if quantizer.gain_edges:
        gains = Gains(quantizer.gains, name="gains")(features)
        latents = layers.Concatenate(name="with_gains", dtype="float32")([latents, gains])
    return keras.Model(features, latents, name="encoder"), field


ENCODERS: dict[str, Callable] = {
    "mirror": mirror_encoder, "banded": banded_encoder, "plane": plane_encoder,
}
"""The encoder of each kind: (codec config, front end) -> (model, receptive field)."""
