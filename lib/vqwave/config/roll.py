"""Constants of the core `roll`, shared by `nn/roll.py` and `onnx/roll.py`."""

import numpy as np

from ..dsp.beats import ATTACK_BANDS
from ..dsp.beats import STEPS_PER_BEAT as STEPS_PER_BEAT
from ..dsp.transcription import LOUDNESSES as LOUDNESSES

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


def loudness_table() -> np.ndarray:
    """For each code: whether the semitone sounds, whether it is struck, and the loudness of a
    strike, above 0 to 1: float32 [codes, 3].
    """
    codes = np.arange(STRUCK + LOUDNESSES)
    strengths = np.maximum(codes - SOUNDING, 0) / LOUDNESSES
    return np.stack([codes > SILENT, codes >= STRUCK, strengths], axis=1).astype("float32")


def impossible(books: int) -> np.ndarray:
    """The mask of the logits of books that sounded in the step before: float32 [books, codes].
    Attacks have one loudness.
    """
    mask = np.zeros((books, STRUCK + LOUDNESSES), "float32")
    mask[books - BANDS :, STRUCK + 1 :] = IMPOSSIBLE
    return mask


def pitch_classes(books: int) -> np.ndarray:
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
