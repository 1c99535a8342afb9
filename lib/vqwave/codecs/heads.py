"""Heads: a codec's synthesis of audio."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ..levels.fields import AboveZero, Dilations, Positive, Whole, WindowSize
from .parts import CodecPart


class HeadPart(CodecPart):
    """A head."""

    needs_position: ClassVar[bool] = False
    """Whether the head needs the position of the codes in the piece."""

    makes_audio: ClassVar[bool] = True
    """Whether the network makes audio, which the loss can compare. Otherwise `data/vocoders.py`
    makes audio from the network's output.
    """


class WaveformHead(HeadPart):
    """The decoder's last up-sampling makes the waveform."""

    kind: Literal["waveform"] = "waveform"


class SourceFilterHead(HeadPart):
    """Oscillators on the peaks of a predicted log-frequency spectrum, and noise; then a network
    that reads their spectrum (windows of `window` samples, every `hop` samples) and changes it.

    above: oscillators play weaker peaks from this frequency on, in Hz. high_tones: quarter tones
    above the front end's octaves. width: channels of the network. taps, dilations: of the
    convolution of each block, in spectra; all look back.
    """

    kind: Literal["source_filter"] = "source_filter"
    noncausal = True
    needs_position = True
    requires = {"front_end": ("log_frequency",), "encoder": ("banded", "mirror")}
    above: AboveZero = 1800.0
    high_tones: Whole = 14
    window: WindowSize = 1024
    hop: Positive = 256
    width: Positive = 192
    taps: Annotated[int, Field(strict=True, ge=2, le=31)] = 7
    dilations: Dilations = (1, 1, 2, 1, 1, 4, 1, 1)

    def check(self, codec):
        if len(codec.stages) != 1:
            raise ValueError("a head of source_filter needs one stage, of the codec's level")
        if codec.level % self.hop or self.window % self.hop or self.window < 2 * self.hop:
            raise ValueError(f"the head's hop is {self.hop}; it must divide the codec's level, "
                             f"{codec.level}, and at most half its window, {self.window}")
