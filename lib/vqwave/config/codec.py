"""The codec of one level, whose level is the product of its strides."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from .codec_parts import (
    Block,
    Bottleneck,
    CodecPart,
    DilatedBlock,
    Encoder,
    FrontEnd,
    Hierarchy,
    MirrorEncoder,
    NoBottleneck,
    SingleLevelHierarchy,
    Stage,
    SubPixel,
    Upsampling,
    WaveformFrontEnd,
)
from .conditions import Labels
from .fields import (
    MAX_BOOKS,
    PERIOD,
    TONE_HOP,
    Config,
    ConfigError,
    Fraction,
    Name,
    Positive,
    check_name,
    replace,
)
from .heads import AdversaryConfig, HeadConfig, LossConfig, WaveformHead
from .quantizers import EMAQuantizer, Quantizer


class CodecConfig(Config):
    """One VQ-VAE: audio float32 [batch, samples] <-> codes int32 [batch, samples / level, books],
    or one VAE: audio <-> vectors float32 [batch, samples / level, dim].

    The decoder mirrors the encoder. `level` is the product of the strides. padding: what
    convolutions see, both sides or (causal) the past alone, so that a piece may come in blocks.
    even: how far up-sampling is kept from making what repeats at the rate of the codes out of what
    does not (`SubPixelUpsampling`), in [0, 1]. labels: what a VAE's encoder and decoder are told of
    a piece, so that its prior can be sampled for one of them (a conditional VAE).
    """

    kind: Literal["codec"] = "codec"
    name: Name
    sample_rate: Positive
    front_end: FrontEnd = WaveformFrontEnd()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    encoder: Encoder = MirrorEncoder()
    block: Block = DilatedBlock()
    upsampling: Upsampling = SubPixel()
    bottleneck: Bottleneck = NoBottleneck()
    padding: Literal["same", "causal"] = "same"
    quantizer: Quantizer = EMAQuantizer()
    hierarchy: Hierarchy = SingleLevelHierarchy()
    head: HeadConfig = WaveformHead()
    even: Fraction = 0.0
    loss: LossConfig = LossConfig()
    adversary: AdversaryConfig | None = None
    labels: Labels | None = None

    @pydantic.model_validator(mode="after")
    def _check(self):
        check_name(self.name)
        if self.level > PERIOD:
            raise ValueError(f"the strides multiply to {self.level} samples a code; at most "
                             f"{PERIOD} are possible")
        if self.head.needs_position and PERIOD % self.level:
            raise ValueError(f"a head of {self.head.kind} needs a level that is a power of 2, but "
                             f"the strides multiply to {self.level}")
        hops = [1, *(self.hop(i) for i in range(len(self.stages)))]
        if self.front_end.hop not in hops:
            raise ValueError(f"front_end has a hop of {self.front_end.hop}, but the stages have "
                             f"{', '.join(map(str, hops))}")
        if self.loss.channel_average and len(self.stages) == 1:
            raise ValueError("loss has a channel_average, but there is one stage, and nothing is "
                             "up-sampled on the way to the audio")
        axes = {axis: value for axis, value in self if isinstance(value, CodecPart)}
        parts = list(axes.values())
        for axis, part in axes.items():
            if self.padding == "causal" and part.noncausal:
                raise ValueError(f"padding is causal, but a {axis} of {part.kind} looks ahead")
        for part in parts:
            for axis, kinds in part.requires.items():
                if (own := getattr(self, axis).kind) not in kinds:
                    raise ValueError(f"{part.kind} needs a {axis} of {' or '.join(kinds)}, not "
                                     f"{own}")
        for part in parts:
            part.check(self)
        if self.labels:
            self._check_labels()
        return self

    def _check_labels(self):
        for axis, kind in (("quantizer", "gaussian"), ("encoder", "mirror")):
            if (own := getattr(self, axis).kind) != kind:
                raise ValueError(f"labels are told to a codec with a {axis} of {kind}, not {own}")
        if self.in_blocks:
            raise ValueError("labels are of a whole piece, but padding is causal, for pieces that "
                             "come in blocks")

    def with_labels(self, labels: Labels) -> CodecConfig:
        """The same with these labels in the place of its own."""
        return replace(self, labels=labels)

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(stage.stride for stage in self.stages)

    @property
    def has_codes(self) -> bool:
        """Whether a frame is codes, or a vector of float32."""
        return self.quantizer.has_codes

    def check_codes(self, who: str = ""):
        """Raises `ConfigError` where a frame is no codes. who: what asks for them."""
        if not self.has_codes:
            makes = f"{self.name} has a quantizer of {self.quantizer.kind}, which makes"
            raise ConfigError(f"{who} needs codes, but {makes} none" if who
                              else f"{makes} no codes: `vqwave latents` plays it")

    def check_generator(self, who: str):
        """Raises `ConfigError` where no generator can draw the frames, or be told them. who: the
        generator.
        """
        self.check_codes(who)
        if self.books > MAX_BOOKS:
            raise ConfigError(f"{who} takes at most {MAX_BOOKS} codes a frame, and {self.name} "
                              f"makes {self.books}")

    @property
    def num_codes(self) -> int:
        """Codes in each codebook. Raises `ConfigError` where there are none."""
        self.check_codes()
        return self.quantizer.num_codes

    @property
    def codebook_of(self) -> tuple[int, ...]:
        """For each code of a frame the number of its codebook. Raises `ConfigError` where a frame
        is no codes.
        """
        self.check_codes()
        books = range(self.quantizer.books)
        top = tuple(k for k in books for _ in range(self.positions))
        bottom = tuple(len(books) + k for k in books for _ in range(self.bottom_positions))
        return top + bottom * self.bottom_frames

    @property
    def books(self) -> int:
        """Codes in a frame. Raises `ConfigError` where there are none."""
        return len(self.codebook_of)

    @property
    def nested(self) -> bool:
        """Whether the first codes of a frame, a multiple of `positions`, can be decoded without the
        others.
        """
        return self.quantizer.nested and self.hierarchy.bottom_stage is None

    def check_books(self, books: int | None) -> int | None:
        """Codes of a frame that its first so many codebooks make; None for all of them.

        Raises:
            ConfigError: the codec has not so many, or none of them can be left out.
        """
        if books is None:
            return None
        if not self.nested:
            raise ConfigError(f"{self.name} has a quantizer of {self.quantizer.kind}, all of whose "
                              f"codes are needed: books may be left out of residual ones")
        if not 1 <= books <= self.quantizer.books:
            raise ConfigError(f"{self.name} has {self.quantizer.books} codebooks; {books} cannot "
                              f"be kept")
        return books * self.positions

    @property
    def positions(self) -> int:
        """Places along the frequencies of a frame of latents; 1 where they are no plane."""
        return self._positions(len(self.stages) - 1)

    def _positions(self, stage: int) -> int:
        if self.encoder.kind != "plane":
            return 1
        return self.front_end.channels // math.prod(self.strides[1 : stage + 1])

    @property
    def bottom_positions(self) -> int:
        """Places in a frame of the finer level of a hierarchy; 0 where there is none."""
        bottom = self.hierarchy.bottom_stage
        return 0 if bottom is None else self._positions(bottom)

    @property
    def bottom_frames(self) -> int:
        """Frames of the finer level of a hierarchy in one of the top; 1 where there is none."""
        bottom = self.hierarchy.bottom_stage
        return 1 if bottom is None else math.prod(self.strides[bottom + 1 :])

    @property
    def vector_width(self) -> int:
        """Channels of the vectors that the decoder is given."""
        places = self.positions + self.bottom_frames * self.bottom_positions
        return places * self.quantizer.vector_width

    @property
    def frame_width(self) -> int:
        """Numbers in a frame: its codes, or those of its vector."""
        return self.books if self.has_codes else self.vector_width

    @property
    def frame_dtype(self) -> str:
        """What the numbers in a frame are."""
        return "int32" if self.has_codes else "float32"

    @property
    def in_blocks(self) -> bool:
        """Whether a piece can be encoded and decoded block by block, as it comes."""
        return self.padding == "causal"

    @property
    def can_decode_part(self) -> bool:
        """Whether the decoder's finer stages can be spared the frames that only its first one sees.
        """
        return self.encoder.can_decode_part and self.has_codes and self.head.makes_audio

    @property
    def needs_position(self) -> bool:
        """Whether the decoder must be told where in the piece its codes stand."""
        return self.head.needs_position

    def hop(self, stage: int) -> int:
        """Samples per step of the features that stage `stage` works on."""
        return math.prod(self.strides[: stage + 1])

    @property
    def tone_stage(self) -> int:
        """The stage whose features say how loud each tone is: the coarsest of at most `TONE_HOP`
        samples a step.
        """
        return max((i for i in range(len(self.stages)) if self.hop(i) <= TONE_HOP), default=0)

    @property
    def level(self) -> int:
        """Samples per frame of codes."""
        return math.prod(self.strides)

    @property
    def encoder_stages(self) -> range:
        """The stages that the encoder has: those behind the front end's hop."""
        return range(next(i for i in range(len(self.stages) + 1)
                          if math.prod(self.strides[:i]) == self.front_end.hop),
                     len(self.stages))

    @property
    def bitrate(self) -> float:
        """Bits per second: sample_rate / level · books · log2(num_codes)."""
        return self.sample_rate / self.level * self.books * math.log2(self.num_codes)
