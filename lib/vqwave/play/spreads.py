"""What a section of a score takes from the part of a track whose sound it has. This is the spread
of strikes over low and high semitones (registers), and over soft and loud ones. It is also the
loudness of bands.
"""

import numpy as np

from ..codecs import Labels
from ..dsp.transcription import LOUDNESSES

SEMITONE_BLUR, LOUDNESS_BLUR = 4.0, 1.0
"""The standard deviations of the blurs of strikes, in semitones and in classes of loudness. So
registers count, not notes.
"""
USUAL = 20.0
"""The number of strikes, spread as in all parts, that are added to those of a part."""
LEAST = 1e-6
"""The least number of strikes of a kind. Far from all strikes the blur is 0."""
PULL = 0.3
"""The factor of the bias from the spread of all parts to that of the part."""
AWAITED = 1.5
"""The number of strikes, spread as in the part, that are added to those of a section so far."""
MOST_MOVED = 4.0
"""The largest bias, in nats, for what a section lacks or has too much of, before its mean is
subtracted.
"""


class OnsetPrior:
    """How the strikes of each part of the training tracks are spread over kinds of strikes:
    semitones, or classes of loudness.

    shares: float32 [parts + 1, kinds], the share of each kind in the blurred strikes of each part.
    The last row is of all parts, for sections without a part. blur: float32 [kinds, kinds], the
    share of a strike of the first kind that counts for the second.

    counts: [parts, kinds], see `form.of_scores`. width: the standard deviation of the blur.
    """

    def __init__(self, counts: np.ndarray, width: float):
        kinds = np.arange(counts.shape[1])
        blur = np.exp(-0.5 * (np.subtract.outer(kinds, kinds) / width) ** 2)
        self.blur = (blur / blur.sum(1, keepdims=True)).astype(np.float32)
        strikes = np.maximum(counts.astype(np.float32) @ self.blur, LEAST)
        usual = strikes.sum(0) / strikes.sum()
        shares = (strikes + USUAL * usual) / (strikes.sum(1, keepdims=True) + USUAL)
        self.shares = np.vstack([shares, usual]).astype(np.float32)

    def bias(self, part: np.ndarray, strikes: np.ndarray) -> np.ndarray:
        """The bias on strikes that brings a section to the spread of a part: float [kinds], in
        nats. The number of strikes stays about the same. So the pull to the part has a mean of 0
        over the spread of all parts. The rest has a mean of 0 over that of the section.

        part: the shares of the labels of the section, [parts + 1]. strikes: int [kinds], in the
        section's last steps.
        """
        usual, target = self.shares[-1].astype(float), part @ self.shares
        heard = self._heard(target, strikes)
        pull = np.log(target / usual)
        lacks = np.clip(np.log(target / heard), -MOST_MOVED, MOST_MOVED)
        return PULL * (pull - usual @ pull) + lacks - heard @ lacks

    def _heard(self, target: np.ndarray, strikes: np.ndarray) -> np.ndarray:
        """The shares of the kinds in a section, float [kinds]. target: those of its part."""
        heard = strikes @ self.blur + AWAITED * target
        return heard / heard.sum()


class Loudness(OnsetPrior):
    """A spread over classes of loudness. A strike has one class, so the number of strikes stays the
    same if the mean of the odds of all classes is 1.
    """

    def bias(self, part: np.ndarray, strikes: np.ndarray) -> np.ndarray:
        bias = super().bias(part, strikes)
        return bias - np.log(self._heard(part @ self.shares, strikes) @ np.exp(bias))


def shares_of_loudness(tables: dict[str, np.ndarray]) -> np.ndarray:
    """The share of each loudness in the strikes of the training scores: float [LOUDNESSES]."""
    counts = np.ones(LOUDNESSES) + (tables["part_loudness"].sum(0) if tables["part_loudness"].size
                                    else 0)
    return counts / counts.sum()


def of_chain(tables: dict[str, np.ndarray], labels: Labels) -> tuple[OnsetPrior, OnsetPrior] | None:
    """The registers and the loudness of the parts for a chain. None if its labels are no parts, or
    not as many as the score's. tables: of the score's corpus, see `form.of_scores`.
    """
    strikes, loudness = tables["part_strikes"], tables["part_loudness"]
    if not labels.are_parts or len(strikes) != len(labels.names) or not strikes.any():
        return None
    return OnsetPrior(strikes, SEMITONE_BLUR), Loudness(loudness, LOUDNESS_BLUR)


class Swells:
    """The loudness of bands. Each section takes a stretch of a training track, of the part whose
    sound it has.

    curves: of each part, float32 [beats, `ScoreAbove.LOUDNESS_BANDS`], in dBFS. tables: of the
    score's corpus, see `form.of_scores`. labels: of the chain. Where they are no parts, or other
    parts, a section draws any curve.
    """

    def __init__(self, tables: dict[str, np.ndarray], labels: Labels):
        counts = tables["level_counts"].astype(int)
        self.numbers = np.flatnonzero(counts)
        self.curves = np.split(tables["levels"], np.cumsum(counts[self.numbers])[:-1])
        self.are_parts = labels.are_parts and len(tables["part_strikes"]) == len(labels.names)

    def loudness(self, part: np.ndarray | None, chance: float, beat: int) -> np.ndarray:
        """The loudness in a beat of a section: float32 [`ScoreAbove.LOUDNESS_BANDS`].

        A section begins anywhere in its curve. At the curve's ends it goes back the way it came.

        part: the shares of the section's labels, float [labels + 1], or None. chance: in [0, 1), of
        the section. beat: from the start of the section.
        """
        number = -1 if part is None or not self.are_parts else int(part.argmax())
        if number in self.numbers:
            curve = self.curves[int(np.searchsorted(self.numbers, number))]
        else:
            place = chance * len(self.curves)
            curve, chance = self.curves[int(place)], place % 1
        last = len(curve) - 1
        place = (int(chance * len(curve)) + beat) % max(1, 2 * last)
        return curve[min(place, 2 * last - place)]
