"""How much of the timing of music a copy keeps: onsets, their contour, and the beat, in frames of
256 samples. Deaf to pitch, and to differences below 50 ms. Envelopes and onsets equal those of
librosa 0.11.
"""

from itertools import pairwise

import numpy as np

from .spectrum import magnitudes, mel_filters, resample

SAMPLE_RATE, HOP = 22050, 256
FRAMES_PER_SECOND = SAMPLE_RATE / HOP
WINDOW, BANDS = 2048, 128
"""The samples of a window and the mel bands of an onset envelope."""
RANGE_DB = 80.0
"""A mel band counts from this loudness below the loudest."""
TOLERANCE_SECONDS = 0.05
"""The largest distance of matching attacks in original and copy."""
BEAT_WINDOW_SECONDS = 12.0
BEAT_LAGS_SECONDS = 0.25, 1.5
LEAST_PULSE = 0.25
"""The least pulse of a window with a beat; without a beat the pulse is about 0.15."""


def onset_envelope(audio, sample_rate: int) -> np.ndarray:
    """The `onset_envelopes` of all mel bands together: float32 [1 + samples // 256]."""
    return onset_envelopes(audio, sample_rate, (0, BANDS))[0]


def onset_envelopes(audio, sample_rate: int, edges) -> np.ndarray:
    """The mean rise of mel bands in dB a frame (spectral flux): audio float [samples] -> float32
    [len(edges) - 1, 1 + samples // 256], at 22,050 Hz. An envelope lags by half a window. edges:
    the first of the `BANDS` mel bands of each envelope, and the end of the last.
    """
    audio = resample(audio, sample_rate, SAMPLE_RATE)
    if len(audio) < WINDOW:
        audio = np.pad(audio, (0, WINDOW - len(audio)))
    filters = mel_filters(SAMPLE_RATE, WINDOW, BANDS).T

    def loudness():  # computed twice, so that memory does not grow with the length
        for block in magnitudes(audio, WINDOW, HOP, frames=1024):
            yield 10 * np.log10(np.maximum(block**2 @ filters, 1e-10))

    floor = max(block.max() for block in loudness()) - RANGE_DB
    before, means = np.float32(np.inf), []
    for block in loudness():
        block = np.maximum(block, floor)
        rises = np.maximum(np.diff(block, axis=0, prepend=before), 0)
        means.append([rises[:, first:end].mean(axis=1) for first, end in pairwise(edges)])
        before = block[-1:]
    envelopes = np.concatenate(means, axis=1)
    return np.pad(envelopes, ((0, 0), (WINDOW // (2 * HOP), 0)))[:, : envelopes.shape[1]]


def find_peaks(envelope, highest: tuple[int, int], mean: tuple[int, int], height: float,
               wait: int) -> np.ndarray:
    """The frames of an envelope, float [frames], that are the highest of their neighbourhood and
    at least `height` above its mean; int [peaks], rising. At least `wait` frames lie between two.
    highest, mean: neighbourhoods, as the frames before a frame and after it.
    """
    def neighbours(x, sides, outside):
        return np.lib.stride_tricks.sliding_window_view(
            np.pad(x, sides, constant_values=outside), sum(sides) + 1)

    sums, counts = (neighbours(x, mean, 0.0).sum(axis=1, dtype=float)
                    for x in (envelope, np.ones_like(envelope)))
    is_highest = envelope == neighbours(envelope, highest, -np.inf).max(axis=1)
    peaks: list[int] = []
    for frame in np.flatnonzero(is_highest & (envelope >= sums / counts + height)):
        if not peaks or frame - peaks[-1] > wait:
            peaks.append(frame)
    return np.array(peaks, int)


def compare(original, copy, sample_rate: int) -> dict[str, float]:
    """How much of the timing of a recording is in a copy, float [samples] each; higher is better.
    contour: the correlation of the onset envelopes; attacks: F1 of the onsets; beat,
    beat_of_original: `find_beat` of the copy and of the original.
    """
    envelopes = [onset_envelope(audio, sample_rate) for audio in (original, copy)]
    onsets, copied = map(_onsets, envelopes)
    attacks = f1(count_matches(onsets, copied, TOLERANCE_SECONDS), len(onsets), len(copied))
    return {"contour": _contour(*envelopes), "attacks": attacks,
            "beat": find_beat(envelopes[1]), "beat_of_original": find_beat(envelopes[0])}


def find_beat(envelope) -> float:
    """The share of windows of 12 s, every 6 s, whose pulse exceeds `LEAST_PULSE`: the height of the
    strongest peak of the envelope's autocorrelation between 0.25 and 1.5 s above the median of
    these lags.
    """
    width = int(BEAT_WINDOW_SECONDS * FRAMES_PER_SECOND)
    first, end = (int(lag * FRAMES_PER_SECOND) for lag in BEAT_LAGS_SECONDS)
    pulses = []
    for start in range(0, len(envelope) - width, width // 2):
        window = envelope[start : start + width] - envelope[start : start + width].mean()
        if window.std() < 1e-6:
            continue
        correlation = np.correlate(window, window, "full")[width - 1 :]
        lags = (correlation / correlation[0] * width / np.arange(width, 0, -1))[first:end]
        pulses.append(lags.max() - np.median(lags))
    return float(np.mean(np.array(pulses) > LEAST_PULSE)) if pulses else 0.0


def count_matches(times, other_times, tolerance: float) -> int:
    """The number of pairs, within a tolerance, between two rising lists of times."""
    i = j = matches = 0
    while i < len(times) and j < len(other_times):
        distance = times[i] - other_times[j]
        paired = abs(distance) <= tolerance
        matches += paired
        i, j = i + (paired or distance < 0), j + (paired or distance > 0)
    return matches


def f1(matches: int, count: int, other_count: int) -> float:
    """F1 from the number of matches and the lengths of both lists; 1 if both are empty."""
    return 2 * matches / (count + other_count) if count + other_count else 1.0


def _contour(original, copy) -> float:
    """Correlation of two envelopes, smoothed over 46 ms, minus their means over a second."""
    smooth = np.hanning(6)[1:-1] / np.hanning(6).sum()
    second = np.full(round(FRAMES_PER_SECOND), 1 / round(FRAMES_PER_SECOND))
    curves = []
    for envelope in (original, copy):
        curve = np.convolve(envelope, smooth, "same")
        curves.append(curve - np.convolve(curve, second, "same")[: len(curve)])
    a, b = curves
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-9))


def _onsets(envelope) -> np.ndarray:
    """The times of an envelope's peaks in seconds, float64 [onsets]."""
    scale = np.ptp(envelope)
    if not scale > 0:
        return np.zeros(0)
    peaks = find_peaks((envelope - envelope.min()) / scale, (2, 0), (8, 8), 0.07, 2)
    return peaks / FRAMES_PER_SECOND
