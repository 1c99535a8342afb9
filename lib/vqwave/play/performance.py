"""What a player changes while a stream plays, and the record of the changes: a performance.

A change holds from a block that had not begun when `Stream.set` was called. A seed and a list of
changes are therefore a performance, and `replay` plays the same music again, bit for bit.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from ..config import Config, validate
from ..errors import UserError
from ..io.files import atomic_write, printable, reason
from .controls import NAMES, QUIETEST
from .mastering import cross_fade

RAMP = 0.04644
"""Seconds over which the loudness moves to what it was set to."""

SEAM = 0.0929
"""Seconds over which a held passage joins itself and the music that goes on."""

PASSAGE = 0.3715
"""Seconds over which the music passes to another place, a block at most."""


@dataclass(frozen=True)
class Change:
    """What one `Stream.set` asks for; None: as it is. See there."""

    sampling: Any = None
    loudness: float | None = None
    transpose: float | None = None
    freeze: Mapping[int, float] | None = None
    mutate: float | None = None
    notes: tuple[int, ...] | None = None
    pitches: Mapping[int, np.ndarray] | None = None
    """By level what each code sounds, see `pitches.of_codec`."""
    pull: float | None = None
    stay: float | None = None
    label: np.ndarray | None = None
    """The shares of labels, see `labels.read_labels`."""
    jump: int | None = None
    begin: Any = None
    engines: Any = None
    """What a jump goes on with, an `Engines`."""
    hold: float | None = None


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


class Gain:
    """A gain that moves in a short ramp, at the beginning of a block."""

    def __init__(self, sample_rate: int):
        self.decibel = self._before = 0.0
        self._ramp = round(RAMP * sample_rate)

    def apply(self, audio: np.ndarray) -> np.ndarray:
        """float32 [batch, n] at the loudness that is set."""
        before, now = self._gain(self._before), self._gain(self.decibel)
        self._before = self.decibel
        if before == now == 1.0:
            return audio
        count = min(self._ramp, audio.shape[1])
        gain = np.full(audio.shape[1], now, np.float32)
        share = 0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / self._ramp)
        gain[:count] = before + (now - before) * share
        return audio * gain

    def state(self) -> list[float]:
        return [self._before, self.decibel]

    def restore(self, state):
        self._before, self.decibel = map(float, state)

    @staticmethod
    def _gain(decibel: float) -> float:
        return 0.0 if decibel <= QUIETEST else 10 ** (decibel / 20)


def replay(stream, changes: Iterable[tuple[int, Mapping]]) -> Iterator[np.ndarray]:
    """The blocks of a stream, changed as a performance was.

    Args:
        stream: a fresh `Stream` of the same weights, seed and options.
        changes: (sample, keywords of `Stream.set`) of each change, in order, as `Stream.set`
            returned the samples.

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


def _check_keywords(change: dict) -> dict:
    """The keywords of one change, with levels as numbers: JSON has no keys but text."""
    for name in change:
        if name not in NAMES:
            raise ValueError(f"no control is called {name!r}; there are {', '.join(NAMES)}")
    checked = dict(change)
    for name in ("sampling", "freeze"):
        if isinstance(by_level := checked.get(name), Mapping):
            try:
                checked[name] = {int(level): value for level, value in by_level.items()}
            except (TypeError, ValueError):
                raise ValueError(f"{name} must name levels by their numbers") from None
    return checked


Sample = Annotated[int, Field(strict=True, ge=0)]
Keywords = Annotated[dict[str, Any], AfterValidator(_check_keywords)]


class Performance(Config):
    """A seed, and the changes in order: (sample, keywords of `Stream.set`).

    The stream checks the values of the keywords.
    """

    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)]
    changes: tuple[tuple[Sample, Keywords], ...]

    @classmethod
    def read(cls, path) -> Performance:
        """The performance in a JSON file, {"seed": …, "changes": [[sample, {control: value}], …]}.

        Raises `UserError`, one line that names the file.
        """
        name = printable(path)
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as e:
            raise UserError(f"{name}: cannot be read: {reason(e)}") from e
        except (ValueError, RecursionError) as e:
            raise UserError(f"{name}: not valid JSON: {e}") from e
        return validate(cls, content, name)

    def write(self, path):
        """The file that `read` reads. Raises `UserError` where it cannot be written."""
        # `replay` makes all changes between two blocks in the order of their samples.
        changes = sorted(self.changes, key=lambda change: change[0])
        try:
            with atomic_write(path) as file:
                file.write(json.dumps({"seed": self.seed, "changes": changes}).encode() + b"\n")
        except OSError as e:
            raise UserError(f"{printable(path)}: cannot be written: {reason(e)}") from e

    def check(self, stream):
        """Check every change against a new `Stream`. Raises `UserError`, which names the change."""
        engines = stream.engines
        for i, (sample, change) in enumerate(self.changes, 1):
            try:
                if change.get("hold") and not sample:
                    raise UserError("there is nothing to hold yet at sample 0")
                engines = engines.after(stream.check(engines, **change))
            except UserError as e:
                raise UserError(f"change {i} of the performance: {e}") from e
