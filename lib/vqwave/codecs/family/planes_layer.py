"""Spectrograms as images: two-dimensional convolutions over frames and bands, and quantizers with
one or two levels of latents, one class for each kind of `hierarchy` in the config.

A plane is [batch, frames, positions, channels]. Between networks a plane is flattened to frames,
[batch, frames, positions·channels]. Receptive fields are along the frames only.
"""

import keras
from keras import layers, ops

from ...levels.kinds import layer_for, layer_of
from ..blocks_layer import ReceptiveField, ResidualBlock, conv_field, gelu, stage_blocks
from ..codebooks_layer import Quantized, Quantizer
from ..codec import CodecConfig
from ..heads_layer import Head
from ..quantizers_layer import new_quantizer
from .planes import PlaneEncoder, SingleLevelHierarchy, TopDownHierarchy

HEAD_CHANNELS = 8
"""The number of channels of each band in the head's input."""


class PlaneConv(layers.Conv2D):
    """Keras's 2-D convolution over frames and positions. dilation: along the frames."""

    past_steps = 0

    def __init__(self, filters, kernel_size, strides=1, padding="same", dilation=1, **kwargs):
        super().__init__(filters, kernel_size, strides=strides, padding=padding,
                         dilation_rate=(dilation, 1), **kwargs)
        self.receptive_field = conv_field(padding, kernel_size, dilation, strides)


class PlaneBlock(ResidualBlock):
    """A residual block over planes."""

    CONV = PlaneConv


