"""Runs of codes that occur twice: copied out of the training set, or looped within a piece.

Windows of a length are told apart by a 64-bit hash, made for all positions at once by joining the
hashes of shorter ones; the longest length that still occurs twice is found by doubling and then
halving, and a longer run can only begin where a shorter one did. So a million codes among fifteen
million take seconds, and what is found is compared code by code in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HELD_SECONDS, HELD_FRAMES = 1.0, 4
"""A second with at most four different frames is a held sound: no melody is copied there."""


@dataclass(frozen=True)
class Run:
    """`length` codes that stand at `position` of one sequence and at `other` of sequence `track` of
    the others.

    `distinct` is how many different codes the run has: one is a held silence or hum, no copy of
    music.
    """

    length: int
    position: int = 0
    track: int = 0
    other: int = 0
    distinct: int = 0


def longest_shared(codes, corpus: Sequence, barred=None) -> Run:
    """The longest run of `codes` that stands in one of the sequences of `corpus`.

    Args:
        codes: int [n], or [n, books]; corpus: sequences of the same kind.
        barred: bool [n]: codes that no run may hold, such as `find_held` finds; None: any may.
    """
    sequences = [_hash_frames(codes), *map(_hash_frames, corpus)]
    if barred is not None:
        # Numbers that stand nowhere else.
        random = np.random.Generator(np.random.Philox(key=0))
        nowhere = random.integers(1 << 63, size=len(codes), dtype=np.uint64)
        sequences[0] = np.where(barred, nowhere, sequences[0])

    def mark_shared(hashes):
        piece, masks = np.unique(hashes[0]), []
        seen = np.zeros(len(piece), bool)
        for track in hashes[1:]:
            # Sorted questions keep to the cache; there may be many millions.
            order = np.argsort(track)
            place = np.searchsorted(piece, track[order])
            mask = np.zeros(len(track), bool)
            if len(piece):
                place = np.minimum(place, len(piece) - 1)
                mask[order] = piece[place] == track[order]
                seen[place[mask[order]]] = True
            masks.append(mask)
        kept = piece[seen]
        return [np.isin(hashes[0], kept), *masks]

    length, (piece, *tracks) = _longest(sequences, mark_shared)
    if not length:
        return Run(0)
    track, (others, hashes) = next((i, found) for i, found in enumerate(tracks) if len(found[0]))
    position, other = int(piece[0][piece[1] == hashes[0]][0]), int(others[0])
    return _run(sequences[0], sequences[track + 1], length, position, track, other)


def find_held(codes, length: int, distinct: int) -> np.ndarray:
    """Which of `codes` (int [n], or [n, books]) are part of a held sound: bool [n].

    A stretch of `length` frames with no more than `distinct` different ones is held.
    """
    frames = _hash_frames(codes)
    count = len(frames) - length + 1
    if count < 1:
        return np.zeros(len(frames), bool)
    # Where the same frame stood before: it is new in each window that begins after that.
    order = np.argsort(frames, kind="stable")
    before = np.full(len(frames), -1)
    same = frames[order[1:]] == frames[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    at = np.arange(len(frames))
    change = np.zeros(len(frames) + 1, np.int64)
    first = np.maximum(before + 1, np.maximum(at - length + 1, 0))
    np.add.at(change, first, 1)
    np.add.at(change, at + 1, -1)
    # Frame `at` is new in the windows that begin at first … at.
    few = np.cumsum(change)[:count] <= distinct
    edges = np.zeros(len(frames) + 1, np.int64)
    begins = np.flatnonzero(few)
    np.add.at(edges, begins, 1)
    np.add.at(edges, begins + length, -1)
    return np.cumsum(edges)[:-1] > 0


def longest_repeat(codes) -> Run:
    """The longest run of `codes` (int [n], or [n, books]) that stands in them twice; a loop is one
    long run.
    """
    codes = _hash_frames(codes)

    def mark_repeats(hashes):
        _, inverse, counts = np.unique(hashes[0], return_inverse=True, return_counts=True)
        return [counts[inverse] > 1]

    length, ((positions, hashes),) = _longest([codes], mark_repeats)
    if not length:
        return Run(0)
    first, second = map(int, positions[hashes == hashes[0]][:2])
    return _run(codes, codes, length, first, 0, second)


def _run(codes, among, length, position, track, other) -> Run:
    run = codes[position : position + length]
    if not np.array_equal(run, among[other : other + length]):
        raise RuntimeError("two runs of codes have one hash")
    return Run(length, position, track, other, len(np.unique(run)))


def _longest(sequences, occurs):
    """The greatest length of which a window occurs twice, and for each sequence (positions, hashes)
    of those windows.

    occurs: hashes of windows, an array a sequence -> for each a mask of those that count as
        occurring twice.
    """

    def keep(found):
        masks = occurs([hashes for _, hashes in found])
        return [(where[mask], hashes[mask]) for (where, hashes),
                mask in zip(found, masks, strict=True)]

    def extend(found, length, more):
        """Windows longer than `length` by as much as those of which `more` holds the hashes."""
        extended = []
        for (where, hashes), tail in zip(found, more, strict=True):
            inside = where + length < len(tail)
            extended.append((where[inside], _join(hashes[inside], tail[where[inside] + length])))
        return keep(extended)

    def count(found):
        return sum(len(where) for where, _ in found)

    powers = [sequences]  # hashes of all windows of 1, 2, 4 … codes
    best, found = 1, keep([(np.arange(len(s)), s) for s in sequences])
    if not count(found):
        return 0, found
    while count(twofold := extend(found, best, powers[-1])):
        powers.append([_join(h[: max(0, len(h) - best)], h[best:]) for h in powers[-1]])
        best, found = 2 * best, twofold
    for power in reversed(range(len(powers) - 1)):
        if count(extended := extend(found, best, powers[power])):
            best, found = best + (1 << power), extended
    return best, found


def _hash_frames(codes) -> np.ndarray:
    """uint64 [n]: a frame of one book is its code, one of several the hash of its codes in order.
    """
    codes = np.asarray(codes)
    if codes.ndim not in (1, 2):
        raise ValueError(f"codes are one sequence, not of shape {codes.shape}")
    if codes.ndim == 1:
        return codes.astype(np.uint64)
    first, *others = codes.astype(np.uint64).T
    for book in others:
        first = _join(first, book)
    return first


def _join(first, second) -> np.ndarray:
    """Hashes of the windows that begin with those of `first` and go on with those of `second`:
    uint64 [n] each.
    """
    with np.errstate(over="ignore"):
        x = first * np.uint64(0x9E3779B97F4A7C15) + second
        # The finaliser of splitmix64 (Steele, Lea & Flood 2014): every bit of the sum reaches every
        # bit of the hash.
        x ^= x >> np.uint64(30)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(27)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return x
