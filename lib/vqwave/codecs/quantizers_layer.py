"""Quantizers: latents <-> codes, one class for each kind of `quantizer` in the config.

`codebooks_layer.Quantizer` is their interface, `codebooks_layer.Quantized` their result.
"""

import numpy as np
from keras import ops

from ..levels.fields import LOUDNESS_RANGE
from ..levels.kinds import layer_for, layer_of
from .codebooks_layer import MultiBookQuantizer, Quantized, Quantizer, VectorQuantizer
from .quantizers import BandedQuantizer, EMAQuantizer, GainShapeQuantizer


@layer_for(BandedQuantizer)
class BandedVectorQuantizer(MultiBookQuantizer):
    """latents float32 [batch, N, books·code_dim] -> `Quantized` with codes int32 [batch, N, books].

    A codebook for each band of the latents, as in BSCodec (2025).
    """

    def encode(self, latents):
        """latents [batch, N, books·code_dim] -> codes int32 [batch, N, books]."""
        bands = self._bands(ops.cast(latents, "float32"))
        return ops.concatenate([book.encode(x) for x, book in zip(bands, self.books, strict=True)],
                               axis=-1)

    def lookup(self, codes):
        """codes int32 [batch, N, books] -> vectors float32 [batch, N, books·code_dim]."""
        return ops.concatenate([book.lookup(codes[..., k : k + 1])
                                for k, book in enumerate(self.books)], axis=-1)

    def call(self, latents, training=False):
        latents = ops.cast(latents, "float32")
        parts = [book(x, training=training)
                 for x, book in zip(self._bands(latents), self.books, strict=True)]
        return Quantized(ops.concatenate([part.vectors for part in parts], axis=-1),
                         ops.concatenate([part.codes for part in parts], axis=-1),
                         *self.combine(parts))

    def _bands(self, latents):
        """The latents of each band, float32 [batch, N, code_dim]."""
        dim = self.config.code_dim
        return [latents[..., k * dim : (k + 1) * dim] for k in range(len(self.books))]


@layer_for(GainShapeQuantizer)
class GainShapeVectorQuantizer(Quantizer):
    """latents float32 [batch, N, shape width + gains] -> `Quantized` with codes int32 [batch, N,
    shape books + gains].

    Shape and loudness have separate codes, so a decay changes gain codes only. The shape has the
    codes of a `BandedVectorQuantizer`. A gain is the nearest of evenly spaced values.
    """

    def __init__(self, config: GainShapeQuantizer, seed: int = 0, **kwargs):
        super().__init__(config, **kwargs)
        self.shape = BandedVectorQuantizer(config.shape, seed, name="shape")
        self.parts, self.suffixes = [self.shape], [""]
        self.step = config.step / LOUDNESS_RANGE

    def build(self, shape):
        self.shape.build((*shape[:-1], self.config.shape.width))
        # Encoding never chooses codes above the last gain, but a generator may sample them.
        table = np.minimum(np.arange(self.config.num_codes), self.config.gain_steps - 1) * self.step
        self.tables = [self.add_weight(shape=(self.config.num_codes, 1), trainable=False,
                                       name=f"gain_{k}") for k in range(self.config.gains)]
        for variable in self.tables:
            variable.assign(table[:, None].astype("float32"))

    @property
    def codebooks(self) -> list:
        return [*self.shape.codebooks, *self.tables]

    def encode(self, latents):
        """latents [batch, N, width] -> codes int32 [batch, N, books]."""
        shape, gains = self._split(latents)
        return ops.concatenate([self.shape.encode(shape), self._gain_codes(gains)], axis=-1)

    def lookup(self, codes):
        """codes int32 [batch, N, books] -> vectors float32 [batch, N, width]."""
        books = self.config.shape.books
        return ops.concatenate([self.shape.lookup(codes[..., :books]),
                                self._gains(codes[..., books:])], axis=-1)

    def call(self, latents, training=False):
        shape, gains = self._split(latents)
        quantized, codes = self.shape(shape, training=training), self._gain_codes(gains)
        return Quantized(ops.concatenate([quantized.vectors, self._gains(codes)], axis=-1),
                         ops.concatenate([quantized.codes, codes], axis=-1), quantized.losses,
                         quantized.metrics)

    def _split(self, latents):
        latents = ops.cast(latents, "float32")
        width = self.config.shape.width
        return latents[..., :width], latents[..., width:]

    def _gains(self, codes):
        """Gain codes int32 [batch, N, gains] -> gains float32 of the same shape."""
        return ops.concatenate([ops.take(table, codes[..., k], axis=0)
                                for k, table in enumerate(self.tables)], axis=-1)

    def _gain_codes(self, gains):
        """Gains float32 [batch, N, gains] -> codes int32 of the same shape."""
        steps = ops.clip(gains / self.step, 0.0, self.config.gain_steps - 1.0)
        return ops.cast(ops.round(steps), "int32")


def new_quantizer(config, seed: int = 0):
    """A new quantizer of the kind that a config names, not yet built."""
    return layer_of(config)(config, seed, name="quantizer")


layer_for(EMAQuantizer)(VectorQuantizer)
