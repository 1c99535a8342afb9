"""Quantizers: how a codec turns latents into codes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from .codec_parts import CodecPart
from .fields import (
    LEVEL_RANGE,
    Books,
    CodeCount,
    Fraction,
    Positive,
    Real,
    Weight,
    Whole,
    default_kind,
)

if TYPE_CHECKING:
    from .codec import CodecConfig


class QuantizerConfig(CodecPart):
    """What every quantizer's config says; those with codes also have `num_codes` and `books`, the
    codes of a frame.
    """

    kind: str

    has_codes: ClassVar[bool] = True
    """Whether a frame is codes, which can be learnt by a generator, or a vector of float32."""

    segment: ClassVar[int] = 1
    """Frames whose codes are chosen together."""

    overlap: ClassVar[int] = 0
    """Frames to either side of a segment that are looked at as well."""

    nested: ClassVar[bool] = False
    """Whether the first books of a frame can be decoded without the others."""

    training_only: ClassVar[tuple[str, ...]] = ()
    """Fields that nothing depends on once it is trained."""

    width: ClassVar[Any]
    """Channels of the latents."""

    @property
    def bands(self) -> int:
        """The books that a banded encoder splits the spectrum into."""
        return self.books  # type: ignore[attr-defined]

    @property
    def gain_edges(self) -> tuple[int, ...]:
        """Hz between the bands whose levels have codes of their own, see `GainShapeQuantizer`."""
        return ()

    @property
    def vector_width(self) -> int:
        """Channels of the vectors that the decoder is given."""
        return self.width


class CodebookConfig(QuantizerConfig):
    """A codebook that follows the latents by moving averages.

    num_codes vectors of code_dim numbers. decay: of the averages. revival_threshold: the share of
    its fair part of the latents under which a code is moved. commitment: weight of the latents'
    distance from their codes in the loss, without which nothing keeps them near.
    """

    kind: str
    num_codes: CodeCount = 1024
    code_dim: Positive = 32
    decay: Annotated[Real, Field(gt=0, lt=1)] = 0.96
    revival_threshold: Weight = 0.3
    commitment: Annotated[Real, Field(gt=0)] = 0.25

    training_only: ClassVar[tuple[str, ...]] = ("decay", "revival_threshold", "commitment")

    @property
    def width(self) -> int:
        return self.code_dim


class EMAQuantizer(CodebookConfig):
    """One codebook (van den Oord et al. 2017, appendix A.1)."""

    kind: Literal["ema"] = "ema"
    books: ClassVar[int] = 1


class ResidualQuantizer(CodebookConfig):
    """Codebooks in turn, each for what the ones before it leave (SoundStream, Zeghidour et al.
    2021).

    dropout: the share of training windows for which only the first n books are used, n drawn
    evenly, so that the codes may be cut to any number of books when encoding.
    """

    kind: Literal["residual"] = "residual"
    nested: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = (*CodebookConfig.training_only, "dropout")
    books: Books = 4
    dropout: Fraction = 0.5


class SOMQuantizer(CodebookConfig):
    """One codebook whose codes lie on a grid and drag their neighbours along (Kohonen 1982;
    SOM-VQ).

    dimensions: 1, or 2 where `num_codes` is no prime; the grid is as square as it allows. radius:
    of the neighbourhood at first, as a share of the grid's longest side; over `shrink_steps`
    training steps it shrinks to `final_radius`, in steps of the grid, which stays.
    revival_threshold: above 0, codes that fall out of use move to where latents are, which tears
    the map; at 0 they follow their neighbours.
    """

    kind: Literal["som"] = "som"
    revival_threshold: Weight = 0.0
    dimensions: Literal[1, 2] = 2
    radius: Annotated[Real, Field(gt=0, le=1)] = 0.25
    final_radius: Annotated[Real, Field(gt=0)] = 1.0
    shrink_steps: Positive = 2000
    books: ClassVar[int] = 1
    training_only: ClassVar[tuple[str, ...]] = (*CodebookConfig.training_only, "radius",
                                               "final_radius", "shrink_steps")

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.dimensions == 2 and self.grid[0] == 1:
            raise ValueError(f"num_codes is {self.num_codes}, a prime, of which there is no grid "
                             f"of 2 dimensions: take another number, or dimensions: 1")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns; one row in one dimension."""
        if self.dimensions == 1:
            return 1, self.num_codes
        rows = next(r for r in range(math.isqrt(self.num_codes), 0, -1) if self.num_codes % r == 0)
        return rows, self.num_codes // rows


