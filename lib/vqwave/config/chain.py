"""Chains and presets: the levels of a system and the models of each level."""

import math
import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from ..errors import UserError
from .codec import CodecConfig
from .fields import Config, ConfigError, Name, Positive, Text, load_yaml, merge, short, validate
from .generator import GeneratorConfig
from .levels import SCORE, LevelNumber, level_name, read_level
from .training import DataConfig, TrainingConfig

PRESETS = Path(__file__).parents[1] / "presets"
DEFAULT_PRESET = "vqwave"
"""The preset of the shipped weights, and of trainings from random weights."""


class ChainLevel(Config):
    """One level of a chain and its models. codec: None for the score. generator: None if no
    generator learns the frames.
    """

    level: LevelNumber
    codec: Name | None = None
    generator: Name | None = None

    @pydantic.model_validator(mode="after")
    def _check(self):
        of_score = self.level == SCORE
        if of_score == bool(self.codec) or of_score and not self.generator:
            raise ValueError("a level of sound needs a codec; level score has a generator alone")
        return self


class ChainConfig(Config):
    """The levels from the top down: a score, if there is one, then levels of sound. block: samples
    in a block of a stream. end: the level that is decoded by default (None: the finest).

    Methods that take a level also take its name, see `read_level`.
    """

    sample_rate: Positive
    block: Positive
    end: LevelNumber | None = None
    levels: Annotated[tuple[ChainLevel, ...], Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _check(self):
        if not self.sizes or SCORE in [level.level for level in self.levels[1:]]:
            raise ValueError("a chain has levels of sound, and its score comes first")
        for above, below in pairwise(self.sizes):
            if above <= below or above % below:
                raise ValueError(f"level {above} is not a multiple of the level below it, {below}")
        if self.block % self.top:
            raise ValueError(f"block is {self.block}; it must be a multiple of the top level, "
                             f"{self.top}")
        if self.end is not None:
            self.check_level(self.end)
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"two models of the chain have the same name: {', '.join(self.names)}")
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """The levels of sound from the top down, in samples per frame."""
        return tuple(self.codecs)

    @property
    def top(self) -> int:
        """The coarsest level of sound."""
        return self.sizes[0]

    @property
    def bottom(self) -> int:
        return self.sizes[-1]

    @property
    def ending(self) -> int:
        """The level that is decoded by default."""
        return self.bottom if self.end is None else self.end

    def down_to(self, level: int) -> list[int]:
        """The levels of sound from the top down to `level`."""
        return [size for size in self.sizes if size >= level]

    def below(self, level: int) -> int:
        """The next finer level; for the bottom, the bottom."""
        return max((size for size in self.sizes if size < level), default=self.bottom)

    @property
    def codecs(self) -> dict[int, str]:
        """Names of the codecs by level, from the top down."""
        return {level.level: level.codec for level in self.levels if level.codec}

    @property
    def generators(self) -> dict[int, str]:
        """Names of the generators by level, from the top down; that of the score has `SCORE`."""
        return {level.level: level.generator for level in self.levels if level.generator}

    def generator(self, level) -> str:
        """The name of a level's generator. Raises `UserError` if the level has none."""
        level = read_level(level, self.generated(0))
        if level not in self.generators:
            raise UserError(f"level {level_name(level)} of the chain has no generator: "
                            f"{self.codecs[level]} stands alone")
        return self.generators[level]

    def generated(self, level: int, keep: int | None = None) -> list[int]:
        """The levels that are generated for sound of `level`: all from the top down to it; for a
        variation, those below level `keep`.
        """
        return [x.level for x in self.levels if level <= x.level < (keep or math.inf)]

    @property
    def can_generate(self) -> bool:
        """Whether pieces need no recording, because the top level has a generator."""
        return self.top in self.generators

    @property
    def names(self) -> list[str]:
        """The names of all models: the codecs from the top down, then the generators."""
        return [*self.codecs.values(), *self.generators.values()]

    @property
    def summary(self) -> str:
        """The models from the top down and the sample rate, as words in a message."""
        levels = [f"{' and '.join(filter(None, (level.codec, level.generator)))} of level "
                  f"{level_name(level.level)}" for level in self.levels]
        return f"{', '.join(levels)}, at {self.sample_rate} Hz"

    def check_level(self, level) -> int:
        """The number of a level of sound; None: the finest. Raises `ConfigError` if the chain has
        no such level.
        """
        return self.bottom if level is None else read_level(level, self.sizes)

    def check_keep(self, keep, level: int) -> int:
        """The number of a level that a variation keeps. Raises `ConfigError` if it is no level of
        the chain above `level`.
        """
        above = [x for x in self.sizes if x > level]
        if not above:
            raise ConfigError(f"the chain has no level above {level_name(level)} that a variation "
                              f"could keep")
        return read_level(keep, above, "a variation keeps a level above those that it generates: ")


class _Description(pydantic.BaseModel, extra="allow"):
    """A model in a preset's file, without the keys that follow from the chain."""

    training: dict[str, Any] = {}
    conditions: list[dict[str, Any]] | None = None


