"""A self-organizing map as a quantizer."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...levels.fields import AboveZero, Positive, Real, Weight
from ..quantizers import CodebookConfig


class SOMQuantizer(CodebookConfig):
    """One codebook on a grid, in which neighbouring codes are similar: a self-organizing map
    (Kohonen 1982; SOM-VQ).

    radius: the initial radius of updates, as a share of the grid's longest side. Over
    `shrink_steps` training steps it shrinks to `final_radius`, in steps of the grid.
    revival_threshold: at 0, unused codes follow their neighbours; above 0, they are replaced by
    latents, which destroys the order of the map.
    """

    kind: Literal["som"] = "som"
    revival_threshold: Weight = 0.0
    radius: Annotated[Real, Field(gt=0, le=1)] = 0.25
    final_radius: AboveZero = 1.0
    shrink_steps: Positive = 2000
    books: ClassVar[int] = 1
    training_only = (*CodebookConfig.training_only, "radius", "final_radius", "shrink_steps")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns, as square as possible."""
        rows = next(r for r in range(math.isqrt(self.num_codes), 0, -1) if self.num_codes % r == 0)
        return rows, self.num_codes // rows
