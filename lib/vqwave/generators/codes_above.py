"""The codes of the level above as a condition."""

from typing import Literal

import numpy as np

from ..levels.conditions import ConditionConfig, View
from ..levels.fields import BookCount, CodeCount, Dilations, KernelSize, Positive


class CodesAbove(ConditionConfig):
    """The frames of the level above, through a dilated CNN, up-sampled to the generator's rate."""

    input = "source"
    reads_above = True
    kind: Literal["codes"] = "codes"
    level: Positive
    num_codes: CodeCount
    books: BookCount = 1
    channels: Positive = 128
    dilations: Dilations = (1, 2, 4, 8, 16, 32)
    kernel_size: KernelSize = 3

    @classmethod
    def of_chain(cls, own, above) -> dict[str, int]:
        return {"level": above.level, "num_codes": above.num_codes, "books": above.books}

    @property
    def halo(self) -> int:
        """The receptive field of the context on either side, in frames of the level above."""
        return sum(self.dilations) * (self.kernel_size // 2)

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.books

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        ratio = self.level // view.level
        return view.codes_above(start // ratio - self.halo, (start + count) // ratio + self.halo,
                                self.num_codes)
