"""How likely a generator holds real frames to be, each given the real ones before it.

Imports Keras, for what training serves: the rest of the room imports this where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..config import GeneratorConfig
from ..data.codes import CodeTrack
from ..data.windows import SERVERS, Span, window_above
from ..io.labels import index_of
from ..io.manifest import Track
from ..play.engine import CodecEngine, GeneratorEngine

CHUNK = 2048
"""Frames that a generator is asked about in one call."""


def score(generator: GeneratorEngine, spans: Sequence[Span], previous: np.ndarray | None = None,
          sources: Sequence[Span] | None = None, labels: Sequence[int] | None = None,
          report: Callable[[float], None] = lambda share: None) -> np.ndarray:
    """Log-probabilities of frames: float32 [spans, n], all books of a frame added.

    Args:
        spans: n frames each; the generator's conditions are told what is true of them, as in
            training.
        previous: int32 [spans, books], the frames before the first; None: the start token.
        sources: spans whose level above is read in place of their own.
        labels: the number of the label that each span is told in place of its own.
        report: called with the share that is done.
    """
    config, count = generator.config, spans[0].frames
    chunk = CHUNK // (config.ratio or 1) * (config.ratio or 1)
    if previous is None:
        previous = np.full((len(spans), config.books), config.start_token, np.int32)
    state, nats = generator.initial_state(len(spans)), []
    for i in range(0, count, chunk):
        parts, others = ([replace(span, start=span.start + i, frames=min(chunk, count - i))
                          for span in some]
                         for some in (spans, sources or spans))
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
        _, chosen, state = generator.sample(context, draws, previous, state,
                                            config.sampling.unguided, forced=frames)
        previous = frames[:, -1]
        nats.append(chosen.sum(axis=-1))
        report(i / count)
    return np.concatenate(nats, 1)


def labels_of(spans: Sequence[Span], config: GeneratorConfig) -> list[int]:
    """The number of each span's label."""
    return [index_of(span.track.track, config.labels) for span in spans]


def swap_labels(spans: Sequence[Span], config: GeneratorConfig) -> list[int]:
    """For each span the number of another label than its own, the vocabulary's next; its own where
    the vocabulary has none for it.
    """
    known = config.labels
    return [i if i == known.none else (i + 1) % known.choices for i in labels_of(spans, config)]


def encode_track(audio: np.ndarray, codec: CodecEngine, above: CodecEngine | None,
                 track: Track, start: int
                 ) -> CodeTrack:
    """A part of a track, float32 [samples] from its sample `start` on, as the codes of a level and
    of the one above; above: the codec of that, None at the top.
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
    def hide(track):
        return track._replace(above=np.full_like(track.above, config.pad_token))

    return [replace(span, track=hide(span.track)) for span in spans]


def swap_sources(spans: Sequence[Span], config: GeneratorConfig) -> list[Span]:
    """For each span that of another track; where there is but one track, its own frames above from
    the middle on and then from their beginning.
    """
    if len(spans) > 1:
        return [spans[-1], *spans[:-1]]
    above = window_above(config.source, config, spans)
    above = np.roll(above, len(above) // 2, 0)
    # Its first frame is the first of the halo.
    track = spans[0].track._replace(above=above, frames_above=len(above))
    return [replace(spans[0], track=track, start=config.halo * config.ratio)]
