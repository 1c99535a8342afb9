"""Edits of a composed score: notes that are removed or added, and beats that are drawn again. The
composer does not read the edits, so the rest of the score stays as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..config import ScoreAbove
from ..config.roll import BANDS, SILENT, SOUNDING, STEPS_PER_BEAT, STRUCK
from ..errors import UserError

MOST_EDITS = 2000
"""The most rows of edits of one kind."""
LONGEST_REDRAWN = 64
"""The most beats that are drawn again in one go."""
ADDED = STRUCK + 2
"""The code of the strike of an added note."""
ATTACK = 1
"""The band of the attack of an added note, without which the note is performed too quietly."""


@dataclass(frozen=True)
class Edits:
    """Steps are counted from the first step of the composed upbeat, a quarter of a beat each.

    removed: (step, MIDI number) of strikes that are left out. added: (step, MIDI number, steps).
    redrawn: (first step, steps, number) of whole beats; another number draws other notes.
    """

    removed: tuple[tuple[int, int], ...] = ()
    added: tuple[tuple[int, int, int], ...] = ()
    redrawn: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def read(cls, edits) -> "Edits":
        """The edits in a mapping of these lists. Raises `UserError` for other values."""
        widths = {"removed": 2, "added": 3, "redrawn": 3}
        if not isinstance(edits, Mapping) or edits.keys() - widths:
            raise UserError(f"edits must have the lists {', '.join(widths)}, and no others")
        for name, rows in edits.items():
            if (not isinstance(rows, list | tuple) or len(rows) > MOST_EDITS or any(
                    not isinstance(row, list | tuple) or len(row) != widths[name]
                    or any(type(x) is not int or not 0 <= x < 1 << 31 for x in row)
                    for row in rows)):
                raise UserError(f"edits: {name} must be at most {MOST_EDITS} rows of "
                                f"{widths[name]} whole numbers of at least 0")
        read = cls(**{name: tuple(map(tuple, rows)) for name, rows in edits.items()})
        if any(first % STEPS_PER_BEAT or steps % STEPS_PER_BEAT
               or not 0 < steps <= LONGEST_REDRAWN * STEPS_PER_BEAT
               for first, steps, _ in read.redrawn):
            raise UserError(f"edits: redrawn must be whole beats, at most {LONGEST_REDRAWN}")
        return read

    def redraw_at(self, step: int) -> tuple[int, int]:
        """(steps, number) of what is drawn again from this step on; (0, 0): nothing."""
        return next(((steps, number) for first, steps, number in reversed(self.redrawn)
                     if first == step), (0, 0))

    def apply(self, codes: np.ndarray, before: np.ndarray, start: int) -> np.ndarray:
        """Steps with these edits: int32 [batch, n, books], as `codes`, which begin with step
        `start`. before: the edited codes of the step before, int32 [batch, 1, books]; or of none.
        """
        if self == Edits():
            return codes
        codes, notes = codes.copy(), codes.shape[2] - BANDS
        stop = start + codes.shape[1]
        for step, note in self.removed:
            if start <= step < stop and 0 <= (book := note - ScoreAbove.LOWEST) < notes:
                here = codes[:, step - start]
                here[:, book] = SILENT
                here[~(here[:, :notes] >= STRUCK).any(1), notes:] = SILENT  # the note's attack
        for first, note, steps in self.added:
            if not 0 <= (book := note - ScoreAbove.LOWEST) < notes:
                continue
            for step in range(max(first, start), min(first + steps + 1, stop)):
                here = codes[:, step - start, book]
                here[here == SOUNDING] = SILENT  # of a composed note, which this note ends
                if step < first + steps:
                    here[here == SILENT] = SOUNDING
            if start <= first < stop:
                here = codes[:, first - start]
                here[:, book] = ADDED
                here[(here[:, notes:] < STRUCK).all(1), notes + ATTACK] = STRUCK
        last = before[:, -1, :notes] if before.shape[1] else np.zeros_like(codes[:, 0, :notes])
        for here in codes[..., :notes].swapaxes(0, 1):
            here[(here == SOUNDING) & (last == SILENT)] = SILENT  # its strike is removed
            last = here
        return codes


def redraw(level):
    """Compose the beats that an edit draws again from the next step on, and return to that step.
    level: a `ScoreLevel`.
    """
    state, steering = level.state, level.steering
    steps, number = steering.edits.redraw_at(level.stop)
    if not steps or level.redrawing:
        return
    level.redrawing, request = number + 1, steering.section
    level.state = replace(state, sections=[*state.sections], line=state.line.copy(),
                          prompt=state.prompt[:0])
    for _ in range(steps // STEPS_PER_BEAT):
        level.sample(None)
    state.redrawn = level.state.codes[:, -steps:]
    level.state, level.redrawing, steering.section = state, 0, request
