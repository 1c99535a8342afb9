"""The parts of a codec before its quantizer: front ends, encoders, hierarchies, blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic
from pydantic import Field

from ..dsp.metrics import empty_mel_filters
from .fields import Config, Positive, Real, Whole, check_odd, default_kind

if TYPE_CHECKING:
    from .codec import CodecConfig

class CodecPart(Config):
    """What one kind of an axis says: what it needs of the codec's others."""

    requires: ClassVar[dict[str, tuple[str, ...]]] = {}
    """The kinds that another axis may have, by the name of its field."""

    noncausal: ClassVar[bool] = False
    """Whether it sees what comes later however it is padded."""

    can_decode_part: ClassVar[bool] = False
    """Of an encoder: whether the decoder that goes with it can go on after its first stage with
    some frames.
    """

    def check(self, codec: CodecConfig):
        """Raises `ValueError` where the codec cannot have this part."""


class WaveformFrontEnd(CodecPart):
    """The encoder sees the samples themselves."""

    kind: Literal["waveform"] = "waveform"
    hop: ClassVar[int] = 1
    """Samples per step of what the encoder sees."""


PER_OCTAVE = 24
"""Bins of a log-frequency spectrum and tones of a bank in an octave: quarter tones. Music in tune
lies on them, and what does not is at most an eighth of a tone away.
"""

LOWEST = 27.5
"""Hz, A0: the tone that the grid of quarter tones begins with."""


class LogFrequencyFrontEnd(CodecPart):
    """The encoder sees a constant-Q spectrum, quarter tones up from `lowest`, a frame each `hop`
    samples.

    It takes the place of the encoder's stages up to that hop. lowest: Hz, an octave of A.
    """

    kind: Literal["log_frequency"] = "log_frequency"
    noncausal: ClassVar[bool] = True
    hop: Positive = 512
    lowest: Annotated[Real, Field(ge=LOWEST, le=880)] = 55.0
    octaves: Annotated[int, Field(strict=True, ge=1, le=9)] = 7

    @pydantic.model_validator(mode="after")
    def _check(self):
        if not math.log2(self.lowest / LOWEST).is_integer():
            raise ValueError(f"lowest is {self.lowest:g}; it must be {LOWEST:g} Hz or octaves "
                             f"above it")
        return self

    def check(self, codec: CodecConfig):
        if self.highest > codec.sample_rate / 2:
            raise ValueError(f"front_end reaches {self.highest:g} Hz, but a sample rate of "
                             f"{codec.sample_rate} holds {codec.sample_rate / 2:g} Hz")

    @property
    def bins(self) -> int:
        """Quarter tones of the spectrum."""
        return self.octaves * PER_OCTAVE

    @property
    def highest(self) -> float:
        """Hz: where its last octave ends."""
        return self.lowest * 2**self.octaves

    @property
    def first_tone(self) -> int:
        """The number of the lowest bin on the grid of quarter tones up from `LOWEST`."""
        return round(PER_OCTAVE * math.log2(self.lowest / LOWEST))


class SpectrogramFrontEnd(CodecPart):
    """The encoder sees the levels of a spectrogram, a frame each `hop` samples.

    It takes the place of the encoder's stages up to that hop. n_fft: samples of a window. mels:
    bands on the mel scale up to `highest` Hz (None: all that the sample rate holds); 0: every bin
    of the window but that at half the sample rate, so that strides can divide them.
    """

    kind: Literal["spectrogram"] = "spectrogram"
    noncausal: ClassVar[bool] = True
    hop: Positive = 256
    n_fft: Annotated[int, Field(strict=True, ge=16, le=65536)] = 1024
    mels: Annotated[int, Field(strict=True, ge=0, le=1024)] = 80
    highest: Annotated[Real, Field(gt=0)] | None = None

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.n_fft % (2 * self.hop):
            raise ValueError(f"n_fft is {self.n_fft}; it must be a multiple of twice the hop, "
                             f"{2 * self.hop}")
        if self.mels > self.n_fft // 2:
            raise ValueError(f"mels is {self.mels}, but a window of {self.n_fft} samples has "
                             f"{self.n_fft // 2} bins")
        if self.highest is not None and not self.mels:
            raise ValueError(f"highest is {self.highest:g}, which mels: 0, every bin, leaves no "
                             f"room for")
        return self

    def check(self, codec: CodecConfig):
        if (self.highest or 0) > codec.sample_rate / 2:
            raise ValueError(f"front_end reaches {self.highest:g} Hz, but a sample rate of "
                             f"{codec.sample_rate} holds {codec.sample_rate / 2:g} Hz")
        empty = self.mels and empty_mel_filters(codec.sample_rate, self.n_fft, self.mels,
                                                self.highest)
        if empty:
            raise ValueError(f"front_end has {self.mels} mel bands, {empty} of which hold no bin "
                             f"of a window of {self.n_fft} samples at {codec.sample_rate} Hz")

    @property
    def channels(self) -> int:
        """Of a frame: its bands, or the bins of its window but the last."""
        return self.mels or self.n_fft // 2


