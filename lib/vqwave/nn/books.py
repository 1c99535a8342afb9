"""The books of a frame: how their codes are drawn from the core's features, one class for each
`drawing` of a core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from ..config import QUIETNESS, GeneratorConfig
from .blocks import gelu

REPEAT_BIAS = 6.0
"""The initial logit of repeating the previous code: among 256 codes, it repeats in two of three
frames.
"""


class BooksInOrder:
    """Each book is drawn from the core's features h and the books before it in the frame:

        logits_0 = W_0·h + b_0      logits_k = W_k·gelu(P_k·h + Σ_{j<k} V_j[code_j]) + b_k

    With `repeats` the sum also has u_j, one of two vectors: whether code_j changed since the
    previous frame.

    Interface of the classes in `DRAWINGS`:
        CLASS(config): config is the generator's. layers: all its layers, built by `build(width)`
            for h of that width. outputs: the `Outputs` of its books, in order.
        logits(h, previous, code): see `BooksInOrder.logits`.
    """

    def __init__(self, config: GeneratorConfig):
        core, self.config = config.core, config
        later = range(1, config.books)
        self.first, *self.later = [Outputs(config, 1, f"logits_{k}" if k else "logits")
                                   for k in range(config.books)]
        self.outputs = [self.first, *self.later]
        self.from_state = [layers.Dense(core.head_dim, name=f"state_{k}") for k in later]
        self.from_books = [layers.Embedding(config.num_codes, core.head_dim, name=f"before_{k}")
                           for k in later]
        self.from_changes = [layers.Embedding(2, core.head_dim, name=f"changed_{k}")
                             for k in later if core.repeats]
        self.layers = [*self.outputs, *self.from_state, *self.from_books, *self.from_changes]

    def build(self, width: int):
        self.first.build((None, None, width))
        for state, before, logits in zip(self.from_state, self.from_books, self.later, strict=True):
            state.build((None, None, width))
            before.build((None, None))
            logits.build((None, None, self.config.core.head_dim))
        for changed in self.from_changes:
            changed.build((None, None))

    def logits(self, h, previous, code):
        """Yield the logits of each book in order, float32 [..., num_codes].

        Args:
            h: the core's features, [..., width]; previous: int32 [..., books].
            code: (book, its logits) -> the code int32 [...] that the later books see.
        """
        before, last = 0.0, self.config.books - 1
        for k, layer in enumerate(self.outputs):
            features = gelu(self.from_state[k - 1](h) + before) if k else h
            logits = add_repeat(self.config, layer(features), previous[..., k])
            yield logits
            if k == last:
                return
            chosen = code(k, logits)
            before = before + self.from_books[k](chosen)
            if self.from_changes:
                before = (before
                          + self.from_changes[k](ops.cast(chosen != previous[..., k], "int32")))


class BooksTogether:
    """All books are drawn from h alone: logits = W·h + b."""

    def __init__(self, config: GeneratorConfig):
        self.config = config
        self.every = Outputs(config, config.books, "logits")
        self.layers = self.outputs = [self.every]

    def build(self, width: int):
        self.every.build((None, None, width))

    def logits(self, h, previous, code):
        """As `BooksInOrder.logits`, without calling `code`."""
        outputs = self.every(h)
        outputs = ops.reshape(outputs, (*ops.shape(h)[:-1], self.config.books, -1))
        logits = add_repeat(self.config, outputs, previous)
        for k in range(self.config.books):
            yield logits[..., k, :]


class BooksOnGrid:
    """The horizontal stack of a gated PixelCNN, over the books of a frame in order; the vertical
    one is `PixelCNNStack`. In layer i and book k, with v_i the vertical stack's features:

        z = gated(A_i·[g_i,k−n … g_i,k] + v_i,k)        g_{i+1},k = g_i,k + M_i·z

    where g_0,k embeds the code of book k − 1 (zeros for the first book) and n is half of
    kernel_books. The logits of book k come from gelu(H·g_last,k). Each book sees the features of
    the books before it, so there is no blind spot.
    """

    def __init__(self, config: GeneratorConfig):
        core, self.config = config.core, config
        count, later = len(core.dilations), range(1, config.books)
        self.from_books = [layers.Embedding(config.num_codes, core.channels, name=f"before_{k}")
                           for k in later]
        self.from_changes = [layers.Embedding(2, core.channels, name=f"changed_{k}")
                             for k in later if core.repeats]
        self.across = [layers.Dense(2 * core.channels, name=f"across_{i}") for i in range(count)]
        self.mixes = [layers.Dense(core.channels, name=f"mix_{i}") for i in range(count)]
        self.hidden = layers.Dense(core.head_dim, name="hidden")
        self.outputs = [Outputs(config, 1, f"logits_{k}" if k else "logits")
                        for k in range(config.books)]
        self.layers = [*self.from_books, *self.from_changes, *self.across, *self.mixes, self.hidden,
                       *self.outputs]

    def build(self, width: int):
        core = self.config.core
        for table in (*self.from_books, *self.from_changes):
            table.build((None, None))
        width = (core.kernel_books // 2 + 1) * core.channels
        for across, mix in zip(self.across, self.mixes, strict=True):
            across.build((None, None, width))
            mix.build((None, None, core.channels))
        self.hidden.build((None, None, core.channels))
        for layer in self.outputs:
            layer.build((None, None, core.head_dim))

    def logits(self, h, previous, code):
        """As `BooksInOrder.logits`; h: [..., books, layers·2·channels]."""
        core, last = self.config.core, self.config.books - 1
        links = ops.split(h, len(self.across), axis=-1)
        x = ops.zeros_like(h[..., 0, : core.channels])
        seen = core.kernel_books // 2 + 1
        rows = [[x] * (seen - 1) for _ in self.across]
        for k, layer in enumerate(self.outputs):
            for row, link, across, mix in zip(rows, links, self.across, self.mixes, strict=True):
                row.append(x)
                z = across(ops.concatenate(row[-seen:], axis=-1))
                x = x + mix(gated(z + link[..., k, :]))
            logits = add_repeat(self.config, layer(gelu(self.hidden(x))), previous[..., k])
            yield logits
            if k == last:
                return
            chosen = code(k, logits)
            x = self.from_books[k](chosen)
            if self.from_changes:
                changed = ops.cast(chosen != previous[..., k], "int32")
                x = x + self.from_changes[k](changed)


class Outputs(layers.Dense):
    """The last layer of `books` books, in float32 under mixed precision.

    With `quiet_cost`, codes of quiet music are less likely than in training:

        y = W·x + b − quiet_cost·quiet        (training: W·x + b)

    quiet: float32 [units], not trained, zeros at first; see `data.loudness.quietness`.
    """

    def __init__(self, config: GeneratorConfig, books: int, name: str):
        count, repeats = config.num_codes, config.core.repeats
        bias = np.tile(np.append(np.zeros(count, "float32"), REPEAT_BIAS)[: count + repeats], books)
        super().__init__(len(bias), dtype="float32", name=name,
                         bias_initializer=lambda shape, dtype=None:
                         ops.convert_to_tensor(bias, dtype))
        self.cost, self.books = config.core.quiet_cost, books

    def build(self, input_shape):
        super().build(input_shape)
        if self.cost:
            self.quiet = self.add_weight(shape=(self.units,), initializer="zeros", trainable=False,
                                         name=QUIETNESS)

    def call(self, inputs, training=None):
        outputs = super().call(inputs, training=training)
        return outputs if training or not self.cost else outputs - self.cost * self.quiet

    def set_quiet(self, quiet: np.ndarray):
        """See `Core.set_quiet`; quiet: float32 [books, num_codes]."""
        self.quiet.assign(np.concatenate([self.widen(book) for book in quiet]))

    def widen(self, values: np.ndarray) -> np.ndarray:
        """[..., num_codes] of a book -> [..., its outputs], zero for the output of repeating."""
        extra = self.units // self.books - values.shape[-1]
        return np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, extra)])


def add_repeat(config: GeneratorConfig, outputs, previous):
    """A book's outputs [..., num_codes or one more] and its previous code, int32 [...] -> logits
    [..., num_codes], the last output added to that of the previous code.
    """
    count = config.num_codes
    if not config.core.repeats:
        return outputs
    # The start token is not a code: nothing is added.
    return outputs[..., :count] + outputs[..., count:] * ops.one_hot(previous, count,
                                                                     dtype="float32")


def gated(x):
    """[..., 2c] -> [..., c]: tanh of the first half times σ of the second."""
    half = x.shape[-1] // 2
    return ops.tanh(x[..., :half]) * ops.sigmoid(x[..., half:])


DRAWINGS: dict[str, Any] = {"in_order": BooksInOrder, "together": BooksTogether}
"""The class of each `drawing` of a core."""
