"""The rhythm of a recording: beats by dynamic programming over the onset envelope (Ellis 2007,
"Beat tracking by dynamic programming") or over the starts of notes, a grid of steps that follows
the beats, and attacks.
"""

import math

import numpy as np

from . import timing

STEPS_PER_BEAT = 4
SLOWEST, FASTEST = 60.0, 120.0
"""Beats per minute. A recording's tempo is doubled or halved until it is in this range, so a grid
has 4 to 8 steps per second.
"""


def find_beats(audio, sample_rate: int) -> np.ndarray:
    """The times of the beats of a recording, float [samples], from before its beginning to after
    its end: float64 [beats], seconds. Without a beat, the times are evenly spaced.
    """
    envelope = timing.onset_envelope(audio, sample_rate)
    rate, seconds = timing.FRAMES_PER_SECOND, len(audio) / sample_rate
    if envelope.max() <= 0:
        return np.arange(-1.0, seconds + 2.0)
    tempo = _tempo(envelope)
    while tempo < SLOWEST:
        tempo *= 2
    while tempo > FASTEST:
        tempo /= 2
    period = 60 / tempo
    frames = _track(envelope, round(60 * rate / tempo))
    beats = frames / rate if len(frames) else np.array([0.0])
    before = beats[0] - period * np.arange(int(beats[0] / period) + 1, 0, -1)
    after = beats[-1] + period * np.arange(1, int((seconds - beats[-1]) / period) + 3)
    return np.concatenate([before, beats, after])


TEMPO_SECONDS = 8.0
"""The window of the autocorrelation of an onset envelope."""
USUAL_TEMPO, FASTEST_PULSE = 90.0, 320.0
"""The mean of the prior of tempi, whose standard deviation is an octave, and the fastest."""


def _tempo(envelope) -> float:
    """The tempo in beats per minute of an onset envelope float [frames]: the lag with the highest
    mean of the normalised autocorrelations of all windows, weighted by a log-normal prior.
    """
    rate = timing.FRAMES_PER_SECOND
    width = int(TEMPO_SECONDS * rate)
    padded = np.pad(envelope, width // 2, "linear_ramp")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)[: len(envelope)]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    total = np.zeros(width)
    for first in range(0, len(windows), 1024):
        spectra = np.fft.rfft(windows[first : first + 1024] * hann, 2 * width)
        products = np.fft.irfft(np.abs(spectra) ** 2, 2 * width)[:, :width]
        total += (products / np.maximum(products[:, :1], 1e-30)).sum(axis=0)
    lags = np.arange(int(60 * rate / FASTEST_PULSE) + 1, width)
    tempi = 60 * rate / lags
    scores = np.log1p(1e6 * total[lags] / len(windows)) - np.log2(tempi / USUAL_TEMPO) ** 2 / 2
    return float(tempi[scores.argmax()])


TIGHTNESS = 100.0
"""The cost of a beat, times the squared logarithm of its length in periods."""


def _track(envelope, period: int) -> np.ndarray:
    """The beats of an onset envelope, float [frames]: int [beats], frames. Dynamic programming over
    the sum of the envelope at the beats, less the costs of their lengths (Ellis 2007).
    """
    bell = np.exp(-0.5 * (np.arange(-period, period + 1) * 32 / period) ** 2)
    gains = np.convolve(envelope / np.std(envelope, ddof=1), bell)[period : len(envelope) + period]
    lengths = np.arange(round(period / 2), 2 * period + 1)
    costs, start = TIGHTNESS * np.log(lengths / period) ** 2, lengths[-1]
    # The best total of the beats that end at a frame, after frames before the music.
    totals = np.append(np.full(start, -np.inf), gains)
    before = np.full(len(gains), -1)
    for first in range(0, len(gains), lengths[0]):  # no beat ends another of its block
        frames = np.arange(first, min(first + lengths[0], len(gains)))
        choices = totals[start + frames[:, None] - lengths] - costs
        best = choices.argmax(axis=1)
        linked = lengths[best] <= frames
        before[frames[linked]] = (frames - lengths[best])[linked]
        totals[start + frames[linked]] += choices.max(axis=1)[linked]
    before[: (gains >= 0.01 * gains.max()).argmax()] = -1
    totals = totals[start:]
    tops = np.flatnonzero((totals[1:] > totals[:-1])
                          & np.append(totals[1:-1] >= totals[2:], True)) + 1
    high = tops[totals[tops] >= np.median(totals[tops]) / 2] if len(tops) else tops
    beats = [high[-1] if len(high) else len(gains) - 1]
    while before[beats[-1]] >= 0:
        beats.append(before[beats[-1]])
    heard = np.flatnonzero(gains > 0)
    return np.array([beat for beat in beats[::-1] if heard[0] <= beat <= heard[-1]])


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
    """Steady beats whose steps fit the starts of notes, float [notes], seconds: float64 [beats],
    seconds, from before 0 to `seconds` or later. A beat lasts 0.5 to 1 s.

    Dynamic programming over the end and the length of each beat, as in bar-pointer models (Krebs,
    Böck & Widmer 2015). `find_beats` would hear onsets in the vibrato and the glides of a voice.
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
    """The attacks in four bands of a sound, float [samples]: (times in seconds, float64 [attacks],
    rising; bands, int [attacks], the lowest is 0). They represent drums, which have no pitch.
    """
    attacks = []
    for band, envelope in enumerate(timing.onset_envelopes(audio, sample_rate, ATTACK_BANDS)):
        peaks = timing.find_peaks(envelope / (envelope.std() + 1e-9), (3, 3), (9, 8), LEAST_ATTACK,
                                  wait=4)
        times = (peaks * timing.HOP - LATE) / timing.SAMPLE_RATE
        attacks += [(max(0.0, time), band) for time in times]
    times, bands = np.array(sorted(attacks), float).reshape(-1, 2).T
    return times, bands.astype(int)


def steps(beats: np.ndarray) -> np.ndarray:
    """The times of a grid of `STEPS_PER_BEAT` even steps a beat, float64 [steps + 1]."""
    places = np.arange((len(beats) - 1) * STEPS_PER_BEAT + 1) / STEPS_PER_BEAT
    return np.interp(places, np.arange(len(beats)), beats)
