"""Conditions: what a model knows besides its own past, such as the level above or labels."""

from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field

from ..errors import first_names
from .fields import (
    BookCount,
    CodeCount,
    Config,
    Dilations,
    KernelSize,
    Positive,
    Share,
    Text,
    default_kind,
)


class ConditionConfig(Config):
    """A named input of a generator, which becomes `channels` features of each step.

    The conditions of a generator have inputs of different names. An input is int32 [batch, *shape].
    """

    input: ClassVar[str]
    """The name of the input."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of the input without the batch axis; None is an axis as long as the window."""
        raise NotImplementedError


class CodesAbove(ConditionConfig):
    """The frames of the level above, through a dilated CNN, at the generator's own rate."""

    input = "source"
    kind: Literal["codes"] = "codes"
    level: Positive
    num_codes: CodeCount
    books: BookCount = 1
    channels: Positive = 128
    dilations: Dilations = (1, 2, 4, 8, 16, 32)
    kernel_size: KernelSize = 3

    @property
    def halo(self) -> int:
        """Frames that the context of a frame depends on, to either side."""
        return sum(self.dilations) * (self.kernel_size // 2)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.books


WHOLE_SHARE = 1 << 16
"""The sum of the shares of a frame's labels."""


class Labels(ConditionConfig):
    """The folder or a tag of a track, or the track itself, as a learnt vector for each label.

    The input has the labels of each frame: [T, labels, 2] of (number of the label, share), the
    shares in `WHOLE_SHARE`ths.

    of: where labels come from. A piece without a label plays like a "track" that its seed draws.
    names: the vocabulary, in the order of the labels' numbers; empty: that of the training data.
    channels: of the vector. dropout: the share of training windows without a label, so that the
    model also plays without one, and for guidance.
    """

    input = "label"
    kind: Literal["labels"] = "labels"
    of: Literal["folder", "genre", "artist", "album", "track"] = "folder"
    names: Annotated[tuple[Text, ...], Field(max_length=4096)] = ()
    channels: Positive = 32
    dropout: Share = 0.1

    @pydantic.model_validator(mode="after")
    def _check(self):
        if len(set(self.names)) < len(self.names):
            raise ValueError("names holds a label twice")
        return self

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, None, 2

    @property
    def none(self) -> int:
        """The number that means no label."""
        return len(self.names)

    @property
    def are_tracks(self) -> bool:
        """Whether each track is a label of its own, so that the names are those of one corpus."""
        return self.of == "track"

    @property
    def summary(self) -> str:
        return f"labels by {self.of} ({first_names(self.names)})"


class ScoreAbove(ConditionConfig):
    """The notes and beats of the music at the generator's own rate, through a dilated CNN. The
    input has a row for each frame. A book of the score is 0 where it is silent, else 1 + the frames
    since it was struck. The beat's phase, or `no_score`, is the last number.

    channels: features of a frame. The convolutions see `halo` frames to either side. dropout: the
    share of training windows without a score, so that the model also plays without one.
    """

    input = "score"
    kind: Literal["score"] = "score"
    books: BookCount = 64
    channels: Positive = 128
    dilations: Dilations = (1, 2, 4)
    kernel_size: KernelSize = 3
    dropout: Share = 0.12

    LOWEST: ClassVar[int] = 28
    PHASES: ClassVar[int] = 16
    """Parts of a beat that a phase is counted in."""
    OLDEST: ClassVar[int] = 255
    """Frames after which the age of a note is no longer counted."""
    RINGING: ClassVar[int] = 64
    """Frames for which an attack sounds."""

    @property
    def halo(self) -> int:
        """Frames that the context of a frame depends on, to either side."""
        return sum(self.dilations) * (self.kernel_size // 2)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.books + 1

    @property
    def no_score(self) -> int:
        """The phase that means that there is no score."""
        return self.PHASES


AnyCondition = Annotated[CodesAbove | Labels | ScoreAbove, Field(discriminator="kind"),
                         default_kind("codes")]
