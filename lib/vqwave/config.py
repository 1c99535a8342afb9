"""What a system is, as data: models, training, chains and presets, validated by pydantic, YAML in
and out.

Each axis of a model (front end, quantizer, head, core, …) is a field whose `kind` names one class
here, and a layer in `nn/` is registered for that class. A fact is stated once: a codec's level is
the product of its strides, a generator's ratio is its source's level divided by its own. Where two
statements disagree, a `ConfigError` prints both sides.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import re
import reprlib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pydantic
import yaml
from pydantic import Field
from pydantic_core import PydanticKnownError

from .dsp.metrics import empty_mel_filters
from .errors import UserError

SCHEMA = 2
"""The version of the YAML files."""

LARGEST = 2**31 - 1
PERIOD = 1 << 18
"""Samples after which a decoder's tones and noise repeat: positions are known modulo this."""

TONE_HOP = 128
"""Samples: how often, at most, a decoder's tones are given a new loudness."""

LEVEL_RANGE = 80.0
"""dB under full scale that a spectrum tells levels apart."""

NORM_EPSILON = 1e-5
"""What a core's layer normalisation adds to the variance."""

FAR = 1 << 30
"""How many frames back an attention takes what is not there to be: it sees nothing of it."""

PRESETS = Path(__file__).parent / "presets"
SHIPPED = "notes"
"""The preset of the weights that ship, taken where none is named."""


class ConfigError(UserError, ValueError):
    """A config that cannot be: names the key, the value it had and what it may be."""


# ------------------------------------------------------------------------------- errors in one line


@contextlib.contextmanager
def _one_line(who: str, values):
    """What pydantic says of `values`, as a `ConfigError` of one line that begins with `who`."""
    try:
        yield
    except pydantic.ValidationError as e:
        raise ConfigError(f"{who}: {_first_error(e, values)}") from None
    except RecursionError:
        raise ConfigError(f"{who}: is nested too deeply") from None


_WANTED = {
    "int": "a whole number", "float": "a number", "bool": "true or false",
    "string": "text", "tuple": "a list",
    "model": "a mapping", "dict": "a mapping", "finite": "finite",
}


def _first_error(error: pydantic.ValidationError, values) -> str:
    """The first of pydantic's errors in our words."""
    first = error.errors(include_url=False)[0]
    path, kind = first["loc"], first["type"]
    # pydantic names the classes of a union in the path as well, where no reader expects them.
    words, here = [], values
    for i, part in enumerate(path):
        if (isinstance(here, dict) and part in here
            or isinstance(here, list | tuple) and isinstance(part, int)):
            words.append(part)
            here = here[part]
        elif kind == "missing" and i == len(path) - 1:
            words.append(part)

    def join(words):
        return "".join(f"[{w}]" if isinstance(w, int) else f".{w}" for w in words).lstrip(".")

    key = join(words)
    shown, context = _short(first["input"]), first.get("ctx", {})
    if kind == "missing":
        return f"{join(words[:-1])}{': ' if words[:-1] else ''}missing key {str(words[-1])!r}"
    if kind in ("value_error", "assertion_error"):
        return f"{key}: {context['error']}" if key else str(context["error"])
    if kind == "extra_forbidden":
        return f"unknown key {key!r}"
    limit = {"greater_than_equal": ("at least", "ge"), "greater_than": ("above", "gt"),
             "less_than_equal": ("at most", "le"), "less_than": ("below", "lt")}.get(kind)
    if limit:
        wanted = f"{limit[0]} {context[limit[1]]:g}" if isinstance(context[limit[1]], float) else \
            f"{limit[0]} {context[limit[1]]}"
    elif kind in ("literal_error", "enum"):
        wanted = context["expected"]
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        wanted = f"a mapping whose kind is one of {context.get('expected_tags', 'those there are')}"
    elif kind == "too_short":
        wanted = "a list of at least one"
    elif kind == "string_pattern_mismatch":
        wanted = "a name of letters, digits, - and _ that begins with a letter"
    else:
        wanted = next((text for prefix, text in _WANTED.items() if kind.startswith(prefix)),
                      first["msg"])
    return f"{key or 'it'} is {shown}; it must be {wanted}"


def _short(value) -> str:
    """`value` for an error line, cut short: YAML's aliases can make a small file mean a very long
    value.
    """
    try:
        text = _repr.repr(value)
    except ValueError:
        return "a number too long to print"
    return text if len(text) <= 80 else f"{text[:77]}..."


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxother, _repr.maxstring = 3, 60, 60


# ---------------------------------------------------------------------------------- types of values


def _number(value):
    """A float from what YAML makes of a number; YAML 1.1 takes 1e-4 for text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticKnownError("float_type")
    return float(value) if abs(value) <= LARGEST or isinstance(value, float) else math.inf


Whole = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Positive = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]
CodeCount = Annotated[int, Field(strict=True, ge=2, le=65536)]
"""How many codes there are: cached codes are uint16, so at most 65,536."""
MAX_BOOKS = 64
"""Codes in a frame, at most, that a generator takes; and codebooks of a quantizer."""
Books = Annotated[int, Field(strict=True, ge=1, le=MAX_BOOKS)]
Real = Annotated[float, pydantic.BeforeValidator(_number), Field(allow_inf_nan=False)]
Weight = Annotated[float, pydantic.BeforeValidator(_number), Field(allow_inf_nan=False, ge=0)]
Fraction = Annotated[float, pydantic.BeforeValidator(_number),
                     Field(allow_inf_nan=False, ge=0, le=1)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]
Name = Annotated[str, Field(strict=True, max_length=100,
                            pattern=r"^[A-Za-z][A-Za-z0-9-]*(_[A-Za-z0-9-]+)*$")]


class Config(pydantic.BaseModel):
    """A frozen part of a config; unknown keys are refused with the nearest known one."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __init__(self, **values: Any):
        """Raises `ConfigError`, one line as of `validate`, for what the fields do not allow."""
        with _one_line(type(self).__name__, values):
            super().__init__(**values)

    # Else pydantic would validate mappings inside a mapping by `__init__` too, and name no path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values):
        if isinstance(values, dict):
            known = list(cls.model_fields)
            for key in values:
                if key not in known:
                    near = difflib.get_close_matches(_short(key).lower(), known, n=1, cutoff=0.0)[0]
                    raise ValueError(f"unknown key {_short(key)}; did you mean {near!r}? Known: "
                                     f"{', '.join(known)}")
        return values


