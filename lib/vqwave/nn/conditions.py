"""Conditions: the inputs of a generator besides its own past, one model for each kind of
`conditions` in the config; and the labels of a codec.

Each condition is a Keras model of one input, whose name and shape are in the config. Its output is
float32 [batch, T, channels], or [batch, 1, channels] if all frames share it. `join` concatenates
the outputs to the core's context. The inputs come from `ConditionConfig.rows`.
"""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from ..config import (
    WHOLE_SHARE,
    CodecConfig,
    CodesAbove,
    GeneratorConfig,
    Labels,
    ScoreAbove,
    SoundAbove,
)
from ..config.roll import LOUDNESSES
from .blocks import CroppedResidual, SubPixelUpsampling, dilated_names


class FrameEmbedding(layers.Embedding):
    """Frames int32 [batch, N, books] -> float32 [batch, N, width]. A frame holds codes, or the
    token `num_codes`.

    Each book has its own rows. join: "sum" adds the books' vectors; "concatenate" gives the width
    books·dim.
    """

    def __init__(self, books: int, num_codes: int, dim: int, join: str = "sum", **kwargs):
        super().__init__(books * (num_codes + 1), dim, **kwargs)
        self.books, self.num_codes, self.join = books, num_codes, join

    def call(self, frames):
        if self.books == 1:
            return super().call(frames[..., 0])
        first = ops.arange(self.books, dtype="int32") * (self.num_codes + 1)
        vectors = super().call(frames + first)
        if self.join == "sum":
            return ops.sum(vectors, axis=-2)
        return ops.reshape(vectors, (*ops.shape(frames)[:-1], self.books * self.output_dim))

    def start_from(self, codebooks: list[np.ndarray], random: np.random.Generator):
        """Set each book's rows to its standardised code vectors, float32 [num_codes, any width].

        The token's row is random, because a core that normalises zeros has huge gradients.
        """
        dim, rows = self.output_dim, []
        for book in codebooks:
            if (width := book.shape[1]) != dim:  # the projection keeps the mean length
                book = book @ random.normal(0, width**-0.5, (width, dim))
            rows += [book, random.normal(size=(1, dim))]
        self.embeddings.assign(np.concatenate(rows))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.output_dim * (self.books if self.join == "concatenate" else 1))


def codes_above_model(config: CodesAbove, generator: GeneratorConfig) -> keras.Model:
    """source frames int32 [batch, N + 2·halo, books] -> context float32 [batch, N·ratio, channels].

    Unpadded dilated convolutions after WaveNet (van den Oord et al. 2016). Frames outside the piece
    are `pad_token`. So the context of a window equals that of the whole piece.
    """
    codes = keras.Input(config.shape, dtype="int32", name=config.input)
    x = FrameEmbedding(config.books, config.num_codes, config.channels, name="embedding")(codes)
    for name, dilation in dilated_names("dilated", config.dilations):
        x = CroppedResidual(config.channels, dilation, config.kernel_size, name=name)(x)
    x = SubPixelUpsampling(config.channels, generator.ratio, kernel_size=1, name="upsample")(x)
    x = layers.Activation("gelu", name="activation")(x)
    return keras.Model(codes, x, name="context")


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


class LabelEmbedding(layers.Layer):
    """Labels int32 [batch, T, n, 2], each (index, share · `WHOLE_SHARE`) -> Σ share · vector,
    float32 [batch, T, channels].

    In training, a share `dropout` of the windows gets the label `none`, the last index, for
    classifier-free guidance (Ho and Salimans 2022, algorithm 1).
    """

    def __init__(self, config: Labels, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.seeds = keras.random.SeedGenerator()

    def build(self, shape):
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.config.none + 1, self.config.channels),
            initializer=keras.initializers.RandomNormal(stddev=1.0))

    def call(self, labels, training=False):
        numbers, shares = labels[..., 0], labels[..., 1:]
        if training and self.config.dropout:
            window = (ops.shape(labels)[0], 1, 1)
            dropped = keras.random.uniform(window, seed=self.seeds) < self.config.dropout
            numbers = ops.where(dropped, self.config.none, numbers)
        vectors = ops.take(self.embeddings, numbers, axis=0)
        return ops.sum(vectors * (ops.cast(shares, vectors.dtype) / WHOLE_SHARE), axis=-2)


