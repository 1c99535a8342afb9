"""What a model is, in numbers: frozen configs, their presets, YAML in and out.

A fact is stated once: a codec's level is the product of its strides, a generator's ratio is its source level divided
by its level. Whoever states one of them again and disagrees gets a `ConfigError` that prints both sides.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import reprlib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .errors import UserError

SAMPLE_RATE = 22050
LEVELS = (512, 128, 32, 8)
SIZES = ("compact", "reference", "tiny")
LARGEST = 2**31 - 1
# Samples after which a decoder's tones and noise repeat (12 s): positions are known modulo this.
PERIOD = 1 << 18
# Samples: how often, at most, a decoder's tones are given a new loudness.
TONE_HOP = 128


class ConfigError(UserError, ValueError):
    """A config that cannot be: names the key, the value it had and what it may be."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of a codec's loss (see `losses.py`); the last two need `adversary.py`'s networks."""

    spectral_convergence: float = 1.0
    log_magnitude: float = 0.5
    mel: float = 1.0
    waveform: float = 0.2
    hum: float = 0.0
    commitment: float = 0.25
    adversarial: float = 0.0
    feature_matching: float = 0.0

    def __post_init__(self):
        check(self)
        at_least(self, 0, *(f.name for f in dataclasses.fields(self)))


@dataclass(frozen=True)
class CodecConfig:
    """One VQ-VAE: audio float32 [batch, samples] <-> codes int32 [batch, samples / level].

    `strides[i]` is followed by residual blocks of width `channels[i]`, one for each of `dilations[i]`; the decoder
    mirrors the encoder. `level` is the product of the strides and stated nowhere else. With `tones` oscillators and
    `noise`, the decoder says how loud these are and makes no waveform of its own (see `synthesis.py`). `even`,
    in [0, 1], is how far up-sampling is kept from making what repeats at the rate of the codes out of what does not
    (`SubPixelUpsampling`).
    """

    name: str
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    dilations: tuple[tuple[int, ...], ...]
    sample_rate: int = SAMPLE_RATE
    num_codes: int = 1024
    code_dim: int = 32
    tones: int = 0
    noise: bool = False
    even: float = 0.0
    ema_decay: float = 0.96
    revival_threshold: float = 0.3
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self):
        check(self)
        if not len(self.strides) == len(self.channels) == len(self.dilations):
            raise ConfigError(
                f"{self.name}: strides, channels and dilations must have one entry a stage, but have "
                f"{len(self.strides)}, {len(self.channels)} and {len(self.dilations)}"
            )
        at_least(self, 1, "strides", "channels", "dilations", "sample_rate", "code_dim")
        at_least(self, 0, "revival_threshold", "tones")
        at_least(self, 2, "num_codes")
        fits_uint16(self, "num_codes")
        if not 0.0 <= self.even <= 1.0:
            raise ConfigError(f"{self.name}: even is {self.even}; it must lie in 0 … 1")
        if not 0.0 < self.ema_decay < 1.0:
            raise ConfigError(f"{self.name}: ema_decay is {self.ema_decay}; it must lie between 0 and 1")
        name_says_level(self, "vqvae")
        if self.tones and not self.noise:
            raise ConfigError(f"{self.name}: tones is {self.tones} and noise false; a decoder of tones needs noise too")
        if self.positioned and PERIOD % self.level:
            raise ConfigError(f"{self.name}: tones and noise need a level that is a power of 2, not {self.level}")

    @property
    def positioned(self) -> bool:
        """Whether the decoder must be told where in the piece its codes stand."""
        return bool(self.tones or self.noise)

    @property
    def tone_stage(self) -> int:
        """The stage whose features say how loud each tone is: the coarsest of at most `TONE_HOP` samples a step."""
        return max((i for i in range(len(self.strides)) if self.hop(i) <= TONE_HOP), default=0)

    def hop(self, stage: int) -> int:
        """Samples per step of the features that stage `stage` works on."""
        return math.prod(self.strides[: stage + 1])

    @property
    def level(self) -> int:
        """Samples per code."""
        return math.prod(self.strides)

    @property
    def bitrate(self) -> float:
        """Bits per second: sample_rate / level · log2(num_codes)."""
        return self.sample_rate / self.level * math.log2(self.num_codes)


