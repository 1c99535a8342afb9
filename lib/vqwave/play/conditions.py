"""The inputs of the generators' conditions in a stream: one function for each kind of condition.
The function makes the input of some frames of one level, of the condition's `shape`.
"""

from collections.abc import Callable

import numpy as np

from ..config import CodesAbove, Labels, ScoreAbove


def frames_above(level, condition: CodesAbove, start: int, count: int) -> np.ndarray:
    """The frames of the level above, with a halo: int32 [batch, count / ratio + 2·halo, books
    above]. Samples the level above as far as needed.
    """
    begin, end = level.span(start, start + count)
    level.source.fill(end)
    return level.source.window(begin, end, level.config.pad_token)


def mixed_labels(level, condition: Labels, start: int, count: int) -> np.ndarray:
    """The labels of each frame, see `Mixture.pairs`: int32 [batch, count, n, 2]."""
    return level.state.labels.pairs(start, count)


def score_rows(level, condition: ScoreAbove, start: int, count: int) -> np.ndarray:
    """The score of these frames and their halo: int32 [batch, count + 2·halo, books + 1]."""
    halo = condition.halo
    if level.composer is not None:
        return level.composer.in_frames((start - halo) * level.level, count + 2 * halo, level.level)
    rows = np.zeros((level.batch, count + 2 * halo, condition.books + 1), np.int32)
    rows[..., -1] = condition.no_score
    return rows


CONDITION_INPUTS: dict[str, Callable] = {
    "codes": frames_above, "labels": mixed_labels, "score": score_rows}
"""The function that makes the input of each kind of condition: (`level.Level`, condition, first
frame, frames) -> int32 [batch, …].
"""
