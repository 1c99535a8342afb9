"""The chain at work: levels from the top down and the decoder, which make one block after another.

All levels share one grid of blocks. A level pulls codes from the level above only as far as its
context model looks ahead. Context and decoder always see the same spans of the grid, so neither the
chunk size nor a stop and a resume changes a bit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import machine
from ..config import Sampling
from ..data.scores import Score
from ..errors import UserError
from . import pitches
from .blocks import Block, fade_in
from .labels import CROSS_FADE
from .level import LEAST_SOURCE, BufferState, CodeBuffer, Level, LevelState, Steering
from .prompt import JOIN, Prompt, Variation, check_codes, check_prompt
from .sampling import change_sampling
from .score import ScoreLevel, ScoreState, start_score

SMOOTH = 0.01
"""The shortest cross-fade of blocks, in seconds, if the decoder waits for less than its halo."""


@dataclass(frozen=True)
class Engines:
    """What plays: a `CodecEngine`, the `GeneratorEngine`s from the top of the chain down, and that
    of the score, or None. music: the `VQWave` that they are of, or None. label: see
    `choose_labels`. sampling: by level, of a chain that a jump goes to.
    """

    codec: Any
    generators: Sequence
    music: Any
    label: np.ndarray | None
    sampling: Mapping[int, Sampling] | None = None
    score: Any = None

    @property
    def configs(self) -> list:
        """The generators' configs."""
        return [g.config for g in self.generators]


@dataclass(frozen=True)
class Options:
    """What holds for a whole stream; see `Stream`."""

    block: int
    batch: int | None = None
    log_probs: bool = False
    past: float = 0.0
    samples: int | None = None
    ahead: float | None = None
    intro: bool = True
    leveling: bool = False


@dataclass(kw_only=True)
class ChainState:
    """What a chain remembers between two blocks.

    Attributes:
        source: the codes that a variation keeps, in the place of a level above the generators.
        score: of the level that composes, where there is one.
        blocks: how many were made, or skipped where a jump begins behind a prompt.
        runs_ahead: the levels run a block ahead of the decoder, as from the second block on.
        original: float32 [prompt_samples], the recording that is heard itself, until it is over.
        tail: float32 [batch, n], how the decoder continued the last block.
    """

    seed: int
    label: np.ndarray | None
    levels: list[LevelState]
    source: BufferState | None = None
    score: ScoreState | None = None
    prompt_samples: int = 0
    blocks: int = 0
    runs_ahead: bool = False
    original: np.ndarray | None = None
    tail: np.ndarray | None = None


def start_chain(engines: Engines, options: Options, seed: int, sampling: Mapping[int, Sampling],
                begin: Prompt | Variation | Score | None = None, skip: bool = False) -> ChainState:
    """The state of a chain before its first block; skip: a prompt of whole blocks is not heard."""
    rate, configs, batch = engines.codec.config.sample_rate, engines.configs, options.batch or 1
    state = ChainState(seed=seed, label=engines.label, levels=[])
    codes: dict[int, np.ndarray] = {}
    homes: dict[int, pitches.HomePitches] = {}
    if isinstance(begin, Variation):
        kept = check_codes(begin.codes, configs[0].source)
        state.source = BufferState(codes=np.repeat(kept[None], batch, axis=0))
    elif isinstance(begin, Prompt):
        codes, top = check_prompt(begin.codes, configs), configs[0].level
        homes = {level: pitches.HomePitches.of(powers, codes[level], pitches.FADES * rate / level)
                 for level, powers in begin.pitches.items() if level in codes}
        state.prompt_samples = len(codes[top]) * top
        if skip:
            state.blocks = state.prompt_samples // options.block
        elif begin.keep_original:
            if np.shape(begin.audio) != (state.prompt_samples,):
                raise ValueError(f"the prompt's audio is {list(np.shape(begin.audio))}; its codes "
                                 f"last {state.prompt_samples} samples")
            state.original = np.asarray(begin.audio, np.float32)
    if engines.score:
        state.score = start_score(engines.score, batch, options.log_probs, rate,
                                  begin.score if isinstance(begin, Prompt) else begin)
        if configs[0].is_performer:
            state.score.sampling = sampling[configs[0].level]
    state.levels = [
        LevelState.start(generator, batch, sampling[level], engines.label, options.log_probs,
                         codes.get(level), homes.get(level))
        for generator in engines.generators for level in [generator.config.level]]
    return state


