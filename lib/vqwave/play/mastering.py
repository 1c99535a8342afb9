"""What is done to sound that is made: cross-fades, fades, loops, and loudness that never clips."""

from __future__ import annotations

import math

import numpy as np

LOUDNESS = -14.0
"""LUFS that music is normalised to: what the large streaming services play at."""

CEILING = -1.0
"""dB (true peak) that normalised sound stays under, so that no lossy encoder pushes it over full
scale.
"""

_MOST_LIMITED = 9.0
"""dB that the limiter takes off the loudest peak at most; music that would need more stays quieter.
"""

_LOOK_AHEAD = 0.02
"""Seconds before a peak in which the limiter's gain goes down, and after it, up again."""

_SEAM = 0.5
"""Seconds over which a loop's end passes into its beginning, and within which the best place for
that is sought.
"""


def cross_fade(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """From `old` to `new`, float32 [n] both, at constant loudness however alike the two are.

    Alike, their amplitudes add up to one (a linear fade); unlike, their powers do (equal power).
    """
    up = (0.5 - 0.5 * np.cos(np.pi * (np.arange(len(old)) + 0.5) / len(old))).astype(np.float32)
    power = float(np.sqrt(np.dot(old, old) * np.dot(new, new)))
    alike = max(0.0, float(np.dot(old, new)) / power) if power > 0 else 1.0
    loudness = np.sqrt(up**2 + (1 - up) ** 2 + 2 * alike * up * (1 - up))
    return ((old * (1 - up) + new * up) / loudness).astype(np.float32)


def fade(block: np.ndarray, position: int, length: int, total: int | None) -> np.ndarray:
    """A block of a piece that fades in and out over `length` samples each: float32 [n], [batch, n]
    -> the same.

    position: of its first sample in the piece; total: samples of the piece, None where it has no
        end to fade out.
    """
    at = position + np.arange(block.shape[-1]) + 0.5
    edge = at if total is None else np.minimum(at, total - at)
    return (block * (0.5 - 0.5 * np.cos(np.pi * np.clip(edge / length, 0, 1)))).astype(np.float32)


def loop_margin(sample_rate: int, samples: int) -> int:
    """Samples that `loop` needs beyond a loop of `samples`."""
    return min(round(_SEAM * sample_rate), samples // 2)


def loop(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A piece without its last second or less, whose end joins its beginning: float32 [n] ->
    float32 [m].

    What follows the end is cross-faded into the beginning, so that the last sample is followed by
    the one that followed it when it was made. The end is put, within half a second, where what
    follows it matches the beginning best (normalised cross-correlation), so that their waves add up
    instead of cancelling.
    """
    from scipy.signal import correlate

    fade = min(round(_SEAM * sample_rate), audio.size // 3)
    if not fade:
        return audio
    first, head = audio.size - 2 * fade, audio[:fade]
    follows = audio[first:].astype(np.float64)
    match = correlate(follows, head.astype(np.float64), "valid", method="fft")
    sums = np.concatenate([[0.0], np.cumsum(follows**2)])
    match /= np.sqrt(np.maximum(sums[fade:] - sums[:-fade], 1e-9))
    end = first + fade - int(np.argmax(match[::-1]))  # the latest of equals
    looped = audio[:end].astype(np.float32)
    looped[:fade] = cross_fade(audio[end : end + fade], head)
    return looped


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4): float [n] -> -inf where all of it is below -70
    LUFS.
    """
    import pyloudnorm

    meter = pyloudnorm.Meter(sample_rate)
    least = math.ceil(meter.block_size * sample_rate)
    if not audio.size:
        return -math.inf
    if audio.size < least:
        # Shorter than the meter's window: as loud as it would be if it went on.
        audio = np.tile(audio, -(-least // audio.size))
    return float(meter.integrated_loudness(audio.astype(np.float64)))


def true_peak(audio: np.ndarray) -> float:
    """The peak of the wave between samples too, by four-fold oversampling (BS.1770-4, annex 2):
    float [n] -> 0 … .
    """
    return float(_peaks(audio).max(initial=0.0))


def normalize(audio: np.ndarray, sample_rate: int, target: float = LOUDNESS,
              looped: bool = False) -> np.ndarray:
    """Sound brought to `target` LUFS without clipping: float [n] -> float32 [n].

    Peaks above -1 dB (true peak) are held by a look-ahead limiter, by 9 dB at most: what would need
    more stays quieter. Silence, all below -70 LUFS, is left as it is. looped: the end is followed
    by the beginning.
    """
    measured = loudness(audio, sample_rate)
    if measured == -math.inf:
        return np.asarray(audio, np.float32)
    most = CEILING + _MOST_LIMITED - _decibel(true_peak(audio))
    gain = 0.0
    # The limiter takes off some loudness too: made up for until it is within a tenth of a dB.
    for _ in range(5):
        gain = min(gain + target - measured, most)
        made = _limit_peaks(audio * np.float32(10 ** (gain / 20)), sample_rate, looped)
        measured = loudness(made, sample_rate)
        if gain == most or abs(target - measured) < 0.1:
            break
    return made


def _limit_peaks(audio, sample_rate, looped):
    """Under the ceiling by a gain that moves slowly: at each sample no more than any peak within
    reach allows.
    """
    from scipy.ndimage import convolve1d, minimum_filter1d

    reach = max(1, round(_LOOK_AHEAD * sample_rate))
    margin = 2 * reach + 64
    wide = np.pad(audio, margin, mode="wrap" if looped else "constant")
    allowed = np.minimum(1.0, 10 ** (CEILING / 20) / np.maximum(_peaks(wide), 1e-9))
    window = np.hanning(2 * reach + 3)[1:-1]
    gain = convolve1d(minimum_filter1d(allowed, 2 * reach + 1), window / window.sum())
    return (wide * gain)[margin : margin + audio.size].astype(np.float32)


def _peaks(audio):
    """The largest magnitude from half a sample before to half a sample after each sample: float [n]
    -> float [n].
    """
    from scipy.signal import resample_poly

    # Three points to either side of each sample, which are up to 3/4 of a sample away.
    fine = np.pad(np.abs(resample_poly(audio.astype(np.float64), 4, 1)), 3)
    return np.max([fine[i : i + 4 * audio.size : 4] for i in range(7)], axis=0)


def _decibel(amplitude):
    return 20 * math.log10(max(amplitude, 1e-9))
