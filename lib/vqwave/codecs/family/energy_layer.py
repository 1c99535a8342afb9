"""The energy transformer as a bottleneck: a layer at the coarsest rate with a long past."""

from keras import layers, ops

from ...levels.kinds import layer_for
from ..blocks_layer import prepend_past
from .energy import EnergyBottleneck


class EnergyDescent(layers.Layer):
    """`steps` steps of gradient descent on an energy of each frame: [batch, N, c] -> same shape.

    The energy transformer (Hoover et al. 2023, eqs. 3, 5 and 6), with sums over a window:

        E = −(1/β) Σ_heads ln Σ_B exp(β K_B·Q)  −  ½ Σ_μ relu(ξ_μ·g)²        x <- x − rate·∂E/∂g

    g is the normalised frame, Q = W_Q g, K_B = W_K g_B for the `back` frames B before, and ξ_μ are
    memories. The other frames stay fixed, so that a piece can be processed in blocks; frames before
    the piece are zero. All steps share the matrices of keys, queries and memories.
    """

    def __init__(self, config: EnergyBottleneck, **kwargs):
        super().__init__(**kwargs)
        self.config, self.past_steps = config, config.back
        self.receptive_field = (config.back, 0)

    def build(self, shape):
        width = shape[-1]
        self.width = width
        self.scale = self.add_weight(shape=(), initializer="zeros", name="scale")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")
        self.query, self.key = (self.add_weight(shape=(width, width), name=name)
                                for name in ("query", "key"))
        self.memory = self.add_weight(shape=(width, self.config.memories), name="memory")

    def normalise(self, x):
        """g. All channels share one positive scale, so g is the gradient of a convex function of x,
        and the energy falls.
        """
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        inverse_std = ops.rsqrt(ops.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
        scale = ops.cast(ops.exp(self.scale), x.dtype)
        return scale * centred * inverse_std + ops.cast(self.bias, x.dtype)

    def _keys(self, x, past):
        """The keys of the other frames in each window [batch, N, back, heads, d]."""
        normalised = self.normalise(prepend_past(x, self.past_steps, past))
        keys = ops.matmul(normalised, ops.cast(self.key, x.dtype))
        batch, frames = ops.shape(keys)[0], ops.shape(keys)[1] - self.past_steps
        before = ops.stack([keys[:, o : o + frames] for o in range(self.past_steps)], axis=2)
        heads = self.config.heads
        return ops.reshape(before, (batch, frames, self.past_steps, heads, self.width // heads))

    def _scores(self, g, keys):
        """β K_B·Q [batch, N, back, heads]."""
        # Use the keys' shape, because tf2onnx loses the batch axis of a product's shape.
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


layer_for(EnergyBottleneck)(lambda config: [EnergyDescent(config, name="energy")])
