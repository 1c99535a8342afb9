"""The network that reads a score."""

import keras
from keras import layers, ops

from ..codecs.blocks_layer import CroppedResidual, dilated_names
from ..dsp.transcription import LOUDNESSES
from ..levels.kinds import layer_for
from .generator import GeneratorConfig
from .score_above import ScoreAbove


class ScoreFeatures(layers.Layer):
    """Rows of a score int32 [batch, T, books + 1 + bands] -> float32 [batch, T, 10·books + phases +
    1 + bands]. Each book has five features: struck, sounding, and three exponential decays since
    the strike. The same five follow, times the note's loudness. Then the phase of the beat,
    one-hot, and the loudness of bands.

    In training, a share `dropout` of the windows has no score.
    """

    DECAYS = 2.5, 13.0, 65.0
    """The time constants of the decays, in frames."""
    LOUD = 30.0
    """The loudness that counts 1, in dB."""

    def __init__(self, config: ScoreAbove, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.seeds = keras.random.SeedGenerator()

    def call(self, rows, training=False):
        books = self.config.books
        notes, phases, bands = rows[..., :books], rows[..., books], rows[..., books + 1 :]
        if training and self.config.dropout:
            window = (ops.shape(rows)[0], 1)
            dropped = keras.random.uniform(window, seed=self.seeds) < self.config.dropout
            notes = ops.where(dropped[..., None], 0, notes)
            phases = ops.where(dropped, self.config.no_score, phases)
            bands = ops.where(dropped[..., None], 0, bands)
        kind = self.compute_dtype
        sounds = ops.cast(notes > 0, kind)
        ages, loudness = (notes - 1) % self.config.AGES, (notes - 1) // self.config.AGES
        features = [sounds * ops.cast(ages == 0, kind), sounds,
                    *(sounds * ops.exp(-ops.cast(ages, kind) / frames) for frames in self.DECAYS)]
        loudness = ops.cast(loudness, kind) / (LOUDNESSES - 1)
        return ops.concatenate([*features, *(x * loudness for x in features),
                                ops.one_hot(phases, self.config.no_score + 1, dtype=kind),
                                ops.cast(bands, kind) / self.LOUD], axis=-1)


@layer_for(ScoreAbove)
def score_model(config: ScoreAbove, generator: GeneratorConfig) -> keras.Model:
    """Rows of a score int32 [batch, T + 2·halo, books + 1 + bands] -> context float32 [batch, T,
    channels], by unpadded dilated convolutions.
    """
    rows = keras.Input(config.shape, dtype="int32", name=config.input)
    x = ScoreFeatures(config, name="features")(rows)
    x = layers.Dense(config.channels, activation="gelu", name="enter")(x)
    for name, dilation in dilated_names("dilated", config.dilations):
        x = CroppedResidual(config.channels, dilation, config.kernel_size, name=name)(x)
    x = layers.Activation("gelu", name="activation")(x)
    return keras.Model(rows, x, name="performance")
