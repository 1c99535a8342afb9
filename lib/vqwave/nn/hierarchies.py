"""Hierarchies: what stands between encoder and decoder, one function for each kind of the config's
`hierarchy`: quantizers, at one level or at two that are trained together.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import layers, ops

from ..config import CodecConfig, Config, SingleLevelHierarchy, TopDownHierarchy
from .planes import TopDown
from .quantizers import QUANTIZERS, build_quantizer


class Places(layers.Layer):
    """A quantizer of one vector, for each of the places of a frame: latents float32 [batch, N,
    places·width] -> (vectors [batch, N, places·vector_width], codes int32 [batch, N,
    books·places]).

    All places have the same codebooks. Of a frame the first book's codes come first, so that the
    first n·places are what n books alone would give.
    """

    def __init__(self, quantizer, config, places: int, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.quantizer, self.places = quantizer, places
        self.width, self.vector_width = config.width, config.vector_width
        self.has_codes = config.has_codes

    def build(self, shape):
        if not self.quantizer.built:
            self.quantizer.build((None, None, self.width))

    @property
    def codebooks(self) -> list:
        return self.quantizer.codebooks

    def set_codebooks(self):
        self.quantizer.set_codebooks()

    def update_metrics(self):
        self.quantizer.update_metrics()

    def _split_positions(self, x, width):
        """[batch, N, places·width] -> [batch, N·places, width]."""
        return ops.reshape(x, (ops.shape(x)[0], -1, width))

    def _together(self, x, width):
        """[batch, N·places, width] -> [batch, N, places·width]."""
        return ops.reshape(x, (ops.shape(x)[0], -1, self.places * width))

    def _order(self, codes):
        """What the quantizer says of each place [batch, N·places, n] -> a frame's [batch, N,
        n·places].
        """
        count = codes.shape[-1]
        if not self.has_codes:
            return self._together(codes, count)
        codes = ops.reshape(codes, (ops.shape(codes)[0], -1, self.places, count))
        return ops.reshape(ops.transpose(codes, (0, 1, 3, 2)),
                           (ops.shape(codes)[0], -1, count * self.places))

    def encode(self, latents):
        """latents -> codes int32 [batch, N, books·places], or vectors where there are no codes."""
        return self._order(self.quantizer.encode(self._split_positions(latents, self.width)))

    def lookup(self, codes):
        """codes int32 [batch, N, n·places], n up to the number of books, or vectors -> vectors
        float32 [batch, N, places·vector_width].
        """
        if not self.has_codes:
            return self.quantizer.lookup(codes)
        batch, frames, count = ops.shape(codes)
        books = count // self.places
        codes = ops.transpose(ops.reshape(codes, (batch, frames, books, self.places)), (0, 1, 3, 2))
        codes = ops.reshape(codes, (batch, frames * self.places, books))
        return self._together(self.quantizer.lookup(codes), self.vector_width)

    def call(self, latents, training=False):
        places = self._split_positions(latents, self.width)
        vectors, codes = self.quantizer(places, training=training)
        return self._together(vectors, self.vector_width), self._order(codes)


def _single_level(config: CodecConfig, seed: int):
    if config.positions == 1:
        return build_quantizer(config.quantizer, seed), 0.0
    own = QUANTIZERS[type(config.quantizer)](config.quantizer, seed)
    made = Places(own, config.quantizer, config.positions, name="places")
    made.build((None, None, config.positions * config.quantizer.width))
    return made, 0.0


def _top_down(config: CodecConfig, seed: int):
    both = []
    for k, (name, places) in enumerate((("top", config.positions),
                                        ("bottom", config.bottom_positions))):
        own = QUANTIZERS[type(config.quantizer)](config.quantizer, seed + 100 * k)
        for metric in own.metrics:
            metric.name = f"{metric.name}_{name}"
        both.append(Places(own, config.quantizer, places, name=f"level_{k}"))
    made = TopDown(config, *both, name="levels")
    made.build(None)
    return made, max(made.receptive_field)


HIERARCHIES: dict[type[Config], Callable] = {
    SingleLevelHierarchy: _single_level, TopDownHierarchy: _top_down}
"""What stands between encoder and decoder, built: (codec config, seed) -> (a layer that offers what
a quantizer does, how many frames to either side it sees).
"""
