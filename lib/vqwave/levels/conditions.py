"""Conditions: a model's inputs besides its own past, such as the level above or labels. Each makes
its input from a `View`, in training and in a piece that plays alike.
"""

from typing import Any, ClassVar, Protocol

import numpy as np

from .fields import Config


class View(Protocol):
    """The frames of a level in a piece that plays (`play.level.Level`) or in a training window
    (`data.windows.Window`), as far as conditions read them.
    """

    level: int

    def positions(self, start: int, count: int) -> np.ndarray:
        """The first sample of `count` frames from `start` on, from the beginning of the piece or of
        the track: int64 [batch, count].
        """

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

    reads_above: ClassVar[bool] = False
    """Whether it reads the level above."""

    @classmethod
    def of_chain(cls, own: Any, above: Any) -> dict[str, int]:
        """The keys that follow from the codecs of the generator's level and of the level above."""
        return {}

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        """The input for `count` frames from `start` on, with its halo."""
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The input's shape without the batch axis; None is an axis of the window's length."""
        raise NotImplementedError
