"""One level of a chain at work: a generator that samples its codes block by block, and the buffer
of the codes that other levels still read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..config import Sampling
from . import pitches
from .conditions import FEEDS
from .controls import CONTROLS
from .labels import Mixture, read_labels, without
from .sampling import uniforms

LEAST_SOURCE = 64
"""Source codes that one run of a context model covers at least: each run computes its halo again.
"""


def cut_frames(frames: np.ndarray, begin: int, end: int, pad) -> np.ndarray:
    """[..., N, books] -> [..., end − begin, books]: frames number begin … end − 1; `pad` stands
    before the first and after the last that there are.
    """
    kept = frames[..., max(begin, 0) : max(end, 0), :]
    left = min(max(-begin, 0), end - begin)
    sides = (left, end - begin - left - kept.shape[-2])
    return np.pad(kept, (*[(0, 0)] * (frames.ndim - 2), sides, (0, 0)), constant_values=pad)


@dataclass(kw_only=True)
class BufferState:
    """The codes of a buffer, int32 [batch, n, books], and the position of the first."""

    codes: np.ndarray
    first: int = 0


class CodeBuffer:
    """Some positions of one level's codes; `trim` forgets the oldest.

    `end` is the position after the piece's last code: `pad` stands from there on, as it does before
    the first code. None where the piece is endless.
    """

    def __init__(self, level: int, block: int, state: BufferState, end: int | None):
        self.level, self.per_block = level, block // level
        self.state, self.end = state, end

    @property
    def stop(self) -> int:
        """The position after the last code in the buffer."""
        return self.state.first + self.state.codes.shape[1]

    def window(self, begin: int, end: int, pad: int) -> np.ndarray:
        """Codes at positions begin … end − 1: int32 [batch, end − begin, books]; `pad` stands
        outside the piece.
        """
        return self._cut(self.state.codes, begin, end, pad)

    def _cut(self, values, begin, end, pad):
        first = self.state.first
        if self.end is not None:
            values = values[:, : max(self.end - first, 0)]
        return cut_frames(values, begin - first, end - first, pad)

    def trim(self, position: int):
        """Forget the codes before `position`."""
        state = self.state
        if position > state.first:
            state.codes = state.codes[:, position - state.first :].copy()
            state.first = position


@dataclass(kw_only=True)
class GivenState(BufferState):
    """The codes of a variation's level, int32 [1, n, books], and where they end."""

    level: int
    end: int


class GivenCodes(CodeBuffer):
    """The codes that a variation keeps, in the place of the `Level` above the first generator.

    All pieces of a batch have the same.
    """

    def __init__(self, block: int, state: GivenState, batch: int):
        super().__init__(state.level, block, state, state.end)
        self._batch = batch

    def fill(self, stop: int):
        """All codes are there."""

    def window(self, begin: int, end: int, pad: int) -> np.ndarray:
        return np.repeat(super().window(begin, end, pad), self._batch, axis=0)


@dataclass
class Steering:
    """What a player changes that decides how all levels of a stream draw codes; see `controls`.

    powers: by level the power of each pitch class in each code, see `pitches.of_codec`, where notes
    are held.
    """

    mutate: float = CONTROLS["mutate"].default
    notes: tuple[int, ...] = ()
    powers: dict[int, np.ndarray] = field(default_factory=dict)
    pull: float = CONTROLS["pull"].default
    stay: float = CONTROLS["stay"].default

    def biases(self, level: int, position: int, home: pitches.Home | None) -> list[np.ndarray]:
        """What is added to a level's logits from a position on: float32 [books, codes] each."""
        powers = self.powers.get(level)
        biases = [None if powers is None else pitches.bias(powers, self.notes, self.pull),
                  home and home.bias(position, self.stay)]
        return [bias for bias in biases if bias is not None]


