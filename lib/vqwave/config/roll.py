"""Constants of the core `roll`, shared by `nn/roll.py` and `onnx/roll.py`."""

import numpy as np

from ..dsp.beats import ATTACK_BANDS
from ..dsp.beats import STEPS_PER_BEAT as STEPS_PER_BEAT

SILENT, SOUNDING, STRUCK = range(3)
"""What a semitone does in a step or frame: nothing, sound on, or begin."""
BANDS = len(ATTACK_BANDS) - 1
"""Books of attacks, after those of semitones."""
STEPS_PER_SECOND = 5.5
"""Steps per second at the mean tempo."""
KERNEL_SEMITONES = 25
"""Semitones that a convolution over semitones sees: an octave to either side."""
AVERAGE_SECONDS = (2.0, 8.0, 30.0)
"""Time constants, in seconds, of the averages of strikes."""
RECENT = 4
"""Steps whose strikes are inputs of their own."""
LEAST_AGE = 5
"""The fewest steps between a step and the past moments it is compared with."""
IMPOSSIBLE = -30.0
"""The logit of sounding on where nothing sounded."""
PREVIOUS_WEIGHT, SOUNDING_WEIGHT = 0.5, 0.15
"""Weights, in the comparison of steps, of the previous step's strikes and of sounding notes;
strikes have weight 1.
"""


def pitch_classes(books: int) -> np.ndarray:
    """Which semitones are of one pitch class: float32 [books, books], zeros for attacks."""
    alike = np.equal.outer(np.arange(books) % 12, np.arange(books) % 12)
    alike[books - BANDS :] = alike[:, books - BANDS :] = False
    return alike.astype("float32")


def averages(memory: int) -> np.ndarray:
    """The weights of the last steps in each average of strikes, the newest first: float32
    [averages, memory], in strikes a second.
    """
    decays = np.exp(-1 / (STEPS_PER_SECOND * np.array(AVERAGE_SECONDS)))[:, None]
    weights = (1 - decays) * decays ** np.arange(memory) * STEPS_PER_SECOND
    return weights.astype("float32")
