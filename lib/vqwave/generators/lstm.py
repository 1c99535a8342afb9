"""A stack of LSTMs as a core."""

from typing import Literal

from ..levels.fields import Layers, Positive
from .cores import CoreConfig


class LSTMCore(CoreConfig):
    """A stack of LSTMs over frames."""

    kind: Literal["lstm"] = "lstm"
    units: Positive = 512
    layers: Layers = 2

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}_{i}": (self.units,) for i in range(self.layers) for name in "hc"}
