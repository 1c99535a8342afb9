"""The registers of a score: how the strikes are spread over low and high semitones. A section
keeps to the registers of the part of a track whose sound it has.
"""

import numpy as np

from ..config import Labels

BLUR = 4.0
"""The standard deviation, in semitones, of the blur of strikes. So registers count, not notes."""
USUAL = 20.0
"""The number of strikes, spread as in all parts, that are added to those of a part."""
LEAST = 1e-6
"""The least number of blurred strikes of a semitone. Far from all strikes the blur is 0."""
PULL = 0.3
"""The factor of the bias from the registers of all parts to those of the part."""
AWAITED = 16.0
"""The number of strikes, spread as in the part, that are added to those of a section so far."""
MOST_MOVED = 2.0
"""The largest bias, in nats, for what a section lacks or has too much of, before its mean is
subtracted.
"""


class Registers:
    """The registers of the parts of the training tracks.

    shares: float32 [parts + 1, semitones], the share of each semitone in the blurred strikes of
    each part. The last row is of all parts, for sections without a part. blur: float32 [semitones,
    semitones], the share of a strike of the first semitone that counts for the second.

    part_strikes: see `form.of_scores`.
    """

    def __init__(self, part_strikes: np.ndarray):
        semitones = np.arange(part_strikes.shape[1])
        blur = np.exp(-0.5 * (np.subtract.outer(semitones, semitones) / BLUR) ** 2)
        self.blur = (blur / blur.sum(1, keepdims=True)).astype(np.float32)
        blurred = np.maximum(part_strikes.astype(np.float32) @ self.blur, LEAST)
        usual = blurred.sum(0) / blurred.sum()
        shares = (blurred + USUAL * usual) / (blurred.sum(1, keepdims=True) + USUAL)
        self.shares = np.vstack([shares, usual]).astype(np.float32)

    def bias(self, part: np.ndarray, struck: np.ndarray) -> np.ndarray:
        """The bias on strikes that brings a section to the registers of a part: float [semitones],
        in nats. The number of strikes stays about the same. So the pull to the part has a mean of 0
        over the registers of all parts. The rest has a mean of 0 over those of the section.

        part: the shares of the labels of the section, [parts + 1]. struck: bool [n, semitones], of
        the section's last steps.
        """
        usual, target = self.shares[-1].astype(float), part @ self.shares
        heard = struck.sum(0) @ self.blur + AWAITED * target
        heard /= heard.sum()
        pull = np.log(target / usual)
        lacks = np.clip(np.log(target / heard), -MOST_MOVED, MOST_MOVED)
        return PULL * (pull - usual @ pull) + lacks - heard @ lacks


def of_chain(part_strikes: np.ndarray, labels: Labels) -> Registers | None:
    """The registers for a chain; None if its labels are no parts, or not as many as the score's."""
    if not labels.are_parts or len(part_strikes) != len(labels.names) or not part_strikes.any():
        return None
    return Registers(part_strikes)
