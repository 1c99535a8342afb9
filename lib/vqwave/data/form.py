"""What pieces take from the training scores: how many notes are struck, how many sections repeat an
earlier one, and the runs of notes that must not be copied.
"""

from collections.abc import Sequence

import numpy as np

from ..config.roll import BANDS, STEPS_PER_BEAT, STRUCK
from . import melody

SECTION = 16 * STEPS_PER_BEAT
"""The steps of a section."""
FEWEST = 8
"""Sections with fewer notes do not count."""
OTHERS, CERTAINTY = 24, 0.98
"""A section returns if it is more similar to an earlier passage of its track than sections are to
passages of about `OTHERS` other tracks in this share of cases.
"""
STRIKES, RETURNS, MOST_RETURNS = 0.75, 0.5, 0.75
"""The number of notes in a step without scores, the share of sections that return where no second
track compares, and the largest such share.
"""


def of_scores(scores: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The form of scores, int [steps, books] each, as float32 arrays for a weights file.

    "strikes" [1]: the mean number of notes struck in a step. "returns" [1]: the share of sections
    that repeat an earlier passage. "ngrams" [n, 3]: see `melody.to_digits`.
    """
    rolls = [(codes[:, :-BANDS] == STRUCK).astype(np.float32) for codes in scores]
    strikes = np.concatenate(rolls).sum(1).mean() if rolls else STRIKES
    return {"strikes": np.array([strikes], np.float32),
            "returns": np.array([returns(rolls)], np.float32),
            "ngrams": melody.to_digits(melody.ngrams(scores))}


def returns(rolls: Sequence[np.ndarray]) -> float:
    """The share of sections that repeat an earlier passage of their track. rolls: float [steps,
    semitones] each, 1 for a strike.
    """
    apart = max(1, len(rolls) // OTHERS)
    same, other = [], []
    for i, roll in enumerate(rolls):
        others = [rolls[(i + n) % len(rolls)] for n in range(apart, len(rolls), apart)]
        for start in range(SECTION, len(roll) - SECTION + 1, SECTION):
            section = roll[start : start + SECTION]
            if section.sum() >= FEWEST:
                same.append(similarity(section, roll[:start]))
                other += [similarity(section, another[:start]) for another in others]
    if len(rolls) < 2 or not any(other):
        return RETURNS
    return min(float(np.mean(np.array(same) > np.quantile(other, CERTAINTY))), MOST_RETURNS)


def similarity(section: np.ndarray, past: np.ndarray) -> float:
    """The largest cosine between a section and a passage of `past` of the same length; 0 if `past`
    is shorter. Both are rolls, see `returns`. A strike in the next step or in the step before
    counts half.
    """
    count = len(past) - len(section) + 1
    if count < 1:
        return 0.0
    section, past = _blurred(section), _blurred(past)
    products = past @ section.T
    total = sum(products[step : step + count, step] for step in range(len(section)))
    energy = np.concatenate([[0.0], np.cumsum(np.square(past).sum(1))])
    norms = np.sqrt((energy[len(section) :] - energy[:count]) * np.square(section).sum())
    return float((total / np.maximum(norms, 1e-6)).max())


def _blurred(roll: np.ndarray) -> np.ndarray:
    padded = np.pad(roll, ((1, 1), (0, 0)))
    return roll + 0.5 * (padded[:-2] + padded[2:])
