"""Residual quantization."""

import keras
from keras import ops

from ...levels.kinds import layer_for
from ..codebooks_layer import MultiBookQuantizer, Quantized
from .residual import ResidualQuantizer


@layer_for(ResidualQuantizer)
class ResidualVectorQuantizer(MultiBookQuantizer):
    """latents float32 [batch, N, code_dim] -> `Quantized` with codes int32 [batch, N, books].

    Each book quantizes the residual of the books before, and the vectors of all books are added
    (SoundStream, Zeghidour et al. 2021, section III.C). `lookup` takes the codes of the first n
    books. In training, a share `dropout` of the windows uses n books, n uniform in 1 … books.
    """

    def encode(self, latents):
        """latents [batch, N, code_dim] -> codes int32 [batch, N, books]."""
        residual, codes = ops.cast(latents, "float32"), []
        for book in self.books:
            codes.append(book.encode(residual))
            residual = residual - book.lookup(codes[-1])
        return ops.concatenate(codes, axis=-1)

    def lookup(self, codes):
        """codes int32 [batch, N, n], n up to all books -> vectors [batch, N, code_dim]."""
        table = ops.concatenate([book.codebook for book in self.books], axis=0)
        book = ops.cumsum(ops.ones_like(codes), axis=-1) - 1
        return ops.sum(ops.take(table, codes + book * self.config.num_codes, axis=0), axis=-2)

    def call(self, latents, training=False):
        config, latents = self.config, ops.cast(latents, "float32")
        books_used = ops.full_like(latents[:, 0, 0], config.books, dtype="int32")
        if training and config.dropout:
            windows = ops.shape(latents)[0]
            cut = keras.random.uniform((windows,), seed=self.seed_generator) < config.dropout
            count = keras.random.randint((windows,), 1, config.books + 1, seed=self.seed_generator)
            books_used = ops.where(cut, count, config.books)
        residual, vectors, parts = latents, ops.zeros_like(latents), []
        for k, book in enumerate(self.books):
            mask = ops.cast(books_used > k, "float32")
            parts.append(book(residual, training=training, window_mask=mask))
            quantized = ops.stop_gradient(parts[-1].vectors) * mask[:, None, None]
            residual, vectors = residual - quantized, vectors + quantized
        return Quantized(latents + ops.stop_gradient(vectors - latents),
                         ops.concatenate([part.codes for part in parts], axis=-1),
                         *self.combine(parts))
