"""Conditions: what a model is given beside its own past, such as the level above or labels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field

from .fields import Books, CodeCount, Config, Positive, Real, Text, check_odd, default_kind

LayerCount = Annotated[int, Field(strict=True, ge=1, le=100)]
Dilations = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=4096)], ...],
                      Field(min_length=1, max_length=100)]
Share = Annotated[Real, Field(ge=0, lt=1)]


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
        check_odd("kernel_size", self.kernel_size)
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

Condition = Annotated[CodesAbove | Labels, Field(discriminator="kind"), default_kind("codes")]