class Chain:
    """The levels of a stream and its decoder. `next_block` makes the blocks in order.

    steering, workers: shared with the stream. chunk: see `Stream`.
    """

    def __init__(self, engines: Engines, options: Options, state: ChainState, steering: Steering,
                 workers: "Workers", chunk: int | None = None):
        self.codec, self.options, self.state, self.workers = (engines.codec, options, state,
                                                              workers)
        self.sample_rate = self.codec.config.sample_rate
        self.source: CodeBuffer | None = None
        if state.source:
            end = state.source.first + state.source.codes.shape[1]
            self.source = CodeBuffer(engines.configs[0].source_level, options.block, state.source,
                                     end)
        self.score = engines.score and ScoreLevel(engines.score, state.score, state.seed, steering,
                                                  self.sample_rate)
        self.levels: list[Level] = []
        above: CodeBuffer | None = self.source
        for generator, level_state in zip(engines.generators, state.levels, strict=True):
            above = Level(generator, above, level_state, state.seed, options.block, steering,
                          chunk, self._least_source(above),
                          None if above else self.score,
                          None if options.intro or above or self.score
                          else self.sample_rate / generator.config.level)
            self.levels.append(above)
        self.bottom = self.levels[-1]
        self._buffers = [self.source, *self.levels] if self.source else self.levels
        self._last: float = math.inf  # the position of the bottom level after the last code needed
        self._set_view()

    def _set_view(self):
        """Set how many codes the decoder sees: `_halo` before the block and `_beyond` after it. The
        last code is repeated `_assumed` times. `_smooth` codes after the block are decoded too, for
        the cross-fade.
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

    def _least_source(self, above: CodeBuffer | None) -> int:
        if self.options.ahead is None or above is None:
            return LEAST_SOURCE
        return min(LEAST_SOURCE, max(1, round(self.options.ahead * self.sample_rate / above.level)))

    @property
    def sampling(self) -> dict[int, Sampling]:
        """How each level draws."""
        return {level.level: level.sampling for level in self.levels}

    def set_sampling(self, chosen: Sampling | Mapping):
        """Draw as `chosen` says from each level's next block on; see `change_sampling`."""
        sampling = change_sampling(self.sampling, chosen)
        for level in self.levels:
            level.set_sampling(sampling[level.level])

    def set_labels(self, shares: np.ndarray):
        """Pass into other labels; shares: as of `labels.read_labels`."""
        for level in self.levels:
            level.set_labels(shares, round(CROSS_FADE * self.sample_rate / level.level))

    def freeze(self, seconds: Mapping[int, float]):
        """Repeat the last codes of levels, 0: no longer."""
        for level in self.levels:
            if (span := seconds.get(level.level)) is not None:
                level.freeze(max(1, round(span * self.sample_rate / level.level)) if span else 0)

    def next_block(self, samples: int, blocks_left: int | None, past: int) -> Block:
        """The next block; codes are noted for its first `samples`. blocks_left: how many the stream
        still wants, None: endless. past: blocks of codes that are kept to freeze them.
        """
        state, bottom = self.state, self.bottom
        last = (math.inf if blocks_left is None
                else (state.blocks + blocks_left) * bottom.per_block + self._beyond)
        self._last = min(last, bottom.end)
        audio = self._join_tail(self._advance())
        if state.original is not None:
            self._lay_original(audio)
        # Where a variation ends, no more is decoded.
        audio = np.pad(audio, ((0, 0), (0, self.options.block - audio.shape[1])))
        codes, log_probs = self._note(samples)
        state.blocks += 1
        if state.blocks * self.options.block >= state.prompt_samples:
            state.original = None
        self._trim(past)
        return Block(audio, codes, log_probs)

    def _advance(self) -> np.ndarray:
        """Decode the next block: float32 [batch, block]."""
        needed = (self.state.blocks + 1) * self.bottom.per_block + self._beyond
        while self.bottom.stop < min(needed, self._last):
            self._sample()
        if self.state.runs_ahead:
            return self._sample(decode=True)
        # The first block is decoded at once. From the second on, sampling runs one block ahead, so
        # that both cores work.
        self.state.runs_ahead = True
        return _gather(self._decode())

    def _sample(self, decode: bool = False) -> np.ndarray | None:
        """Sample the bottom level's next block while workers prepare the context of the one after
        it and decode the next block of sound.

        Returns:
            That block, float32 [batch, block], where `decode` asks for it.
        """
        bottom, block = self.bottom, self.bottom.blocks
        needed, next_context, decoding = block * bottom.per_block < self._last, None, []
        if needed:
            context = bottom.context(block)
            # One long job, so it begins first; the decoder's are short and fill what is left.
            if bottom.source and (block + 1) * bottom.per_block < self._last:
                next_context = self.workers.start(bottom.context, block + 1)
        if decode:
            decoding = self._decode()
        if needed:
            bottom.sample(context)
        audio = _gather(decoding) if decode else None
        if next_context:
            next_context()
        return audio

    def _decode(self) -> list[Callable[[], np.ndarray]]:
        """Begin to decode the next block, and a little of the one after it. Returns the results of
        a few rows each, float32 [rows, block + a little].
        """
        bottom = self.bottom
        begin = self.state.blocks * bottom.per_block
        first = max(0, begin - self._halo)
        last = min(begin + bottom.per_block + self._beyond, bottom.end)
        codes = bottom.window(first, last, pad=0)
        if self._assumed and last != bottom.end:
            codes = np.concatenate([codes, *[codes[:, -1:]] * self._assumed], axis=1)
        rows = self.codec.rows or len(codes)
        return [self.workers.start(decode_finite, self.codec, codes[i : i + rows], first,
                                   begin - first, bottom.per_block + self._smooth)
                for i in range(0, len(codes), rows)]

    def _join_tail(self, audio: np.ndarray) -> np.ndarray:
        """The decoded block, into which the tail of the one before passes: [batch, block]."""
        audio, tail = audio[:, : self.options.block].copy(), audio[:, self.options.block :]
        if self.state.tail is not None:
            fade_in(audio, self.state.tail)
        self.state.tail = tail if tail.size else None
        return audio

    def _lay_original(self, audio: np.ndarray):
        """Lay the recording over the next block, [batch, block]; at its end pass into the decoded
        codes.
        """
        block, end = self.options.block, self.state.prompt_samples
        begin = self.state.blocks * block
        # The cross-fade lies within one block, so earlier blocks need not take account of it.
        fade = max(end - round(JOIN * self.sample_rate), (end - 1) // block * block) - begin
        heard = self.state.original[begin : begin + block]
        clear = min(max(fade, 0), len(heard))
        audio[:, :clear] = heard[:clear]
        if clear < len(heard):
            fade_in(audio[:, clear:], np.tile(heard[clear:], (len(audio), 1)))

    def _note(self, samples: int) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray] | None]:
        """The codes and log-probabilities of the last decoded block by level."""
        codes: dict[int, np.ndarray] = {}
        log_probs: dict[int, np.ndarray] = {}
        for level in self._buffers:
            rate, begin = level.level, self.state.blocks * level.per_block
            end = begin - (-samples // rate)
            codes[rate] = level.window(begin, end, pad=0)
            if self.options.log_probs and isinstance(level, Level):
                log_probs[rate] = level.window(begin, end, np.nan, level.state.log_probs)
        return codes, log_probs if self.options.log_probs else None

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
            kept = 0 if level is self.source else past * level.per_block
            level.trim(max(0, min(keep, level.stop - kept)))
        if self.score:
            top = self.levels[0]
            self.score.forget((top.blocks * top.per_block - top.config.score.halo) * top.level)


def decode_finite(codec, codes, start: int, first: int, count: int) -> np.ndarray:
    """`CodecEngine.decode_part`. Raises `UserError` for a sound that is not finite."""
    audio = np.asarray(codec.decode_part(codes, start, first, count), np.float32)
    if not np.isfinite(audio).all():
        raise UserError(f"{codec.config.name} decoded to a number that is not finite: its weights "
                        f"are damaged")
    return audio


class Workers:
    """Threads that begin with the first job."""

    def __init__(self):
        # On two cores a third thread would only take turns with the sampling one.
        self._pool = ThreadPoolExecutor(1 if machine.cores() <= 2 else 2,
                                        thread_name_prefix="vqwave-stream")

    def start(self, function: Callable, *arguments) -> Callable[[], Any]:
        """Call a function in a thread. Returns a function that waits for the result, and that makes
        the call itself if no thread has started it.
        """
        future = self._pool.submit(function, *arguments)
        return lambda: function(*arguments) if future.cancel() else future.result()

    def close(self):
        """Wait for the jobs that have begun, and drop the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _gather(results: list[Callable[[], np.ndarray]]) -> np.ndarray:
    """The rows of all results. The last are waited for first: the pool begins with the first."""
    return np.concatenate([result() for result in reversed(results)][::-1])
