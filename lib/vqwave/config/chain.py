"""Chains and presets: the levels of a system and the models that play them."""

from __future__ import annotations

import difflib
import os
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from ..errors import UserError
from .codec import CodecConfig
from .fields import (
    PRESETS,
    SCHEMA,
    SHIPPED,
    Config,
    ConfigError,
    Name,
    Positive,
    Text,
    check_schema,
    load_yaml,
    merge,
    short,
    validate,
)
from .generator import GeneratorConfig
from .training import DataConfig, TrainingConfig


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
    def can_generate(self) -> bool:
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
        ConfigError: no preset has this name, or its file is invalid.
    """
    if str(name) in preset_names():
        path = PRESETS / f"{name}.yml"
    elif str(name).endswith((".yml", ".yaml")) or os.sep in str(name):
        path = Path(name)
    else:
        raise ConfigError(f"no preset is called {str(name)!r}; there are "
                          f"{', '.join(preset_names())}, or name a file")
    file = _read_preset(path)
    builder = _PresetBuilder(path, file)
    for codec, values in file.codecs.items():
        builder.add(CodecConfig, codec, values,
                    {"name": codec, "sample_rate": file.chain.sample_rate})
    above = None
    for level in file.chain.levels:
        above = builder.add_level(level, above)
    label = path.stem if path.parent == PRESETS else os.fspath(path)
    return Preset(label, " ".join(file.about.split()), file.chain, builder.models,
                  builder.training, file.data)


def _read_preset(path: Path) -> _PresetFile:
    """The file of a preset, merged with its bases, whose chain names the models it describes."""
    values, bases = load_yaml(path), []
    while (base := values.pop("base", None)) is not None:
        if base not in preset_names():
            raise ConfigError(f"{path}: base is {base!r}; it must be one of "
                              f"{', '.join(preset_names())}")
        if base in bases:
            raise ConfigError(f"{path}: {base} is a base of itself")
        bases.append(base)
        values = merge(load_yaml(PRESETS / f"{base}.yml"), values)
    check_schema(values, os.fspath(path))
    known = ["schema", "about", "chain", "training", "data", "codecs", "generators"]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(short(key).lower(), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{path}: unknown key {short(key)}; did you mean {near!r}? Known: "
                              f"{', '.join(known)}")
    file = validate(_PresetFile, values, os.fspath(path))
    for role, described, named in (
            ("codecs", file.codecs, file.chain.codecs.values()),
            ("generators", file.generators, file.chain.generators.values())):
        for missing in set(named) - set(described):
            raise ConfigError(f"{path}: the chain names {missing}, which {role} does not describe")
        for stray in set(described) - set(named):
            raise ConfigError(f"{path}: {role} describes {stray}, which the chain does not name")
    return file


class _PresetBuilder:
    """Builds the models of a preset's file. What the chain says is filled in; what a model says
    itself must be the same.
    """

    def __init__(self, path: Path, file: _PresetFile):
        self.path, self.file = path, file
        self.models: dict = {}
        self.training: dict[str, TrainingConfig] = {}

    def add(self, kind, name: str, values: dict, derived: dict):
        values = dict(values)
        learning = values.pop("training", {})
        if not isinstance(learning, dict):
            raise ConfigError(f"{self.path}: {name}: training is {short(learning)}; it must be a "
                              f"mapping")
        role = kind.model_fields["kind"].default
        learning = merge(self.file.training.get(role, {}), learning)
        self._fill(name, values, derived)
        self.models[name] = validate(kind, values, f"{self.path}: {name}")
        self.training[name] = validate(TrainingConfig, learning, f"{self.path}: {name}: training")

    def add_level(self, level: ChainLevel, above: CodecConfig | None) -> CodecConfig:
        """Add the generator of a level, if it has one. Returns the level's codec."""
        codec, name = self.models[level.codec], level.generator
        if codec.level != level.level:
            raise ConfigError(f"{self.path}: the chain has {level.codec} at level {level.level}, "
                              f"but its strides multiply to {codec.level}")
        if name is None:
            return codec
        codec.check_generator(f"{self.path}: {name}")
        values = dict(self.file.generators[name])
        values["conditions"] = self._conditions(name, values, above)
        self.add(GeneratorConfig, name, values,
                 {"name": name, "level": level.level, "num_codes": codec.num_codes,
                  "books": codec.books})
        return codec

    def _conditions(self, name: str, values: dict, above: CodecConfig | None) -> list[dict]:
        conditions = values.get("conditions", [{}] if above else [])
        if not isinstance(conditions, list) or not all(isinstance(c, dict) for c in conditions):
            raise ConfigError(f"{self.path}: {name}: conditions is {short(conditions)}; it must "
                              f"be a list of mappings")
        conditions = [{"kind": "codes"} | condition for condition in conditions]
        for condition in conditions:
            if condition["kind"] == "codes":
                if above is None:
                    raise ConfigError(f"{self.path}: {name} is the top of the chain and has no "
                                      f"level above")
                above.check_generator(f"{self.path}: {name}")
                self._fill(f"{name}: conditions", condition,
                           {"level": above.level, "num_codes": above.num_codes,
                            "books": above.books})
        return conditions

    def _fill(self, name: str, values: dict, derived: dict):
        for key, value in derived.items():
            if values.setdefault(key, value) != value:
                raise ConfigError(f"{self.path}: {name}: {key} is {short(values[key])}, but the "
                                  f"chain says {short(value)}")
