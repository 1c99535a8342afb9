"""What a stream gives its generators' conditions: one function for each kind of the config's
`conditions`.

Each makes the input of some frames of one level, as the condition's `shape` says. The level above
is in the chain. The caller chooses labels, by the name of the input: the same for all pieces, or
others for each piece of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..config import CodesAbove, GeneratorConfig, Labels, ScoreAbove
from ..errors import UserError
from .labels import draw_labels, find_labels, read_labels


def frames_above(level, condition: CodesAbove, start: int, count: int) -> np.ndarray:
    """The frames of the level above and their halo; the level above is sampled up to there first:
    int32 [batch, count / ratio + 2·halo, books above].
    """
    begin, end = level.span(start, start + count)
    level.source.fill(end)
    return level.source.window(begin, end, level.config.pad_token)


def mixed_labels(level, condition: Labels, start: int, count: int) -> np.ndarray:
    """The labels of each frame: int32 [batch, count, n, 2]."""
    return level.state.labels.pairs(start, count)


def score_rows(level, condition: ScoreAbove, start: int, count: int) -> np.ndarray:
    """The score of these frames and their halo: int32 [batch, count + 2·halo, books + 1]."""
    halo = condition.halo
    if level.score is not None:
        return level.score.in_frames((start - halo) * level.level, count + 2 * halo, level.level)
    rows = np.zeros((level.batch, count + 2 * halo, condition.books + 1), np.int32)
    rows[..., -1] = condition.no_score
    return rows


FEEDS: dict[str, Callable] = {"codes": frames_above, "labels": mixed_labels, "score": score_rows}
"""The function that makes the input of each kind of condition: (`level.Level`, condition, first
frame, frames) -> int32 [batch, …].
"""


READERS: dict[str, Callable] = {"labels": read_labels}
"""The function that validates a caller's value, for each kind of condition that has one: (value,
condition, batch) -> an array with a row for each piece, which `Level.chosen` holds.
"""


def check_chosen(configs: Sequence[GeneratorConfig], chosen: Mapping | None, batch: int = 1,
                 seed: int | None = None) -> dict[str, np.ndarray]:
    """What a caller chose for the conditions of a chain, by the inputs' names. Raises `UserError`
    for an unknown condition or a wrong value.

    seed: draws the tracks that new pieces sound like, where labels are tracks and none is chosen.
    """
    chosen = {name: value for name, value in (chosen or {}).items() if value is not None}
    conditions = {condition.input: condition for config in configs
                  for condition in config.conditions if condition.kind in READERS}
    for name in chosen.keys() - conditions.keys():
        if name == Labels.input:
            find_labels(configs)
        others = f"there are {', '.join(conditions)}" if conditions else "it has none to choose"
        raise UserError(f"the chain has no condition called {name!r}; {others}")
    labels = conditions.get(Labels.input)
    if seed is not None and labels and labels.of == "track":
        chosen = {Labels.input: draw_labels(labels, seed, batch)} | chosen
    return {name: READERS[condition.kind](chosen.get(name), condition, batch)
            for name, condition in conditions.items()}
