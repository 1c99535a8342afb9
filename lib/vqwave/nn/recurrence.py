"""An LSTM over whole windows that trains in less time and memory than Keras's, with its numbers.

Differentiating a loop step by step adds the gradient of the recurrent kernel up in as many
additions of the whole matrix, and keeps what each step made, under mixed precision even each step's
copy of the kernels. Here the loops hold what truly depends on the step before: one product with the
recurrent kernel each. What belongs to all steps, products with the inputs and all gradients of
kernels, are single products of matrices (as in Appleyard et al. 2016, "Optimizing performance of
recurrent neural networks on GPUs").
"""

from __future__ import annotations

from keras import layers, ops

from .. import machine
from .layers import register


@register
class LSTM(layers.LSTM):
    """`keras.layers.LSTM` with its weights; sequences [batch, T, features] -> [batch, T, units].

    Where cuDNN is at hand, Keras's own call of it is used. Under mixed precision the cell's state
    stays in float32: a memory over hundreds of steps is the sum of changes that bfloat16 would
    round away.
    """

    def inner_loop(self, sequences, initial_state, mask, training=False):
        plain = (self.return_sequences and mask is None and self.use_bias and not self.go_backwards
                 and not self.dropout and not self.recurrent_dropout)
        if not plain or has_cudnn():
            return super().inner_loop(sequences, initial_state, mask, training)
        kind = self.compute_dtype
        kernel, recurrent, bias = (ops.cast(ops.convert_to_tensor(v), kind) for v in (
            self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias))
        h, c = (ops.cast(state, "float32") for state in initial_state)
        hs, last = run_steps(ops.swapaxes(ops.cast(sequences, kind), 0, 1),
                             h, c, kernel, recurrent, bias)
        return hs[-1], ops.swapaxes(hs, 0, 1), [hs[-1], ops.cast(last, kind)]


def has_cudnn() -> bool:
    """Whether Keras's backend computes on a device whose library has an LSTM of its own."""
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
    units, kind = recurrent.shape[0], x.dtype

    def project(rows, matrix):
        """[T, batch, n]·[n, m] as one product."""
        flat = ops.matmul(ops.reshape(rows, (-1, rows.shape[-1])), matrix)
        return ops.reshape(flat, (*ops.shape(rows)[:2], matrix.shape[-1]))

    def forward(state, z):
        before, c, _ = state
        z = ops.cast(z + ops.matmul(before, recurrent), "float32")
        i, f, g, o = (part(z, n, units) for n in range(4))
        i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
        c = f * c + i * g
        new = ops.cast(o * ops.tanh(c),
                       kind), c, ops.cast(ops.concatenate([i, f, g, o], axis=-1), kind)
        return new, new

    start = ops.cast(h, kind), c, ops.zeros((*ops.shape(c)[:1], 4 * units), kind)
    (_, last, _), (hs, cs, gates) = ops.scan(forward, start, project(x, kernel) + bias)

    def gradient(*upstream):
        # TensorFlow gives the gradients of both results one after the other, JAX as one tuple.
        d_hs, d_last = upstream if len(upstream) == 2 else upstream[0]
        i, f, g, o = (part(gates, n, units) for n in range(4))
        tanh = ops.cast(ops.tanh(cs), kind)
        before_c = ops.cast(ops.concatenate([c[None], cs[:-1]]), kind)
        before_h = ops.concatenate([start[0][None], hs[:-1]])
        # d z = (d c, d c, d c, d h) · local, and d c gets d h · through besides.
        local = ops.concatenate([g * i * (1 - i), before_c * f * (1 - f),
                                 i * (1 - g * g), tanh * o * (1 - o)], axis=-1)
        through = o * (1 - tanh * tanh)
        back = ops.transpose(recurrent)

        def backward(state, step):
            d_h, d_c, _ = state
            d_out, local, through, f = step
            d_h = d_h + d_out
            d_c = d_c + ops.cast(d_h * through, "float32")
            small = ops.cast(d_c, kind)
            d_z = ops.concatenate([small, small, small, d_h], axis=-1) * local
            new = ops.matmul(d_z, back), d_c * ops.cast(f, "float32"), d_z
            return new, new

        begin = ops.zeros_like(start[0]), d_last, ops.zeros_like(start[2])
        (d_h, d_c, _), (_, _, d_z) = ops.scan(backward, begin,
                                              (ops.cast(d_hs, kind), local, through, f),
                                              reverse=True)
        flat = ops.reshape(d_z, (-1, 4 * units))

        def kernel_gradient(rows):
            return ops.matmul(ops.transpose(ops.reshape(rows, (-1, rows.shape[-1]))), flat)

        return (project(d_z, ops.transpose(kernel)), ops.cast(d_h, "float32"),
                d_c, kernel_gradient(x),
                kernel_gradient(before_h), ops.sum(flat, axis=0))

    return (hs, last), gradient


def part(z, number: int, units: int):
    """One of the gates that lie side by side in z's last axis."""
    return z[..., number * units : (number + 1) * units]
