"""Decoders that play: one level's codes become sound block by block, for the listener or for the
level below, which may read sound instead of codes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import machine
from ..errors import UserError
from .blocks import fade_in
from .level import BufferState, CodeBuffer

PIECES = 2
"""The pieces in one run of the decoder: so few that activations stay in the CPU's caches."""
SMOOTH = 0.01
"""The shortest cross-fade of blocks, in seconds, if the decoder sees less than its halo."""


@dataclass(kw_only=True)
class DecoderState:
    """The state of a decoder between two blocks.

    blocks: the number of blocks made, or skipped where a jump begins after a prompt.
    decoded: the codes before this position are in `memory`, float32 [batch, s]: what the decoder
        remembers of them; None: nothing.
    tail: float32 [batch, n], the decoded samples after the last block, for the cross-fade.
    """

    blocks: int = 0
    decoded: int = 0
    memory: np.ndarray | None = None
    tail: np.ndarray | None = None


class Decoder:
    """Decodes the codes of a level, which are sampled far enough before `start` is called.

    It sees `beyond` codes after a block. ahead: see `Stream`.
    """

    def __init__(self, codec, source: CodeBuffer, state: DecoderState, workers: "Workers",
                 ahead: float | None = None):
        self.codec, self.source, self.state, self.workers = codec, source, state, workers
        halo = self.beyond = codec.decode_halo
        self._before = halo + codec.decode_past
        # The last code is repeated `assumed` times. For the cross-fade, `smooth` codes after the
        # block are decoded, too.
        self.assumed = self.smooth = 0
        if ahead is None:
            return
        rate, level = codec.config.sample_rate, codec.config.level
        smooth = -(-round(SMOOTH * rate) // level)
        beyond = max(smooth, round(ahead * rate / level))
        if beyond < halo:
            self.beyond, self.smooth = beyond, smooth
            self.assumed = min(beyond, halo - beyond)

    @property
    def begin(self) -> int:
        """The position of the next block's first code."""
        return self.state.blocks * self.source.per_block

    @property
    def needed(self) -> int:
        """The position up to which codes must be sampled before the next block."""
        return self.begin + self.source.per_block + self.beyond

    def start(self) -> list[Callable]:
        """Start to decode the next block and the samples of its cross-fade. Returns functions, each
        of which waits for a few pieces: float32 [pieces, block + cross-fade], and their memory.
        """
        source, state, memory = self.source, self.state, self.state.memory
        first = max(0, self.begin - self._before) if memory is None else state.decoded
        last = min(self.needed, source.end)
        codes = source.window(first, last, pad=0)
        if self.assumed and last != source.end:
            codes = np.concatenate([codes, *[codes[:, -1:]] * self.assumed], axis=1)
        state.decoded = last
        return [self.workers.start(self.codec.decode_part, codes[i : i + PIECES], first, self.begin,
                                   source.per_block + self.smooth,
                                   None if memory is None else memory[i : i + PIECES], last - first)
                for i in range(0, len(codes), PIECES)]

    def finish(self, results: list[Callable]) -> np.ndarray:
        """The block that `start` started, cross-faded from the tail of the block before: float32
        [batch, block]; shorter at the end of a variation. Waits for the last job first: the pool
        starts with the first. Raises `UserError` if a sample is not finite.
        """
        state = self.state
        parts, memory = zip(*[result() for result in reversed(results)][::-1], strict=True)
        state.memory = None if memory[0] is None else np.concatenate(memory)
        whole, block = np.concatenate(parts), self.source.per_block * self.source.level
        if not np.isfinite(whole).all():
            raise UserError(f"{self.codec.config.name} decoded a sample that is not finite: its "
                            f"weights are damaged")
        audio, tail = whole[:, :block].copy(), whole[:, block:]
        if state.tail is not None:
            fade_in(audio, state.tail)
        state.tail = tail if tail.size else None
        return audio

    def forget(self):
        """Count the block that `finish` returned, and let the level forget what is not needed."""
        self.state.blocks += 1
        self.source.read_from = (self.begin - self._before) * self.source.level


@dataclass(kw_only=True)
class SoundState(DecoderState, BufferState):
    """The state of a `Sound`; codes: the samples that are kept, float32 [batch, n, 1]."""


class Sound(CodeBuffer):
    """The sound of a level that the level below reads: frames of one sample."""

    def __init__(self, decoder: Decoder):
        source = decoder.source
        super().__init__(1, source.per_block * source.level, decoder.state,
                         source.end * source.level)
        self.decoder = decoder

    def fill(self, stop: int):
        """Decode up to a sample, or to the piece's end. Samples the level as far as needed."""
        while self.stop < min(stop, self.end):
            self.decoder.source.fill(self.decoder.needed)
            audio = self.decoder.finish(self.decoder.start())
            self.decoder.forget()
            self.state.codes = np.concatenate([self.state.codes, audio[..., None]], axis=1)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Samples begin … end - 1 of the piece: float32 [batch, end - begin], 0 outside the piece.
        No sample before `begin` can be read later.
        """
        self.fill(end)
        samples = self.window(begin, end, pad=0)[..., 0]
        self.forget(begin)
        return samples


class Workers:
    """A pool of one or two threads, which start with the first job."""

    def __init__(self):
        # On two cores a second worker would compete with the sampling thread.
        self._pool = ThreadPoolExecutor(1 if machine.cores() <= 2 else 2,
                                        thread_name_prefix="vqwave-stream")

    def start(self, function: Callable, *arguments) -> Callable[[], Any]:
        """Call a function in a thread. Returns a function that waits for the result. If no thread
        has started the call by then, the returned function makes the call itself.
        """
        future = self._pool.submit(function, *arguments)
        return lambda: function(*arguments) if future.cancel() else future.result()

    def close(self):
        """Wait for the jobs that have started, and drop the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)
