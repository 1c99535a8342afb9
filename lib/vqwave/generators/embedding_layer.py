"""The embedding of frames of codes."""

import numpy as np
from keras import layers, ops


class FrameEmbedding(layers.Embedding):
    """Frames int32 [batch, N, books] -> float32 [batch, N, width]. A frame holds codes, or the
    token `num_codes`.

    Each book has its own rows. join: "sum" adds the books' vectors; "concatenate" gives the width
    books·dim.
    """

    def __init__(self, books: int, num_codes: int, dim: int, join: str = "sum", **kwargs):
        super().__init__(books * (num_codes + 1), dim, **kwargs)
        self.books, self.num_codes, self.join = books, num_codes, join

    def call(self, frames):
        if self.books == 1:
            return super().call(frames[..., 0])
        first = ops.arange(self.books, dtype="int32") * (self.num_codes + 1)
        vectors = super().call(frames + first)
        if self.join == "sum":
            return ops.sum(vectors, axis=-2)
        return ops.reshape(vectors, (*ops.shape(frames)[:-1], self.books * self.output_dim))

    def start_from(self, codebooks: list[np.ndarray], random: np.random.Generator):
        """Set each book's rows to its standardised code vectors, float32 [num_codes, any width].

        The token's row is random, because a core that normalises zeros has huge gradients.
        """
        dim, rows = self.output_dim, []
        for book in codebooks:
            if (width := book.shape[1]) != dim:  # the projection keeps the mean length
                book = book @ random.normal(0, width**-0.5, (width, dim))
            rows += [book, random.normal(size=(1, dim))]
        self.embeddings.assign(np.concatenate(rows))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.output_dim * (self.books if self.join == "concatenate" else 1))
