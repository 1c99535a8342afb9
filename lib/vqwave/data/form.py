"""Statistics of the training scores: tempi, how many notes are struck, in which registers and how
loud, how many sections repeat an earlier one, and the runs of notes that must not be copied.
"""

from collections.abc import Sequence

import numpy as np

from ..dsp import metrics
from ..dsp.beats import STEPS_PER_BEAT
from ..dsp.transcription import LOUDNESSES
from ..generators.composer import BANDS, STRUCK
from . import melody

SECTION = 16 * STEPS_PER_BEAT
"""The steps of a section."""
FEWEST = 8
"""Sections with fewer notes do not count."""
CERTAINTY = 0.99
"""A section returns if it is more similar to an earlier passage of its track than this share of all
sections is to passages of other tracks.
"""
OTHERS, SECTIONS, PAST = 24, 400, 2048
"""The most other tracks, sections, and steps before a section that are compared."""
STRIKES, FEWEST_STRIKES = 0.75, 0.05
"""The notes in a step where there are no scores, and the least."""
RETURNS, MOST_RETURNS = 0.5, 0.75
"""The share of sections that return where no other track compares, and the largest share."""
USUAL_LOUDNESS = -26.0, -22.0, -30.0, -42.0
"""The loudness of bands where there are no scores, in dBFS."""
MOST_QUIETER = 10.0
"""A section may be quieter than the median of the training music by so many dB."""
TEMPI = 76.0, 116.0
"""The tempi where there are no scores, and of the moods slow and fast, in beats per minute."""


def of_scores(scores: Sequence[np.ndarray], parts: Sequence[np.ndarray] = (), count: int = 0,
              tempi: Sequence[float] = (), loudness: Sequence[np.ndarray] = ()
              ) -> dict[str, np.ndarray]:
    """The form of scores, int [steps, books] each, as float32 arrays for a weights file.

    "strikes" [1]: the mean number of notes struck in a step. "returns" [1]: of `returns`. "ngrams"
    [n, 3]: of `melody.to_digits`. "part_strikes" [count, semitones] and "part_loudness" [count,
    `LOUDNESSES`]: the strikes of each semitone and of each loudness in each part of the tracks.
    "tempi" [n]: sorted. "levels" [beats, `ScoreAbove.LOUDNESS_BANDS`]: the loudness of bands in
    each beat, part after part, and "level_counts" [count]: the beats of each part.

    parts: the index of the part of each step, int [steps] for each score. count: of the parts.
    tempi: of the scores, in beats per minute. loudness: `band_loudness` of each score.
    """
    rolls = [(codes[:, :-BANDS] >= STRUCK).astype(np.float32) for codes in scores]
    strikes = sum(x.sum() for x in rolls) / sum(map(len, rolls)) if rolls else STRIKES
    return {"strikes": np.array([max(strikes, FEWEST_STRIKES)], np.float32),
            "returns": np.array([returns(rolls)], np.float32),
            "ngrams": melody.to_digits(melody.ngrams(scores)),
            "part_strikes": _by_part(rolls, parts, count),
            "part_loudness": _by_part([by_loudness(codes) for codes in scores], parts, count),
            "tempi": np.sort(np.array(tempi or TEMPI, np.float32)),
            **_loudness_by_part(loudness, parts, count)}


def _loudness_by_part(loudness: Sequence[np.ndarray], parts: Sequence[np.ndarray], count: int
                    ) -> dict[str, np.ndarray]:
    """The tables "levels" and "level_counts" of `of_scores`."""
    if not loudness or not count:
        return {"levels": np.array([USUAL_LOUDNESS], np.float32),
                "level_counts": np.ones(1, np.float32)}
    numbers = [part[::STEPS_PER_BEAT] for part in parts]
    beats = np.concatenate([x[: len(n)] for x, n in zip(loudness, numbers, strict=True)])
    number = np.concatenate(numbers)
    counts = np.bincount(number, minlength=count)
    curves = np.split(beats[np.argsort(number, kind="stable")], np.cumsum(counts)[:-1])
    least = np.median(_total(beats)) - MOST_QUIETER
    return {"levels": np.concatenate([_sounding(x, least) for x in curves]).astype(np.float32),
            "level_counts": counts.astype(np.float32)}