@dataclass(kw_only=True)
class LevelState(BufferState):
    """What a level remembers between two blocks.

    Attributes:
        previous: int32 [batch, books], the last frame that was sampled.
        memory: the generator's state, float32 [rows, …] each.
        prompt: int32 [n, books], codes that the piece begins with; empty once all were used.
        loop: int32 [batch, n, books], the frozen codes, which repeat from position `loop_start` on.
        log_probs: float32 [batch, n, books] of the codes in the buffer, where they are wanted.
        drawn, nats: of the codes handed out, how many were drawn, and their negative
            log-likelihood, float64 [batch].
    """

    previous: np.ndarray
    memory: list[np.ndarray]
    sampling: Sampling
    prompt: np.ndarray
    loop: np.ndarray
    nats: np.ndarray
    loop_start: int = 0
    drawn: int = 0
    log_probs: np.ndarray | None = None
    labels: Mixture | None = None
    home: pitches.Home | None = None

    @classmethod
    def start(cls, generator, batch: int, sampling: Sampling, chosen: Mapping, log_probs: bool,
              prompt: np.ndarray | None = None, home: pitches.Home | None = None) -> LevelState:
        """The state before the first code of a piece."""
        config = generator.config
        empty = np.empty((batch, 0, config.books), np.int32)
        rows = batch * (1 + config.is_guided(sampling))
        labels = config.labels and Mixture.constant(
            read_labels(chosen.get(config.labels.input), config.labels, batch))
        return cls(codes=empty, previous=np.full((batch, config.books), config.start_token,
                                                 np.int32),
                   memory=[np.asarray(x) for x in generator.initial_state(rows)],
                   sampling=sampling, prompt=empty[0] if prompt is None else prompt, loop=empty,
                   log_probs=empty.astype(np.float32) if log_probs else None,
                   nats=np.zeros(batch), labels=labels, home=home)


