"""Spectrograms as a codec's front end and as its head."""

from typing import Annotated, Literal

import numpy as np
import pydantic
from pydantic import Field

from ...dsp.spectrum import mel_filters
from ...levels.fields import Positive, WindowSize
from ..heads import HeadPart
from ..parts import FrontEndPart


class SpectrogramFrontEnd(FrontEndPart):
    """The encoder's input is the loudness of a spectrogram, with a frame every `hop` samples. The
    spectrogram replaces the encoder's stages up to that hop. n_fft: samples of a window. mels:
    bands on the mel scale; 0: all bins but the last, so that strides divide their number.
    """

    kind: Literal["spectrogram"] = "spectrogram"
    noncausal = True
    hop: Positive = 256
    n_fft: WindowSize = 1024
    mels: Annotated[int, Field(strict=True, ge=0, le=1024)] = 80

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.n_fft % (2 * self.hop):
            raise ValueError(f"n_fft is {self.n_fft}; it must be a multiple of twice the hop, "
                             f"{2 * self.hop}")
        return self

    def check(self, codec):
        filters = mel_filters(codec.sample_rate, self.n_fft, self.mels)
        empty = np.count_nonzero(filters.max(axis=1) == 0)
        if empty:
            raise ValueError(f"front_end has {self.mels} mel bands, {empty} of which hold no bin "
                             f"of a window of {self.n_fft} samples at {codec.sample_rate} Hz")

    @property
    def channels(self) -> int:
        """The numbers in a frame: the bands, or the bins of the window without the last."""
        return self.mels or self.n_fft // 2


class SpectrogramHead(HeadPart):
    """The decoder predicts magnitude and phase of a spectrogram. The inverse transform makes audio.

    The hop is the first stage's stride. n_fft: samples of a window.
    """

    kind: Literal["spectrogram"] = "spectrogram"
    n_fft: WindowSize = 1024

    def check(self, codec):
        hop = codec.hop(0)
        if self.n_fft % (2 * hop) or self.n_fft < 4 * hop:
            raise ValueError(f"head has windows of {self.n_fft} samples; they must be a multiple "
                             f"of twice the first stage's stride, {hop}, and at least 4 times it")


class GriffinLimHead(HeadPart):
    """The decoder predicts the spectrum of the front end. After the network, Griffin and Lim's
    algorithm finds the phases in `steps` steps. Training compares spectra only (`spectrum`).
    """

    kind: Literal["griffin_lim"] = "griffin_lim"
    noncausal = True
    makes_audio = False
    requires = {"front_end": ("spectrogram",)}
    steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 32

    def check(self, codec):
        if codec.front_end.hop != codec.hop(0):
            raise ValueError(f"a head of griffin_lim needs a front_end whose hop, "
                             f"{codec.front_end.hop}, is the first stage's stride, {codec.hop(0)}")
        terms = [term for term in codec.loss.audio_terms if getattr(codec.loss, term)]
        if codec.adversary or terms:
            raise ValueError(f"training with a head of griffin_lim makes no audio: set adversary "
                             f"to null and these terms of the loss to 0: {', '.join(terms)}")
