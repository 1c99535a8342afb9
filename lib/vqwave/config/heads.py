"""Heads, losses and adversaries: how a codec makes audio, and what it is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pydantic
from pydantic import Field

from .codec_parts import CodecPart
from .fields import Config, Real, Weight, Whole, default_kind

if TYPE_CHECKING:
    from .codec import CodecConfig

class HeadPart(CodecPart):
    """What every head's config says."""

    kind: str

    needs_position: ClassVar[bool] = False
    """Whether it must be told where in the piece the decoder's codes stand."""

    makes_audio: ClassVar[bool] = True
    """Whether the audio is made by the network, so that its loss can compare it, or of what the
    network says (`data/vocoders.py`).
    """


class WaveformHead(HeadPart):
    """The decoder's last up-sampling makes the waveform itself."""

    kind: Literal["waveform"] = "waveform"


class TonesHead(HeadPart):
    """The decoder says how loud `tones` oscillators (0: none) and a source of noise are, as in
    DDSP.
    """

    kind: Literal["tones"] = "tones"
    noncausal: ClassVar[bool] = True
    tones: Whole = 192
    needs_position: ClassVar[bool] = True


class Overtones(Config):
    """Tones above `above` Hz, on every peak of the spectrum that the decoder expects.

    contrast: how many times as far as it expects a peak stands out of what lies around it, in dB;
    what a decoder expects is a mean of what may be there, and flatter than any of that.
    """

    above: Annotated[Real, Field(gt=0)] = 1800.0
    contrast: Annotated[Real, Field(ge=1, le=8)] = 1.5


class NotesHead(HeadPart):
    """The decoder says which tones sound, how loud those are, and what noise there is beside them.

    Oscillators follow the peaks of what the decoder believes the log-frequency spectrum to be, on
    the grid of the front end. A peak is what lies near the loudest of its frame; `overtones` adds
    those far below it (None: noise has to stand for these).
    """

    kind: Literal["notes"] = "notes"
    noncausal: ClassVar[bool] = True
    requires: ClassVar[dict[str, tuple[str, ...]]] = {"front_end": ("log_frequency",)}
    needs_position: ClassVar[bool] = True
    overtones: Overtones | None = None

    def check(self, codec: CodecConfig):
        if self.overtones and self.overtones.above >= codec.front_end.highest:
            raise ValueError(f"overtones are above {self.overtones.above:g} Hz, where front_end "
                             f"has no quarter tones: it ends at {codec.front_end.highest:g} Hz")


class SpectrogramHead(HeadPart):
    """The decoder says magnitude and phase of a spectrogram, whose inverse is the audio.

    Its hop is the first stage's stride. n_fft: samples of a window.
    """

    kind: Literal["spectrogram"] = "spectrogram"
    n_fft: Annotated[int, Field(strict=True, ge=16, le=65536)] = 1024

    def check(self, codec: CodecConfig):
        hop = codec.hop(0)
        if self.n_fft % (2 * hop) or self.n_fft < 4 * hop:
            raise ValueError(f"head has windows of {self.n_fft} samples, which must be a multiple "
                             f"of twice the first stage's stride, {hop}, and at least 4 times it")


class GriffinLimHead(HeadPart):
    """The decoder says the levels that the front end would see, and Griffin and Lim's algorithm
    finds phases for them, in `steps` steps.

    That is no part of the network: it is trained by its levels alone (`spectrum` of the loss).
    """

    kind: Literal["griffin_lim"] = "griffin_lim"
    noncausal: ClassVar[bool] = True
    makes_audio: ClassVar[bool] = False
    requires: ClassVar[dict[str, tuple[str, ...]]] = {"front_end": ("spectrogram",)}
    steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 32

    def check(self, codec: CodecConfig):
        front, hop = codec.front_end, codec.hop(0)
        if front.hop != hop:
            raise ValueError(f"a head of griffin_lim says what the front end sees, every "
                             f"{front.hop} samples, but the first stage's stride is {hop}")
        if front.n_fft < 4 * hop:
            raise ValueError(f"a head of griffin_lim needs windows of at least 4 hops, {4 * hop} "
                             f"samples, but the front end has {front.n_fft}")
        if codec.adversary:
            raise ValueError("adversary hears audio, which a head of griffin_lim makes after "
                             "training only")
        if heard := [term for term in codec.loss.audio_terms if getattr(codec.loss, term)]:
            raise ValueError(f"loss has {', '.join(heard)} of audio, which a head of griffin_lim "
                             f"makes after training only: set to 0")


