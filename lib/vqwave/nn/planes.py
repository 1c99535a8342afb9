"""Spectrograms as pictures: two-dimensional convolutions over frames and bands on either side of
the quantizer.

A plane is [batch, frames, places, channels]; between networks it travels as frames, [batch, frames,
places·channels]. How far a layer sees is told along the frames alone.
"""

from __future__ import annotations

import keras
from keras import layers, ops

from ..config import CodecConfig
from .heads import HEADS, Head
from .layers import Reach, Same, gelu, named, register

LAST = 8
"""Channels of each band that the head is given."""


@register
class PlaneConv(layers.Conv2D):
    """Keras's 2-D convolution over frames and places, zeros outside, that reports its receptive
    field. dilation: along the frames.
    """

    def __init__(self, filters, kernel_size, strides=1, dilation=1, **kwargs):
        super().__init__(filters, kernel_size, strides=strides, padding="same",
                         dilation_rate=(dilation, 1), **kwargs)
        self.dilation = dilation

    @property
    def receptive_field(self) -> tuple[int, int]:
        return Same.reach(self.kernel_size[0], self.dilation, self.strides[0])

    def get_config(self):
        config = super().get_config() | {"dilation": self.dilation}
        for key in ("padding", "dilation_rate"):
            del config[key]
        return config


