"""Building blocks of encoders and decoders: convolutions, residual blocks, up-sampling."""

import dataclasses
from typing import ClassVar, Self

from keras import layers, ops

from ..levels.kinds import layer_for, layer_of
from .blocks import DilatedBlock, NoBottleneck, SubPixel
from .codec import CodecConfig


@dataclasses.dataclass
class ReceptiveField:
    """The receptive field of a stack of layers: left and right in steps of the stack's input."""

    left: float = 0.0
    right: float = 0.0
    step: float = 1.0

    def add(self, layer) -> Self:
        """Add the next layer's `receptive_field`, (left, right) in steps of the layer's input. The
        layer's `strides` divide the rate, and its `ratio` multiplies the rate.
        """
        left, right = layer.receptive_field
        self.left += left * self.step
        self.right += right * self.step
        self.step *= getattr(layer, "strides", (1,))[0] / getattr(layer, "ratio", 1)
        return self

    def through(self, x, *layers):
        """Apply these layers to x, and add their receptive fields."""
        for layer in layers:
            x = layer(x)
            self.add(layer)
        return x

    def copy(self) -> Self:
        return dataclasses.replace(self)


def conv_field(padding: str, kernel_size: int, dilation: int = 1, stride: int = 1):
    """The receptive field of a convolution, (left, right) in steps of its input.

    causal: the input is padded on the left with earlier steps or zeros. A strided output depends on
    no later samples than its own. same: zeros on both sides. With a stride, the side with more
    zeros depends on the length, so both sides count in full.
    """
    if padding == "causal":
        return dilation * (kernel_size - 1) + 1 - stride, 0
    side = dilation * (kernel_size // 2) if stride == 1 else kernel_size - stride
    return side, side


def prepend_past(x, count: int, past=None):
    """The last `count` past steps, then x [batch, time, c]. past: None means zeros."""
    if past is not None:
        return ops.concatenate([ops.cast(past, x.dtype), x], axis=1)
    return ops.pad(x, [[0, 0], [count, 0], [0, 0]]) if count else x


class Conv(layers.Conv1D):
    """Keras's 1-D convolution, padded `same` or `causal`, with a receptive field. In blocks, a
    convolution takes the `past_steps` steps before its input as `past`; None means a piece's start.
    With `same`, the outputs of blocks are `receptive_field[1]` steps late.
    """

    def __init__(self, filters, kernel_size, strides=1, padding="same", dilation=1, **kwargs):
        super().__init__(filters, kernel_size, strides=strides, dilation_rate=dilation,
                         padding="valid" if padding == "causal" else padding, **kwargs)
        self.receptive_field = conv_field(padding, kernel_size, dilation, strides)
        self.past_steps = sum(self.receptive_field)

    def call(self, x, past=None):
        if self.padding == "valid":
            return super().call(prepend_past(x, self.past_steps, past))
        return super().call(x) if past is None else self._late(prepend_past(x, 0, past))

    def _late(self, x):
        """The valid part of the convolution, as one product: TensorFlow would cut a dilated
        convolution of a few steps into `dilation` convolutions.
        """
        steps, (dilation,) = ops.shape(x)[1] - self.past_steps, self.dilation_rate
        taps = [x[:, k * dilation : k * dilation + steps] for k in range(self.kernel_size[0])]
        kernel = ops.reshape(self.kernel, (-1, self.filters))
        return ops.matmul(ops.concatenate(taps, axis=-1), kernel) + self.bias

    def compute_output_shape(self, x_shape, past_shape=None):
        batch, steps, _ = x_shape
        return (batch, None if steps is None else -(-steps // self.strides[0]), self.filters)


@layer_for(DilatedBlock)
class ResidualBlock(layers.Layer):
    """x + 1x1(gelu(dilated conv(gelu(x)))): [batch, time, channels] -> the same shape.

    The residual unit of SEANet and SoundStream (Zeghidour et al. 2021), with the tanh form of GELU.
    """

    CONV: ClassVar[type] = Conv

    def __init__(self, config: DilatedBlock, channels: int, dilation: int, padding: str = "same",
                 **kwargs):
        super().__init__(**kwargs)
        self.dilated = self.CONV(channels, config.kernel_size, dilation=dilation, padding=padding,
                                 name="dilated", dtype=self.dtype_policy)
        self.past_steps = self.dilated.past_steps
        self.receptive_field = self.dilated.receptive_field
        # With zeros every block starts as the identity, so deep stacks learn from the first step.
        self.mix = self.CONV(channels, 1, kernel_initializer="zeros", name="mix",
                             dtype=self.dtype_policy)

    def call(self, x, past=None):
        if past is None:
            return x + self.mix(gelu(self.dilated(gelu(x))))
        y = self.mix(gelu(self.dilated(gelu(x), gelu(past))))
        before, after = self.receptive_field
        return prepend_past(x, 0, past)[:, before : -after if after else None] + y


class CroppedResidual(layers.Layer):
    """x[r:-r] + gelu(unpadded dilated conv(x)), where r is the receptive field on either side:
    [batch, time, channels] -> [batch, time − 2·r, channels].
    """

    def __init__(self, channels: int, dilation: int, kernel_size: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.side = channels, dilation * (kernel_size // 2)
        self.receptive_field = (self.side, self.side)
        self.conv = layers.Conv1D(channels, kernel_size, dilation_rate=dilation,
                                  padding="valid", name="conv", dtype=self.dtype_policy)

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return x[:, self.side : -self.side] + gelu(self.conv(x))

    def compute_output_shape(self, shape):
        """JAX cannot infer that both terms of the sum have the same unknown length."""
        return (shape[0], None if shape[1] is None else shape[1] - 2 * self.side, self.channels)


@layer_for(SubPixel)
class SubPixelUpsampling(layers.Layer):
    """A convolution folded into time: [batch, N, c] -> [batch, N·ratio, channels] (Shi et al.
    2016).

    Initially a constant input gives a constant output (Aitken et al. 2017). After training, the
    `ratio` phases may answer a constant input differently. This adds spectral lines at multiples of
    the input rate (the checkerboard of Odena et al. 2016). Phases with equal answers leave notches
    there instead. even: the share of the difference between phases that is removed, in [0, 1].
    """

    def __init__(self, channels: int, ratio: int, kernel_size: int = 3, even: float = 0.0,
                 padding: str = "same", **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio, self.even = channels, ratio, even
        self.conv = Conv(channels * ratio, kernel_size, padding=padding, name="conv",
                         dtype=self.dtype_policy)
        self.receptive_field = self.conv.receptive_field
        self.past_steps = self.conv.past_steps if padding == "causal" else 0

    def build(self, shape):
        self.conv.build(shape)
        self.conv.kernel.assign(self._even(self.conv.kernel, 1.0))

    def call(self, x, past=None):
        if self.even:
            kernel = self._even(self.conv.kernel, self.even)
            bias = self._even(ops.reshape(self.conv.bias, (1, 1, -1)), self.even)
            x = prepend_past(x, self.past_steps, past)
            x = ops.conv(x, kernel, 1, self.conv.padding) + bias
        else:
            x = self.conv(x, past=past)
        return ops.reshape(x, (ops.shape(x)[0], -1, self.channels))

    def _even(self, kernel, share: float):
        """kernel [taps, c, ratio·channels] without `share` of the difference between each phase's
        mean over the taps and the mean of all phases.
        """
        kernel = ops.convert_to_tensor(kernel)
        phases = ops.reshape(kernel, (*kernel.shape[:2], self.ratio, self.channels))
        mean = ops.mean(phases, axis=0, keepdims=True)
        return ops.reshape(phases - share * (mean - ops.mean(mean, axis=2, keepdims=True)),
                           kernel.shape)


def dilated_names(name: str, dilations) -> list[tuple[str, int]]:
    """(the layer's name in weights files, dilation) of each dilation: `name`_1 for dilation 1, and
    `name`_1_2, `name`_1_3 for its repetitions.
    """
    counts = [dilations[: i + 1].count(dilation) for i, dilation in enumerate(dilations)]
    return [(f"{name}_{dilation}" + (f"_{count}" if count > 1 else ""), dilation)
            for dilation, count in zip(dilations, counts, strict=True)]


def gelu(x):
    return ops.gelu(x, approximate=True)


def built(layer, inputs: int | None = None):
    """The layer, built for [batch, T, inputs]."""
    layer.build((None, None) if inputs is None else (None, None, inputs))
    return layer


def dense(inputs: int, units: int, name: str) -> layers.Dense:
    """A built layer, [..., inputs] -> [..., units]."""
    return built(layers.Dense(units, name=name), inputs)


def stage_blocks(config: CodecConfig, stage: int, block: type | None = None) -> list:
    """New blocks of a stage, of the class `block` or the kind in the config."""
    block = block or layer_of(config.block)
    return [block(config.block, config.stages[stage].channels, dilation, config.padding, name=name)
            for name, dilation in dilated_names(f"block_{stage}", config.stages[stage].dilations)]


def upsampling(config: CodecConfig, channels: int, ratio: int, kernel_size: int, name: str):
    """A new up-sampling of the kind that a codec's config names."""
    return layer_of(config.upsampling)(channels, ratio, kernel_size, config.even,
                                       config.padding, name=name)


layer_for(NoBottleneck)(lambda config: [])
