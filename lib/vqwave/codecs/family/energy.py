"""The energy transformer as a bottleneck."""

from typing import Annotated, Literal

from pydantic import Field

from ...levels.fields import AboveZero, Heads, Positive
from ..parts import BottleneckPart


class EnergyBottleneck(BottleneckPart):
    """The energy transformer (Hoover et al. 2023): `steps` steps of gradient descent, of size
    `rate`, on an energy of each frame. The energy attends to the `back` frames before and to
    `memories`.
    """

    kind: Literal["energy"] = "energy"
    heads: Heads = 4
    back: Positive = 32
    memories: Positive = 512
    steps: Annotated[int, Field(strict=True, ge=1, le=100)] = 4
    rate: AboveZero = 0.1

    def check(self, codec):
        channels = codec.stages[-1].channels
        if channels % self.heads:
            raise ValueError(f"bottleneck has {self.heads} heads, which do not divide the "
                             f"{channels} channels of the last stage")
