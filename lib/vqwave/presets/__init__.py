"""Presets: a YAML file for each whole system, its chain, its models and how they are trained."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pydantic

from ..codecs.codec import CodecConfig
from ..generators.generator import CONDITIONS, GeneratorConfig
from ..levels.chain import ChainConfig, ChainLevel
from ..levels.conditions import ConditionConfig
from ..levels.fields import Config, ConfigError, Name, Text, load_yaml, merge, short, validate
from ..levels.training import DataConfig, TrainingConfig

PRESETS = Path(__file__).parent
DEFAULT_PRESET = "vqwave"
"""The preset of the shipped weights, and of trainings from random weights."""


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
            condition = {"kind": CONDITIONS.default} | condition
            kind = CONDITIONS.configs.get(str(condition["kind"]), ConditionConfig)
            if kind.reads_above:
                if above is None:
                    raise ConfigError(f"{who} is the top of the chain and has no level above")
                above.check_generator(who)
                condition = _complete(condition, f"{who}: conditions", kind.of_chain(codec, above))
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


def load_preset(name=DEFAULT_PRESET) -> Preset:
    """A preset by name, or by the path of its YAML file."""
    name = os.fspath(name)
    if name in preset_names():
        return Preset(PRESETS / f"{name}.yml")
    if name.endswith((".yml", ".yaml")) or os.sep in name:
        return Preset(Path(name))
    raise ConfigError(f"no preset is called {name!r}; there are {', '.join(preset_names())}, or "
                      f"name a file")
