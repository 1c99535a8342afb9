"""Encoders: features of the front end -> latents, one function for each kind of the config's
`encoder`.

What each makes: (Keras model float32 [batch, steps, channels] -> latents [batch, N, width], how far
a frame sees in steps of the front end).
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from ..config import BandedEncoder, CodecConfig, Config, MirrorEncoder, PlaneEncoder
from .bottlenecks import BOTTLENECKS
from .layers import BLOCKS, Conv, Reach, gelu, named, register
from .planes import plane_encoder


def stage_blocks(config: CodecConfig, stage: int) -> list:
    """The blocks of a stage, new."""
    make = BLOCKS[type(config.block)]
    return [make(config.block, config.stages[stage].channels, dilation, padding=config.padding,
                 name=name)
            for name, dilation in named(f"block_{stage}", config.stages[stage].dilations)]


def label_vector(config: CodecConfig):
    """The input of what a piece's labels are, float32 [batch, 1, channels]; None without labels."""
    return keras.Input((1, config.labels.channels), name="said") if config.labels else None


def tell(x, said, name: str):
    """x [batch, time, c] and, at every step of it, what a matrix makes of a vector [batch, 1, n];
    x as it is where that is None.
    """
    if said is None:
        return x
    return layers.Add(name=f"{name}_sum")([x, layers.Dense(x.shape[-1], name=name)(said)])


def mirror_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, Reach]:
    """The decoder's stages in reverse, those behind the front end's hop.

    With labels it takes [features, the vector of the piece's labels], which is told to every stage.
    """
    features = x = inputs = keras.Input((None, front_end.channels), name="audio")
    said = label_vector(config)
    if said is not None:
        inputs = [features, said]
    reach = Reach()
    for i in config.encoder_stages:
        stage = config.stages[i]
        down = Conv(stage.channels, 2 * stage.stride, strides=stage.stride,
                    padding=config.padding, name=f"down_{i}")
        x = tell(down(x), said, f"told_{i}")
        reach.add(down, stride=stage.stride)
        for block in stage_blocks(config, i):
            x = block(x)
            reach.add(block)
    for layer in BOTTLENECKS[type(config.bottleneck)](config.bottleneck):
        x = layer(x)
        reach.add(layer)
    x = layers.Activation(gelu, name="activation")(x)
    latents = Conv(config.quantizer.width, 3, padding=config.padding, name="latents")
    reach.add(latents)
    return keras.Model(inputs, latents(x), name="encoder"), reach


@register
class BandedConv(layers.Layer):
    """A convolution of its own for each band: [batch, frames, bands, c] -> [batch, frames, bands,
    units].

    Three taps, `dilation` frames apart, zeros outside; dilation 0 is one tap.
    """

    def __init__(self, units: int, dilation: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dilation = units, dilation
        self.receptive_field = (dilation, dilation)
        """Frames to the left and right."""

    def build(self, shape):
        bands, width = shape[-2], shape[-1] * (3 if self.dilation else 1)
        # One matrix a band, because Muon makes the singular values of a matrix alike.
        start = keras.initializers.RandomNormal
        self.kernels = [self.add_weight(shape=(width, self.units), name=f"kernel_{k}",
                                        initializer=start(stddev=width**-0.5))
                        for k in range(bands)]
        self.bias = self.add_weight(shape=(bands, self.units), initializer="zeros", name="bias")

    def call(self, x):
        if reach := self.dilation:
            padded = ops.pad(x, [[0, 0], [reach, reach], [0, 0], [0, 0]])
            x = ops.concatenate([padded[:, : -2 * reach], x, padded[:, 2 * reach :]], axis=-1)
        batch, _, bands, width = ops.shape(x)
        by_band = ops.reshape(ops.transpose(x, (2, 0, 1, 3)), (bands, -1, width))
        kernels = ops.stack([ops.cast(one, x.dtype) for one in self.kernels])
        y = ops.reshape(ops.matmul(by_band, kernels), (bands, batch, -1, self.units))
        return ops.transpose(y, (1, 2, 0, 3)) + self.bias

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)

    def get_config(self):
        return super().get_config() | {"units": self.units, "dilation": self.dilation}


@register
class BandSplit(layers.Layer):
    """Levels and peaks [batch, frames, 2·bins] -> [batch, frames, bands, 2·(bins / bands +
    2·overlap)].

    Centred and scaled to about one.
    """

    def __init__(self, bands: int, overlap: int, **kwargs):
        super().__init__(**kwargs)
        self.bands, self.overlap = bands, overlap

    def call(self, x):
        bins = x.shape[-1] // 2
        width = bins // self.bands
        levels, peaks = x[..., :bins] * 4.0 - 2.0, x[..., bins:] * 2.0
        edge = [[0, 0], [0, 0], [self.overlap, self.overlap]]
        # Beyond the spectrum's ends is silence.
        both = ops.pad(levels, edge, constant_values=-2.0), ops.pad(peaks, edge)
        place = np.arange(self.bands)[:, None] * width + np.arange(width + 2 * self.overlap)
        return ops.concatenate([ops.take(one, place, axis=-1) for one in both], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.bands, shape[-1] // self.bands + 4 * self.overlap)

    def get_config(self):
        return super().get_config() | {"bands": self.bands, "overlap": self.overlap}


@register
class UnitLength(layers.Layer):
    """[batch, frames, bands, d] -> float32 [batch, frames, bands·d], each band's part with a mean
    square of 1.
    """

    def call(self, x):
        x = ops.cast(x, "float32")
        x = x * ops.rsqrt(ops.mean(x**2, axis=-1, keepdims=True) + 1e-5)
        return ops.reshape(x, (*ops.shape(x)[:2], x.shape[-2] * x.shape[-1]))

    def compute_output_shape(self, shape):
        return (*shape[:2], shape[-2] * shape[-1])


def banded_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, Reach]:
    """For each band a small network of its own, of one frame of codes for each of the spectrum's.

    What is in a band's codes is heard in this band, and a change in one changes no other.
    """
    own, books = config.encoder, config.quantizer.books
    features = keras.Input((None, front_end.channels), name="features")
    reach = Reach()

    def conv(units, dilation, name):
        layer = BandedConv(units, dilation, name=name)
        reach.add(layer)
        return layer

    x = BandSplit(books, own.overlap, name="bands")(features)
    x = conv(own.units, 1, "expand")(x)
    for name, dilation in named("dilated", own.dilations):
        x = x + conv(own.units, dilation, name)(gelu(x))
    x = conv(own.units, 1, "mix")(gelu(x))
    x = conv(config.quantizer.code_dim, 0, "latents")(gelu(x))
    return keras.Model(features, UnitLength(name="unit_length", dtype="float32")(x),
                       name="encoder"), reach


ENCODERS: dict[type[Config], Callable] = {
    MirrorEncoder: mirror_encoder, BandedEncoder: banded_encoder, PlaneEncoder: plane_encoder,
}
"""What builds each kind of encoder: (codec config, front end) -> (model, reach)."""
