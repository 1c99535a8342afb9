"""The codec of one level."""

import math
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from ..levels import fields
from ..levels.fields import Config, ConfigError, Dilations, Name, Positive, replace
from ..levels.kinds import Kinds, import_kinds
from . import parts
from .adversary import AdversaryConfig
from .blocks import DilatedBlock, NoBottleneck, SubPixel
from .encoders import MirrorEncoder
from .family.planes import SingleLevelHierarchy
from .front_ends import WaveformFrontEnd
from .heads import HeadPart, WaveformHead
from .labels import Labels
from .losses import LossConfig
from .quantizers import EMAQuantizer, QuantizerConfig

PERIOD = 1 << 20
"""Samples after which a decoder's tones repeat. Positions are counted modulo this."""
TONE_HOP = 128
"""The largest hop, in samples, between two values of the loudness of a decoder's tones."""


class Stage(Config):
    """A strided convolution to `channels`, then a block for each of `dilations`."""

    stride: Positive
    channels: Positive
    dilations: Dilations = (1, 3)


import_kinds(__package__)
FRONT_ENDS = Kinds(parts.FrontEndPart, "waveform")
ENCODERS = Kinds(parts.EncoderPart, "mirror")
HIERARCHIES = Kinds(parts.HierarchyPart, "single_level")
BLOCKS = Kinds(parts.BlockPart, "dilated")
UPSAMPLINGS = Kinds(parts.UpsamplingPart, "sub_pixel")
BOTTLENECKS = Kinds(parts.BottleneckPart, "none")
QUANTIZERS = Kinds(QuantizerConfig, "ema")
HEADS = Kinds(HeadPart, "waveform")


