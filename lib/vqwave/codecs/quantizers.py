"""Quantizers, which turn a codec's latents into codes."""

from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from ..levels import fields
from ..levels.fields import AboveZero, BookCount, CodeCount, Positive, Real, Weight
from .parts import CodecPart

Decay = Annotated[Real, Field(gt=0, lt=1)]


class QuantizerConfig(CodecPart):
    """A quantizer. If it has codes, it also has `num_codes` and `books` (codes per frame)."""

    has_codes: ClassVar[bool] = True
    """Whether a frame consists of codes, which generators can learn, or of a float32 vector."""

    nested: ClassVar[bool] = False
    """Whether the first books of a frame can be decoded without the others."""

    training_only: ClassVar[tuple[str, ...]] = ()
    """Fields that have no effect on a trained codec."""

    width: ClassVar[Any]
    """Channels of the latents."""

    @property
    def bands(self) -> int:
        """The number of bands of a banded encoder: one for each book."""
        return self.books  # type: ignore[attr-defined]

    @property
    def gain_edges(self) -> tuple[int, ...]:
        """The frequencies in Hz between the gain bands (`GainShapeQuantizer`)."""
        return ()

    @property
    def vector_width(self) -> int:
        """Channels of the decoder's input at each position."""
        return self.width


class CodebookConfig(QuantizerConfig):
    """A codebook of num_codes vectors of code_dim numbers, which are moving averages of latents.
    revival_threshold: a code is revived if its count is below this share of the mean count.
    commitment: weight of the distance between latents and their codes in the loss.
    """

    num_codes: CodeCount = 1024
    code_dim: Positive = 32
    decay: Decay = 0.96
    revival_threshold: Weight = 0.3
    commitment: AboveZero = 0.25

    training_only = ("decay", "revival_threshold", "commitment")

    @property
    def width(self) -> int:
        return self.code_dim


class EMAQuantizer(CodebookConfig):
    """One codebook (van den Oord et al. 2017, appendix A.1)."""

    kind: Literal["ema"] = "ema"
    books: ClassVar[int] = 1


class BandedQuantizer(CodebookConfig):
    """A codebook for each band of the latents."""

    kind: Literal["banded"] = "banded"
    noncausal = True
    books: BookCount = 7
    num_codes: CodeCount = 256
    code_dim: Positive = 16
    decay: Decay = 0.99
    revival_threshold: Weight = 0.03
    @property
    def width(self) -> int:
        return self.books * self.code_dim


class GainShapeQuantizer(QuantizerConfig):
    """Codes of the spectrum's shape (loudness relative to the gains), then codes of the gains of
    a few bands.

    edges: the frequencies between the gain bands, in Hz. step: dB between two gain codes.
    """

    kind: Literal["gain_shape"] = "gain_shape"
    noncausal = True
    requires = {"encoder": ("banded",)}
    shape: BandedQuantizer = BandedQuantizer(books=14)
    edges: Annotated[tuple[Positive, ...], Field(min_length=1)] = (200, 500, 1000, 2000, 4000)
    step: Annotated[Real, Field(ge=0.5, le=12)] = 3.0

    @pydantic.model_validator(mode="after")
    def _check(self):
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges are {list(self.edges)}; they must rise")
        if self.gain_steps > self.shape.num_codes:
            raise ValueError(f"steps of {self.step:g} dB need {self.gain_steps} codes, but shape "
                             f"has num_codes {self.shape.num_codes}")
        return self

    @property
    def highest_frequency(self) -> float:
        return self.edges[-1]

    @property
    def gain_steps(self) -> int:
        """The number of gain codes in use: the range of `spectrum_layer.loudness_of` in steps."""
        return int(fields.MOST_LOUDNESS * fields.LOUDNESS_RANGE / self.step) + 1

    @property
    def gain_edges(self) -> tuple[int, ...]:
        return self.edges

    @property
    def gains(self) -> int:
        """Gain codes of a frame."""
        return len(self.edges) + 1

    @property
    def bands(self) -> int:
        return self.shape.books

    @property
    def books(self) -> int:
        return self.shape.books + self.gains

    @property
    def num_codes(self) -> int:
        return self.shape.num_codes

    @property
    def code_dim(self) -> int:
        return self.shape.code_dim

    @property
    def width(self) -> int:
        return self.shape.width + self.gains