@dataclass(frozen=True)
class GeneratorConfig:
    """P(code_t | code_<t, context) of one level: context model (if there is a level above) + LSTM layers.

    `source_level` is the level above, whose codes are the context; 0 for the top of the chain. The context model maps
    N source codes to N·ratio vectors of `context_channels`. `num_codes` and `source_codes` count the codes of this
    level and of the one above; temperature, top_k and top_p are what sampling uses unless told otherwise.
    """

    name: str
    level: int
    source_level: int = 0
    num_codes: int = 1024
    source_codes: int = 1024
    embedding_dim: int = 32
    units: int = 512
    lstm_layers: int = 2
    dropout: float = 0.0
    context_channels: int = 128
    context_dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        check(self)
        at_least(self, 1, "level", "embedding_dim", "units", "lstm_layers", "context_channels", "context_dilations")
        at_least(self, 0, "source_level", "temperature", "top_k")
        at_least(self, 2, "num_codes", "source_codes")
        fits_uint16(self, "num_codes", "source_codes")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"{self.name}: dropout is {self.dropout}; it must lie in [0, 1)")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"{self.name}: top_p is {self.top_p}; it must lie in (0, 1]")
        if self.source_level % self.level or self.source_level == self.level:
            raise ConfigError(
                f"{self.name}: source_level {self.source_level} is not a multiple of its level {self.level}"
            )
        name_says_level(self, "generator")

    @property
    def ratio(self) -> int:
        """Steps of this level per source code; 0 at the top of the chain, which has no context."""
        return self.source_level // self.level

    @property
    def start_token(self) -> int:
        """The id that stands before the first code of a piece."""
        return self.num_codes

    @property
    def pad_token(self) -> int:
        """The source id that stands for "outside the piece", left of its first code and right of its last."""
        return self.source_codes

    @property
    def halo(self) -> int:
        """Source codes that the context of one position sees on either side (0 at the top)."""
        return sum(self.context_dilations) if self.source_level else 0


def name_says_level(config, prefix):
    """`vqvae_512` is the codec of level 512: a name that says another level is refused with both."""
    if config.name == f"{prefix}_{config.level}":
        return
    said = re.fullmatch(prefix + "_([0-9]+)", config.name)
    if said:
        raise ConfigError(f"{_who(config)}: the name says level {said[1][:20]}, the numbers say {config.level}")
    raise ConfigError(f"name is {_shown(config.name)}; at level {config.level} it must be '{prefix}_{config.level}'")


def check(config):
    """Every field has its declared type, or `ConfigError` names the key, what it was and what it may be."""
    hints = typing.get_type_hints(type(config))
    for f in dataclasses.fields(config):
        object.__setattr__(config, f.name, _coerce(config, f.name, getattr(config, f.name), hints[f.name]))


def _coerce(config, key, value, kind):
    who = _who(config)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = typing.get_args(kind)
        if value is None and type(None) in kinds:
            return None
        return _coerce(config, key, value, next(k for k in kinds if k is not type(None)))
    if origin is tuple:
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError(f"{who}: {key} is {_shown(value)}; it must be a list")
        return tuple(_coerce(config, key, v, typing.get_args(kind)[0]) for v in value)
    if dataclasses.is_dataclass(kind):
        if isinstance(value, dict):
            value = from_dict(kind, value, key)
        if not isinstance(value, kind):
            raise ConfigError(f"{who}: {key} is {_shown(value)}; it must be a mapping")
        return value
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ConfigError(f"{who}: {key} is {_shown(value)}; it must be at most {LARGEST}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is float and isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+", value):
        # YAML 1.1 takes 1e-4 for text, which nobody who writes it means.
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
        raise ConfigError(f"{who}: {key} is {_shown(value)}; it must be {wanted}")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{who}: {key} is {_shown(value)}; it must be finite")
    return value


def at_least(config, least, *keys):
    """Each named field, or each number in it, is at least `least`."""
    for key in keys:
        value = getattr(config, key)
        flat = [value]
        while any(isinstance(v, tuple) for v in flat):
            flat = [x for v in flat for x in (v if isinstance(v, tuple) else (v,))]
        if any(v < least for v in flat):
            raise ConfigError(f"{_who(config)}: {key} is {_shown(value)}; it must be at least {least}")


def fits_uint16(config, *keys):
    """Each named field counts codes that files hold as uint16."""
    for key in keys:
        value = getattr(config, key)
        if value > 65536:
            raise ConfigError(f"{_who(config)}: {key} is {value}; cached codes are uint16, so at most 65536")


def _who(config) -> str:
    name = getattr(config, "name", type(config).__name__)
    return name if isinstance(name, str) and len(name) < 40 else _shown(name)


def _shown(value) -> str:
    """`value` as an error line shows it: cut short, for YAML's aliases can make a small file mean a very long value."""
    try:
        text = _short.repr(value)
    except ValueError:
        return "a number too long to print"
    return text if len(text) <= 80 else f"{text[:77]}..."


_short = reprlib.Repr()
_short.maxlevel, _short.maxother, _short.maxstring = 3, 60, 60


