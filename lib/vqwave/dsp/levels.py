"""The loudness of bands of a sound around given times."""

import numpy as np

from .metrics import power_db
from .spectrum import magnitudes

N_FFT, HOP = 2048, 512


def levels_around(audio, sample_rate: int, times: np.ndarray, edges) -> np.ndarray:
    """The mean power of each band of audio, float [samples], from halfway to the time before to
    halfway to the next: float32 [times, bands], dBFS. times: seconds, sorted. edges: Hz.
    """
    bands = np.digitize(np.fft.rfftfreq(N_FFT, 1 / sample_rate), edges)
    members = np.eye(len(edges) + 1)[bands]
    # The squared magnitudes of a Hann window's spectrum sum to N · Σ hann² · the mean square / 2.
    scale = 2 / (N_FFT * 0.375 * N_FFT)
    powers = np.concatenate([block**2 @ members for block in magnitudes(audio, N_FFT, HOP)]) * scale
    middles = (times[1:] + times[:-1]) / 2
    ends = np.concatenate([2 * times[:1] - middles[:1], middles, 2 * times[-1:] - middles[-1:]])
    total = np.concatenate([np.zeros((1, len(edges) + 1)), powers.cumsum(0)])
    frames = np.clip(np.rint(ends * sample_rate / HOP), 0, len(powers)).astype(int)
    counts = np.maximum(np.diff(frames), 1)[:, None]
    return power_db((total[frames[1:]] - total[frames[:-1]]) / counts).astype(np.float32)
