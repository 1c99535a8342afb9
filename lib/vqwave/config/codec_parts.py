"""The parts of a codec around its quantizer: front ends, encoders, hierarchies, blocks."""

import math
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
from pydantic import Field

from ..dsp.spectrum import mel_filters
from .fields import (
    AboveZero,
    Config,
    Dilations,
    Heads,
    KernelSize,
    Positive,
    Real,
    Whole,
    WindowSize,
    default_kind,
)


class CodecPart(Config):
    """One axis of a codec. Each kind of the axis is a class."""

    kind: str

    requires: ClassVar[dict[str, tuple[str, ...]]] = {}
    """{name of another axis: the kinds that this part works with}."""

    noncausal: ClassVar[bool] = False
    """Whether the part sees later samples with every padding."""

    @property
    def highest_frequency(self) -> float:
        """The frequency in Hz that the sample rate must be able to represent; 0: any."""
        return 0.0

    def check(self, codec: Any):
        """Raises `ValueError` if the other parts of the `CodecConfig` do not fit this part."""


class WaveformFrontEnd(CodecPart):
    """The encoder's input is the samples."""

    kind: Literal["waveform"] = "waveform"
    hop: ClassVar[int] = 1
    """Samples per step of the encoder's input."""


PER_OCTAVE = 24
"""Bins of a log-frequency spectrum, and tones of a tone bank, per octave: quarter tones."""
LOWEST_TONE = 27.5
"""The lowest quarter tone of the grid in Hz: A0."""


class LogFrequencyFrontEnd(CodecPart):
    """The encoder's input is a constant-Q spectrum with a frame every `hop` samples, which replaces
    the encoder's stages up to that hop. lowest: Hz of the first quarter tone, octaves of
    `LOWEST_TONE`.
    """

    kind: Literal["log_frequency"] = "log_frequency"
    noncausal = True
    hop: Positive = 512
    lowest: Annotated[Real, Field(ge=LOWEST_TONE, le=880)] = 55.0
    octaves: Annotated[int, Field(strict=True, ge=1, le=9)] = 7

    @pydantic.model_validator(mode="after")
    def _check(self):
        if not math.log2(self.lowest / LOWEST_TONE).is_integer():
            raise ValueError(f"lowest is {self.lowest:g}; it must be {LOWEST_TONE:g} Hz or octaves "
                             f"above it")
        return self

    @property
    def bins(self) -> int:
        """Quarter tones of the spectrum."""
        return self.octaves * PER_OCTAVE

    @property
    def highest_frequency(self) -> float:
        return self.lowest * 2**self.octaves

    @property
    def first_tone(self) -> int:
        """The index of the lowest bin on the grid of quarter tones from `LOWEST_TONE` on."""
        return round(PER_OCTAVE * math.log2(self.lowest / LOWEST_TONE))


class SpectrogramFrontEnd(CodecPart):
    """The encoder's input is the loudness of a spectrogram, with a frame every `hop` samples. The
    spectrogram replaces the encoder's stages up to that hop. n_fft: samples of a window. mels:
    bands on the mel scale; 0: all bins but the last, so that strides divide their number.
    """

    kind: Literal["spectrogram"] = "spectrogram"
    noncausal = True
    hop: Positive = 256
    n_fft: WindowSize = 1024
    mels: Annotated[int, Field(strict=True, ge=0, le=1024)] = 80

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.n_fft % (2 * self.hop):
            raise ValueError(f"n_fft is {self.n_fft}; it must be a multiple of twice the hop, "
                             f"{2 * self.hop}")
        return self

    def check(self, codec):
        filters = mel_filters(codec.sample_rate, self.n_fft, self.mels)
        empty = np.count_nonzero(filters.max(axis=1) == 0)
        if empty:
            raise ValueError(f"front_end has {self.mels} mel bands, {empty} of which hold no bin "
                             f"of a window of {self.n_fft} samples at {codec.sample_rate} Hz")

    @property
    def channels(self) -> int:
        """The numbers in a frame: the bands, or the bins of the window without the last."""
        return self.mels or self.n_fft // 2


AnyFrontEnd = Annotated[WaveformFrontEnd | LogFrequencyFrontEnd | SpectrogramFrontEnd,
                        Field(discriminator="kind"), default_kind("waveform")]


class MirrorEncoder(CodecPart):
    """The decoder's stages in reverse order: strided convolutions and blocks."""

    kind: Literal["mirror"] = "mirror"


class BandedEncoder(CodecPart):
    """A network for each band of a log-frequency spectrum, with `overlap` more bins on either side.
    units: features of a band. dilations: of the residual convolutions over time.
    """

    kind: Literal["banded"] = "banded"
    noncausal = True
    units: Positive = 96
    overlap: Whole = 6
    dilations: Dilations = (3,)
    # Other blocks and bottlenecks are refused, because only the decoder would have them.
    requires = {"front_end": ("log_frequency",), "quantizer": ("banded", "gain_shape"),
                "bottleneck": ("none",), "block": ("dilated",)}

    def check(self, codec):
        front, bands = codec.front_end, codec.quantizer.bands
        if front.bins % bands:
            raise ValueError(f"front_end has {front.bins} quarter tones, which {bands} bands do "
                             f"not divide")
        if front.hop != codec.level:
            raise ValueError(f"an encoder of banded needs a front_end whose hop, {front.hop}, is "
                             f"the product of the strides, {codec.level}")


