"""Statistics of the notes in a sound, in which real and other music are compared."""

from collections.abc import Sequence

import numpy as np

from vqwave.dsp.notes import (
    BINS,
    BINS_A_SEMITONE,
    FRAME_SECONDS,
    KEY_PROFILES,
    chroma,
    constant_q,
    peaks,
)

STATISTICS = ("durations", "intervals", "harmony", "key")
"""The histograms of a `portrait`."""
SHORTEST_NOTE_FRAMES = 4  # 93 ms, in durations and in the strongest line
KEY_SECONDS = 10.0  # seconds of music in which a key is measured
SECOND = round(1 / FRAME_SECONDS)  # frames


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
