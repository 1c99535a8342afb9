"""How quiet the music is that each code stands in, measured on the tracks that a generator learns.

What a generator makes falls quiet more often than music does: each frame is drawn from those before
it, and small errors add up. A price on the codes of quiet music, `quiet_cost` of a core, makes up
for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..dsp import metrics
from ..io import audio
from ..io.silence import SILENT_DB
from . import codes

QUIET_UNDER, MOST_QUIET = 15.0, 25.0
"""dB: music is quiet that lies so far under the median of all that is not silent, and is counted as
so much quieter than that at most.
"""

WINDOW = 0.2
"""Seconds around a frame over which its loudness is measured."""

BLOCK = 4096
"""Frames read at once."""

MOST_TRACKS = 1000
"""So many tracks are enough to tell."""

DOUBT = 20
"""A code that so many frames have counts half of how quiet they are: few frames tell little."""


def quietness(data_dir, rows: list[codes.CodeTrack], level: int, num_codes: int,
              books: int) -> np.ndarray:
    """How quiet the music of each code is: over the n frames that it stands in,
    Σ min(MOST_QUIET, max(0, median − QUIET_UNDER − loudness)) / (n + DOUBT).

    Args:
        data_dir: the prepared folder. rows: tracks at their own pitch; of more than
            `MOST_TRACKS` some, evenly spaced.
        level: samples a frame.

    Returns:
        dB, float32 [books, num_codes]; 0 for codes that occur in no quiet music, or nowhere.
    """
    rows = rows[:: -(-len(rows) // MOST_TRACKS) or 1]
    below, counts = np.zeros((2, books, num_codes))
    heard = [loudness(data_dir, row, level) for row in rows]
    every = np.concatenate(heard or [np.zeros(0)])
    loud = every[every > SILENT_DB]
    floor = (np.median(loud) if loud.size else 0.0) - QUIET_UNDER
    for row, each in zip(rows, heard, strict=True):
        frames = codes.read_frames(row.path, row.first, row.frames, books)
        quiet = np.clip(floor - each, 0, MOST_QUIET)
        counts += codes.count_codes([frames], num_codes, books)
        for book in range(books):
            below[book] += np.bincount(frames[:, book], quiet, minlength=num_codes)
    return (below / (counts + DOUBT)).astype(np.float32)


def loudness(data_dir, row: codes.CodeTrack, level: int) -> np.ndarray:
    """The rms of `WINDOW` around each frame of a track, dBFS, not less than -120: float32
    [row.frames].
    """
    path, most = row.track.path(Path(data_dir)), row.track.samples - row.start
    frames, power = row.frames, np.zeros(row.frames)
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
    return metrics.power_db(power).astype(np.float32)
