"""Blocks of sound: how a block passes into the next one, and the loudness that is set."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .controls import QUIETEST
from .mastering import cross_fade

RAMP = 0.04644
"""Seconds over which the loudness moves to what it was set to."""
SEAM = 0.0929
"""Seconds over which a held passage joins itself and the music that goes on."""
PASSAGE = 0.3715
"""Seconds over which the music passes to another place, a block at most."""


def fade_in(audio: np.ndarray, before: np.ndarray):
    """Let `before`, float32 [batch, n], pass into the first n samples of `audio`, in its place."""
    for row, old in zip(audio, before, strict=True):
        count = min(len(row), len(old))
        row[:count] = cross_fade(old[:count], row[:count])


@dataclass
class Block:
    """A block: audio float32 [batch, block]; codes, log-probabilities [batch, n, books]."""

    audio: np.ndarray
    codes: dict[int, np.ndarray]
    log_probs: dict[int, np.ndarray] | None

    def cut(self, samples: int) -> "Block":
        """The first `samples` of the block."""
        def part(values):
            return values and {level: x[:, : -(-samples // level)] for level, x in values.items()}

        return Block(self.audio[:, :samples], part(self.codes), part(self.log_probs))

    def join(self, before: np.ndarray) -> "Block":
        """This block, into which `before`, float32 [batch, n], passes."""
        audio = self.audio.copy()
        fade_in(audio, before)
        return Block(audio, self.codes, self.log_probs)


@dataclass
class Gain:
    """A gain in dB, before and now; it moves in a short ramp at the beginning of a block."""

    before: float = 0.0
    decibel: float = 0.0

    def apply(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """float32 [batch, n] at the loudness that is set."""
        before, now = (0.0 if decibel <= QUIETEST else 10 ** (decibel / 20)
                       for decibel in (self.before, self.decibel))
        self.before = self.decibel
        if before == now == 1.0:
            return audio
        ramp = round(RAMP * sample_rate)
        share = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
        gain = np.full(max(ramp, audio.shape[1]), now, np.float32)
        gain[:ramp] = before + (now - before) * share
        return audio * gain[: audio.shape[1]]


LEVELED_TO = -20.0
"""dBFS that pieces are leveled towards."""
LEVELED = 0.8
"""The share of a piece's distance from `LEVELED_TO` that leveling takes away."""
MOST_LEVELED = 10.0
"""dB by which leveling raises or lowers a piece, at most."""
REMEMBERED, PRIOR = 8.0, 3.0
"""Seconds after which music counts 1/e in a piece's loudness, and seconds at `LEVELED_TO` that
count as if they had come before.
"""
LEAST = -45.0
"""dBFS; quieter blocks do not count in a piece's loudness."""
PEAK = 0.97
"""The peak that leveling raises a block to, at most."""


@dataclass
class Leveler:
    """A slow gain for each piece, which moves towards `LEVELED_TO` and is linear within a block.

    power, seconds: float64 [batch], the weighted sum of mean squares, and of their durations.
    gain: float32 [batch], the factor at the end of the last block.
    """

    power: np.ndarray
    seconds: np.ndarray
    gain: np.ndarray

    @classmethod
    def start(cls, batch: int) -> "Leveler":
        """Before the first block."""
        return cls(np.full(batch, PRIOR * 10 ** (LEVELED_TO / 10)), np.full(batch, PRIOR),
                   np.ones(batch, np.float32))

    def apply(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """The next whole block, float32 [batch, block], leveled."""
        duration = audio.shape[1] / sample_rate
        power = np.square(audio, dtype=np.float64).mean(axis=1)
        sounds, kept = power > 10 ** (LEAST / 10), np.exp(-duration / REMEMBERED)
        self.power = np.where(sounds, kept * self.power + duration * power, self.power)
        self.seconds = np.where(sounds, kept * self.seconds + duration, self.seconds)
        loudness = 10 * np.log10(self.power / self.seconds)
        decibels = np.clip(LEVELED * (LEVELED_TO - loudness), -MOST_LEVELED, MOST_LEVELED)
        before, peaks = self.gain, np.abs(audio).max(axis=1, initial=1e-9)
        self.gain = np.minimum(10 ** (decibels / 20), PEAK / peaks).astype(np.float32)
        rise = np.arange(1, audio.shape[1] + 1, dtype=np.float32) / audio.shape[1]
        return audio * (before[:, None] + (self.gain - before)[:, None] * rise)


@dataclass
class Playback:
    """What happens to the chain's blocks on their way out.

    blocks: how many were handed out. held: how many of the last blocks, `past`, are repeated;
    place: which of them comes next. following: the chain's next block, which a hold ends with.
    passing: float32 [batch, n], the sound that passes into the next block. leveler: None where
    pieces keep their own loudness.
    """

    blocks: int = 0
    held: int = 0
    place: int = 0
    following: Block | None = None
    passing: np.ndarray | None = None
    past: deque[Block] = field(default_factory=deque)
    gain: Gain = field(default_factory=Gain)
    leveler: Leveler | None = None

    def hold(self, blocks: int, seam: int, make: Callable[[], Block]):
        """Repeat the last blocks; 0: go on. seam: samples over which a hold passes on."""
        if self.held:
            self._pass_on(seam)
        elif blocks and self.following is None:
            self.following = make()
        self.held, self.place = min(blocks, len(self.past)), 0

    def jump(self, samples: int, make: Callable[[], Block]):
        """The block that would come next passes into another piece, over so many samples."""
        if self.blocks:
            self._pass_on(samples, make)
        self.held, self.following = 0, None

    def _pass_on(self, samples: int, make: Callable[[], Block] | None = None):
        """Where a hold ends half way, its next block passes into what follows; elsewhere the block
        of the chain does, if there is `make`.
        """
        if self.passing is not None:
            return
        if self.held and self.place:
            self.passing = self.past[self.place - self.held].audio[:, :samples]
        elif make is not None:
            self.passing = (self.following or make()).audio[:, :samples]

    def next_block(self, seam: int, whole: bool, make: Callable[[], Block]) -> Block:
        """The block that comes next; whole: all of it is handed out."""
        held = bool(self.held)
        if held:
            block, first = self.past[self.place - self.held], self.place == 0
            if first and self.passing is None:
                block = block.join(self.following.audio[:, :seam])
            self.place = (self.place + 1) % self.held
        elif self.following is not None:
            block, self.following = self.following, None
        else:
            block = make()
        if self.passing is not None:
            block, self.passing = block.join(self.passing), None
        if not held and whole:  # nothing comes after a shorter one
            self.past.append(block)
        return block
