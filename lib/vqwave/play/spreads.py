"""How the strikes of a score are spread over low and high semitones (its registers), and over soft
and loud ones. A section keeps to the spreads of the part of a track whose sound it has.
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
