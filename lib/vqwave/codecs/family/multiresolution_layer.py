"""Multiresolution blocks."""

import keras
from keras import layers, ops

from ...levels.kinds import layer_for
from ..blocks_layer import conv_field, gelu, prepend_past
from .multiresolution import MultiresolutionBlock


@layer_for(MultiresolutionBlock)
class MultiresolutionResidual(layers.Layer):
    """x + 1x1(gelu(multiresolution convolution(gelu(x)))): [batch, time, channels] -> the same
    shape.

    A learnt wavelet transform (Shi, Wang and Fox 2023, section 3). Each channel has two small
    kernels, h_low and h_high, at dilation 2^{j−1}: b_j = a_{j−1} * h_high, a_j = a_{j−1} * h_low.
    a_0 is the input. The output is w_x a_0 + Σ_j w_j b_j + w_a a_depth.
    """

    def __init__(self, config: MultiresolutionBlock, channels: int, dilation: int,
                 padding: str = "same", **kwargs):
        super().__init__(**kwargs)
        self.channels, self.dilation = channels, dilation
        self.kernel_size, self.depth = config.kernel_size, config.depth
        self.receptive_field = conv_field(padding, self.kernel_size, dilation * (2**self.depth - 1))
        self.past_steps = self.receptive_field[0] if padding == "causal" else 0
        self.padding = padding
        # Zeros, as in `ResidualBlock`.
        self.mix = layers.Conv1D(channels, 1, kernel_initializer="zeros", name="mix",
                                 dtype=self.dtype_policy)

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
        a = gelu(prepend_past(x, left, past))
        a = ops.pad(a, [[0, 0], [0, right], [0, 0]]) if right else a
        mixed = shares[0] * a[:, left : left + steps]
        for j in range(self.depth):
            dilation = self.dilation * 2**j
            length = ops.shape(a)[1] - dilation * (self.kernel_size - 1)
            taps = [a[:, k * dilation : k * dilation + length] for k in range(self.kernel_size)]
            b, a = (sum(kernel[k] * tap for k, tap in enumerate(taps)) for kernel in (high, low))
            left -= conv_field(self.padding, self.kernel_size, dilation)[0]
            mixed = mixed + shares[j + 1] * b[:, left : left + steps]
        return x + self.mix(gelu(mixed + shares[-1] * a))