class BandedQuantizer(CodebookConfig):
    """A codebook for each band of the latents, and codes that change only where it pays.

    code_dim: of a band's latents; `books` bands lie side by side. change_cost: what a change of
        code must gain, in squared distance a dimension, summed over the frames that keep the new
        code (0: each frame has its nearest code). training_cost: the mean of what it is in training
        (None: the same): each window draws its own, evenly from 0 to twice this, so that
        change_cost may be chosen anew when encoding. slow: weight of ½·mean (z_t − z_{t−1})² in the
        loss, which teaches the encoder latents that stay.
    """

    kind: Literal["banded"] = "banded"
    noncausal: ClassVar[bool] = True
    books: Books = 7
    num_codes: CodeCount = 256
    code_dim: Positive = 16
    decay: Annotated[Real, Field(gt=0, lt=1)] = 0.99
    revival_threshold: Weight = 0.03
    commitment: Annotated[Real, Field(gt=0)] = 0.25
    change_cost: Weight = 1.0
    training_cost: Weight | None = None
    slow: Weight = 0.0
    training_only: ClassVar[tuple[str, ...]] = (
        *CodebookConfig.training_only, "training_cost", "slow")
    segment: ClassVar[int] = 64
    """Frames whose codes are chosen together: a multiple of it stands before every window that is
    encoded.
    """

    overlap: ClassVar[int] = 16
    """Frames to either side that are looked at as well, so that neighbouring segments agree on a
    code that stays.
    """

    @property
    def width(self) -> int:
        return self.books * self.code_dim


class GainShapeQuantizer(QuantizerConfig):
    """Codes of the spectrum's shape and, behind them in the frame, codes of its level in a few
    bands.

    shape: a banded quantizer of levels relative to the gains. edges: Hz between the gain bands.
    step: dB between two gain codes. gain_cost: what a change of a gain code must gain, in squared
    steps summed over the frames that keep the new code (0: each frame has its nearest code).
    """

    kind: Literal["gain_shape"] = "gain_shape"
    noncausal: ClassVar[bool] = True
    segment: ClassVar[int] = BandedQuantizer.segment
    overlap: ClassVar[int] = BandedQuantizer.overlap
    shape: BandedQuantizer = BandedQuantizer(books=14)
    edges: Annotated[tuple[Positive, ...], Field(min_length=1)] = (200, 500, 1000, 2000, 4000)
    step: Annotated[Real, Field(ge=0.5, le=12)] = 3.0
    gain_cost: Weight = 0.0

    @pydantic.model_validator(mode="after")
    def _check(self):
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges are {list(self.edges)}; they must rise")
        if self.levels > self.shape.num_codes:
            raise ValueError(f"steps of {self.step:g} dB need {self.levels} codes, but shape has "
                             f"num_codes {self.shape.num_codes}")
        return self

    def check(self, codec: CodecConfig):
        if codec.encoder.kind != "banded":
            raise ValueError("a quantizer of gain_shape needs an encoder of banded")
        if self.edges[-1] >= codec.sample_rate / 2:
            raise ValueError(f"edges reach {self.edges[-1]} Hz, but a sample rate of "
                             f"{codec.sample_rate} holds {codec.sample_rate / 2:g} Hz")

    @property
    def levels(self) -> int:
        """Gain codes in use: the range of `spectrum.level_of` in steps."""
        return int(1.3 * LEVEL_RANGE / self.step) + 1

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


class GaussianQuantizer(QuantizerConfig):
    """No codes: a frame is a vector, drawn in training from a Gaussian whose mean and variance the
    encoder says and which is kept near N(0, 1) (VAE, Kingma and Welling 2014).

    dim: numbers of a vector. beta: weight of the divergence in the loss, in nats a number; it grows
        evenly from 0 over the first `warmup_steps` training steps.
    """

    kind: Literal["gaussian"] = "gaussian"
    has_codes: ClassVar[bool] = False
    dim: Positive = 32
    beta: Weight = 0.01
    warmup_steps: Whole = 1000
    training_only: ClassVar[tuple[str, ...]] = ("beta", "warmup_steps")

    @property
    def width(self) -> int:
        return 2 * self.dim

    @property
    def vector_width(self) -> int:
        return self.dim


Quantizer = Annotated[EMAQuantizer | ResidualQuantizer | SOMQuantizer | BandedQuantizer
                      | GaussianQuantizer | GainShapeQuantizer,
                      Field(discriminator="kind"),
                      default_kind("ema")]