def from_dict(kind, values, who="config"):
    """A config of class `kind` from a mapping; an unknown key is refused with the nearest known name.

    who: where the mapping stands, which every error begins with.
    """
    known = [f.name for f in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(_shown(key).lower(), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{who}: unknown key {_shown(key)}; did you mean {near!r}? Known: {', '.join(known)}")
    required = [f.name for f in dataclasses.fields(kind)
                if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    missing = [key for key in required if key not in values]
    if missing:
        raise ConfigError(f"{who}: missing key {missing[0]!r}")
    try:
        return kind(**values)
    except ConfigError as e:
        raise ConfigError(f"{who}: {e}") from e


def to_dict(config) -> dict:
    """Plain lists and numbers, as YAML writes them."""

    def plain(x):
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        return [plain(v) for v in x] if isinstance(x, list | tuple) else x

    return plain(dataclasses.asdict(config))


def load_yaml(path) -> dict:
    """The mapping a YAML file holds. Errors: `ConfigError` where it is unreadable, no YAML, or no mapping."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{os.fspath(path)}: cannot be read: {e.strerror or e}") from e
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as e:
        # All but the first are what PyYAML lets through: a date that is none, a tag on what it does not fit.
        raise ConfigError(f"{os.fspath(path)}: not valid YAML: {' '.join(str(e).split())}") from e
    if not isinstance(values, dict):
        raise ConfigError(f"{os.fspath(path)}: must hold a mapping of keys to values, not {type(values).__name__}")
    return values


def dump_yaml(values: dict) -> str:
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


def override(config, path):
    """`config` with what the YAML file at `path` says in its place."""
    values = load_yaml(path)
    # The YAML beside a weights set holds its config under a key of that name; it serves here as it is.
    values = values["config"] if isinstance(values.get("config"), dict) else values
    merged = to_dict(config)
    for key, value in values.items():
        if isinstance(merged.get(key), dict) and isinstance(value, dict):
            value = merged[key] | value
        merged[key] = value
    return from_dict(type(config), merged, os.fspath(path))


def codec_preset(name: str, size: str = "compact") -> CodecConfig:
    """The codec `vqvae_512` … `vqvae_8`. Compact and reference share their codecs; `tiny` is for tests.

    The waveform term falls as the rate falls, because phase at low rates costs bits that the ear does not hear; where
    it is next to nothing the decoder has tones and noise of its own, and an adversary to learn their use from.
    """
    level = _level_of(name, "vqvae")
    _known_size(size)
    if size == "tiny":
        strides = {512: (8, 4, 4, 4), 128: (8, 4, 4), 32: (8, 4), 8: (8,)}[level]
        return CodecConfig(
            name, strides, channels=(8, 12, 16, 16)[: len(strides)], dilations=((1, 3),) * len(strides),
            num_codes=64, code_dim=8, tones=24 if level >= 128 else 0, noise=level >= 128, even=0.9 * (level < 128),
        )
    full = {
        8: dict(strides=(8,), channels=(128,), dilations=((1, 3, 9, 27),),
                even=0.9, loss=LossConfig(spectral_convergence=6.0, log_magnitude=0.3, waveform=8.0, hum=0.05)),
        32: dict(strides=(8, 4), channels=(96, 160), dilations=((1, 3), (1, 3, 9, 27)),
                 even=0.9, loss=LossConfig(spectral_convergence=1.5, waveform=0.5, hum=0.2)),
        128: dict(
            strides=(8, 4, 4), channels=(64, 128, 192), dilations=((1, 3), (1, 3), (1, 3, 9, 27)),
            tones=192, noise=True,
            loss=LossConfig(mel=1.5, waveform=0.02, adversarial=0.2, feature_matching=1.0),
        ),
        512: dict(
            strides=(8, 4, 4, 4), channels=(48, 96, 160, 256),
            dilations=((1, 3), (1, 3), (1, 3), (1, 3, 9, 27)),
            tones=192, noise=True,
            loss=LossConfig(mel=2.0, waveform=0.0, adversarial=0.2, feature_matching=1.0),
        ),
    }
    return CodecConfig(name, **full[level])


def generator_preset(name: str, size: str = "compact") -> GeneratorConfig:
    """The generator `generator_512` … `generator_8`: `compact` ships, `reference` has 1024 units, `tiny` tests."""
    level = _level_of(name, "generator")
    _known_size(size)
    source = dict(zip(LEVELS, (0, *LEVELS), strict=False))[level]
    if size == "tiny":
        return GeneratorConfig(name, level, source, num_codes=64, source_codes=64, embedding_dim=8, units=24,
                               context_channels=12, context_dilations=(1, 2, 4))
    if size == "reference":
        return GeneratorConfig(name, level, source, units=1024, context_channels=512)
    return GeneratorConfig(name, level, source, units=256 if level == 8 else 512,
                           context_channels=128)


def codec_name(level: int) -> str:
    return f"vqvae_{level}"


def generator_name(level: int) -> str:
    return f"generator_{level}"


def _level_of(name, prefix):
    known = [f"{prefix}_{level}" for level in LEVELS]
    if name not in known:
        raise ConfigError(f"no {prefix} is called {name!r}; there are {', '.join(known)}")
    return int(name.rsplit("_", 1)[1])


def _known_size(size):
    if size not in SIZES:
        raise ConfigError(f"no size is called {size!r}; there are {', '.join(SIZES)}")
