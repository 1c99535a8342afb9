"""Generators: sampling, and the model of one level's frames."""

from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from ..codecs.codec import CodecConfig
from ..codecs.labels import Labels
from ..levels import fields
from ..levels.conditions import ConditionConfig
from ..levels.fields import Config, ConfigError, Name, Positive, replace, short, validate
from ..levels.kinds import Kinds, import_kinds
from .codes_above import CodesAbove
from .cores import CoreConfig
from .lstm import LSTMCore
from .sound_above import SoundAbove

import_kinds(__package__)
CONDITIONS = Kinds(ConditionConfig, "codes")
CORES = Kinds(CoreConfig, "lstm")
MOST_GUIDANCE = 10.0


class Sampling(Config):
    """The sampling of codes. Temperature 0 takes the likeliest code; top_k 0 and top_p 1 keep all
    codes. guidance (Ho and Salimans 2022): the logits are u + guidance · (l − u), with the logits l
    with labels and u without; 1 is as trained.
    """

    temperature: fields.Weight = 1.0
    top_k: fields.Whole = 0
    top_p: Annotated[fields.Real, Field(gt=0, le=1)] = 1.0
    guidance: Annotated[fields.Real, Field(ge=1, le=MOST_GUIDANCE)] = 1.0


class GeneratorConfig(Config):
    """P(frame_t | frame_<t, conditions) of one level."""

    kind: Literal["generator"] = "generator"
    name: Name
    level: Positive
    num_codes: fields.CodeCount
    books: fields.BookCount = 1
    core: Annotated[Any, CORES] = LSTMCore()
    conditions: tuple[Annotated[Any, CONDITIONS], ...] = ()
    sampling: Sampling = Sampling()

    @pydantic.model_validator(mode="after")
    def _check(self):
        inputs = [condition.input for condition in self.conditions]
        if len(set(inputs)) < len(inputs):
            raise ValueError(f"two conditions have the same input: {', '.join(inputs)}")
        if self.above and (self.source_level == self.level or self.source_level % self.level):
            raise ValueError(f"the level above, {self.source_level}, must be a multiple of the "
                             f"generator's level, {self.level}")
        self.core.check(self)
        return self

    @property
    def above(self) -> CodesAbove | SoundAbove | None:
        """The condition that reads the level above, or None at the top of a chain."""
        return next((c for c in self.conditions if c.reads_above), None)

    @property
    def source(self) -> CodesAbove | None:
        """`above`, if it reads codes."""
        return self.above if isinstance(self.above, CodesAbove) else None

    @property
    def hears(self) -> bool:
        """Whether it reads the sound of the level above, instead of its codes."""
        return isinstance(self.above, SoundAbove)

    @property
    def reads(self) -> list[int]:
        """The levels that the conditions read."""
        return [c.level for c in self.conditions if hasattr(c, "level")]

    @property
    def labels(self) -> Labels | None:
        return next((c for c in self.conditions if isinstance(c, Labels)), None)

    @property
    def learns_parts(self) -> bool:
        """Whether the labels are parts of tracks, which held-out tracks do not have."""
        return self.labels is not None and self.labels.are_parts

    def with_labels(self, labels: Labels | None) -> Self:
        """The same config with these labels; None: without labels."""
        conditions = [labels if c is self.labels else c for c in self.conditions]
        if self.labels is None:
            conditions.append(labels)
        return replace(self, conditions=[c for c in conditions if c is not None])

    def is_guided(self, sampling: Sampling) -> bool:
        """Whether codes are drawn from logits with labels and logits without."""
        return self.labels is not None and sampling.guidance != 1

    @property
    def source_level(self) -> int:
        """Samples per frame of the level above; 0 at the top of a chain."""
        return self.above.level if self.above else 0

    @property
    def ratio(self) -> int:
        """Steps of this level per source frame; 0 at the top of a chain."""
        return self.source_level // self.level

    @property
    def context_channels(self) -> int:
        """Channels that the conditions add to the input of each step."""
        return sum(c.channels for c in self.conditions)

    @property
    def states(self) -> dict[str, tuple[int, ...]]:
        """The core's states (`CoreConfig.states`)."""
        return self.core.states(self.books)

    @property
    def start_token(self) -> int:
        """The code of the frame before the first frame of a piece."""
        return self.num_codes

    @property
    def pad_token(self) -> int:
        """The source code of frames outside the piece."""
        return self.source.num_codes if self.source else 0

    @property
    def halo(self) -> int:
        """The receptive field of the context on either side, in source frames; 0 at the top."""
        if self.hears:
            return -(-self.above.halo // self.ratio)
        return self.above.halo if self.above else 0


def validate_model(values, who: str = "config") -> CodecConfig | GeneratorConfig:
    """A model's config from a mapping whose `kind` is codec or generator."""
    kinds = {"codec": CodecConfig, "generator": GeneratorConfig}
    kind = values.get("kind") if isinstance(values, dict) else values
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"{who}: kind is {short(kind)}; it must be codec or generator")
    return validate(kinds[kind], values, who)
