"""The network that reads the sound of the level above."""

import keras
from keras import layers, ops

from ..codecs.blocks_layer import CroppedResidual, dilated_names
from ..levels.kinds import layer_for
from .generator import GeneratorConfig
from .sound_above import SoundAbove


class SoundFeatures(layers.Layer):
    """Rows of samples float32 [batch, T + 2·loudness, hop] -> float32 [batch, T, hop + 1]: the
    samples, divided by their loudness around the row, and the loudness.
    """

    QUIETEST = 1e-4

    def __init__(self, config: SoundAbove, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.side = config.loudness

    def call(self, rows):
        power = ops.mean(rows**2, axis=-1, keepdims=True)
        power = ops.average_pool(power, 2 * self.side + 1, strides=1, padding="valid")
        loudness = ops.sqrt(power + self.QUIETEST**2)
        return ops.concatenate([rows[:, self.side : -self.side] / loudness,
                                ops.log(loudness) / 3 + 1], axis=-1)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] - 2 * self.side, shape[2] + 1)


@layer_for(SoundAbove)
def sound_above_model(config: SoundAbove, generator: GeneratorConfig) -> keras.Model:
    """Rows of samples float32 [batch, T + 2·halo, hop] -> context float32 [batch, T, channels], by
    unpadded dilated convolutions.
    """
    rows = keras.Input(config.shape, dtype=config.dtype, name=config.input)
    x = SoundFeatures(config, name="features")(rows)
    x = layers.Conv1D(config.channels, config.first_kernel, padding="valid", activation="gelu",
                      name="enter")(x)
    for name, dilation in dilated_names("dilated", config.dilations):
        x = CroppedResidual(config.channels, dilation, config.kernel_size, name=name)(x)
    return keras.Model(rows, x, name="hearing")
