"""The vectors of labels, for codecs and generators."""

import keras
from keras import layers, ops

from ..levels.kinds import layer_for
from .codec import CodecConfig
from .labels import WHOLE_SHARE, Labels


class LabelEmbedding(layers.Layer):
    """Labels int32 [batch, T, n, 2], each (index, share · `WHOLE_SHARE`) -> Σ share · vector,
    float32 [batch, T, channels].

    In training, a share `dropout` of the windows gets the index `unlabelled_index`, for
    classifier-free guidance (Ho and Salimans 2022, algorithm 1).
    """

    def __init__(self, config: Labels, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.seeds = keras.random.SeedGenerator()

    def build(self, shape):
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.config.unlabelled_index + 1, self.config.channels),
            initializer=keras.initializers.RandomNormal(stddev=1.0))

    def call(self, labels, training=False):
        numbers, shares = labels[..., 0], labels[..., 1:]
        if training and self.config.dropout:
            window = (ops.shape(labels)[0], 1, 1)
            dropped = keras.random.uniform(window, seed=self.seeds) < self.config.dropout
            numbers = ops.where(dropped, self.config.unlabelled_index, numbers)
        vectors = ops.take(self.embeddings, numbers, axis=0)
        return ops.sum(vectors * (ops.cast(shares, vectors.dtype) / WHOLE_SHARE), axis=-2)


@layer_for(Labels)
def labels_model(config: Labels, generator) -> keras.Model:
    """Labels int32 [batch, T, n, 2] -> context float32 [batch, T, channels]."""
    labels = keras.Input(config.shape, dtype="int32", name=config.input)
    return keras.Model(labels, LabelEmbedding(config, name="embedding")(labels), name="labels")


def label_vector_input(config: CodecConfig):
    """A codec's input of a piece's label vector, float32 [batch, 1, channels], or None."""
    return keras.Input((1, config.labels.channels), name="label") if config.labels else None


def add_condition(x, vector, name: str):
    """x [batch, time, c] + a dense layer of a vector [batch, 1, n]; x if the vector is None."""
    if vector is None:
        return x
    return layers.Add(name=f"{name}_sum")([x, layers.Dense(x.shape[-1], name=name)(vector)])
