"""Conditions: what a generator knows besides its own past, one class for each kind of the config's
`conditions`.

Each becomes a Keras model of one input, whose name and shape its config says. Its output is float32
[batch, T, channels], or [batch, 1, channels] where it is the same for every frame. `join` lays
them side by side: that is the context, which the core has besides its own past.

Where the inputs come from: `data/windows.py` `SERVERS` in training, `play/conditions.py` `FEEDS`
when music is made.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from ..config import SHARES, CodesAbove, Config, GeneratorConfig, Labels
from .layers import CroppedResidual, SubPixelUpsampling, named, register


def project(vectors: np.ndarray, width: int, random: np.random.Generator) -> np.ndarray:
    """[n, any width] -> [n, width] by a random matrix that keeps lengths on average; as they are
    where they have that width.
    """
    if vectors.shape[1] == width:
        return vectors
    return vectors @ random.normal(0, vectors.shape[1] ** -0.5, (vectors.shape[1], width))


@register
class FrameEmbedding(layers.Embedding):
    """Frames int32 [batch, N, books] of codes or one token past them -> float32 [batch, N, width].

    Each book has rows of its own. join: "sum" adds the books' vectors up, "concatenate" lays them
    side by side, so that width is books·dim.
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
        """Set the rows of each book to the codes' vectors, standardised float32 [num_codes, any
        width] each; `random` projects vectors of another width, and draws one for the token: zeros
        would make gradients huge where a core normalises them.
        """
        dim = self.output_dim
        rows = [row for book in codebooks for row in (project(book, dim, random),
                                                      random.normal(size=(1, dim)))]
        self.embeddings.assign(np.concatenate(rows))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.output_dim * (self.books if self.join == "concatenate" else 1))

    def get_config(self):
        own = {"books": self.books, "num_codes": self.num_codes, "dim": self.output_dim,
               "join": self.join}
        config = super().get_config() | own
        return {k: v for k, v in config.items() if k not in ("input_dim", "output_dim")}


def codes_above_model(config: CodesAbove, generator: GeneratorConfig) -> keras.Model:
    """source frames int32 [batch, N + 2·halo, books] -> context float32 [batch, N·ratio, channels].

    A stack of dilated convolutions after WaveNet's (van den Oord et al. 2016). They are unpadded:
    outside the piece there are no zeros, which only some positions would see, but the token
    `pad_token`. So a window anywhere in a piece gives exactly what the whole piece gives there.
    """
    codes = keras.Input(config.shape, dtype="int32", name=config.input)
    x = FrameEmbedding(config.books, config.num_codes, config.channels, name="embedding")(codes)
    for name, dilation in named("dilated", config.dilations):
        x = CroppedResidual(config.channels, dilation, config.kernel_size, name=name)(x)
    x = SubPixelUpsampling(config.channels, generator.ratio, kernel_size=1, name="upsample")(x)
    x = layers.Activation("gelu", name="activation")(x)
    return keras.Model(codes, x, name="context")


@register
class LabelEmbedding(layers.Layer):
    """Labels int32 [batch, T, n, 2], each (number, share in `SHARES`ths) -> Σ share · vector,
    float32 [batch, T, dim].

    In training the share `dropout` of the windows is told `none`, the last number, as classifier-
    free guidance needs it (Ho and Salimans 2022, algorithm 1).
    """

    def __init__(self, none: int, dim: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.none, self.dim, self.dropout = none, dim, dropout
        self.seeds = keras.random.SeedGenerator()

    def build(self, shape):
        self.embeddings = self.add_weight(name="embeddings", shape=(self.none + 1, self.dim),
                                          initializer=keras.initializers.RandomNormal(stddev=1.0))

    def call(self, labels, training=False):
        numbers, shares = labels[..., 0], labels[..., 1:]
        if training and self.dropout:
            window = (ops.shape(labels)[0], 1, 1)
            dropped = keras.random.uniform(window, seed=self.seeds) < self.dropout
            numbers = ops.where(dropped, self.none, numbers)
        vectors = ops.take(self.embeddings, numbers, axis=0)
        return ops.sum(vectors * (ops.cast(shares, vectors.dtype) / SHARES), axis=-2)

    def compute_output_shape(self, shape):
        return (*shape[:2], self.dim)

    def get_config(self):
        return super().get_config() | {"none": self.none, "dim": self.dim, "dropout": self.dropout}


def labels_model(config: Labels, generator: GeneratorConfig) -> keras.Model:
    """Labels int32 [batch, T, n, 2] -> context float32 [batch, T, channels]."""
    labels = keras.Input(config.shape, dtype="int32", name=config.input)
    vectors = LabelEmbedding(config.none, config.channels, config.dropout,
                             name="embedding")(labels)
    return keras.Model(labels, vectors, name="labels")


def join(outputs: list):
    """Outputs of conditions, float32 [batch, T or 1, channels] each -> [batch, T or 1, Σ channels].

    T is that of those that have one; where none does it stays 1.
    """
    if len(outputs) == 1:
        return outputs[0]
    long = next((x for x in outputs if x.shape[1] != 1), outputs[0])
    return ops.concatenate([x if x.shape[1] != 1 else x + ops.zeros_like(long[..., :1])
                            for x in outputs], axis=-1)


CONDITIONS: dict[type[Config], Callable] = {CodesAbove: codes_above_model, Labels: labels_model}
"""The model of each kind of condition: (config, generator config) -> Keras model."""
