"""The weights of the terms of a codec's loss."""

from typing import ClassVar

from ..levels.fields import Config, Weight


class LossConfig(Config):
    """Weights of the terms of a codec's loss (`losses_layer.py`)."""

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
