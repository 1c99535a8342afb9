"""Front ends: what the encoder sees of the audio."""

import math
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field

from ..levels.fields import Positive, Real
from .parts import FrontEndPart


class WaveformFrontEnd(FrontEndPart):
    """The encoder's input is the samples."""

    kind: Literal["waveform"] = "waveform"
    hop: ClassVar[int] = 1
    """Samples per step of the encoder's input."""


PER_OCTAVE = 24
"""Bins of a log-frequency spectrum, and tones of a tone bank, per octave: quarter tones."""
LOWEST_TONE = 27.5
"""The lowest quarter tone of the grid in Hz: A0."""


class LogFrequencyFrontEnd(FrontEndPart):
    """The encoder's input is a constant-Q spectrum with a frame every `hop` samples, which replaces
    the encoder's stages up to that hop. lowest: Hz of the first quarter tone, octaves of
    `LOWEST_TONE`.
    """

    kind: Literal["log_frequency"] = "log_frequency"
    noncausal = True
    hop: Positive = 512
    lowest: Annotated[Real, Field(ge=LOWEST_TONE, le=880)] = 55.0
    octaves: Annotated[int, Field(strict=True, ge=1, le=9)] = 7

    @pydantic.model_validator(mode="after")
    def _check(self):
        if not math.log2(self.lowest / LOWEST_TONE).is_integer():
            raise ValueError(f"lowest is {self.lowest:g}; it must be {LOWEST_TONE:g} Hz or octaves "
                             f"above it")
        return self

    @property
    def bins(self) -> int:
        """Quarter tones of the spectrum."""
        return self.octaves * PER_OCTAVE

    @property
    def highest_frequency(self) -> float:
        return self.lowest * 2**self.octaves

    @property
    def first_tone(self) -> int:
        """The index of the lowest bin on the grid of quarter tones from `LOWEST_TONE` on."""
        return round(PER_OCTAVE * math.log2(self.lowest / LOWEST_TONE))