ConfigType = TypeVar("ConfigType", bound=Config)


def _check_odd(key: str, value: int):
    if value % 2 == 0:
        raise ValueError(f"{key} is {value}; it must be odd")


def default_kind(kind: str) -> pydantic.BeforeValidator:
    """For a field that is a union of classes told apart by `kind`: which one where none is named.
    """
    return pydantic.BeforeValidator(lambda value: {"kind": kind} | value
                                    if isinstance(value, dict) else value)


# ----------------------------------------------------------------------------------- axes of codecs


class CodecPart(Config):
    """What one kind of an axis says: what it needs of the codec's others."""

    needs: ClassVar[dict[str, tuple[str, ...]]] = {}
    """The kinds that another axis may have, by the name of its field."""

    looks_ahead: ClassVar[bool] = False
    """Whether it sees what comes later however it is padded."""

    in_parts: ClassVar[bool] = False
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
    looks_ahead: ClassVar[bool] = True
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
    looks_ahead: ClassVar[bool] = True
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
    in_parts: ClassVar[bool] = True


class BandedEncoder(CodecPart):
    """A network for each band of a log-frequency spectrum, which sees this band and `overlap` bins
    to either side.

    units: features of a band; dilations: of its residual convolutions over time.
    """

    kind: Literal["banded"] = "banded"
    looks_ahead: ClassVar[bool] = True
    in_parts: ClassVar[bool] = True
    units: Positive = 96
    overlap: Whole = 6
    dilations: Annotated[tuple[Positive, ...], Field(min_length=1)] = (3,)
    # Its own networks are all that it has, and a decoder alone would have what these ask for.
    needs: ClassVar[dict[str, tuple[str, ...]]] = {
        "front_end": ("log_frequency",), "quantizer": ("banded",), "bottleneck": ("none",),
        "block": ("dilated",)}

    def check(self, codec: CodecConfig):
        front, books = codec.front_end, codec.quantizer.books
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
    looks_ahead: ClassVar[bool] = True
    needs: ClassVar[dict[str, tuple[str, ...]]] = {
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


class ApartHierarchy(CodecPart):
    """One level of latents."""

    kind: Literal["apart"] = "apart"
    bottom_stage: ClassVar[int | None] = None


class TopDownHierarchy(CodecPart):
    """Two levels of latents that are trained together: those of the last stage, the top, and finer
    ones, which know what the top became (VQ-VAE-2, Razavi et al. 2019).

    bottom: the stage that the finer ones stand on, counted from 0.
    """

    kind: Literal["vqvae2"] = "vqvae2"
    bottom: Positive
    needs: ClassVar[dict[str, tuple[str, ...]]] = {"encoder": ("plane",)}

    @property
    def bottom_stage(self) -> int:
        return self.bottom

    def check(self, codec: CodecConfig):
        if self.bottom >= len(codec.stages) - 1:
            raise ValueError(f"hierarchy has its bottom at stage {self.bottom}, but the top is at "
                             f"stage {len(codec.stages) - 1}, and must lie above it")
        codec.check_codes("a hierarchy of vqvae2")


Hierarchy = Annotated[ApartHierarchy | TopDownHierarchy, Field(discriminator="kind"),
                      default_kind("apart")]


class DilatedBlock(CodecPart):
    """Residual blocks of dilated convolutions, as in SEANet."""

    kind: Literal["dilated"] = "dilated"
    kernel_size: Annotated[int, Field(strict=True, ge=1, le=99)] = 3

    @pydantic.model_validator(mode="after")
    def _check(self):
        _check_odd("kernel_size", self.kernel_size)
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
        _check_odd("kernel_size", self.kernel_size)
        return self


class ResNetBlock(CodecPart):
    """Residual blocks of two normalised convolutions with LeakyReLU (He et al. 2016).

    norm: over the batch and time, or over time for each window alone (instance), which sees all of
    a piece. slope: of the LeakyReLU below zero.
    """

    kind: Literal["resnet"] = "resnet"
    looks_ahead: ClassVar[bool] = True
    kernel_size: Annotated[int, Field(strict=True, ge=1, le=99)] = 3
    norm: Literal["batch", "instance"] = "batch"
    slope: Annotated[Real, Field(ge=0, lt=1)] = 0.2

    @pydantic.model_validator(mode="after")
    def _check(self):
        _check_odd("kernel_size", self.kernel_size)
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
    looks_ahead: ClassVar[bool] = True

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
    def looks_ahead(self) -> bool:  # type: ignore[override]
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

    of_training: ClassVar[tuple[str, ...]] = ()
    """Fields that nothing depends on once it is trained."""

    width: ClassVar[Any]
    """Channels of the latents."""

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

    of_training: ClassVar[tuple[str, ...]] = ("decay", "revival_threshold", "commitment")

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
    of_training: ClassVar[tuple[str, ...]] = (*CodebookConfig.of_training, "dropout")
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
    of_training: ClassVar[tuple[str, ...]] = (*CodebookConfig.of_training, "radius",
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
    looks_ahead: ClassVar[bool] = True
    books: Books = 7
    num_codes: CodeCount = 256
    code_dim: Positive = 16
    decay: Annotated[Real, Field(gt=0, lt=1)] = 0.99
    revival_threshold: Weight = 0.03
    commitment: Annotated[Real, Field(gt=0)] = 0.25
    change_cost: Weight = 1.0
    training_cost: Weight | None = None
    slow: Weight = 0.0
    of_training: ClassVar[tuple[str, ...]] = (*CodebookConfig.of_training, "training_cost", "slow")
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
    of_training: ClassVar[tuple[str, ...]] = ("beta", "warmup_steps")

    @property
    def width(self) -> int:
        return 2 * self.dim

    @property
    def vector_width(self) -> int:
        return self.dim


Quantizer = Annotated[EMAQuantizer | ResidualQuantizer | SOMQuantizer | BandedQuantizer
                      | GaussianQuantizer,
                      Field(discriminator="kind"),
                      default_kind("ema")]


class HeadPart(CodecPart):
    """What every head's config says."""

    kind: str

    needs_position: ClassVar[bool] = False
    """Whether it must be told where in the piece the decoder's codes stand."""

    makes_audio: ClassVar[bool] = True
    """Whether the audio is made by the network, so that its loss can compare it, or of what the
    network says (`data/vocoders.py`).
    """


class WaveformHead(HeadPart):
    """The decoder's last up-sampling makes the waveform itself."""

    kind: Literal["waveform"] = "waveform"


class TonesHead(HeadPart):
    """The decoder says how loud `tones` oscillators (0: none) and a source of noise are, as in
    DDSP.
    """

    kind: Literal["tones"] = "tones"
    looks_ahead: ClassVar[bool] = True
    tones: Whole = 192
    needs_position: ClassVar[bool] = True


class Overtones(Config):
    """Tones above `above` Hz, on every peak of the spectrum that the decoder expects.

    contrast: how many times as far as it expects a peak stands out of what lies around it, in dB;
    what a decoder expects is a mean of what may be there, and flatter than any of that.
    """

    above: Annotated[Real, Field(gt=0)] = 1800.0
    contrast: Annotated[Real, Field(ge=1, le=8)] = 1.5


class NotesHead(HeadPart):
    """The decoder says which tones sound, how loud those are, and what noise there is beside them.

    Oscillators follow the peaks of what the decoder believes the log-frequency spectrum to be, on
    the grid of the front end. A peak is what lies near the loudest of its frame; `overtones` adds
    those far below it (None: noise has to stand for these).
    """

    kind: Literal["notes"] = "notes"
    looks_ahead: ClassVar[bool] = True
    needs: ClassVar[dict[str, tuple[str, ...]]] = {"front_end": ("log_frequency",)}
    needs_position: ClassVar[bool] = True
    overtones: Overtones | None = None

    def check(self, codec: CodecConfig):
        if self.overtones and self.overtones.above >= codec.front_end.highest:
            raise ValueError(f"overtones are above {self.overtones.above:g} Hz, where front_end "
                             f"has no quarter tones: it ends at {codec.front_end.highest:g} Hz")


class SpectrogramHead(HeadPart):
    """The decoder says magnitude and phase of a spectrogram, whose inverse is the audio.

    Its hop is the first stage's stride. n_fft: samples of a window.
    """

    kind: Literal["spectrogram"] = "spectrogram"
    n_fft: Annotated[int, Field(strict=True, ge=16, le=65536)] = 1024

    def check(self, codec: CodecConfig):
        hop = codec.hop(0)
        if self.n_fft % (2 * hop) or self.n_fft < 4 * hop:
            raise ValueError(f"head has windows of {self.n_fft} samples, which must be a multiple "
                             f"of twice the first stage's stride, {hop}, and at least 4 times it")


class GriffinLimHead(HeadPart):
    """The decoder says the levels that the front end would see, and Griffin and Lim's algorithm
    finds phases for them, in `steps` steps.

    That is no part of the network: it is trained by its levels alone (`spectrum` of the loss).
    """

    kind: Literal["griffin_lim"] = "griffin_lim"
    looks_ahead: ClassVar[bool] = True
    makes_audio: ClassVar[bool] = False
    needs: ClassVar[dict[str, tuple[str, ...]]] = {"front_end": ("spectrogram",)}
    steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 32

    def check(self, codec: CodecConfig):
        front, hop = codec.front_end, codec.hop(0)
        if front.hop != hop:
            raise ValueError(f"a head of griffin_lim says what the front end sees, every "
                             f"{front.hop} samples, but the first stage's stride is {hop}")
        if front.n_fft < 4 * hop:
            raise ValueError(f"a head of griffin_lim needs windows of at least 4 hops, {4 * hop} "
                             f"samples, but the front end has {front.n_fft}")
        if codec.adversary:
            raise ValueError("adversary hears audio, which a head of griffin_lim makes after "
                             "training only")
        if heard := [term for term in codec.loss.of_audio if getattr(codec.loss, term)]:
            raise ValueError(f"loss has {', '.join(heard)} of audio, which a head of griffin_lim "
                             f"makes after training only: set to 0")


HeadConfig = Annotated[WaveformHead | TonesHead | NotesHead | SpectrogramHead | GriffinLimHead,
                       Field(discriminator="kind"), default_kind("waveform")]


class LossConfig(Config):
    """Weights of the terms of a codec's loss (see `nn/losses.py`)."""

    of_audio: ClassVar[tuple[str, ...]] = (
        "spectral_convergence", "log_magnitude", "mel", "multi_mel", "waveform", "hum",
        "constant_q")
    """The terms that compare a reconstruction with its original."""

    spectral_convergence: Weight = 1.0
    log_magnitude: Weight = 0.5
    mel: Weight = 1.0
    multi_mel: Weight = 0.0
    waveform: Weight = 0.2
    hum: Weight = 0.0
    constant_q: Weight = 0.0
    channel_average: Weight = 0.0
    # Of a head of notes: its tones against the peaks of the recording's log-frequency spectrum.
    presence: Weight = 0.1
    level: Weight = 5.0
    # Of a head of notes or griffin_lim: its levels against those that the front end sees.
    spectrum: Weight = 1.5


class WindowConfig(Config):
    """A discriminator of spectra: of windows of `n_fft` samples, one each `hop` samples."""

    kind: str
    n_fft: Annotated[int, Field(strict=True, ge=16, le=65536)]
    hop: Annotated[int, Field(strict=True, ge=1, le=65536)]

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.hop > self.n_fft:
            raise ValueError(f"hop is {self.hop}, but a window has {self.n_fft} samples, and what "
                             f"lies between two windows would not be seen")
        return self


class STFTConfig(WindowConfig):
    """Convolutions over the complex spectrogram of this window, compressed, and its logarithm."""

    kind: Literal["stft"] = "stft"


class ComplexSTFTConfig(WindowConfig):
    """Convolutions over the real and imaginary part of the spectrogram of this window, as they are.
    """

    kind: Literal["complex_stft"] = "complex_stft"


class WaveformConfig(Config):
    """Convolutions over the waveform, averaged over `factor` samples."""

    kind: Literal["waveform"] = "waveform"
    factor: Annotated[int, Field(strict=True, ge=1, le=64)] = 1


Discriminator = Annotated[STFTConfig | ComplexSTFTConfig | WaveformConfig,
                          Field(discriminator="kind"), default_kind("stft")]


class AdversaryConfig(Config):
    """Discriminators and the game they play with the decoder.

    game: what the two play, see `nn/discriminators.py`. turn: whether all discriminators play in
        every step, or one, drawn by the seed. weight, feature_matching: of the decoder's two terms
        in its loss. repulsion: weight of a term that pushes a discriminator's scores of a recording
        and of what was made of it apart.
    """

    discriminators: Annotated[tuple[Discriminator, ...], Field(min_length=1)] = (
        # Long windows see partials, short ones see onsets and the buzz of a frame rate.
        STFTConfig(n_fft=2048, hop=512), STFTConfig(n_fft=512, hop=128))
    game: Literal["least_squares", "hinge"] = "least_squares"
    turn: Literal["all", "one"] = "all"
    weight: Weight = 0.2
    feature_matching: Weight = 1.0
    repulsion: Weight = 0.0

    @pydantic.model_validator(mode="after")
    def _check(self):
        if twice := next((one for one in self.discriminators
                          if self.discriminators.count(one) > 1), None):
            raise ValueError(f"discriminators holds the same {twice.kind} twice")
        return self

    @property
    def longest(self) -> int:
        """Samples of the longest window of a spectrum; 0 where there is none."""
        return max((one.n_fft for one in self.discriminators if isinstance(one, WindowConfig)),
                   default=0)


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
    hierarchy: Hierarchy = ApartHierarchy()
    head: HeadConfig = WaveformHead()
    even: Fraction = 0.0
    loss: LossConfig = LossConfig()
    adversary: AdversaryConfig | None = None
    labels: Labels | None = None

    @pydantic.model_validator(mode="after")
    def _check(self):
        _check_name(self.name)
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
            if self.padding == "causal" and part.looks_ahead:
                raise ValueError(f"padding is causal, but a {axis} of {part.kind} looks ahead")
        for part in parts:
            for axis, kinds in part.needs.items():
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
    def in_parts(self) -> bool:
        """Whether the decoder's finer stages can be spared the frames that only its first one sees.
        """
        return self.encoder.in_parts and self.has_codes and self.head.makes_audio

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


# ------------------------------------------------------------------------------- axes of generators


LayerCount = Annotated[int, Field(strict=True, ge=1, le=100)]
Dilations = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=4096)], ...],
                      Field(min_length=1, max_length=100)]
