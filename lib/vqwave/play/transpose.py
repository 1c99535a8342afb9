"""Transposition of sound while it plays, without a change of tempo.

Waveform-similarity overlap-add (Verhelst and Roelands 1993) on a delay line. Grains of past sound
are read faster or slower. Each grain begins where the wave best continues the grain before.
The latency is at most 0.1 s.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from .mastering import cross_fade

GRAIN = 0.0464
"""Approximate seconds of a grain; a block holds a whole number of grains."""
OVERLAP = 0.0116
"""Seconds of the cross-fade between grains."""
SEARCH = 0.0136
"""The search range for the next grain, in seconds on either side: half a period of 37 Hz."""
_TAPS = 16  # taps of the interpolation filter on either side


@dataclass
class Transposer:
    """Transposes pieces by `semitones`; 0 leaves the sound as it is, bit for bit.

    grain, overlap, search: see `GRAIN`, `OVERLAP` and `SEARCH`, in samples. past: float32 [batch,
    4 · grain], the last samples. behind: float64 [batch], the delay at which the last grain would
    continue, in samples. rate: of the last grain.
    """

    grain: int
    overlap: int
    search: int
    past: np.ndarray
    behind: np.ndarray
    semitones: float = 0.0
    rate: float = 1.0

    @classmethod
    def start(cls, sample_rate: int, batch: int) -> Self:
        """The state before the first block."""
        grain, overlap, search = (max(1, round(seconds * sample_rate))
                                  for seconds in (GRAIN, OVERLAP, SEARCH))
        return cls(grain, overlap, search, np.zeros((batch, 4 * grain), np.float32),
                   np.zeros(batch))

    def apply(self, audio: np.ndarray) -> np.ndarray:
        """The next block, float32 [batch, n] -> [batch, n]."""
        rate, count = 2 ** (self.semitones / 12), audio.shape[1]
        sound = np.concatenate([self.past, audio], axis=1)
        if not rate == self.rate == 1.0:
            audio = audio.copy()
            edges = np.linspace(0, count, max(1, round(count / self.grain)) + 1).astype(int)
            for begin, end in zip(edges[:-1], edges[1:], strict=True):
                if rate == self.rate == 1.0:
                    break  # the rest is the sound itself
                for row in range(len(audio)):
                    self._write_grain(row, sound[row], audio[row], begin, end, rate)
                self.rate = rate
        self.past = sound[:, count:]
        return audio

    def _back(self, rate: float) -> float:
        """The delay, in samples, with which a grain of this rate never reads future samples."""
        return self.search + _TAPS + 1 + max(0.0, rate - 1) * 1.5 * self.grain

    def _write_grain(self, row: int, sound, out, begin: int, end: int, rate: float):
        """Write a grain of a piece to samples `begin` … `end` − 1 of the block `out`."""
        start = self.past.shape[1] + begin
        over = min(self.overlap, end - begin)
        before = read(sound, start - self.behind[row] + self.rate * np.arange(over), self.rate)
        if rate == 1:
            behind = 0.0
        else:
            behind = self._back(rate) - self._best(sound, before, start - self._back(rate), rate)
        out[begin:end] = read(sound, start - behind + rate * np.arange(end - begin), rate)
        out[begin : begin + over] = cross_fade(before, out[begin : begin + over])
        self.behind[row] = behind - (rate - 1) * (end - begin)

    def _best(self, sound, before, place: float, rate: float) -> int:
        """The shift from `place`, in samples, at which a grain best continues `before`."""
        steps = np.floor(rate * np.arange(len(before))).astype(int)
        shifts = np.arange(-self.search, self.search + 1)
        parts = sound[int(place) + shifts[:, None] + steps]
        match = parts @ before / np.sqrt((parts**2).sum(axis=1) + 1e-9)
        return int(shifts[np.argmax(match)])


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
