"""Vocoders: audio from the outputs of decoders whose heads make no audio."""

from collections.abc import Callable

import numpy as np

from ..codecs import CodecConfig
from ..dsp.spectrum import mean_filters
from ..levels import FULL_SCALE, LOUDNESS_RANGE, MOST_LOUDNESS

MOMENTUM = 0.99
"""The weight of the last step's change of spectra."""


class GriffinLim:
    """Loudness from the front end float32 [batch, frames·channels], frame after frame -> audio
    float32 [batch, frames·hop].

    The pseudoinverse of the mel filters, clipped at zero, gives magnitudes; the bin at half the
    sample rate is silent. `steps` iterations give the phases (Griffin and Lim 1984; with momentum,
    Perraudin, Balazs and Søndergaard 2013), which are zero first.
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
        samples = len(loudness) * self.hop
        # Repeat the last frame for the length of a window, so that no piece is shorter.
        loudness = np.pad(loudness, ((0, self.n_fft // self.hop), (0, 0)), "edge")
        # The inverse of `spectrum_layer.loudness_of`: a sine of amplitude a has magnitude a.
        # In an unscaled transform its magnitude is a·n_fft/4.
        below = np.clip(loudness.T, 0.0, MOST_LOUDNESS) - FULL_SCALE
        amplitudes = 10.0 ** (below * LOUDNESS_RANGE / 20)
        amplitudes = (np.pad(amplitudes, ((0, 1), (0, 0))) if self.bins is None
                      else np.maximum(self.bins @ amplitudes, 0.0))
        audio = griffin_lim(amplitudes.T * (self.n_fft / 4), self.n_fft, self.hop, self.steps)
        return audio[:samples].astype(np.float32)


def griffin_lim(magnitudes, n_fft: int, hop: int, steps: int) -> np.ndarray:
    """Audio with these magnitudes of an STFT: float64 [frames, n_fft / 2 + 1] -> float64
    [(frames - 1)·hop]. n_fft is a multiple of twice the hop. Phases begin at 0.
    """
    spectra, before, hann = magnitudes.astype(complex), 0.0, _hann(n_fft)
    for _ in range(steps):
        padded = np.pad(_overlap_add(spectra, n_fft, hop), n_fft // 2)
        windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
        rebuilt = np.fft.rfft(windows * hann)
        spectra = rebuilt - MOMENTUM / (1 + MOMENTUM) * before
        spectra *= magnitudes / (np.abs(spectra) + np.finfo(float).tiny)
        before = rebuilt
    return _overlap_add(spectra, n_fft, hop)


def _overlap_add(spectra, n_fft: int, hop: int) -> np.ndarray:
    """The inverse STFT: complex [frames, n_fft / 2 + 1] -> float64 [(frames - 1)·hop]."""
    frames, parts, hann = len(spectra), n_fft // hop, _hann(n_fft)
    waves = (np.fft.irfft(spectra, n_fft) * hann).reshape(frames, parts, hop)
    audio, weight = np.zeros((2, frames + parts - 1, hop))
    for part, window in enumerate(hann.reshape(parts, hop)):
        audio[part : part + frames] += waves[:, part]
        weight[part : part + frames] += window**2
    middle = slice(parts // 2, frames + parts // 2 - 1)
    return (audio[middle] / weight[middle]).ravel()


def _hann(n_fft: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)


VOCODERS: dict[str, Callable] = {"griffin_lim": GriffinLim}
"""The vocoder of each kind of head that makes no audio: (codec config) -> a function from the
decoder's output float32 [batch, n] to audio float32 [batch, samples].
"""


def vocoder(config: CodecConfig) -> Callable:
    """The vocoder of a codec; for a decoder that makes audio, the identity."""
    new_vocoder = VOCODERS.get(config.head.kind)
    return new_vocoder(config) if new_vocoder else np.asarray
