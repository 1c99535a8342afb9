"""The common fields of cores."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ..levels.fields import Config, Positive, Share

KernelFrames = Annotated[int, Field(strict=True, ge=2, le=16)]


class CoreConfig(Config):
    """P(frame_t | frame_<t, context): the common fields of all kinds of cores.

    embedding_dim: of a code of the previous frame. head_dim: features for each book after the
    first. dropout: the share of each layer's outputs that training sets to zero. input_dropout: the
    share of the previous codes that training leaves out (Gal and Ghahramani 2016).
    """

    kind: str
    learns: ClassVar[Literal["codes", "scores"]] = "codes"
    """The kind of frames: codes of sound, or steps of a score."""
    embedding_dim: Positive = 32
    dropout: Share = 0.0
    input_dropout: Share = 0.0
    head_dim: Positive = 256

    performs: ClassVar[bool] = False
    """Whether frames depend on the conditions only, see `PerformerCore`."""
    int8: ClassVar[bool] = True
    """Whether engine `onnx` plays the core with int8 weights, for speed."""

    def check(self, generator: Any):
        """Raises `ValueError` if the rest of the `GeneratorConfig` does not fit this core."""

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """{name: shape without the batch axis} of the layers' states, in order."""
        raise NotImplementedError

    @property
    def span(self) -> int:
        """The most earlier frames that a layer can see; 0: unlimited, or none without memory."""
        return 0

    def describe_loss(self, loss: float, books: int) -> str:
        """The text of a validation loss. loss: the mean over the books of a frame."""
        return f"validation {books * loss / math.log(2):.5g} bits a frame"
