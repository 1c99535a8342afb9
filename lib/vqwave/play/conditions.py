"""What a stream gives its generators' conditions: one function for each kind of the config's
`conditions`.

Each makes the input of some frames of one level, as the condition's `shape` says. The level above
is in the chain. The caller chooses any other value, by the name of the input: one for all pieces,
or one for each piece of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..config import CodesAbove, GeneratorConfig, Labels, ScoreAbove
from ..errors import UserError
from .labels import find_labels, read_labels


def frames_above(level, condition: CodesAbove, start: int, count: int) -> np.ndarray:
    """The frames of the level above with their halo, sampled as far as that: int32 [batch, count /
    ratio + 2·halo, books above].
    """
    begin, end = level.span(start, start + count)
    level.source.fill(end)
    return level.source.window(begin, end, level.config.pad_token)


def chosen_value(level, condition, start: int, count: int) -> np.ndarray:
    """What the caller chose for each piece: int32 [batch]."""
    return np.broadcast_to(level.chosen[condition.input], (level.batch,))


def mixed_labels(level, condition: Labels, start: int, count: int) -> np.ndarray:
    """The labels of each frame: int32 [batch, count, n, 2]."""
    return level.state.labels.pairs(start, count)


def score_rows(level, condition: ScoreAbove, start: int, count: int) -> np.ndarray:
    """What the score says of these frames and their halo: int32 [batch, count + 2·halo, books +
    1].
    """
    halo = condition.halo
    if level.score is not None:
        return level.score.in_frames((start - halo) * level.level, count + 2 * halo, level.level)
    rows = np.zeros((level.batch, count + 2 * halo, condition.books + 1), np.int32)
    rows[..., -1] = condition.no_score
    return rows


FEEDS: dict[str, Callable] = {"codes": frames_above, "labels": mixed_labels, "score": score_rows}
"""What makes the input of each kind of condition: (`level.Level`, condition, first frame, frames)
-> int32 [batch, …].
"""


def check_chosen(configs: Sequence[GeneratorConfig], chosen: Mapping | None,
                 batch: int = 1) -> dict[str, np.ndarray]:
    """What a caller chose for the conditions of a chain, by the inputs' names: int32 [batch] each,
    of labels what `read_labels` makes of it. Only labels may be left out. Raises `UserError` for a
    missing, an unknown or a wrong value.
    """
    chosen = chosen or {}
    conditions = [(condition, config.name)
                  for config in configs for condition in config.conditions
                  if not isinstance(condition, CodesAbove | ScoreAbove)]
    names = {condition.input for condition, _ in conditions}
    for name in set(chosen) - names:
        if name == Labels.input:
            find_labels(configs)
        others = f"there are {', '.join(sorted(names))}" if names else "it has none to choose"
        raise UserError(f"the chain has no condition called {name!r}; {others}")
    return {condition.input: read_labels(chosen.get(condition.input), condition, batch)
            if isinstance(condition, Labels)
            else _read_number(chosen.get(condition.input), condition, generator, batch)
            for condition, generator in conditions}


def _read_number(value, condition, generator: str, batch: int) -> np.ndarray:
    """The value of a condition that is a number: int32 [batch]."""
    name, most, numbers = condition.input, condition.choices - 1, np.asarray(value)
    if value is None:
        raise UserError(f"{generator} wants a value for its condition {name!r}, from 0 to {most}")
    if (numbers.dtype.kind not in "iu" or numbers.shape not in ((), (1,), (batch,))
            or numbers.min() < 0 or numbers.max() > most):
        raise UserError(f"{name} is {value!r}; {generator} knows 0 to {most}: it must be a whole "
                        f"number, or one for each of {batch} pieces")
    return np.broadcast_to(numbers, (batch,)).astype(np.int32)