class PlaneEncoder(CodecPart):
    """The spectrogram (the first stage) as an image: encoder and decoder are two-dimensional
    convolutions with equal strides along frames and bands. Latents have `CodecConfig.positions`
    positions along the frequency axis, which share their codebooks.
    """

    kind: Literal["plane"] = "plane"
    noncausal = True
    requires = {
        "front_end": ("spectrogram",), "block": ("dilated",), "upsampling": ("sub_pixel",),
        "bottleneck": ("none",), "head": ("spectrogram", "griffin_lim"),
        "quantizer": ("ema", "residual", "som", "gaussian")}

    def check(self, codec):
        front, strides = codec.front_end, codec.strides[1:]
        if front.hop != codec.strides[0]:
            raise ValueError(f"the first stage of an encoder of plane is the spectrogram: its "
                             f"stride, {codec.strides[0]}, must be the hop of front_end, "
                             f"{front.hop}")
        if front.channels % math.prod(strides):
            raise ValueError(f"front_end has {front.channels} bands, which the later strides, "
                             f"{math.prod(strides)} in all, do not divide")


AnyEncoder = Annotated[MirrorEncoder | BandedEncoder | PlaneEncoder, Field(discriminator="kind"),
                       default_kind("mirror")]


class SingleLevelHierarchy(CodecPart):
    """One level of latents."""

    kind: Literal["single_level"] = "single_level"
    bottom: ClassVar[int | None] = None


class TopDownHierarchy(CodecPart):
    """Two levels of latents that are trained together: the top at the last stage, and a finer
    bottom, conditioned on the quantized top (VQ-VAE-2, Razavi et al. 2019).

    bottom: the stage of the finer level, counted from 0.
    """

    kind: Literal["vqvae2"] = "vqvae2"
    bottom: Positive
    requires = {"encoder": ("plane",), "quantizer": ("ema", "residual", "som")}

    def check(self, codec):
        if self.bottom >= len(codec.stages) - 1:
            raise ValueError(f"hierarchy has bottom {self.bottom}; it must be below the last "
                             f"stage, {len(codec.stages) - 1}")


AnyHierarchy = Annotated[SingleLevelHierarchy | TopDownHierarchy, Field(discriminator="kind"),
                         default_kind("single_level")]


class Stage(Config):
    """A strided convolution to `channels`, then a block for each of `dilations`."""

    stride: Positive
    channels: Positive
    dilations: Dilations = (1, 3)


class DilatedBlock(CodecPart):
    """Residual blocks of dilated convolutions, as in SEANet."""

    kind: Literal["dilated"] = "dilated"
    kernel_size: KernelSize = 3


class MultiresolutionBlock(CodecPart):
    """Residual blocks that mix the outputs of one small kernel at `depth` dilations. Each dilation
    is twice the previous one. A stage's `dilations` are the smallest of each block.
    """

    kind: Literal["multiresolution"] = "multiresolution"
    kernel_size: KernelSize = 3
    depth: Annotated[int, Field(strict=True, ge=1, le=12)] = 4


class ResNetBlock(CodecPart):
    """Residual blocks of two convolutions, batch normalisation, LeakyReLU (He et al. 2016)."""

    kind: Literal["resnet"] = "resnet"
    noncausal = True
    kernel_size: KernelSize = 3


AnyBlock = Annotated[DilatedBlock | MultiresolutionBlock | ResNetBlock, Field(discriminator="kind"),
                     default_kind("dilated")]


class SubPixel(CodecPart):
    """A convolution folded into time."""

    kind: Literal["sub_pixel"] = "sub_pixel"


class Transposed(CodecPart):
    """A transposed convolution."""

    kind: Literal["transposed"] = "transposed"
    noncausal = True

    def check(self, codec):
        if codec.even:
            raise ValueError("even needs an upsampling of kind sub_pixel, not transposed")


AnyUpsampling = Annotated[SubPixel | Transposed, Field(discriminator="kind"),
                          default_kind("sub_pixel")]


class NoBottleneck(CodecPart):
    """No bottleneck: only convolutions."""

    kind: Literal["none"] = "none"


class EnergyBottleneck(CodecPart):
    """The energy transformer (Hoover et al. 2023): `steps` steps of gradient descent, of size
    `rate`, on an energy of each frame. The energy attends to the `back` frames before and to
    `memories`.
    """

    kind: Literal["energy"] = "energy"
    heads: Heads = 4
    back: Positive = 32
    memories: Positive = 512
    steps: Annotated[int, Field(strict=True, ge=1, le=100)] = 4
    rate: AboveZero = 0.1

    def check(self, codec):
        channels = codec.stages[-1].channels
        if channels % self.heads:
            raise ValueError(f"bottleneck has {self.heads} heads, which do not divide the "
                             f"{channels} channels of the last stage")


AnyBottleneck = Annotated[NoBottleneck | EnergyBottleneck, Field(discriminator="kind"),
                          default_kind("none")]
