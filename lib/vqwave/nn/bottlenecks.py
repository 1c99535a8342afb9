"""Bottlenecks: what looks far back at the coarsest rate, between the encoder's last stage and the
latents and between those and the decoder's first, one function for each kind of the config's
`bottleneck`.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import layers, ops

from ..config import AttentionBottleneck, Config, EnergyBottleneck, NoBottleneck
from .layers import after, gelu, register


class Window(layers.Layer):
    """What frames see of those around them: `back` before and `ahead` behind each, zeros where a
    piece has none.
    """

    def __init__(self, heads: int, back: int, ahead: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.back, self.ahead = heads, back, ahead

    @property
    def past(self) -> int:
        return self.back

    @property
    def receptive_field(self) -> tuple[int, int]:
        return self.back, self.ahead

    def widen(self, x, past=None):
        """x [batch, N, c] with the frames around it: [batch, back + N + ahead, c]."""
        x = after(x, self.back, past)
        return ops.pad(x, [[0, 0], [0, self.ahead], [0, 0]]) if self.ahead else x

    def inner(self, wide):
        """Of [batch, back + N + ahead, c] the N frames themselves."""
        return wide[:, self.back : ops.shape(wide)[1] - self.ahead]

    def around(self, wide, offsets):
        """[batch, back + N + ahead, heads·d] -> [batch, N, offsets, heads, d]: for each frame those
        at these offsets from it.
        """
        batch, total = ops.shape(wide)[:2]
        frames = total - self.back - self.ahead
        seen = ops.stack([wide[:, self.back + o : self.back + o + frames] for o in offsets], axis=2)
        return ops.reshape(seen, (batch, frames, len(offsets), self.heads,
                                  wide.shape[-1] // self.heads))

    def by_head(self, x):
        """[batch, N, heads·d] -> [batch, N, heads, d]."""
        return ops.reshape(x, (*ops.shape(x)[:2], self.heads, x.shape[-1] // self.heads))

    def compute_output_shape(self, x_shape, past_shape=None):
        return tuple(x_shape)

    def get_config(self):
        own = {"heads": self.heads, "back": self.back, "ahead": self.ahead}
        return super().get_config() | own


@register
class LocalAttention(Window):
    """x + attention of each frame to a window around it, + a layer of two products: [batch, N, c]
    -> the same shape (Vaswani et al. 2017, normalised before).

    Where a frame is in the window is told by a learnt weight of each distance. Both sums begin as
    the identity.
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
        seen = self.norms[0](self.widen(x, past))
        query, key, value = (layer(seen) for layer in self.three)
        offsets = range(-self.back, self.ahead + 1)
        query, key = self.by_head(self.inner(query)), self.around(key, offsets)
        scores = ops.sum(query[:, :, None] * key, axis=-1) * key.shape[-1] ** -0.5
        shares = ops.softmax(scores + ops.cast(self.places, scores.dtype), axis=2)
        mixed = ops.sum(shares[..., None] * self.around(value, offsets), axis=2)
        x = x + self.out(ops.reshape(mixed, ops.shape(x)))
        return x + self.narrowing(gelu(self.widening(self.norms[1](x))))


@register
class EnergyDescent(Window):
    """Each frame descends an energy of its own, `steps` times: [batch, N, c] -> the same shape.

    The energy transformer (Hoover et al. 2023, eqs. 3, 5 and 6), its sums over a window: with g the
    normalised frame, Q = W_Q g, K_B = W_K g_B of the other frames B in the window and ξ_μ memories,

        E = −(1/β) Σ_heads ln Σ_B exp(β K_B·Q)  −  ½ Σ_μ relu(ξ_μ·g)²        x <- x − rate·∂E/∂g

    The other frames stand as they came, so that nobody moves whom a later frame looks at and a
    piece may come in blocks. One matrix of keys, queries and memories serves all steps.
    """

    def __init__(self, heads: int, back: int, ahead: int = 0, memories: int = 512, steps: int = 4,
                 rate: float = 0.1, **kwargs):
        super().__init__(heads, back, ahead, **kwargs)
        self.memories, self.steps, self.rate = memories, steps, rate

    def build(self, shape):
        width = shape[-1]
        self.width = width
        self.scale = self.add_weight(shape=(), initializer="zeros", name="scale")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.query, self.key = (self.add_weight(shape=(width, width), name=name)
                                for name in ("query", "key"))
        self.memory = self.add_weight(shape=(width, self.memories), name="memory")

    def normalise(self, x):
        """g: the scale, e to a learnt power, is one positive number for all channels, so that g is
        the gradient of a convex function of x and the energy falls.
        """
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        size = ops.rsqrt(ops.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
        scale = ops.cast(ops.exp(self.scale), x.dtype)
        return scale * centred * size + ops.cast(self.bias, x.dtype)

    def _keys(self, x, past):
        """Keys of the others in each frame's window [batch, N, others, heads, d]."""
        seen = self.normalise(self.widen(x, past))
        others = [o for o in range(-self.back, self.ahead + 1) if o]
        return self.around(ops.matmul(seen, ops.cast(self.key, x.dtype)), others)

    def _scores(self, g, keys):
        """β K_B·Q [batch, N, others, heads]."""
        # The shape is that of the keys: of a product, tf2onnx gives one without the batch.
        query = ops.reshape(ops.matmul(g, ops.cast(self.query, g.dtype)),
                            (*ops.shape(keys)[:2], *keys.shape[-2:]))
        return ops.sum(query[:, :, None] * keys, axis=-1) * keys.shape[-1] ** -0.5

    def energy(self, x, seen, past=None):
        """E of frames x [batch, N, c] whose others are those of `seen`, of that shape: [batch, N].
        """
        g, keys = self.normalise(x), self._keys(seen, past)
        attention = -(keys.shape[-1] ** 0.5) * ops.logsumexp(self._scores(g, keys), axis=2)
        known = ops.relu(ops.matmul(g, ops.cast(self.memory, x.dtype)))
        return ops.sum(attention, axis=-1) - 0.5 * ops.sum(known**2, axis=-1)

    def call(self, x, past=None):
        keys = self._keys(x, past)
        query, memory = (ops.cast(w, x.dtype) for w in (self.query, self.memory))
        for _ in range(self.steps):
            g = self.normalise(x)
            shares = ops.softmax(self._scores(g, keys), axis=2)
            mixed = ops.reshape(ops.sum(shares[..., None] * keys, axis=2),
                                (*ops.shape(keys)[:2], self.width))
            known = ops.relu(ops.matmul(g, memory))
            x = x + self.rate * (ops.matmul(mixed, ops.transpose(query))
                                 + ops.matmul(known, ops.transpose(memory)))
        return x

    def get_config(self):
        own = {"memories": self.memories, "steps": self.steps, "rate": self.rate}
        return super().get_config() | own


def _attention(config: AttentionBottleneck):
    return [LocalAttention(config.heads, config.back, config.ahead, name=f"attention_{k}")
            for k in range(config.layers)]


def _energy(config: EnergyBottleneck):
    return [EnergyDescent(config.heads, config.back, config.ahead, config.memories, config.steps,
                          config.rate, name="energy")]


BOTTLENECKS: dict[type[Config], Callable] = {
    NoBottleneck: lambda config: [], AttentionBottleneck: _attention, EnergyBottleneck: _energy,
}
"""The layers of each kind of bottleneck, new: (config) -> layers, one after the other."""