def _sounding(curve: np.ndarray, least: float) -> np.ndarray:
    """A part's loudness of bands, [beats, bands], in which beats quieter than `least` dB, as at the
    ends of tracks, are like the nearest other beat; if all are, like the loudest, raised to it.
    """
    if not len(curve):
        return curve
    total = _total(curve)
    heard = np.flatnonzero(total >= min(least, total.max()))
    curve = curve[heard[np.abs(np.arange(len(curve))[:, None] - heard).argmin(1)]]
    return curve + np.maximum(least - _total(curve), 0)[:, None]


def _total(loudness: np.ndarray) -> np.ndarray:
    """The loudness of all bands together, in dB: [beats]."""
    return metrics.power_db((10 ** (loudness / 10)).sum(1))


def by_loudness(codes: np.ndarray) -> np.ndarray:
    """The strikes of each loudness in each step: int [steps, LOUDNESSES]. codes: [steps, books]."""
    kinds = np.arange(STRUCK, STRUCK + LOUDNESSES)
    return (codes[:, :-BANDS, None] == kinds).sum(1)


def _by_part(strikes, parts, count: int) -> np.ndarray:
    """The strikes of each kind in each part: float32 [count, kinds]. strikes: [steps, kinds]."""
    total = np.zeros((count, strikes[0].shape[1] if strikes else 0), np.float32)
    for steps, part in zip(strikes if count else (), parts, strict=True):
        np.add.at(total, part, steps)
    return total


def returns(rolls: Sequence[np.ndarray]) -> float:
    """The share of sections that repeat an earlier passage of their track. rolls: float [steps,
    semitones] each, 1 for a strike.
    """
    rolls = [_blurred(roll) for roll in rolls]
    places = [(i, start) for i, roll in enumerate(rolls)
              for start in range(SECTION, len(roll) - SECTION + 1, SECTION)
              if (roll[start : start + SECTION] >= 1).sum() >= FEWEST]
    same, chance = [], []
    for i, start in places[:: -(-len(places) // SECTIONS) or 1]:
        section, past = rolls[i][start : start + SECTION], slice(max(0, start - PAST), start)
        others = [x for x in rolls[i + 1 :] + rolls[:i] if len(x) >= start]
        others = others[:: -(-len(others) // OTHERS) or 1]
        same.append(similarity(section, rolls[i][past]))
        # Without the most similar track, which may be a variant of this one.
        chance += sorted(similarity(section, other[past]) for other in others)[:-1]
    if not chance:
        return RETURNS
    return min(float(np.mean(np.array(same) > np.quantile(chance, CERTAINTY))), MOST_RETURNS)


def similarity(section: np.ndarray, past: np.ndarray) -> float:
    """The largest cosine between a section and a passage of `past` of the same length; 0 if `past`
    is shorter. Both are float [steps, semitones].
    """
    count = len(past) - len(section) + 1
    if count < 1:
        return 0.0
    products = past @ section.T
    total = sum(products[step : step + count, step] for step in range(len(section)))
    energy = np.concatenate([[0.0], np.cumsum(np.square(past).sum(1))])
    norms = np.sqrt((energy[len(section) :] - energy[:count]) * np.square(section).sum())
    return float((total / np.maximum(norms, 1e-6)).max())


def _blurred(roll: np.ndarray) -> np.ndarray:
    """A roll in which a strike counts half in the step before and in the next step."""
    padded = np.pad(roll, ((1, 1), (0, 0)))
    return roll + 0.5 * (padded[:-2] + padded[2:])
