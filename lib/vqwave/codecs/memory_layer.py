"""What layers remember from block to block, so that a piece can be computed in blocks."""

import keras
import numpy as np
from keras import ops


class Memory:
    """What a model remembers from block to block: the past steps of several layers' inputs.

    state: float32 [batch, s], the past steps, one layer after the other; zeros at the start of a
    piece. None: a piece in one block. kept: int32 [batch], equal in all rows: the steps of this
    block that the next state remembers; None: all.
    """

    def __init__(self, state=None, kept=None):
        self.state, self.kept, self.begin, self.parts = state, kept, 0, []

    def past(self, x, count: int, rate: int = 1):
        """The `count` steps before x [batch, n, c]: float32 [batch, count, c]. rate: the steps of x
        to a step of the block.
        """
        width = x.shape[-1]
        if self.state is None:
            return ops.zeros((ops.shape(x)[0], count, width))
        past = ops.reshape(self.state[:, self.begin : self.begin + count * width],
                           (-1, count, width))
        self.begin += count * width
        steps = ops.concatenate([past, ops.cast(x, "float32")], axis=1)
        last = (steps[:, -count:] if self.kept is None
                else ops.take(steps, self.kept[0] * rate + np.arange(count, dtype=np.int32),
                              axis=1))
        self.parts.append(ops.reshape(last, (-1, count * width)))
        return past

    def delay(self, x, count: int):
        """x, `count` steps late."""
        return ops.concatenate([self.past(x, count), x], axis=1)[:, :-count] if count else x

    @property
    def next_state(self):
        """The state of the next block."""
        return ops.concatenate(self.parts, axis=-1)


def with_state(model: keras.Model, x, memory: Memory, inside=None):
    """Apply a chain of layers to the next block of a piece, x [batch, n, c].

    Layers with `same` padding make the output D = `delay_of` steps late. They need `inside`,
    float32 [batch, D + n, 1]: 1 for each of the last D + n steps that lies in the piece, and 0
    before and after the piece.
    """
    delay, late = delay_of(model), 0
    x = x if inside is None else x * inside[:, delay:]
    for layer in model.layers[1:]:
        count, after = getattr(layer, "past_steps", 0), _right_field(layer)
        x = layer(x, past=memory.past(x, count)) if count else layer(x)
        if after:
            late += after
            x = x * inside[:, delay - late : -late]
    return x


def delay_of(model: keras.Model) -> int:
    """The steps by which the output of `with_state` is late."""
    return sum(_right_field(layer) for layer in model.layers)


def _right_field(layer) -> int:
    return getattr(layer, "receptive_field", (0, 0))[1]
