"""Silence in the tracks of a data folder: where the sound of each begins and ends, and how much of
it is silent.

A window of a tenth of a second whose RMS is below −60 dB of full scale is silent. What was measured
is kept in the data folder as `.silence.jsonl`, a line a track, so that it is read for this once.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import audio, manifest, splits

NAME = ".silence.jsonl"
WINDOW, SILENT_DB = 0.1, -60.0
"""Seconds, and the RMS in dB of full scale below which so many of them are silent. What a codec
makes of digital silence is -66 to -70 dBFS, with single peaks of 20 dB more.
"""
MOSTLY = 0.5
"""A track of which more than this share is silent, its ends cut off, is silence for the most part.
"""
NAMED = 5
"""How many of the tracks that are left out are named."""
BLOCK = 200
"""Windows read at once."""


@dataclass(frozen=True)
class Sound:
    """What of a track sounds: `loud` samples, in windows from sample `first` to before `last`. All
    are 0 in a track of silence alone.
    """

    first: int
    last: int
    loud: int

    def within(self, samples: int, margin: int) -> tuple[int, int]:
        """(first, last) of a track of so many samples with at most `margin` of silence left at
        either end.
        """
        return max(0, self.first - margin), min(samples, self.last + margin)

    def silent(self, span: tuple[int, int]) -> float:
        """The share of a span that is silent, where all that sounds is in it."""
        return 1 - self.loud / max(1, span[1] - span[0])


def trim(data_dir, sides, seconds: float | None, say, keep: bool = True
         ) -> tuple[list[list[manifest.Track]], dict[str, tuple[int, int]]]:
    """What of the tracks a model learns from: not those that are silence for the most part, and of
    the others at most `seconds` of silence at either end.

    Args:
        sides: (training tracks, held-out tracks).
        seconds: None takes every track whole.
        say: a `progress.Reporter`; keep: see `measure`.

    Returns:
        The sides without what is left out, and by file of every track the samples (first, end).

    Raises:
        UserError: no training track is left.
    """
    spans = {track.file: (0, track.samples) for side in sides for track in side}
    if seconds is None:
        return [list(side) for side in sides], spans
    tracks = [track for side in sides for track in side]
    found = measure(data_dir, tracks, say, keep)
    cut, removed, silent = 0, 0.0, {}
    for track in tracks:
        span = found[track.file].within(track.samples, round(seconds * track.sample_rate))
        share = found[track.file].silent(span)
        if share > MOSTLY:
            silent[track.file] = share
        elif span != spans[track.file]:
            cut += 1
            removed += (track.samples - span[1] + span[0]) / track.sample_rate
        spans[track.file] = span
    left_out = [track for track in tracks if track.file in silent]
    for track in left_out[:NAMED]:
        say(f"left out: {splits.track_name(track)} ({100 * silent[track.file]:.0f} % silent)")
    if len(left_out) > NAMED:
        say(f"left out: {len(left_out) - NAMED} more tracks that are silence for the most part")
    kept = [[track for track in side if track.file not in silent] for side in sides]
    if sides[0] and not kept[0]:
        raise UserError(f"{data_dir}: every training track is silence for the most part, and "
                        "nothing is left to learn from")
    if cut:
        say(f"silence at the ends of {cut} tracks is cut to {seconds:g} s each, {removed:.0f} s in "
            f"all")
    return kept, spans


def read_sides(data_dir, split, seed: int, seconds: float | None, say
               ) -> tuple[list[list[manifest.Track]], dict[str, tuple[int, int]]]:
    """What trains of a data folder and what is held out, as a training with that split, seed and
    `trim_silence` has it: what `trim` returns.
    """
    return trim(data_dir, splits.split(manifest.read(data_dir), split, seed), seconds, say)


def measure(data_dir, tracks, say, keep: bool = True) -> dict[str, Sound]:
    """The `Sound` of each track, by its file.

    Args:
        say: a `progress.Reporter`.
        keep: False reads what is kept and adds nothing to it, for all but the first of several
            processes.
    """
    data_dir = Path(data_dir)
    known = _read(data_dir / NAME)
    missing = [track for track in tracks if _key(track) not in known]
    if missing:
        say.start(len(missing), 0, "looking for silence")
        with contextlib.ExitStack() as closing:
            log = None
            if keep:
                # Without it each training looks anew; that a folder is read-only stops none.
                with contextlib.suppress(OSError):
                    log = closing.enter_context(open(data_dir / NAME, "a", encoding="ascii"))
                    # Begin with a line break, in case a killed run left the last line without one.
                    log.write("\n" if log.tell() else "")
            for done, track in enumerate(missing, 1):
                sound = known[_key(track)] = look(track.path(data_dir),
                                                  track.samples, track.sample_rate)
                if log:
                    log.write(json.dumps([*_key(track), sound.first, sound.last, sound.loud])
                              + "\n")
                say.advance(done)
        say.stop()
    return {track.file: known[_key(track)] for track in tracks}


def look(path, samples: int, sample_rate: int) -> Sound:
    """The `Sound` of one file of uint16 samples, read in blocks. A last window may be shorter."""
    size, floor, loud = max(1, int(sample_rate * WINDOW)), 10.0 ** (SILENT_DB / 10), []
    for start in range(0, samples, BLOCK * size):
        block = audio.from_u16(audio.read_window(path, start, min(BLOCK * size, samples - start)))
        rest = block.size % size
        whole = block[: block.size - rest].reshape(-1, size)
        loud.append(np.square(whole).mean(axis=1) >= floor)
        if rest:
            loud.append(np.square(block[-rest:]).mean(keepdims=True) >= floor)
    where = np.flatnonzero(np.concatenate(loud))
    if not where.size:
        return Sound(0, 0, 0)
    last = min(samples, (int(where[-1]) + 1) * size)
    return Sound(int(where[0]) * size, last, last - int(where[-1]) * size + (where.size - 1) * size)


def _key(track: manifest.Track) -> tuple:
    """What a track's samples depend on."""
    return track.file, track.content, track.sample_rate, track.samples


def _read(path: Path) -> dict[tuple, Sound]:
    """What is kept by track; a line that is torn says nothing."""
    found = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError):
                *key, first, last, loud = json.loads(line)
                found[tuple(key)] = Sound(int(first), int(last), int(loud))
    return found
