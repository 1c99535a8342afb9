"""Long signals in constant memory: a codec's window-by-window encode and decode that equal the
whole-file result.

A window is computed with a halo, what its convolutions see to either side, and only its middle is
kept. At a signal's ends there is no halo: the convolutions' own zero padding is in the same place
as in the whole signal.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

WINDOW_SAMPLES = 1 << 18

ALL = 1 << 30
"""A halo that no piece is as long as: each frame sees the whole of it. Such a codec is run once,
and needs memory for all of the piece.
"""


def encode(run, audio: np.ndarray, level: int, halo: int, window: int | None = None,
           segment: int = 1) -> np.ndarray:
    """audio float32 [batch, T] -> codes int32 [batch, ceil(T / level), books]; missing samples at
    the end are zeros.

    Args:
        run: audio float32 [batch, n·level] -> codes int32 [batch, n, books].
        level: samples a code.
        halo: codes' worth of samples to either side that one code can see.
        window: codes kept per run.
        segment: frames whose codes are chosen together; halo is a multiple of it, and what is run
        begins at one.
    """
    audio = np.asarray(audio, np.float32)
    batch, samples = audio.shape
    count = -(-samples // level)
    window = _whole(_whole_piece(halo, count) or window or WINDOW_SAMPLES // level, segment)
    pieces = []
    for start in range(0, count, window):
        stop = min(start + window, count)
        left, right = max(0, start - halo), min(count, stop + halo)
        piece = audio[:, left * level : right * level]
        missing = (right - left) * level - piece.shape[1]
        if missing:
            piece = np.pad(piece, ((0, 0), (0, missing)))
        pieces.append(np.asarray(run(piece))[:, start - left : stop - left])
    return (np.concatenate(pieces, axis=1) if pieces
            else np.asarray(run(np.zeros((batch, level), np.float32)))[:, :0])


def _whole_piece(halo: int, count: int) -> int | None:
    """How many frames to keep per run where each sees the whole piece, else None."""
    return max(count, 1) if halo >= ALL else None


def _whole(window: int, segment: int) -> int:
    """At least `window`, in whole segments."""
    return max(1, -(-window // segment)) * segment


def encode_blocks(run, blocks: Iterable[np.ndarray], level: int, halo: int,
                  window: int | None = None,
                  segment: int = 1):
    """`encode` of a signal that arrives in float32 blocks [n] of any lengths: an iterator of int32
    [codes, books].

    The codes are those of the whole signal at once; no more than a window of it is held.
    """
    window = _whole(window or WINDOW_SAMPLES // level, segment)
    pending, held = [], 0
    left = start = 0  # the code that what is held begins with; the first that is still to be made

    def encode_until(audio, stop, right):
        """The codes start … stop − 1, from samples that reach to the code `right`."""
        piece = audio[: (right - left) * level]
        piece = np.pad(piece, (0, (right - left) * level - piece.size))
        return np.asarray(run(piece[None]))[0, start - left : stop - left]

    for block in blocks:
        pending.append(np.asarray(block, np.float32))
        held += block.size
        while held >= (start + window + halo - left) * level:
            audio = np.concatenate(pending)
            yield encode_until(audio, start + window, start + window + halo)
            start += window
            drop = max(0, start - halo) - left
            pending, held, left = [audio[drop * level :]], held - drop * level, left + drop
    audio = np.concatenate([*pending, np.empty(0, np.float32)])
    count = left - (-held // level)
    window = _whole(_whole_piece(halo, count) or window, segment)
    while start < count:
        stop = min(start + window, count)
        yield encode_until(audio, stop, min(count, stop + halo))
        drop = max(0, stop - halo) - left
        audio, left, start = audio[drop * level :], left + drop, stop


def decode(run, codes: np.ndarray, level: int, halo: int, window: int | None = None) -> np.ndarray:
    """codes int32 [batch, N, books], or vectors float32 [batch, N, dim] -> audio float32 [batch,
    N·level].

    Args:
        run: (codes int32 [batch, n, books], the number of the first of them) -> audio float32
            [batch, n·level].
        halo: codes to either side that one code's samples can see.
        window: codes kept per run.
    """
    codes = np.asarray(codes)
    batch, count = codes.shape[:2]
    window = _whole_piece(halo, count) or window or max(1, WINDOW_SAMPLES // level)
    audio = np.empty((batch, count * level), np.float32)
    for start in range(0, count, window):
        stop = min(start + window, count)
        left, right = max(0, start - halo), min(count, stop + halo)
        made = np.asarray(run(codes[:, left:right], left))
        inside = slice((start - left) * level, (stop - left) * level)
        audio[:, start * level : stop * level] = made[:, inside]
    return audio
