"""What a player may change while a stream plays: `Stream.set` checks and queues it here, the stream
acts on it between two blocks.

Each change holds from a block that had not begun when it was asked for, so that a performance is
its seed and its list of changes: `replay` plays it again, bit for bit.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError
from .mastering import cross_fade

QUIETEST, LOUDEST = -80.0, 12.0
"""dB that loudness can be set to; 0 leaves the music as it is made."""

RAMP = 1024
"""Samples over which the loudness moves to what it was set to."""

SEAM = 2048
"""Samples over which a held passage joins itself and the music that goes on."""

PASSAGE = 8192
"""Samples over which the music passes to another place."""


@dataclass(frozen=True)
class Change:
    """What one `Stream.set` asks for; None: as it is. See there."""

    sampling: Any = None
    loudness: float | None = None
    seed: int | None = None
    begin: Any = None
    hold: float | None = None


@dataclass
class Made:
    """A block of the chain: audio float32 [batch, block], codes and log-probabilities by level."""

    audio: np.ndarray
    codes: dict[int, np.ndarray]
    log_probs: dict[int, np.ndarray] | None

    def cut(self, samples: int, axis: int) -> Made:
        """The first `samples` of it; frames are counted along `axis`."""
        if samples >= self.audio.shape[1]:
            return self

        def part(values):
            return {level: x[(slice(None),) * axis + (slice(-(-samples // level)),)] for level, x in values.items()}

        return Made(self.audio[:, :samples], part(self.codes),
                    None if self.log_probs is None else part(self.log_probs))

    def join(self, before: np.ndarray, over: int) -> Made:
        """This block, into which `before`, [batch, at least `over`], passes over its first
        samples.
        """
        over = min(over, before.shape[1], self.audio.shape[1])
        audio = self.audio.copy()
        for row, old in zip(audio, before, strict=True):
            row[:over] = cross_fade(old[:over], row[:over])
        return Made(audio, self.codes, self.log_probs)


class Queue:
    """Changes that were asked for and not yet made. Any thread may ask."""

    def __init__(self, block: int):
        self._lock = threading.Lock()
        self._pending: list[Change] = []
        self._block, self.begun = block, 0

    def put(self, change: Change) -> int:
        """The sample that the change holds from: where the next block begins that is not begun."""
        with self._lock:
            if change.hold and not self.begun:
                raise UserError("there is nothing to hold yet: nothing was played")
            self._pending.append(change)
            return self.begun * self._block

    def take(self, begun: int) -> list[Change]:
        """All that is to hold from here on; `begun` blocks are begun now."""
        with self._lock:
            self.begun = begun
            pending, self._pending = self._pending, []
            return pending


class Loudness:
    """A gain that moves in a short ramp, at the beginning of a block."""

    def __init__(self, decibel: float = 0.0):
        self.decibel = self._before = decibel

    def apply(self, audio: np.ndarray) -> np.ndarray:
        """float32 [batch, n] at the loudness that is set."""
        before, now = self._gain(self._before), self._gain(self.decibel)
        self._before = self.decibel
        if before == now == 1.0:
            return audio
        count = min(RAMP, audio.shape[1])
        gain = np.full(audio.shape[1], now, np.float32)
        share = 0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / RAMP)
        gain[:count] = before + (now - before) * share
        return audio * gain

    def state(self) -> list[float]:
        return [self._before, self.decibel]

    def restore(self, state):
        self._before, self.decibel = map(float, state)

    @staticmethod
    def _gain(decibel: float) -> float:
        return 0.0 if decibel <= QUIETEST else 10 ** (decibel / 20)


def check_number(what: str, value, least: float, most: float) -> float:
    """`value` as a float. Raises `UserError` unless it is a number from `least` to `most`."""
    if (isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
            and least <= value <= most):
        return float(value)
    raise UserError(f"{what} is {value!r}; it must be a number from {least:g} to {most:g}")


def replay(stream, changes: Iterable[tuple[int, Mapping]]) -> Iterator[np.ndarray]:
    """The blocks of a stream, changed as a performance was.

    Args:
        stream: a fresh `Stream` of the same weights, seed and options.
        changes: (sample, keywords of `Stream.set`) of each change, in order, as `Stream.set` returned
            the samples.

    Example:
        for block in replay(music.stream(seed=1), [(65536, {"loudness": -6})]):
            speaker.write(block)
    """
    left = sorted(changes, key=lambda change: change[0])
    while True:
        while left and left[0][0] <= stream.position:
            stream.set(**left.pop(0)[1])
        try:
            yield next(stream)
        except StopIteration:
            return
