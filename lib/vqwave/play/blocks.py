"""Blocks of sound: how a block passes into the next one, and the loudness that is set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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


@dataclass
class Passing:
    """Sound that passes into the next block: float32 [batch, n], over so many samples."""

    audio: np.ndarray
    samples: int


@dataclass
class Playback:
    """What happens to the chain's blocks on their way out.

    Attributes:
        blocks: how many were handed out.
        held: how many of the last blocks are repeated; place: which of them comes next.
        following: the chain's next block, which a hold ends with.
        passing: what passes into the next block.
        past: the last blocks, to repeat them.
    """

    blocks: int = 0
    held: int = 0
    place: int = 0
    following: Block | None = None
    passing: Passing | None = None
    past: deque[Block] = field(default_factory=deque)
    gain: Gain = field(default_factory=Gain)

    def hold(self, blocks: int, seam: int, make: Callable[[], Block]):
        """Repeat the last blocks; 0: go on. seam: samples over which a hold passes on."""
        if self.held:
            self.pass_over(seam)
        elif blocks and self.following is None:
            self.following = make()
        self.held, self.place = min(blocks, len(self.past)), 0

    def pass_over(self, samples: int, make: Callable[[], Block] | None = None):
        """Let the block that would come next pass into the next one; make: that of the chain, where
        it is left.
        """
        if self.passing is not None:
            return
        if self.held and self.place:
            self.passing = Passing(self.past[self.place - self.held].audio, samples)
        elif make is not None:
            self.passing = Passing((self.following or make()).audio, samples)

    def next_block(self, seam: int, whole: bool, make: Callable[[], Block]) -> Block:
        """The block that comes next; whole: all of it is handed out."""
        held = bool(self.held)
        if held:
            block, first = self.past[self.place - self.held], self.place == 0
            if first and self.passing is None:
                block = block.join(self.following.audio, seam)
            self.place = (self.place + 1) % self.held
        elif self.following is not None:
            block, self.following = self.following, None
        else:
            block = make()
        if self.passing is not None:
            block = block.join(self.passing.audio, self.passing.samples)
            self.passing = None
        if not held and whole:  # nothing comes after a shorter one
            self.past.append(block)
        return block


class BlockIterator:
    """An iterator of blocks that `codec` decodes, until `close` ends it."""

    codec: Any

    def __iter__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.codec.config.sample_rate

    @property
    def level(self) -> int:
        """Samples per code of the level that is decoded."""
        return self.codec.config.level