class PlaneUpsampling(layers.Layer):
    """A convolution folded into both axes (Shi et al. 2016): [batch, N, P, c] -> [batch, N·ratio,
    P·ratio, channels].
    """

    def __init__(self, channels: int, ratio: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio = channels, ratio
        self.conv = PlaneConv(channels * ratio**2, 3, name="conv", dtype=self.dtype_policy)
        self.receptive_field = self.conv.receptive_field

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        r, positions = self.ratio, x.shape[2]
        x = self.conv(x)
        x = ops.reshape(x, (ops.shape(x)[0], -1, positions, r, r * self.channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        return ops.reshape(x, (ops.shape(x)[0], -1, positions * r, self.channels))


def top_upsamplings(config: CodecConfig, name: str) -> list[PlaneUpsampling]:
    """New layers that bring the top to the rate and the positions of the bottom."""
    return [PlaneUpsampling(config.stages[i - 1].channels, config.stages[i].stride,
                            name=f"{name}_{i}")
            for i in reversed(range(config.hierarchy.bottom + 1, len(config.stages)))]


def to_frames(plane, per_frame: int = 1, **kwargs):
    """[batch, N·per_frame, positions, c] -> frames float32 [batch, N, per_frame·positions·c]."""
    width = per_frame * plane.shape[2] * plane.shape[3]
    return layers.Reshape((-1, width), dtype="float32", **kwargs)(plane)


def plane_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, ReceptiveField]:
    """The decoder's stages in reverse order, after the spectrogram: [batch, frames, bands] ->
    latents [batch, N, positions·width].

    A hierarchy appends the features of the bottom's stage to those of the top: [batch, N,
    positions·width + bottom_frames·bottom_positions·channels].
    """
    features = keras.Input((None, front_end.channels), name="spectrogram")
    # Loudness of 0.1 … 1.1, centred and scaled to about 1.
    x = layers.Rescaling(4.0, -2.0, name="scale")(features)
    x = layers.Reshape((-1, front_end.channels, 1), name="plane")(x)
    field, bottom = ReceptiveField(), []
    for i in config.encoder_stages:
        stage = config.stages[i]
        x = field.through(x, PlaneConv(stage.channels, 2 * stage.stride, strides=stage.stride,
                                       name=f"down_{i}"), *stage_blocks(config, i, PlaneBlock))
        if i == config.hierarchy.bottom:
            bottom = [to_frames(x, config.bottom_frames, name="finer")]
    x = layers.Activation(gelu, name="activation")(x)
    x = field.through(x, PlaneConv(config.quantizer.width, 3, name="latents"))
    latents = to_frames(x, name="frames")
    if bottom:
        latents = layers.Concatenate(name="both", dtype="float32")([latents, *bottom])
    return keras.Model(features, latents, name="encoder"), field


def plane_decoder(config: CodecConfig) -> tuple[keras.Model, Head]:
    """(vectors float32 [batch, N, vector_width] -> audio float32 [batch, N·level, 1], the head).
    With two levels, the vectors of the top come first, then those of the bottom.
    """
    vectors = keras.Input((None, config.vector_width), name="vectors")
    width, positions, field = config.quantizer.vector_width, config.positions, ReceptiveField()
    x = layers.Reshape((-1, positions, width), name="plane")(vectors[..., : positions * width])
    last = len(config.stages) - 1
    if config.hierarchy.bottom is not None:
        last = config.hierarchy.bottom
        bottom = layers.Reshape((-1, config.bottom_positions, width), name="finer")(
            vectors[..., positions * width :])
        for up in top_upsamplings(config, "top"):
            x = gelu(field.through(x, up))
        x = layers.Concatenate(name="both")([x, bottom])
    x = field.through(x, PlaneConv(config.stages[last].channels, 3, name="expand"))
    for i in reversed(range(last + 1)):
        x = field.through(x, *stage_blocks(config, i, PlaneBlock))
        x = layers.Activation(gelu, name=f"activation_{i}")(x)
        if i:
            x = field.through(x, PlaneUpsampling(config.stages[i - 1].channels,
                                                 config.stages[i].stride, name=f"up_{i}"))
    x = field.through(x, PlaneConv(HEAD_CHANNELS, 1, name="last"))
    head = layer_of(config.head)(config)
    audio = head.synthesise(to_frames(gelu(x), name="frames"), None, field)
    return keras.Model(vectors, head.outputs(audio), name="decoder"), head


class Positions(Quantizer):
    """Applies a quantizer of one vector at each position of a frame: latents float32 [batch, N,
    positions·width] -> `Quantized` with vectors [batch, N, positions·vector_width] and codes int32
    [batch, N, books·positions].

    All positions share the codebooks. The codes of a frame are ordered by book, then by position,
    so the first n·positions codes are those of the first n books.
    """

    def __init__(self, config, positions: int, seed: int = 0, **kwargs):
        super().__init__(config, **kwargs)
        self.positions, self.quantizer = positions, new_quantizer(config, seed)
        self.parts, self.suffixes = [self.quantizer], [""]

    def build(self, shape):
        self.quantizer.build((None, None, self.config.width))

    def encode(self, latents):
        """latents -> codes int32 [batch, N, books·positions]; of a VAE, vectors."""
        return self._join_codes(self.quantizer.encode(self._split(latents)))

    def lookup(self, codes):
        """codes int32 [batch, N, n·positions] of the first n books; of a VAE, vectors -> vectors
        float32 [batch, N, positions·vector_width].
        """
        if not self.config.has_codes:
            return self.quantizer.lookup(codes)
        batch, frames, count = ops.shape(codes)
        books = count // self.positions
        codes = ops.reshape(codes, (batch, frames, books, self.positions))
        codes = ops.transpose(codes, (0, 1, 3, 2))
        codes = ops.reshape(codes, (batch, frames * self.positions, books))
        return self._join(self.quantizer.lookup(codes), self.config.vector_width)

    def call(self, latents, training=False):
        vectors, codes, losses, metrics = self.quantizer(self._split(latents), training=training)
        return Quantized(self._join(vectors, self.config.vector_width), self._join_codes(codes),
                         losses, metrics)

    def _split(self, latents):
        """[batch, N, positions·width] -> [batch, N·positions, width]."""
        return ops.reshape(latents, (ops.shape(latents)[0], -1, self.config.width))

    def _join(self, x, width):
        """[batch, N·positions, width] -> [batch, N, positions·width]."""
        return ops.reshape(x, (ops.shape(x)[0], -1, self.positions * width))

    def _join_codes(self, codes):
        """Codes of each position [batch, N·positions, n] -> of a frame [batch, N, n·positions]."""
        count = codes.shape[-1]
        if not self.config.has_codes:
            return self._join(codes, count)
        codes = ops.reshape(codes, (ops.shape(codes)[0], -1, self.positions, count))
        return ops.reshape(ops.transpose(codes, (0, 1, 3, 2)),
                           (ops.shape(codes)[0], -1, count * self.positions))


@layer_for(TopDownHierarchy)
class TopDown(Quantizer):
    """Two levels of latents; the top conditions the bottom: VQ-VAE-2 (Razavi et al. 2019, section
    3.1, algorithm 1).

    latents float32 [batch, N, top + bottom features] of `plane_encoder` -> `Quantized` with vectors
    [batch, N, vector_width] and codes int32 [batch, N, books]. The quantized top is up-sampled and
    concatenated with the bottom features. A convolution of both is quantized with separate
    codebooks. The top's codes come first in a frame.
    """

    def __init__(self, config: CodecConfig, seed: int = 0, **kwargs):
        super().__init__(config, name="levels", dtype=None, **kwargs)
        quantizer = config.quantizer
        self.top = Positions(quantizer, config.positions, seed, name="level_0")
        self.bottom = Positions(quantizer, config.bottom_positions, seed + 100, name="level_1")
        self.parts, self.suffixes = [self.top, self.bottom], ["_top", "_bottom"]
        self.top_width = config.positions * quantizer.width
        self.top_codes = quantizer.books * config.positions
        channels = config.stages[config.hierarchy.bottom].channels
        self.bottom_shape = (-1, config.bottom_positions, channels)
        self.upsamplings = top_upsamplings(config, "up")
        self.mix = PlaneConv(channels, 3, name="mix")
        self.latents = PlaneConv(quantizer.width, 3, name="latents")
        field = ReceptiveField()
        for layer in (*self.upsamplings, self.mix, self.latents):
            field.add(layer)
        self.receptive_field = (field.left, field.right)

    def build(self, shape):
        width, channels = self.config.quantizer.vector_width, self.bottom_shape[-1]
        for up in self.upsamplings:
            up.build((None, None, None, width))
            width = up.channels
        self.mix.build((None, None, None, width + channels))
        self.latents.build((None, None, None, channels))
        self.top.build(None)
        self.bottom.build(None)

    @property
    def encoder_weights(self) -> list:
        """The variables besides the codebooks that encoding needs."""
        networks: list[layers.Layer] = [*self.upsamplings, self.mix, self.latents]
        return [variable for layer in networks for variable in layer.weights]

    def encode(self, latents):
        """latents -> codes int32 [batch, N, books]."""
        codes = self.top.encode(latents[..., : self.top_width])
        bottom = self._bottom_latents(latents, self.top.lookup(codes))
        return self._pack(codes, self.bottom.encode(bottom))

    def lookup(self, codes):
        """codes int32 [batch, N, books] -> vectors float32 [batch, N, vector_width]."""
        top, bottom = codes[..., : self.top_codes], codes[..., self.top_codes :]
        width = bottom.shape[-1] // self.config.bottom_frames
        bottom = ops.reshape(bottom, (ops.shape(bottom)[0], -1, width))
        return self._pack(self.top.lookup(top), self.bottom.lookup(bottom))

    def call(self, latents, training=False):
        top = self.top(latents[..., : self.top_width], training=training)
        bottom = self.bottom(self._bottom_latents(latents, top.vectors), training=training)
        return Quantized(self._pack(top.vectors, bottom.vectors),
                         self._pack(top.codes, bottom.codes), *self.combine([top, bottom]))

    def _bottom_latents(self, latents, top):
        """The bottom's latents [batch, N·r, P·width], from all latents and the top's vectors."""
        batch = ops.shape(top)[0]
        x = ops.reshape(top, (batch, -1, self.config.positions, self.config.quantizer.vector_width))
        for up in self.upsamplings:
            x = gelu(up(x))
        features = ops.reshape(latents[..., self.top_width :], (batch, *self.bottom_shape))
        x = ops.concatenate([ops.cast(features, x.dtype), x], axis=-1)
        x = self.latents(gelu(self.mix(gelu(x))))
        return ops.reshape(x, (batch, -1, x.shape[2] * x.shape[3]))

    def _pack(self, top, bottom):
        """[batch, N, a] and [batch, N·r, b] -> [batch, N, a + r·b]."""
        per_frame = self.config.bottom_frames
        bottom = ops.reshape(bottom, (ops.shape(bottom)[0], -1, per_frame * bottom.shape[-1]))
        return ops.concatenate([top, bottom], axis=-1)


@layer_for(SingleLevelHierarchy)
def single_level(config: CodecConfig, seed: int = 0):
    """The quantizer itself for frames of one position, otherwise `Positions`."""
    if config.positions == 1:
        return new_quantizer(config.quantizer, seed)
    return Positions(config.quantizer, config.positions, seed, name="places")


layer_for(PlaneEncoder)((plane_encoder, plane_decoder))
