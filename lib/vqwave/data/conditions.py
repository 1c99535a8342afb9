"""The inputs of the generators' conditions in training: one function for each kind of condition.
The function makes the input of the frames of a window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..config import WHOLE_SHARE, CodesAbove, GeneratorConfig, Labels, ScoreAbove
from ..io import labels
from . import codes
from .codes import CodeTrack


@dataclass(frozen=True)
class Span:
    """`frames` frames of a track from frame `start` on."""

    track: CodeTrack
    start: int
    frames: int

    def read(self, books: int, before: int = 0) -> np.ndarray:
        """These frames and the `before` frames before them: int32 [before + frames, books]."""
        return codes.read_frames(self.track.codes, self.track.first + self.start - before,
                                 before + self.frames, books)

    def seconds(self, level: int) -> np.ndarray:
        """The times of these frames in the track without transposition: float64 [frames]."""
        samples = self.track.start + level * (self.start + np.arange(self.frames))
        return samples * 2 ** (self.track.shift / 12) / self.track.track.sample_rate


def window_above(condition: CodesAbove, generator: GeneratorConfig,
                 spans: Sequence[Span]) -> np.ndarray:
    """The frames of the level above for a window of these spans and its halo: int32 [length / ratio
    + 2·halo, books above], with the pad token outside a track.
    """
    halo, ratio, parts = generator.halo, generator.ratio, []
    for number, span in enumerate(spans):
        track = span.track
        if track.above is None:
            raise ValueError(f"{generator.name} reads level {condition.level}, of which "
                             f"{track.codes} has no codes")
        first = span.start // ratio - (0 if number else halo)
        last = (span.start + span.frames) // ratio + (halo if number == len(spans) - 1 else 0)
        begin, count = max(0, first), track.frames_above
        inside = codes.read_frames(track.above, track.first_above + begin,
                                   min(count, last) - begin, condition.books)
        outside = (max(0, -first), max(0, last - count))
        parts.append(np.pad(inside, (outside, (0, 0)), constant_values=generator.pad_token))
    return np.concatenate(parts)


def labels_of(condition: Labels, generator: GeneratorConfig, spans: Sequence[Span]) -> np.ndarray:
    """The label of each frame: int32 [length, 1, 2]."""
    each = np.concatenate([labels.indices_of(span.track.track, condition, span.seconds(
        generator.level)) for span in spans])
    return np.stack([each, np.full_like(each, WHOLE_SHARE)], axis=-1)[:, None]


def score_of(condition: ScoreAbove, generator: GeneratorConfig,
             spans: Sequence[Span]) -> np.ndarray:
    """The rows of the score for a window and its halo: int32 [length + 2·halo, books + 1]."""
    parts, halo = [], condition.halo
    for number, span in enumerate(spans):
        track = span.track
        frame = generator.level / track.track.sample_rate
        before, after = halo * (not number), halo * (number == len(spans) - 1)
        begin = track.start / track.track.sample_rate + (span.start - before) * frame
        parts.append(track.score.in_frames(begin, frame, before + span.frames + after,
                                           condition.books))
    return np.concatenate(parts)


CONDITION_WINDOWS: dict[str, Callable] = {
    "codes": window_above, "labels": labels_of, "score": score_of}
"""The training input of each kind of condition: (condition, generator config, spans of a window) ->
int32 array of the condition's `shape`.
"""
