"""The rhythm of a recording: beats by dynamic programming over the onset envelope (Ellis 2007,
"Beat tracking by dynamic programming"), a grid of steps that follows the beats, and attacks.
"""

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
