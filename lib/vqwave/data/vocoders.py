"""Vocoders: audio from the outputs of decoders whose heads make no audio."""

from collections.abc import Callable

import numpy as np

from ..config import FULL_SCALE, LOUDNESS_RANGE, MOST_LOUDNESS, CodecConfig
from ..dsp.spectrum import mean_filters


class GriffinLim:
    """Loudness from the front end float32 [batch, frames·channels], frame after frame ->
    audio float32 [batch, frames·hop].

    The pseudoinverse of the mel filters, clipped at zero, gives magnitudes; the bin at half the
    sample rate is silent. `steps` iterations give the phases (Griffin and Lim 1984; with momentum,
    Perraudin, Balazs and Søndergaard 2013). Initial phases are zero, so blocks with a halo of
    `receptive_field` frames equal the whole.
    """

    def __init__(self, config: CodecConfig):
        front, self.steps = config.front_end, config.head.steps
        self.hop, self.n_fft, self.channels = front.hop, front.n_fft, front.channels
        self.bins = None
        if front.mels:
            filters = mean_filters(config.sample_rate, front.n_fft, front.mels)
            self.bins = np.linalg.pinv(filters.astype(np.float64))

    @property
    def receptive_field(self) -> tuple[int, int]:
        """In frames on either side. In each step, a frame depends on all overlapping windows."""
        overlap = self.n_fft // self.hop
        side = self.steps * (overlap - 1) + overlap // 2
        return side - 1, side

    def __call__(self, loudness) -> np.ndarray:
        loudness = np.asarray(loudness, np.float64).reshape(len(loudness), -1, self.channels)
        return np.stack([self._audio(piece) for piece in loudness])

    def _audio(self, loudness) -> np.ndarray:
        """One piece: [frames, channels] -> float32 [frames·hop]."""
        import librosa

        samples = len(loudness) * self.hop
        # Repeat the last frame for the length of a window, so that no piece is shorter.
        loudness = np.pad(loudness, ((0, self.n_fft // self.hop), (0, 0)), "edge")
        # The inverse of `nn.spectrum.loudness_of`, in which a sine of amplitude a has magnitude a.
        # In an unscaled transform its magnitude is a·n_fft/4.
        below = np.clip(loudness.T, 0.0, MOST_LOUDNESS) - FULL_SCALE
        amplitudes = 10.0 ** (below * LOUDNESS_RANGE / 20)
        if self.bins is not None:
            amplitudes = np.maximum(self.bins @ amplitudes, 0.0)
        else:
            amplitudes = np.pad(amplitudes, ((0, 1), (0, 0)))
        audio = librosa.griffinlim(
            amplitudes * (self.n_fft / 4), n_iter=self.steps, hop_length=self.hop,
            n_fft=self.n_fft, length=(len(loudness) - 1) * self.hop, init=None)
        return audio[:samples].astype(np.float32)


VOCODERS: dict[str, Callable] = {"griffin_lim": GriffinLim}
"""The vocoder of each kind of head that makes no audio: (codec config) -> a function from the
decoder's output float32 [batch, n] to audio float32 [batch, samples].
"""


def vocoder(config: CodecConfig) -> Callable:
    """The vocoder of a codec; for a decoder that makes audio, the identity."""
    new_vocoder = VOCODERS.get(config.head.kind)
    return new_vocoder(config) if new_vocoder else np.asarray
