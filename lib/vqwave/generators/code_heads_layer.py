"""The heads of a frame's codebooks: logits of their codes, each given the books before."""

from keras import layers, ops

from ..codecs.blocks_layer import built, dense, gelu
from .generator import GeneratorConfig


class CodebookHeads:
    """The heads of all books, made with the generator's config and the features' width.

    layers: all layers. outputs: the output layers, in order of their books.
    """

    def __init__(self, config: GeneratorConfig):
        self.config = config

    def logits(self, h, code):
        """Yield the logits of each book in order, float32 [..., num_codes].

        Args:
            h: the core's features, [..., width].
            code: (book, logits) -> code int32 [...], the input of the later books.
        """
        raise NotImplementedError

    def make_tables(self, width: int):
        """Make the embeddings of the earlier books' codes."""
        self.from_books = [built(layers.Embedding(self.config.num_codes, width, name=f"before_{k}"))
                           for k in range(1, self.config.books)]

    def make_outputs(self, *widths: int):
        """Make the output layers, for features of these widths. They are float32 under mixed
        precision.
        """
        self.outputs = [built(layers.Dense(self.config.num_codes, dtype="float32",
                                           name=f"logits_{k}" if k else "logits"), width)
                        for k, width in enumerate(widths)]


class SequentialHeads(CodebookHeads):
    """Each book depends on the core's features h and on the books before it in the frame:

        logits_0 = W_0·h + b_0      logits_k = W_k·gelu(P_k·h + Σ_{j<k} V_j[code_j]) + b_k
    """

    def __init__(self, config: GeneratorConfig, width: int):
        super().__init__(config)
        hidden, later = config.core.head_dim, range(1, config.books)
        self.make_outputs(width, *(hidden for _ in later))
        self.from_state = [dense(width, hidden, f"state_{k}") for k in later]
        self.make_tables(hidden)
        self.layers = [*self.outputs, *self.from_state, *self.from_books]

    def logits(self, h, code):
        """See `CodebookHeads.logits`."""
        before = 0.0
        for k, layer in enumerate(self.outputs):
            logits = layer(gelu(self.from_state[k - 1](h) + before) if k else h)
            yield logits
            if k < self.config.books - 1:
                before = before + self.from_books[k](code(k, logits))


def gated(x):
    """[..., 2c] -> [..., c]: tanh of the first half times σ of the second."""
    half = x.shape[-1] // 2
    return ops.tanh(x[..., :half]) * ops.sigmoid(x[..., half:])
