"""Hierarchies: the quantizers between encoder and decoder, at one level or at two that are trained
together, one class for each kind of the config's `hierarchy`.

A hierarchy is a `codebooks.Quantizer`; with two levels it also has `encoder_weights` and
`receptive_field`, in frames of the top.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from ..config import CodecConfig
from .blocks import ReceptiveField, gelu
from .codebooks import Quantized, Quantizer
from .planes import PlaneConv, to_frames, to_plane, top_upsamplings
from .quantizers import new_quantizer


class Places(Quantizer):
    """A quantizer of one vector, for each of the places of a frame: latents float32 [batch, N,
    places·width] -> `Quantized` with vectors [batch, N, places·vector_width] and codes int32
    [batch, N, books·places].

    All places share the codebooks. In a frame, all places' codes of the first book come first, so
    the first n·places codes are those of n books alone.
    """

    def __init__(self, config, places: int, seed: int = 0, **kwargs):
        super().__init__(config, **kwargs)
        self.places, self.quantizer = places, new_quantizer(config, seed)
        self.parts, self.suffixes = [self.quantizer], [""]

    def build(self, shape):
        self.quantizer.build((None, None, self.config.width))

    def encode(self, latents):
        """latents -> codes int32 [batch, N, books·places], or vectors where there are no codes."""
        return self._join_codes(self.quantizer.encode(self._split(latents)))

    def lookup(self, codes):
        """codes int32 [batch, N, n·places], n up to the number of books, or vectors -> vectors
        float32 [batch, N, places·vector_width].
        """
        if not self.config.has_codes:
            return self.quantizer.lookup(codes)
        batch, frames, count = ops.shape(codes)
        books = count // self.places
        codes = ops.transpose(ops.reshape(codes, (batch, frames, books, self.places)), (0, 1, 3, 2))
        codes = ops.reshape(codes, (batch, frames * self.places, books))
        return self._join(self.quantizer.lookup(codes), self.config.vector_width)

    def call(self, latents, training=False):
        vectors, codes, losses, metrics = self.quantizer(self._split(latents), training=training)
        return Quantized(self._join(vectors, self.config.vector_width), self._join_codes(codes),
                         losses, metrics)

    def _split(self, latents):
        """[batch, N, places·width] -> [batch, N·places, width]."""
        return ops.reshape(latents, (ops.shape(latents)[0], -1, self.config.width))

    def _join(self, x, width):
        """[batch, N·places, width] -> [batch, N, places·width]."""
        return ops.reshape(x, (ops.shape(x)[0], -1, self.places * width))

    def _join_codes(self, codes):
        """The codes of each place [batch, N·places, n] -> of a frame [batch, N, n·places]."""
        count = codes.shape[-1]
        if not self.config.has_codes:
            return self._join(codes, count)
        codes = ops.reshape(codes, (ops.shape(codes)[0], -1, self.places, count))
        return ops.reshape(ops.transpose(codes, (0, 1, 3, 2)),
                           (ops.shape(codes)[0], -1, count * self.places))


class TopDown(Quantizer):
    """Two levels of latents, of which the coarser conditions the finer: VQ-VAE-2 (Razavi et al.
    2019, section 3.1, algorithm 1).

    latents float32 [batch, N, top + finer features] of `plane_encoder` -> `Quantized` with vectors
    [batch, N, vector_width] and codes int32 [batch, N, books]. The quantized top is up-sampled and
    concatenated with the finer features; a convolution of both is quantized with separate
    codebooks. The top's codes come first in a frame.
    """

    def __init__(self, config: CodecConfig, seed: int = 0, **kwargs):
        super().__init__(config, name="levels", dtype=None, **kwargs)
        self.top = Places(config.quantizer, config.positions, seed, name="level_0")
        self.finer = Places(config.quantizer, config.bottom_positions, seed + 100, name="level_1")
        self.parts, self.suffixes = [self.top, self.finer], ["_top", "_bottom"]
        self.top_width = config.positions * config.quantizer.width
        self.top_codes = config.quantizer.books * config.positions
        field = ReceptiveField()
        upsamplings = top_upsamplings(config, "up")
        self.upsamplings = [up for _, up in upsamplings]
        for i, up in upsamplings:
            field.add(up, ratio=config.stages[i].stride)
        self.mix = PlaneConv(self._bottom.channels, 3, name="mix")
        self.latents = PlaneConv(config.quantizer.width, 3, name="latents")
        field.add(self.mix).add(self.latents)
        self.receptive_field = (field.left, field.right)

    @property
    def _bottom(self):
        return self.config.stages[self.config.hierarchy.bottom]

    def build(self, shape):
        config = self.config
        x = (None, None, config.positions, config.quantizer.vector_width)
        for up in self.upsamplings:
            up.build(x)
            x = up.compute_output_shape(x)
        self.mix.build((*x[:-1], x[-1] + self._bottom.channels))
        self.latents.build((*x[:-1], self._bottom.channels))
        self.top.build(None)
        self.finer.build(None)

    @property
    def encoder_weights(self) -> list:
        """The variables besides the codebooks that encoding needs."""
        return [v for layer in (*self.upsamplings, self.mix, self.latents) for v in layer.weights]

    def encode(self, latents):
        """latents -> codes int32 [batch, N, books]."""
        codes = self.top.encode(latents[..., : self.top_width])
        finer = self._finer_latents(latents, self.top.lookup(codes))
        return self._pack(codes, self.finer.encode(finer))

    def lookup(self, codes):
        """codes int32 [batch, N, books] -> vectors float32 [batch, N, vector_width]."""
        top, finer = codes[..., : self.top_codes], codes[..., self.top_codes :]
        width = finer.shape[-1] // self.config.bottom_frames
        finer = ops.reshape(finer, (ops.shape(finer)[0], -1, width))
        return self._pack(self.top.lookup(top), self.finer.lookup(finer))

    def call(self, latents, training=False):
        top = self.top(latents[..., : self.top_width], training=training)
        finer = self.finer(self._finer_latents(latents, top.vectors), training=training)
        return Quantized(self._pack(top.vectors, finer.vectors), self._pack(top.codes, finer.codes),
                         *self.combine([top, finer]))

    def _finer_latents(self, latents, top):
        """The finer level's latents [batch, N·r, P·width], from the encoder's latents and the top's
        vectors.
        """
        config = self.config
        x = to_plane(top, config.positions)
        for up in self.upsamplings:
            x = gelu(up(x))
        features = latents[..., self.top_width :]
        features = ops.reshape(features, (ops.shape(x)[0], -1, config.bottom_positions,
                                          self._bottom.channels))
        x = ops.concatenate([ops.cast(features, x.dtype), x], axis=-1)
        return to_frames(self.latents(gelu(self.mix(gelu(x)))))

    def _pack(self, top, finer):
        """[batch, N, a] and [batch, N·r, b] -> [batch, N, a + r·b]."""
        per_frame = self.config.bottom_frames
        finer = ops.reshape(finer, (ops.shape(finer)[0], -1, per_frame * finer.shape[-1]))
        return ops.concatenate([top, finer], axis=-1)


def single_level(config: CodecConfig, seed: int = 0):
    """One quantizer, for one place or for each place of a frame."""
    if config.positions == 1:
        return new_quantizer(config.quantizer, seed)
    return Places(config.quantizer, config.positions, seed, name="places")


HIERARCHIES: dict[str, Callable] = {"single_level": single_level, "vqvae2": TopDown}
"""What makes each kind of hierarchy: (codec config, seed) -> layer, not yet built."""
