"""A transformer as a core."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from ...levels.fields import Heads, Layers, Positive
from ..cores import CoreConfig

NORM_EPSILON = 1e-5
"""A core's layer normalisation adds this to the variance."""
HIDDEN_DISTANCE = 1 << 30
"""The age, in frames, that hides a missing frame from attention."""


class TransformerCore(CoreConfig):
    """A decoder-only transformer with a sliding window (Vaswani et al. 2017) and pre-normalisation
    (Xiong et al. 2020).

    width: of the residual path, divided among `heads`. hidden_dim: of the feed-forward layers.
    window: the frames that a layer attends to, with the current one. sinks: the number of learnt
    keys and values of each layer and head, which are always visible (Xiao et al. 2023, "Efficient
    streaming language models with attention sinks", section 3.3). Sinks let the window slide on.
    """

    kind: Literal["transformer"] = "transformer"
    width: Positive = 256
    heads: Heads = 8
    layers: Layers = 5
    hidden_dim: Positive = 1024
    window: Annotated[int, Field(strict=True, ge=1, le=8192)] = 128
    sinks: Annotated[int, Field(strict=True, ge=0, le=64)] = 1

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; it must be a multiple of heads, {self.heads}")
        return self

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """The last keys and values of each layer, oldest first, and the number of frames, up to
        `window`.
        """
        states: dict[str, tuple[int, ...]] = {"count": (1,)}
        return states | {f"{name}_{i}": (self.heads, self.window, self.width // self.heads)
                         for i in range(self.layers) for name in ("keys", "values")}

    @property
    def span(self) -> int:
        return self.window - 1
