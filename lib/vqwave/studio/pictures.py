"""The pictures of the page: the spectrogram and the notes of a growing signal."""

import functools
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from .. import plots
from ..dsp import notes, spectrum

PICTURE_BANDS = notes.BINS
WINDOW_SECONDS = 0.186
LOUDEST_DB, RANGE_DB = -10.0, 52.0
"""The range of a spectrogram; fixed, because the peak of a growing signal is unknown."""
SHORTEST_NOTE = 0.12
LEAST_COLUMN = 256
"""The least samples in a column; narrower columns show no more detail."""


def column(levels: tuple[int, ...]) -> int:
    """Samples of a column: whole frames of every level, at least `LEAST_COLUMN`."""
    return levels[0] * -(-LEAST_COLUMN // levels[0])


def window(rate: int) -> int:
    """Samples of a window."""
    return 1 << round(math.log2(WINDOW_SECONDS * rate))


def shades(codec) -> list[list[int]]:
    """0 … 255 for each code of each book of a codec, see `plots.code_shades`."""
    return [np.rint(255 * x).astype(int).tolist() for x in plots.codec_shades(codec)]


class Spectrum:
    """The spectrogram of a growing signal: uint8 [columns, `PICTURE_BANDS`], 0 … 255 over
    `RANGE_DB` up to `LOUDEST_DB`.

    The bands are the quarter tones of `notes.FREQUENCIES`, from C2 to C8. Column t is centred on
    sample t·`column`, and ready half a window later. Columns do not depend on the blocks.
    """

    def __init__(self, rate: int, column: int):
        self.column, self.n_fft = column, window(rate)
        # Few bins reach a band, and threads of a matrix product would wait for each other.
        filters = note_filters(rate, self.n_fft).T
        most = int(np.count_nonzero(filters, axis=1).max())
        self.bins = np.argsort(filters == 0, axis=1, kind="stable")[:, :most]
        self.weights = np.take_along_axis(filters, self.bins, axis=1)
        self._signal = np.empty(0, np.float32)
        self._first = self._next = 0  # the columns at which `_signal` begins, and to return next

    def push(self, block, last: bool = False) -> np.ndarray:
        """Append float32 [n]. Returns the columns that are ready now; with `last`, all columns."""
        self._signal = np.concatenate([self._signal, block])
        size, column = self._signal.size, self.column
        ready = self._first + (-(-size // column) if last
                               else max(0, (size - self.n_fft // 2) // column + 1))
        if ready <= self._next:
            return np.empty((0, PICTURE_BANDS), np.uint8)
        frames = np.concatenate(list(spectrum.magnitudes(self._signal, self.n_fft, column)))
        new = frames[self._next - self._first : ready - self._first].astype(np.float32) ** 2
        energy = np.einsum("cbk,bk->cb", new[:, self.bins], self.weights)
        # The window of the next column reaches back by half its length.
        first = max(self._first, ready - -(-self.n_fft // 2 // column))
        self._signal = self._signal[(first - self._first) * column :].copy()
        self._first, self._next = first, ready
        shade = (10 * np.log10(np.maximum(energy, 1e-18)) - LOUDEST_DB + RANGE_DB) / RANGE_DB
        return np.rint(np.clip(shade, 0.0, 1.0) * 255).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def note_filters(rate: int, n_fft: int) -> np.ndarray:
    """Triangular filters of a quarter tone or, if wider, of the transform's resolution: float32
    [n_fft // 2 + 1, `PICTURE_BANDS`]. A sine of amplitude a at the centre of a band has the energy
    a².
    """
    bins = np.fft.rfftfreq(n_fft, 1 / rate)
    centres = notes.FREQUENCIES
    half_width = np.maximum(centres * (2 ** (1 / 24) - 1), 1.5 * rate / n_fft)
    weights = np.maximum(0.0, 1 - np.abs(bins[:, None] - centres) / half_width)
    # A Hann window's main lobe holds 1.5 times the energy of its peak, (n_fft / 4)².
    return (weights / (1.5 * (n_fft / 4) ** 2)).astype(np.float32)


class Roll:
    """The notes of a growing signal, found about once a second."""

    def __init__(self, rate: int):
        self._rate, self._margin = rate, round(notes.MARGIN * rate)
        self._signal = np.empty(0, np.float32)
        self._first = self._done = 0  # the samples at which `_signal` begins, and notes end

    def push(self, block, last: bool = False) -> list[list[float]]:
        """Append float32 [n]. Returns [start, length (seconds), note number (69 is A4), dB] of each
        note that begins in the part that is complete now.
        """
        self._signal = np.concatenate([self._signal, block])
        end = self._first + self._signal.size - (0 if last else self._margin)
        if end <= self._done or not last and end - self._done < self._rate:
            return []
        roll = notes.roll(self._signal, self._rate, shortest=SHORTEST_NOTE,
                          start=self._first / self._rate)
        begin, until = self._done / self._rate, end / self._rate
        first = max(self._first, end - self._margin)
        self._signal = self._signal[first - self._first :].copy()
        self._first, self._done = first, end
        rows = zip(roll.time, roll.seconds, roll.midi, roll.strength, strict=True)
        return [[round(float(x), 3) for x in row] for row in rows if begin <= row[0] < until]


class LateRoll:
    """A `Roll` in a thread of its own: `push` returns the notes that are found by then, and all
    notes with `last`. So no block waits for notes.
    """

    def __init__(self, rate: int):
        self._roll, self._jobs = Roll(rate), deque[Future]()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vqwave-roll")

    def push(self, block, last: bool = False) -> list[list[float]]:
        self._jobs.append(self._pool.submit(self._roll.push, block, last))
        found = []
        while self._jobs and (last or self._jobs[0].done()):
            found += self._jobs.popleft().result()
        return found

    def close(self):
        self._pool.shutdown(cancel_futures=True)
