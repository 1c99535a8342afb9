"""Attention over a sliding window, for whole sequences and for one frame at a time. A single frame
attends to a queue of the frames before.

The score of query q and the key k of a frame `age` frames back is q·k / √d − slope·age. Head h of H
has the slope 2^(−8h/H) (Press et al. 2022, ALiBi). Sinks have no age (Xiao et al. 2023).
"""

import numpy as np
from keras import layers, ops

from ...codecs.blocks_layer import built, dense, gelu
from ...levels.kinds import layer_for
from ..cores_layer import StackCore
from .transformer import HIDDEN_DISTANCE, NORM_EPSILON, TransformerCore


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


def attend_to_last(q, keys, values, sinks: Sinks | None, ages):
    """One frame: q [batch, heads, d]; the last keys and values [batch, heads, window, d]; ages
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


@layer_for(TransformerCore)
class TransformerStack(StackCore):
    """A transformer with pre-normalisation: residual layers of attention (positions by ALiBi, see
    `attention.py`) and feed-forward networks. The features are the normalised output.
    """

    def build_stack(self, width):
        core = self.config.core
        width, self.enter = core.width, dense(width, core.width, "enter")
        self.attentions, self.feeds = [], []
        for i in range(core.layers):
            self.attentions.append((
                layer_norm(width, f"attention_norm_{i}"), dense(width, 3 * width, f"qkv_{i}"),
                Sinks(core.heads, core.sinks, width // core.heads, name=f"sinks_{i}")
                if core.sinks else None,
                dense(width, width, f"attended_{i}")))
            self.feeds.append((
                layer_norm(width, f"feed_norm_{i}"), dense(width, core.hidden_dim, f"expand_{i}"),
                dense(core.hidden_dim, width, f"contract_{i}")))
        self.norm = layer_norm(width, "norm")
        self.dropouts = [layers.Dropout(core.dropout, name=f"dropout_{i}")
                         for i in range(2 * core.layers)]
        return width

    def stack(self, x, training=False):
        core = self.config.core

        def attend(i, q, k, v):
            return attend_to_window(q, k, v, self.attentions[i][2], core.window)

        return self._run_layers(x, attend, training)

    def advance(self, x, state):
        core, new = self.config.core, []
        count, ages = ops.cast(state[0], "int32"), np.arange(core.window, dtype=np.int32)[::-1]
        ages = ops.where(count >= ages, ages, HIDDEN_DISTANCE)

        def attend(i, q, k, v):
            keys, values = (ops.concatenate([queue[:, :, 1:], ops.cast(x[:, :, None], "float32")],
                                            axis=2)
                            for queue, x in zip(state[1 + 2 * i : 3 + 2 * i], (k, v), strict=True))
            new.extend((keys, values))
            return attend_to_last(q, keys, values, self.attentions[i][2], ages)

        x = self._run_layers(x, attend)
        count = ops.where(count < core.window, count + 1, count)
        return x, [ops.cast(count, "float32"), *new]

    def _run_layers(self, x, attend, training=False):
        """attend: (index of a layer, queries, keys, values [..., heads, width / heads]) -> [...,
        heads, width / heads].
        """
        core, x = self.config.core, self.enter(x)
        for i in range(core.layers):
            norm, qkv, _, attended = self.attentions[i]
            q, k, v = (ops.reshape(part, (*ops.shape(part)[:-1], core.heads,
                                          core.width // core.heads))
                       for part in ops.split(qkv(norm(x)), 3, axis=-1))
            mixed = ops.reshape(attend(i, q, k, v), ops.shape(x))
            x = x + self.dropouts[2 * i](attended(mixed), training=training)
            norm, expand, contract = self.feeds[i]
            x = x + self.dropouts[2 * i + 1](contract(gelu(expand(norm(x)))), training=training)
        return self.norm(x)


def layer_norm(width: int, name: str) -> layers.LayerNormalization:
    """A built layer that normalises the last axis, of this width (Ba et al. 2016)."""
    return built(layers.LayerNormalization(epsilon=NORM_EPSILON, name=name), width)
