"""Note events by basic-pitch (Bittner et al. 2022), which was not used to train any codec here. Its
network `basic_pitch.onnx` comes from Spotify's package basic-pitch 0.4.0 (Apache-2.0).

`notes` compares spectral peaks frame by frame; note events also tell when a note is struck again.
`compare` is deaf to loudness and timbre, and to notes shorter than 0.13 s.
"""

import functools
import hashlib
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from . import timing
from .spectrum import resample
from .timing import HOP, SAMPLE_RATE

NETWORK = Path(__file__).with_name("basic_pitch.onnx")
SHA256 = "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"
PITCHES, LOWEST_MIDI = 88, 21
_WINDOW = 2 * SAMPLE_RATE - HOP  # samples of the network's window
_FRAMES = 172  # frames of the network's window
_EDGE = 15  # frames dropped at each end of the window
LEAST_ONSET = 0.5  # the least probability of a note's onset
LEAST_SOUNDING = 0.3  # the least probability of the frames in which a note sounds
LEAST_FRAMES = 11  # the shortest note, in frames: 128 ms
MOST_GAP = 11  # the longest gap inside a note, in frames
LOUDNESSES = 4  # the number of classes of loudness
LOUDNESS_STEP = 5.0  # the width of a class, in dB
LOUDEST = 0.9  # the share of notes of a recording that are softer than its loudness
_QUARTER_TONE = 2 ** (1 / 24)
_SPECTRUM, _AFTER = 4096, (2, 6, 10)  # a note's spectra: samples, and frames after its start
TOLERANCE_FRAMES = 5  # the largest distance of matching onsets, in frames: 58 ms


class Notes(NamedTuple):
    """Note events, in order of their starts: starts, ends: int [notes], frames of 256 samples at
    22,050 Hz; pitches: int [notes], MIDI numbers.
    """

    starts: np.ndarray
    ends: np.ndarray
    pitches: np.ndarray


def find_notes(audio, sample_rate: int) -> Notes:
    """The notes of a recording, float [samples]."""
    sounding, onsets = _probabilities(audio, sample_rate)
    # A rising probability also marks notes that begin without an onset.
    rises = np.minimum(*(sounding - np.pad(sounding, ((lag, 0), (0, 0)))[:-lag] for lag in (1, 2)))
    rises = np.maximum(rises, 0)
    rises[:2] = 0
    onsets = np.maximum(onsets, rises * onsets.max() / max(rises.max(), 1e-9))
    padded = np.pad(onsets, ((1, 1), (0, 0)))
    peaks = (onsets >= LEAST_ONSET) & (onsets > padded[:-2]) & (onsets >= padded[2:])
    notes = sorted((start, end, pitch + LOWEST_MIDI)
                   for pitch in range(PITCHES)
                   for start, end in _long_enough(np.flatnonzero(peaks[:, pitch]),
                                                  sounding[:, pitch] >= LEAST_SOUNDING))
    return Notes(*np.array(notes, int).reshape(-1, 3).T)


def loudness_of(audio, sample_rate: int, notes: Notes) -> np.ndarray:
    """The class of each note's loudness: int [notes], from 0 for the softest to `LOUDNESSES` - 1. A
    class has `LOUDNESS_STEP` dB, and the loudest begins a step below the loudness of the recording.
    A note's loudness is the largest magnitude near its first two harmonics after its start.
    """
    audio = resample(audio, sample_rate, SAMPLE_RATE)
    audio = np.pad(audio, (_SPECTRUM // 2, _SPECTRUM // 2 + HOP * (1 + max(_AFTER))))
    decibels = np.zeros(len(notes.starts))
    for i, (start, pitch) in enumerate(zip(notes.starts, notes.pitches, strict=True)):
        windows = np.stack([audio[HOP * (start + frames) :][:_SPECTRUM] for frames in _AFTER])
        magnitudes = np.abs(np.fft.rfft(windows * np.hanning(_SPECTRUM))).max(0)
        first = 440 * 2 ** ((pitch - 69) / 12) * _SPECTRUM / SAMPLE_RATE
        near = [magnitudes[int(h * first / _QUARTER_TONE) : int(h * first * _QUARTER_TONE) + 2]
                for h in (1, 2)]
        decibels[i] = 20 * np.log10(max(x.max(initial=1e-9) for x in near))
    return classes_of(decibels, np.quantile(decibels, LOUDEST) if len(decibels) else 0.0)


def classes_of(decibels: np.ndarray, loudest: float) -> np.ndarray:
    """The classes of decibels; see `loudness_of`. loudest: the loudness of the music, in dB."""
    steps = np.floor((decibels - loudest) / LOUDNESS_STEP).astype(int)
    return np.clip(LOUDNESSES + steps, 0, LOUDNESSES - 1)


def compare(original, copy, sample_rate: int) -> float:
    """Note events kept: F1 of pitch and onset, see `TOLERANCE_FRAMES`; higher is better."""
    ours, theirs = (find_notes(audio, sample_rate) for audio in (original, copy))
    return f1(ours, theirs)


def f1(notes: Notes, others: Notes) -> float:
    """F1 of pitch and onset of two lists of notes, see `TOLERANCE_FRAMES`."""
    matches = sum(timing.count_matches(notes.starts[notes.pitches == pitch],
                                       others.starts[others.pitches == pitch], TOLERANCE_FRAMES)
                  for pitch in np.unique(notes.pitches))
    return timing.f1(matches, len(notes.starts), len(others.starts))


def _long_enough(starts, sounds) -> list[tuple[int, int]]:
    """(first frame, end) of a pitch's notes that are long enough. sounds: bool [frames]."""
    kept = []
    for start, following in pairwise([*starts, len(sounds)]):
        silent = ~sounds[start + 1 : following]
        gaps = [first for first in range(len(silent) - MOST_GAP + 1)
                if silent[first : first + MOST_GAP].all()]
        frames = 1 + (gaps[0] if gaps else len(silent))
        if frames >= LEAST_FRAMES:
            kept.append((int(start), int(start) + frames))
    return kept


def _probabilities(audio, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities that a semitone sounds and that a note begins: float32 [frames, 88]."""
    audio = resample(audio, sample_rate, SAMPLE_RATE)
    frames, step = 1 + len(audio) // HOP, _FRAMES - 2 * _EDGE
    windows = -(-frames // step)
    padded = np.pad(audio, (_EDGE * HOP, windows * step * HOP + _WINDOW - len(audio)))
    session, sides = _session(), []
    names = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]
    for first in range(windows):
        window = padded[first * step * HOP :][:_WINDOW]
        outputs = session.run(names, {session.get_inputs()[0].name: window[None, :, None]})
        sides.append([output[0, _EDGE:-_EDGE] for output in outputs])
    sounding, onsets = (np.concatenate(side)[:frames] for side in zip(*sides, strict=True))
    return sounding, onsets


@functools.cache
def _session():
    import onnxruntime

    network = NETWORK.read_bytes()
    if hashlib.sha256(network).hexdigest() != SHA256:
        raise UserError(f"{NETWORK}: is damaged; install VQWave again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
