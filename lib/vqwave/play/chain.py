"""The chain at work: levels from the top down and the decoder, which make one block after another.

Every level works on one grid of blocks: of 8,192 samples, say, so 16, 64, 256 and 1,024 frames at
512, 128, 32 and 8 samples a frame. A level pulls codes from the level above only as far as its
context model looks ahead; the top levels therefore run a few blocks before the sound. Context and
decoder always see the same spans of that grid, which is why neither the chunk size nor a stop and a
resume changes a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import machine
from ..config import Sampling, override
from ..errors import UserError
from . import pitches
from .blocks import Block
from .labels import CROSS_FADE
from .level import LEAST_SOURCE, GivenCodes, GivenState, Level, LevelState, Steering
from .mastering import cross_fade
from .prompt import JOIN, Prompt, check_prompt

SMOOTH = 0.01
"""Seconds, at least, over which a block passes into the next one where the decoder waits for fewer
codes than it can see.
"""


@dataclass(frozen=True)
class Engines:
    """What plays: a `CodecEngine`, and the `GeneratorEngine`s from the top of the chain down.

    music: the `VQWave` that they are of, or None. chosen: the values of their conditions.
    sampling: by level, of a chain that a jump goes to.
    """

    codec: Any
    generators: Sequence
    music: Any
    chosen: Mapping[str, np.ndarray]
    sampling: Mapping[int, Sampling] | None = None

    @property
    def configs(self) -> list:
        """The generators' configs."""
        return [g.config for g in self.generators]


@dataclass(frozen=True)
class Options:
    """What holds for a whole stream; see `Stream`. batch 0: one piece, without an axis for it."""

    block: int
    batch: int
    log_probs: bool
    past: float
    samples: int | None = None
    ahead: float | None = None


@dataclass(kw_only=True)
class ChainState:
    """What a chain remembers between two blocks.

    Attributes:
        blocks: how many were made, or skipped where a jump begins behind a prompt.
        runs_ahead: the levels run a block ahead of the decoder, as from the second block on.
        original: float32 [prompt_samples], the recording that is heard itself, until it is over.
        tail: float32 [batch, n], how the decoder continued the last block.
    """

    seed: int
    chosen: dict[str, np.ndarray]
    levels: list[LevelState]
    given: GivenState | None = None
    prompt_samples: int = 0
    blocks: int = 0
    runs_ahead: bool = False
    original: np.ndarray | None = None
    tail: np.ndarray | None = None


def start_chain(engines: Engines, options: Options, seed: int, sampling: Mapping[int, Sampling],
                begin: Prompt | GivenState | None = None, skip: bool = False) -> ChainState:
    """The state of a chain before its first block; skip: a prompt of whole blocks is not heard."""
    rate, prompt = engines.codec.config.sample_rate, None
    codes: dict[int, np.ndarray] = {}
    state = ChainState(seed=seed, chosen=dict(engines.chosen), levels=[])
    if isinstance(begin, GivenState):
        state.given = begin
    elif begin is not None:
        prompt, codes = begin, check_prompt(begin.codes, engines.configs)
        top = engines.configs[0].level
        state.prompt_samples = len(codes[top]) * top
        state.blocks = state.prompt_samples // options.block if skip else 0
        if prompt.keep_original and not skip:
            if np.shape(prompt.audio) != (state.prompt_samples,):
                raise ValueError(f"the prompt's audio is {list(np.shape(prompt.audio))}; its codes "
                                 f"last {state.prompt_samples} samples")
            state.original = np.asarray(prompt.audio, np.float32)
    for generator in engines.generators:
        level, home = generator.config.level, None
        if prompt is not None and (powers := prompt.pitches.get(level)) is not None:
            home = pitches.Home.of(powers, codes[level], pitches.FADES * rate / level)
        state.levels.append(LevelState.start(generator, options.batch or 1, sampling[level],
                                             engines.chosen, options.log_probs, codes.get(level),
                                             home))
    return state