class CodecConfig(Config):
    """A VQ-VAE: audio float32 [batch, samples] <-> codes int32 [batch, samples / level, books], or
    a VAE: audio <-> vectors float32 [batch, samples / level, dim].

    stages: of the decoder; most encoders mirror them. padding: convolutions see both sides ("same")
    or only the past ("causal", so that a piece can be coded in blocks). even: how much of the
    up-sampling's checkerboard artefact is removed, from 0 to 1 (`SubPixelUpsampling`). labels: the
    condition of a VAE's encoder and decoder (a conditional VAE).
    """

    kind: Literal["codec"] = "codec"
    name: Name
    sample_rate: Positive
    front_end: Annotated[Any, FRONT_ENDS] = WaveformFrontEnd()
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    encoder: Annotated[Any, ENCODERS] = MirrorEncoder()
    block: Annotated[Any, BLOCKS] = DilatedBlock()
    upsampling: Annotated[Any, UPSAMPLINGS] = SubPixel()
    bottleneck: Annotated[Any, BOTTLENECKS] = NoBottleneck()
    padding: Literal["same", "causal"] = "same"
    quantizer: Annotated[Any, QUANTIZERS] = EMAQuantizer()
    hierarchy: Annotated[Any, HIERARCHIES] = SingleLevelHierarchy()
    head: Annotated[Any, HEADS] = WaveformHead()
    even: fields.Fraction = 0.0
    loss: LossConfig = LossConfig()
    adversary: AdversaryConfig | None = None
    labels: Labels | None = None

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.level > PERIOD:
            raise ValueError(f"the strides multiply to {self.level} samples a code; at most "
                             f"{PERIOD} are possible")
        if self.head.needs_position and PERIOD % self.level:
            raise ValueError(f"a head of {self.head.kind} needs a level that is a power of 2, but "
                             f"the strides multiply to {self.level}")
        hops = [self.hop(i) for i in range(-1, len(self.stages))]
        if self.front_end.hop not in hops:
            raise ValueError(f"front_end has a hop of {self.front_end.hop}; it must be one of "
                             f"{', '.join(map(str, hops))}, the products of the first strides")
        if self.loss.channel_average and (len(self.stages) == 1 or self.encoder.kind == "plane"):
            raise ValueError("channel_average needs two stages that up-sample audio")
        axes = {axis: part for axis, part in self if isinstance(part, parts.CodecPart)}
        for axis, part in axes.items():
            self._check_part(axis, part)
        for part in axes.values():  # `check` relies on the kinds of the other parts
            part.check(self)
        if self.labels and (self.quantizer.kind, self.encoder.kind, self.padding) != (
                "gaussian", "mirror", "same"):
            raise ValueError("labels need a quantizer of gaussian, an encoder of mirror, and "
                             "padding: same")
        return self

    def _check_part(self, axis: str, part: parts.CodecPart):
        if self.padding == "causal" and part.noncausal:
            raise ValueError(f"padding is causal, but the {axis}, {part.kind}, sees later samples")
        for other, kinds in part.requires.items():
            if (kind := getattr(self, other).kind) not in kinds:
                raise ValueError(f"the {axis}, {part.kind}, needs {other} of kind "
                                 f"{' or '.join(kinds)}, not {kind}")
        if part.highest_frequency > self.sample_rate / 2:
            raise ValueError(f"{axis} goes up to {part.highest_frequency:g} Hz, but a sample rate "
                             f"of {self.sample_rate} Hz represents {self.sample_rate / 2:g} Hz")

    def with_labels(self, labels: Labels) -> Self:
        """The same config with these labels."""
        return replace(self, labels=labels)

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(stage.stride for stage in self.stages)

    def hop(self, stage: int) -> int:
        """Samples per step of a stage's features; 1 for stage −1, the audio."""
        return math.prod(self.strides[: stage + 1])

    @property
    def level(self) -> int:
        """Samples per frame: the product of the strides."""
        return math.prod(self.strides)

    @property
    def encoder_stages(self) -> range:
        """The stages of the encoder: those after the front end."""
        count = len(self.stages)
        return range(next(i for i in range(count + 1) if self.hop(i - 1) == self.front_end.hop),
                     count)

    @property
    def tone_stage(self) -> int:
        """The stage that sets the loudness of tones: the coarsest one with a hop ≤ `TONE_HOP`."""
        return max((i for i in range(len(self.stages)) if self.hop(i) <= TONE_HOP), default=0)

    @property
    def has_codes(self) -> bool:
        """Whether a frame consists of codes (otherwise of a float32 vector)."""
        return self.quantizer.has_codes

    def check_codes(self, who: str = ""):
        """Raises `ConfigError` for a VAE, which has no codes. who: the part that needs codes."""
        if not self.has_codes:
            reason = f"{self.name} has a quantizer of {self.quantizer.kind}, which makes"
            raise ConfigError(f"{who} needs codes, but {reason} none" if who
                              else f"{reason} no codes: `vqwave generate --output FILE` samples it")

    def check_generator(self, who: str):
        """Raises `ConfigError` if the generator `who` cannot draw or read the frames."""
        self.check_codes(who)
        if self.books > fields.MAX_BOOKS:
            raise ConfigError(f"{who} takes at most {fields.MAX_BOOKS} codes a frame, and "
                              f"{self.name} makes {self.books}")

    @property
    def num_codes(self) -> int:
        """The number of codes in each codebook. Raises `ConfigError` for a VAE."""
        self.check_codes()
        return self.quantizer.num_codes

    @property
    def codebook_of(self) -> tuple[int, ...]:
        """The index of the codebook of each code of a frame: first the top's codes, by book and
        then by position; then the bottom's. Raises `ConfigError` for a VAE.
        """
        self.check_codes()
        books = range(self.quantizer.books)
        top = tuple(k for k in books for _ in range(self.positions))
        bottom = tuple(len(books) + k for k in books for _ in range(self.bottom_positions))
        return top + bottom * self.bottom_frames

    @property
    def books(self) -> int:
        """The number of codes in a frame. Raises `ConfigError` for a VAE."""
        return len(self.codebook_of)

    @property
    def bitrate(self) -> float:
        """Bits per second: sample_rate / level · books · log2(num_codes)."""
        return self.sample_rate / self.level * self.books * math.log2(self.num_codes)

    @property
    def nested(self) -> bool:
        """Whether the first n·`positions` codes of a frame can be decoded alone, for any n."""
        return self.quantizer.nested and self.hierarchy.bottom is None

    def codes_in_books(self, books: int | None) -> int | None:
        """The number of codes in the first `books` codebooks of a frame; None: all codebooks.
        Raises `ConfigError` if the codec has fewer codebooks, or needs all of them.
        """
        if books is None:
            return None
        if not self.nested:
            raise ConfigError(f"{self.name} has a quantizer of {self.quantizer.kind}, which needs "
                              f"all codes; only a residual quantizer can leave books out")
        if not 1 <= books <= self.quantizer.books:
            raise ConfigError(f"{self.name} has {self.quantizer.books} codebooks; {books} cannot "
                              f"be kept")
        return books * self.positions

    @property
    def positions(self) -> int:
        """Positions along the frequency axis in a frame of latents; 1 if latents are no plane."""
        return self._positions(len(self.stages) - 1)

    def _positions(self, stage: int) -> int:
        if self.encoder.kind != "plane":
            return 1
        return self.front_end.channels * self.hop(0) // self.hop(stage)

    @property
    def bottom_positions(self) -> int:
        """The positions in a frame of a hierarchy's bottom; 0 without a hierarchy."""
        return 0 if self.hierarchy.bottom is None else self._positions(self.hierarchy.bottom)

    @property
    def bottom_frames(self) -> int:
        """The frames of a hierarchy's bottom in a frame of its top; 1 without a hierarchy."""
        bottom = self.hierarchy.bottom
        return 1 if bottom is None else self.level // self.hop(bottom)

    @property
    def vector_width(self) -> int:
        """Channels of the decoder's input."""
        places = self.positions + self.bottom_frames * self.bottom_positions
        return places * self.quantizer.vector_width

    @property
    def frame_width(self) -> int:
        """The number of codes in a frame, or the width of its vector."""
        return self.books if self.has_codes else self.vector_width

    @property
    def frame_dtype(self) -> str:
        return "int32" if self.has_codes else "float32"

    @property
    def can_decode_part(self) -> bool:
        """Whether the first stage of the decoder can remember earlier frames, see
        `memory_layer.with_state`.
        """
        remembers = self.padding == "causal" or (self.block.kind == "dilated"
                                                 and self.bottleneck.kind == "none")
        return (remembers and self.encoder.kind != "plane" and self.has_codes
                and self.head.makes_audio)
