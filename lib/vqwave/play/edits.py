"""Edits of a composed score: notes that are removed or added, and beats that are drawn again. The
composer does not read the edits, so the rest of the score stays as it is.
"""

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field

from ..dsp.beats import STEPS_PER_BEAT
from ..generators import ScoreAbove
from ..generators.composer import BANDS, SILENT, SOUNDING, STRUCK
from ..levels import Config

ADDED = STRUCK + 2
"""The code of the strike of an added note."""
ATTACK = 1
"""The band of the attack of an added note, without which the note is performed too quietly."""
Step = Annotated[int, Field(strict=True, ge=0)]
Beat = Annotated[int, Field(strict=True, ge=0, multiple_of=STEPS_PER_BEAT)]
Beats = Annotated[int, Field(strict=True, gt=0, le=64 * STEPS_PER_BEAT, multiple_of=STEPS_PER_BEAT)]
Most = Field(max_length=2000)


class Edits(Config):
    """Steps are counted from the first step of the composed upbeat, a quarter of a beat each.

    removed: (step, MIDI number) of strikes that are left out. added: (step, MIDI number, steps).
    redrawn: (first step, steps, number) of whole beats; another number draws other notes.
    """

    removed: Annotated[tuple[tuple[Step, Step], ...], Most] = ()
    added: Annotated[tuple[tuple[Step, Step, Step], ...], Most] = ()
    redrawn: Annotated[tuple[tuple[Beat, Beats, Step], ...], Most] = ()

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
    steps, number = next((x[1:] for x in reversed(steering.edits.redrawn) if x[0] == level.stop),
                         (0, 0))
    if not steps or level.redrawing:
        return
    level.redrawing, request = number + 1, steering.section
    level.state = replace(state, sections=[*state.sections], line=state.line.copy(),
                          prompt=state.prompt[:0], marks=[])
    for _ in range(steps // STEPS_PER_BEAT):
        level.sample(None)
    state.redrawn = level.state.codes[:, -steps:]
    level.state, level.redrawing, steering.section = state, 0, request