@register
class PlaneBlock(layers.Layer):
    """x + 1x1(act(3x3 conv(act(x)))): a `layers.ResidualBlock` over planes, of the same shape."""

    def __init__(self, channels: int, dilation: int, kernel_size: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.dilation, self.kernel_size = channels, dilation, kernel_size
        self.dilated = PlaneConv(channels, kernel_size, dilation=dilation, name="dilated",
                                 dtype=self.dtype_policy)
        # Zeros at first: every block begins as the identity.
        self.mix = PlaneConv(channels, 1, kernel_initializer="zeros", name="mix",
                             dtype=self.dtype_policy)

    def build(self, shape):
        self.dilated.build(shape)
        self.mix.build((*shape[:-1], self.channels))

    @property
    def receptive_field(self) -> tuple[int, int]:
        return self.dilated.receptive_field

    def call(self, x):
        return x + self.mix(gelu(self.dilated(gelu(x))))

    def compute_output_shape(self, shape):
        return tuple(shape)

    def get_config(self):
        own = {"channels": self.channels, "dilation": self.dilation,
               "kernel_size": self.kernel_size}
        return super().get_config() | own


@register
class PlaneUpsampling(layers.Layer):
    """A convolution folded into both axes: [batch, N, P, c] -> [batch, N·ratio, P·ratio, channels]
    (Shi et al. 2016).
    """

    def __init__(self, channels: int, ratio: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio = channels, ratio
        self.conv = PlaneConv(channels * ratio**2, 3, name="conv", dtype=self.dtype_policy)

    def build(self, shape):
        self.conv.build(shape)

    @property
    def receptive_field(self) -> tuple[int, int]:
        return self.conv.receptive_field

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

    def get_config(self):
        return super().get_config() | {"channels": self.channels, "ratio": self.ratio}


def to_plane(x, places: int):
    """Frames [batch, N, places·c] -> [batch, N, places, c]."""
    return ops.reshape(x, (ops.shape(x)[0], -1, places, x.shape[-1] // places))


def to_frames(x, per_frame: int = 1):
    """[batch, N·per_frame, places, c] -> frames [batch, N, per_frame·places·c]."""
    return ops.reshape(x, (ops.shape(x)[0], -1, per_frame * x.shape[2] * x.shape[3]))


@register
class Fold(layers.Layer):
    """`to_plane` as a layer, of the first `width` channels from `first` on."""

    def __init__(self, places: int, per_frame: int, first: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.places, self.per_frame, self.first, self.width = places, per_frame, first, width

    def call(self, x):
        part = x[..., self.first : self.first + self.width]
        channels = self.width // (self.places * self.per_frame)
        return ops.reshape(part, (ops.shape(x)[0], -1, self.places, channels))

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] * self.per_frame, self.places,
                self.width // (self.places * self.per_frame))

    def get_config(self):
        own = {"places": self.places, "per_frame": self.per_frame, "first": self.first,
               "width": self.width}
        return super().get_config() | own


@register
class Unfold(layers.Layer):
    """`to_frames` as a layer, in float32."""

    def __init__(self, per_frame: int = 1, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.per_frame = per_frame

    def call(self, x):
        return to_frames(x, self.per_frame)

    def compute_output_shape(self, shape):
        batch, frames, places, channels = shape
        return (batch, None if frames is None else frames // self.per_frame,
                self.per_frame * places * channels)

    def get_config(self):
        return super().get_config() | {"per_frame": self.per_frame}


def _blocks(config: CodecConfig, stage: int) -> list:
    return [PlaneBlock(config.stages[stage].channels, dilation, config.block.kernel_size,
                       name=name)
            for name, dilation in named(f"block_{stage}", config.stages[stage].dilations)]


def plane_encoder(config: CodecConfig, front_end) -> tuple[keras.Model, Reach]:
    """The decoder's stages in reverse, those behind the spectrogram: [batch, frames, bands] ->
    latents [batch, N, positions·width].

    Where the hierarchy has a finer level too, the features of the stage that it stands on come
    behind those of the top: [batch, N, positions·width + its frames in one of the top's · its
    positions · channels].
    """
    features = keras.Input((None, front_end.channels), name="spectrogram")
    # Levels of 0.1 … 1.1, centred and scaled to about one.
    x = layers.Rescaling(4.0, -2.0, name="scale")(features)
    x = layers.Reshape((-1, front_end.channels, 1), name="plane")(x)
    reach, finer = Reach(), []
    for i in config.encoder_stages:
        stage = config.stages[i]
        down = PlaneConv(stage.channels, 2 * stage.stride, strides=stage.stride, name=f"down_{i}")
        x = down(x)
        reach.add(down, stride=stage.stride)
        for block in _blocks(config, i):
            x = block(x)
            reach.add(block)
        if i == config.hierarchy.bottom_stage:
            finer = [Unfold(config.bottom_frames, name="finer")(x)]
    x = layers.Activation(gelu, name="activation")(x)
    conv = PlaneConv(config.quantizer.width, 3, name="latents")
    reach.add(conv)
    latents = Unfold(name="frames")(conv(x))
    if finer:
        latents = layers.Concatenate(name="both", dtype="float32")([latents, *finer])
    return keras.Model(features, latents, name="encoder"), reach


def upsample_top(config: CodecConfig, x, name: str, reach: Reach):
    """Vectors of the top [batch, N, positions, c] at the rate and the positions of the finer level:
    [batch, N·r, P, channels of its stage].
    """
    bottom = config.hierarchy.bottom_stage
    for i in reversed(range(bottom + 1, len(config.stages))):
        ratio = config.stages[i].stride
        up = PlaneUpsampling(config.stages[i - 1].channels, ratio, name=f"{name}_{i}")
        x = gelu(up(x))
        reach.add(up, ratio=ratio)
    return x


def plane_decoder(config: CodecConfig) -> tuple[keras.Model, Head]:
    """(vectors float32 [batch, N, positions·vector_width] -> audio float32 [batch, N·level, 1], the
    head); of two levels the vectors are the top's and, behind them, those of the finer one.
    """
    vectors = keras.Input((None, config.vector_width), name="vectors")
    width, places, reach = config.quantizer.vector_width, config.positions, Reach()
    top = x = Fold(places, 1, 0, places * width, name="plane")(vectors)
    last = len(config.stages) - 1
    if (bottom := config.hierarchy.bottom_stage) is not None:
        last = bottom
        finer = Fold(config.bottom_positions, config.bottom_frames, places * width,
                     config.vector_width - places * width, name="finer")(vectors)
        x = layers.Concatenate(name="both")([upsample_top(config, top, "top", reach), finer])
    expand = PlaneConv(config.stages[last].channels, 3, name="expand")
    x = expand(x)
    reach.add(expand)
    for i in reversed(range(last + 1)):
        for block in _blocks(config, i):
            x = block(x)
            reach.add(block)
        x = layers.Activation(gelu, name=f"activation_{i}")(x)
        if i:
            ratio = config.stages[i].stride
            up = PlaneUpsampling(config.stages[i - 1].channels, ratio, name=f"up_{i}")
            x = up(x)
            reach.add(up, ratio=ratio)
    conv = PlaneConv(LAST, 1, name="last")
    reach.add(conv)
    head = HEADS[type(config.head)](config)
    audio = head.synthesise(Unfold(name="frames")(gelu(conv(x))), None, reach)
    return keras.Model(vectors, head.outputs(audio), name="decoder"), head


class TopDown(layers.Layer):
    """Two levels of latents, of which the coarser conditions the finer: VQ-VAE-2 (Razavi et al.
    2019, section 3.1, algorithm 1).

    latents float32 [batch, N, top + finer features], as `plane_encoder` makes them -> (vectors
    [batch, N, vector_width], codes int32 [batch, N, books]). The top's latents are quantized, what
    they became is up-sampled and laid beside the finer features, and what a convolution makes of
    both is quantized by books of its own. Of a frame the top's codes come first.

    top, finer: what quantizes each, see `hierarchies.Places`.
    """

    def __init__(self, config: CodecConfig, top, finer, **kwargs):
        super().__init__(**kwargs)
        self.config, self.top, self.finer = config, top, finer
        self.tops = config.positions * config.quantizer.width
        self.codes_of_top = config.quantizer.books * config.positions
        reach = Reach()
        stages, bottom = config.stages, config.hierarchy.bottom_stage
        self.ups = [PlaneUpsampling(stages[i - 1].channels, stages[i].stride, name=f"up_{i}")
                    for i in reversed(range(bottom + 1, len(stages)))]
        for up, i in zip(self.ups, reversed(range(bottom + 1, len(stages))), strict=True):
            reach.add(up, ratio=stages[i].stride)
        self.mix = PlaneConv(stages[bottom].channels, 3, name="mix")
        self.latents = PlaneConv(config.quantizer.width, 3, name="latents")
        reach.add(self.mix).add(self.latents)
        self.receptive_field = (reach.left, reach.right)
        """In frames of the top."""

    def build(self, shape):
        config, bottom = self.config, self.config.stages[self.config.hierarchy.bottom_stage]
        x = (None, None, config.positions, config.quantizer.vector_width)
        for up in self.ups:
            up.build(x)
            x = up.compute_output_shape(x)
        self.mix.build((*x[:-1], x[-1] + bottom.channels))
        self.latents.build((*x[:-1], bottom.channels))
        self.top.build((None, None, self.tops))
        self.finer.build((None, None, config.bottom_positions * config.quantizer.width))

    @property
    def networks(self) -> list:
        """The variables that encoding needs besides the codebooks."""
        made: list[keras.layers.Layer] = [*self.ups, self.mix, self.latents]
        return [v for layer in made for v in layer.weights]

    @property
    def codebooks(self) -> list:
        return [*self.top.codebooks, *self.finer.codebooks]

    def set_codebooks(self):
        self.top.set_codebooks()
        self.finer.set_codebooks()

    def update_metrics(self):
        self.top.update_metrics()
        self.finer.update_metrics()

    def _finer_latents(self, latents, top):
        """The finer level's [batch, N·r, P·width], of the encoder's latents and the top's vectors.
        """
        config = self.config
        x = to_plane(top, config.positions)
        for up in self.ups:
            x = gelu(up(x))
        beside = latents[..., self.tops :]
        beside = ops.reshape(beside, (ops.shape(x)[0], -1, config.bottom_positions,
                                      config.stages[config.hierarchy.bottom_stage].channels))
        x = ops.concatenate([ops.cast(beside, x.dtype), x], axis=-1)
        return to_frames(self.latents(gelu(self.mix(gelu(x)))))

    def _pack(self, top, finer):
        """[batch, N, a] and [batch, N·r, b] -> [batch, N, a + r·b]."""
        per_frame = self.config.bottom_frames
        finer = ops.reshape(finer, (ops.shape(finer)[0], -1, per_frame * finer.shape[-1]))
        return ops.concatenate([top, finer], axis=-1)

    def encode(self, latents):
        """latents -> codes int32 [batch, N, books]."""
        codes = self.top.encode(latents[..., : self.tops])
        finer = self._finer_latents(latents, self.top.lookup(codes))
        return self._pack(codes, self.finer.encode(finer))

    def lookup(self, codes):
        """codes int32 [batch, N, books] -> vectors float32 [batch, N, vector_width]."""
        own, finer = codes[..., : self.codes_of_top], codes[..., self.codes_of_top :]
        width = finer.shape[-1] // self.config.bottom_frames
        finer = ops.reshape(finer, (ops.shape(finer)[0], -1, width))
        return self._pack(self.top.lookup(own), self.finer.lookup(finer))

    def call(self, latents, training=False):
        top, codes = self.top(latents[..., : self.tops], training=training)
        finer, finer_codes = self.finer(self._finer_latents(latents, top), training=training)
        return self._pack(top, finer), self._pack(codes, finer_codes)
