"""Silence in the tracks of a data folder: the beginning and the end of each track's sound, and its
silent share. A window is silent if its RMS is below `SILENT_DB`.
"""

from typing import NamedTuple

import numpy as np

from ..errors import UserError, first_names
from ..progress import SilentReporter
from . import audio, manifest, splits
from .manifest import Track

WINDOW, SILENT_DB = 0.1, -60.0
"""Seconds, and dBFS. Codecs decode digital silence to an RMS of -66 to -70 dBFS, with single peaks
20 dB higher.
"""
MOSTLY = 0.5
"""A track is mostly silent if more than this share of it, after trimming, is silent."""
WINDOWS_AT_ONCE = 200
Spans = dict[str, tuple[int, int]]
"""The samples (first, end) of each track, by its file."""


class Sound(NamedTuple):
    """The sound of a track: `loud` samples from `first` to `last`; all are 0 for silence."""

    first: int
    last: int
    loud: int


def trim(data_dir, sides, seconds: float | None, say) -> tuple[list[list[Track]], Spans]:
    """The sides (training tracks, held-out tracks) without tracks that are mostly silent; and the
    spans of all tracks, with the silence at both ends cut to `seconds` (None: not cut). say: a
    `progress.Reporter`. Raises `UserError` if no training track is left.
    """
    tracks = [track for side in sides for track in side]
    spans = {track.file: (0, track.samples) for track in tracks}
    if seconds is None:
        return [list(side) for side in sides], spans
    sounds = measure(data_dir, tracks, say)
    trimmed, removed, silent = 0, 0.0, {}
    for track in tracks:
        sound, margin = sounds[track.file], round(seconds * track.sample_rate)
        first, end = max(0, sound.first - margin), min(track.samples, sound.last + margin)
        spans[track.file] = first, end
        share = 1 - sound.loud / max(1, end - first)
        if share > MOSTLY:
            silent[track.file] = f"{splits.track_name(track)} ({100 * share:.0f} % silent)"
        elif end - first < track.samples:
            trimmed += 1
            removed += (track.samples - end + first) / track.sample_rate
    if silent:
        say(f"left out, because they are mostly silent: {first_names([*silent.values()])}")
    audible = [[track for track in side if track.file not in silent] for side in sides]
    if sides[0] and not audible[0]:
        raise UserError(f"{data_dir}: every training track is mostly silent; add music to train on")
    if trimmed:
        say(f"silence at the ends of {trimmed} tracks is cut to {seconds:g} s each, "
            f"{removed:.0f} s in all")
    return audible, spans


def read_sides(data_dir, split, seed: int, seconds: float | None
               ) -> tuple[list[list[Track]], Spans]:
    """What `trim` returns for the (training tracks, held-out tracks) of a data folder."""
    sides = splits.split(manifest.read(data_dir), split, seed)
    return trim(data_dir, sides, seconds, SilentReporter())


def measure(data_dir, tracks, say) -> dict[str, Sound]:
    """The `Sound` of each track, by its file."""
    sounds = {track.file: Sound(*track.sound) for track in tracks if track.sound}
    missing = [track for track in tracks if not track.sound]
    for track in say.track(missing, "looking for silence"):
        sounds[track.file] = measure_file(track.path(data_dir), track.samples, track.sample_rate)
    return sounds


def measure_file(path, samples: int, sample_rate: int) -> Sound:
    """The `Sound` of one file of uint16 samples, read in blocks. The last window may be shorter."""
    size, floor, loud = max(1, int(sample_rate * WINDOW)), 10.0 ** (SILENT_DB / 10), []
    step = WINDOWS_AT_ONCE * size
    for start in range(0, samples, step):
        block = audio.from_u16(audio.read_window(path, start, min(step, samples - start)))
        windows = np.split(block, range(size, block.size, size))
        loud += [np.square(window).mean() >= floor for window in windows]
    where = np.flatnonzero(loud)
    if not where.size:
        return Sound(0, 0, 0)
    last = min(samples, (int(where[-1]) + 1) * size)
    return Sound(int(where[0]) * size, last, last - int(where[-1]) * size + (where.size - 1) * size)
