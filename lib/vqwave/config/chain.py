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
            near = difflib.get_close_matches(short(key).lower(), known, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{path}: unknown key {short(key)}; did you mean {near!r}? Known: "
                              f"{', '.join(known)}")
    file = validate(_PresetFile, values, os.fspath(path))
    models, training = {}, {}

    def agree(name, own: dict, derived: dict):
        """Fill in what the chain says; what the model says itself must be the same."""
        for key, value in derived.items():
            if own.setdefault(key, value) != value:
                raise ConfigError(f"{path}: {name}: {key} is {short(own[key])}, but the chain "
                                  f"says {short(value)}")

    def build(kind, name, own, derived):
        own = dict(own)
        learning = own.pop("training", {})
        if not isinstance(learning, dict):
            raise ConfigError(f"{path}: {name}: training is {short(learning)}; it must be a "
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
            raise ConfigError(f"{path}: {one.generator}: conditions is {short(given)}; it must be "
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
