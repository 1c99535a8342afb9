"""Vocoders: audio from what a decoder says, for those heads of a codec that make none of it
themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..config import LEVEL_RANGE, CodecConfig
from ..dsp.metrics import mean_filters


class GriffinLim:
    """Levels float32 [batch, frames·channels], a piece's frames one after the other, as the front
    end has them -> audio float32 [batch, frames·hop].

    Mel bands are first spread over bins by the pseudoinverse of their filters, clipped at zero; of
    bins the last, at half the sample rate, which the front end leaves out, is silent. Then `steps`
    times the audio that comes nearest to magnitudes and phases gives new phases (Griffin and Lim
    1984; with momentum, Perraudin, Balazs and Søndergaard 2013), by librosa.

    All phases begin at zero and nothing is drawn, so a frame depends on those within reach and on
    nothing else: blocks with a halo of `receptive_field` frames are the whole.
    """

    def __init__(self, config: CodecConfig):
        front, self.steps = config.front_end, config.head.steps
        self.hop, self.n_fft, self.channels = front.hop, front.n_fft, front.channels
        self.bins = None
        if front.mels:
            filters = mean_filters(config.sample_rate, front.n_fft, front.mels, front.highest)
            self.bins = np.linalg.pinv(filters.astype(np.float64))

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Frames to either side: each step sees all windows that overlap with a frame's."""
        parts = self.n_fft // self.hop
        seen = self.steps * (parts - 1)
        return seen + parts // 2 - 1, seen + parts // 2

    def __call__(self, levels) -> np.ndarray:
        levels = np.asarray(levels, np.float64).reshape(len(levels), -1, self.channels)
        return np.stack([self._audio(one) for one in levels])

    def _audio(self, levels) -> np.ndarray:
        """One piece: [frames, channels] -> float32 [frames·hop]."""
        import librosa

        samples = len(levels) * self.hop
        # The last frame stays for a window: no short piece is shorter than that.
        levels = np.pad(levels, ((0, self.n_fft // self.hop), (0, 0)), "edge")
        # A sine of amplitude a gives a, `nn.spectrum.level_of`; without scaling it gives n_fft/4
        # times that.
        amplitudes = 10.0 ** ((np.clip(levels.T, 0.0, 1.3) - 1.1) * LEVEL_RANGE / 20)
        if self.bins is not None:
            amplitudes = np.maximum(self.bins @ amplitudes, 0.0)
        else:
            amplitudes = np.pad(amplitudes, ((0, 1), (0, 0)))
        audio = librosa.griffinlim(
            amplitudes * (self.n_fft / 4), n_iter=self.steps, hop_length=self.hop,
            n_fft=self.n_fft, length=(len(levels) - 1) * self.hop, init=None)
        return audio[:samples].astype(np.float32)


VOCODERS: dict[str, Callable] = {"griffin_lim": GriffinLim}
"""What makes audio of what each kind of head says that makes none itself: (codec config) -> what
takes the decoder's rows float32 [batch, n] and returns float32 [batch, samples].
"""


def vocoder(config: CodecConfig) -> Callable:
    """What makes audio float32 [batch, samples] of what a codec's decoder says; nothing is changed
    where that is audio.
    """
    make = VOCODERS.get(config.head.kind)
    return make(config) if make else np.asarray
