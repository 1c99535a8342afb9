"""Transposition of sound while it plays, without a change of tempo.

Waveform-similarity overlap-add (Verhelst and Roelands 1993) on a delay line. Grains of past sound
are read faster or slower. Each grain begins where the wave best continues the grain before.
The latency is at most 0.1 s.
"""

import numpy as np

from .mastering import cross_fade

GRAIN = 0.0464
"""Approximate seconds of a grain; a block holds a whole number of grains."""
OVERLAP = 0.0116
"""Seconds of the cross-fade between grains."""
SEARCH = 0.0136
"""The search range for the next grain, in seconds on either side: half a period of 37 Hz."""
_TAPS = 16  # taps of the interpolation filter on either side


class Transposer:
    """Transposes `batch` pieces by `semitones`; 0 leaves the sound as it is, bit for bit."""

    def __init__(self, sample_rate: int, batch: int):
        self.semitones = 0.0
        self._grain, self._overlap, self._search = (
            max(1, round(seconds * sample_rate)) for seconds in (GRAIN, OVERLAP, SEARCH))
        self._past = np.zeros((batch, 4 * self._grain), np.float32)
        # The delay at which the last grain would continue, in samples, and its rate.
        self._behind, self._rate = np.zeros(batch), 1.0

    def apply(self, audio: np.ndarray) -> np.ndarray:
        """The next block, float32 [batch, n] -> [batch, n]."""
        rate, count = 2 ** (self.semitones / 12), audio.shape[1]
        sound = np.concatenate([self._past, audio], axis=1)
        if not rate == self._rate == 1.0:
            audio = audio.copy()
            edges = np.linspace(0, count, max(1, round(count / self._grain)) + 1).astype(int)
            for begin, end in zip(edges[:-1], edges[1:], strict=True):
                if rate == self._rate == 1.0:
                    break  # the rest is the sound itself
                for row in range(len(audio)):
                    self._write_grain(row, sound[row], audio[row], begin, end, rate)
                self._rate = rate
        self._past = sound[:, count:]
        return audio

    def _back(self, rate: float) -> float:
        """The delay, in samples, with which a grain of this rate never reads future samples."""
        return self._search + _TAPS + 1 + max(0.0, rate - 1) * 1.5 * self._grain

    def _write_grain(self, row: int, sound, out, begin: int, end: int, rate: float):
        """Write a grain of a piece to samples `begin` … `end` − 1 of the block `out`."""
        start = self._past.shape[1] + begin
        over = min(self._overlap, end - begin)
        before = read(sound, start - self._behind[row] + self._rate * np.arange(over), self._rate)
        if rate == 1:
            behind = 0.0
        else:
            behind = self._back(rate) - self._best(sound, before, start - self._back(rate), rate)
        out[begin:end] = read(sound, start - behind + rate * np.arange(end - begin), rate)
        out[begin : begin + over] = cross_fade(before, out[begin : begin + over])
        self._behind[row] = behind - (rate - 1) * (end - begin)

    def _best(self, sound, before, place: float, rate: float) -> int:
        """The shift from `place`, in samples, at which a grain best continues `before`."""
        steps = np.floor(rate * np.arange(len(before))).astype(int)
        shifts = np.arange(-self._search, self._search + 1)
        parts = sound[int(place) + shifts[:, None] + steps]
        match = parts @ before / np.sqrt((parts**2).sum(axis=1) + 1e-9)
        return int(shifts[np.argmax(match)])

    def state(self) -> dict[str, np.ndarray]:
        return {"transpose": np.array([self.semitones, self._rate]),
                "transpose_past": self._past.copy(), "transpose_behind": self._behind.copy()}

    def restore(self, state):
        self.semitones, self._rate = map(float, state["transpose"])
        self._past = np.array(state["transpose_past"], np.float32)
        self._behind = np.array(state["transpose_behind"], np.float64)


def read(sound: np.ndarray, at: np.ndarray, rate: float = 1.0) -> np.ndarray:
    """Interpolate a wave float32 [n], zero outside, at the positions `at` [m] -> float32 [m].

    rate: the distance of the positions. Above 1, a low-pass removes frequencies above half the new
    sample rate.
    """
    if rate == 1 and (at == np.floor(at)).all() and at[0] >= 0 and at[-1] < len(sound):
        return sound[at.astype(int)]
    cut = min(1.0, 1 / rate)
    near = np.floor(at).astype(int)[:, None] + np.arange(1 - _TAPS, _TAPS + 1)
    away = near - at[:, None]
    weights = cut * np.sinc(cut * away) * (0.5 + 0.5 * np.cos(np.pi * away / _TAPS))
    values = np.where((near >= 0) & (near < len(sound)), sound[near.clip(0, len(sound) - 1)], 0.0)
    return (values * weights).sum(axis=1).astype(np.float32)