FrontEnd = Annotated[WaveformFrontEnd | LogFrequencyFrontEnd | SpectrogramFrontEnd,
                     Field(discriminator="kind"), default_kind("waveform")]


class MirrorEncoder(CodecPart):
    """The decoder's stages in reverse: strided convolutions and blocks."""

    kind: Literal["mirror"] = "mirror"
    can_decode_part: ClassVar[bool] = True


class BandedEncoder(CodecPart):
    """A network for each band of a log-frequency spectrum, which sees this band and `overlap` bins
    to either side.

    units: features of a band; dilations: of its residual convolutions over time.
    """

    kind: Literal["banded"] = "banded"
    noncausal: ClassVar[bool] = True
    can_decode_part: ClassVar[bool] = True
    units: Positive = 96
    overlap: Whole = 6
    dilations: Annotated[tuple[Positive, ...], Field(min_length=1)] = (3,)
    # Its own networks are all that it has, and a decoder alone would have what these ask for.
    requires: ClassVar[dict[str, tuple[str, ...]]] = {
        "front_end": ("log_frequency",), "quantizer": ("banded", "gain_shape"),
        "bottleneck": ("none",), "block": ("dilated",)}

    def check(self, codec: CodecConfig):
        front, books = codec.front_end, codec.quantizer.bands
        if front.bins % books:
            raise ValueError(f"front_end has {front.bins} quarter tones, which {books} books do "
                             f"not divide")
        if front.hop != codec.level:
            raise ValueError(f"a banded encoder makes a frame of each of the front end's, every "
                             f"{front.hop} samples, but the strides multiply to {codec.level}")


class PlaneEncoder(CodecPart):
    """The spectrogram is a picture: two-dimensional convolutions over frames and bands, strided
    alike along both, in the encoder and in the decoder.

    The first stage is the spectrogram itself. Latents have `CodecConfig.positions` places along the
    frequencies, each quantized apart by the same codebooks.
    """

    kind: Literal["plane"] = "plane"
    noncausal: ClassVar[bool] = True
    requires: ClassVar[dict[str, tuple[str, ...]]] = {
        "front_end": ("spectrogram",), "block": ("dilated",), "upsampling": ("sub_pixel",),
        "bottleneck": ("none",), "head": ("spectrogram", "griffin_lim")}

    def check(self, codec: CodecConfig):
        front, strides = codec.front_end, codec.strides[1:]
        if front.hop != codec.strides[0]:
            raise ValueError(f"the first stage of a plane is the spectrogram itself: its stride is "
                             f"{codec.strides[0]}, but the front end has a hop of {front.hop}")
        if not strides:
            raise ValueError("a plane encoder needs stages behind that of the spectrogram")
        if front.channels % math.prod(strides):
            raise ValueError(f"front_end has {front.channels} bands, which the strides behind it, "
                             f"{math.prod(strides)} in all, do not divide")
        if codec.quantizer.kind == "banded":
            raise ValueError("a quantizer of banded has bands of its own, and so has an encoder of "
                             "plane")
        if codec.loss.channel_average or codec.even:
            raise ValueError("channel_average and even are of stages of samples, and an encoder of "
                             "plane has none")


Encoder = Annotated[MirrorEncoder | BandedEncoder | PlaneEncoder, Field(discriminator="kind"),
                    default_kind("mirror")]


class SingleLevelHierarchy(CodecPart):
    """One level of latents."""

    kind: Literal["single_level"] = "single_level"
    bottom_stage: ClassVar[int | None] = None


class TopDownHierarchy(CodecPart):
    """Two levels of latents that are trained together: those of the last stage, the top, and finer
    ones, which know what the top became (VQ-VAE-2, Razavi et al. 2019).

    bottom: the stage that the finer ones stand on, counted from 0.
    """

    kind: Literal["vqvae2"] = "vqvae2"
    bottom: Positive
    requires: ClassVar[dict[str, tuple[str, ...]]] = {"encoder": ("plane",)}

    @property
    def bottom_stage(self) -> int:
        return self.bottom

    def check(self, codec: CodecConfig):
        if self.bottom >= len(codec.stages) - 1:
            raise ValueError(f"hierarchy has its bottom at stage {self.bottom}, but the top is at "
                             f"stage {len(codec.stages) - 1}, and must lie above it")
        codec.check_codes("a hierarchy of vqvae2")


