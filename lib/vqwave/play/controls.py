"""What a player may change while a stream plays: `Stream.set` checks and queues it here, the stream
acts on it between two blocks.

Each change holds from a block that had not begun when it was asked for, so that a performance is
its seed and its list of changes: `replay` plays it again, bit for bit.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..config import MOST_GUIDANCE
from ..errors import UserError
from ..io.files import atomic_write, printable, reason
from .mastering import cross_fade

MOST_NOTES = 16
"""Notes that can be held at a time."""

QUIETEST, LOUDEST = -80.0, 12.0
"""dB that loudness can be set to; 0 leaves the music as it is made."""

MOST_PAST = 60.0
"""Seconds that a stream can keep to repeat."""

HIGHEST_PULL = 12.0
"""Nats by which held notes can make a code likelier, at most."""

STAY, HIGHEST_STAY = 1.0, 4.0
"""How strongly a continuation keeps to its recording's pitches, see `pitches.Home`; chosen on
validation tracks.
"""

CURVES = {"even": lambda share, rest, full: rest + share * (full - rest),
          # of the General MIDI volume: half way it is 12 dB softer
          "volume": lambda share, rest, full:
              full + 40 * math.log10(share) if share > 10 ** ((rest - full) / 40) else rest}
"""What a knob turns to at a share of its way, from 0 to 1."""


@dataclass(frozen=True)
class Knob:
    """What turns a number on a MIDI device: the controller, its value at 0 and at 127, and how it
    goes between them, of `CURVES`.
    """

    controller: int
    rest: float
    full: float
    curve: str = "even"

    def value(self, share: float) -> float:
        """At a share of its way, from 0 to 1."""
        return CURVES[self.curve](share, self.rest, self.full)


@dataclass(frozen=True)
class Control:
    """A number that a player turns while music plays: all that a slider, a key or a knob must know.

    Attributes:
        name: keyword of `Stream.set`; where it is an option of `Sampling`, of that.
        about: what it does, for people.
        least, most, default, step: of its value; one press of a key is a step.
        unit: what the value is counted in, "" where it is a share or a factor.
        sampled: an option of `Sampling`, which each level has for itself.
        keys: on a keyboard the key for less and the one for more; one key turns it on and off.
        exact: it holds from the very sample that `Stream.set` names; else each level follows from
            its next block, which is ahead of the sound.
        labels: it turns what weights do that were trained with labels.
        knob: what turns it on a MIDI device.
    """

    name: str
    about: str
    least: float
    most: float
    default: float
    step: float
    unit: str = ""
    sampled: bool = False
    keys: str = ""
    exact: bool = True
    labels: bool = False
    knob: Knob | None = None

    def clip(self, value: float) -> float:
        """The nearest value that it can have, without the rounding errors of many steps."""
        return round(min(max(value, self.least), self.most), 6)

    def turned(self, share: float) -> float:
        """The value where its knob is at a share of its way; the usual one where it has no knob."""
        return self.default if self.knob is None else self.clip(self.knob.value(share))


CONTROLS = {one.name: one for one in (
    Control("temperature", "how freely codes are drawn: below 1 safer, above 1 wilder",
            0.0, 4.0, 1.0, 0.05, sampled=True, keys="tT", exact=False, knob=Knob(1, 1.0, 1.5)),
    Control("top_p", "draw from the likeliest codes that together reach this probability",
            0.05, 1.0, 1.0, 0.05, sampled=True, keys="pP", exact=False),
    Control("guidance", "how strongly the label is followed; 1 is as it was learnt",
            1.0, MOST_GUIDANCE, 1.0, 0.5, sampled=True, keys="gG", exact=False, labels=True),
    Control("loudness", "louder or softer; 0 is as the music is made",
            QUIETEST, LOUDEST, 0.0, 2.0, "dB", keys="-+", knob=Knob(7, QUIETEST, 0.0, "volume")),
    Control("transpose", "higher or lower, at the same tempo",
            -12.0, 12.0, 0.0, 1.0, "semitones", keys="[]"),
    Control("hold", "repeat the sound of the last seconds until 0",
            0.0, MOST_PAST, 0.0, 0.5, "s", keys="h"),
    Control("freeze", "repeat the codes of the last seconds of a level, of the top one unless "
                      "another is named; finer levels go on",
            0.0, MOST_PAST, 0.0, 0.5, "s", keys="f", exact=False),
    Control("mutate", "the share of frozen codes that each round draws anew and keeps",
            0.0, 1.0, 0.0, 0.05, keys="mM", exact=False, knob=Knob(71, 0.0, 1.0)),
    Control("pull", "how strongly held notes draw the music to them: nats that a code of nothing "
                    "else gains", 0.0, HIGHEST_PULL, 3.0, 1.0, "nats", keys="nN", exact=False,
            knob=Knob(74, 0.0, 6.0)),
    Control("stay", "how strongly a continuation keeps to the pitches of its recording; half as "
                    "strongly every minute", 0.0, HIGHEST_STAY, STAY, 0.25, keys="sS", exact=False),
)}
"""Every number that can be turned while music plays. The studio, the terminal, scores and MIDI all
go by this.
"""

NAMES = ("sampling", *(name for name, one in CONTROLS.items() if not one.sampled),
         "notes", "label", "jump", "begin", "weights")
"""What a score can change: keywords of `Stream.set`."""

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
            return {level: x[(slice(None),) * axis + (slice(-(-samples // level)),)]
                    for level, x in values.items()}

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


@dataclass(frozen=True)
class Score:
    """A performance: its seed, and (sample, keywords of `Stream.set`) of each change."""

    seed: int
    changes: tuple[tuple[int, dict], ...]

    def check(self, stream):
        """Every change suits a fresh `Stream`. Raises `UserError`, which names the change."""
        engines = stream.engines
        for i, (sample, change) in enumerate(self.changes, 1):
            try:
                if change.get("hold") and not sample:
                    raise UserError("there is nothing to hold yet at sample 0")
                engines = engines.after(stream.check(engines, **change))
            except UserError as e:
                raise UserError(f"change {i} of the score: {e}") from e


def parse_changes(listed) -> tuple[tuple[int, dict], ...]:
    """The changes of a score as JSON has them: [sample, {control: value}] each. The values are
    checked by the stream. Raises `UserError`.
    """
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise UserError("changes must be a list of [sample, {control: value}]")
    found = []
    for i, one in enumerate(listed, 1):
        if not (isinstance(one, Sequence) and len(one) == 2 and isinstance(one[1], Mapping)):
            raise UserError(f"change {i} must be [sample, {{control: value}}]")
        sample, change = one[0], dict(one[1])
        if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
            raise UserError(f"the sample of change {i} must be a whole number of at least 0")
        for name in change:
            if name not in NAMES:
                raise UserError(f"change {i}: no control is called {name!r}; there are "
                                f"{', '.join(NAMES)}")
        for name, kind, wanted in (("sampling", dict, "{level: {option: value}}"),
                                   ("freeze", float, "seconds, or {level: seconds}")):
            if name == "sampling" and name in change or isinstance(change.get(name), Mapping):
                try:  # JSON has no keys but text
                    change[name] = {int(x): kind(value) for x, value in change[name].items()}
                except (TypeError, ValueError, AttributeError) as e:
                    raise UserError(f"{name} of change {i} must be {wanted}") from e
        found.append((sample, change))
    return tuple(found)


def read_score(path) -> Score:
    """The score in a JSON file, {"seed": …, "changes": [[sample, {control: value}], …]}. Raises
    `UserError`, one line that names the file.
    """
    name = printable(path)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{name}: cannot be read: {reason(e)}") from e
    except (ValueError, RecursionError) as e:
        raise UserError(f"{name}: not valid JSON: {e}") from e
    if not isinstance(found, dict) or set(found) != {"seed", "changes"}:
        raise UserError(f"{name}: is no score: it must hold an object with seed and changes")
    seed = found["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UserError(f"{name}: seed must be a whole number from 0 to {2**63 - 1}")
    try:
        return Score(seed, parse_changes(found["changes"]))
    except UserError as e:
        raise UserError(f"{name}: {e}") from e


def write_score(path, score: Score):
    """The file that `read_score` reads. Raises `UserError` where it cannot be written."""
    # A score asks for a change between the blocks that were made before it and after.
    changes = sorted(score.changes, key=lambda change: change[0])
    try:
        with atomic_write(path) as file:
            file.write(json.dumps({"seed": score.seed, "changes": changes}).encode() + b"\n")
    except OSError as e:
        raise UserError(f"{printable(path)}: cannot be written: {reason(e)}") from e
