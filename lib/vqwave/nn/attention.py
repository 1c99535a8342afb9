"""Attention over a sliding window, for whole sequences and for one frame at a time. A single frame
attends to a ring buffer of the frames before.

The score of query q and the key k of a frame `age` frames back is q·k / √d − slope·age. Head h of H
has the slope 2^(−8h/H) (Press et al. 2022, ALiBi). Sinks have no age (Xiao et al. 2023).
"""

import numpy as np
from keras import layers, ops

from ..config import HIDDEN_DISTANCE


def slopes(heads: int) -> np.ndarray:
    """The penalty of each head for one frame of age, float32 [heads]."""
    return (2.0 ** (-8.0 * np.arange(1, heads + 1) / heads)).astype(np.float32)


class Sinks(layers.Layer):
    """Learnt keys and values of one layer, [heads, count, dim], that every frame attends to."""

    def __init__(self, heads: int, count: int, dim: int, **kwargs):
        super().__init__(**kwargs)
        shape = heads, count, dim
        self.keys = self.add_weight(shape=shape, initializer="glorot_uniform", name="keys")
        self.values = self.add_weight(shape=shape, initializer="zeros", name="values")
        self.built = True


def attend_to_window(q, k, v, sinks: Sinks | None, window: int):
    """[batch, T, heads, d] each -> [batch, T, heads, d]: each frame attends to itself and to the
    window − 1 frames before, in time and memory of T·window.

    Blocks as long as the window attend to themselves and to the block before.
    """
    batch, total = ops.shape(q)[:2]
    heads, dim = q.shape[2:]
    size = min(window, total) if isinstance(total, int) else window
    blocks = -(-total // size)

    def cut(x):
        """[batch, T, heads, d] -> [batch, blocks, heads, size, d]."""
        x = ops.pad(x, [[0, 0], [0, blocks * size - total], [0, 0], [0, 0]])
        return ops.swapaxes(ops.reshape(x, (batch, blocks, size, heads, dim)), 2, 3)

    def with_block_before(x):
        """The block before and the block, for each block: [batch, blocks, heads, 2·size, d]."""
        x = cut(x)
        before = ops.pad(x, [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0]])[:, :-1]
        return ops.concatenate([before, x], axis=3)

    ages = size + np.arange(size)[:, None] - np.arange(2 * size)
    ages = np.where((ages >= 0) & (ages < window), ages, HIDDEN_DISTANCE)
    # The first block has no block before it.
    first = np.where(np.arange(2 * size) >= size, ages, HIDDEN_DISTANCE)
    at_first = ops.reshape(ops.arange(blocks) == 0, (-1, 1, 1))
    ages = ops.where(at_first, first.astype("int32"), ages.astype("int32"))[:, None]
    q, k, v = cut(q), with_block_before(k), with_block_before(v)
    mixed = _attend(q, k, v, sinks, ages)
    mixed = ops.reshape(ops.swapaxes(mixed, 2, 3), (batch, blocks * size, heads, dim))
    return mixed[:, :total]


def attend_to_ring(q, keys, values, sinks: Sinks | None, ages):
    """One frame: q [batch, heads, d]; keys and values of a ring [batch, heads, window, d]; ages
    int32 [batch, window] -> [batch, heads, d].
    """
    return _attend(q[:, :, None], keys, values, sinks, ages[:, None, None])[:, :, 0]


def _attend(q, k, v, sinks: Sinks | None, ages):
    """q [..., heads, n, d], k and v [..., heads, m, d], ages int32 that broadcast to [..., heads,
    n, m] -> [..., heads, n, d]. Scores and softmax are float32 under mixed precision.
    """
    dtype, count = q.dtype, k.shape[-2]
    penalty = ops.cast(ages, "float32") * ops.reshape(slopes(q.shape[-3]), (-1, 1, 1))
    q = q * q.shape[-1] ** -0.5
    scores = ops.cast(ops.matmul(q, ops.swapaxes(k, -1, -2)), "float32") - penalty
    if sinks is None:
        return ops.matmul(ops.cast(ops.softmax(scores), dtype), v)
    sink_scores = ops.matmul(q, ops.cast(ops.swapaxes(sinks.keys, -1, -2), dtype))
    weights = ops.softmax(ops.concatenate([scores, ops.cast(sink_scores, "float32")], axis=-1))
    weights, values = ops.cast(weights, dtype), ops.convert_to_tensor(sinks.values)
    return (ops.matmul(weights[..., :count], v)
            + ops.matmul(weights[..., count:], ops.cast(values, dtype)))
