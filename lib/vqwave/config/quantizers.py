"""Quantizers: how a codec turns latents into codes."""

import math
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from .codec_parts import CodecPart
from .fields import (
    LOUDNESS_RANGE,
    MOST_LOUDNESS,
    AboveZero,
    BookCount,
    CodeCount,
    Fraction,
    Positive,
    Real,
    Weight,
    Whole,
    default_kind,
)

Decay = Annotated[Real, Field(gt=0, lt=1)]


class QuantizerConfig(CodecPart):
    """A quantizer; with codes it also has `num_codes`, and `books`, the codes of a frame."""

    has_codes: ClassVar[bool] = True
    """Whether a frame is codes, which a generator can learn, or a vector of float32."""

    segment: ClassVar[int] = 1
    """Frames whose codes are chosen together."""

    overlap: ClassVar[int] = 0
    """Frames to either side of a segment that the choice depends on."""

    nested: ClassVar[bool] = False
    """Whether the first books of a frame can be decoded without the others."""

    training_only: ClassVar[tuple[str, ...]] = ()
    """Fields that have no effect on a trained codec."""

    width: ClassVar[Any]
    """Channels of the latents."""

    @property
    def bands(self) -> int:
        """Bands of the spectrum in a banded encoder: one for each book."""
        return self.books  # type: ignore[attr-defined]

    @property
    def gain_edges(self) -> tuple[int, ...]:
        """Hz between the bands whose gains have codes of their own (`GainShapeQuantizer`)."""
        return ()

    @property
    def vector_width(self) -> int:
        """Channels of the decoder's input at each place."""
        return self.width


class CodebookConfig(QuantizerConfig):
    """A codebook of num_codes vectors of code_dim numbers, which follow the latents by moving
    averages. revival_threshold: a code that gets less than this share of an even part of the
    latents is moved. commitment: weight of the distance between latents and their codes in the
    loss.
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


class ResidualQuantizer(CodebookConfig):
    """Each codebook quantizes what the books before it leave (SoundStream, Zeghidour et al. 2021).

    dropout: the share of training windows that use only the first n books, n drawn evenly. The
    trained codec can then encode with any number of books.
    """

    kind: Literal["residual"] = "residual"
    nested = True
    training_only = (*CodebookConfig.training_only, "dropout")
    books: BookCount = 4
    dropout: Fraction = 0.5


class SOMQuantizer(CodebookConfig):
    """One codebook on a grid, whose neighbours are alike: a self-organizing map (Kohonen 1982;
    SOM-VQ).

    radius: how far the first updates reach, as a share of the grid's longest side. Over
    `shrink_steps` training steps the reach shrinks to `final_radius`, in steps of the grid.
    revival_threshold: above 0, unused codes move to latents, which tears the map; at 0 they follow
    their neighbours.
    """

    kind: Literal["som"] = "som"
    revival_threshold: Weight = 0.0
    radius: Annotated[Real, Field(gt=0, le=1)] = 0.25
    final_radius: AboveZero = 1.0
    shrink_steps: Positive = 2000
    books: ClassVar[int] = 1
    training_only = (*CodebookConfig.training_only, "radius", "final_radius", "shrink_steps")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns, as square as possible."""
        rows = next(r for r in range(math.isqrt(self.num_codes), 0, -1) if self.num_codes % r == 0)
        return rows, self.num_codes // rows


class BandedQuantizer(CodebookConfig):
    """A codebook for each band of the latents, and codes that change only where a change pays.

    change_cost: a change of code must reduce the squared distance per dimension, summed over the
    frames that keep the new code, by this much (0: each frame has its nearest code). training_cost:
    its mean in training (None: change_cost); each window draws its own, evenly from 0 to twice the
    mean, so that a trained codec can encode with any cost. slow: weight of ½·mean (z_t − z_{t−1})²
    in the loss.
    """

    kind: Literal["banded"] = "banded"
    noncausal = True
    books: BookCount = 7
    num_codes: CodeCount = 256
    code_dim: Positive = 16
    decay: Decay = 0.99
    revival_threshold: Weight = 0.03
    change_cost: Weight = 1.0
    training_cost: Weight | None = None
    slow: Weight = 0.0
    training_only = (*CodebookConfig.training_only, "training_cost", "slow")
    # A window is encoded behind a multiple of 64 frames. With 16 frames of overlap, neighbouring
    # segments agree on a code that stays.
    segment = 64
    overlap = 16

    @property
    def width(self) -> int:
        return self.books * self.code_dim


class GainShapeQuantizer(QuantizerConfig):
    """Codes of the spectrum's shape (loudness relative to the gains), then codes of its gain in a
    few bands.

    edges: Hz between the gain bands. step: dB between two gain codes. gain_cost: as `change_cost`
    of `BandedQuantizer`, for gain codes and the squared error in steps.
    """

    kind: Literal["gain_shape"] = "gain_shape"
    noncausal = True
    requires = {"encoder": ("banded",)}
    segment = BandedQuantizer.segment
    overlap = BandedQuantizer.overlap
    shape: BandedQuantizer = BandedQuantizer(books=14)
    edges: Annotated[tuple[Positive, ...], Field(min_length=1)] = (200, 500, 1000, 2000, 4000)
    step: Annotated[Real, Field(ge=0.5, le=12)] = 3.0
    gain_cost: Weight = 0.0

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
        """Gain codes in use: the range of `spectrum.loudness_of` in steps."""
        return int(MOST_LOUDNESS * LOUDNESS_RANGE / self.step) + 1

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
    """No codes: a frame is a vector. In training the vector is drawn from a Gaussian whose mean and
    variance the encoder predicts (VAE, Kingma and Welling 2014).

    dim: numbers of a vector. beta: weight of the divergence from N(0, 1) in the loss, in nats a
    number. The weight grows evenly from 0 over the first `warmup_steps` training steps.
    """

    kind: Literal["gaussian"] = "gaussian"
    has_codes = False
    dim: Positive = 32
    beta: Weight = 0.01
    warmup_steps: Whole = 1000
    training_only = ("beta", "warmup_steps")

    @property
    def width(self) -> int:
        return 2 * self.dim

    @property
    def vector_width(self) -> int:
        return self.dim


AnyQuantizer = Annotated[EMAQuantizer | ResidualQuantizer | SOMQuantizer | BandedQuantizer
                         | GaussianQuantizer | GainShapeQuantizer,
                         Field(discriminator="kind"), default_kind("ema")]
