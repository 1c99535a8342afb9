"""The way back of a score: a change is heard from the first step that is not performed yet, so the
steps from there on are composed again.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ..dsp.beats import STEPS_PER_BEAT


@dataclass(kw_only=True)
class Mark:
    """What a composer knew before a beat. start: the first step of the beat. request: see
    `Steering.section`. sections: the number of sections that had begun. The other fields are those
    of `ScoreState`.
    """

    start: int
    request: str
    sections: int
    theme: int
    began: int
    until: int
    previous: np.ndarray
    memory: list[np.ndarray]
    line: np.ndarray
    redrawn: np.ndarray

    @classmethod
    def of(cls, level) -> Self:
        """The mark of the next beat. level: a `ScoreLevel`."""
        x = level.state
        return cls(start=level.stop, request=level.steering.section, sections=len(x.sections),
                   theme=x.theme, began=x.began, until=x.until, previous=x.previous,
                   memory=x.memory, line=x.line.copy(), redrawn=x.redrawn)


def first_open(level, sample: int) -> int:
    """The first step that a change still reaches: the first that begins at `sample` or later, but
    none before the last bar at which a change began. level: a `ScoreLevel`.
    """
    state = level.state
    step = state.first + int(np.searchsorted(state.times, sample))
    return min(max(step, state.landed), level.stop)


def next_bar(level, sample: int) -> int | None:
    """The first step of the next bar that a change still reaches; None if no such bar is composed.
    The arguments are those of `first_open`.
    """
    starts = np.arange(first_open(level, sample), level.stop + 1)
    bars = starts[(starts - level.state.began) % level.steps_per_bar == 0]
    return int(bars[0]) if len(bars) else None


def settle(level, sample: int):
    """Forget the marks of beats that no change reaches. The arguments are those of `first_open`."""
    first = first_open(level, sample)
    level.state.marks = [x for x in level.state.marks if x.start + STEPS_PER_BEAT > first]


def compose_again(level, first: int):
    """Compose the steps from `first` on again, as many as are composed. Earlier steps of its beat
    keep their codes, edits and times, and the beat its loudness. level: a `ScoreLevel`.
    """
    state, steering, stop = level.state, level.steering, level.stop
    if first >= stop:
        return
    kept = first % STEPS_PER_BEAT
    number = [x.start for x in state.marks].index(first - kept)
    mark, later = state.marks[number], state.marks[number + bool(kept) :]
    begin = mark.start - state.first
    level.kept = state.codes[:, begin : begin + kept]
    state.marks = state.marks[:number]
    state.codes, state.edited = state.codes[:, :begin], state.edited[:, : begin + kept]
    if state.log_probs is not None:
        state.log_probs = state.log_probs[:, :begin]
    state.times = state.times[: begin + kept + 1]
    state.loudness = state.loudness[:, : begin // STEPS_PER_BEAT + 1 + bool(kept)]
    state.theme, state.began, state.until = mark.theme, mark.began, mark.until
    state.sections = state.sections[: mark.sections]
    state.previous, state.memory, state.redrawn = mark.previous, mark.memory, mark.redrawn
    state.line = mark.line.copy()
    # A section that was requested, and begins later, is requested again.
    request = steering.section or next((x.request for x in reversed(later) if x.request), "")
    if kept:
        steering.section = mark.request
        level.sample(None)
        level.kept = level.kept[:, :0]
    steering.section = request
    while level.stop < stop:
        level.sample(None)
