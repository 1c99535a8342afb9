"""Encoders."""

from typing import Literal

from ..levels.fields import Dilations, Positive, Whole
from .parts import EncoderPart


class MirrorEncoder(EncoderPart):
    """The decoder's stages in reverse order: strided convolutions and blocks."""

    kind: Literal["mirror"] = "mirror"


class BandedEncoder(EncoderPart):
    """A network for each band of a log-frequency spectrum, with `overlap` more bins on either side.
    units: features of a band. dilations: of the residual convolutions over time.
    """

    kind: Literal["banded"] = "banded"
    noncausal = True
    units: Positive = 96
    overlap: Whole = 6
    dilations: Dilations = (3,)
    # Other blocks and bottlenecks are refused, because only the decoder would have them.
    requires = {"front_end": ("log_frequency",), "quantizer": ("banded", "gain_shape"),
                "bottleneck": ("none",), "block": ("dilated",)}

    def check(self, codec):
        front, bands = codec.front_end, codec.quantizer.bands
        if front.bins % bands:
            raise ValueError(f"front_end has {front.bins} quarter tones, which {bands} bands do "
                             f"not divide")
        if front.hop != codec.level:
            raise ValueError(f"an encoder of banded needs a front_end whose hop, {front.hop}, is "
                             f"the product of the strides, {codec.level}")
