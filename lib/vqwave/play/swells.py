"""The loudness of bands in a composed score. Each section takes a stretch of a training track, as
loud as it is there: of the part whose sound the section has.
"""

import numpy as np

from ..codecs import Labels


class Swells:
    """curves: the loudness of each part, float32 [beats, `ScoreAbove.LEVELS`], in dBFS.

    tables: of the score's corpus, see `form.of_scores`. labels: of the chain. Where they are no
    parts, or other parts, a section draws any curve.
    """

    def __init__(self, tables: dict[str, np.ndarray], labels: Labels):
        counts = tables["level_counts"].astype(int)
        self.numbers = np.flatnonzero(counts)
        self.curves = np.split(tables["levels"], np.cumsum(counts[self.numbers])[:-1])
        self.are_parts = labels.are_parts and len(tables["part_strikes"]) == len(labels.names)

    def level(self, part: np.ndarray | None, chance: float, beat: int) -> np.ndarray:
        """The loudness in a beat of a section: float32 [`ScoreAbove.LEVELS`].

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
