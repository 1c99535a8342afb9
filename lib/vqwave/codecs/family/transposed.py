"""Transposed convolutions as up-sampling."""

from typing import Literal

from ..parts import UpsamplingPart


class Transposed(UpsamplingPart):
    """A transposed convolution."""

    kind: Literal["transposed"] = "transposed"
    noncausal = True

    def check(self, codec):
        if codec.even:
            raise ValueError("even needs an upsampling of kind sub_pixel, not transposed")
