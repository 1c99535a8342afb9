"""Bottlenecks: layers at the coarsest rate that look far back, after the encoder's last stage and
before the decoder's first, one function for each kind of the config's `bottleneck`.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import layers, ops

from ..config import WindowBottleneck
from .blocks import gelu, prepend_past


class Window(layers.Layer):
    """A window of `back` frames before and `ahead` after each frame, zeros outside the piece."""

    def __init__(self, config: WindowBottleneck, **kwargs):
        super().__init__(**kwargs)
        self.config, self.heads = config, config.heads
        self.back, self.ahead = config.back, config.ahead
        self.past_steps = config.back
        self.receptive_field = (config.back, config.ahead)

    def widen(self, x, past=None):
        """x [batch, N, c] with the frames around it: [batch, back + N + ahead, c]."""
        x = prepend_past(x, self.back, past)
        return ops.pad(x, [[0, 0], [0, self.ahead], [0, 0]]) if self.ahead else x

    def around(self, wide, offsets):
        """The frames at these offsets from each frame: [batch, back + N + ahead, heads·d] ->
        [batch, N, offsets, heads, d].
        """
        batch, total = ops.shape(wide)[:2]
        frames = total - self.back - self.ahead
        near = ops.stack([wide[:, self.back + o : self.back + o + frames] for o in offsets], axis=2)
        return ops.reshape(near, (batch, frames, len(offsets), self.heads,
                                  wide.shape[-1] // self.heads))


class LocalAttention(Window):
    """x + attention of each frame to a window around it + a feed-forward layer: [batch, N, c] ->
    the same shape (Vaswani et al. 2017, with pre-normalisation).

    A learnt bias for each distance encodes positions. Both sums start as the identity.
    """

    def build(self, shape):
        width = shape[-1]
        self.norms = [layers.LayerNormalization(name=f"norm_{k}", dtype=self.dtype_policy)
                      for k in range(2)]

        def dense(units, name, **more):
            return layers.Dense(units, name=name, dtype=self.dtype_policy, **more)

        self.three = [dense(width, name) for name in ("query", "key", "value")]
        self.out = dense(width, "out", kernel_initializer="zeros")
        self.widening = dense(2 * width, "widening")
        self.narrowing = dense(width, "narrowing", kernel_initializer="zeros")
        for layer in (*self.norms, *self.three, self.out, self.widening):
            layer.build((None, None, width))
        self.narrowing.build((None, None, 2 * width))
        self.places = self.add_weight(shape=(self.back + 1 + self.ahead, self.heads),
                                      initializer="zeros", name="places")

    def call(self, x, past=None):
        normalised = self.norms[0](self.widen(x, past))
        query, key, value = (layer(normalised) for layer in self.three)
        offsets = range(-self.back, self.ahead + 1)
        query, key = self.around(query, [0]), self.around(key, offsets)
        scores = ops.sum(query * key, axis=-1) * key.shape[-1] ** -0.5
        shares = ops.softmax(scores + ops.cast(self.places, scores.dtype), axis=2)
        mixed = ops.sum(shares[..., None] * self.around(value, offsets), axis=2)
        x = x + self.out(ops.reshape(mixed, ops.shape(x)))
        return x + self.narrowing(gelu(self.widening(self.norms[1](x))))


class EnergyDescent(Window):
    """`steps` steps of gradient descent on an energy of each frame: [batch, N, c] -> the same
    shape.

    The energy transformer (Hoover et al. 2023, eqs. 3, 5 and 6), its sums over a window: with g the
    normalised frame, Q = W_Q g, K_B = W_K g_B of the other frames B in the window and ξ_μ memories,

        E = −(1/β) Σ_heads ln Σ_B exp(β K_B·Q)  −  ½ Σ_μ relu(ξ_μ·g)²        x <- x − rate·∂E/∂g

    The other frames stay fixed, so that a piece can be processed in blocks. All steps share the
    matrices of keys, queries and memories.
    """

    def build(self, shape):
        width = shape[-1]
        self.width = width
        self.scale = self.add_weight(shape=(), initializer="zeros", name="scale")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.query, self.key = (self.add_weight(shape=(width, width), name=name)
                                for name in ("query", "key"))
        self.memory = self.add_weight(shape=(width, self.config.memories), name="memory")

    def normalise(self, x):
        """g. Its scale is one positive number for all channels, so g is the gradient of a convex
        function of x and the energy falls.
        """
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        size = ops.rsqrt(ops.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
        scale = ops.cast(ops.exp(self.scale), x.dtype)
        return scale * centred * size + ops.cast(self.bias, x.dtype)

    def _keys(self, x, past):
        """The keys of the other frames in each window [batch, N, others, heads, d]."""
        normalised = self.normalise(self.widen(x, past))
        others = [o for o in range(-self.back, self.ahead + 1) if o]
        return self.around(ops.matmul(normalised, ops.cast(self.key, x.dtype)), others)

    def _scores(self, g, keys):
        """β K_B·Q [batch, N, others, heads]."""
        # The keys' shape, because tf2onnx loses the batch axis of a product's shape.
        query = ops.reshape(ops.matmul(g, ops.cast(self.query, g.dtype)),
                            (*ops.shape(keys)[:2], *keys.shape[-2:]))
        return ops.sum(query[:, :, None] * keys, axis=-1) * keys.shape[-1] ** -0.5

    def call(self, x, past=None):
        keys = self._keys(x, past)
        query, memory = (ops.cast(w, x.dtype) for w in (self.query, self.memory))
        for _ in range(self.config.steps):
            g = self.normalise(x)
            shares = ops.softmax(self._scores(g, keys), axis=2)
            mixed = ops.reshape(ops.sum(shares[..., None] * keys, axis=2),
                                (*ops.shape(keys)[:2], self.width))
            activation = ops.relu(ops.matmul(g, memory))
            x = x + self.config.rate * (ops.matmul(mixed, ops.transpose(query))
                                 + ops.matmul(activation, ops.transpose(memory)))
        return x


BOTTLENECKS: dict[str, Callable] = {
    "none": lambda config: [],
    "attention": lambda config: [LocalAttention(config, name=f"attention_{k}")
                                 for k in range(config.layers)],
    "energy": lambda config: [EnergyDescent(config, name="energy")],
}
"""The new layers of each kind of bottleneck, in order: (config) -> layers."""
