"""Spectrograms as images: two-dimensional convolutions over frames and bands.

A plane is [batch, frames, places, channels]. Between networks it is flattened to frames, [batch,
frames, places·channels]. Receptive fields are along the frames alone.
"""

from __future__ import annotations

import keras
from keras import layers, ops

from ..config import CodecConfig
from .blocks import ReceptiveField, ResidualBlock, Same, gelu, stage_blocks
from .heads import HEADS, Head

HEAD_CHANNELS = 8
"""Channels of each band in the head's input."""


class PlaneConv(layers.Conv2D):
    """Keras's 2-D convolution over frames and places, padded with zeros, with a receptive field.
    dilation: along the frames.
    """

    past_steps = 0

    def __init__(self, filters, kernel_size, strides=1, padding="same", dilation=1, **kwargs):
        super().__init__(filters, kernel_size, strides=strides, padding=padding,
                         dilation_rate=(dilation, 1), **kwargs)
        self.receptive_field = Same.receptive_field(kernel_size, dilation, strides)


class PlaneBlock(ResidualBlock):
    """A residual block over planes."""

    CONV = PlaneConv


class PlaneUpsampling(layers.Layer):
    """A convolution folded into both axes: [batch, N, P, c] -> [batch, N·ratio, P·ratio, channels]
    (Shi et al. 2016).
    """

    def __init__(self, channels: int, ratio: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio = channels, ratio
        self.conv = PlaneConv(channels * ratio**2, 3, name="conv", dtype=self.dtype_policy)
        self.receptive_field = self.conv.receptive_field

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        r, places = self.ratio, x.shape[2]
        x = self.conv(x)
        x = ops.reshape(x, (ops.shape(x)[0], -1, places, r, r * self.channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        return ops.reshape(x, (ops.shape(x)[0], -1, places * r, self.channels))

    def compute_output_shape(self, shape):
        batch, frames, places, _ = shape
        return (batch, None if frames is None else frames * self.ratio, places * self.ratio,
                self.channels)


def to_plane(x, places: int):
    """Frames [batch, N, places·c] -> [batch, N, places, c]."""
    return ops.reshape(x, (ops.shape(x)[0], -1, places, x.shape[-1] // places))


def to_frames(x, per_frame: int = 1):
    """[batch, N·per_frame, places, c] -> frames [batch, N, per_frame·places·c]."""
    return ops.reshape(x, (ops.shape(x)[0], -1, per_frame * x.shape[2] * x.shape[3]))


class Fold(layers.Layer):
    """Channels first … first + width of frames [batch, N, …] -> a plane [batch, N·per_frame,
    places, c].
    """

    def __init__(self, places: int, per_frame: int, first: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.places, self.per_frame, self.first, self.width = places, per_frame, first, width
        self.channels = width // (places * per_frame)

    def call(self, x):
        part = x[..., self.first : self.first + self.width]
        return ops.reshape(part, (ops.shape(x)[0], -1, self.places, self.channels))

    def compute_output_shape(self, shape):
        """JAX cannot infer unknown lengths through a reshape."""
        frames = None if shape[1] is None else shape[1] * self.per_frame
        return (shape[0], frames, self.places, self.channels)


class Unfold(layers.Layer):
    """`to_frames` as a layer, in float32."""

    def __init__(self, per_frame: int = 1, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.per_frame = per_frame

    def call(self, x):
        return to_frames(x, self.per_frame)

    def compute_output_shape(self, shape):
        frames = None if shape[1] is None else shape[1] // self.per_frame
        return (shape[0], frames, self.per_frame * shape[2] * shape[3])


def plane_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, ReceptiveField]:
    """The decoder's stages in reverse, those after the spectrogram: [batch, frames, bands] ->
    latents [batch, N, positions·width].

    A hierarchy with a finer level appends the features of its stage to those of the top: [batch, N,
    positions·width + bottom_frames·bottom_positions·channels].
    """
    features = keras.Input((None, front_end.channels), name="spectrogram")
    # Levels of 0.1 … 1.1, centred and scaled to about 1.
    x = layers.Rescaling(4.0, -2.0, name="scale")(features)
    x = layers.Reshape((-1, front_end.channels, 1), name="plane")(x)
    field, finer = ReceptiveField(), []
    for i in config.encoder_stages:
        stage = config.stages[i]
        down = PlaneConv(stage.channels, 2 * stage.stride, strides=stage.stride, name=f"down_{i}")
        x = down(x)
        field.add(down, stride=stage.stride)
        for block in stage_blocks(config, i, PlaneBlock):
            x = block(x)
            field.add(block)
        if i == config.hierarchy.bottom:
            finer = [Unfold(config.bottom_frames, name="finer")(x)]
    x = layers.Activation(gelu, name="activation")(x)
    conv = PlaneConv(config.quantizer.width, 3, name="latents")
    field.add(conv)
    latents = Unfold(name="frames")(conv(x))
    if finer:
        latents = layers.Concatenate(name="both", dtype="float32")([latents, *finer])
    return keras.Model(features, latents, name="encoder"), field


def plane_decoder(config: CodecConfig) -> tuple[keras.Model, Head]:
    """(vectors float32 [batch, N, vector_width] -> audio float32 [batch, N·level, 1], the head).
    With two levels the vectors are those of the top, then those of the finer level.
    """
    vectors = keras.Input((None, config.vector_width), name="vectors")
    width, places, field = config.quantizer.vector_width, config.positions, ReceptiveField()
    x = Fold(places, 1, 0, places * width, name="plane")(vectors)
    last = len(config.stages) - 1
    if (bottom := config.hierarchy.bottom) is not None:
        last = bottom
        finer = Fold(config.bottom_positions, config.bottom_frames, places * width,
                     config.vector_width - places * width, name="finer")(vectors)
        for i, up in top_upsamplings(config, "top"):
            x = gelu(up(x))
            field.add(up, ratio=config.stages[i].stride)
        x = layers.Concatenate(name="both")([x, finer])
    expand = PlaneConv(config.stages[last].channels, 3, name="expand")
    x = expand(x)
    field.add(expand)
    for i in reversed(range(last + 1)):
        for block in stage_blocks(config, i, PlaneBlock):
            x = block(x)
            field.add(block)
        x = layers.Activation(gelu, name=f"activation_{i}")(x)
        if i:
            ratio = config.stages[i].stride
            up = PlaneUpsampling(config.stages[i - 1].channels, ratio, name=f"up_{i}")
            x = up(x)
            field.add(up, ratio=ratio)
    conv = PlaneConv(HEAD_CHANNELS, 1, name="last")
    field.add(conv)
    head = HEADS[config.head.kind](config)
    audio = head.synthesise(Unfold(name="frames")(gelu(conv(x))), None, field)
    return keras.Model(vectors, head.outputs(audio), name="decoder"), head


def top_upsamplings(config: CodecConfig, name: str) -> list[tuple[int, PlaneUpsampling]]:
    """New layers that bring the top to the rate and the positions of the finer level, each with its
    stage.
    """
    return [(i, PlaneUpsampling(config.stages[i - 1].channels, config.stages[i].stride,
                                name=f"{name}_{i}"))
            for i in reversed(range(config.hierarchy.bottom + 1, len(config.stages)))]
