"""The heads of a frame's codebooks: logits of their codes, a class for each `drawing`."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ..config import QUIETNESS, GeneratorConfig
from .blocks import built, dense, gelu

REPEAT_BIAS = 6.0
"""The initial logit of repeating the previous code: with 256 codes, three of five frames repeat."""


class CodebookHeads:
    """The heads of a `drawing`, made with the generator's config and the features' width.

    layers: all layers. outputs: the `Outputs`, in order of their books.
    """

    def __init__(self, config: GeneratorConfig):
        self.config = config

    def logits(self, h, previous, code):
        """Yield the logits of each book in order, float32 [..., num_codes].

        Args:
            h: the core's features, [..., width]; previous: int32 [..., books].
            code: (book, logits) -> code int32 [...], the input of the later books.
        """
        raise NotImplementedError

    def make_tables(self, width: int):
        """Make the embeddings of the earlier books' codes. With `repeats`, also make embeddings of
        whether a code equals that of the previous frame.
        """
        later = range(1, self.config.books)
        self.from_books = [built(layers.Embedding(self.config.num_codes, width, name=f"before_{k}"))
                           for k in later]
        self.from_changes = [built(layers.Embedding(2, width, name=f"changed_{k}"))
                             for k in later if self.config.core.repeats]

    def add_embedding(self, x, book: int, code, previous):
        """x plus the embedding of a book's code, [..., width]."""
        x = x + self.from_books[book](code)
        if not self.from_changes:
            return x
        return x + self.from_changes[book](ops.cast(code != previous[..., book], "int32"))


class SequentialHeads(CodebookHeads):
    """Each book depends on the core's features h and on the books before it in the frame:

        logits_0 = W_0·h + b_0      logits_k = W_k·gelu(P_k·h + Σ_{j<k} V_j[code_j]) + b_k

    With `repeats` the sum also has one of two learnt vectors u_j: code_j is repeated or changed.
    """

    def __init__(self, config: GeneratorConfig, width: int):
        super().__init__(config)
        hidden = config.core.head_dim
        self.outputs = [built(Outputs(config, 1, f"logits_{k}" if k else "logits"),
                              hidden if k else width) for k in range(config.books)]
        self.from_state = [dense(width, hidden, f"state_{k}") for k in range(1, config.books)]
        self.make_tables(hidden)
        self.layers = [*self.outputs, *self.from_state, *self.from_books, *self.from_changes]

    def logits(self, h, previous, code):
        """See `CodebookHeads.logits`."""
        before = 0.0
        for k, layer in enumerate(self.outputs):
            features = gelu(self.from_state[k - 1](h) + before) if k else h
            logits = add_repeat(self.config, layer(features), previous[..., k])
            yield logits
            if k < self.config.books - 1:
                before = self.add_embedding(before, k, code(k, logits), previous)


class ParallelHeads(CodebookHeads):
    """All books depend on h alone: logits = W·h + b."""

    def __init__(self, config: GeneratorConfig, width: int):
        super().__init__(config)
        self.layers = self.outputs = [built(Outputs(config, config.books, "logits"), width)]

    def logits(self, h, previous, code):
        """See `CodebookHeads.logits`; `code` is not called."""
        outputs = self.outputs[0](h)
        outputs = ops.reshape(outputs, (*ops.shape(h)[:-1], self.config.books, -1))
        logits = add_repeat(self.config, outputs, previous)
        for k in range(self.config.books):
            yield logits[..., k, :]


class GridHeads(CodebookHeads):
    """The horizontal stack of a gated PixelCNN, over the books of a frame in order. In layer i and
    book k, with the features v_i of the vertical stack (`PixelCNNStack`):

        z = gated(A_i·[g_i,k−n … g_i,k] + v_i,k)        g_{i+1},k = g_i,k + M_i·z

    g_0,k is the embedding of the code of book k − 1 (zeros for the first book), and n is half of
    kernel_books. The logits of book k come from gelu(H·g_last,k). There is no blind spot, because
    each book reads the features of the books before.
    """

    def __init__(self, config: GeneratorConfig, width: int):
        super().__init__(config)
        core = config.core
        channels, count = core.channels, range(len(core.dilations))
        self.taps = core.kernel_books // 2 + 1
        self.make_tables(channels)
        self.across = [dense(self.taps * channels, 2 * channels, f"across_{i}") for i in count]
        self.mixes = [dense(channels, channels, f"mix_{i}") for i in count]
        self.hidden = dense(channels, core.head_dim, "hidden")
        self.outputs = [built(Outputs(config, 1, f"logits_{k}" if k else "logits"), core.head_dim)
                        for k in range(config.books)]
        self.layers = [*self.from_books, *self.from_changes, *self.across, *self.mixes, self.hidden,
                       *self.outputs]

    def logits(self, h, previous, code):
        """See `CodebookHeads.logits`; h: [..., books, layers·2·channels]."""
        links = ops.split(h, len(self.across), axis=-1)
        x = ops.zeros_like(h[..., 0, : self.config.core.channels])
        rows = [[x] * (self.taps - 1) for _ in self.across]
        for k, layer in enumerate(self.outputs):
            for row, link, across, mix in zip(rows, links, self.across, self.mixes, strict=True):
                row.append(x)
                z = across(ops.concatenate(row[-self.taps :], axis=-1))
                x = x + mix(gated(z + link[..., k, :]))
            logits = add_repeat(self.config, layer(gelu(self.hidden(x))), previous[..., k])
            yield logits
            if k < self.config.books - 1:
                x = self.add_embedding(0.0, k, code(k, logits), previous)


class Outputs(layers.Dense):
    """The output layer of `books` books, in float32 under mixed precision.

    With `quiet_cost`, codes of quiet music are less likely than in training:

        y = W·x + b − quiet_cost·quiet        (training: W·x + b)

    quiet: float32 [units], not trained, initially zeros; see `data.loudness.quietness`.
    """

    def __init__(self, config: GeneratorConfig, books: int, name: str):
        count, repeats = config.num_codes, config.core.repeats
        bias = np.tile(np.append(np.zeros(count, "float32"), REPEAT_BIAS)[: count + repeats], books)
        super().__init__(len(bias), dtype="float32", name=name,
                         bias_initializer=keras.initializers.Constant(bias))
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
        """quiet: float32 [books, num_codes], see `StackCore.set_quiet`."""
        self.quiet.assign(np.concatenate([self.widen(book) for book in quiet]))

    def widen(self, values: np.ndarray) -> np.ndarray:
        """[..., num_codes] of a book -> [..., outputs], with zero for the output of repeating."""
        extra = self.units // self.books - values.shape[-1]
        return np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, extra)])


def add_repeat(config: GeneratorConfig, outputs, previous):
    """A book's outputs [..., num_codes + 1] and its previous code, int32 [...] -> logits [...,
    num_codes]. The last output is added to the logit of the previous code.
    """
    if not config.core.repeats:
        return outputs
    count = config.num_codes
    # The start token is not a code, so its one-hot vector is zero.
    repeated = ops.one_hot(previous, count, dtype="float32")
    return outputs[..., :count] + outputs[..., count:] * repeated


def gated(x):
    """[..., 2c] -> [..., c]: tanh of the first half times σ of the second."""
    half = x.shape[-1] // 2
    return ops.tanh(x[..., :half]) * ops.sigmoid(x[..., half:])


CODEBOOK_HEADS: dict[str, Any] = {"in_order": SequentialHeads, "together": ParallelHeads}
"""The class of each `drawing` of a core."""
