"""Cross-fades, fades, loops, and loudness without clipping."""

from __future__ import annotations

import math

import numpy as np

LOUDNESS = -14.0
"""LUFS of normalised music, as of the large streaming services."""

CEILING = -1.0
"""dB of true peak that normalised sound stays under: lossy encoders add to peaks."""

_MOST_LIMITED = 9.0
"""dB that the limiter takes off a peak at most."""

_LOOK_AHEAD = 0.02
"""Seconds before and after a peak in which the limiter's gain moves."""

_SEAM = 0.5
"""Seconds of a loop's cross-fade, and of the search for its best place."""


def cross_fade(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """From `old` to `new`, float32 [n] both, at constant loudness: a linear fade where the two are
    alike, equal power where they are not.
    """
    up = (0.5 - 0.5 * np.cos(np.pi * (np.arange(len(old)) + 0.5) / len(old))).astype(np.float32)
    power = float(np.sqrt(np.dot(old, old) * np.dot(new, new)))
    similarity = max(0.0, float(np.dot(old, new)) / power) if power > 0 else 1.0
    loudness = np.sqrt(up**2 + (1 - up) ** 2 + 2 * similarity * up * (1 - up))
    return ((old * (1 - up) + new * up) / loudness).astype(np.float32)


def fade(block: np.ndarray, position: int, length: int, total: int | None) -> np.ndarray:
    """A block, float32 [n] or [batch, n], of a piece that fades in and out over `length` samples.

    position: of the block in the piece; total: samples of the piece, None where it has no end.
    """
    time = position + np.arange(block.shape[-1]) + 0.5
    edge = time if total is None else np.minimum(time, total - time)
    return (block * (0.5 - 0.5 * np.cos(np.pi * np.clip(edge / length, 0, 1)))).astype(np.float32)


def loop_margin(sample_rate: int, samples: int) -> int:
    """Samples that `loop` needs beyond a loop of `samples`."""
    return min(round(_SEAM * sample_rate), samples // 2)


def loop(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A piece, up to a second shorter, whose end joins its beginning: float32 [n] -> float32 [m].

    What follows the new end is cross-faded into the beginning. The end is placed, within half a
    second, where what follows has the highest normalised cross-correlation with the beginning.
    """
    from scipy.signal import correlate

    fade = min(round(_SEAM * sample_rate), audio.size // 3)
    if not fade:
        return audio
    first, head = audio.size - 2 * fade, audio[:fade]
    tail = audio[first:].astype(np.float64)
    match = correlate(tail, head.astype(np.float64), "valid", method="fft")
    sums = np.concatenate([[0.0], np.cumsum(tail**2)])
    match /= np.sqrt(np.maximum(sums[fade:] - sums[:-fade], 1e-9))
    end = first + fade - int(np.argmax(match[::-1]))  # the latest of equals
    looped = audio[:end].astype(np.float32)
    looped[:fade] = cross_fade(audio[end : end + fade], head)
    return looped


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of float [n] in LUFS (ITU-R BS.1770-4); -inf where all is below -70."""
    import pyloudnorm

    meter = pyloudnorm.Meter(sample_rate)
    window = math.ceil(meter.block_size * sample_rate)
    if not audio.size:
        return -math.inf
    if audio.size < window:
        audio = np.tile(audio, -(-window // audio.size))
    return float(meter.integrated_loudness(audio.astype(np.float64)))


def true_peak(audio: np.ndarray) -> float:
    """The peak, also between samples, by four-fold oversampling (BS.1770-4, annex 2)."""
    return float(_peaks(audio).max(initial=0.0))


def normalize(audio: np.ndarray, sample_rate: int, target: float = LOUDNESS,
              looped: bool = False) -> np.ndarray:
    """Sound at `target` LUFS without clipping: float [n] -> float32 [n].

    A look-ahead limiter holds true peaks under `CEILING`, by 9 dB at most: louder music stays under
    the target. Silence stays as it is. looped: the end is followed by the beginning.
    """
    measured = loudness(audio, sample_rate)
    if measured == -math.inf:
        return np.asarray(audio, np.float32)
    max_gain = CEILING + _MOST_LIMITED - 20 * math.log10(max(true_peak(audio), 1e-9))
    gain = 0.0
    for _ in range(5):  # the limiter lowers the loudness, so the gain is corrected
        gain = min(gain + target - measured, max_gain)
        limited = _limit_peaks(audio * np.float32(10 ** (gain / 20)), sample_rate, looped)
        measured = loudness(limited, sample_rate)
        if gain == max_gain or abs(target - measured) < 0.1:
            break
    return limited


def _limit_peaks(audio, sample_rate, looped):
    """Multiply by a slow gain: at each sample at most what every peak within reach allows."""
    from scipy.ndimage import convolve1d, minimum_filter1d

    reach = max(1, round(_LOOK_AHEAD * sample_rate))
    margin = 2 * reach + 64
    wide = np.pad(audio, margin, mode="wrap" if looped else "constant")
    allowed = np.minimum(1.0, 10 ** (CEILING / 20) / np.maximum(_peaks(wide), 1e-9))
    window = np.hanning(2 * reach + 3)[1:-1]
    gain = convolve1d(minimum_filter1d(allowed, 2 * reach + 1), window / window.sum())
    return (wide * gain)[margin : margin + audio.size].astype(np.float32)


def _peaks(audio):
    """The largest magnitude within half a sample of each sample: float [n] -> float [n]."""
    from scipy.signal import resample_poly

    # Three points on either side, up to 3/4 of a sample away.
    fine = np.pad(np.abs(resample_poly(audio.astype(np.float64), 4, 1)), 3)
    return np.max([fine[i : i + 4 * audio.size : 4] for i in range(7)], axis=0)
