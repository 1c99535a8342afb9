"""Blocks of a ResNet."""

from typing import Literal

from ...levels.fields import KernelSize
from ..parts import BlockPart


class ResNetBlock(BlockPart):
    """Residual blocks of two convolutions, batch normalisation, LeakyReLU (He et al. 2016)."""

    kind: Literal["resnet"] = "resnet"
    noncausal = True
    kernel_size: KernelSize = 3