Share = Annotated[Real, Field(ge=0, lt=1)]


QUIET = "quiet"
"""The variable of a core's last layers that says how quiet the music of each code was."""


class CoreConfig(Config):
    """P(frame_t | frame_<t, context): what the cores of all kinds can be told.

    embedding_dim: of a code of the frame before. head_dim: features from which each book after the
    first is drawn. repeats: whether each book has an output for its code to stay as it was, for
    codes that change seldom.
    dropout: the share of each layer's outputs that training sets to zero; input_dropout: of the
    codes before, each left out whole (Gal and Ghahramani 2016), so that none is leant on alone.
    drawing: the books of a frame "in_order", each knowing those before it, or "together", none
    knowing the others: as fast as one book, for codes that the conditions nearly decide.
    quiet_cost: nats that each dB of quiet takes off a code's logit, everywhere but in the loss of
    training. How quiet the music of each code is, `data.loudness` measures on the training tracks.
    """

    kind: str
    embedding_dim: Positive = 32
    dropout: Share = 0.0
    input_dropout: Share = 0.0
    head_dim: Positive = 256
    repeats: Flag = False
    drawing: Literal["in_order", "together"] = "in_order"
    quiet_cost: Weight = 0.0

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """What its layers remember: arrays by name, in order, each of this shape behind the batch
        axis.
        """
        raise NotImplementedError

    @property
    def span(self) -> int:
        """Frames that the layer that looks back furthest does; 0 where nothing says how far."""
        return 0


