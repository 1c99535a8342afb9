"""The building blocks: residual dilated convolutions, sub-pixel up-sampling, how each is padded and
how far it sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from ..config import (
    Config,
    DilatedBlock,
    MultiresolutionBlock,
    ResNetBlock,
    SubPixel,
    Transposed,
)


class Reach:
    """How far a stack of layers sees, composed from the receptive field that each of them reports.

    Layers are added in the order in which the signal walks through them. A layer's
    `receptive_field` is (left, right) in steps of its own input; `stride` divides the rate behind
    it, `ratio` multiplies it. left, right: in steps of the stack's input.
    """

    def __init__(self):
        self.left = self.right = 0.0
        self.step = 1.0

    def add(self, layer, stride: int = 1, ratio: int = 1) -> Reach:
        left, right = layer.receptive_field
        self.left += left * self.step
        self.right += right * self.step
        self.step *= stride / ratio
        return self

    def copy(self) -> Reach:
        other = Reach()
        other.left, other.right, other.step = self.left, self.right, self.step
        return other


def register(cls):
    return keras.saving.register_keras_serializable("vqwave")(cls)


class Same:
    """Zeros on both sides, so that a step sees as far ahead as back."""

    of_keras = "same"
    """What Keras is told."""

    @staticmethod
    def past(kernel_size: int, dilation: int = 1, stride: int = 1) -> int:
        """Steps that are put before the input before Keras's convolution sees it."""
        return 0

    @staticmethod
    def reach(kernel_size: int, dilation: int = 1, stride: int = 1) -> tuple[int, int]:
        """(left, right) in steps of the input.

        With a stride the padding's side depends on the length: either side may see what the kernel
        has over it.
        """
        side = dilation * (kernel_size // 2) if stride == 1 else kernel_size - stride
        return side, side


class Causal:
    """Steps of the past before the input and nothing behind it: zeros where a piece begins.

    A strided step sees all of its own samples, so that no more than those is waited for.
    """

    of_keras = "valid"

    @staticmethod
    def past(kernel_size: int, dilation: int = 1, stride: int = 1) -> int:
        return dilation * (kernel_size - 1) + 1 - stride

    @classmethod
    def reach(cls, kernel_size: int, dilation: int = 1, stride: int = 1) -> tuple[int, int]:
        return cls.past(kernel_size, dilation, stride), 0


PADDINGS: dict[str, Any] = {"same": Same, "causal": Causal}
"""What a convolution is given at its ends: a class of `of_keras`, `past` and `reach`."""


def after(x, count: int, past=None):
    """x [batch, time, c] behind the last `count` steps of what came before it; None: zeros."""
    if past is not None:
        return ops.concatenate([ops.cast(past, x.dtype), x], axis=1)
    return ops.pad(x, [[0, 0], [count, 0], [0, 0]]) if count else x


@register
class ResidualBlock(layers.Layer):
    """x + 1x1(act(dilated conv(act(x)))): [batch, time, channels] -> the same shape.

    Dilated residual units as in SEANet / SoundStream (Zeghidour et al. 2021); GELU in its tanh form
    costs a CPU less than Snake and trains as well at these sizes.

    A layer that is padded `causal` needs `past` steps before its input, and takes them where it is
    given a block of a piece: so a piece may come in blocks.
    """

    def __init__(self, channels: int, dilation: int, kernel_size: int = 3, padding: str = "same",
                 **kwargs):
        super().__init__(**kwargs)
        self.channels, self.dilation, self.kernel_size = channels, dilation, kernel_size
        self.padding = padding
        self.past = PADDINGS[padding].past(kernel_size, dilation)
        self.dilated = layers.Conv1D(channels, kernel_size, dilation_rate=dilation,
                                     padding=PADDINGS[padding].of_keras, name="dilated",
                                     dtype=self.dtype_policy)
        # Zeros at first: every block begins as the identity, which lets deep stacks learn from the
        # first step.
        self.mix = layers.Conv1D(channels, 1, kernel_initializer="zeros",
                                 name="mix", dtype=self.dtype_policy)

    def build(self, shape):
        self.dilated.build(shape)
        self.mix.build((*shape[:-1], self.channels))

    def call(self, x, past=None):
        return x + self.mix(gelu(self.dilated(gelu(after(x, self.past, past)))))

    def compute_output_shape(self, x_shape, past_shape=None):
        return tuple(x_shape)

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Steps to the left and right that one step of the output sees."""
        return PADDINGS[self.padding].reach(self.kernel_size, self.dilation)

    def get_config(self):
        own = {"channels": self.channels, "dilation": self.dilation,
               "kernel_size": self.kernel_size, "padding": self.padding}
        return super().get_config() | own


@register
class MultiresolutionResidual(layers.Layer):
    """x + 1x1(act(multiresolution convolution(act(x)))): [batch, time, channels] -> the same shape.

    One pair of small kernels for each channel, at dilations 1, 2, 4 … times `dilation`: with a_0
    the input, b_j = a_{j−1} * h_high, a_j = a_{j−1} * h_low at dilation 2^{j−1}, the output is
    w_x a_0 + Σ_j w_j b_j + w_a a_depth (Shi, Wang and Fox 2023, section 3, a learnt wavelet
    transform).
    """

    def __init__(self, channels: int, dilation: int, kernel_size: int = 3, depth: int = 4,
                 padding: str = "same", **kwargs):
        super().__init__(**kwargs)
        self.channels, self.dilation, self.kernel_size = channels, dilation, kernel_size
        self.depth, self.padding = depth, padding
        self.past = PADDINGS[padding].past(kernel_size, self._total)
        # Zeros at first, as in `ResidualBlock`.
        self.mix = layers.Conv1D(channels, 1, kernel_initializer="zeros", name="mix",
                                 dtype=self.dtype_policy)

    @property
    def _total(self) -> int:
        """All its dilations together."""
        return self.dilation * (2**self.depth - 1)

    def build(self, shape):
        def weight(name, count):
            return self.add_weight(shape=(count, self.channels), name=name,
                                   initializer=keras.initializers.RandomNormal(stddev=count**-0.5))

        self.low, self.high = weight("low", self.kernel_size), weight("high", self.kernel_size)
        self.shares = weight("shares", self.depth + 2)
        self.mix.build((*shape[:-1], self.channels))

    def call(self, x, past=None):
        steps = ops.shape(x)[1]
        left, right = self.receptive_field
        low, high, shares = (ops.cast(w, x.dtype) for w in (self.low, self.high, self.shares))
        a = gelu(after(x, left, past))
        a = ops.pad(a, [[0, 0], [0, right], [0, 0]]) if right else a
        mixed = shares[0] * a[:, left : left + steps]
        for j in range(self.depth):
            dilation = self.dilation * 2**j
            length = ops.shape(a)[1] - dilation * (self.kernel_size - 1)
            taps = [a[:, k * dilation : k * dilation + length] for k in range(self.kernel_size)]
            b, a = (sum(kernel[k] * tap for k, tap in enumerate(taps)) for kernel in (high, low))
            left -= PADDINGS[self.padding].reach(self.kernel_size, dilation)[0]
            mixed = mixed + shares[j + 1] * b[:, left : left + steps]
        return x + self.mix(gelu(mixed + shares[-1] * a))

    def compute_output_shape(self, x_shape, past_shape=None):
        return tuple(x_shape)

    @property
    def receptive_field(self) -> tuple[int, int]:
        return PADDINGS[self.padding].reach(self.kernel_size, self._total)

    def get_config(self):
        own = {"channels": self.channels, "dilation": self.dilation,
               "kernel_size": self.kernel_size, "depth": self.depth, "padding": self.padding}
        return super().get_config() | own


@register
class InstanceNormalization(layers.Layer):
    """[batch, time, channels] with mean 0 and variance 1 over the time of each row and channel,
    then a learnt scale and shift (Ulyanov et al. 2016).
    """

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(shape[-1],), initializer="zeros", name="shift")

    def call(self, x):
        wide = ops.cast(x, "float32")
        centred = wide - ops.mean(wide, axis=1, keepdims=True)
        spread = ops.rsqrt(ops.mean(centred**2, axis=1, keepdims=True) + 1e-5)
        return ops.cast(centred * spread, x.dtype) * ops.cast(self.scale, x.dtype) + ops.cast(
            self.shift, x.dtype)


NORMS = {"batch": layers.BatchNormalization, "instance": InstanceNormalization}
"""The layer of each `norm` of a `ResNetBlock`."""


@register
class ResNetResidual(layers.Layer):
    """x + conv(act(norm(dilated conv(act(norm(x)))))): [batch, time, channels] -> the same shape.

    Residual blocks that are activated before they convolve (He et al. 2016, Identity Mappings,
    figure 4e), with LeakyReLU.
    """

    def __init__(self, channels: int, dilation: int, kernel_size: int = 3, norm: str = "batch",
                 slope: float = 0.2, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.dilation, self.kernel_size = channels, dilation, kernel_size
        self.norm, self.slope = norm, slope
        self.norms = [NORMS[norm](name=f"norm_{k}", dtype=self.dtype_policy) for k in range(2)]
        self.dilated = layers.Conv1D(channels, kernel_size, dilation_rate=dilation, padding="same",
                                     name="dilated", dtype=self.dtype_policy)
        # Zeros at first: every block begins as the identity.
        self.out = layers.Conv1D(channels, kernel_size, padding="same", name="out",
                                 kernel_initializer="zeros", dtype=self.dtype_policy)

    def build(self, shape):
        inner = (*shape[:-1], self.channels)
        self.norms[0].build(shape)
        self.dilated.build(shape)
        self.norms[1].build(inner)
        self.out.build(inner)

    def call(self, x, training=False):
        y = x
        for norm, conv in zip(self.norms, (self.dilated, self.out), strict=True):
            y = norm(y, training=training) if self.norm == "batch" else norm(y)
            y = conv(ops.leaky_relu(y, negative_slope=self.slope))
        return x + y

    def compute_output_shape(self, shape):
        return tuple(shape)

    @property
    def receptive_field(self) -> tuple[int, int]:
        if self.norm == "instance":
            return math.inf, math.inf
        side = (self.dilation + 1) * (self.kernel_size // 2)
        return side, side

    def get_config(self):
        own = {key: getattr(self, key)
               for key in ("channels", "dilation", "kernel_size", "norm", "slope")}
        return super().get_config() | own


@register
class TransposedUpsampling(layers.Layer):
    """A transposed convolution: [batch, N, c] -> [batch, N·ratio, channels].

    Each step of the output sees `kernel_size` of the input's, an odd number, or one less.
    """

    def __init__(self, channels: int, ratio: int, kernel_size: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio, self.kernel_size = channels, ratio, kernel_size
        self.conv = layers.Conv1DTranspose(channels, (kernel_size - 1) * ratio, strides=ratio,
                                           padding="same", name="conv", dtype=self.dtype_policy)

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return self.conv(x)

    def compute_output_shape(self, shape):
        batch, steps, _ = shape
        return (batch, None if steps is None else steps * self.ratio, self.channels)

    @property
    def receptive_field(self) -> tuple[int, int]:
        return self.kernel_size // 2, self.kernel_size // 2

    def get_config(self):
        own = {"channels": self.channels, "ratio": self.ratio, "kernel_size": self.kernel_size}
        return super().get_config() | own


@register
class CroppedResidual(layers.Layer):
    """x[r:-r] + unpadded dilated conv(x), which sees r steps to either side: [batch, time,
    channels] -> [batch, time − 2·r, channels].
    """

    def __init__(self, channels: int, dilation: int, kernel_size: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.dilation, self.kernel_size = channels, dilation, kernel_size
        self.reach = dilation * (kernel_size // 2)
        self.conv = layers.Conv1D(channels, kernel_size, dilation_rate=dilation,
                                  padding="valid", name="conv",
                                  dtype=self.dtype_policy)

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return x[:, self.reach : -self.reach] + gelu(self.conv(x))

    @property
    def receptive_field(self) -> tuple[int, int]:
        return self.reach, self.reach

    def compute_output_shape(self, shape):
        """Stated, because JAX cannot tell that both sides of the sum have the same unknown length.
        """
        return (shape[0], None if shape[1] is None else shape[1] - 2 * self.reach, self.channels)

    def get_config(self):
        own = {"channels": self.channels, "dilation": self.dilation,
               "kernel_size": self.kernel_size}
        return super().get_config() | own


@register
class SubPixelUpsampling(layers.Layer):
    """A convolution folded into time: [batch, N, c] -> [batch, N·ratio, channels] (Shi et al.
    2016).

    At first a constant input gives a constant output (Aitken et al. 2017). Training may then give
    each of the `ratio` phases its own answer to a constant: too much of that is heard as lines at
    the multiples of the input's rate (the checkerboard of Odena et al. 2016), none of it as notches
    there. even: the share of it that is removed, in [0, 1].
    """

    def __init__(self, channels: int, ratio: int, kernel_size: int = 3,
                 even: float = 0.0, padding: str = "same", **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio, self.kernel_size, self.even = channels, ratio, kernel_size, even
        self.padding, self.past = padding, PADDINGS[padding].past(kernel_size)
        self.conv = layers.Conv1D(channels * ratio, kernel_size, name="conv",
                                  padding=PADDINGS[padding].of_keras, dtype=self.dtype_policy)

    def build(self, shape):
        self.conv.build(shape)
        self.conv.kernel.assign(self._even(self.conv.kernel, 1.0))

    def call(self, x, past=None):
        x = after(x, self.past, past)
        if self.even:
            kernel = self._even(self.conv.kernel, self.even)
            x = ops.conv(x, kernel, 1, self.conv.padding) + self._even(
                ops.reshape(self.conv.bias, (1, 1, -1)), self.even)
        else:
            x = self.conv(x)
        return ops.reshape(x, (ops.shape(x)[0], -1, self.channels))

    def compute_output_shape(self, x_shape, past_shape=None):
        batch, steps, _ = x_shape
        return (batch, None if steps is None else steps * self.ratio, self.channels)

    @property
    def receptive_field(self) -> tuple[int, int]:
        return PADDINGS[self.padding].reach(self.kernel_size)

    def _even(self, kernel, share: float):
        """[taps, c, ratio·channels], of whose sums over the taps only 1 - share of what is each
        phase's own is left.
        """
        kernel = ops.convert_to_tensor(kernel)
        phases = ops.reshape(kernel, (*kernel.shape[:2], self.ratio, self.channels))
        mean = ops.mean(phases, axis=0, keepdims=True)
        return ops.reshape(phases - share * (mean - ops.mean(mean, axis=2, keepdims=True)),
                           kernel.shape)

    def get_config(self):
        own = {"channels": self.channels, "ratio": self.ratio, "kernel_size": self.kernel_size,
               "even": self.even, "padding": self.padding}
        return super().get_config() | own


@register
class Conv(layers.Conv1D):
    """Keras's 1-D convolution with a padding of `PADDINGS`, that reports its receptive field."""

    def __init__(self, filters, kernel_size, strides=1, padding="same", **kwargs):
        super().__init__(filters, kernel_size, strides=strides,
                         padding=PADDINGS[padding].of_keras, **kwargs)
        self.padded = padding
        self.past = PADDINGS[padding].past(self.kernel_size[0], stride=self.strides[0])

    def call(self, x, past=None):
        return super().call(after(x, self.past, past))

    def compute_output_shape(self, x_shape, past_shape=None):
        batch, steps, _ = x_shape
        return (batch, None if steps is None else -(-steps // self.strides[0]), self.filters)

    @property
    def receptive_field(self) -> tuple[int, int]:
        return PADDINGS[self.padded].reach(self.kernel_size[0], stride=self.strides[0])

    def get_config(self):
        return super().get_config() | {"padding": self.padded}


def named(name: str, dilations) -> list[tuple[str, int]]:
    """For each of these dilations a name of its own, as weights files have it, and the dilation:
    `name`_1, and of further equal ones `name`_1_2, `name`_1_3.
    """
    found = []
    for i, dilation in enumerate(dilations):
        times = dilations[: i + 1].count(dilation)
        found.append((f"{name}_{dilation}" + (f"_{times}" if times > 1 else ""), dilation))
    return found


def gelu(x):
    return ops.gelu(x, approximate=True)


BLOCKS: dict[type[Config], Callable] = {
    DilatedBlock: lambda config, channels, dilation, **more:
        ResidualBlock(channels, dilation, config.kernel_size, **more),
    MultiresolutionBlock: lambda config, channels, dilation, **more:
        MultiresolutionResidual(channels, dilation, config.kernel_size, config.depth, **more),
    ResNetBlock: lambda config, channels, dilation, padding, **more:
        ResNetResidual(channels, dilation, config.kernel_size, config.norm, config.slope, **more),
}
"""The layer of each kind of block: (config, channels, dilation, padding=, name=) -> layer."""

UPSAMPLINGS: dict[type[Config], Callable] = {
    SubPixel: lambda codec, channels, ratio, kernel_size, name:
        SubPixelUpsampling(channels, ratio, kernel_size, codec.even, codec.padding, name=name),
    Transposed: lambda codec, channels, ratio, kernel_size, name:
        TransposedUpsampling(channels, ratio, kernel_size, name=name),
}
"""The layer of each kind of up-sampling: (codec config, channels, ratio, kernel_size, name) ->
layer.
"""


def upsampling(config, channels: int, ratio: int, kernel_size: int, name: str):
    """The up-sampling that a codec's config asks for."""
    return UPSAMPLINGS[type(config.upsampling)](config, channels, ratio, kernel_size, name)
