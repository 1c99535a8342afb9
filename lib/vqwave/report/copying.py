"""Finds runs of codes that are copied from the training set. Results are lengths in frames. Deaf
to transpositions and tempi that the corpus does not contain.

Frames of one book are compared exactly, with 64-bit hashes of windows. Frames of several books
match if most of their books are equal, so that copies with small differences are found. Candidates
are short windows in which every fourth book is equal.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

HELD_SECONDS = 1.0  # a held sound, which is no copied melody
HELD_FRAMES = 4  # the most different frames in a held sound
ALIKE = 0.65  # the least share of equal codes in each window of a copy
ALIKE_FRAMES = 9  # the frames of such a window
SEED_FRAMES = 4  # the frames of a candidate
SEED_GROUPS = 4  # the groups of books, of which one must be equal in a candidate
SEEDS_A_HASH = 100  # the most candidates of a hash that are examined
CANDIDATES = 20  # the most alignments of a track that are examined
MULTIPLIER = 0x9E3779B97F4A7C15
"""Of hashes. It is odd, so it has an inverse modulo 2^64."""


def longest_shared(codes, corpus: Sequence, barred=None) -> int:
    """The length of the longest run of `codes`, int [n] or [n, books], that occurs in one of the
    sequences of `corpus`. barred: bool [n], frames that no run may contain, for example of
    `find_held`.
    """
    barred = np.zeros(len(codes), bool) if barred is None else barred
    if codes.ndim == 2 and codes.shape[1] > 1:
        return max((_longest_alike(codes, track, ~barred) for track in corpus), default=0)
    hashes, others = WindowHashes(codes), [*map(WindowHashes, corpus)]
    barred_before = np.append(0, np.cumsum(barred))

    def occurs(length: int) -> bool:
        windows = hashes(length)[barred_before[length:] == barred_before[:-length]]
        return any(np.isin(other(length), windows).any() for other in others)

    return longest_run(occurs, len(codes))


def _longest_alike(codes, track, free) -> int:
    """The length of the longest run of `codes` in one track, int [n, books] each. In each window of
    `ALIKE_FRAMES` frames of the run, at least a share `ALIKE` of the codes is equal. free: bool
    [n], the frames that a run may contain.
    """
    longest = 0
    for shift in _alignments(codes, track, free):
        first, end = max(0, -shift), min(len(codes), len(track) - shift)
        equal = (codes[first:end] == track[first + shift : end + shift]).mean(axis=1)
        equal *= free[first:end]
        window = min(ALIKE_FRAMES, len(equal))
        is_copy = np.convolve(equal, np.ones(window), "valid") >= ALIKE * window - 1e-9
        for start, count in runs_of_true(is_copy):
            # The first and last windows of a copy extend beyond the copy.
            inside = start + np.flatnonzero(equal[start : start + count + window - 1] >= ALIKE)
            if len(inside):
                longest = max(longest, int(inside[-1] - inside[0]) + 1)
    return longest


def _alignments(codes, track, free) -> list[int]:
    """The shifts from `codes` to `track` with the most windows of `SEED_FRAMES` frames that are
    equal in a group of books. Each group is spread over the whole frame.
    """
    shifts, count = [], len(codes) - SEED_FRAMES + 1
    if min(count, len(track) - SEED_FRAMES + 1) < 1:
        return []
    free = np.lib.stride_tricks.sliding_window_view(free, SEED_FRAMES).all(axis=1)
    for group in range(min(SEED_GROUPS, codes.shape[1])):
        piece, others = (WindowHashes(side[:, group::SEED_GROUPS])(SEED_FRAMES)
                         for side in (codes, track))
        order = np.argsort(piece, kind="stable")
        order = order[free[order]]
        first, last = (np.searchsorted(piece[order], others, side) for side in ("left", "right"))
        counts = np.where(last - first <= SEEDS_A_HASH, last - first, 0)
        # For window j of the track: the windows order[first[j]] … order[last[j] - 1] of the piece.
        starts = np.repeat(first - np.cumsum(counts) + counts, counts)
        places = order[starts + np.arange(len(starts))]
        shifts.append(np.repeat(np.arange(len(others)), counts) - places)
    values, votes = np.unique(np.concatenate(shifts), return_counts=True)
    return values[np.argsort(-votes, kind="stable")[:CANDIDATES]].tolist()


def runs_of_true(flags) -> list[tuple[int, int]]:
    """(start, length) of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def find_held(codes, length: int, distinct: int) -> np.ndarray:
    """Which of `codes`, int [n] or [n, books], are in a window of `length` frames with at most
    `distinct` different frames, a held sound: bool [n].
    """
    frames = hash_frames(codes)
    count = len(frames) - length + 1
    if count < 1:
        return np.zeros(len(frames), bool)
    # The position of the previous equal frame.
    order, before = np.argsort(frames, kind="stable"), np.full(len(frames), -1)
    same = frames[order[1:]] == frames[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    # Frame i is new in the windows that begin after that position and contain i.
    place = np.arange(len(frames))
    different = _cover(np.maximum(before + 1, place - length + 1), place + 1, len(frames))
    starts = np.flatnonzero(different[:count] <= distinct)
    return _cover(starts, starts + length, len(frames)) > 0


def _cover(starts, ends, count: int) -> np.ndarray:
    """For each of `count` positions, the number of ranges [start, end) that contain it."""
    edges = np.zeros(count + 1, np.int64)
    np.add.at(edges, np.maximum(starts, 0), 1)
    np.add.at(edges, ends, -1)
    return np.cumsum(edges)[:-1]


def longest_run(occurs: Callable[[int], bool], most: int) -> int:
    """The length of the longest run. occurs: whether there is a run of a length. Every part of a
    run is a run, so the length is found by doubling and then halving.
    """
    longest, step = 0, 1
    while longest + step <= most and occurs(longest + step):
        longest = step = longest + step
    while step := step // 2:
        if longest + step <= most and occurs(longest + step):
            longest += step
    return longest


class WindowHashes:
    """Hashes of all windows of a length of codes, int [n] or [n, books], from prefix sums
    Σ frame_i·m^i modulo 2^64, where m is `MULTIPLIER`. The sum over a window at position p is
    divided by m^p, so equal windows have equal hashes everywhere.
    """

    def __init__(self, codes: np.ndarray):
        frames = hash_frames(codes)
        powers, self.inverse = (np.cumprod(np.append(np.uint64(1), np.full(
            len(frames), m, np.uint64))) for m in (MULTIPLIER, pow(MULTIPLIER, -1, 1 << 64)))
        terms = _join(frames, np.uint64(0)) * powers[:-1]
        self.sums = np.append(np.uint64(0), np.cumsum(terms))

    def __call__(self, length: int) -> np.ndarray:
        """uint64 [n - length + 1]; empty for a shorter sequence."""
        count = max(0, len(self.sums) - length)
        return (self.sums[length:] - self.sums[:count]) * self.inverse[:count]


def hash_frames(codes) -> np.ndarray:
    """uint64 [n]: the code of a frame of one book, or a hash of the codes of several books."""
    frames = codes[:, None] if codes.ndim == 1 else codes
    return functools.reduce(_join, frames.astype(np.uint64).T)


def _join(first, second) -> np.ndarray:
    """Hashes of windows that consist of two parts with these hashes: uint64 [n] each."""
    with np.errstate(over="ignore"):
        x = first * np.uint64(MULTIPLIER) + second
        # The finaliser of splitmix64 (Steele, Lea & Flood 2014): every bit of the sum affects every
        # bit of the hash.
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x
