"""The losses of generators."""

import math

import keras
from keras import ops


def code_compile_options() -> dict:
    """The arguments of `compile` for a core with logits of codes."""
    return {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "weighted_metrics": [bits, keras.metrics.SparseCategoricalAccuracy(name="top1")]}


def vector_compile_options() -> dict:
    """The arguments of `compile` for a core whose logits are distances, see `PerformerCore`."""
    return {"loss": squared_distance,
            "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy(name="top1")]}


def squared_distance(y, logits):
    """The squared distance between a performer's vectors and those of the true codes y [batch, T,
    books], mean over books: [batch, T]. logits: [batch, T, books, num_codes], minus the distances
    to all codes.
    """
    distances = -ops.take_along_axis(logits, y[..., None], axis=-1)
    return ops.mean(distances[..., 0], axis=-1)


def bits(y, logits):
    """Bits per frame [batch, T]: Σ over books of −log2 p of the true code. logits: [batch, T,
    books, num_codes].
    """
    nats = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    return ops.sum(nats / math.log(2), axis=-1)
