"""Cross-fades, fades, loops, and loudness without clipping."""

import math

import numpy as np

NORMALIZED_TO = -14.0
"""The loudness of normalised music in LUFS, as on the large streaming services."""
CEILING = -1.0
"""The highest true peak of normalised sound, in dB. Lossy encoders raise peaks."""
_MOST_LIMITED = 9.0
"""The limiter's largest attenuation, in dB."""
_GATE_SECONDS, _GATE = 0.4, -70.0
"""The seconds of a window of the loudness; windows below this loudness, in LUFS, do not count."""
_LOOK_AHEAD = 0.02
"""The seconds before and after a peak in which the limiter's gain changes."""
_SEAM = 0.5
"""Seconds of a loop's cross-fade, and of the search for its best position."""


def cross_fade(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A cross-fade from `old` to `new`, both float32 [n], at constant loudness: linear if the two
    correlate, with equal power if they do not.
    """
    up = (0.5 - 0.5 * np.cos(np.pi * (np.arange(len(old)) + 0.5) / len(old))).astype(np.float32)
    power = float(np.sqrt(np.dot(old, old) * np.dot(new, new)))
    similarity = max(0.0, float(np.dot(old, new)) / power) if power > 0 else 1.0
    loudness = np.sqrt(up**2 + (1 - up) ** 2 + 2 * similarity * up * (1 - up))
    return ((old * (1 - up) + new * up) / loudness).astype(np.float32)


def fade(block: np.ndarray, position: int, length: int, total: int | None) -> np.ndarray:
    """A block, float32 [n] or [batch, n], of a piece that fades in and out over `length` samples.

    position: of the block in the piece. total: samples of the piece; None: endless.
    """
    time = position + np.arange(block.shape[-1]) + 0.5
    edge = time if total is None else np.minimum(time, total - time)
    return (block * (0.5 - 0.5 * np.cos(np.pi * np.clip(edge / length, 0, 1)))).astype(np.float32)


def loop_margin(sample_rate: int, samples: int) -> int:
    """Samples that `loop` needs beyond a loop of `samples`."""
    return min(round(_SEAM * sample_rate), samples // 2)


def loop(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A piece that can repeat without a seam, up to a second shorter: float32 [n] -> float32 [m].

    The beginning is cross-faded from the sound after the new end. The new end is where that sound
    has the highest normalised cross-correlation with the beginning, in a search of half a second.
    """
    fade = min(round(_SEAM * sample_rate), audio.size // 3)
    if not fade:
        return audio
    first, head = audio.size - 2 * fade, audio[:fade]
    tail = audio[first:].astype(np.float64)
    spectrum = np.fft.rfft(tail) * np.fft.rfft(head.astype(np.float64), tail.size).conj()
    match = np.fft.irfft(spectrum, tail.size)[: tail.size - fade + 1]
    sums = np.concatenate([[0.0], np.cumsum(tail**2)])
    match /= np.sqrt(np.maximum(sums[fade:] - sums[:-fade], 1e-9))
    end = first + fade - int(np.argmax(match[::-1]))  # the latest of equals
    looped = audio[:end].astype(np.float32)
    looped[:fade] = cross_fade(audio[end : end + fade], head)
    return looped


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of float [n] in LUFS (ITU-R BS.1770-4); -inf if all is below -70."""
    if not audio.size:
        return -math.inf
    window = _GATE_SECONDS * sample_rate
    if audio.size < window:
        audio = np.tile(audio, -(-math.ceil(window) // audio.size))
    energy = np.cumsum(np.append(0.0, _k_weighted(audio, sample_rate) ** 2))
    # Windows overlap by three quarters.
    starts = np.arange(round((audio.size / window - 1) * 4) + 1) * window / 4
    ends = np.minimum((starts + window).astype(int), audio.size)
    power = (energy[ends] - energy[starts.astype(int)]) / window
    audible = power[power >= 10 ** ((_GATE + 0.691) / 10)]
    if not audible.size:
        return -math.inf
    return -0.691 + 10 * math.log10(audible[audible > audible.mean() / 10].mean())


def _k_weighted(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Filter float [n] as BS.1770 says: a shelf of 4 dB above 1.5 kHz and a high-pass at 38 Hz (the
    biquads of R. Bristow-Johnson's cookbook).
    """
    def angles(hertz, quality):
        angle = 2 * math.pi * hertz / sample_rate
        return math.cos(angle), math.sin(angle) / (2 * quality)

    gain = 10 ** (4 / 40)
    (c, alpha), root = angles(1500, math.sqrt(0.5)), 2 * math.sqrt(gain)
    shelf = ([gain * (gain + 1 + (gain - 1) * c + root * alpha),
              -2 * gain * (gain - 1 + (gain + 1) * c),
              gain * (gain + 1 + (gain - 1) * c - root * alpha)],
             [gain + 1 - (gain - 1) * c + root * alpha, 2 * (gain - 1 - (gain + 1) * c),
              gain + 1 - (gain - 1) * c - root * alpha])
    c, alpha = angles(38, 0.5)
    high_pass = ([(1 + c) / 2, -1 - c, (1 + c) / 2], [1 + alpha, -2 * c, 1 - alpha])
    # After a second of zeros the filters' responses have decayed, so nothing wraps around.
    size = 1 << (audio.size + sample_rate).bit_length()
    spectrum, z = np.fft.rfft(audio, size), np.exp(-2j * np.pi * np.fft.rfftfreq(size))
    for above, below in (shelf, high_pass):
        spectrum *= np.polyval(above[::-1], z) / np.polyval(below[::-1], z)
    return np.fft.irfft(spectrum, size)[: audio.size]


def true_peak(audio: np.ndarray) -> float:
    """The true peak, by four-fold oversampling (BS.1770-4, annex 2)."""
    return float(_peaks(audio).max(initial=0.0))


def normalize(audio: np.ndarray, sample_rate: int, looped: bool = False) -> np.ndarray:
    """Sound at `NORMALIZED_TO` LUFS without clipping: float [n] -> float32 [n].

    A look-ahead limiter keeps true peaks below `CEILING`. It attenuates by 9 dB at most, so music
    with high peaks stays below the target. Silence stays as it is. looped: the piece repeats.
    """
    measured = loudness(audio, sample_rate)
    if measured == -math.inf:
        return np.asarray(audio, np.float32)
    max_gain = CEILING + _MOST_LIMITED - 20 * math.log10(max(true_peak(audio), 1e-9))
    gain = 0.0
    for _ in range(5):  # the limiter lowers the loudness, so the gain is corrected
        gain = min(gain + NORMALIZED_TO - measured, max_gain)
        limited = _limit_peaks(audio * np.float32(10 ** (gain / 20)), sample_rate, looped)
        measured = loudness(limited, sample_rate)
        if gain == max_gain or abs(NORMALIZED_TO - measured) < 0.1:
            break
    return limited


def _limit_peaks(audio, sample_rate, looped):
    """Multiply by a slow gain that keeps all peaks within `_LOOK_AHEAD` below `CEILING`."""
    reach = max(1, round(_LOOK_AHEAD * sample_rate))
    margin = 2 * reach + 64
    wide = np.pad(audio, margin, mode="wrap" if looped else "constant")
    allowed = np.minimum(1.0, 10 ** (CEILING / 20) / np.maximum(_peaks(wide), 1e-9))
    window = np.hanning(2 * reach + 3)[1:-1]
    gain = np.convolve(_minima(allowed, 2 * reach + 1), window / window.sum(), "valid")
    return (audio * gain[64 : 64 + audio.size]).astype(np.float32)


def _minima(values, width: int):
    """The minimum of each `width` successive values: float [n] -> float [n - width + 1]."""
    span = 1
    while 2 * span <= width:
        values, span = np.minimum(values[:-span], values[span:]), 2 * span
    rest = width - span
    return np.minimum(values[: len(values) - rest], values[rest:])


def _peaks(audio):
    """The largest magnitude within half a sample of each sample: float [n] -> float [n]."""
    # A sinc of 20 samples with a Kaiser window, at four points of each sample.
    taps = np.sinc(np.arange(-40, 44) / 4) * np.append(np.kaiser(81, 5.0), [0, 0, 0])
    taps *= 4 / taps.sum()
    wide = np.pad(audio.astype(np.float64), 10)
    fine = np.stack([np.convolve(wide, taps[i::4], "valid") for i in range(4)], axis=1)
    # Three points on either side, up to 3/4 of a sample away.
    fine = np.pad(np.abs(fine.ravel()), 3)
    return np.max([fine[i : i + 4 * audio.size : 4] for i in range(7)], axis=0)
