"""Transposed convolutions as up-sampling."""

from keras import layers

from ...levels.kinds import layer_for
from .transposed import Transposed


@layer_for(Transposed)
class TransposedUpsampling(layers.Layer):
    """A transposed convolution: [batch, N, c] -> [batch, N·ratio, channels]. even is 0.

    Each output step sees `kernel_size` (odd) or `kernel_size` − 1 input steps.
    """

    def __init__(self, channels: int, ratio: int, kernel_size: int = 3, even: float = 0.0,
                 padding: str = "same", **kwargs):
        super().__init__(**kwargs)
        self.ratio, self.receptive_field = ratio, (kernel_size // 2, kernel_size // 2)
        self.conv = layers.Conv1DTranspose(channels, (kernel_size - 1) * ratio, strides=ratio,
                                           padding=padding, name="conv", dtype=self.dtype_policy)

    def call(self, x):
        return self.conv(x)
