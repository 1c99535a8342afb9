"""The notes in a sound: how many a codec keeps, how music uses them, and a piano roll of them.

A *peak* is a local maximum over frequency of a constant-Q transform (24 bins an octave from C2 to
C8, 43 frames a second) that stands `PEAK_PROMINENCE_DB` over the median of the nine bins around it
and lies within `PEAK_RANGE_DB` of the loudest bin of its frame. Spectral distances and the Fréchet
distance are nearly deaf to whether the right notes sound; peaks are what a melody and a chord are
made of.

The transform is librosa's with `scale=True`: a bin is worth its unit-gain magnitude times the root
of its filter's length, which lifts the bass by 3 dB an octave. Peaks, chroma and the strongest line
are found on that scale; only `PianoRoll.strength` and `PianoRoll.spectrum` are of unit gain.
Figures from another scale are not comparable.

Signals are float [samples] in [-1, 1] at any rate; they are resampled to `SAMPLE_RATE`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import PEAK_NEIGHBOURHOOD, PEAK_PROMINENCE_DB, PEAK_RANGE_DB

SAMPLE_RATE, HOP = 22050, 512
FRAME_SECONDS = HOP / SAMPLE_RATE
LOWEST_HZ, LOWEST_MIDI = 65.406, 36
BINS, BINS_A_SEMITONE = 144, 2
SEMITONES = BINS // BINS_A_SEMITONE
FREQUENCIES = LOWEST_HZ * 2.0 ** (np.arange(BINS) / (12 * BINS_A_SEMITONE))

SILENT_DB = -60.0
MARGIN = 0.3
"""Seconds on either side of a moment that its frame hears, at most: half of the longest filter."""

SHORTEST = 4
"""Frames of a note that counts for durations and for the strongest line: 93 ms."""
PIECE_SECONDS = 60.0
"""Of a `portrait`."""
KEY_SECONDS = 10.0
SECOND = 43
"""Frames in a second."""

# How well each pitch class fits a major and a minor key on C (Krumhansl & Kessler 1982).
KEY_PROFILES = np.array([[6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
                         [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]])
STATISTICS = ("durations", "intervals", "harmony", "key")
"""The histograms of a `portrait`."""

_BLOCK, _HALO = 2048, 64
"""Frames that are transformed at once, and those on either side that only lend their sound."""


def constant_q(audio, sample_rate: int) -> Iterator[np.ndarray]:
    """Magnitudes of a signal in blocks: float32 [up to 2,048 frames, `BINS`].

    Frame t is centred on t·`HOP` / `SAMPLE_RATE` seconds, 1 + samples // `HOP` frames in all; what
    lies outside the signal is silence. Memory does not grow with the length, but for a copy of a
    signal at another rate.
    """
    import librosa

    audio = np.asarray(audio, np.float32)
    if audio.ndim != 1 or not audio.size:
        raise ValueError(f"notes are found in one signal [samples] of at least one sample, not "
                         f"{list(audio.shape)}")
    if sample_rate != SAMPLE_RATE:
        audio = librosa.resample(audio, orig_sr=sample_rate, target_sr=SAMPLE_RATE)
    count = 1 + len(audio) // HOP
    for first in range(0, count, _BLOCK):
        frames = min(_BLOCK, count - first)
        before = min(first, _HALO)
        begin, wanted = (first - before) * HOP, (before + frames - 1 + _HALO) * HOP
        part = audio[begin : begin + wanted]
        # Never shorter than the halo, which is longer than the longest filter.
        made = librosa.cqt(np.pad(part, (0, wanted - len(part))), sr=SAMPLE_RATE,
                           hop_length=HOP, fmin=LOWEST_HZ,
                           n_bins=BINS, bins_per_octave=12 * BINS_A_SEMITONE)
        yield np.abs(made[:, before : before + frames]).T


def peaks(magnitudes) -> np.ndarray:
    """Which bins of `constant_q` [frames, `BINS`] are peaks: bool, the same shape."""
    from scipy.ndimage import median_filter

    level = _decibels(magnitudes)
    middle = level[:, 1:-1]
    found = np.zeros(level.shape, bool)
    found[:, 1:-1] = (middle > level[:, :-2]) & (middle >= level[:, 2:])
    loudest = level.max(axis=1, keepdims=True)
    around = median_filter(level, size=(1, PEAK_NEIGHBOURHOOD), mode="nearest")
    return (found & (level > around + PEAK_PROMINENCE_DB) & (level > loudest - PEAK_RANGE_DB)
            & (loudest > SILENT_DB))


def chroma(magnitudes) -> np.ndarray:
    """The peaks' energy by pitch class, C first, its root, each frame of unit length: float32
    [frames, 12], or zeros where no peak is.
    """
    energy = np.where(peaks(magnitudes), np.square(magnitudes), 0.0)
    classes = np.sqrt(energy.reshape(len(energy), -1, 12, BINS_A_SEMITONE).sum(axis=(1, 3)))
    return (classes / np.maximum(np.linalg.norm(classes, axis=1, keepdims=True),
                                 1e-9)).astype(np.float32)


def compare(original, made, sample_rate: int) -> dict[str, float]:
    """How much of the notes of a signal is in what was made of it, higher is better.

    Args:
        original, made: float [samples], of one length.

    Returns:
        notes: notes kept, the F1 of the peaks, frame by frame, a quarter tone off counting as met;
        notes_precision: share of the peaks of `made` that the original has; notes_recall: share of
        the original's that `made` has; chroma: mean cosine of the `chroma` of both, over frames in
        which both have peaks. On music, chance is about 0.24 and 0.34.
    """
    if len(original) != len(made):
        raise ValueError(f"original has {len(original)} samples, what was made of it {len(made)}; "
                         f"only equal lengths can be compared")
    right = offered = met = wanted = both = 0
    cosine = 0.0
    for block in zip(constant_q(original, sample_rate), constant_q(made, sample_rate), strict=True):
        real, heard = map(peaks, block)
        right, offered = right + int((heard & _widen(real)).sum()), offered + int(heard.sum())
        met, wanted = met + int((real & _widen(heard)).sum()), wanted + int(real.sum())
        pair = chroma(block[0]), chroma(block[1])
        both += int((pair[0].any(axis=1) & pair[1].any(axis=1)).sum())
        cosine += float((pair[0] * pair[1]).sum())
    precision, recall = right / max(offered, 1), met / max(wanted, 1)
    return {"notes": 2 * precision * recall / max(precision + recall, 1e-9),
            "notes_precision": precision,
            "notes_recall": recall, "chroma": cosine / max(both, 1)}


def _widen(found):
    """Peaks, and the bins next to them."""
    from scipy.ndimage import maximum_filter1d

    return maximum_filter1d(found, 3, axis=1, mode="constant")


# ----------------------------------------------------------------------------- how music uses notes


def portrait(audio, sample_rate: int) -> dict:
    """How a piece of about a minute uses its notes.

    Returns:
        durations: of held semitones, from 0.09 to 8 s in quarters of an octave and a half;
        intervals: between the notes of the strongest line, in semitones from −13 to 13; harmony:
        cosine of the `chroma` with itself a second later; key: how well ten seconds fit the best of
        the 24 keys; each a histogram float [n] that sums to 1, or to 0 where there is nothing.
        line: notes a second of the strongest line; alike: mean cosine of the chroma with itself a
        second later.
    """
    magnitudes = np.concatenate(list(constant_q(audio, sample_rate)))
    found, classes = peaks(magnitudes), chroma(magnitudes)
    line = _strongest_line(magnitudes, found)
    later = np.clip((classes[:-SECOND] * classes[SECOND:]).sum(axis=1), 0.0, 1.0)
    seconds = _held_frames(found) * FRAME_SECONDS
    return {
        "durations": _histogram(np.log2(np.clip(seconds, 0.09, 8.0)),
                                np.linspace(np.log2(0.09), 3.0, 13)),
        "intervals": _histogram(np.clip(np.diff(line), -13, 13), np.arange(-13.5, 14.5)),
        "harmony": _histogram(later, np.linspace(0.0, 1.0, 13)),
        "key": _histogram(_key_fits(classes), np.linspace(0.0, 1.0, 11)),
        "line": len(line) * sample_rate / len(audio),
        "alike": float(later.mean()) if later.size else 0.0,
    }


def portraits(audio, sample_rate: int, seconds: float = PIECE_SECONDS) -> list[dict]:
    """A `portrait` of each whole piece of `seconds` of a signal; what is over is left out."""
    count = round(seconds * sample_rate)
    return [portrait(audio[i : i + count], sample_rate)
            for i in range(0, len(audio) - count + 1, count)]


def average(portraits: Sequence[dict]) -> dict:
    """The mean of the portraits of several pieces."""
    return {what: np.mean([one[what] for one in portraits], axis=0) for what in portraits[0]}


def divergences(real: dict, other: dict) -> dict[str, float]:
    """How far other music's notes are from real music's, by a portrait of each.

    Returns:
        For each of `STATISTICS` the Jensen-Shannon divergence of the two histograms in bits, 0
        (alike) to 1; line, alike: those of `other`.
    """
    return {what: _jensen_shannon(np.asarray(real[what]), np.asarray(other[what]))
            for what in STATISTICS} | {
        what: float(other[what]) for what in ("line", "alike")}


def profile(audio, sample_rate: int) -> np.ndarray:
    """How much each pitch class sounds: float64 [12] of unit length, C first; zeros where nothing
    does.
    """
    total = sum(chroma(block).sum(axis=0, dtype=np.float64)
                for block in constant_q(audio, sample_rate))
    return total / max(float(np.linalg.norm(total)), 1e-9)


def _held_frames(found):
    """Lengths in frames of the semitones that are held, a gap of one frame filled."""
    held = found.reshape(len(found), SEMITONES, BINS_A_SEMITONE).any(axis=2)
    filled = held.copy()
    filled[1:-1] |= held[:-2] & held[2:]
    # A row of nothing between the semitones, so that none goes on in the next.
    edges = np.flatnonzero(np.diff(np.pad(filled, ((1, 1), (0, 0))).astype(np.int8).T.ravel()))
    lengths = edges[1::2] - edges[::2]
    return lengths[lengths >= SHORTEST]


def _strongest_line(magnitudes, found):
    """The notes of the strongest line, in semitones above the lowest: int [notes]."""
    loud = np.where(found, magnitudes, 0.0)
    line = np.where(loud.any(axis=1), loud.argmax(axis=1) // BINS_A_SEMITONE, -1)
    begins = np.flatnonzero(np.diff(line, prepend=-2))
    lengths = np.diff(begins, append=len(line))
    pitches = line[begins]
    return pitches[(lengths >= SHORTEST) & (pitches >= 0)]


def _key_fits(classes):
    """The best correlation with a key's profile of each ten seconds, every five: float [n]."""
    length = round(KEY_SECONDS * SECOND)
    keys = np.stack([np.roll(key, step) for key in KEY_PROFILES for step in range(12)])
    sums = [classes[i : i + length].sum(axis=0, dtype=np.float64)
            for i in range(0, len(classes) - length + 1, length // 2)]
    return np.array([np.corrcoef(one, keys)[0, 1:].max() for one in sums if one.std() > 0])


def _histogram(values, edges):
    count = np.histogram(values, edges)[0]
    return count / max(count.sum(), 1)


def _jensen_shannon(p, q) -> float:
    middle = (p + q) / 2

    def excess(side):
        there = side > 0
        return float((side[there] * np.log2(side[there] / middle[there])).sum())

    return (excess(p) + excess(q)) / 2


# ----------------------------------------------------------------------------------- the piano roll


@dataclass(frozen=True)
class PianoRoll:
    """The notes of a piece, in the order in which they begin; arrays float32 [notes].

    time, seconds: when a note begins, and how long it lasts; frequency: in Hz, midi: the same as a
    note number with its fraction (69 is A4, 440 Hz); strength: of its loudest frame, in dB: a sine
    of full scale has 0. A note that is struck again while it sounds goes on as one.

    spectrum: float32 [`BINS`, columns] in dB as `strength`, the loudest of each column's time;
    length: seconds of the whole, from `start` on.
    """

    time: np.ndarray
    seconds: np.ndarray
    frequency: np.ndarray
    midi: np.ndarray
    strength: np.ndarray
    spectrum: np.ndarray
    start: float
    length: float


def roll(audio, sample_rate: int, *, shortest: float = 0.09, start: float = 0.0,
         columns: int = 1200) -> PianoRoll:
    """The notes of a signal: peaks that go on from frame to frame within a quarter tone, gaps of
    one frame filled.

    To draw a piece as it grows, pass each part with `MARGIN` seconds of what lies around it, and
    keep the notes that begin in the part.

    Args:
        shortest: notes of fewer seconds are left out; 0 keeps each peak.
        start: seconds, where the signal begins; added to every time.
        columns: of the spectrum, at most.
    """
    gain = _unit_gain_db()
    each = -(-(1 + len(audio) * SAMPLE_RATE // (HOP * sample_rate)) // columns)
    held, spectrum, rest, first = _Held(), [], np.empty((0, BINS), np.float32), 0

    def shrink(level):
        return np.maximum.reduceat(level, np.arange(0, len(level), each))

    for block in constant_q(audio, sample_rate):
        level = _decibels(block) + gain
        for frame, row in enumerate(peaks(block)):
            held.add(first + frame, np.flatnonzero(row), level[frame])
        first += len(block)
        level = np.concatenate([rest, level])
        if whole := len(level) // each * each:
            spectrum.append(shrink(level[:whole]))
        rest = level[whole:]
    if len(rest):
        spectrum.append(shrink(rest))
    notes = held.notes(shortest)
    return PianoRoll(notes[0] * np.float32(FRAME_SECONDS) + np.float32(start),
                     notes[1] * np.float32(FRAME_SECONDS),
                440.0 * 2.0 ** ((notes[2] - 69.0) / 12.0), notes[2], notes[3],
                     np.concatenate(spectrum).T,
                start, len(audio) / sample_rate)


class _Held:
    """Notes as they are put together, frame by frame."""

    def __init__(self):
        # Of each note: its first frame, its last, its first bin, the sum of its pitches by their
        # amplitudes, the sum of those, and its loudest frame in dB.
        self.made: list[list] = []
        self.sounding: dict[int, int] = {}

    def add(self, frame: int, bins, level):
        """The peaks of a frame: int [n], of the spectrum `level` float [`BINS`] in dB."""
        before, self.sounding = self.sounding, {}
        for at, note in before.items():
            if frame - self.made[note][1] <= 1:
                self.sounding[at] = note
        for at in map(int, bins):
            left, top, right = (float(x) for x in level[at - 1 : at + 2])
            # The top of the parabola through the three (Smith & Serra 1987).
            offset = 0.5 * (left - right) / min(left - 2 * top + right, -1e-6)
            pitch = LOWEST_MIDI + (at + offset) / BINS_A_SEMITONE
            strength = top - 0.25 * (left - right) * offset
            weight = 10.0 ** (strength / 20)
            note = next((before[near] for near in (at, at - 1, at + 1) if near in before
                         and frame - 2 <= self.made[before[near]][1] < frame
                         and abs(at - self.made[before[near]][2]) <= 1), None)
            if note is None:
                note = len(self.made)
                self.made.append([frame, frame, at, 0.0, 0.0, -math.inf])
            one = self.made[note]
            one[1], one[3], one[4] = frame, one[3] + pitch * weight, one[4] + weight
            one[5] = max(one[5], strength)
            self.sounding = {b: n for b, n in self.sounding.items() if n != note}
            self.sounding[at] = note

    def notes(self, shortest: float) -> np.ndarray:
        """float32 [4, notes]: first frame, frames, note number, strength."""
        rows = [(first, last + 1 - first, pitch / weight, strength)
                for first, last, _, pitch, weight, strength in self.made
                if (last + 1 - first) * FRAME_SECONDS >= shortest]
        return np.array(rows, np.float32).reshape(-1, 4).T


@functools.cache
def _unit_gain_db() -> np.ndarray:
    """What turns `constant_q` in dB into dB of a sine's full scale: float32 [`BINS`]."""
    import librosa

    lengths, _ = librosa.filters.wavelet_lengths(freqs=FREQUENCIES, sr=SAMPLE_RATE)
    # Half of a sine's amplitude is in its positive frequency.
    return (20 * np.log10(2) - 10 * np.log10(lengths)).astype(np.float32)


def _decibels(magnitudes):
    return 20 * np.log10(np.asarray(magnitudes, np.float32) + np.float32(1e-7))
