"""The scores of a corpus: the notes and beats of each track, transcribed once and cached in
data/.scores/<version>/<track file>.npz. Times are seconds of the track without transposition.
"""

import contextlib
import math
import os
import zipfile
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from ..dsp import beats, timing, transcription
from ..dsp.metrics import loudness_around
from ..generators import ScoreAbove
from ..generators.composer import BANDS, SILENT, SOUNDING, STRUCK
from ..io import audio, files, manifest
from ..io.files import atomic_write

SCORES_VERSION = "5"
"""The version of cached scores; other versions are transcribed again."""
PHASES = ScoreAbove.PHASES
TIMES = "starts", "ends", "attacks", "beats"
"""The fields of a score that are times."""
ROUNDING = 1e-6
"""The tolerance of a time at the start of a frame, in frames."""
LOWEST_PITCH = ScoreAbove.LOWEST
LONGEST_PART, OVERLAP = 600.0, 30.0
"""Seconds: longer tracks are transcribed in equal parts, in constant memory, with so much overlap
on either side.
"""


@dataclass(frozen=True)
class Score:
    """Notes, attacks and beats.

    starts, ends: float64 [notes], seconds, sorted by start. pitches: int [notes], MIDI numbers.
    loudness: int [notes], of `transcription.loudness_of`. attacks: float64 [attacks], seconds;
    bands: int [attacks], of `beats.find_attacks`. beats: float64 [beats], seconds, from before the
    music to after it. band_loudness: float32 [beats, `ScoreAbove.LOUDNESS_BANDS`], around each
    beat, in dBFS; None where no recording has been heard.
    """

    starts: np.ndarray
    ends: np.ndarray
    pitches: np.ndarray
    loudness: np.ndarray
    attacks: np.ndarray
    bands: np.ndarray
    beats: np.ndarray
    band_loudness: np.ndarray | None = None

    @classmethod
    def of(cls, sound: np.ndarray, sample_rate: int, before: np.ndarray | None = None,
           from_notes: bool = False) -> Self:
        """The score of a recording, float32 [samples]. before: the sound before it, float32 [n], in
        which beats are searched, too. from_notes: fit the beats to the notes, not to the sound.
        """
        notes = transcription.find_notes(sound, sample_rate)
        starts = notes.starts / timing.FRAMES_PER_SECOND
        if from_notes:
            times = beats.fit_beats(starts, len(sound) / sample_rate)
        else:
            before = sound[:0] if before is None else before
            times = beats.find_beats(np.concatenate([before, sound]), sample_rate)
            times -= len(before) / sample_rate
            times = times[max(0, np.searchsorted(times, 0) - 1) :]
        return cls(starts, notes.ends / timing.FRAMES_PER_SECOND, notes.pitches,
                   transcription.loudness_of(sound, sample_rate, notes),
                   *beats.find_attacks(sound, sample_rate), times,
                   loudness_around(sound, sample_rate, times, ScoreAbove.EDGES))

    @property
    def tempo(self) -> float:
        """The tempo of the median beat, in beats per minute."""
        return 60 / float(np.median(np.diff(self.beats)))

    def transposed(self, shift: int) -> Self:
        """The score of the track resampled to sound `shift` semitones higher, and faster."""
        ratio = 2 ** (shift / 12)
        return replace(self, pitches=self.pitches + shift,
                       **{name: getattr(self, name) / ratio for name in TIMES})

    def earlier(self, seconds: float) -> Self:
        """The score with all times `seconds` earlier."""
        return replace(self, **{name: getattr(self, name) - seconds for name in TIMES})

    def within(self, books: int) -> Self:
        """The score whose notes are moved by octaves into the semitones of `books` books."""
        end = LOWEST_PITCH + books - BANDS
        high = np.where(self.pitches < end, self.pitches, end - 12 + (self.pitches - end) % 12)
        return replace(self, pitches=np.where(
            high >= LOWEST_PITCH, high, LOWEST_PITCH + (high - LOWEST_PITCH) % 12))

    def in_steps(self, books: int, shift: int = 0) -> np.ndarray:
        """The code of each book in each step of the grid: int32 [steps, books]. The books are the
        semitones from `LOWEST_PITCH` on, then the bands of attacks. shift: in semitones.
        """
        grid = beats.steps(self.beats)
        middles = (grid[1:] + grid[:-1]) / 2  # a note begins in the nearest step
        starts, stops, attacks = (np.searchsorted(middles, times)
                                  for times in (self.starts, self.ends, self.attacks))
        roll = np.zeros((len(grid) - 1, books), np.int32)
        for start, stop, book, loudness in zip(
                starts, stops, self.pitches + shift - LOWEST_PITCH, self.loudness, strict=True):
            if start < len(roll) and 0 <= book < books - BANDS:
                tail = roll[start + 1 : stop, book]
                tail[tail == SILENT] = SOUNDING
                roll[start, book] = max(roll[start, book], STRUCK + loudness)
        inside = attacks < len(roll)
        roll[attacks[inside], books - BANDS + self.bands[inside]] = STRUCK
        return roll

    def in_frames(self, begin: float, frame: float, count: int, books: int) -> np.ndarray:
        """The rows of `ScoreAbove` of `count` frames of `frame` seconds from second `begin` on:
        int32 [count, books + 1 + `LOUDNESS_BANDS`].
        """
        roll = np.zeros((count, books + 1 + ScoreAbove.LOUDNESS_BANDS), np.int32)
        first, end, attacks = (np.floor((times - begin) / frame + ROUNDING).astype(int)
                               for times in (self.starts, self.ends, self.attacks))
        starts = np.concatenate([first, attacks])
        stops = np.concatenate([np.maximum(end, first + 1), attacks + ScoreAbove.RINGING])
        struck = np.concatenate([self.pitches - LOWEST_PITCH, books - BANDS + self.bands])
        base = ScoreAbove.AGES * np.concatenate([self.loudness, np.zeros_like(self.bands)])
        heard = (stops > 0) & (starts < count) & (struck >= 0) & (struck < books)
        for start, stop, book, loudness in zip(*(x[heard] for x in (starts, stops, struck, base)),
                                               strict=True):
            frames = np.arange(max(start, 0), min(stop, count))
            roll[frames, book] = loudness + 1 + np.minimum(frames - start, ScoreAbove.OLDEST)
        middles = begin + frame * (np.arange(count) + 0.5)
        places = np.interp(middles, self.beats, np.arange(len(self.beats)))
        roll[:, books] = (places % 1 * PHASES).astype(int)
        if self.band_loudness is not None:
            roll[:, books + 1 :] = loudness_rows(self.band_loudness, places)
        return roll


