"""Blocks of a ResNet."""

from keras import layers, ops

from ...levels.kinds import layer_for
from .resnet import ResNetBlock

SLOPE = 0.2
"""The slope of the LeakyReLU below zero."""


@layer_for(ResNetBlock)
class ResNetResidual(layers.Layer):
    """x + conv(act(norm(dilated conv(act(norm(x)))))): [batch, time, channels] -> the same shape.

    A residual block with pre-activation (He et al. 2016, "Identity mappings", figure 4e) and
    LeakyReLU; norm is over the batch and time.
    """

    def __init__(self, config: ResNetBlock, channels: int, dilation: int, padding: str = "same",
                 **kwargs):
        super().__init__(**kwargs)
        side = (dilation + 1) * (config.kernel_size // 2)
        self.receptive_field = (side, side)
        self.norms = [layers.BatchNormalization(name=f"norm_{k}", dtype=self.dtype_policy)
                      for k in range(2)]
        self.dilated = layers.Conv1D(channels, config.kernel_size, dilation_rate=dilation,
                                     padding=padding, name="dilated", dtype=self.dtype_policy)
        # Zeros, as in `ResidualBlock`.
        self.out = layers.Conv1D(channels, config.kernel_size, padding=padding, name="out",
                                 kernel_initializer="zeros", dtype=self.dtype_policy)

    def call(self, x, training=False):
        y = x
        for norm, conv in zip(self.norms, (self.dilated, self.out), strict=True):
            y = conv(ops.leaky_relu(norm(y, training=training), negative_slope=SLOPE))
        return x + y
