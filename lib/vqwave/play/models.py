"""The trained models of a chain: found in their folders, checked, and loaded into engines."""

from __future__ import annotations

import os

import numpy as np

from .. import config
from ..errors import UserError
from ..io import weights
from . import engine as engines
from . import pitches


class Models:
    """The sets of weights of a chain and the engines that play them, each loaded when it is used.

    See `api.load`. chain: the levels and the models that play them.
    """

    def __init__(self, codecs=None, generators=None, engine: str = "onnx",
                 epoch: int | str | None = None, default_choice: int | None = None, preset=None):
        self.engine = engines.check_engine(engine)
        self.epoch, self.default_choice = epoch, default_choice
        self.preset = None if preset is None else config.preset(preset)
        self._codecs, self._generators = weights.folders(codecs, generators, self.preset)
        self.chain = weights.chain(self._generators, self.preset)
        self._sets: dict[str, weights.WeightSet] = {}
        self._engines = {}
        self._others: dict[str, Models] = {}
        self._pitches: dict[int, np.ndarray | None] = {}

    def open(self, generators) -> Models:
        """The models of another folder of generators, for the same engine; with the codecs that are
        in it where there are some, else with these.
        """
        key = os.path.abspath(generators)
        if key not in self._others:
            chain = weights.chain(generators)
            own = any(weights.tags(generators, name) for name in chain.codecs.values())
            self._others[key] = type(self)(generators if own else self._codecs, generators,
                                       self.engine, default_choice=self.default_choice)
        return self._others[key]

    def chain_engines(self, level: int | None = None) -> tuple:
        """What plays the chain down to a level (None: see `ending`): the codec, and the generators
        from the top down. Raises `UserError` where they do not fit.
        """
        level = self.ending(level)
        names = self._generators_of(x for x in self.chain.sizes if x >= level)
        codec, generators = (self.weight_set(self.chain.codecs[level]),
                             [self.weight_set(name) for name in names])
        engines.check_chain(codec, generators)
        engines.check_learnt([codec], generators)
        return self.codec(level), [self._load(name, engines.load_generator) for name in names]

    def pitches(self, level: int) -> np.ndarray | None:
        """The power of each pitch class in each code of a level, see `pitches.of_codec`; measured
        once, which takes some seconds.
        """
        if level not in self._pitches:
            self._pitches[level] = pitches.of_codec(self.codec(level))
        return self._pitches[level]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the chain's generators were trained with."""
        configs = [self.weight_set(name).config for name in self.chain.generators.values()]
        return next((c.labels.names for c in configs if c.labels), ())

    @property
    def sample_rate(self) -> int:
        """Samples per second, of every model of the chain."""
        return self.chain.sample_rate

    @property
    def level(self) -> int:
        """Where a chain ends unless told otherwise."""
        return self.chain.ending

    def ending(self, level: int | None, keep: int | None = None) -> int:
        """`level`, or where it is None the chain's own (`level`); a variation that keeps as much
        ends one level below what it keeps.
        """
        if level is None:
            return self.level if keep is None or self.level < keep else self.chain.below(keep)
        return self.chain.check_level(level)

    def codec(self, level: int) -> engines.CodecEngine:
        """The codec of a level."""
        return self._load(self.chain.codecs[self.chain.check_level(level)], engines.load_codec)

    def generator(self, level: int) -> engines.GeneratorEngine:
        """The generator of a level."""
        return self._load(self.chain.generator(level), engines.load_generator)

    def _generators_of(self, levels) -> list[str]:
        """The generators' names of these levels. Raises `UserError` where one has none."""
        return [self.chain.generator(level) for level in levels]

    def _codec_of_codes(self, level: int) -> engines.CodecEngine:
        """The codec of a level. Raises `UserError` where it makes no codes."""
        codec = self.codec(level)
        codec.config.check_codes()
        return codec

    def weight_set(self, name: str) -> weights.WeightSet:
        """The set of weights of a model of the chain. Raises `UserError` where there is none, or
        its rate is another.
        """
        if name not in self._sets:
            if name in self.chain.codecs.values():
                one = self._find(self._codecs, name, None if self.chain.generators else self.epoch)
                expected = next(level for level, codec in self.chain.codecs.items()
                                if codec == name)
                if one.config.sample_rate != self.sample_rate:
                    raise UserError(f"{name} is of {one.config.sample_rate} Hz, but the chain of "
                                    f"{self.sample_rate} Hz")
            else:
                one = self._find(self._generators, name, self.epoch)
                expected = next((level for level, g in self.chain.generators.items() if g == name),
                                None)
            if expected is not None and one.config.level != expected:
                raise UserError(f"{name} is of level {one.config.level}, but the chain has it at "
                                f"level {expected}")
            self._sets[name] = one
        return self._sets[name]

    def _find(self, folder, name, epoch) -> weights.WeightSet:
        return (weights.find(folder, name, epoch) if self.preset is None
                else weights.find_trained(folder, name, self.preset, epoch))

    def _load(self, name, load):
        if name not in self._engines:
            self._engines[name] = load(self.weight_set(name), self.engine)
        return self._engines[name]