HeadConfig = Annotated[WaveformHead | TonesHead | NotesHead | SpectrogramHead | GriffinLimHead,
                       Field(discriminator="kind"), default_kind("waveform")]


class LossConfig(Config):
    """Weights of the terms of a codec's loss (see `nn/losses.py`)."""

    audio_terms: ClassVar[tuple[str, ...]] = (
        "spectral_convergence", "log_magnitude", "mel", "multi_mel", "waveform", "hum",
        "constant_q", "flux")
    """The terms that compare a reconstruction with its original."""

    spectral_convergence: Weight = 1.0
    log_magnitude: Weight = 0.5
    mel: Weight = 1.0
    multi_mel: Weight = 0.0
    waveform: Weight = 0.2
    hum: Weight = 0.0
    constant_q: Weight = 0.0
    flux: Weight = 0.0
    channel_average: Weight = 0.0
    # Of a head of notes: its tones against the peaks of the recording's log-frequency spectrum.
    presence: Weight = 0.1
    level: Weight = 5.0
    # Of a head of notes or griffin_lim: its levels against those that the front end sees.
    spectrum: Weight = 1.5


class SpectrumConfig(Config):
    """A discriminator of spectra: of windows of `n_fft` samples, one each `hop` samples."""

    kind: str
    n_fft: Annotated[int, Field(strict=True, ge=16, le=65536)]
    hop: Annotated[int, Field(strict=True, ge=1, le=65536)]

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.hop > self.n_fft:
            raise ValueError(f"hop is {self.hop}, but a window has {self.n_fft} samples, and what "
                             f"lies between two windows would not be seen")
        return self


class STFTConfig(SpectrumConfig):
    """Convolutions over the complex spectrogram of this window, compressed, and its logarithm."""

    kind: Literal["stft"] = "stft"


class ComplexSTFTConfig(SpectrumConfig):
    """Convolutions over the real and imaginary part of the spectrogram of this window, as they are.
    """

    kind: Literal["complex_stft"] = "complex_stft"


class WaveformConfig(Config):
    """Convolutions over the waveform, averaged over `factor` samples."""

    kind: Literal["waveform"] = "waveform"
    factor: Annotated[int, Field(strict=True, ge=1, le=64)] = 1


Discriminator = Annotated[STFTConfig | ComplexSTFTConfig | WaveformConfig,
                          Field(discriminator="kind"), default_kind("stft")]


class AdversaryConfig(Config):
    """Discriminators and the game they play with the decoder.

    game: what the two play, see `nn/discriminators.py`. turn: whether all discriminators play in
        every step, or one, drawn by the seed. weight, feature_matching: of the decoder's two terms
        in its loss. repulsion: weight of a term that pushes a discriminator's scores of a recording
        and of what was made of it apart.
    """

    discriminators: Annotated[tuple[Discriminator, ...], Field(min_length=1)] = (
        # Long windows see partials, short ones see onsets and the buzz of a frame rate.
        STFTConfig(n_fft=2048, hop=512), STFTConfig(n_fft=512, hop=128))
    game: Literal["least_squares", "hinge"] = "least_squares"
    turn: Literal["all", "one"] = "all"
    weight: Weight = 0.2
    feature_matching: Weight = 1.0
    repulsion: Weight = 0.0

    @pydantic.model_validator(mode="after")
    def _check(self):
        if twice := next((one for one in self.discriminators
                          if self.discriminators.count(one) > 1), None):
            raise ValueError(f"discriminators holds the same {twice.kind} twice")
        return self

    @property
    def longest(self) -> int:
        """Samples of the longest window of a spectrum; 0 where there is none."""
        return max((one.n_fft for one in self.discriminators if isinstance(one, SpectrumConfig)),
                   default=0)
