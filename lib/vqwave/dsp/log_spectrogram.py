"""Spectrograms by pitch, for pictures."""

from __future__ import annotations

import math

import numpy as np

from . import metrics

COLUMNS = 1200
"""Columns of a spectrogram, at most."""

LOWEST_PITCH, ROWS_A_SEMITONE = 24, 3
"""The first row of a spectrogram is C1, 32.7 Hz."""

WINDOWS = (2048, 4096, 8192)
"""Samples of a spectrogram's windows: short windows for high notes, long ones for low notes."""


def pitch(hertz) -> np.ndarray:
    """The MIDI note number of a frequency: 69 is A4, 440 Hz, a semitone is 1."""
    return 69.0 + 12.0 * np.log2(np.asarray(hertz, np.float64) / 440.0)


def pitches(sample_rate: int) -> np.ndarray:
    """The pitch of each row of a `log_spectrogram`, up to half the sample rate."""
    highest = max(math.floor(float(pitch(sample_rate / 2))), LOWEST_PITCH + 12)
    return (np.arange(LOWEST_PITCH * ROWS_A_SEMITONE, highest * ROWS_A_SEMITONE + 1)
            / ROWS_A_SEMITONE)


def log_spectrogram(audio, sample_rate: int) -> np.ndarray:
    """Magnitudes by pitch for a picture: float32 [rows, at most `COLUMNS`], see `pitches`; a sine
    of amplitude 1 has 1.

    A row is the power around its pitch, a third of a semitone or a bin wide, whichever is more. The
    window is longer the lower the pitch. A column is the loudest frame of its time.
    """
    # Neighbouring windows overlap by half at least.
    hop = int(np.clip(len(audio) // (4 * COLUMNS), WINDOWS[0] // 8, WINDOWS[0] // 2))
    each = -(-(1 + len(audio) // hop) // COLUMNS)
    filters = _pitch_filters(sample_rate)
    at_once = each * max(1, 256 // each)
    blocks = []
    for parts in zip(*(metrics.magnitudes(audio, size, hop, frames=at_once) for size in WINDOWS),
                     strict=True):
        rows = sum(np.sqrt(part.astype(np.float32) ** 2 @ bank) * share * (4 / size)
                   for part, (bank, share), size in zip(parts, filters, WINDOWS, strict=True))
        blocks.append(np.maximum.reduceat(rows, np.arange(0, len(rows), each), axis=0))
    return np.concatenate(blocks).T


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
