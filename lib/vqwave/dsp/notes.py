"""The notes in a sound: the notes that a codec keeps, statistics of notes, and piano rolls.

A *peak* is a local maximum over frequency of a constant-Q transform (24 bins per octave from C2 to
C8, 43 frames per second). It is at least `PEAK_PROMINENCE_DB` above the median of the
`PEAK_NEIGHBOURHOOD` bins around it, and within `PEAK_RANGE_DB` of its frame's loudest bin. Peaks
measure whether the right notes sound. Spectral distances and the Fréchet distance are nearly deaf
to this.

The transform equals that of librosa 0.11 with `scale=True`: the magnitude of unit gain times the
square root of the filter's length, which lifts the bass by 3 dB per octave. Only
`PianoRoll.strength` and `PianoRoll.spectrum` have unit gain. Values on another scale are not
comparable.

Signals are float [samples] in [-1, 1] at any rate; they are resampled to `SAMPLE_RATE`.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .spectrum import resample

SAMPLE_RATE, HOP = 22050, 512
FRAME_SECONDS = HOP / SAMPLE_RATE
LOWEST_HZ, LOWEST_MIDI = 65.406, 36  # C2
BINS, BINS_A_SEMITONE = 144, 2
BINS_AN_OCTAVE = 12 * BINS_A_SEMITONE
FREQUENCIES = LOWEST_HZ * 2.0 ** (np.arange(BINS) / BINS_AN_OCTAVE)
PERIODS = (2 ** (2 / BINS_AN_OCTAVE) + 1) / (2 ** (2 / BINS_AN_OCTAVE) - 1)
LENGTHS = PERIODS * SAMPLE_RATE / FREQUENCIES
"""The samples in the window of each bin, which has `PERIODS` periods."""
PEAK_NEIGHBOURHOOD = 9  # bins
PEAK_PROMINENCE_DB = 4.0  # above the median of the neighbourhood
PEAK_RANGE_DB = 25.0  # below the loudest bin of the frame
SILENT_DB = -60.0  # a frame whose loudest bin is quieter has no peaks
MARGIN = 0.3  # seconds that a frame sees on either side: half of the longest filter
SHORTEST_NOTE_FRAMES = 4  # 93 ms, in durations and in the strongest line
KEY_SECONDS = 10.0  # seconds of music in which a key is measured
SECOND = round(1 / FRAME_SECONDS)  # frames

# How well each pitch class fits a major and a minor key on C (Krumhansl & Kessler 1982).
KEY_PROFILES = np.array([[6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
                         [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]])
STATISTICS = ("durations", "intervals", "harmony", "key")
"""The histograms of a `portrait`."""
_BLOCK, _HALO = 2048, 64
"""Frames in a block of the transform, and frames of context on either side."""
_WINDOW = 512
"""The samples of a window of the transform, which is longer than all filters of its octave."""


def constant_q(audio, sample_rate: int) -> Iterator[np.ndarray]:
    """Magnitudes of a signal in blocks: float32 [up to 2,048 frames, `BINS`].

    Frame t is centred on t·`HOP` / `SAMPLE_RATE` seconds, 1 + samples // `HOP` frames in all, with
    silence outside the signal. Memory grows with the length only if the signal is resampled.
    """
    audio = resample(audio, sample_rate, SAMPLE_RATE)
    count = 1 + len(audio) // HOP
    for first in range(0, count, _BLOCK):
        frames = min(_BLOCK, count - first)
        before = min(first, _HALO)
        begin, length = (first - before) * HOP, (before + frames - 1 + _HALO) * HOP
        part = audio[begin : begin + length]
        # A part is at least as long as the halo, which is longer than the longest filter.
        yield _transform(np.pad(part, (0, length - len(part))))[before : before + frames]


def _transform(audio) -> np.ndarray:
    """Constant-Q magnitudes of float32 [samples]: float32 [frames, `BINS`]. The windows of all
    octaves are those of the highest, at half the sample rate for each octave below (Schörkhuber &
    Klapuri 2010).
    """
    octaves, filters = [], _octave_filters()
    for octave in range(BINS // BINS_AN_OCTAVE):
        audio = resample(audio, 2, 1) if octave else audio
        padded = np.pad(audio, _WINDOW // 2)
        windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[:: HOP >> octave]
        octaves.append(np.abs(np.fft.rfft(windows) @ filters) * 2**octave)
    count = min(map(len, octaves))
    magnitudes = np.concatenate([octave[:count] for octave in octaves[::-1]], axis=1)
    return magnitudes / np.sqrt(LENGTHS, dtype=np.float32)


@functools.cache
def _octave_filters() -> np.ndarray:
    """The spectra of the windowed oscillations of the highest octave: complex64
    [`_WINDOW` // 2 + 1, `BINS_AN_OCTAVE`]. The smallest values of each, together 1 % of the sum of
    its magnitudes, are 0.
    """
    spectra = np.zeros((_WINDOW // 2 + 1, BINS_AN_OCTAVE), np.complex64)
    for k in range(BINS_AN_OCTAVE):
        length, hertz = LENGTHS[k - BINS_AN_OCTAVE], FREQUENCIES[k - BINS_AN_OCTAVE]
        time = np.arange(math.floor(-length / 2), math.floor(length / 2))
        wave = np.exp(2j * np.pi * hertz / SAMPLE_RATE * time)
        wave *= 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(len(time)) / len(time))
        wave *= length / _WINDOW / np.abs(wave).sum()
        left = (_WINDOW - len(wave)) // 2
        wave = np.pad(wave, (left, _WINDOW - len(wave) - left))
        spectrum = np.fft.fft(wave)[: _WINDOW // 2 + 1]
        magnitudes = np.sort(np.abs(spectrum))
        kept = np.searchsorted(np.cumsum(magnitudes / magnitudes.sum()), 0.01)
        spectra[:, k] = np.where(np.abs(spectrum) >= magnitudes[kept], spectrum, 0)
    return spectra


def peaks(magnitudes) -> np.ndarray:
    """Which bins of `constant_q` [frames, `BINS`] are peaks: bool of the same shape."""
    level = _decibels(magnitudes)
    middle = level[:, 1:-1]
    maxima = np.zeros(level.shape, bool)
    maxima[:, 1:-1] = (middle > level[:, :-2]) & (middle >= level[:, 2:])
    loudest = level.max(axis=1, keepdims=True)
    half = PEAK_NEIGHBOURHOOD // 2
    neighbours = np.lib.stride_tricks.sliding_window_view(
        np.pad(level, ((0, 0), (half, half)), "edge"), PEAK_NEIGHBOURHOOD, axis=1)
    around = np.partition(neighbours, half)[..., half]
    return (maxima & (level > around + PEAK_PROMINENCE_DB) & (level > loudest - PEAK_RANGE_DB)
            & (loudest > SILENT_DB))


def chroma(magnitudes) -> np.ndarray:
    """The square root of the peaks' energy in each pitch class, C first, normalised to unit length
    per frame: float32 [frames, 12]; zeros in frames without peaks.
    """
    energy = np.where(peaks(magnitudes), np.square(magnitudes), 0.0)
    classes = np.sqrt(energy.reshape(len(energy), -1, 12, BINS_A_SEMITONE).sum(axis=(1, 3)))
    return (classes / np.maximum(np.linalg.norm(classes, axis=1, keepdims=True),
                                 1e-9)).astype(np.float32)


def compare(original, copy, sample_rate: int) -> dict[str, float]:
    """How many notes of a signal its copy keeps, float [samples] each; higher is better.

    notes: notes kept, the F1 of the peaks, frame by frame; a peak a quarter tone away matches.
    chroma: mean cosine of the `chroma` of both, over frames in which both have peaks. On music,
    chance is about 0.24 for notes and 0.34 for chroma.
    """
    # Peaks of the original and of the copy: all, and those that match.
    counts, matches, frames, cosine = np.zeros(2, int), np.zeros(2, int), 0, 0.0
    for blocks in zip(constant_q(original, sample_rate), constant_q(copy, sample_rate),
                      strict=True):
        x, y = map(peaks, blocks)
        wide_x, wide_y = map(_with_neighbours, (x, y))
        counts += x.sum(), y.sum()
        matches += (x & wide_y).sum(), (y & wide_x).sum()
        classes = [chroma(magnitudes) for magnitudes in blocks]
        frames += int((classes[0].any(axis=1) & classes[1].any(axis=1)).sum())
        cosine += float((classes[0] * classes[1]).sum())
    recall, precision = (float(share) for share in matches / np.maximum(counts, 1))
    return {"notes": 2 * precision * recall / max(precision + recall, 1e-9),
            "chroma": cosine / max(frames, 1)}


def _with_neighbours(is_peak) -> np.ndarray:
    """Which bins are peaks or have one beside them."""
    wide = is_peak.copy()
    wide[:, 1:] |= is_peak[:, :-1]
    wide[:, :-1] |= is_peak[:, 1:]
    return wide


def portrait(audio, sample_rate: int) -> dict:
    """Statistics of the notes of about a minute of music.

    Returns:
        Histograms float [n] that sum to 1, or to 0 without notes.
        durations: of held semitones, from 0.09 to 8 s, in 12 bins of about half an octave.
        intervals: between the notes of the strongest line, in semitones from −13 to 13.
        harmony: cosine of the `chroma` with the chroma a second later.
        key: how well ten seconds fit the best of the 24 keys.
        And two numbers. line: notes per second in the strongest line. alike: the mean of harmony.
    """
    magnitudes = np.concatenate(list(constant_q(audio, sample_rate)))
    is_peak, classes = peaks(magnitudes), chroma(magnitudes)
    melody = _strongest_line(magnitudes, is_peak)
    chroma_similarity = np.clip((classes[:-SECOND] * classes[SECOND:]).sum(axis=1), 0.0, 1.0)
    seconds = _held_frames(is_peak) * FRAME_SECONDS
    return {
        "durations": _histogram(np.log2(np.clip(seconds, 0.09, 8.0)),
                                np.linspace(np.log2(0.09), 3.0, 13)),
        "intervals": _histogram(np.clip(np.diff(melody), -13, 13), np.arange(-13.5, 14.5)),
        "harmony": _histogram(chroma_similarity, np.linspace(0.0, 1.0, 13)),
        "key": _histogram(_key_fits(classes), np.linspace(0.0, 1.0, 11)),
        "line": len(melody) * sample_rate / len(audio),
        "alike": float(chroma_similarity.mean()) if chroma_similarity.size else 0.0,
    }


def average(portraits: Sequence[dict]) -> dict:
    """The mean of several portraits."""
    return {name: np.mean([p[name] for p in portraits], axis=0) for name in portraits[0]}


def divergences(real: dict, other: dict) -> dict[str, float]:
    """The difference between the notes of real and of other music, from a portrait of each. For
    each of `STATISTICS`: the Jensen-Shannon divergence of the two histograms in bits, from 0
    (equal) to 1. "line" and "alike" are those of `other`.
    """
    return {name: _jensen_shannon(np.asarray(real[name]), np.asarray(other[name]))
            for name in STATISTICS} | {name: float(other[name]) for name in ("line", "alike")}


def _held_frames(is_peak):
    """The lengths, in frames, of held semitones. Gaps of one frame are filled."""
    held = is_peak.reshape(len(is_peak), BINS // BINS_A_SEMITONE, BINS_A_SEMITONE).any(axis=2)
    filled = held.copy()
    filled[1:-1] |= held[:-2] & held[2:]
    # Pad each semitone with silence, so that a note does not continue in the next semitone.
    edges = np.flatnonzero(np.diff(np.pad(filled, ((1, 1), (0, 0))).astype(np.int8).T.ravel()))
    lengths = edges[1::2] - edges[::2]
    return lengths[lengths >= SHORTEST_NOTE_FRAMES]


def _strongest_line(magnitudes, is_peak):
    """The notes of the strongest line, in semitones above the lowest: int [notes]."""
    loud = np.where(is_peak, magnitudes, 0.0)
    line = np.where(loud.any(axis=1), loud.argmax(axis=1) // BINS_A_SEMITONE, -1)
    begins = np.flatnonzero(np.diff(line, prepend=-2))
    lengths = np.diff(begins, append=len(line))
    pitches = line[begins]
    return pitches[(lengths >= SHORTEST_NOTE_FRAMES) & (pitches >= 0)]


def _key_fits(classes):
    """The best correlation of ten seconds with a key's profile, every five seconds: float [n]."""
    length = round(KEY_SECONDS * SECOND)
    keys = np.stack([np.roll(key, step) for key in KEY_PROFILES for step in range(12)])
    sums = [classes[i : i + length].sum(axis=0, dtype=np.float64)
            for i in range(0, len(classes) - length + 1, length // 2)]
    return np.array([np.corrcoef(s, keys)[0, 1:].max() for s in sums if s.std() > 0])


def _histogram(values, edges):
    count = np.histogram(values, edges)[0]
    return count / max(count.sum(), 1)


def _jensen_shannon(p, q) -> float:
    middle = (p + q) / 2
    return sum(float((x[x > 0] * np.log2(x[x > 0] / middle[x > 0])).sum()) for x in (p, q)) / 2


@dataclass(frozen=True)
class PianoRoll:
    """The notes of a piece, in the order in which they begin; arrays float32 [notes].

    time, seconds: the beginning and the length of a note. midi: the note number with its fraction
    (69 is A4, 440 Hz). strength: the level of the loudest frame, in dB (0 for a full-scale sine). A
    note that is struck again while it sounds counts as one note.

    spectrum: float32 [`BINS`, columns], in the same dB; a column is the maximum over its time.
    length: seconds of the signal, from `start` on.
    """

    time: np.ndarray
    seconds: np.ndarray
    midi: np.ndarray
    strength: np.ndarray
    spectrum: np.ndarray
    start: float
    length: float


def roll(audio, sample_rate: int, *, shortest: float = 0.09, start: float = 0.0,
         columns: int = 1200) -> PianoRoll:
    """The notes of a signal: peaks that continue from frame to frame within a quarter tone, with
    gaps of one frame filled. Pass a growing piece in parts, with `MARGIN` seconds on each side.

    shortest: seconds of the shortest note; 0 keeps each peak. start: seconds, added to all times.
    columns: the most columns of the spectrum.
    """
    # Half of a sine's amplitude is in its positive frequency.
    gain = (20 * np.log10(2) - 10 * np.log10(LENGTHS)).astype(np.float32)
    frames = 1 + len(audio) * SAMPLE_RATE // (HOP * sample_rate)
    per_column = -(-frames // columns)
    # One column more, because resampling may round the length up.
    spectrum = np.full((frames // per_column + 2, BINS), -np.inf, np.float32)
    tracker, frame = _NoteTracker(), 0
    for block in constant_q(audio, sample_rate):
        levels = _decibels(block) + gain
        np.maximum.at(spectrum, np.arange(frame, frame + len(levels)) // per_column, levels)
        for row, level in zip(peaks(block), levels, strict=True):
            tracker.add(frame, np.flatnonzero(row), level)
            frame += 1
    first, length, midi, strength = tracker.notes(shortest)
    return PianoRoll(first * np.float32(FRAME_SECONDS) + np.float32(start),
                     length * np.float32(FRAME_SECONDS), midi, strength,
                     spectrum[: -(-frame // per_column)].T, start, len(audio) / sample_rate)


def score_roll(time, seconds, midi, start: float, length: float) -> PianoRoll:
    """The roll of a score's notes: all have a strength of 0 dB, and the spectrum is silent. The
    arguments are as in `PianoRoll`.
    """
    time, seconds, midi = (np.asarray(x, np.float32) for x in (time, seconds, midi))
    return PianoRoll(time, seconds, midi, np.zeros(len(time), np.float32),
                     np.full((BINS, 1), -np.inf, np.float32), start, length)


@dataclass
class _Note:
    """A note while it sounds. pitch: the sum of its pitches, weighted by their amplitudes."""

    first: int
    last: int
    bin: int
    pitch: float = 0.0
    weight: float = 0.0
    strength: float = -math.inf


class _NoteTracker:
    """Joins the peaks of successive frames into notes. sounding: the latest note of each bin."""

    def __init__(self):
        self.started: list[_Note] = []
        self.sounding: dict[int, _Note] = {}

    def add(self, frame: int, bins, level):
        """The peaks of a frame: int [n], of the spectrum `level` float [`BINS`] in dB."""
        before = self.sounding
        self.sounding = {k: note for k, note in before.items() if note.last == frame - 1}
        for k in map(int, bins):
            left, top, right = (float(x) for x in level[k - 1 : k + 2])
            # The top of the parabola through the three (Smith & Serra 1987).
            offset = 0.5 * (left - right) / min(left - 2 * top + right, -1e-6)
            strength = top - 0.25 * (left - right) * offset
            note = next((before[near] for near in (k, k - 1, k + 1) if near in before
                         and before[near].last < frame and abs(k - before[near].bin) <= 1), None)
            if note is None:
                note = _Note(frame, frame, k)
                self.started.append(note)
            weight = 10.0 ** (strength / 20)
            note.last, note.weight = frame, note.weight + weight
            note.pitch += (LOWEST_MIDI + (k + offset) / BINS_A_SEMITONE) * weight
            note.strength = max(note.strength, strength)
            self.sounding = {b: n for b, n in self.sounding.items() if n is not note} | {k: note}

    def notes(self, shortest: float) -> np.ndarray:
        """float32 [4, notes]: first frame, frames, note number, strength."""
        rows = [(n.first, n.last + 1 - n.first, n.pitch / n.weight, n.strength)
                for n in self.started if (n.last + 1 - n.first) * FRAME_SECONDS >= shortest]
        return np.array(rows, np.float32).reshape(-1, 4).T


def _decibels(magnitudes):
    return 20 * np.log10(np.asarray(magnitudes, np.float32) + np.float32(1e-7))
