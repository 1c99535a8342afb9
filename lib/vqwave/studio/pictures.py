"""The pictures that the page shows: spectrograms and notes of a signal that grows."""

from __future__ import annotations

import functools
import math

import numpy as np

from ..dsp import metrics, notes

BANDS = notes.BINS
WINDOW_SECONDS = 0.186
LOUDEST_DB, RANGE_DB = -10.0, 52.0
"""A spectrogram that grows cannot wait for its loudest point: these fit music at full scale."""
SHORTEST_NOTE = 0.12
LEAST_COLUMN = 256
"""Samples: narrower columns cost more than they show."""


def column(levels: tuple[int, ...]) -> int:
    """Samples of a column: whole frames of every level, at least `LEAST_COLUMN`."""
    return levels[0] * -(-LEAST_COLUMN // levels[0])


class Spectrum:
    """A spectrogram that grows: uint8 [columns, `BANDS`], 0 … 255 over `RANGE_DB` up to
    `LOUDEST_DB`.

    Its bands are a quarter tone each, those of `notes.FREQUENCIES`, from C2 to C8. Column t is
    centred on sample t·`column`; it is ready half a window later. How the signal is cut into blocks
    changes nothing.
    """

    def __init__(self, rate: int, column: int):
        self.column = column
        self.n_fft = 1 << round(math.log2(WINDOW_SECONDS * rate))
        self.filters = note_filters(rate, self.n_fft)
        self._signal = np.empty(0, np.float32)
        self._first = self._next = 0  # the column where `_signal` begins, and the next one to give

    def push(self, block, last: bool = False) -> np.ndarray:
        """Append float32 [n]; the columns that are ready now, all of them with `last`."""
        self._signal = np.concatenate([self._signal, block])
        there, column = self._signal.size, self.column
        ready = self._first + (-(-there // column) if last
                               else max(0, (there - self.n_fft // 2) // column + 1))
        if ready <= self._next:
            return np.empty((0, BANDS), np.uint8)
        frames = np.concatenate(list(metrics.magnitudes(self._signal, self.n_fft, column)))
        energy = (frames[self._next - self._first : ready - self._first].astype(np.float32) ** 2
                  @ self.filters)
        self._next = ready
        # The next column looks back half a window.
        begin = max(self._first, ready - -(-self.n_fft // 2 // column))
        self._signal = self._signal[(begin - self._first) * column :].copy()
        self._first = begin
        level = (10 * np.log10(np.maximum(energy, 1e-18)) - LOUDEST_DB + RANGE_DB) / RANGE_DB
        return np.rint(np.clip(level, 0.0, 1.0) * 255).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def note_filters(rate: int, n_fft: int) -> np.ndarray:
    """Triangles from one quarter tone to the next, at least as wide as the transform resolves: a
    sine of amplitude a in the middle of one has a² there. float32 [n_fft // 2 + 1, `BANDS`].
    """
    bins = np.fft.rfftfreq(n_fft, 1 / rate)
    centres = notes.FREQUENCIES
    half = np.maximum(centres * (2 ** (1 / 24) - 1), 1.5 * rate / n_fft)
    weights = np.maximum(0.0, 1 - np.abs(bins[:, None] - centres) / half)
    # A Hann window's main lobe holds 1.5 times the energy of its peak, (n_fft / 4)².
    return (weights / (1.5 * (n_fft / 4) ** 2)).astype(np.float32)


def warm_up():
    """Load what `Roll` needs."""
    notes.roll(np.zeros(notes.HOP, np.float32), notes.SAMPLE_RATE)


class Roll:
    """The notes that are heard in a signal that grows, found about a second at a time."""

    def __init__(self, rate: int):
        self._rate, self._margin = rate, round(notes.MARGIN * rate)
        self._signal = np.empty(0, np.float32)
        # the sample where `_signal` begins, and up to where notes were given
        self._first = self._given = 0

    def push(self, block, last: bool = False) -> list[list[float]]:
        """Append float32 [n]; [second, seconds, note number (69 is A4), dB] of each note that
        begins in what can be looked at now.
        """
        self._signal = np.concatenate([self._signal, block])
        end = self._first + self._signal.size - (0 if last else self._margin)
        if end <= self._given or not last and end - self._given < self._rate:
            return []
        found = notes.roll(self._signal, self._rate, shortest=SHORTEST_NOTE,
                           start=self._first / self._rate)
        begin, until = self._given / self._rate, end / self._rate
        self._given = end
        keep = max(self._first, end - self._margin)
        self._signal = self._signal[keep - self._first :].copy()
        self._first = keep
        rows = zip(found.time, found.seconds, found.midi, found.strength, strict=True)
        return [[round(float(x), 3) for x in row] for row in rows if begin <= row[0] < until]