class Level(CodeBuffer):
    """One generator at work.

    source: the level above, or None. chunk: most frames sampled in one call of the generator.
    chosen: the caller's values for conditions, by their inputs' names. least_source: see
    `LEAST_SOURCE`.
    """

    state: LevelState

    def __init__(self, generator, source: Level | GivenCodes | None, state: LevelState, seed: int,
                 block: int, steering: Steering, chosen: Mapping, chunk: int | None = None,
                 least_source: int = LEAST_SOURCE):
        self.generator, self.config = generator, generator.config
        self.source, self.seed, self.steering, self.chosen = source, seed, steering, chosen
        ended = source is not None and source.end is not None
        super().__init__(self.config.level, block, state,
                         source.end * self.config.ratio if ended else None)
        self.batch, self.books = state.previous.shape
        self.chunk = chunk or self.per_block
        # Blocks that share one run of the context model.
        self.group = max(1, -(-least_source // source.per_block)) if source else 1
        self._cached: tuple[tuple | None, np.ndarray | None] = (None, None)

    @property
    def labels(self) -> Mixture | None:
        """The labels of its frames."""
        return self.state.labels

    @property
    def guided(self) -> bool:
        """Whether the generator runs on each piece with its labels and without."""
        return self.config.is_guided(self.state.sampling)

    @property
    def rows(self) -> int:
        """Rows of the context and the memory: one a piece; two a piece with guidance."""
        return self.batch * (1 + self.guided)

    @property
    def blocks(self) -> int:
        """Blocks sampled."""
        return self.stop // self.per_block

    def fill(self, stop: int):
        """Sample block by block until all codes before position `stop` are there, or the piece
        ends.
        """
        while self.stop < (stop if self.end is None else min(stop, self.end)):
            self.sample(self.context(self.blocks))

    def context(self, block: int):
        """The context of one block: float32 [rows, per_block, channels]; None without conditions.
        Fills the level above.
        """
        if not self.config.conditions:
            return None
        group, row = divmod(block, self.group)
        key = group, self.labels, self.guided
        if self._cached[0] != key:
            count = self.group * self.per_block
            context = self.generator.context(self._inputs(group * count, count))
            self._cached = key, np.broadcast_to(context, (self.rows, count, context.shape[2]))
        return self._cached[1][:, row * self.per_block : (row + 1) * self.per_block]

    def _inputs(self, start: int, count: int) -> dict[str, np.ndarray]:
        """The inputs of the conditions of these frames, by name: int32 [rows, …]."""
        inputs = {c.input: FEEDS[c.kind](self, c, start, count) for c in self.config.conditions}
        if not self.guided:
            return inputs
        labels = self.config.labels
        unlabelled = inputs | {labels.input: without(inputs[labels.input], labels)}
        return {name: np.concatenate([x, unlabelled[name]]) for name, x in inputs.items()}

    def resample(self, sampling: Sampling):
        """Draw with these settings from here on. With guidance, the unlabelled rows begin with the
        memory of the labelled ones.
        """
        state = self.state
        state.sampling = sampling
        state.memory = [np.concatenate([x, x]) if self.rows > len(x) else x[: self.rows]
                        for x in state.memory]

    def relabel(self, shares: np.ndarray, frames: int):
        """Pass into other labels over the next frames; shares: as of `read_labels`."""
        if self.labels:
            self.state.labels = self.labels.turn(shares, self.stop, frames)

    def freeze(self, frames: int):
        """Repeat the last frames that were sampled from here on; 0: draw freely again."""
        codes = self.state.codes
        self.state.loop = codes[:, codes.shape[1] - min(frames, codes.shape[1]) :].copy()
        self.state.loop_start = self.stop

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The positions of the level above that the context of the codes start … stop − 1 reads."""
        return (start // self.config.ratio - self.config.halo, stop // self.config.ratio
                + self.config.halo)

    def sample(self, context):
        """Sample one block, with the given codes of a prompt or a frozen loop in their places."""
        state, start = self.state, self.stop
        draws = self._draws(start)
        forced, places = self._forced(start)
        biases = self.steering.biases(self.level, start, state.home)
        options = {"bias": sum(biases)} if biases else {}
        codes, log_probs = [state.codes], [state.log_probs]
        for i in range(0, self.per_block, self.chunk):
            part = slice(i, i + self.chunk)
            frames, scores, state.memory = self.generator.sample(
                None if context is None else context[:, part], draws[:, part],
                state.previous, state.memory, state.sampling,
                None if forced is None else forced[:, part], state.log_probs is not None,
                **options)
            state.previous = frames[:, -1]
            codes.append(frames)
            log_probs.append(scores)
        state.codes = np.concatenate(codes, axis=1)
        if state.log_probs is not None:
            state.log_probs = np.concatenate(log_probs, axis=1)
        if places is not None:
            state.loop[:, places] = state.codes[:, -self.per_block :]
        if self.stop >= len(state.prompt):
            state.prompt = state.prompt[:0]

    def _forced(self, start: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The codes that the next block is given, int32 [batch, per_block, books] with -1 for drawn
        ones, or None; and the places of its frames in the frozen loop, or None.
        """
        state = self.state
        prompt = state.prompt[start : start + self.per_block]
        length, places = state.loop.shape[1], None
        if not len(prompt) and not length:
            return None, None
        forced = np.full((self.batch, self.per_block, self.books), -1, np.int32)
        if length:
            places = (start - state.loop_start + np.arange(self.per_block)) % length
            forced[:] = state.loop[:, places]
            if self.steering.mutate:
                forced[self._mutations(start) < self.steering.mutate] = -1
        forced[:, : len(prompt)] = prompt
        return forced, places

    def _mutations(self, start: int) -> np.ndarray:
        """Random numbers that decide which frozen frames are drawn anew: float32 [batch,
        per_block].
        """
        return np.stack([uniforms(self.seed, piece, self.level, start, self.per_block, self.books)
                         for piece in range(self.batch)])

    def _draws(self, start: int) -> np.ndarray:
        """The random numbers of the next block: float32 [batch, per_block, books]."""
        return np.stack([np.stack([uniforms(self.seed, piece, self.level, start, self.per_block,
                                            book) for book in range(self.books)], axis=-1)
                         for piece in range(self.batch)])

    def log_probs_between(self, begin: int, end: int) -> np.ndarray:
        """Of the codes begin … end − 1: float32 [batch, end − begin, books]."""
        return self._cut(self.state.log_probs, begin, end, np.nan)

    def trim(self, position: int):
        state = self.state
        if state.log_probs is not None and position > state.first:
            state.log_probs = state.log_probs[:, position - state.first :].copy()
        super().trim(position)
