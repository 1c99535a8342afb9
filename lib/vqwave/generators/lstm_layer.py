"""An LSTM over whole windows with the results of Keras's, in less time and memory of training. The
input projections and each kernel's gradient are single products of matrices (Appleyard et al. 2016,
"Optimizing performance of recurrent neural networks on GPUs").
"""

from keras import layers, ops

from .. import machine
from ..codecs.blocks_layer import built
from ..levels.kinds import layer_for
from .cores_layer import StackCore
from .lstm import LSTMCore


class LSTM(layers.LSTM):
    """`keras.layers.LSTM` with its weights; sequences [batch, T, features] -> [batch, T, units].

    Uses Keras's cuDNN call on devices with cuDNN. Under mixed precision the cell state stays
    float32, because bfloat16 rounds away small changes over hundreds of steps.
    """

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if has_cudnn():
            return super().inner_loop(sequences, initial_state, mask, training)
        kind = self.compute_dtype
        kernel, recurrent, bias = (ops.cast(ops.convert_to_tensor(v), kind) for v in (
            self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias))
        h, c = (ops.cast(state, "float32") for state in initial_state)
        hs, last = run_steps(ops.swapaxes(ops.cast(sequences, kind), 0, 1),
                             h, c, kernel, recurrent, bias)
        return hs[-1], ops.swapaxes(hs, 0, 1), [hs[-1], ops.cast(last, kind)]


def has_cudnn() -> bool:
    """Whether Keras's backend computes on a device with cuDNN."""
    return machine.accelerator() == "gpu"


@ops.custom_gradient
def run_steps(x, h, c, kernel, recurrent, bias):
    """All steps of an LSTM, z_t = W·x_t + R·h_{t−1} + b in Keras's order of gates, i f g o:

        c_t = σ(f)·c_{t−1} + σ(i)·tanh(g)        h_t = σ(o)·tanh(c_t)

    Args:
        x: [T, batch, features]; kernel W [features, 4·units], recurrent R [units, 4·units],
            bias b [4·units], all of one type.
        h, c: float32 [batch, units], the state before the first step.

    Returns:
        h_t [T, batch, units] of x's type, and c after the last step, float32 [batch, units].
    """
    units, first_h = recurrent.shape[0], ops.cast(h, x.dtype)
    hs, cs, gates, last = _forward(_project(x, kernel) + bias, first_h, c, recurrent)

    def gradient(*upstream):
        # TensorFlow passes the gradients of both results as two arguments, JAX as one tuple.
        d_hs, d_last = upstream if len(upstream) == 2 else upstream[0]
        before_c = ops.cast(ops.concatenate([c[None], cs[:-1]]), x.dtype)
        before_h = ops.concatenate([first_h[None], hs[:-1]])
        d_z, d_h, d_c = _backward(ops.cast(d_hs, x.dtype), d_last, gates, cs, before_c, recurrent)
        flat = ops.reshape(d_z, (-1, 4 * units))

        def kernel_gradient(rows):
            return ops.matmul(ops.transpose(ops.reshape(rows, (-1, rows.shape[-1]))), flat)

        return (_project(d_z, ops.transpose(kernel)), ops.cast(d_h, "float32"), d_c,
                kernel_gradient(x), kernel_gradient(before_h), ops.sum(flat, axis=0))

    return (hs, last), gradient


def _forward(z, h, c, recurrent):
    """The loop over z = W·x + b [T, batch, 4·units] -> h_t, c_t, the gates, the last c."""
    kind, units = z.dtype, recurrent.shape[0]

    def step(state, z):
        before, c, _ = state
        z = ops.cast(z + ops.matmul(before, recurrent), "float32")
        i, f, g, o = ops.split(z, 4, axis=-1)
        i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
        c = f * c + i * g
        gates = ops.cast(ops.concatenate([i, f, g, o], axis=-1), kind)
        state = ops.cast(o * ops.tanh(c), kind), c, gates
        return state, state

    start = h, c, ops.zeros((*ops.shape(c)[:1], 4 * units), kind)
    (_, last, _), (hs, cs, gates) = ops.scan(step, start, z)
    return hs, cs, gates, last


def _backward(d_hs, d_last, gates, cs, before_c, recurrent):
    """The backward loop: gradients of h_t and of the last c -> those of z_t, the first h and c."""
    kind = d_hs.dtype
    i, f, g, o = ops.split(gates, 4, axis=-1)
    tanh = ops.cast(ops.tanh(cs), kind)
    # d z = (d c, d c, d c, d h) · local; d c also gets d h · through.
    local = ops.concatenate([g * i * (1 - i), before_c * f * (1 - f),
                             i * (1 - g * g), tanh * o * (1 - o)], axis=-1)
    through = o * (1 - tanh * tanh)
    back = ops.transpose(recurrent)

    def step(state, inputs):
        d_h, d_c, _ = state
        d_out, local, through, f = inputs
        d_h = d_h + d_out
        d_c = d_c + ops.cast(d_h * through, "float32")
        small = ops.cast(d_c, kind)
        d_z = ops.concatenate([small, small, small, d_h], axis=-1) * local
        state = ops.matmul(d_z, back), d_c * ops.cast(f, "float32"), d_z
        return state, state

    start = ops.zeros_like(d_hs[0]), d_last, ops.zeros_like(gates[0])
    (d_h, d_c, _), (_, _, d_z) = ops.scan(step, start, (d_hs, local, through, f), reverse=True)
    return d_z, d_h, d_c


def _project(rows, matrix):
    """[T, batch, n]·[n, m] as one product."""
    flat = ops.matmul(ops.reshape(rows, (-1, rows.shape[-1])), matrix)
    return ops.reshape(flat, (*ops.shape(rows)[:2], matrix.shape[-1]))


@layer_for(LSTMCore)
class LSTMStack(StackCore):
    """A stack of LSTMs; the features are the output of the last layer."""

    def build_stack(self, width):
        core = self.config.core
        self.lstms, self.dropouts = [], []
        for i in range(core.layers):
            self.lstms.append(built(LSTM(core.units, return_sequences=True, name=f"lstm_{i}"),
                                    width))
            self.dropouts.append(layers.Dropout(core.dropout, name=f"dropout_{i}"))
            width = core.units
        return width

    def stack(self, x, training=False):
        for i, lstm in enumerate(self.lstms):
            x = self.dropouts[i](lstm(x, training=training), training=training)
        return x

    def advance(self, x, state):
        new_state = []
        for i, lstm in enumerate(self.lstms):
            x, layer_state = lstm.cell(x, state[2 * i : 2 * i + 2])
            new_state.extend(layer_state)
        return x, new_state
