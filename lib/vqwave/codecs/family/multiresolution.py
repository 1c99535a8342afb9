"""Multiresolution blocks."""

from typing import Annotated, Literal

from pydantic import Field

from ...levels.fields import KernelSize
from ..parts import BlockPart


class MultiresolutionBlock(BlockPart):
    """Residual blocks that mix the outputs of one small kernel at `depth` dilations. Each dilation
    is twice the previous one. A stage's `dilations` are the smallest of each block.
    """

    kind: Literal["multiresolution"] = "multiresolution"
    kernel_size: KernelSize = 3
    depth: Annotated[int, Field(strict=True, ge=1, le=12)] = 4
