"""Heads, losses and adversaries: a codec's synthesis of audio, and its training objectives."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .codec_parts import CodecPart
from .fields import (
    AboveZero,
    Config,
    Dilations,
    Flag,
    Positive,
    Weight,
    Whole,
    WindowSize,
    default_kind,
)


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


class TonesHead(HeadPart):
    """The decoder sets the loudness of `tones` oscillators and of noise, as in DDSP."""

    kind: Literal["tones"] = "tones"
    noncausal = True
    needs_position = True
    tones: Whole = 192


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


AnyHead = Annotated[WaveformHead | TonesHead | SourceFilterHead | SpectrogramHead
                    | GriffinLimHead, Field(discriminator="kind"), default_kind("waveform")]


class LossConfig(Config):
    """Weights of the terms of a codec's loss (`nn/losses.py`)."""

    audio_terms: ClassVar[tuple[str, ...]] = (
        "spectral_convergence", "log_magnitude", "mel", "multi_mel", "waveform", "hum",
        "constant_q", "flux", "contrast")
    """The terms that compare a reconstruction with the recording."""

    spectral_convergence: Weight = 1.0
    log_magnitude: Weight = 0.5
    mel: Weight = 1.0
    multi_mel: Weight = 0.0
    waveform: Weight = 0.2
    hum: Weight = 0.0
    constant_q: Weight = 0.0
    flux: Weight = 0.0
    contrast: Weight = 0.0
    channel_average: Weight = 0.0
    # For a head of source_filter: predicted peaks against those of the recording.
    presence: Weight = 0.1
    level: Weight = 5.0
    # For a head of source_filter or griffin_lim: the predicted spectrum.
    spectrum: Weight = 1.5


class DiscriminatorConfig(Config):
    """Convolutions over a spectrogram with windows of `n_fft` samples, every `hop` samples. kind:
    the log magnitude, or the real and imaginary parts (complex_stft).
    """

    kind: Literal["magnitude", "complex_stft"] = "magnitude"
    n_fft: WindowSize
    hop: Annotated[int, Field(strict=True, ge=1, le=65536)]


class AdversaryConfig(Config):
    """Discriminators, and their game against the decoder (`nn/discriminators.py`).

    turn: a training step uses all discriminators, or one drawn by the seed. weight,
    feature_matching, repulsion: weights of terms in the loss (`Adversary.losses_of`). late: use the
    adversary only when the decoder is trained alone, after the codes.
    """

    discriminators: Annotated[tuple[DiscriminatorConfig, ...], Field(min_length=1)] = (
        # Long windows resolve partials; short windows resolve onsets, and buzz at the frame rate.
        DiscriminatorConfig(n_fft=2048, hop=512), DiscriminatorConfig(n_fft=1024, hop=256),
        DiscriminatorConfig(n_fft=512, hop=128), DiscriminatorConfig(n_fft=256, hop=64))
    game: Literal["least_squares", "hinge"] = "least_squares"
    turn: Literal["all", "one"] = "one"
    weight: Weight = 0.7
    feature_matching: Weight = 2.0
    repulsion: Weight = 0.0
    late: Flag = False

    @property
    def longest(self) -> int:
        """Samples of the longest window of a spectrum."""
        return max(discriminator.n_fft for discriminator in self.discriminators)