def labels_model(config: Labels, generator: GeneratorConfig) -> keras.Model:
    """Labels int32 [batch, T, n, 2] -> context float32 [batch, T, channels]."""
    labels = keras.Input(config.shape, dtype="int32", name=config.input)
    return keras.Model(labels, LabelEmbedding(config, name="embedding")(labels), name="labels")


class RollFeatures(layers.Layer):
    """Rows of a score int32 [batch, T, books + 1 + `LEVELS`] -> float32 [batch, T, 10·books +
    phases + 1 + `LEVELS`]. Each book has five features: struck, sounding, and three exponential
    decays since the strike. The same five follow, times the note's loudness. Then the phase of the
    beat, one-hot, and the loudness of bands.

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
        notes, phases, levels = rows[..., :books], rows[..., books], rows[..., books + 1 :]
        if training and self.config.dropout:
            window = (ops.shape(rows)[0], 1)
            dropped = keras.random.uniform(window, seed=self.seeds) < self.config.dropout
            notes = ops.where(dropped[..., None], 0, notes)
            phases = ops.where(dropped, self.config.no_score, phases)
            levels = ops.where(dropped[..., None], 0, levels)
        kind = self.compute_dtype
        sounds = ops.cast(notes > 0, kind)
        ages, loudness = (notes - 1) % self.config.AGES, (notes - 1) // self.config.AGES
        features = [sounds * ops.cast(ages == 0, kind), sounds,
                    *(sounds * ops.exp(-ops.cast(ages, kind) / frames) for frames in self.DECAYS)]
        loudness = ops.cast(loudness, kind) / (LOUDNESSES - 1)
        return ops.concatenate([*features, *(x * loudness for x in features),
                                ops.one_hot(phases, self.config.no_score + 1, dtype=kind),
                                ops.cast(levels, kind) / self.LOUD], axis=-1)


def score_model(config: ScoreAbove, generator: GeneratorConfig) -> keras.Model:
    """Rows of a score int32 [batch, T + 2·halo, books + 1 + `LEVELS`] -> context float32 [batch, T,
    channels], by unpadded dilated convolutions.
    """
    rows = keras.Input(config.shape, dtype="int32", name=config.input)
    x = RollFeatures(config, name="features")(rows)
    x = layers.Dense(config.channels, activation="gelu", name="enter")(x)
    for name, dilation in dilated_names("dilated", config.dilations):
        x = CroppedResidual(config.channels, dilation, config.kernel_size, name=name)(x)
    x = layers.Activation("gelu", name="activation")(x)
    return keras.Model(rows, x, name="performance")


def label_vector_input(config: CodecConfig):
    """A codec's input of a piece's label vector, float32 [batch, 1, channels], or None."""
    return keras.Input((1, config.labels.channels), name="label") if config.labels else None


def add_condition(x, vector, name: str):
    """x [batch, time, c] + a dense layer of a vector [batch, 1, n]; x if the vector is None."""
    if vector is None:
        return x
    return layers.Add(name=f"{name}_sum")([x, layers.Dense(x.shape[-1], name=name)(vector)])


def join(outputs: list):
    """Outputs of conditions, float32 [batch, T or 1, channels] each -> [batch, T or 1, Σ channels].
    """
    if len(outputs) == 1:
        return outputs[0]
    long = next((x for x in outputs if x.shape[1] != 1), outputs[0])
    return ops.concatenate([x if x.shape[1] != 1 else x + ops.zeros_like(long[..., :1])
                            for x in outputs], axis=-1)


CONDITIONS: dict[str, Callable] = {"codes": codes_above_model, "sound": sound_above_model,
                                   "labels": labels_model, "score": score_model}
"""The model of each kind of condition: (config, generator config) -> Keras model."""