class LSTMCore(CoreConfig):
    """A stack of LSTMs over frames."""

    kind: Literal["lstm"] = "lstm"
    units: Positive = 512
    layers: LayerCount = 2

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}_{i}": (self.units,) for i in range(self.layers) for name in "hc"}


class WaveNetCore(CoreConfig):
    """A stack of dilated causal convolutions, each through a gate (van den Oord et al. 2016,
    "WaveNet: A generative model for raw audio", eq. 2).

    dilations: of each layer. kernel_size: frames that a layer sees, the last of them its own.
    channels: of the residual path; skip_channels: of the features, the sum of what all layers give.
    """

    kind: Literal["wavenet"] = "wavenet"
    channels: Positive = 192
    skip_channels: Positive = 256
    kernel_size: Annotated[int, Field(strict=True, ge=2, le=16)] = 2
    dilations: Dilations = (1, 2, 4, 8, 16, 32, 64, 128, 256) * 2

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """A queue a layer: what it was given in the frames that it still sees, the oldest first
        (Paine et al. 2016, "Fast WaveNet generation algorithm").
        """
        return {f"queue_{i}": ((self.kernel_size - 1) * dilation, self.channels)
                for i, dilation in enumerate(self.dilations)}

    @property
    def span(self) -> int:
        return (self.kernel_size - 1) * max(self.dilations)


