"""The trained models of a chain: finds them in their folders, checks them, loads engines."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError, check_name
from ..io import defaults, weights
from ..levels import level_name
from ..presets import load_preset
from . import engine as engines
from . import pitches
from .chain import Engines


class ChainModels:
    """The weights of a chain and their engines, loaded when used. See `api.VQWave`."""

    def __init__(self, codecs=None, generators=None, engine: str = "onnx",
                 epoch: int | str | None = None, preset=None):
        self.engine = check_name("engine", engine, engines.ENGINES)
        self.epoch, self.preset = epoch, None if preset is None else load_preset(preset)
        self._given = codecs
        self._codecs, self._generators = defaults.folders(codecs, generators, self.preset, epoch)
        self.chain = weights.chain(self._generators, self.preset)
        self._sets: dict[str, weights.WeightSet] = {}
        self._engines = {}
        self._others: dict[str, ChainModels] = {}
        self._pitches: dict[int, np.ndarray | None] = {}

    def open(self, generators) -> "ChainModels":
        """The models of another folder of generators, for the same engine. The codecs come from
        that folder if it holds them, otherwise from the folder that this object was given, or from
        the shipped codecs. Raises `UserError` if there is no such folder.
        """
        key = os.path.abspath(generators)
        if key not in self._others:
            chain = weights.chain(weights.existing_folder(generators))
            own_codecs = defaults.plays_own_codecs(Path(generators), chain)
            self._others[key] = type(self)(generators if own_codecs else self._given, generators,
                                           self.engine)
        return self._others[key]

    def chain_engines(self, level: int | None = None, keep: int = 0, encoded: Sequence[int] = ()
                      ) -> Engines:
        """The engines of the chain down to a level (None: see `ending`). Raises `UserError` for
        models that do not fit together.

        keep: the level whose codes a variation keeps; 0: no variation. encoded: the levels whose
        codes come from a recording (prompt or variation).
        """
        level = self.ending(level)
        codec = self.weight_set(self.chain.codecs[level])
        codec.config.check_codes()
        generators = {x: self.weight_set(self.chain.generator(x))
                      for x in self.chain.generated(level, keep)}
        chain = list(generators.values())
        engines.check_chain(codec, chain, keep)
        heard = [x.config.source_level for x in chain if x.config.hears]
        others = [self.weight_set(self.chain.codecs[x]) for x in dict.fromkeys([*encoded, *heard])]
        for other in others:
            if (x := other.config.level) in generators:
                engines.check_codec(generators[x], other)
            elif chain[0].config.source:
                engines.check_source(chain[0].config, other.config)
        engines.check_trained_on([codec, *others], chain)
        return Engines(self.codec(level), [self.generator(x) for x in generators],
                       {x: self.codec(x) for x in heard}, self)

    def pitches(self, level: int) -> np.ndarray | None:
        """The power of each pitch class in each code of a level, see `pitches.of_codec`. The first
        call measures, which takes some seconds.
        """
        if level not in self._pitches:
            self._pitches[level] = pitches.of_codec(self.codec(level))
        return self._pitches[level]

    @property
    def sample_rate(self) -> int:
        """Samples per second; the same for all models of the chain."""
        return self.chain.sample_rate

    def ending(self, level: int | str | None, keep: int | None = None) -> int:
        """The level to decode: `level`; or, for None, the chain's default; or, for "all", the
        finest level with a generator. For a variation that keeps level `keep`, the default is
        always below `keep`. A chain that lacks weights ends above the first level without weights,
        unless `level` names one. A line on stderr then names what is missing.
        """
        chain, last, missing = self.chain, None, []
        if level is not None and level != "all":
            return chain.check_level(level)
        end = (min(chain.generators, default=chain.bottom) if level == "all" else
               chain.ending if keep is None or chain.ending < keep else chain.below(keep))
        for x in chain.down_to(end):
            if keep and x >= keep:  # its codes are given
                continue
            if x in chain.generators and not self.has(chain.generators[x]):
                missing.append(chain.generators[x])
                break
            if self.has(chain.codecs[x]):
                last, missing = x, []
            else:
                missing.append(chain.codecs[x])
        if not missing or last is None:
            return end  # without weights of the first level, loading raises an error
        defaults.note(f"no weights of {' and '.join(missing)} in {self._generators}, so the chain "
                      f"ends at {level_name(last)}")
        return last

    def codec(self, level: int) -> engines.CodecEngine:
        """The codec of a level."""
        return self._load(self.chain.codecs[self.chain.check_level(level)])

    def generator(self, level: int) -> engines.GeneratorEngine:
        """The generator of a level."""
        return self._load(self.chain.generator(level))

    def has(self, name: str) -> bool:
        """Whether a model of the chain has weights. Below its ending, a chain may lack some."""
        folder = self._codecs if name in self.chain.codecs.values() else self._generators
        return bool(weights.tags(folder, name))

    def weight_set(self, name: str) -> weights.WeightSet:
        """The weights of a model of the chain. Raises `UserError` if they are missing, or if their
        level or sample rate differs from the chain's.
        """
        if name not in self._sets:
            codecs = {codec: level for level, codec in self.chain.codecs.items()}
            levels = codecs | {g: x for x, g in self.chain.generators.items()}
            folder = self._codecs if name in codecs else self._generators
            epoch = None if name in codecs and self.chain.generators else self.epoch
            weight_set = (weights.find(folder, name, epoch) if self.preset is None
                          else weights.find_trained(folder, name, self.preset, epoch))
            rate = weight_set.config.sample_rate if name in codecs else self.sample_rate
            if rate != self.sample_rate:
                raise UserError(f"{name} has a sample rate of {rate} Hz, but the chain has "
                                f"{self.sample_rate} Hz")
            if weight_set.config.level != levels.get(name, weight_set.config.level):
                raise UserError(f"{name} is of level {level_name(weight_set.config.level)}, "
                                f"but the chain has it at level {level_name(levels[name])}")
            self._sets[name] = weight_set
        return self._sets[name]

    def _load(self, name: str):
        if name not in self._engines:
            is_codec = name in self.chain.codecs.values()
            load = engines.CodecEngine if is_codec else engines.GeneratorEngine
            self._engines[name] = load(self.weight_set(name), self.engine)
        return self._engines[name]
