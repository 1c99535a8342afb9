"""Blocks of sound: how a block passes into the next one, and the loudness that is set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .controls import QUIETEST
from .mastering import cross_fade

RAMP = 0.04644
"""Seconds over which the loudness moves to what it was set to."""

SEAM = 0.0929
"""Seconds over which a held passage joins itself and the music that goes on."""

PASSAGE = 0.3715
"""Seconds over which the music passes to another place, a block at most."""


@dataclass
class Block:
    """A block of the chain: audio float32 [batch, block], codes and log-probabilities by level."""

    audio: np.ndarray
    codes: dict[int, np.ndarray]
    log_probs: dict[int, np.ndarray] | None

    def cut(self, samples: int, axis: int) -> Block:
        """The first `samples` of it; frames are counted along `axis`."""
        if samples >= self.audio.shape[1]:
            return self

        def part(values):
            return {level: x[(slice(None),) * axis + (slice(-(-samples // level)),)]
                    for level, x in values.items()}

        return Block(self.audio[:, :samples], part(self.codes),
                    None if self.log_probs is None else part(self.log_probs))

    def join(self, before: np.ndarray, over: int) -> Block:
        """This block, into which `before`, [batch, at least `over`], passes over its first
        samples.
        """
        over = min(over, before.shape[1], self.audio.shape[1])
        audio = self.audio.copy()
        for row, old in zip(audio, before, strict=True):
            row[:over] = cross_fade(old[:over], row[:over])
        return Block(audio, self.codes, self.log_probs)


@dataclass
class Gain:
    """A gain that moves in a short ramp at the beginning of a block: its dB before and now."""

    before: float = 0.0
    decibel: float = 0.0

    def apply(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [batch, n] at the loudness that is set."""
        before, now = _factor(self.before), _factor(self.decibel)
        self.before = self.decibel
        if before == now == 1.0:
            return audio
        ramp = round(RAMP * sample_rate)
        count = min(ramp, audio.shape[1])
        gain = np.full(audio.shape[1], now, np.float32)
        share = 0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / ramp)
        gain[:count] = before + (now - before) * share
        return audio * gain


def _factor(decibel: float) -> float:
    return 0.0 if decibel <= QUIETEST else 10 ** (decibel / 20)
