"""Spectra: blocks of a short-time Fourier transform, mel filters, and a spectrogram by pitch."""

import functools
import math
from collections.abc import Iterator

import numpy as np

FRAMES_AT_ONCE = 4096
MOST_COLUMNS = 1200
"""The most columns of a `log_spectrogram`."""
LOWEST_PITCH, ROWS_A_SEMITONE = 24, 3
"""The first row of a `log_spectrogram` is C1, 32.7 Hz."""
WINDOWS = (2048, 4096, 8192)
"""The windows of a `log_spectrogram`, in samples: short for high notes, long for low notes."""


def resample(audio, sample_rate: int, target: int) -> np.ndarray:
    """audio: float [samples] at `sample_rate` -> float32 [samples] at `target`."""
    import soxr

    audio = np.asarray(audio, np.float32)
    if sample_rate == target:
        return audio
    samples = math.ceil(len(audio) * target / sample_rate)
    resampled = soxr.resample(audio, sample_rate, target, quality="HQ")[:samples]
    return np.pad(resampled, (0, samples - len(resampled)))


def magnitudes(audio, n_fft: int, hop: int, window: int | None = None,
               frames: int = FRAMES_AT_ONCE) -> Iterator[np.ndarray]:
    """|STFT| in blocks: float32 [up to `frames`, n_fft // 2 + 1], 1 + samples // hop frames in all.

    Periodic Hann of `window` samples (default n_fft) in the middle of n_fft. Frame t is centred on
    sample t·hop, with zeros outside the signal, as in librosa's `stft`. No scaling: a sine of
    amplitude a peaks at a·window/4.
    """
    audio = np.asarray(audio, np.float32)
    hann, count = _hann(n_fft, window or n_fft), 1 + len(audio) // hop
    for first in range(0, count, frames):
        last = min(first + frames, count)
        left, right = first * hop - n_fft // 2, (last - 1) * hop + n_fft - n_fft // 2
        part = np.pad(audio[max(left, 0) : right], (max(-left, 0), max(right - len(audio), 0)))
        windows = np.lib.stride_tricks.sliding_window_view(part, n_fft)[::hop]
        yield np.abs(np.fft.rfft(windows * hann, axis=1))


@functools.lru_cache(maxsize=8)
def _hann(n_fft: int, window: int) -> np.ndarray:
    hann = np.zeros(n_fft, np.float32)
    left = (n_fft - window) // 2
    hann[left : left + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return hann


@functools.lru_cache(maxsize=8)
def mel_filters(sample_rate: int, n_fft: int, bands: int) -> np.ndarray:
    """Triangular mel filters: float32 [bands, n_fft // 2 + 1], of unit area, from 0 Hz to half the
    sample rate. They equal librosa's default filters.

    Slaney's scale has 3 mels per 200 Hz up to 1,000 Hz, and 27 per factor of 6.4 above.
    """
    highest, octave = sample_rate / 2, math.log(6.4) / 27
    top = highest * 3 / 200 if highest < 1000 else 15 + math.log(highest / 1000) / octave
    mels = np.linspace(0.0, top, bands + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((np.maximum(mels, 15) - 15) * octave))
    hertz, widths = np.fft.rfftfreq(n_fft, 1 / sample_rate), np.diff(edges)[:, None]
    rising = (hertz - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - hertz) / widths[1:]
    triangles = np.maximum(np.minimum(rising, falling), 0.0).astype(np.float32)
    return (triangles * (2 / (edges[2:, None] - edges[:-2, None]))).astype(np.float32)


@functools.lru_cache(maxsize=8)
def mean_filters(sample_rate: int, n_fft: int, bands: int) -> np.ndarray:
    """`mel_filters` that take the weighted mean of their bins: float32 [bands, n_fft // 2 + 1]."""
    filters = mel_filters(sample_rate, n_fft, bands)
    return filters / np.maximum(filters.sum(axis=1, keepdims=True), 1e-9)


def pitch(hertz) -> np.ndarray:
    """The MIDI note number of a frequency: 69 is A4, 440 Hz, a semitone is 1."""
    return 69.0 + 12.0 * np.log2(np.asarray(hertz, np.float64) / 440.0)


def pitches(sample_rate: int) -> np.ndarray:
    """The pitch of each row of a `log_spectrogram`, up to half the sample rate."""
    highest = max(math.floor(float(pitch(sample_rate / 2))), LOWEST_PITCH + 12)
    return (np.arange(LOWEST_PITCH * ROWS_A_SEMITONE, highest * ROWS_A_SEMITONE + 1)
            / ROWS_A_SEMITONE)


def log_spectrogram(audio, sample_rate: int) -> np.ndarray:
    """Magnitudes by pitch for a picture: float32 [rows, at most `MOST_COLUMNS`], see `pitches`;
    1 for a sine of amplitude 1.

    A row is the power around its pitch, over a third of a semitone or at least one bin. Low pitches
    have long windows. A column is the loudest frame of its time.
    """
    # Neighbouring windows overlap by at least half.
    hop = int(np.clip(len(audio) // (4 * MOST_COLUMNS), WINDOWS[0] // 8, WINDOWS[0] // 2))
    per_column = -(-(1 + len(audio) // hop) // MOST_COLUMNS)
    filters, frames = _pitch_filters(sample_rate), per_column * max(1, 256 // per_column)
    columns = []
    for parts in zip(*(magnitudes(audio, size, hop, frames=frames) for size in WINDOWS),
                     strict=True):
        rows = sum(np.sqrt(part.astype(np.float32) ** 2 @ bank) * share * (4 / size)
                   for part, (bank, share), size in zip(parts, filters, WINDOWS, strict=True))
        columns.append(np.maximum.reduceat(rows, np.arange(0, len(rows), per_column), axis=0))
    return np.concatenate(columns).T


def _pitch_filters(sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of `WINDOWS`: triangles around the pitches, float32 [bins, rows], each with sum 1;
    and the share of this window in each row, float32 [rows].
    """
    hertz = 440.0 * 2.0 ** ((pitches(sample_rate) - 69.0) / 12.0)
    log_size = np.log2(np.clip(48.0 * sample_rate / hertz, WINDOWS[0], WINDOWS[-1]))
    filters = []
    for size in WINDOWS:
        width = np.maximum(hertz * (2.0 ** (1 / (12 * ROWS_A_SEMITONE)) - 1), sample_rate / size)
        bins = np.arange(size // 2 + 1) * sample_rate / size
        bank = np.maximum(1.0 - np.abs(bins[:, None] - hertz) / width, 0.0)
        bank /= np.maximum(bank.sum(axis=0), 1e-9)
        share = np.maximum(1.0 - np.abs(log_size - math.log2(size)), 0.0)
        filters.append((bank.astype(np.float32), share.astype(np.float32)))
    return filters
