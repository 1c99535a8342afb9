"""What a stream gives its generators' conditions: one function for each kind of the config's
`conditions`.

Each makes the input of some frames of one level, as the condition's `shape` says. The level above
is in the chain; any other value is chosen by the caller, by the name of the input: one for all
pieces, or one for each piece of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..config import CodesAbove, GeneratorConfig, Labels
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
    return level.labels.pairs(start, count)


FEEDS: dict[str, Callable] = {"codes": frames_above, "labels": mixed_labels}
"""What makes the input of each kind of condition: (`stream.Level`, condition, first frame, frames)
-> int32 [batch, …].
"""


def check_chosen(configs: Sequence[GeneratorConfig], chosen: Mapping | None, batch: int = 1,
                 default: int | None = None) -> dict[str, np.ndarray]:
    """What a caller chose for the conditions of a chain, by the inputs' names: int32 [batch] each,
    of labels what `read_labels` makes of it.

    default: the value of a condition for which none was chosen; None: each must be chosen. Labels
    need not be: without one the music is like any of them.

    Raises:
        UserError: a condition has no value, a value no condition, or it is none that there is to
            choose.
    """
    chosen = dict(chosen or {})
    wanted = [(condition, config.name) for config in configs for condition in config.conditions
              if FEEDS[condition.kind] in (chosen_value, mixed_labels)]
    names = list(dict.fromkeys(condition.input for condition, _ in wanted))
    for name in chosen:
        if name == Labels.input and name not in names:
            find_labels(configs)
        if name not in names:
            there = f"there are {', '.join(sorted(names))}" if names else "it has none to choose"
            raise UserError(f"the chain has no condition called {name!r}; {there}")
    values = {}
    for condition, generator in wanted:
        given = chosen.get(condition.input)
        values[condition.input] = (
            read_labels(given, condition, batch) if isinstance(condition, Labels)
            else _read_number(default if given is None else given, condition, generator, batch))
    return values


def _read_number(given, condition, generator: str, batch: int) -> np.ndarray:
    """The value of a condition that is a number: int32 [batch]."""
    name, most = condition.input, condition.choices - 1
    if given is None:
        raise UserError(f"{generator} wants a value for its condition {name!r}, from 0 to {most}")
    value = np.asarray(given)
    if value.dtype.kind not in "iu" or value.shape not in ((), (1,), (batch,)):
        raise UserError(f"{name} is {given!r}; it must be a whole number, or one for each of "
                        f"{batch} pieces")
    if value.min() < 0 or value.max() > most:
        raise UserError(f"{name} is {given!r}; {generator} knows 0 to {most}")
    return np.broadcast_to(value, (batch,)).astype(np.int32)