class _PresetFile(Config):
    """A preset's YAML file, merged with its bases."""

    about: Text = ""
    chain: ChainConfig
    training: dict[Literal["codec", "generator"], dict[str, Any]] = {}
    data: DataConfig = DataConfig()
    codecs: dict[Name, _Description]
    generators: dict[Name, _Description] = {}

    @pydantic.model_validator(mode="after")
    def _check(self):
        for role, names in (("codecs", self.chain.codecs.values()),
                            ("generators", self.chain.generators.values())):
            described, named = set(getattr(self, role)), set(names)
            if described != named:
                parts = [f"{what} {', '.join(sorted(names))}" for what, names in (
                    ("missing", named - described), ("unused", described - named)) if names]
                raise ValueError(f"{role} must describe the models of the chain: "
                                 f"{'; '.join(parts)}")
        return self


class Preset:
    """A whole system: its chain, its models and how they are trained.

    path: a YAML file. Raises `ConfigError` if the file is invalid.
    """

    def __init__(self, path: Path):
        file = validate(_PresetFile, _load_with_bases(path), os.fspath(path))
        self.name = path.stem if path.parent == PRESETS else os.fspath(path)
        self.about = " ".join(file.about.split())
        self.chain, self.data = file.chain, file.data
        self.models: dict[str, Any] = {}
        self.trainings: dict[str, TrainingConfig] = {}
        above = None
        for level in self.chain.levels:
            if level.codec is None:
                self._add(GeneratorConfig, file, file.generators[level.generator],
                          {"name": level.generator, "level": level.level})
            else:
                self._add_level(level, above, file)
                above = self.codec(level.codec)

    def _add_level(self, level: ChainLevel, above: CodecConfig | None, file: _PresetFile):
        self._add(CodecConfig, file, file.codecs[level.codec], {
            "name": level.codec, "sample_rate": self.chain.sample_rate})
        codec, name = self.codec(level.codec), level.generator
        if codec.level != level.level:
            raise ConfigError(f"{self.name}: the chain has {codec.name} at level {level.level}, "
                              f"but its strides multiply to {codec.level}")
        if name is None:
            return
        who = f"{self.name}: {name}"
        codec.check_generator(who)
        description = file.generators[name]
        conditions = []
        for condition in description.conditions or [{}] * (
                description.conditions is None and above is not None):
            condition = {"kind": "codes"} | condition
            if condition["kind"] in ("codes", "sound"):
                if above is None:
                    raise ConfigError(f"{who} is the top of the chain and has no level above")
                above.check_generator(who)
                derived: dict[str, int] = {"level": above.level}
                derived |= ({"hop": codec.level} if condition["kind"] == "sound" else
                            {"num_codes": above.num_codes, "books": above.books})
                condition = _complete(condition, f"{who}: conditions", derived)
            conditions.append(condition)
        self._add(GeneratorConfig, file, description, {
            "name": name, "level": codec.level, "num_codes": codec.num_codes,
            "books": codec.books}, conditions=conditions)

    def _add(self, kind, file: _PresetFile, description: _Description, derived: dict, **values):
        """Add a model. derived: keys that follow from the chain."""
        name, role = derived["name"], kind.model_fields["kind"].default
        who = f"{self.name}: {name}"
        self.models[name] = validate(
            kind, _complete(description.model_extra, who, derived) | values, who)
        self.trainings[name] = validate(
            TrainingConfig, merge(file.training.get(role, {}), description.training),
            f"{who}: training")

    def codec(self, name: str | int) -> CodecConfig:
        """The codec of this name, or of a level."""
        return self.models[self.chain.codecs[name] if isinstance(name, int)
                            else self._check_known(name, "codec", self.chain.codecs.values())]

    def generator(self, name: str | int) -> GeneratorConfig:
        """The generator of this name, or of a level."""
        names = self.chain.generators.values()
        return self.models[self.chain.generator(name) if isinstance(name, int)
                            else self._check_known(name, "generator", names)]

    def _check_known(self, name: str, role: str, names: Iterable[str]) -> str:
        if name not in names:
            raise ConfigError(f"preset {self.name}: no {role} is called {name!r}; there are "
                              f"{', '.join(names)}")
        return name


def _load_with_bases(path: Path) -> dict:
    values, bases = load_yaml(path), []
    while (base := values.pop("base", None)) is not None:
        if base in bases or base not in preset_names():
            raise ConfigError(f"{path}: base is {short(base)}; it must be one of "
                              f"{', '.join(preset_names())}, and not a base of itself")
        bases.append(base)
        values = merge(load_yaml(PRESETS / f"{base}.yml"), values)
    values.pop("schema", None)
    return values


def _complete(values: dict, who: str, derived: dict) -> dict:
    """`values` with `derived`. Raises `ConfigError` if both have a key with different values."""
    for key, value in derived.items():
        if values.get(key, value) != value:
            raise ConfigError(f"{who}: {key} is {short(values[key])}, but the chain says "
                              f"{short(value)}")
    return values | derived


def preset_names() -> list[str]:
    """The presets that come with the library."""
    return sorted(path.stem for path in PRESETS.glob("*.yml"))


def preset(name=DEFAULT_PRESET) -> Preset:
    """A preset by name, or by the path of its YAML file."""
    name = os.fspath(name)
    if name in preset_names():
        return Preset(PRESETS / f"{name}.yml")
    if name.endswith((".yml", ".yaml")) or os.sep in name:
        return Preset(Path(name))
    raise ConfigError(f"no preset is called {name!r}; there are {', '.join(preset_names())}, or "
                      f"name a file")
