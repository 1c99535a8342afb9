"""The log-likelihood of real frames by a generator, each frame given the real frames before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vqwave.config import GeneratorConfig
from vqwave.data.codes import CodeTrack
from vqwave.data.windows import SERVERS, Span, window_above
from vqwave.io.labels import index_of
from vqwave.io.manifest import Track
from vqwave.play.engine import CodecEngine, GeneratorEngine

CHUNK = 2048
"""Frames that a generator scores in one call."""


def score(generator: GeneratorEngine, spans: Sequence[Span], previous: np.ndarray | None = None,
          sources: Sequence[Span] | None = None, labels: Sequence[int] | None = None,
          report: Callable[[float], None] = lambda share: None) -> np.ndarray:
    """Log-probabilities of frames: float32 [spans, n], all books of a frame added.

    Args:
        spans: n frames each, which also give the conditions.
        previous: int32 [spans, books], the frames before the first; None: the start token.
        sources: spans that give the level above instead.
        labels: the index of a label for each span, instead of its own.
        report: called with the share that is complete.
    """
    config, count = generator.config, spans[0].frames
    chunk = CHUNK // (config.ratio or 1) * (config.ratio or 1)
    if previous is None:
        previous = np.full((len(spans), config.books), config.start_token, np.int32)
    state, nats = generator.initial_state(len(spans)), []
    for i in range(0, count, chunk):
        parts, others = ([replace(span, start=span.start + i, frames=min(chunk, count - i))
                          for span in side]
                         for side in (spans, sources or spans))
        frames = read_spans(parts, config.books)
        context = None
        if config.conditions:
            inputs = {c.input: np.stack([SERVERS[c.kind](c, config, [part])
                                         for part in (others if c is config.source else parts)])
                      for c in config.conditions}
            if labels is not None:
                inputs[config.labels.input][..., 0] = np.reshape(labels, (-1, 1, 1))
            context = generator.context(inputs)
            context = np.broadcast_to(context, (*frames.shape[:2], context.shape[2]))
        draws = np.zeros(frames.shape, np.float32)
        _, log_probs, state = generator.sample(context, draws, previous, state,
                                            config.sampling.unguided, forced=frames)
        previous = frames[:, -1]
        nats.append(log_probs.sum(axis=-1))
        report(i / count)
    return np.concatenate(nats, 1)


def swap_labels(spans: Sequence[Span], config: GeneratorConfig) -> list[int]:
    """For each span the index of the next label of the vocabulary; for a span without label that
    of "none".
    """
    labels = config.labels
    return [i if i == labels.none else (i + 1) % labels.choices
            for i in (index_of(span.track.track, labels) for span in spans)]


def encode_track(audio: np.ndarray, codec: CodecEngine, above: CodecEngine | None,
                 track: Track, start: int) -> CodeTrack:
    """The codes of a part of a track, float32 [samples] from its sample `start` on, at a level and
    at the level above. above: the codec of the latter; None at the top.
    """
    codes = codec.encode(audio[None])[0]
    if above is None:
        return CodeTrack(codes, len(codes), track=track, start=start)
    source = above.encode(audio[None])[0]
    return CodeTrack(codes, len(codes), source, len(source), track, start=start)


def read_spans(spans: Sequence[Span], books: int) -> np.ndarray:
    """The frames of spans of one length: int32 [spans, n, books]."""
    return np.stack([span.read(books) for span in spans])


def pad_sources(spans: Sequence[Span], config: GeneratorConfig) -> list[Span]:
    """The spans with the pad token for every frame above."""
    return [replace(span, track=span.track._replace(
        above=np.full_like(span.track.above, config.pad_token))) for span in spans]


def swap_sources(spans: Sequence[Span], config: GeneratorConfig) -> list[Span]:
    """The span of another track for each span. A single track is paired with itself, its frames
    above rotated by half of their length.
    """
    if len(spans) > 1:
        return [spans[-1], *spans[:-1]]
    above = window_above(config.source, config, spans)
    above = np.roll(above, len(above) // 2, 0)
    # Its first frame is the first of the halo.
    track = spans[0].track._replace(above=above, frames_above=len(above))
    return [replace(spans[0], track=track, start=config.halo * config.ratio)]
