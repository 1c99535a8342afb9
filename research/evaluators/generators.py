"""Bits a frame of real music: with and without context, label and past, and of the unigram."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from vqwave import stderr
from vqwave.config import GeneratorConfig
from vqwave.data.codes import CodeTrack, count_codes, unigram_costs
from vqwave.data.windows import SERVERS, Span
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.io.labels import index_of
from vqwave.io.manifest import Track
from vqwave.play import engine
from vqwave.play.engine import CodecEngine, GeneratorEngine

from ..corpus import cached

PLACES, COUNTED_SECONDS = 16, 1.0
"""For the use of the past: places of each track, and seconds that are counted at each."""
BATCH = 24
"""Places that are scored in one call."""
CHUNK = 2048
"""Frames that a generator scores in one call."""
BITS = {"bits": "", "unigram": " of the unigram", "unlabelled": " without the label",
        "mislabelled": " with another label"}
GAINS = {"unigram": "bits under the unigram",
         "context_free": "bits that the context is worth, against one trained without",
         "unlabelled": "bits that the label is worth, against none",
         "mislabelled": "bits that the label is worth, against another"}


def run(corpus) -> Iterable[tuple[str, float]]:
    """Bits a frame of the middle of each track, given the real frames before. What the context is
    worth shows a model that was trained without, `context_free`.
    """
    music, rows = corpus.music, []
    for level, name in music.chain.generators.items():
        weight_set = music.weight_set(name)
        row = measure_bits(corpus, weight_set)
        if corpus.context_free and weight_set.config.source_level and weights.tags(
                corpus.context_free, name):
            other = weights.find(corpus.context_free, name)
            if other.config.source:
                raise UserError(f"{other.summary}: reads level {other.config.source_level}; "
                                f"--context-free takes generators without a context")
            row["context_free"] = measure_bits(corpus, other)["bits"]
        rows.append(row)
        yield f"bits a second to predict, {level}x", row["bits"] * corpus.rate / level
        yield from ((f"bits a frame{what}, {level}x", row[key]) for key, what in BITS.items()
                    if key in row)
    for key, title in GAINS.items():
        if gains := [row[key] - row["bits"] for row in rows if key in row]:
            yield f"{title}, worst level", min(gains)
    yield from use_of_past(corpus)


def use_of_past(corpus) -> Iterable[tuple[str, float]]:
    """The use of the past by the generator of the top level."""
    longest, chain = max(t.seconds for t in corpus.tracks) - COUNTED_SECONDS, corpus.music.chain
    pasts = [past for past in corpus.plan.pasts if past <= longest]
    if len(pasts) < 2:
        return
    bits = measure_pasts(corpus, corpus.music.weight_set(chain.generator(chain.top)), pasts)
    yield from ((f"bits a frame at the top, with {past} s of past", value)
                for past, value in bits.items())
    first, *_, last = bits
    yield (f"bits a frame at the top, with {last} s of past against {first} s",
           100 * (bits[last] / bits[first] - 1))


@cached("codecs", "tracks", "train", "plan")
def measure_bits(corpus, weight_set) -> dict:
    """{"bits", "unigram", …}: bits a frame, each variant under its name."""
    stderr.import_keras()
    config = weight_set.config
    spans, warm_up = cut_middles(corpus, config)
    costs = unigram_costs(count_codes(
        (frames for _, _, frames in corpus.codes(config.level, corpus.train)),
        config.num_codes, config.books))
    frames = read_spans(spans, config.books)[:, warm_up:].reshape(-1, config.books)
    bits = {"unigram": float(sum(costs[book][frames[:, book]].mean()
                                 for book in range(config.books)))}
    variants: dict[str, dict] = {"bits": {}}
    if config.labels:
        variants |= {"unlabelled": {"labels": [config.labels.none] * len(spans)},
                     "mislabelled": {"labels": swap_labels(spans, config)}}
    generator = engine.GeneratorEngine(weight_set, corpus.music.engine)
    for name, inputs in variants.items():
        nats = score(generator, spans, **inputs, report=lambda share, name=name:
                             corpus.progress(f"{config.name}, {name}", share))
        bits[name] = float(-nats[:, warm_up:].mean(dtype=float) / np.log(2))
    return bits


def cut_middles(corpus, config) -> tuple[list, int]:
    """A `Span` of the middle of each track, all equally long, and its uncounted frames."""
    plan, top = corpus.plan, corpus.music.chain.top
    warm_up = corpus.cut(round(plan.warm_up * corpus.rate))
    count = corpus.cut(min(warm_up + round(plan.bits_seconds * corpus.rate),
                           *(t.samples for t in corpus.tracks)))
    if count <= warm_up:
        raise UserError(f"the {corpus.side} tracks are shorter than {plan.warm_up:g} s: too short "
                        f"to measure bits a frame")
    codec = corpus.music.codec(config.level)
    above = corpus.music.codec(config.source_level) if config.source_level else None
    # Encoders and the context see real music on either side.
    halo = codec.encode_halo * config.level
    if above is not None:
        halo = max(halo, (above.encode_halo + config.halo) * config.source_level)
    spans = []
    for track in corpus.tracks:
        start = corpus.cut((track.samples - count) // 2)
        margin = min(start, -(-halo // top) * top)
        x = corpus.samples(track, start - margin,
                           min(margin + count + margin, track.samples - start + margin))
        encoded = encode_track(x, codec, above, track, start - margin)
        spans.append(Span(encoded, margin // config.level, count // config.level))
    return spans, warm_up // config.level


@cached("codecs", "tracks")
def measure_pasts(corpus, weight_set, pasts) -> dict[str, float]:
    """{seconds of past: bits a frame} of the same frames of the top level."""
    stderr.import_keras()
    config, codec = weight_set.config, corpus.music.codec(weight_set.config.level)
    generator = engine.GeneratorEngine(weight_set, corpus.music.engine)

    def frames(seconds):
        return max(1, round(seconds * corpus.rate / config.level))

    counted, most = frames(COUNTED_SECONDS), frames(max(pasts))
    places = []
    for track in corpus.tracks:
        encoded = encode_track(corpus.samples(track), codec, None, track, 0)
        if (last := encoded.frames - counted) >= most:
            starts = np.unique(np.linspace(most, last, PLACES).astype(int))
            places += [Span(encoded, int(start), counted) for start in starts]
    bits = {}
    for past in pasts:
        length, nats = frames(past), []
        for first in range(0, len(places), BATCH):
            spans = [replace(span, start=span.start - length, frames=length + counted)
                     for span in places[first : first + BATCH]]
            start_frame = np.full(config.books, config.start_token, np.int32)
            before = np.stack([span.track.path[span.start - 1] if span.start else start_frame
                               for span in spans])
            nats.append(score(generator, spans, before)[:, length:])
        bits[f"{past:g}"] = float(-np.concatenate(nats).mean(dtype=float) / np.log(2))
    return bits


def score(generator: GeneratorEngine, spans: Sequence[Span], previous: np.ndarray | None = None,
          labels: Sequence[int] | None = None,
          report: Callable[[float], None] = lambda share: None) -> np.ndarray:
    """Log-probabilities of frames: float32 [spans, n], all books of a frame added.

    Args:
        spans: n frames each, which also give the conditions.
        previous: int32 [spans, books], the frames before the first; None: the start token.
        labels: the index of a label for each span, instead of its own.
        report: called with the share that is complete.
    """
    config, count = generator.config, spans[0].frames
    chunk = CHUNK // (config.ratio or 1) * (config.ratio or 1)
    if previous is None:
        previous = np.full((len(spans), config.books), config.start_token, np.int32)
    state, nats = generator.initial_state(len(spans)), []
    for i in range(0, count, chunk):
        parts = [replace(span, start=span.start + i, frames=min(chunk, count - i))
                 for span in spans]
        frames = read_spans(parts, config.books)
        context = None
        if config.conditions:
            inputs = {c.input: np.stack([SERVERS[c.kind](c, config, [part]) for part in parts])
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
    """The index of the next label of the vocabulary for each span, or of "none"."""
    labels = config.labels
    return [i if i == labels.none else (i + 1) % labels.none
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
