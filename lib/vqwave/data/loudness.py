"""The quietness of each code, measured on a generator's training tracks. A core's `quiet_cost`
lowers the logits of quiet codes, because accumulated errors let generated music fall silent.
"""

from pathlib import Path

import numpy as np

from ..dsp import metrics
from ..io import audio
from ..io.silence import SILENT_DB
from . import codes

QUIET_UNDER, MOST_QUIET = 15.0, 25.0
"""Quietness begins `QUIET_UNDER` dB below the median loudness of non-silent frames, and is at most
`MOST_QUIET` dB.
"""
LOUDNESS_WINDOW = 0.2
"""The window of the loudness around a frame, in seconds."""
LOUDNESS_FRAMES = 4096
"""The number of frames that are read at once."""
MOST_TRACKS = 1000
"""The most tracks that are measured."""
PRIOR_FRAMES = 20
"""Frames of quietness 0 that are added to each code, so that rare codes count less."""


def quietness(data_dir, rows: list[codes.CodeTrack], level: int, num_codes: int,
              books: int) -> np.ndarray:
    """The mean quietness of each code over the n frames that hold it,
    Σ min(MOST_QUIET, max(0, median − QUIET_UNDER − loudness)) / (n + PRIOR_FRAMES).

    rows: tracks that are not transposed; at most `MOST_TRACKS` are measured. Returns dB, float32
    [books, num_codes]; 0 for codes that do not occur in quiet music.
    """
    rows = rows[:: -(-len(rows) // MOST_TRACKS) or 1]
    quiet_sums, counts = np.zeros((2, books, num_codes))
    levels = [loudness(data_dir, row, level) for row in rows]
    all_levels = np.concatenate(levels or [np.zeros(0)])
    sounding = all_levels[all_levels > SILENT_DB]
    floor = (np.median(sounding) if sounding.size else 0.0) - QUIET_UNDER
    for row, decibels in zip(rows, levels, strict=True):
        frames = codes.read_frames(row.codes, row.first, row.frames, books)
        quiet = np.clip(floor - decibels, 0, MOST_QUIET)
        counts += metrics.histogram(frames, num_codes)
        for book in range(books):
            quiet_sums[book] += np.bincount(frames[:, book], quiet, minlength=num_codes)
    return (quiet_sums / (counts + PRIOR_FRAMES)).astype(np.float32)


def loudness(data_dir, row: codes.CodeTrack, level: int) -> np.ndarray:
    """The RMS in `LOUDNESS_WINDOW` around each frame, in dBFS, at least -120: float32
    [row.frames]."""
    path, samples = row.track.path(Path(data_dir)), row.track.samples - row.start
    power = np.zeros(row.frames)
    for first in range(0, row.frames, LOUDNESS_FRAMES):
        frames = min(LOUDNESS_FRAMES, row.frames - first)
        sound = np.zeros(frames * level, np.float32)
        count = max(0, min(sound.size, samples - first * level))
        sound[:count] = audio.from_u16(audio.read_window(path, row.start + first * level, count))
        power[first : first + frames] = np.square(
            sound, dtype=np.float64).reshape(frames, level).mean(axis=1)
    side = round(LOUDNESS_WINDOW * row.track.sample_rate / level / 2)
    # Pad both ends with silence.
    total = np.concatenate([[0.0], np.pad(power, side).cumsum()])
    power = (total[2 * side + 1 :] - total[: -2 * side - 1]) / (2 * side + 1)
    return metrics.power_db(power).astype(np.float32)
