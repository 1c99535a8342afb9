"""The score as a condition."""

from typing import ClassVar, Literal

import numpy as np

from ..levels.conditions import ConditionConfig, View
from ..levels.fields import BookCount, Dilations, KernelSize, Positive, Share
from ..levels.names import SCORE


class ScoreAbove(ConditionConfig):
    """The notes and beats of the music at the generator's rate, through a dilated CNN. The input
    has a row for each frame. A book of the score is 0 if it is silent, otherwise 1 + the frames
    since its strike + `AGES` · its loudness. Then the phase in the beat, or `no_score`. The last
    numbers are the loudness of bands of the music around the beat, in dB above `QUIETEST`: what
    sounds when no note is written, such as ambience, is in them alone.

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
    LOUDNESS_BANDS: ClassVar[int] = len(EDGES) + 1
    QUIETEST: ClassVar[float] = -100.0
    """The least loudness of a band, in dBFS."""

    @property
    def halo(self) -> int:
        """The receptive field of the context on either side, in frames."""
        return sum(self.dilations) * (self.kernel_size // 2)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.books + 1 + self.LOUDNESS_BANDS

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        return view.score(start - self.halo, count + 2 * self.halo, self.books)

    @property
    def no_score(self) -> int:
        """The phase that means "no score"."""
        return self.PHASES
