"""Discriminators, and their game against the decoder."""

from typing import Annotated, Literal

from pydantic import Field

from ..levels.fields import Config, Flag, Weight, WindowSize


class DiscriminatorConfig(Config):
    """Convolutions over a spectrogram with windows of `n_fft` samples, every `hop` samples. kind:
    the log magnitude, or the real and imaginary parts (complex_stft).
    """

    kind: Literal["magnitude", "complex_stft"] = "magnitude"
    n_fft: WindowSize
    hop: Annotated[int, Field(strict=True, ge=1, le=65536)]


class AdversaryConfig(Config):
    """Discriminators, and their game against the decoder (`adversary_layer.py`).

    weight, feature_matching, repulsion: weights of terms in the loss (`Adversary.losses_of`). late:
    use the adversary only when the decoder is trained alone, after the codes.
    """

    discriminators: Annotated[tuple[DiscriminatorConfig, ...], Field(min_length=1)] = (
        # Long windows resolve partials; short windows resolve onsets, and buzz at the frame rate.
        DiscriminatorConfig(n_fft=2048, hop=512), DiscriminatorConfig(n_fft=1024, hop=256),
        DiscriminatorConfig(n_fft=512, hop=128), DiscriminatorConfig(n_fft=256, hop=64))
    game: Literal["least_squares", "hinge"] = "least_squares"
    weight: Weight = 0.7
    feature_matching: Weight = 2.0
    repulsion: Weight = 0.0
    late: Flag = False

    @property
    def longest(self) -> int:
        """Samples of the longest window of a spectrum."""
        return max(discriminator.n_fft for discriminator in self.discriminators)