class TransformerCore(CoreConfig):
    """A decoder-only transformer that looks back over a window (Vaswani et al. 2017), normalised
    before each part (Xiong et al. 2020).

    width: of the residual path, shared out among `heads`; hidden_dim: of the layers of two
    products. window: frames that a layer's attention sees, its own among them.
    sinks: keys and values of each layer and head that are learnt and always there, for attention
    that belongs to no frame (Xiao et al. 2023, "Efficient streaming language models with attention
    sinks", section 3.3): so a window may slide for ever.
    """

    kind: Literal["transformer"] = "transformer"
    width: Positive = 256
    heads: Annotated[int, Field(strict=True, ge=1, le=128)] = 8
    layers: LayerCount = 5
    hidden_dim: Positive = 1024
    window: Annotated[int, Field(strict=True, ge=1, le=8192)] = 128
    sinks: Annotated[int, Field(strict=True, ge=0, le=64)] = 1

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; it must be a multiple of heads, {self.heads}")
        return self

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """A ring of keys and one of values for each layer. `count` says where the rings are: frames
        so far, of which after the first `window` full turns are left out.
        """
        states: dict[str, tuple[int, ...]] = {"count": (1,)}
        return states | {f"{name}_{i}": (self.heads, self.window, self.width // self.heads)
                         for i in range(self.layers) for name in ("keys", "values")}

    @property
    def span(self) -> int:
        return self.window - 1


class PixelCNNCore(CoreConfig):
    """Gated convolutions on the grid of frames and books, each code seeing all frames before its
    own and the books before it (van den Oord et al. 2016, "Conditional image generation with
    PixelCNN decoders", section 2.2).

    channels: of each code's features. dilations: in frames, of each layer. kernel_frames: frames
    that a layer sees, its own among them; kernel_books: books that it sees of these, as many below
    as above its own. Here head_dim is the features from which every book is drawn.
    """

    kind: Literal["pixelcnn"] = "pixelcnn"
    channels: Positive = 96
    kernel_frames: Annotated[int, Field(strict=True, ge=2, le=16)] = 2
    kernel_books: Annotated[int, Field(strict=True, ge=1, le=63)] = 5
    dilations: Dilations = (1, 2, 4, 8, 16, 32, 64, 128)
    # The grid has an order of its books: there is no drawing them together.
    drawing: Literal["in_order"] = "in_order"

    @pydantic.model_validator(mode="after")
    def _check(self):
        _check_odd("kernel_books", self.kernel_books)
        return self

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """A queue a layer, as in `WaveNetCore`, of all books' features."""
        return {f"queue_{i}": ((self.kernel_frames - 1) * dilation, books, self.channels)
                for i, dilation in enumerate(self.dilations)}

    @property
    def span(self) -> int:
        return (self.kernel_frames - 1) * max(self.dilations)

    @property
    def reach(self) -> int:
        """Books before its own in its frame that a code is drawn by."""
        return len(self.dilations) * (self.kernel_books // 2) + 1


Core = Annotated[LSTMCore | WaveNetCore | TransformerCore | PixelCNNCore,
                 Field(discriminator="kind"), default_kind("lstm")]


class ConditionConfig(Config):
    """What a generator knows besides its own past: one input and the `channels` that are made of
    it.

    A generator's conditions have inputs of different names. Each input is int32 [batch, *shape].
    """

    input: ClassVar[str]
    """The name of its input."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of its input behind the batch axis; None is an axis as long as the window."""
        raise NotImplementedError

    @property
    def choices(self) -> int:
        """How many values there are to choose from, where the caller chooses: 0 … choices − 1."""
        raise NotImplementedError

    def check(self, level: int):
        """Raises `ValueError` where a generator of this level cannot have the condition."""


class CodesAbove(ConditionConfig):
    """The frames of the level above, through a dilated CNN, at the generator's own rate."""

    input: ClassVar[str] = "source"

    kind: Literal["codes"] = "codes"
    level: Positive
    num_codes: CodeCount
    books: Books = 1
    channels: Positive = 128
    dilations: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32)
    kernel_size: Annotated[int, Field(strict=True, ge=3, le=99)] = 3

    @pydantic.model_validator(mode="after")
    def _check(self):
        _check_odd("kernel_size", self.kernel_size)
        return self

    @property
    def halo(self) -> int:
        """Frames to either side that the context of one of them sees."""
        return sum(self.dilations) * (self.kernel_size // 2)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.books

    def check(self, level: int):
        if self.level % level or self.level == level:
            raise ValueError(f"the level above, {self.level}, is not a multiple of its level "
                             f"{level}")


SHARES = 1 << 16
"""What the shares of a frame's labels add up to."""


class Labels(ConditionConfig):
    """What the folder or a tag of a piece calls it, as a vector that is learnt for each label.

    Its input says of each frame which labels it has, and how much of each: [T, labels, 2] of
    (number of the label, share), the shares counted in `SHARES`ths.

    of: what says it. names: the vocabulary, in the order of the labels' numbers; none: that of the
    data folder that is trained on. channels: of the vector. dropout: the share of training windows
    that are told no label, so that music without one is learnt too: what guidance goes away from.
    """

    input: ClassVar[str] = "label"

    kind: Literal["labels"] = "labels"
    of: Literal["folder", "genre", "artist", "album"] = "folder"
    names: Annotated[tuple[Text, ...], Field(max_length=4096)] = ()
    channels: Positive = 32
    dropout: Annotated[Real, Field(ge=0, lt=1)] = 0.1

    @pydantic.model_validator(mode="after")
    def _check(self):
        if twice := next((name for name in self.names if self.names.count(name) > 1), None):
            raise ValueError(f"names holds {twice!r} twice")
        return self

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, None, 2

    @property
    def choices(self) -> int:
        return len(self.names)

    @property
    def none(self) -> int:
        """The number that stands for no label."""
        return len(self.names)

    @property
    def summary(self) -> str:
        """What they are, in words."""
        names = [*self.names[:5], *["…"] * (len(self.names) > 5)]
        return f"labels by {self.of} ({', '.join(names)})"


CodecConfig.model_rebuild()  # which names the class above

Condition = Annotated[CodesAbove | Labels, Field(discriminator="kind"), default_kind("codes")]


MOST_GUIDANCE = 10.0
"""How strongly labels can be followed at most."""


class Sampling(Config):
    """How a generator's codes are drawn: temperature 0 takes the likeliest; top_k 0 and top_p 1
    leave nothing out. guidance: how strongly the labels are followed, 1 as it was trained (Ho and
    Salimans 2022): logits without labels + guidance · (logits with them − those without).
    """

    temperature: Weight = 1.0
    top_k: Whole = 0
    top_p: Annotated[Real, Field(gt=0, le=1)] = 1.0
    guidance: Annotated[Real, Field(ge=1, le=MOST_GUIDANCE)] = 1.0

    @property
    def unguided(self) -> Sampling:
        """The same, the labels followed as they were learnt."""
        return self if self.guidance == 1 else self.model_copy(update={"guidance": 1.0})


class GeneratorConfig(Config):
    """P(frame_t | frame_<t, conditions) of one level, the books of a frame in order."""

    kind: Literal["generator"] = "generator"
    name: Name
    level: Positive
    num_codes: CodeCount
    books: Books = 1
    core: Core = LSTMCore()
    conditions: tuple[Condition, ...] = ()
    sampling: Sampling = Sampling()

    @pydantic.model_validator(mode="after")
    def _check(self):
        _check_name(self.name)
        inputs = [condition.input for condition in self.conditions]
        if twice := next((name for name in inputs if inputs.count(name) > 1), None):
            raise ValueError(f"conditions holds {inputs.count(twice)} with the input {twice}; each "
                             f"must have its own")
        for condition in self.conditions:
            condition.check(self.level)
        if isinstance(self.core, PixelCNNCore) and self.core.reach < self.books - 1:
            raise ValueError(f"the core's {len(self.core.dilations)} layers of kernel_books "
                             f"{self.core.kernel_books} see {self.core.reach} books before a "
                             f"code's own, but a frame has {self.books} books: the last would not "
                             f"know the first")
        return self

    @property
    def source(self) -> CodesAbove | None:
        """The level above, or None at the top of a chain."""
        return next((c for c in self.conditions if isinstance(c, CodesAbove)), None)

    @property
    def labels(self) -> Labels | None:
        """What it is told of labels, or None where it was made without."""
        return next((c for c in self.conditions if isinstance(c, Labels)), None)

    def with_labels(self, labels: Labels | None) -> GeneratorConfig:
        """The same with these labels in the place of its own, or besides its other conditions;
        None: it is told none.
        """
        new = [to_dict(labels)] if labels else []
        each = [new if one is self.labels else [to_dict(one)] for one in self.conditions]
        return replace(self, conditions=sum(each, []) + ([] if self.labels else new))

    def is_guided(self, sampling: Sampling) -> bool:
        """Whether its codes are drawn from what it says with labels and without."""
        return self.labels is not None and sampling.guidance != 1

    @property
    def source_level(self) -> int:
        """Samples per frame of the level above; 0 at the top of a chain."""
        return self.source.level if self.source else 0

    @property
    def ratio(self) -> int:
        """Steps of this level per source frame; 0 at the top of a chain."""
        return self.source_level // self.level

    @property
    def context_channels(self) -> int:
        """Width of what the conditions add to each step's input."""
        return sum(c.channels for c in self.conditions)

    @property
    def states(self) -> dict[str, tuple[int, ...]]:
        """What the core remembers, see `CoreConfig.states`."""
        return self.core.states(self.books)

    @property
    def start_token(self) -> int:
        """The id that stands before the first code of a piece."""
        return self.num_codes

    @property
    def pad_token(self) -> int:
        """The source id that stands for "outside the piece", left of its first frame and right of
        its last.
        """
        return self.source.num_codes if self.source else 0

    @property
    def halo(self) -> int:
        """Source frames that the context of one position sees on either side (0 at the top)."""
        return self.source.halo if self.source else 0


Model = Annotated[CodecConfig | GeneratorConfig, Field(discriminator="kind")]


def _check_name(name: str):
    if re.fullmatch(r".*_(best|\d{5,})", name):
        raise ValueError(f"name is {name!r}; it must not end in `_best` or five digits, which tell "
                         f"saved sets apart")
    if name in ("chain", "preset", "train_all"):
        raise ValueError(f"name is {name!r}; a file beside the weights is called that")


# ------------------------------------------------------------------------------ training and chains


class TrainingConfig(Config):
    """How a model is trained. input_length: samples a window. passes: how often a training that is
    told its minutes hears its tracks at most (0: as often as fits); an epoch is a pass, or less.

    As what training tracks are heard besides: transpose: by how many semitones higher and lower at
    most (0: not); gain: by how many dB quieter at most (0: not). Of a generator they are encoded
    so, of a codec each window is changed as it is read (`data.windows.Changes`).
    mix: of codecs alone: in what share of the windows another one is added.
    offsets: of generators alone: alignments of the codes under which each training track is
    encoded.
    """

    steps: Positive = 10000
    epochs: Positive | None = None
    batch_size: Positive = 8
    input_length: Positive = 65536
    learning_rate: Annotated[Real, Field(gt=0)] = 3e-4
    weight_decay: Weight = 0.01
    warmup: Whole = 200
    seed: Whole = 0
    patience: Whole = 0
    passes: Whole = 0
    mixed_precision: Flag = False
    offsets: Annotated[int, Field(strict=True, ge=1, le=64)] = 4
    transpose: Annotated[int, Field(strict=True, ge=0, le=12)] = 0
    gain: Annotated[Real, Field(ge=0, le=24)] = 0.0
    mix: Annotated[Real, Field(ge=0, lt=1)] = 0.0


class Split(Config):
    """Tracks and the side they are on; the rest trains. A track goes by its name (file name without
    folders and endings) or, where others have that, by its file in the data folder without `.u16`
    or the first 16 digits of its sha256.

    `test` is for the final report alone, and so is `fresh`, by which nothing was ever chosen;
    `excluded` is on no side (a test track's other version). chosen_by_test: what was chosen by
    looking at the test tracks, in words.
    """

    validation: tuple[Text, ...] = ()
    test: tuple[Text, ...] = ()
    fresh: tuple[Text, ...] = ()
    excluded: tuple[Text, ...] = ()
    chosen_by_test: Text = ""

    @property
    def held_out_tracks(self) -> tuple[str, ...]:
        """Every track that does not train."""
        return (*self.validation, *self.test, *self.fresh, *self.excluded)


def _check_split(value):
    """`value`. Raises `ValueError` where it is neither a share nor may be a `Split`."""
    if isinstance(value, dict | Split):
        return value
    with contextlib.suppress(PydanticKnownError):
        if 0 <= _number(value) < 1:
            return value
    raise ValueError(f"{_short(value)} is neither a share from 0 to below 1 nor a mapping that "
                     f"names tracks ({', '.join(Split.model_fields)})")


def _split_tag(value) -> str:
    return "tracks" if isinstance(value, dict | Split) else "share"


DataSplit = Annotated[Annotated[Real, pydantic.Tag("share")]
                      | Annotated[Split, pydantic.Tag("tracks")],
                      pydantic.Discriminator(_split_tag), pydantic.BeforeValidator(_check_split)]


class DataConfig(Config):
    """What a model is trained on. split: a share of the hours in [0, 1) held out by track, or the
    tracks by name.

    trim_silence: seconds of silence (`data/silence.py`) that stay at most at either end of a
    track; tracks that are silence for the most part are left out. None takes every track whole.
    """

    split: DataSplit = 0.1
    trim_silence: Weight | None = 1.0


class ChainLevel(Config):
    """One level of a chain and the models that make and play it. generator: None where nothing
    learns what the codec makes.
    """

    level: Positive
    codec: Name
    generator: Name | None = None


class ChainConfig(Config):
    """Generators from the top down and the codecs of their levels: what plays, where it ends, in
    which blocks.

    block: samples that are computed in one go. end: the level that is decoded unless told otherwise
        (None: the finest).
    """

    sample_rate: Positive
    block: Positive
    end: Positive | None = None
    levels: Annotated[tuple[ChainLevel, ...], Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _check(self):
        sizes = self.sizes
        for above, below in pairwise(sizes):
            if above <= below or above % below:
                raise ValueError(f"level {above} is not a multiple of the level below it, {below}")
        if self.block % sizes[0]:
            raise ValueError(f"block is {self.block}; it must be a multiple of the top level, "
                             f"{sizes[0]}")
        if self.end is not None and self.end not in sizes:
            raise ValueError(f"end is {self.end}; it must be one of the levels "
                             f"{', '.join(map(str, sizes))}")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"two models of the chain have the same name: {', '.join(self.names)}")
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The levels from the top down, in samples per frame."""
        return tuple(one.level for one in self.levels)

    @property
    def top(self) -> int:
        return self.levels[0].level

    @property
    def bottom(self) -> int:
        return self.levels[-1].level

    @property
    def ending(self) -> int:
        """The level that is decoded unless told otherwise."""
        return self.bottom if self.end is None else self.end

    def below(self, level: int) -> int:
        """The next finer level; of the bottom itself the bottom."""
        return max((x for x in self.sizes if x < level), default=self.bottom)

    @property
    def codecs(self) -> dict[int, str]:
        """Names of the codecs by level, from the top down."""
        return {one.level: one.codec for one in self.levels}

    @property
    def generators(self) -> dict[int, str]:
        """Names of the generators by level, from the top down, of the levels that have one."""
        return {one.level: one.generator for one in self.levels if one.generator}

    def generator(self, level: int) -> str:
        """The generator's name of a level. Raises `UserError` where it has none."""
        if level not in self.generators:
            raise UserError(f"level {self.check_level(level)} of the chain has no generator: "
                            f"{self.codecs[level]} stands alone")
        return self.generators[level]

    @property
    def plays(self) -> bool:
        """Whether a piece can begin with nothing: the top level has a generator."""
        return self.top in self.generators

    @property
    def names(self) -> list[str]:
        """Every model: the codecs from the top down, then the generators."""
        return [*self.codecs.values(), *self.generators.values()]

    @property
    def summary(self) -> str:
        """Its models, from the top down, and its rate, in words."""
        levels = [f"{' and '.join(filter(None, (one.codec, one.generator)))} of level {one.level}"
                  for one in self.levels]
        return f"{', '.join(levels)}, at {self.sample_rate} Hz"

    def check_level(self, level: int) -> int:
        """`level`. Raises `UserError` where it is none of the chain's."""
        if level not in self.sizes:
            raise UserError(f"there is no level {level!r}; there are "
                            f"{', '.join(map(str, self.sizes))}")
        return level


class Preset:
    """A whole system: its chain, and for each model of it what it is and how it is trained."""

    def __init__(self, name: str, about: str, chain: ChainConfig,
                 models: dict[str, CodecConfig | GeneratorConfig],
                 training: dict[str, TrainingConfig], data: DataConfig):
        self.name, self.about, self.chain = name, about, chain
        self._models, self._training = models, training
        self.data = data

    def model(self, name: str) -> CodecConfig | GeneratorConfig:
        return self._models[self._check_known(name, "model", self._models)]

    def codec(self, name: str | int) -> CodecConfig:
        """The codec of this name, or of a level."""
        names = self.chain.codecs
        if not isinstance(name, int):
            return self._models[self._check_known(name, "codec", names.values())]
        return self._models[names[name]]

    def generator(self, name: str | int) -> GeneratorConfig:
        """The generator of this name, or of a level."""
        names = self.chain.generators
        if not isinstance(name, int):
            return self._models[self._check_known(name, "generator", names.values())]
        return self._models[self.chain.generator(name)]

    def training(self, name: str) -> TrainingConfig:
        return self._training[self._check_known(name, "model", self._models)]

    def _check_known(self, name, what, names):
        if name not in names:
            raise ConfigError(f"preset {self.name}: no {what} is called {name!r}; there are "
                              f"{', '.join(names)}")
        return name


class _PresetFile(Config):
    """A preset as its YAML file has it. What the chain says of a model is not said again by the
    model.
    """

    schema_: Annotated[int, Field(strict=True, alias="schema")] = SCHEMA
    about: Text = ""
    chain: ChainConfig
    training: dict[Literal["codec", "generator"], dict[str, Any]] = {}
    data: DataConfig = DataConfig()
    codecs: dict[Name, dict[str, Any]]
    generators: dict[Name, dict[str, Any]] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values):
        return values  # the alias makes pydantic's own check the right one


def preset_names() -> list[str]:
    """The presets that come with the library."""
    return sorted(path.stem for path in PRESETS.glob("*.yml"))


def preset(name=SHIPPED) -> Preset:
    """A preset by name, or by the path of its YAML file.

    Raises:
        ConfigError: no preset is called that, or its file says what cannot be.
    """
    if str(name) in preset_names():
        path = PRESETS / f"{name}.yml"
    elif str(name).endswith((".yml", ".yaml")) or os.sep in str(name):
        path = Path(name)
    else:
        raise ConfigError(f"no preset is called {str(name)!r}; there are "
                          f"{', '.join(preset_names())}, or name a file")
    values, stood_on = load_yaml(path), []
    while (base := values.pop("base", None)) is not None:
        if base not in preset_names():
            raise ConfigError(f"{path}: base is {base!r}; it must be one of "
                              f"{', '.join(preset_names())}")
        if base in stood_on:
            raise ConfigError(f"{path}: {base} stands on itself by its base")
        stood_on.append(base)
        values = merge(load_yaml(PRESETS / f"{base}.yml"), values)
    check_schema(values, os.fspath(path))
    known = ["schema", "about", "chain", "training", "data", "codecs", "generators"]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(_short(key).lower(), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{path}: unknown key {_short(key)}; did you mean {near!r}? Known: "
                              f"{', '.join(known)}")
    file = validate(_PresetFile, values, os.fspath(path))
    models, training = {}, {}

    def agree(name, own: dict, derived: dict):
        """Fill in what the chain says; what the model says itself must be the same."""
        for key, value in derived.items():
            if own.setdefault(key, value) != value:
                raise ConfigError(f"{path}: {name}: {key} is {_short(own[key])}, but the chain "
                                  f"says {_short(value)}")

    def build(kind, name, own, derived):
        own = dict(own)
        learning = own.pop("training", {})
        if not isinstance(learning, dict):
            raise ConfigError(f"{path}: {name}: training is {_short(learning)}; it must be a "
                              f"mapping")
        learning = merge(file.training.get(kind.model_fields["kind"].default, {}), learning)
        agree(name, own, derived)
        models[name] = validate(kind, own, f"{path}: {name}")
        training[name] = validate(TrainingConfig, learning, f"{path}: {name}: training")

    for role, entries, wanted in (("codecs", file.codecs, file.chain.codecs.values()),
                                  ("generators", file.generators, file.chain.generators.values())):
        for missing in set(wanted) - set(entries):
            raise ConfigError(f"{path}: the chain names {missing}, which {role} does not describe")
        for stray in set(entries) - set(wanted):
            raise ConfigError(f"{path}: {role} describes {stray}, which the chain does not name")
    for name, own in file.codecs.items():
        build(CodecConfig, name, own, {"name": name, "sample_rate": file.chain.sample_rate})
    above = None
    for one in file.chain.levels:
        codec = models[one.codec]
        if codec.level != one.level:
            raise ConfigError(f"{path}: the chain has {one.codec} at level {one.level}, but its "
                              f"strides multiply to {codec.level}")
        if one.generator is None:
            above = codec
            continue
        codec.check_generator(f"{path}: {one.generator}")
        own = dict(file.generators[one.generator])
        given = own.get("conditions", [{}] if above else [])
        if not isinstance(given, list) or not all(isinstance(c, dict) for c in given):
            raise ConfigError(f"{path}: {one.generator}: conditions is {_short(given)}; it must be "
                              f"a list of mappings")
        own["conditions"] = given = [{"kind": "codes"} | c for c in given]
        for condition in given:
            if condition["kind"] == "codes":
                if above is None:
                    raise ConfigError(f"{path}: {one.generator} is the top of the chain and has no "
                                      f"level above")
                above.check_generator(f"{path}: {one.generator}")
                facts = {"level": above.level, "num_codes": above.num_codes, "books": above.books}
                agree(f"{one.generator}: conditions", condition, facts)
        build(GeneratorConfig, one.generator, own,
              {"name": one.generator, "level": one.level, "num_codes": codec.num_codes,
               "books": codec.books})
        above = codec
    label = path.stem if path.parent == PRESETS else os.fspath(path)
    return Preset(label, " ".join(file.about.split()), file.chain, models, training, file.data)


# --------------------------------------------------------------------------------------- validation


def validate(kind: type[ConfigType], values, who: str = "config") -> ConfigType:
    """A config of class `kind` from a mapping.

    Args:
        values: as YAML holds it: mappings, lists, numbers and text.
        who: where the mapping stands; every error begins with it.

    Raises:
        ConfigError: one line that names the key, what it was and what it may be.
    """
    with _one_line(who, values):
        return kind.model_validate(values)


def validate_model(values, who: str = "config") -> CodecConfig | GeneratorConfig:
    """A model's config from a mapping; its `kind` says which of the two it is."""
    kind = values.get("kind") if isinstance(values, dict) else None
    known = {"codec": CodecConfig, "generator": GeneratorConfig}
    if not isinstance(kind, str) or kind not in known:
        raise ConfigError(f"{who}: kind is {_short(kind)}; it must be codec or generator")
    return validate(known[kind], values, who)


def to_dict(config: Config) -> dict:
    """Plain lists and numbers, as YAML writes them."""
    return config.model_dump(mode="json", by_alias=True)


def replace(config: ConfigType, **changes) -> ConfigType:
    """`config` with these fields changed, validated anew."""
    return validate(
        type(config),
        {**to_dict(config), **{k: to_dict(v) if isinstance(v, Config) else v
                               for k, v in changes.items()}},
        getattr(config, "name", "config"))


def merge(base: dict, changes: dict) -> dict:
    """`base` with `changes` laid over it, mappings within mappings; a mapping of another `kind`
    replaces the old one.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if (isinstance(old, dict) and isinstance(value, dict)
            and value.get("kind", old.get("kind")) == old.get("kind")):
            value = merge(old, value)
        merged[key] = value
    return merged


def override(config: ConfigType, values: dict, who: str) -> ConfigType:
    """`config` with what a mapping says in its place."""
    return validate(type(config), merge(to_dict(config), values), who)


# --------------------------------------------------------------------------------------- YAML files


def load_yaml(path) -> dict:
    """The mapping a YAML file holds. Raises `ConfigError` where it is unreadable, no YAML, or no
    mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{os.fspath(path)}: cannot be read: {e.strerror or e}") from e
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError,
            RecursionError) as e:
        # All but the first escape from PyYAML: for an impossible date, or a tag on the wrong value.
        raise ConfigError(f"{os.fspath(path)}: not valid YAML: {' '.join(str(e).split())}") from e
    if not isinstance(values, dict):
        raise ConfigError(f"{os.fspath(path)}: must hold a mapping of keys to values, not "
                          f"{type(values).__name__}")
    return values


def dump_yaml(values: dict) -> str:
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


def check_schema(values: dict, who: str):
    """Raises `ConfigError` where a file names another version."""
    if values.get("schema", SCHEMA) != SCHEMA:
        raise ConfigError(f"{who}: schema is {_short(values['schema'])}; this program reads "
                          f"{SCHEMA}")
