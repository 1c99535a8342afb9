"""A composer: the core of scores, and its constants."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..dsp.beats import ATTACK_BANDS
from ..dsp.beats import STEPS_PER_BEAT as STEPS_PER_BEAT
from ..dsp.transcription import LOUDNESSES
from ..levels.fields import Positive
from ..levels.names import SCORE
from .cores import CoreConfig


class ComposerCore(CoreConfig):
    """A score. Each book is a semitone, with codes for silence, for a note that goes on, and for
    strikes of each loudness. All semitones share their weights, so that all keys are equally likely
    (after Johnson 2017, "Generating polyphonic music using tied parallel networks").

    An LSTM over the steps reads, for each semitone, the last codes, and the averages of strikes and
    of their loudness of the neighbours within an octave. It also reads the strikes that followed
    the `matches` earlier passages of the piece that are most similar to the last `compared` steps.

    units: of the LSTM. head_dim: features of a semitone; its code also depends on the `below`
    semitones below. memory: the number of steps that are remembered.
    """

    kind: Literal["roll"] = "roll"
    learns: ClassVar[Literal["codes", "scores"]] = "scores"
    int8: ClassVar[bool] = False  # the network is small
    units: Positive = 48
    head_dim: Positive = 48
    below: Positive = 24
    memory: Annotated[int, Field(strict=True, ge=16, le=8192)] = 1024
    matches: Annotated[int, Field(strict=True, ge=1, le=16)] = 4
    compared: Annotated[int, Field(strict=True, ge=2, le=64)] = 8

    def check(self, generator):
        if generator.conditions:
            raise ValueError("a generator of a score has no conditions")
        if generator.level != SCORE:
            raise ValueError(f"level is {generator.level}; that of a score is {SCORE}")
        if generator.num_codes != (expected := STRUCK + LOUDNESSES):
            raise ValueError(f"num_codes is {generator.num_codes}; a score has {expected} "
                             "codes; train the score again")

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """The last steps, oldest first; the LSTM's state of each semitone; and the position of the
        step in its beat.
        """
        return {"past": (self.memory, books), "h": (books, self.units), "c": (books, self.units),
                "count": (1,)}


SILENT, SOUNDING, STRUCK = range(3)
"""The codes of a semitone in a step: it is silent, continues to sound, or begins. `STRUCK` is the
code of the softest notes; the last code, `STRUCK` + `LOUDNESSES` - 1, that of the loudest. Attacks
have no loudness.
"""
VELOCITIES = 41, 55, 73, 112
"""The MIDI velocities of notes of each loudness. If a file has notes of the loudest class,
`midi_files.read` finds the same classes.
"""
BANDS = len(ATTACK_BANDS) - 1
"""The number of books of attacks, which come after those of semitones."""
STEPS_PER_SECOND = 5.5
"""Steps per second at the mean tempo."""
KERNEL_SEMITONES = 25
"""The kernel of a convolution over semitones: an octave on either side."""
AVERAGE_SECONDS = (2.0, 8.0, 30.0)
"""Time constants, in seconds, of the averages of strikes."""
RECENT = 4
"""The number of last steps whose strikes are separate inputs."""
LEAST_AGE = 5
"""The fewest steps between a step and the earlier steps that it is compared with."""
IMPOSSIBLE = -30.0
"""Added to the logits of `SOUNDING` where nothing sounded, and of loud attacks."""
PREVIOUS_WEIGHT, SOUNDING_WEIGHT = 0.5, 0.15
"""The weights of the previous step's strikes and of sounding notes in the comparison of steps.
Strikes have weight 1.
"""


def impossible(books: int) -> np.ndarray:
    """The mask of the logits of books that sounded in the step before: float32 [books, codes].
    Attacks have one loudness.
    """
    mask = np.zeros((books, STRUCK + LOUDNESSES), "float32")
    mask[books - BANDS :, STRUCK + 1 :] = IMPOSSIBLE
    return mask


def same_pitch_class(books: int) -> np.ndarray:
    """1 for semitones of the same pitch class: float32 [books, books]; zeros for attacks."""
    same_class = np.equal.outer(np.arange(books) % 12, np.arange(books) % 12)
    same_class[books - BANDS :] = same_class[:, books - BANDS :] = False
    return same_class.astype("float32")


def averages(memory: int) -> np.ndarray:
    """The weights of the last steps (newest first) in each average of strikes: float32 [averages,
    memory], in strikes per second.
    """
    decays = np.exp(-1 / (STEPS_PER_SECOND * np.array(AVERAGE_SECONDS)))[:, None]
    weights = (1 - decays) * decays ** np.arange(memory) * STEPS_PER_SECOND
    return weights.astype("float32")
