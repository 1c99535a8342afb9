"""Spectrograms as images, and the hierarchies of their latents."""

import math
from typing import ClassVar, Literal

from ...levels.fields import Positive
from ..parts import EncoderPart, HierarchyPart


class PlaneEncoder(EncoderPart):
    """The spectrogram (the first stage) as an image: encoder and decoder are two-dimensional
    convolutions with equal strides along frames and bands. Latents have `CodecConfig.positions`
    positions along the frequency axis, which share their codebooks.
    """

    kind: Literal["plane"] = "plane"
    noncausal = True
    requires = {
        "front_end": ("spectrogram",), "block": ("dilated",), "upsampling": ("sub_pixel",),
        "bottleneck": ("none",), "head": ("spectrogram", "griffin_lim"),
        "quantizer": ("ema", "residual", "som", "gaussian")}

    def check(self, codec):
        front, strides = codec.front_end, codec.strides[1:]
        if front.hop != codec.strides[0]:
            raise ValueError(f"the first stage of an encoder of plane is the spectrogram: its "
                             f"stride, {codec.strides[0]}, must be the hop of front_end, "
                             f"{front.hop}")
        if front.channels % math.prod(strides):
            raise ValueError(f"front_end has {front.channels} bands, which the later strides, "
                             f"{math.prod(strides)} in all, do not divide")


class SingleLevelHierarchy(HierarchyPart):
    """One level of latents."""

    kind: Literal["single_level"] = "single_level"
    bottom: ClassVar[int | None] = None


class TopDownHierarchy(HierarchyPart):
    """Two levels of latents that are trained together: the top at the last stage, and a finer
    bottom, conditioned on the quantized top (VQ-VAE-2, Razavi et al. 2019).

    bottom: the stage of the finer level, counted from 0.
    """

    kind: Literal["vqvae2"] = "vqvae2"
    bottom: Positive
    requires = {"encoder": ("plane",), "quantizer": ("ema", "residual", "som")}

    def check(self, codec):
        if self.bottom >= len(codec.stages) - 1:
            raise ValueError(f"hierarchy has bottom {self.bottom}; it must be below the last "
                             f"stage, {len(codec.stages) - 1}")
