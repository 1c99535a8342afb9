"""One long piece made faster: each level below the top is cut into windows that are sampled side by
side.

A window starts from nothing some blocks before the place where it takes over, so that its LSTM
knows the music by then. The levels above are whole when a level is cut, so all windows play the
same music; the windows draw the same random numbers where they overlap; the sound is cross-faded
where one takes over. The piece is not the one that `Stream` makes of the same seed, but as much a
function of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import UserError, check_number
from . import engine
from .conditions import check_chosen
from .mastering import cross_fade
from .sampling import check_guidance, sampling_per_level
from .stream import Blocks, Level, check_block, cut_frames, decode_finite, draw_seed

WARM_UP = 1.48
"""Seconds, in whole blocks, that a window samples before it takes over, at least."""

CROSS_FADE = 0.0929
"""Seconds over which the sound passes from one window to the next, in whole frames."""

_GROUPS = 2
"""Threads that share the windows. Fixed: how they are shared changes what int8 rounds, so no
machine decides it.
"""


class Windows(Blocks):
    """The blocks of a finite piece, float32 [block], the last one shorter. What `Stream` is, but
    for `state`.

    Args: as `Stream`; windows: how many to cut each level into (fewer where the piece is short);
    report: called with the share of the sampling that is done, from 0 to 1 (an attribute too). All
    sampling comes before the first block.
    """

    batch = None

    def __init__(self, codec, generators: Sequence, *, block: int, windows: int,
                 samples: int, seed: int | None = None,
                 sampling=None, chosen: Mapping | None = None,
                 report: Callable[[float], None] | None = None):
        engine.check_chain(codec, generators)
        if samples is None:
            raise UserError("windows need a length: an endless piece has no end to begin at")
        self.codec, self.block = codec, check_block(block, [g.config for g in generators])
        self.windows = check_number("windows", windows, 1, whole=True)
        self.samples = check_number("samples", samples, 0, whole=True)
        self.seed = draw_seed(seed)
        self.position = 0
        self._generators, self.report = list(generators), report or (lambda share: None)
        configs = [g.config for g in generators]
        self._sampling = check_guidance(configs, sampling_per_level(configs, sampling))
        self._chosen = check_chosen(configs, chosen)
        self._halo = codec.decode_halo
        self._fade = max(1, round(CROSS_FADE * self.sample_rate) // self.level)
        self._blocks = self._play()
        self._closed = False

    def __next__(self) -> np.ndarray:
        block = next(self._blocks)
        self.position += len(block)
        return block

    def close(self):
        """End the iteration."""
        self._closed = True
        self._blocks.close()

    def _play(self):
        if not self.samples:
            return
        codes, patches = self._sample()
        per_block = self.block // self.level
        for block in range(-(-self.samples // self.block)):
            audio = self._decode(codes, block * per_block, (block + 1) * per_block)
            for start, patch in patches:
                a, b = max(block * self.block, start), min((block + 1) * self.block,
                                                           start + len(patch))
                if a < b:
                    first = block * self.block
                    audio[a - first : b - first] = patch[a - start : b - start]
            yield audio[: self.samples - block * self.block]

    def _sample(self):
        """The bottom level's codes int32 [N, books], and what to lay over the decoded sound where
        windows meet.
        """
        lengths = self._lengths()
        total = sum(length * (self.block // g.config.level)
                    for length, g in zip(lengths, self._generators, strict=True))
        done, above = 0, None
        for generator, length in zip(self._generators, lengths, strict=True):
            per_block = self.block // generator.config.level
            share = length * per_block / total

            def report(part, done=done, share=share):
                self.report(done + share * part)

            if above is None:
                level = Level(generator, None, self.seed, 1, self.block,
                              self._sampling[generator.config.level], None,
                              chosen=self._chosen)
                for block in range(length):
                    level.fill((block + 1) * per_block)
                    report((block + 1) / length)
                codes, cuts = level.codes[0], []
            else:
                codes, cuts = self._cut(generator, above, length, report)
            above = codes
            done += share
        return codes, [self._patch(codes, *cut) for cut in cuts]

    def _lengths(self) -> list[int]:
        """Blocks that each level needs, top first: what is heard, and what the level below or the
        decoder sees.
        """
        lengths = []
        reach = -(-self.samples // self.level) + self._halo
        for generator in reversed(self._generators):
            per_block = self.block // generator.config.level
            lengths.append(-(-reach // per_block))
            if generator.config.source_level:
                reach = lengths[-1] * per_block // generator.config.ratio + generator.config.halo
        return lengths[::-1]

    def _cut(self, generator, above, length, report):
        """A level sampled in windows: its codes int32 [N, books]; where each window takes over, and
        what it sampled before.

        above: the codes of the level above, int32 [M, books].
        """
        config = generator.config
        per_block = self.block // config.level
        # Enough to warm up, and for the decoder to see nothing but the window's own codes where it
        # is faded in.
        samples = max(round(WARM_UP * self.sample_rate), (self._fade + self._halo) * self.level)
        warm = -(-samples // self.block)
        count = min(self.windows, max(1, length // warm))
        edges = [length * i // count for i in range(count + 1)]
        steps = (max(b - a for a, b in zip(edges[:-1], edges[1:], strict=True))
                 + (warm if count > 1 else 0))
        starts = [max(0, end - steps) for end in edges[1:]]
        groups = [g for g in np.array_split(np.arange(count), _GROUPS) if len(g)]
        levels = [_Rows(generator, above, self.seed, [starts[i] for i in g],
                        self.block, self._sampling[config.level],
                        self._chosen) for g in groups]

        def run(level):
            try:
                for block in range(steps):
                    if self._closed:
                        return
                    level.fill((block + 1) * per_block)
                    if level is levels[0]:
                        report((block + 1) / steps)
            except BaseException:
                self._closed = True  # the others end at their next block
                raise

        with ThreadPoolExecutor(min(len(levels), os.cpu_count() or 1),
                                thread_name_prefix="vqwave-windows") as pool:
            jobs = [pool.submit(run, level) for level in levels]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                self._closed = True
                raise
        rows = [row for level in levels for row in level.codes]
        kept = [row[(a - s) * per_block : (b - s) * per_block]
                for row, s, a, b in zip(rows, starts, edges[:-1], edges[1:], strict=True)]
        cuts = [(a * per_block, row[: (a - s) * per_block])
                for row, s, a in zip(rows[1:], starts[1:], edges[1:-1], strict=True)]
        return np.concatenate(kept), cuts

    def _patch(self, codes, position: int, before):
        """The sound of the window that takes over at `position`, faded in, to where the decoder
        sees no other window.

        before: the codes it sampled to warm up, the last of them at `position` − 1. -> (start,
            float32 [n])
        """
        own = codes.copy()
        own[position - len(before) : position] = before
        fade = self._fade
        audio = self._decode(own, position - fade, min(position + self._halo, len(codes)))
        old = self._decode(codes, position - fade, position)
        audio[: len(old)] = cross_fade(old, audio[: len(old)])
        return (position - fade) * self.level, audio

    def _decode(self, codes, begin: int, end: int) -> np.ndarray:
        """The sound of the codes begin … end − 1 among the others: float32 [(end − begin)·level].
        """
        first = max(0, begin - self._halo)
        return decode_finite(self.codec, codes[None, first : end + self._halo], first,
                             begin - first, end - begin)[0]


class _Rows(Level):
    """Windows of one level as the rows of a batch; row i starts at block `starts[i]` of the piece.
    """

    def __init__(self, generator, above, seed, starts, block, sampling, chosen):
        self.starts = starts
        source = _Above(generator.config, above, starts, block)
        super().__init__(generator, source, seed, len(starts), block, sampling, None, chosen=chosen)

    def draws(self, start, count):
        return np.stack([self._row(0, start + first * self.per_block, count)
                         for first in self.starts])


class _Above:
    """The finished level above, as each row sees it from where it starts; stands where a `Level`
    has its source.
    """

    end = None

    def __init__(self, config, codes, starts, block):
        self.per_block = block // config.source_level
        self.codes, self.starts, self.pad = codes, starts, config.pad_token

    def fill(self, stop):
        """It is full."""

    def window(self, begin, end, pad):
        return np.stack([cut_frames(self.codes, begin + start * self.per_block,
                                    end + start * self.per_block, pad)
                         for start in self.starts])
