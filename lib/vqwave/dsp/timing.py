"""How much of the timing of music a copy keeps: onsets, their contour, and the beat. The envelope
is librosa's, in frames of 256 samples. Deaf to pitch, and to differences below 50 ms.
"""

import numpy as np

from .spectrum import resample

SAMPLE_RATE, HOP = 22050, 256
FRAMES_PER_SECOND = SAMPLE_RATE / HOP
TOLERANCE_SECONDS = 0.05
"""The largest distance of matching attacks in original and copy."""
BEAT_WINDOW_SECONDS = 12.0
BEAT_LAGS_SECONDS = 0.25, 1.5
LEAST_PULSE = 0.25
"""The least pulse of a window with a beat; without a beat the pulse is about 0.15."""


def onset_envelope(audio, sample_rate: int) -> np.ndarray:
    """audio float [samples] -> float32 [1 + samples // 256], at 22,050 Hz; a signal shorter than a
    window is followed by silence.
    """
    import librosa

    audio = resample(audio, sample_rate, SAMPLE_RATE)
    audio = np.pad(audio, (0, max(0, 2048 - len(audio))))
    return librosa.onset.onset_strength(y=audio, sr=SAMPLE_RATE, hop_length=HOP)


def compare(original, copy, sample_rate: int) -> dict[str, float]:
    """How much of the timing of a recording is in a copy, float [samples] each; higher is better.

    contour: the correlation of the onset envelopes; attacks: F1 of the onsets, see
    `TOLERANCE_SECONDS`; beat, beat_of_original: the share of windows of the copy and of the
    original that have a beat, see `find_beat`.
    """
    envelopes = [onset_envelope(audio, sample_rate) for audio in (original, copy)]
    return {"contour": _contour(*envelopes), "attacks": _attacks(*envelopes),
            "beat": find_beat(envelopes[1]), "beat_of_original": find_beat(envelopes[0])}


def find_beat(envelope) -> float:
    """The share of windows of 12 s, every 6 s, whose pulse exceeds `LEAST_PULSE`.

    The pulse of a window is the height of the strongest peak of the envelope's autocorrelation
    between 0.25 and 1.5 s above the median of these lags.
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


def _attacks(original, copy) -> float:
    import librosa

    times, copy_times = (librosa.onset.onset_detect(onset_envelope=envelope, sr=SAMPLE_RATE,
                                                    hop_length=HOP, units="time")
                         for envelope in (original, copy))
    return f1(count_matches(times, copy_times, TOLERANCE_SECONDS), len(times), len(copy_times))
