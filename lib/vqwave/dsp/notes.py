"""The notes in a sound: the notes that a codec keeps, and piano rolls.

A *peak* is a local maximum over frequency of a constant-Q transform (24 bins per octave from C2 to
C8, 43 frames per second). It is at least `PEAK_PROMINENCE_DB` above the median of the
`PEAK_NEIGHBOURHOOD` bins around it, and within `PEAK_RANGE_DB` of its frame's loudest bin. Spectral
distances and the Fréchet distance are nearly deaf to whether the right notes sound.

The transform equals that of librosa 0.11 with `scale=True`: the magnitude of unit gain times the
square root of the filter's length, which lifts the bass by 3 dB per octave. Only
`PianoRoll.strength` and `PianoRoll.spectrum` have unit gain. Signals are float [samples] in [-1, 1]
at any rate.
"""

import functools
import math
from collections.abc import Iterator
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
LENGTHS = PERIODS * SAMPLE_RATE / FREQUENCIES  # samples of each bin's window
PEAK_NEIGHBOURHOOD = 9  # bins
PEAK_PROMINENCE_DB = 4.0  # above the median of the neighbourhood
PEAK_RANGE_DB = 25.0  # below the loudest bin of the frame
SILENT_DB = -60.0  # a frame whose loudest bin is quieter has no peaks
MARGIN = 0.3  # seconds that a frame sees on either side: half of the longest filter

# How well each pitch class fits a major and a minor key on C (Krumhansl & Kessler 1982).
KEY_PROFILES = np.array([[6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
                         [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]])
_BLOCK, _HALO = 2048, 64  # frames in a block of the transform, and of context on either side
_WINDOW = 512  # samples of a window of the transform, longer than all filters of its octave


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
    decibels = _decibels(magnitudes)
    middle = decibels[:, 1:-1]
    maxima = np.zeros(decibels.shape, bool)
    maxima[:, 1:-1] = (middle > decibels[:, :-2]) & (middle >= decibels[:, 2:])
    loudest = decibels.max(axis=1, keepdims=True)
    half = PEAK_NEIGHBOURHOOD // 2
    neighbours = np.lib.stride_tricks.sliding_window_view(
        np.pad(decibels, ((0, 0), (half, half)), "edge"), PEAK_NEIGHBOURHOOD, axis=1)
    around = np.partition(neighbours, half)[..., half]
    return (maxima & (decibels > around + PEAK_PROMINENCE_DB) & (decibels > loudest - PEAK_RANGE_DB)
            & (loudest > SILENT_DB))


def chroma(magnitudes) -> np.ndarray:
    """The square root of the peaks' energy in each pitch class, C first, of unit length in each
    frame: float32 [frames, 12]; zeros in frames without peaks.
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


@dataclass(frozen=True)
class PianoRoll:
    """The notes of a piece, in the order in which they begin; arrays float32 [notes].

    time, seconds: the beginning and the length of a note. midi: the note number with its fraction
    (69 is A4, 440 Hz). strength: the loudness of the loudest frame, in dB (0 for a full-scale
    sine). A note that is struck again while it sounds counts as one note.

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
    shortest: seconds; 0 keeps each peak. start: seconds, added to all times. columns: the most of
    the spectrum.
    """
    # Half of a sine's amplitude is in its positive frequency.
    gain = (20 * np.log10(2) - 10 * np.log10(LENGTHS)).astype(np.float32)
    frames = 1 + len(audio) * SAMPLE_RATE // (HOP * sample_rate)
    per_column = -(-frames // columns)
    # One column more, because resampling may round the length up.
    spectrum = np.full((frames // per_column + 2, BINS), -np.inf, np.float32)
    tracker, frame = _NoteTracker(), 0
    for block in constant_q(audio, sample_rate):
        decibels = _decibels(block) + gain
        np.maximum.at(spectrum, np.arange(frame, frame + len(decibels)) // per_column, decibels)
        for row, row_decibels in zip(peaks(block), decibels, strict=True):
            tracker.add(frame, np.flatnonzero(row), row_decibels)
            frame += 1
    first, length, midi, strength = tracker.notes(shortest)
    return PianoRoll(first * np.float32(FRAME_SECONDS) + np.float32(start),
                     length * np.float32(FRAME_SECONDS), midi, strength,
                     spectrum[: -(-frame // per_column)].T, start, len(audio) / sample_rate)


def score_roll(time, seconds, midi, start: float, length: float) -> PianoRoll:
    """The roll of a score's notes: all have a strength of 0 dB, and the spectrum is silent."""
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

    def add(self, frame: int, bins, decibels):
        """The peaks of a frame: int [n], of the spectrum `decibels` float [`BINS`]."""
        before = self.sounding
        self.sounding = {k: note for k, note in before.items() if note.last == frame - 1}
        for k in map(int, bins):
            left, top, right = (float(x) for x in decibels[k - 1 : k + 2])
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
