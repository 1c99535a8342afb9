"""The blocks of encoders and decoders, their up-sampling and their bottleneck."""

from typing import Literal

from ..levels.fields import KernelSize
from .parts import BlockPart, BottleneckPart, UpsamplingPart


class DilatedBlock(BlockPart):
    """Residual blocks of dilated convolutions, as in SEANet."""

    kind: Literal["dilated"] = "dilated"
    kernel_size: KernelSize = 3


class SubPixel(UpsamplingPart):
    """A convolution folded into time."""

    kind: Literal["sub_pixel"] = "sub_pixel"


class NoBottleneck(BottleneckPart):
    """No bottleneck: only convolutions."""

    kind: Literal["none"] = "none"
