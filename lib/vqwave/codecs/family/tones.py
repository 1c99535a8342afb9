"""Tones and noise as a head."""

from typing import Literal

from ...levels.fields import Whole
from ..heads import HeadPart


class TonesHead(HeadPart):
    """The decoder sets the loudness of `tones` oscillators and of noise, as in DDSP."""

    kind: Literal["tones"] = "tones"
    noncausal = True
    needs_position = True
    tones: Whole = 192
