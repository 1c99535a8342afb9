"""A performer: the core of a level that draws no codes."""

import math
from typing import ClassVar, Literal

import numpy as np

from ..levels.fields import Positive, Weight
from .cores import CoreConfig

GAIN_WEIGHT = 8.0
"""The weight of a performer's books of gains, whose codes have one dimension. Books of n dimensions
have this weight / n, but at least 1.
"""
VECTOR_SCALE = 8.0
"""The factor of a performer's last layer, so that small steps of its weights suffice."""


class PerformerCore(CoreConfig):
    """A performer: conditions and noise give a vector for each book, and the nearest code plays.
    The logit of a code is minus its weighted squared distance from the vector. One score has many
    performances: a mean of them would be dull. So there is noise among the inputs, and an adversary
    (`performer_layer.Critic`) asks for vectors like those of recordings.

    The noise of a book is a normalised sum of past draws, which decays with its own time constant,
    from 1 frame to `SLOWEST`. The temperature scales the draws, from 0 (no noise) to 1 (as in
    training); above 1 it has the effect of 1.

    head_dim: of the hidden layer. code_dim: the largest width of the codebooks' vectors. adversary,
    feature_matching: the weights of these losses beside the squared distance; 0: no adversary.
    """

    kind: Literal["frames"] = "frames"
    performs: ClassVar[bool] = True
    int8: ClassVar[bool] = False  # a chain would gain 2 to 4 % of speed
    SLOWEST: ClassVar[float] = 256.0
    NEAREST: ClassVar[float] = 1e6
    """The inverse temperature at which the nearest code plays."""
    code_dim: Positive = 16
    adversary: Weight = 0.0
    feature_matching: Weight = 0.0

    def check(self, generator):
        if not generator.conditions or generator.books == 1:
            raise ValueError("a core of kind frames needs conditions and several books")

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        return {"noise": (books,)}

    def kept(self, books: int) -> np.ndarray:
        """The share of each book's noise that a frame keeps: float32 [books]."""
        return np.exp(-1 / np.geomspace(1.0, self.SLOWEST, books)).astype(np.float32)

    def draw_scale(self, books: int) -> np.ndarray:
        """The factor of each book's draws, uniform in [−0.5, 0.5), that gives its noise a variance
        of 1: float32 [books].
        """
        return np.float32(math.sqrt(12)) * np.sqrt(1 - self.kept(books) ** 2)

    def describe_loss(self, loss: float, books: int) -> str:
        return f"validation {loss:.5g}, the squared distance of a code's vector"