Hierarchy = Annotated[SingleLevelHierarchy | TopDownHierarchy, Field(discriminator="kind"),
                      default_kind("single_level")]


class DilatedBlock(CodecPart):
    """Residual blocks of dilated convolutions, as in SEANet."""

    kind: Literal["dilated"] = "dilated"
    kernel_size: Annotated[int, Field(strict=True, ge=1, le=99)] = 3

    @pydantic.model_validator(mode="after")
    def _check(self):
        check_odd("kernel_size", self.kernel_size)
        return self


class MultiresolutionBlock(CodecPart):
    """Residual blocks of one small kernel at `depth` dilations, each twice the one before it, whose
    answers are mixed.

    A stage's `dilations` are those of the finest of them.
    """

    kind: Literal["multiresolution"] = "multiresolution"
    kernel_size: Annotated[int, Field(strict=True, ge=3, le=99)] = 3
    depth: Annotated[int, Field(strict=True, ge=1, le=12)] = 4

    @pydantic.model_validator(mode="after")
    def _check(self):
        check_odd("kernel_size", self.kernel_size)
        return self


class ResNetBlock(CodecPart):
    """Residual blocks of two normalised convolutions with LeakyReLU (He et al. 2016).

    norm: over the batch and time, or over time for each window alone (instance), which sees all of
    a piece. slope: of the LeakyReLU below zero.
    """

    kind: Literal["resnet"] = "resnet"
    noncausal: ClassVar[bool] = True
    kernel_size: Annotated[int, Field(strict=True, ge=1, le=99)] = 3
    norm: Literal["batch", "instance"] = "batch"
    slope: Annotated[Real, Field(ge=0, lt=1)] = 0.2

    @pydantic.model_validator(mode="after")
    def _check(self):
        check_odd("kernel_size", self.kernel_size)
        return self

    def check(self, codec: CodecConfig):
        if self.norm == "instance" and codec.has_codes:
            raise ValueError(f"block has a norm of instance, which sees a piece whole, but a "
                             f"quantizer of {codec.quantizer.kind} makes codes, which are played "
                             f"as they come")


Block = Annotated[DilatedBlock | MultiresolutionBlock | ResNetBlock, Field(discriminator="kind"),
                  default_kind("dilated")]


class SubPixel(CodecPart):
    """A convolution folded into time."""

    kind: Literal["sub_pixel"] = "sub_pixel"


class Transposed(CodecPart):
    """A transposed convolution."""

    kind: Literal["transposed"] = "transposed"
    noncausal: ClassVar[bool] = True

    def check(self, codec: CodecConfig):
        if codec.even:
            raise ValueError(f"even is {codec.even:g}, which is of an upsampling of sub_pixel, not "
                             f"of transposed")


Upsampling = Annotated[SubPixel | Transposed, Field(discriminator="kind"),
                       default_kind("sub_pixel")]


class NoBottleneck(CodecPart):
    """Nothing besides the convolutions."""

    kind: Literal["none"] = "none"


class WindowBottleneck(CodecPart):
    """What looks at the frames around each: `back` before and `ahead` behind it."""

    kind: str
    heads: Positive = 4
    back: Positive = 32
    ahead: Whole = 0

    @property
    def noncausal(self) -> bool:  # type: ignore[override]
        return self.ahead > 0

    def check(self, codec: CodecConfig):
        channels = codec.stages[-1].channels
        if channels % self.heads:
            raise ValueError(f"bottleneck has {self.heads} heads, which the {channels} channels of "
                             f"the last stage cannot be divided among")


class AttentionBottleneck(WindowBottleneck):
    """Layers of attention to a window."""

    kind: Literal["attention"] = "attention"
    layers: Annotated[int, Field(strict=True, ge=1, le=100)] = 1


class EnergyBottleneck(WindowBottleneck):
    """Each frame goes down an energy of attention to a window and of `memories` `steps` times,
    `rate` of its gradient at a time.
    """

    kind: Literal["energy"] = "energy"
    memories: Positive = 512
    steps: Annotated[int, Field(strict=True, ge=1, le=100)] = 4
    rate: Annotated[Real, Field(gt=0)] = 0.1


Bottleneck = Annotated[NoBottleneck | AttentionBottleneck | EnergyBottleneck,
                       Field(discriminator="kind"), default_kind("none")]


class Stage(Config):
    """One step down in rate: a strided convolution to `channels`, then a block for each of
    `dilations`.
    """

    stride: Positive
    channels: Positive
    dilations: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 3)
