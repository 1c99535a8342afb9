"""One level of a chain at work: a generator that samples its codes block by block, and the buffer
of the codes that other levels still read.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..config import Sampling
from ..errors import UserError
from . import pitches
from .conditions import FEEDS
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


class CodeBuffer:
    """Some positions of one level's codes: int32 [batch, stop − first, books]; `trim` forgets the
    oldest.

    `end` is the position after the piece's last code: `pad` stands from there on, as it does left
    of the first. None where the piece goes on for ever.
    """

    log_probs: np.ndarray | None = None

    def __init__(self, level: int, block: int, codes: np.ndarray, end: int | None):
        self.level, self.per_block = level, block // level
        self.codes, self.first, self.end = codes, 0, end

    @property
    def stop(self) -> int:
        """The position after the last code that is there."""
        return self.first + self.codes.shape[1]

    def window(self, begin: int, end: int, pad: int) -> np.ndarray:
        """Codes at positions begin … end − 1; `pad` stands outside the piece. int32 [batch, end −
        begin, books].
        """
        return self._cut(self.codes, begin, end, pad)

    def _cut(self, values, begin, end, pad):
        if self.end is not None:
            values = values[:, : max(self.end - self.first, 0)]
        return cut_frames(values, begin - self.first, end - self.first, pad)

    def trim(self, position: int):
        """Forget the codes before `position`."""
        if position > self.first:
            self.codes = self.codes[:, position - self.first :].copy()
            self.first = position


class GivenCodes(CodeBuffer):
    """Codes that are given, not sampled: what a variation keeps. Stands where a chain has the
    `Level` above.
    """

    def __init__(self, level: int, block: int, codes: np.ndarray, batch: int):
        """codes: int32 [N, books], the whole piece; every piece of a batch has them."""
        super().__init__(level, block, np.broadcast_to(codes, (batch, *codes.shape)), len(codes))

    def fill(self, stop: int):
        """All of them are there."""

    def state(self) -> dict:
        return {"kept_first": self.first, "kept_codes": self.codes[:1].copy()}

    def restore(self, state):
        self.first = int(state["kept_first"])
        codes = np.array(state["kept_codes"], np.int32)
        self.codes = np.broadcast_to(codes, (len(self.codes), *codes.shape[1:]))


class Level(CodeBuffer):
    """One generator at work: what it sampled lately, and where it stands.

    prompt: codes that the piece begins with, int32 [n, books], or None: they are given to the
    generator instead of drawn, so that it has heard them when it goes on. log_probs: keep the
    natural log of the probability each code was drawn with. chosen: the caller's values for
    conditions, by their inputs' names. least_source: see `LEAST_SOURCE`.
    """

    def __init__(self, generator, source: Level | GivenCodes | None, seed: int,
                 batch: int, block: int, sampling: Sampling,
                 chunk: int | None, prompt: np.ndarray | None = None, log_probs: bool = False,
                 chosen: Mapping | None = None, least_source: int = LEAST_SOURCE):
        self.generator, self.config = generator, generator.config
        self.source, self.seed = source, seed
        ended = source is not None and source.end is not None
        self.books = self.config.books
        super().__init__(self.config.level, block, np.empty((batch, 0, self.books), np.int32),
                         source.end * self.config.ratio if ended else None)
        self.sampling, self.batch, self.chosen = sampling, batch, chosen or {}
        self.labels: Mixture | None = None
        if known := self.config.labels:
            shares = read_labels(self.chosen.get(known.input), known, batch)
            self.labels = Mixture.constant(shares)
        self.chunk = chunk or self.per_block
        self.prompt = np.empty((0, self.books), np.int32) if prompt is None else prompt
        self.log_probs = np.empty((batch, 0, self.books), np.float32) if log_probs else None
        # Of the codes handed out: how many were drawn, and their negative log-likelihood.
        self.drawn, self.nats = 0, np.zeros(batch)
        self.previous = np.full((batch, self.books), self.config.start_token, np.int32)
        self.memory = [np.asarray(x) for x in generator.initial_state(self.rows)]
        # What it repeats while it is frozen, [batch, n, books], from which position on, and the
        # share of that that each round draws anew.
        self.loop, self.loop_at, self.mutate = self.codes[:, :0], 0, 0.0
        self.bias: np.ndarray | None = None  # on the logits, [books, codes]
        self.home: pitches.Home | None = None
        self.stay = 0.0
        # Blocks that share one run of the context model.
        self.group = max(1, -(-least_source // source.per_block)) if source else 1
        self.cached: tuple[tuple | None, np.ndarray | None] = (None, None)

    @property
    def guided(self) -> bool:
        """Whether it hears each piece with its labels and without."""
        return self.config.is_guided(self.sampling)

    @property
    def rows(self) -> int:
        """Of its context and its memory: one for each piece; guided, another for each without
        labels.
        """
        return self.batch * (1 + self.guided)

    @property
    def blocks(self) -> int:
        """Blocks sampled."""
        return self.stop // self.per_block

    def fill(self, stop: int):
        """Sample on, block by block, until all codes before position `stop` are there, or the piece
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
        made_of = group, self.labels, self.guided
        if self.cached[0] != made_of:
            wide = self.group * self.per_block
            made = self.generator.context(self._inputs(group * wide, wide))
            self.cached = made_of, np.broadcast_to(made, (self.rows, wide, made.shape[2]))
        return self.cached[1][:, row * self.per_block : (row + 1) * self.per_block]

    def _inputs(self, start: int, count: int) -> dict[str, np.ndarray]:
        """What the conditions of these frames are told, by the inputs' names: int32 [rows, …]."""
        given = {c.input: FEEDS[type(c)](self, c, start, count) for c in self.config.conditions}
        if not self.guided:
            return given
        known = self.config.labels
        bare = given | {known.input: without(given[known.input], known)}
        return {name: np.concatenate([x, bare[name]]) for name, x in given.items()}

    def resample(self, sampling: Sampling):
        """Draw with these settings from here on. What hears a piece without its labels remembers
        at first what was heard with them.
        """
        self.sampling = sampling
        self.memory = [np.concatenate([x, x]) if self.rows > len(x) else x[: self.rows]
                       for x in self.memory]

    def relabel(self, shares: np.ndarray, seconds: float, sample_rate: int):
        """Pass into other labels from here on; shares: as `read_labels` makes them."""
        if self.labels:
            self.labels = self.labels.turn(shares, self.stop,
                                           round(seconds * sample_rate / self.level))

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """The positions of the level above that the context of the codes start … stop − 1 is made
        from.
        """
        return (start // self.config.ratio - self.config.halo, stop // self.config.ratio
                + self.config.halo)

    def sample(self, context):
        """Sample one block, or give it what the prompt or a frozen loop has of it."""
        start, batch = self.stop, len(self.previous)
        draws = self.draws(start, self.per_block)
        given = self.prompt[start : start + self.per_block]
        frozen = self.loop.shape[1]
        forced = None
        if len(given) or frozen:
            forced = np.full((batch, self.per_block, self.books), -1, np.int32)
        if frozen:
            place = (start - self.loop_at + np.arange(self.per_block)) % frozen
            forced[:] = self.loop[:, place]
            if self.mutate:
                forced[self._fresh(start) < self.mutate] = -1
        if len(given):
            forced[:, : len(given)] = given
        home = self.home.bias(start, self.stay) if self.home else None
        biases = [bias for bias in (self.bias, home) if bias is not None]
        more = {"bias": sum(biases)} if biases else {}
        codes, log_probs = [self.codes], [self.log_probs]
        for i in range(0, self.per_block, self.chunk):
            part = slice(i, i + self.chunk)
            made, chosen, self.memory = self.generator.sample(
                None if context is None else context[:, part], draws[:, part],
                self.previous, self.memory,
                self.sampling, None if forced is None else forced[:, part],
                self.log_probs is not None, **more,
            )
            self.previous = made[:, -1]
            codes.append(made)
            log_probs.append(chosen)
        self.codes = np.concatenate(codes, axis=1)
        if self.log_probs is not None:
            self.log_probs = np.concatenate(log_probs, axis=1)
        if frozen:
            self.loop[:, place] = self.codes[:, -self.per_block :]

    def freeze(self, frames: int):
        """Repeat the last `frames` that were sampled from here on; 0: go on freely."""
        self.loop = self.codes[:, self.codes.shape[1] - min(frames, self.codes.shape[1]) :].copy()
        self.loop_at = self.stop

    def _fresh(self, start: int) -> np.ndarray:
        """Random numbers that say which frames of a frozen block are drawn anew: float32 [batch,
        per_block].
        """
        return np.stack([uniforms(self.seed, b, self.level, start, self.per_block, self.books)
                         for b in range(len(self.previous))])

    def draws(self, start: int, count: int) -> np.ndarray:
        """The random numbers of the next steps: float32 [batch, count, books]."""
        return np.stack([self._row(b, start, count) for b in range(len(self.previous))])

    def _row(self, stream: int, start: int, count: int) -> np.ndarray:
        """The random numbers of one piece: float32 [count, books]."""
        books = range(self.books)
        return np.stack([uniforms(self.seed, stream, self.level, start, count, book)
                         for book in books], axis=-1)

    def log_probs_between(self, begin: int, end: int) -> np.ndarray:
        """The log-probabilities of the codes begin … end − 1: float32 [batch, end − begin, books].
        """
        return self._cut(self.log_probs, begin, end, np.nan)

    def trim(self, position: int):
        if self.log_probs is not None and position > self.first:
            self.log_probs = self.log_probs[:, position - self.first :].copy()
        super().trim(position)

    def state(self) -> dict:
        name = self.config.name
        kept = {f"{name}_state_{i}": x.copy() for i, x in enumerate(self.memory)}
        if self.log_probs is not None:
            kept |= {f"{name}_log_probs": self.log_probs.copy(), f"{name}_drawn": self.drawn,
                     f"{name}_nats": self.nats.copy()}
        # Once they have all been given, the prompt's codes are no longer needed.
        prompt = self.prompt if self.stop < len(self.prompt) else self.prompt[:0]
        kept |= {f"{name}_loop": self.loop.copy(), f"{name}_loop_at": self.loop_at,
                 f"{name}_mutate": self.mutate}
        if self.labels:
            kept |= {f"{name}_label": np.stack([self.labels.before, self.labels.after]),
                     f"{name}_label_at": np.array([self.labels.begin, self.labels.end])}
        return kept | {f"{name}_first": self.first, f"{name}_codes": self.codes.copy(),
                       f"{name}_previous": self.previous.copy(), f"{name}_prompt": prompt}

    def restore(self, state):
        name = self.config.name
        self.first = int(state[f"{name}_first"])
        self.codes = np.array(state[f"{name}_codes"], np.int32)
        self.previous = np.array(state[f"{name}_previous"], np.int32)
        self.prompt = np.array(state[f"{name}_prompt"], np.int32)
        self.loop = np.array(state[f"{name}_loop"], np.int32)
        self.loop_at = int(state[f"{name}_loop_at"])
        self.mutate = float(state[f"{name}_mutate"])
        if self.labels:
            self.labels = Mixture(*np.array(state[f"{name}_label"], np.float64),
                                  *map(int, state[f"{name}_label_at"]))
        if self.log_probs is not None:
            self.log_probs = np.array(state[f"{name}_log_probs"], np.float32)
            self.drawn = int(state[f"{name}_drawn"])
            self.nats = np.array(state[f"{name}_nats"], np.float64)
        fresh = self.memory
        self.memory = [np.array(state[f"{name}_state_{i}"], np.float32) for i in range(len(fresh))]
        for was, now in zip(fresh, self.memory, strict=True):
            if was.shape != now.shape:
                raise UserError(
                    f"the saved state does not fit {self.config.name}: state {now.shape}, expected "
                    f"{was.shape}"
                )
