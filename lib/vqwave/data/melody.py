"""The top line of a score, and the runs of notes in the top lines of training tracks, in any key
and at any tempo. After MaxOrder (Papadopoulos, Roy and Pachet 2014).
"""

from collections.abc import Iterable, Set

import numpy as np

from ..generators.composer import BANDS, STRUCK

ORDER = 8
"""The most notes in a row that a piece may share with the top line of a training track."""
BASE = 0x9E3779B1
_DIGITS = np.array([22, 11, 0])
"""The first bit of each digit of a hash. A digit is below 2,048, which float16 holds exactly."""


def top_line(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps in which notes are struck, and the highest struck book of each: int [notes] each.
    codes: int [steps, books].
    """
    struck = codes[:, :-BANDS] >= STRUCK
    steps = np.flatnonzero(struck.any(1))
    return steps, struck.shape[1] - 1 - struck[steps, ::-1].argmax(1)


def moves(steps: np.ndarray, books: np.ndarray) -> np.ndarray:
    """The interval and the number of steps from each note to the next, in one number: uint32 [notes
    - 1].
    """
    gaps = np.minimum(np.diff(steps, axis=0), 255)
    return (np.diff(books, axis=0) + 128 + 256 * gaps).astype(np.uint32)


def ngrams(scores: Iterable[np.ndarray]) -> np.ndarray:
    """The hashes of all runs of `ORDER` + 1 notes in top lines, sorted: uint32 [n]. scores: int
    [steps, books] each.
    """
    hashes = [np.zeros(0, np.uint32)]
    for codes in scores:
        line = moves(*top_line(codes))
        if len(line) >= ORDER:
            hashes.append(_hash(np.lib.stride_tricks.sliding_window_view(line, ORDER).T))
    return np.unique(np.concatenate(hashes))


def completing(line: np.ndarray, step: int, books: int, known: Set[int]) -> np.ndarray:
    """The books that would complete a known run of notes: bool [books].

    line: int [`ORDER`, 2], the step and the book of each of the last notes. step: of the next note.
    known: hashes, see `ngrams`.
    """
    before = np.broadcast_to(moves(*line.T)[:, None], (ORDER - 1, books))
    last = np.stack([np.full(books, line[-1, 1]), np.arange(books)])
    following = moves(np.array([[line[-1, 0]], [step]]), last)
    return np.array([x in known for x in _hash([*before, *following]).tolist()])


def to_digits(hashes: np.ndarray) -> np.ndarray:
    """Hashes in the format of weights files: float32 [n, 3]."""
    return (hashes[:, None] >> _DIGITS & 2047).astype(np.float32)


def from_digits(digits: np.ndarray) -> frozenset[int]:
    """The hashes that `to_digits` wrote."""
    return frozenset((digits.astype(np.int64) << _DIGITS).sum(1).tolist())


def _hash(windows) -> np.ndarray:
    """A polynomial modulo 2^32 of the moves of each window: uint32 [n]. windows: uint32 [n] each:
    the first moves of all windows, then the second moves, ….
    """
    total = np.zeros(len(windows[0]), np.uint32)
    for column in windows:
        total = total * np.uint32(BASE) + column
    return total