def loudness_rows(loudness: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The loudness of bands as in `ScoreAbove`: int32 [n, `LOUDNESS_BANDS`]. loudness: dBFS [beats,
    `LOUDNESS_BANDS`]. places: of the rows, in beats.
    """
    rows = np.stack([np.interp(places, np.arange(len(loudness)), band) for band in loudness.T], -1)
    return np.rint(np.maximum(rows - ScoreAbove.QUIETEST, 0)).astype(np.int32)


def of_track(data_dir, track: manifest.Track) -> Score:
    """A track's score, read from the cache, or transcribed and cached."""
    folder = Path(os.path.abspath(data_dir))
    path = folder / ".scores" / SCORES_VERSION / f"{track.file}.npz"
    with (contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
          open(path, "rb") as file, np.load(file, allow_pickle=False) as cached):
        if str(cached["track"]) == track.content:
            return Score(*(cached[field.name] for field in fields(Score)))
    score = _transcribe(folder / track.file, track)
    files.make_folder(path.parent)
    with atomic_write(path) as file:
        np.savez_compressed(file, track=track.content, **vars(score))
    return score


def _transcribe(path, track: manifest.Track) -> Score:
    """The score of a track's file, in constant memory. In a long track, the loudness of notes and
    the strength of attacks are relative to their part.
    """
    rate, overlap = track.sample_rate, round(OVERLAP * track.sample_rate)
    count = math.ceil(track.seconds / LONGEST_PART)
    edges = [track.samples * number // count for number in range(count + 1)]
    parts = []
    for begin, end in pairwise(edges):
        first, last = max(0, begin - overlap), min(track.samples, end + overlap)
        sound = audio.from_u16(audio.read_window(path, first, last - first))
        parts.append(Score.of(sound, rate).earlier(-first / rate))
    return _join(parts, [edge / rate for edge in edges[1:-1]])


def _join(parts: list[Score], edges: list[float]) -> Score:
    """The score of overlapping parts, which meet at the edges, in seconds. Notes and attacks belong
    to the part in which they begin. Beats change from part to part where those of both are nearest
    to each other, within `OVERLAP` of the edge.
    """
    pieces, times, loudness = [], parts[0].beats, parts[0].band_loudness
    for part, first, end in zip(parts, [-math.inf, *edges], [*edges, math.inf], strict=True):
        notes, attacks = ((first <= x) & (x < end) for x in (part.starts, part.attacks))
        pieces.append([*(x[notes] for x in (part.starts, part.ends, part.pitches, part.loudness)),
                       *(x[attacks] for x in (part.attacks, part.bands))])
    for part, edge in zip(parts[1:], edges, strict=True):
        before, after = (x[np.abs(x - edge) < OVERLAP] for x in (times, part.beats))
        i, j = np.unravel_index(np.abs(before[:, None] - after).argmin(), (len(before), len(after)))
        kept, new = times <= before[i], part.beats > after[j]
        times = np.concatenate([times[kept], part.beats[new]])
        loudness = np.concatenate([loudness[kept], part.band_loudness[new]])
    return Score(*[*map(np.concatenate, zip(*pieces, strict=True)), times, loudness])


def of_corpus(data_dir, tracks, say) -> dict[str, Score]:
    """The scores of tracks by their files. say: a `progress.Reporter`."""
    return {track.file: of_track(data_dir, track) for track in say.track(tracks, "transcribing")}