class Chain:
    """The levels of a stream and its decoder. `next_block` makes the blocks in order.

    steering, workers: shared with the stream. chunk: see `Stream`.
    """

    def __init__(self, engines: Engines, options: Options, state: ChainState, steering: Steering,
                 workers: Workers, chunk: int | None = None):
        self.codec, self.options, self.state, self.workers = (engines.codec, options, state,
                                                              workers)
        self.sample_rate = self.codec.config.sample_rate
        self.levels: list[Level] = []
        self.given = state.given and GivenCodes(options.block, state.given, options.batch or 1)
        above: Level | GivenCodes | None = self.given
        for generator, level_state in zip(engines.generators, state.levels, strict=True):
            above = Level(generator, above, level_state, state.seed, options.block, steering,
                          state.chosen, chunk, self._least_source(above))
            self.levels.append(above)
        self.bottom = self.levels[-1]
        self._buffers = [self.given, *self.levels] if self.given else self.levels
        self._blocks_left: int | None = None
        self._set_view()

    def _set_view(self):
        """How many codes the decoder is given: `_halo` before a block and `_beyond` behind it, the
        last of which stands for `_assumed` more. `_smooth` more than the block are decoded.
        """
        self._halo = self._beyond = self.codec.decode_halo
        self._assumed = self._smooth = 0
        if self.options.ahead is None:
            return
        rate, level = self.sample_rate, self.codec.config.level
        smooth = -(-round(SMOOTH * rate) // level)
        beyond = max(smooth, round(self.options.ahead * rate / level))
        if beyond < self._halo:
            self._beyond, self._smooth = beyond, smooth
            self._assumed = min(beyond, self._halo - beyond)

    def _least_source(self, above: GivenCodes | Level | None) -> int:
        if self.options.ahead is None or above is None:
            return LEAST_SOURCE
        return min(LEAST_SOURCE,
                   max(1, round(self.options.ahead * self.sample_rate / above.level)))

    @property
    def sampling(self) -> dict[int, Sampling]:
        """How each level draws."""
        return {level.level: level.state.sampling for level in self.levels}

    def resample(self, chosen: Sampling | Mapping):
        """Draw as `chosen` says, for all levels or by level, from their next blocks on."""
        for level in self.levels:
            sampling = chosen if isinstance(chosen, Sampling) else chosen.get(level.level)
            if sampling is not None:
                level.resample(sampling if isinstance(sampling, Sampling)
                               else override(level.state.sampling, sampling, "sampling"))

    def relabel(self, shares: np.ndarray):
        """Pass into other labels; shares: as of `labels.read_labels`."""
        for level in self.levels:
            level.relabel(shares, round(CROSS_FADE * self.sample_rate / level.level))

    def freeze(self, seconds: Mapping[int, float]):
        """Repeat the last codes of levels, 0: no longer."""
        for level in self.levels:
            if (span := seconds.get(level.level)) is not None:
                level.freeze(max(1, round(span * self.sample_rate / level.level)) if span else 0)

    def next_block(self, samples: int, blocks_left: int | None, past: int) -> Block:
        """The next block; codes are noted for its first `samples`.

        blocks_left: how many the stream still wants, None: endless. past: blocks of codes that are
            kept to freeze them.
        """
        self._blocks_left = blocks_left
        audio = self._join_tail(self._advance())
        if self.state.original is not None:
            self._lay_original(audio)
        # Where a variation ends, no more is decoded.
        audio = np.pad(audio, ((0, 0), (0, self.options.block - audio.shape[1])))
        codes, log_probs = self._note(samples)
        self.state.blocks += 1
        if self.state.blocks * self.options.block >= self.state.prompt_samples:
            self.state.original = None
        self._trim(past)
        return Block(audio, codes, log_probs)

    def _advance(self) -> np.ndarray:
        """Decode the next block: float32 [batch, block]."""
        needed = (self.state.blocks + 1) * self.bottom.per_block + self._beyond
        if self.bottom.end is not None:
            needed = min(needed, self.bottom.end)
        while self.bottom.stop < needed:
            self._sample()
        if not self.state.runs_ahead:
            # The first block is wanted now; from the second on, sampling runs one block ahead so
            # that both cores work.
            self.state.runs_ahead = True
            return _gather(self._decode())
        return self._sample(decode=True)

    def _sample(self, decode: bool = False) -> np.ndarray | None:
        """Sample the bottom level's next block while workers prepare the context of the one after
        it and decode the next block of sound.

        Returns:
            That block, float32 [batch, block], where `decode` asks for it.
        """
        bottom, block = self.bottom, self.bottom.blocks
        needed, context, next_context, decoding = self._is_needed(block), None, None, []
        if needed:
            context = bottom.context(block)
            # One long job, so it begins first; the decoder's are short and fill what is left.
            if bottom.source and self._is_needed(block + 1):
                next_context = self.workers.submit(bottom.context, block + 1)
        if decode:
            decoding = self._decode()
        if needed:
            bottom.sample(context)
        audio = _gather(decoding) if decode else None
        if next_context:
            next_context.result()
        return audio

    def _is_needed(self, block: int) -> bool:
        """Whether a block of the bottom level is heard, or seen by the decoder of a block that is.
        """
        if self._blocks_left is None:
            return True
        last = (self.state.blocks + self._blocks_left) * self.bottom.per_block + self._beyond
        if self.bottom.end is not None:
            last = min(last, self.bottom.end)
        return block * self.bottom.per_block < last

    def _decode(self) -> list[_Task]:
        """Begin to decode the next block, and a little of the one after it: jobs of a few rows
        each, float32 [rows, block + a little].
        """
        bottom = self.bottom
        begin = self.state.blocks * bottom.per_block
        first, last = max(0, begin - self._halo), begin + bottom.per_block + self._beyond
        if bottom.end is not None:
            last = min(last, bottom.end)
        codes = bottom.window(first, last, pad=0)
        if self._assumed and last != bottom.end:
            codes = np.concatenate([codes, *[codes[:, -1:]] * self._assumed], axis=1)
        rows = self.codec.rows or len(codes)

        def decode(part):
            return decode_finite(self.codec, part, first, begin - first,
                                 bottom.per_block + self._smooth)

        return [self.workers.submit(decode, codes[i : i + rows])
                for i in range(0, len(codes), rows)]

    def _join_tail(self, audio: np.ndarray) -> np.ndarray:
        """The decoded block, into which the tail of the one before passes: [batch, block]."""
        block, state = self.options.block, self.state
        audio, after = audio[:, :block].copy(), audio[:, block:]
        if state.tail is not None:
            for row, tail in zip(audio, state.tail, strict=True):
                count = min(len(tail), len(row))
                row[:count] = cross_fade(tail[:count], row[:count])
        state.tail = after if after.size else None
        return audio

    def _lay_original(self, audio: np.ndarray):
        """Lay the recording over the next block, [batch, block]; at its end it passes into the
        decoded codes.
        """
        begin, end = self.state.blocks * self.options.block, self.state.prompt_samples
        # Within a block, so that blocks are made one by one.
        fade = max(end - round(JOIN * self.sample_rate),
                   (end - 1) // self.options.block * self.options.block)
        heard = self.state.original[begin : begin + self.options.block]
        clear = min(max(fade - begin, 0), len(heard))
        audio[:, :clear] = heard[:clear]
        if clear < len(heard):
            for row in audio:
                row[clear : len(heard)] = cross_fade(heard[clear:], row[clear : len(heard)])

    def _note(self, samples: int) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray] | None]:
        """The codes of the block that was decoded last and their log-probabilities, by level; and
        what `bits` counts.
        """
        codes: dict[int, np.ndarray] = {}
        log_probs: dict[int, np.ndarray] | None = {} if self.options.log_probs else None
        for level in self._buffers:
            rate = level.level
            begin = self.state.blocks * level.per_block
            frames = level.window(begin, begin - (-samples // rate), pad=0)
            codes[rate] = self._squeeze(frames)
            if log_probs is not None and isinstance(level, Level):
                scores = level.log_probs_between(begin, begin + frames.shape[1])
                log_probs[rate] = self._squeeze(scores)
                drawn = scores[:, max(0, self.state.prompt_samples // rate - begin) :]
                level.state.drawn += drawn.shape[1] * drawn.shape[2]
                level.state.nats -= drawn.sum((1, 2), dtype=np.float64)
        return codes, log_probs

    def _squeeze(self, values: np.ndarray) -> np.ndarray:
        """[batch, n, books] without the axes of which there is only one."""
        values = values[..., 0] if values.shape[-1] == 1 else values
        return values if self.options.batch else values[0]

    def _trim(self, past: int):
        """Forget the codes that neither the decoder, nor the context of a later block, nor a freeze
        of the last `past` blocks will read.
        """
        for level, below in zip(self._buffers, [*self._buffers[1:], None], strict=True):
            keep = self.state.blocks * level.per_block
            if below is None:
                keep -= self._halo
            else:
                group = below.blocks // below.group * below.group * below.per_block
                keep = min(keep, below.span(group, group)[0])
            kept = 0 if level is self.given else past * level.per_block
            level.trim(max(0, min(keep, level.stop - kept)))

    @property
    def bits(self) -> dict[int | str, np.ndarray]:
        """Bits per drawn code, see `Stream.bits`: float64 [batch] by level and under "all"."""
        counts = {level.level: (level.state.nats, level.state.drawn) for level in self.levels}
        counts["all"] = tuple(map(sum, zip(*counts.values(), strict=True)))
        return {name: nats / np.log(2) / drawn if drawn else np.full_like(nats, np.nan)
                for name, (nats, drawn) in counts.items()}


def decode_finite(codec, codes, start: int, first: int, count: int) -> np.ndarray:
    """One run of the decoder: of codes int32 [batch, n, books] the frames first … first + count − 1
    as sound, float32 [batch, count·level], fewer where there are fewer.

    start: the position of the first code in the piece. Raises `UserError` for a sound that is not
        finite.
    """
    audio = np.asarray(codec.decode_part(codes, start, first, count), np.float32)
    if not np.isfinite(audio).all():
        raise UserError(f"{codec.config.name} decoded to a number that is not finite: its weights "
                        f"are damaged")
    return audio


class Workers:
    """Threads that start with the first job and end with `close`."""

    def __init__(self):
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, function: Callable, *arguments) -> _Task:
        """Call a function in a thread."""
        if self._pool is None:
            # On two cores a third thread would only take turns with the sampling one.
            self._pool = ThreadPoolExecutor(1 if machine.cores() <= 2 else 2,
                                            thread_name_prefix="vqwave-stream")
        return _Task(self._pool, function, *arguments)

    def close(self):
        """Wait for the jobs that have begun, and drop the others."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


class _Task:
    """A call that a pool makes, or that `result` makes where no thread of the pool has begun it."""

    def __init__(self, pool: ThreadPoolExecutor, function: Callable, *arguments):
        self._call = partial(function, *arguments)
        self._future = pool.submit(self._call)

    def result(self):
        return self._call() if self._future.cancel() else self._future.result()


def _gather(tasks: list[_Task]) -> np.ndarray:
    """The rows of all tasks. The last are waited for first: the pool begins with the first."""
    return np.concatenate([task.result() for task in reversed(tasks)][::-1])
