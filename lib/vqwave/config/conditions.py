"""Conditions: a model's inputs besides its own past, such as the level above or labels. Each makes
its input from a `View`, in training and in a piece that plays alike.
"""

from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
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
from .levels import SCORE


class View(Protocol):
    """The frames of a level in a piece that plays (`play.level.Level`) or in a training window
    (`data.windows.Window`), as far as conditions read them: int32 [batch, frames, …].
    """

    level: int

    def codes_above(self, begin: int, end: int, pad: int) -> np.ndarray:
        """Frames begin … end - 1 of the level above; `pad` outside the piece."""

    def sound_above(self, begin: int, end: int) -> np.ndarray:
        """The sound of the level above in frames begin … end - 1 of this level: float32 [batch,
        frames, level]; 0 outside the piece.
        """

    def labels(self, start: int, count: int) -> np.ndarray:
        """The labels of `count` frames from `start` on, see `Labels`."""

    def score(self, start: int, count: int, books: int) -> np.ndarray:
        """The score in these frames, see `ScoreAbove`."""


class ConditionConfig(Config):
    """A named input of a generator, which gives `channels` features for each step.

    The inputs of a generator's conditions have different names. An input is [batch, *shape], of
    numbers of type `dtype`.
    """

    input: ClassVar[str]
    """The name of the input."""
    dtype: ClassVar[str] = "int32"

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        """The input for `count` frames from `start` on, with its halo."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The input's shape without the batch axis; None is an axis of the window's length."""
        raise NotImplementedError


class CodesAbove(ConditionConfig):
    """The frames of the level above, through a dilated CNN, up-sampled to the generator's rate."""

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
        """The receptive field of the context on either side, in frames of the level above."""
        return sum(self.dilations) * (self.kernel_size // 2)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.books

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        ratio = self.level // view.level
        return view.codes_above(start // ratio - self.halo, (start + count) // ratio + self.halo,
                                self.num_codes)


class SoundAbove(ConditionConfig):
    """The sound of the level above, through a dilated CNN at the generator's rate. The input has a
    row of samples for each frame. So a level restores detail of a waveform that it hears, and need
    not guess the phase of each partial.

    level: the level above. hop: samples of a frame of the generator. loudness: the frames on either
    side of a frame by whose loudness its sound is divided.
    """

    input = "sound"
    dtype = "float32"
    kind: Literal["sound"] = "sound"
    level: Positive
    channels: Positive = 128
    dilations: Dilations = (1, 2, 4, 1)
    kernel_size: KernelSize = 3
    first_kernel: KernelSize = 7
    loudness: Positive = 32
    hop: Positive

    @property
    def halo(self) -> int:
        """The receptive field of the context on either side, in frames of the generator."""
        return (self.loudness + self.first_kernel // 2
                + sum(self.dilations) * (self.kernel_size // 2))

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.hop

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        return view.sound_above(start - self.halo, start + count + self.halo)


WHOLE_SHARE = 1 << 16
"""The sum of the shares of a frame's labels."""


class Labels(ConditionConfig):
    """A learnt vector for each label: a track's folder, a tag, or a part of a track.

    The input holds the labels of each frame, [T, labels, 2], as (index of the label, share), where
    the shares add up to `WHOLE_SHARE`.

    of: the source of the labels. With "part", the labels are "folder/song/01", …, and each section
        of a score draws one.
    names: the vocabulary in the order of the indices; empty: taken from the training data.
    moods: names of parts that are alike by measurement, such as the loud ones, and their indices.
    channels: of the vector. dropout: the share of training windows without a label, so that the
    model also plays without a label, and for guidance.
    """

    input = "label"
    kind: Literal["labels"] = "labels"
    of: Literal["folder", "genre", "artist", "album", "part"] = "folder"
    names: Annotated[tuple[Text, ...], Field(max_length=65536)] = ()
    moods: dict[Text, tuple[int, ...]] = {}
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

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        return view.labels(start, count)

    @property
    def none(self) -> int:
        """The index that means "no label"."""
        return len(self.names)

    @property
    def are_parts(self) -> bool:
        """Whether the labels are parts of tracks, so that the names belong to one corpus."""
        return self.of == "part"

    @property
    def groups(self) -> dict[str, list[int]]:
        """The indices that each name stands for: of parts, the names of tracks, of their folders,
        and of moods.
        """
        if not self.are_parts:
            return {name: [number] for number, name in enumerate(self.names)}
        groups: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            places = name.split("/")
            for depth in range(1, len(places)):
                groups.setdefault("/".join(places[:depth]), []).append(number)
        return groups | {name: list(numbers) for name, numbers in self.moods.items()
                         if name not in groups}

    @property
    def tracks(self) -> list[int]:
        """The number of each label's track; of labels that are no parts, its index."""
        names = [name.rpartition("/")[0] if self.are_parts else name for name in self.names]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return [numbers[name] for name in names]

    @property
    def summary(self) -> str:
        return f"labels by {self.of} ({first_names(self.names)})"


class ScoreAbove(ConditionConfig):
    """The notes and beats of the music at the generator's rate, through a dilated CNN. The input
    has a row for each frame. A book of the score is 0 if it is silent, otherwise 1 + the frames
    since its strike + `AGES` · its loudness. Then the phase in the beat, or `no_score`. The last
    numbers are the loudness of `LEVELS` bands of the music around the beat, in dB above `QUIETEST`:
    what sounds when no note is written, such as ambience, is in them alone.

    channels: features of a frame. dropout: the share of training windows without a score. With
    0, as in preset vqwave, the model does not learn to play without one.
    """

    input = "score"
    kind: Literal["score"] = "score"
    level: ClassVar[int] = SCORE
    books: BookCount = 64
    channels: Positive = 128
    dilations: Dilations = (1, 2, 4)
    kernel_size: KernelSize = 3
    dropout: Share = 0.12

    LOWEST: ClassVar[int] = 28
    """The MIDI number of the first book."""
    PHASES: ClassVar[int] = 16
    """The number of phases in a beat."""
    OLDEST: ClassVar[int] = 255
    """The largest age of a note, in frames; older notes keep this age."""
    AGES: ClassVar[int] = OLDEST + 1
    """The number of ages."""
    RINGING: ClassVar[int] = 64
    """The number of frames in which an attack sounds."""
    EDGES: ClassVar[tuple[float, ...]] = (250.0, 1000.0, 4000.0)
    """The frequencies between the bands of loudness, in Hz."""
    LEVELS: ClassVar[int] = len(EDGES) + 1
    QUIETEST: ClassVar[float] = -100.0
    """The least loudness of a band, in dBFS."""

    @property
    def halo(self) -> int:
        """The receptive field of the context on either side, in frames."""
        return sum(self.dilations) * (self.kernel_size // 2)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.books + 1 + self.LEVELS

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        return view.score(start - self.halo, count + 2 * self.halo, self.books)

    @property
    def no_score(self) -> int:
        """The phase that means "no score"."""
        return self.PHASES


AnyCondition = Annotated[CodesAbove | SoundAbove | Labels | ScoreAbove, Field(discriminator="kind"),
                         default_kind("codes")]
