"""Front ends: what the encoder sees of the audio, one class for each kind of the config's
`front_end`.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import layers

from ..config import Config, WaveformFrontEnd
from .layers import register


@register
class WaveformInput(layers.Reshape):
    """audio float32 [batch, T] -> [batch, T, 1]: the samples themselves, as one channel.

    What every front end offers: `call` (analyse), `hop` in samples a step, `channels` of a step and
    `receptive_field`, (left, right) in samples.
    """

    hop, channels, receptive_field = 1, 1, (0, 0)

    def __init__(self, target_shape=(-1, 1), **kwargs):
        super().__init__(target_shape, **kwargs)


FRONT_ENDS: dict[type[Config], Callable] = {WaveformFrontEnd: lambda config, sample_rate: WaveformInput(name="channel")}
"""The layer of each kind of front end: (config, sample rate) -> layer."""
