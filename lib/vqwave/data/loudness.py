"""How quiet the music is that each code stands in, measured on the tracks that a generator learns.

A generator that falls quiet goes on in what it hears, and finds its way back less often than music
does: small errors of each frame add up. A price on the codes of quiet music (`quiet_cost` of a
core) makes up for it, and nothing else in what it learnt is touched.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import audio, codes

UNDER, MOST = 15.0, 25.0
"""Music is quiet that lies so many dB under the median of all; by so many dB at most it is more
quiet than that.
"""

WINDOW = 0.2
"""Seconds around a frame over which its loudness is measured."""

BLOCK = 4096
"""Frames read at once."""

DOUBT = 20
"""A code that so many frames have counts half of how quiet they are: few frames tell little."""


def quietness(data_dir, rows: list[codes.CodeTrack], level: int, num_codes: int,
              books: int) -> np.ndarray:
    """By how much the music of each code is quieter than `UNDER` its median: over the n frames that
    it stands in, Σ min(MOST, max(0, median − UNDER − loudness)) / (n + DOUBT).

    Args:
        data_dir: the prepared folder. rows: tracks at their own pitch.
        level: samples a frame.

    Returns:
        dB, float32 [books, num_codes]; 0 for codes that occur in no quiet music, or nowhere.
    """
    below, counts = np.zeros((2, books, num_codes))
    heard = [loudness(data_dir, row, row.frames, level) for row in rows]
    floor = np.median(np.concatenate(heard)) - UNDER
    for row, each in zip(rows, heard, strict=True):
        frames = codes.read_frames(row.path, row.first, row.frames, books)
        quiet = np.clip(floor - each, 0, MOST)
        for book in range(books):
            below[book] += np.bincount(frames[:, book], quiet, minlength=num_codes)
            counts[book] += np.bincount(frames[:, book], minlength=num_codes)
    return (below / (counts + DOUBT)).astype(np.float32)


def loudness(data_dir, row: codes.CodeTrack, frames: int, level: int) -> np.ndarray:
    """The rms of `WINDOW` around each of so many frames of a track, dBFS, not less than -120:
    float64 [frames].
    """
    path, most = row.track.path(Path(data_dir)), row.track.samples - row.start
    power = np.zeros(frames)
    for first in range(0, frames, BLOCK):
        part = min(BLOCK, frames - first)
        sound = np.zeros(part * level, np.float32)
        given = max(0, min(sound.size, most - first * level))
        sound[:given] = audio.from_u16(audio.read_window(path, row.start + first * level, given))
        power[first : first + part] = np.square(sound, dtype=np.float64).reshape(part, level).mean(
            axis=1)
    side = round(WINDOW * row.track.sample_rate / level / 2)
    # What is outside of the piece counts as silence.
    total = np.concatenate([[0.0], np.pad(power, side).cumsum()])
    power = (total[2 * side + 1 :] - total[: -2 * side - 1]) / (2 * side + 1)
    return 10 * np.log10(np.maximum(power, 1e-12))
