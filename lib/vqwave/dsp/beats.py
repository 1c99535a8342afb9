"""The rhythm of a recording: beats by dynamic programming over the onset envelope (Ellis 2007,
"Beat tracking by dynamic programming") or over the starts of notes, a grid of steps that follows
the beats, and attacks.
"""

import math

import numpy as np

from . import timing
from .spectrum import resample

STEPS_PER_BEAT = 4
SLOWEST, FASTEST = 60.0, 120.0
"""Beats per minute. A recording's tempo is doubled or halved until it is in this range, so a grid
has 4 to 8 steps per second.
"""


def find_beats(audio, sample_rate: int) -> np.ndarray:
    """The times of a recording's beats in seconds, float64 [beats], from before its beginning to
    after its end. Without a beat, the times are evenly spaced.

    audio: float [samples].
    """
    import librosa

    envelope = timing.onset_envelope(audio, sample_rate)
    rate, seconds = timing.FRAMES_PER_SECOND, len(audio) / sample_rate
    if envelope.max() <= 0:
        return np.arange(-1.0, seconds + 2.0)
    tempo = float(librosa.feature.tempo(onset_envelope=envelope, sr=timing.SAMPLE_RATE,
                                        hop_length=timing.HOP, start_bpm=90)[0])
    while tempo < SLOWEST:
        tempo *= 2
    while tempo > FASTEST:
        tempo /= 2
    period = 60 / tempo
    _, frames = librosa.beat.beat_track(onset_envelope=envelope, sr=timing.SAMPLE_RATE,
                                        hop_length=timing.HOP, bpm=tempo, trim=False)
    beats = frames / rate if len(frames) else np.array([0.0])
    before = beats[0] - period * np.arange(int(beats[0] / period) + 1, 0, -1)
    after = beats[-1] + period * np.arange(1, int((seconds - beats[-1]) / period) + 3)
    return np.concatenate([before, beats, after])


FRAMES = 100
"""Frames per second in `fit_beats`."""
STEP_WEIGHTS = 1.0, 0.6, 0.8, 0.6
"""The gain of a note that starts exactly on each step of a beat."""
NEAR = 4.0
"""The standard deviation of a note's distance from its step, in frames."""
MOST_STARTS = 2
"""The most notes of a frame that count; a chord may have more."""
STIFFNESS = 100.0
"""The cost of a change of the beat's length, times the square of the change in octaves."""


def fit_beats(starts, seconds: float) -> np.ndarray:
    """Steady beats whose steps fit the starts of notes: times in seconds, float64 [beats], from
    before 0 to `seconds` or later. A beat lasts 0.5 to 1 s.

    Dynamic programming over the end and the length of each beat, as in bar-pointer models (Krebs,
    Böck & Widmer 2015). `find_beats` sees the onset envelope, in which the vibrato and the glides
    of a voice have onsets, too. It gives only beats a strength, not the steps between them.

    starts: float [notes], seconds.
    """
    lengths = np.arange(round(60 / FASTEST * FRAMES), round(60 / SLOWEST * FRAMES) + 1)
    frames = math.ceil(seconds * FRAMES) + 2 * FRAMES  # a second before the music and one after it
    notes = np.minimum(np.bincount(np.rint(starts * FRAMES).astype(int) + FRAMES,
                                   minlength=frames), MOST_STARTS)
    gains = np.stack([np.convolve(notes, _gains(length))[:frames] for length in lengths], axis=1)
    costs = STIFFNESS * np.log2(lengths[:, None] / lengths) ** 2
    places = np.arange(len(lengths))
    # The best total of the beats that end at a frame, by the length of the next beat.
    totals, before = np.zeros(gains.shape), np.zeros(gains.shape, np.uint8)
    for frame in range(frames):
        if frame >= lengths[-1]:
            gains[frame] += totals[frame - lengths, places]
        by_length = gains[frame][:, None] - costs
        before[frame] = by_length.argmax(0)
        totals[frame] = by_length[before[frame], places]
    last = frames - FRAMES + gains[frames - FRAMES :].max(1).argmax()
    beats, place = [last], gains[last].argmax()
    while beats[-1] >= lengths[-1]:
        beats.append(beats[-1] - lengths[place])
        place = before[beats[-1], place]
    return np.array(beats[::-1]) / FRAMES - 1


def _gains(length: int) -> np.ndarray:
    """The gain of a note by its distance from the end of a beat: float64 [length], in frames."""
    steps = length * np.arange(STEPS_PER_BEAT + 1) / STEPS_PER_BEAT
    distances = (np.arange(length)[:, None] - steps) / NEAR
    weights = np.append(STEP_WEIGHTS[:1], STEP_WEIGHTS[::-1])
    return (weights * np.exp(-(distances**2) / 2)).max(1)


ATTACK_BANDS = 0, 24, 56, 88, 128
"""The edges of the four bands of attacks, in mel bands of 128: from kicks to cymbals."""
LEAST_ATTACK = 1.0
"""The least height of an attack above the envelope around it, in standard deviations."""
LATE = 512
"""The delay of attacks in the envelope, in samples at 22,050 Hz."""


def find_attacks(audio, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The attacks in four bands: (times in seconds, float64 [attacks], rising; bands, int
    [attacks], the lowest is 0). They represent drums, which have no pitch.

    audio: float [samples].
    """
    import librosa

    audio = resample(audio, sample_rate, timing.SAMPLE_RATE)
    envelopes = librosa.onset.onset_strength_multi(
        y=np.pad(audio, (0, max(0, 2048 - len(audio)))), sr=timing.SAMPLE_RATE,
        hop_length=timing.HOP, channels=list(ATTACK_BANDS))
    attacks = []
    for band, envelope in enumerate(envelopes):
        peaks = librosa.util.peak_pick(envelope / (envelope.std() + 1e-9), pre_max=3, post_max=4,
                                       pre_avg=9, post_avg=9, delta=LEAST_ATTACK, wait=4)
        times = (peaks * timing.HOP - LATE) / timing.SAMPLE_RATE
        attacks += [(max(0.0, time), band) for time in times]
    times, bands = np.array(sorted(attacks), float).reshape(-1, 2).T
    return times, bands.astype(int)


def steps(beats: np.ndarray) -> np.ndarray:
    """The times of a grid of `STEPS_PER_BEAT` even steps a beat, float64 [steps + 1]."""
    places = np.arange((len(beats) - 1) * STEPS_PER_BEAT + 1) / STEPS_PER_BEAT
    return np.interp(places, np.arange(len(beats)), beats)
