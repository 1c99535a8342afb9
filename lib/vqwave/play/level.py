"""One level of a playing chain: a generator that samples codes block by block, and the buffer of
the codes that other levels still read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ..generators import Sampling, ScoreAbove
from ..levels import SCORE
from . import marks, pitches
from .controls import Steering
from .labels import Mixture, without
from .sampling import uniforms_by_book

LEAST_SOURCE = 64
"""The fewest source frames in one run of a context model: each run computes its halo again."""
ENDLESS = 2**62
"""The end of an endless piece: a position that no stream reaches."""


@dataclass(kw_only=True)
class BufferState:
    """The codes of a buffer, int32 [batch, n, books], and the position of the first frame.
    log_probs: float32 of the same shape, or None.
    """

    codes: np.ndarray
    first: int = 0
    log_probs: np.ndarray | None = None


class CodeBuffer:
    """The last codes of one level; `forget` drops the oldest. end: the length of the piece in
    frames, or `ENDLESS`. kept: the number of the last frames that are never forgotten. read_from:
    the first sample of what was read last; nothing before will be read again.
    """

    read_from = 0

    def __init__(self, level: int, block: int, state: BufferState, end: int, kept: int = 0):
        self.level, self.per_block = level, block // level
        self.state, self.end, self.kept = state, end, kept

    @property
    def stop(self) -> int:
        """The position after the last frame in the buffer."""
        return self.state.first + self.state.codes.shape[1]

    def fill(self, stop: int):
        """Sample up to position `stop`. The source of a variation is complete from the start."""

    def window(self, begin: int, end: int, pad, values: np.ndarray | None = None) -> np.ndarray:
        """The codes at positions begin … end − 1: int32 [batch, end − begin, books], with `pad`
        outside the piece. values: another array to cut instead of the codes.
        """
        first = self.state.first
        values = self.state.codes if values is None else values
        inside = values[:, max(begin - first, 0) : max(min(end, self.end) - first, 0)]
        left = min(max(first - begin, 0), end - begin)
        right = end - begin - left - inside.shape[1]
        return np.pad(inside, ((0, 0), (left, right), (0, 0)), constant_values=pad)

    def block_of(self, block: int, pad, values: np.ndarray | None = None) -> np.ndarray:
        """`window` for a block."""
        return self.window(block * self.per_block, (block + 1) * self.per_block, pad, values)

    def forget(self, sample: int):
        """Forget the codes before a sample of the piece."""
        self._trim(min(sample // self.level, self.stop - self.kept))

    def _trim(self, position: int):
        """Forget the codes before `position`."""
        state, count = self.state, position - self.state.first
        if count > 0:
            state.codes, state.first = state.codes[:, count:].copy(), position
            if state.log_probs is not None:
                state.log_probs = state.log_probs[:, count:].copy()


@dataclass(kw_only=True)
class LevelState(BufferState):
    """The state of a level between two blocks.

    Attributes:
        previous: int32 [batch, books], the last sampled frame.
        memory: the generator's states, float32 [rows, …] each.
        prompt: int32 [n, books], the first codes of the piece; empty once all are used.
        loop: int32 [batch, n, books], the frozen codes, which repeat from position `loop_start` on.
    """

    previous: np.ndarray
    memory: list[np.ndarray]
    sampling: Sampling
    prompt: np.ndarray
    loop: np.ndarray
    loop_start: int = 0
    labels: Mixture | None = None
    home: pitches.PitchAnchor | None = None

    @classmethod
    def start(cls, generator, batch: int, sampling: Sampling, label: np.ndarray | None,
              log_probs: bool, **values) -> Self:
        """The state before the first code of a piece. label: see `labels_of_section`. values: of
        other fields.
        """
        config = generator.config
        empty = np.empty((batch, 0, config.books), np.int32)
        rows = batch * (1 + config.is_guided(sampling))
        state = cls(codes=empty, previous=np.full((batch, config.books), config.start_token,
                                                  np.int32),
                    memory=[np.asarray(x) for x in generator.initial_state(rows)],
                    sampling=sampling, prompt=empty[0], loop=empty,
                    log_probs=empty.astype(np.float32) if log_probs else None,
                    labels=config.labels and Mixture(label, label))
        return replace(state, **values)


class Level(CodeBuffer):
    """One generator that samples its level: a `View` for its conditions.

    above: the levels above by number, of which the conditions read some. block: samples of a block.
    least_source: see `LEAST_SOURCE`. kept: see `CodeBuffer`. sound: the `decoder.Sound` of the
    level above, if a condition reads it.
    """

    state: LevelState

    def __init__(self, generator, above: Mapping[int, CodeBuffer], state: LevelState, seed: int,
                 block: int, steering: Steering, least_source: int = LEAST_SOURCE, kept: int = 0,
                 sound=None):
        self.generator, self.config = generator, generator.config
        self.seed, self.steering = seed, steering
        self.source = source = above.get(self.config.source_level)
        self._score: Any = above.get(SCORE)
        self._sound = sound
        super().__init__(self.config.level, block, state,
                         source.end * self.config.ratio if source else ENDLESS, kept)
        self.batch, self.books = state.previous.shape
        # The number of blocks that share one run of the context model.
        self.group = -(-least_source // source.per_block) if source else 1
        self._cached: tuple[tuple | None, np.ndarray | None] = (None, None)

    @property
    def guided(self) -> bool:
        """Whether the generator runs twice for each piece, with its labels and without."""
        return self.config.is_guided(self.state.sampling)

    @property
    def rows(self) -> int:
        """Rows of the context and of the memory: two for each piece with guidance."""
        return self.batch * (1 + self.guided)

    @property
    def blocks(self) -> int:
        """The number of sampled blocks."""
        return self.stop // self.per_block

    @property
    def settled(self) -> int:
        """The position before which no frame is sampled again."""
        return self.stop

    def fill(self, stop: int):
        """Sample block by block up to position `stop`, or to the piece's end."""
        while self.stop < min(stop, self.end):
            self.sample(self.context(self.blocks))

    @property
    def reads_score(self) -> bool:
        """Whether a condition reads the score."""
        return SCORE in self.config.reads

    def forget_context(self):
        """Compute the context of the next block again, because the score has changed."""
        self._cached = None, None

    def context(self, block: int) -> np.ndarray | None:
        """The context of a block: float32 [rows, per_block, channels]. Samples the level above."""
        if not self.config.conditions:
            return None
        group, row = divmod(block, self.group)
        key = group, self.state.labels, self.guided
        if self._cached[0] != key:
            count = self.group * self.per_block
            context = self.generator.context(self._inputs(group * count, count))
            self._cached = key, np.broadcast_to(context, (self.rows, count, context.shape[2]))
        return self._cached[1][:, row * self.per_block : (row + 1) * self.per_block]

    def _inputs(self, start: int, count: int) -> dict[str, np.ndarray]:
        """The conditions' inputs for `count` frames from `start` on, by name: [rows, …]."""
        inputs = {c.input: c.rows(self, start, count) for c in self.config.conditions}
        if not self.guided:
            return inputs
        labels = self.config.labels
        unlabelled = inputs | {labels.input: without(inputs[labels.input], labels)}
        return {name: np.concatenate([x, unlabelled[name]]) for name, x in inputs.items()}

    def positions(self, start: int, count: int) -> np.ndarray:
        return np.tile(self.level * np.arange(start, start + count), (self.batch, 1))

    def codes_above(self, begin: int, end: int, pad: int) -> np.ndarray:
        """See `View`. Samples the level above as far as needed."""
        self.source.fill(end)
        self.source.read_from = begin * self.source.level
        return self.source.window(begin, end, pad)

    def sound_above(self, begin: int, end: int) -> np.ndarray:
        """See `View`. Samples and decodes the level above as far as needed."""
        samples = self._sound.read(begin * self.level, end * self.level)
        return samples.reshape(self.batch, end - begin, self.level)

    def labels(self, start: int, count: int) -> np.ndarray:
        return self.state.labels.pairs(start, count)

    def score(self, start: int, count: int, books: int) -> np.ndarray:
        """See `View`. Composes as far as needed."""
        if self._score:
            self._score.read_from = start * self.level
            marks.settle(self._score, self.stop * self.level)
            return self._score.in_frames(start * self.level, count, self.level)
        rows = np.zeros((self.batch, count, books + 1 + ScoreAbove.LOUDNESS_BANDS), np.int32)
        rows[..., books] = ScoreAbove.PHASES
        return rows

    def set_sampling(self, sampling: Sampling):
        """Change the sampling. New unlabelled rows start with the memory of the labelled rows."""
        state = self.state
        state.sampling = sampling
        state.memory = [np.concatenate([x, x]) if self.rows > len(x) else x[: self.rows]
                        for x in state.memory]

    def freeze(self, frames: int):
        """Repeat the last `frames` sampled frames from now on; 0: sample freely again."""
        codes = self.state.codes
        self.state.loop = codes[:, codes.shape[1] - min(frames, codes.shape[1]) :].copy()
        self.state.loop_start = self.stop

    def sample(self, context):
        """Sample one block. Codes of a prompt or of a frozen loop are taken as they are."""
        state, start = self.state, self.stop
        draws = self._uniforms(0, self.books)
        forced, loop_frames = self._forced(start)
        frames, log_probs = self._draw_block(context, draws, forced)
        state.codes = np.concatenate([state.codes, frames], axis=1)
        if state.log_probs is not None:
            state.log_probs = np.concatenate([state.log_probs, log_probs], axis=1)
        if loop_frames is not None:
            state.loop[:, loop_frames] = state.codes[:, -self.per_block :]
        if self.settled >= len(state.prompt):
            state.prompt = state.prompt[:0]

    def _draw_block(self, context, draws, forced) -> tuple[np.ndarray, np.ndarray | None]:
        """The frames of the next block, and their log-probabilities if these are wanted."""
        state = self.state
        bias = self.pitch_bias(self.stop)
        options = {} if bias is None else {"bias": bias}
        frames, log_probs, state.memory = self.generator.sample(
            context, draws, state.previous, state.memory, state.sampling, forced,
            state.log_probs is not None, **options)
        state.previous = frames[:, -1]
        return frames, log_probs

    def pitch_bias(self, position: int) -> np.ndarray | None:
        """The bias of held notes and of a continued recording on the logits from a position on:
        float32 [books, codes], or None.
        """
        steering, home = self.steering, self.state.home
        powers = steering.powers.get(self.level)
        biases = [None if powers is None else pitches.bias(powers, steering.notes, steering.pull),
                  home and home.bias(position, steering.stay)]
        biases = [bias for bias in biases if bias is not None]
        return np.sum(biases, axis=0) if biases else None

    def _forced(self, start: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The given codes of the next block, int32 [batch, per_block, books] with -1 where a code
        is drawn, or None; and the index in the frozen loop of each frame, or None.
        """
        state = self.state
        prompt = state.prompt[start : start + self.per_block]
        length, loop_frames = state.loop.shape[1], None
        if not len(prompt) and not length:
            return None, None
        forced = np.full((self.batch, self.per_block, self.books), -1, np.int32)
        if length:
            loop_frames = (start - state.loop_start + np.arange(self.per_block)) % length
            forced[:] = state.loop[:, loop_frames]
            if self.steering.mutate:  # the random numbers of book `books` draw no code
                forced[self._uniforms(self.books, 1)[..., 0] < self.steering.mutate] = -1
        forced[:, : len(prompt)] = prompt
        return forced, loop_frames

    def _uniforms(self, book: int, books: int) -> np.ndarray:
        """The random numbers of the next block: float32 [batch, per_block, books]."""
        return np.stack([uniforms_by_book(self.seed, piece, self.level, self.stop, self.per_block,
                                          book, books) for piece in range(self.batch)])
