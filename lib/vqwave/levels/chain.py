"""A chain: the levels of a system, from coarse to fine, and the models of each level."""

import math
from itertools import pairwise
from typing import Annotated

import pydantic
from pydantic import Field

from ..errors import UserError
from .fields import Config, ConfigError, Name, Positive
from .names import SCORE, LevelNumber, level_name, read_level


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
