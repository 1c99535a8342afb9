"""Bits a frame of real music: with and without context, label and past, and of the unigram."""

from collections.abc import Iterable, Sequence

import numpy as np

from vqwave.data.codes import CodeTrack, unigram_bits
from vqwave.data.windows import Span, Window
from vqwave.errors import UserError
from vqwave.io.labels import index_of
from vqwave.levels import SCORE
from vqwave.play.engine import GeneratorEngine

from ..corpus import cached

PLACES, COUNTED_SECONDS = 16, 1.0
"""For the use of the past: places of each track, and seconds that are counted at each."""
BATCH, CHUNK = 24, 2048  # places, and frames of each, that a generator scores in one call
BITS = {"bits": "", "unigram": " of the unigram", "unlabelled": " without the label",
        "mislabelled": " with another label"}
GAINS = {"unigram": "bits under the unigram",
         "unlabelled": "bits that the label is worth, against none",
         "mislabelled": "bits that the label is worth, against another"}


def run(corpus) -> Iterable[tuple[str, float]]:
    """Bits a frame of the middle of each track, given the real frames before. Of a performer
    nothing.
    """
    music, rows = corpus.music, []
    if music.weight_set(music.chain.generator(music.chain.top)).config.core.performs:
        return  # a performer predicts nothing
    for level, name in music.chain.generators.items():
        if level == SCORE or (weight_set := corpus.models.get(name)) is None:
            continue
        rows.append(row := measure_bits(corpus, weight_set))
        yield f"bits a second to predict, {level}x", row["bits"] * corpus.rate / level
        yield from ((f"bits a frame{what}, {level}x", row[key]) for key, what in BITS.items()
                    if key in row)
    for key, title in GAINS.items():
        if gains := [row[key] - row["bits"] for row in rows if key in row]:
            yield f"{title}, worst level", min(gains)
    bits = measure_pasts(corpus, music.weight_set(music.chain.generator(music.chain.top)))
    if len(bits) > 1:
        yield from ((f"bits a frame at the top, with {past} s of past", value)
                    for past, value in bits.items())
        first, *_, last = bits
        yield (f"bits a frame at the top, with {last} s of past against {first} s",
               100 * (bits[last] / bits[first] - 1))


@cached("codecs", "tracks", "train", "plan")
def measure_bits(corpus, weight_set) -> dict:
    """{"bits", "unigram", …}: bits a frame, each variant under its name."""
    config = weight_set.config
    spans, warm_up = cut_middles(corpus, config)
    train = [CodeTrack(codes, len(codes)) for _, codes in corpus.codes(config.level, corpus.train)]
    counted = [x.track._replace(first=x.start + warm_up, frames=x.frames - warm_up) for x in spans]
    bits = {"unigram": unigram_bits(train, counted, config.num_codes, config.books)}
    variants: dict[str, list[int] | None] = {"bits": None}
    if config.labels:
        none = config.labels.unlabelled_index
        own = [index_of(x.track.track, config.labels) for x in spans]
        variants |= {"unlabelled": [none] * len(spans),
                     "mislabelled": [i if i == none else (i + 1) % none for i in own]}
    generator = GeneratorEngine(weight_set, corpus.music.engine)
    for name, labels in variants.items():
        corpus.progress(f"{config.name}, {name}", 0.0)
        nats = score(generator, spans, labels=labels)
        bits[name] = float(-nats[:, warm_up:].mean(dtype=float) / np.log(2))
    return bits


def cut_middles(corpus, config) -> tuple[list[Span], int]:
    """A `Span` of the middle of each track, all equally long, and its uncounted frames."""
    plan = corpus.plan
    warm_up = corpus.cut(round(plan.warm_up * corpus.rate))
    count = corpus.cut(min(warm_up + round(plan.bits_seconds * corpus.rate),
                           *(t.samples for t in corpus.tracks)))
    if count <= warm_up:
        raise UserError(f"a {corpus.side} track is shorter than {plan.warm_up:g} s")
    spans = [Span(coded, corpus.cut((coded.track.samples - count) // 2) // config.level,
                  count // config.level) for coded in coded_tracks(corpus, config)]
    return spans, warm_up // config.level


def coded_tracks(corpus, config) -> list[CodeTrack]:
    """The codes of the whole tracks at a generator's level, and at the level that it reads."""
    coded = [CodeTrack(frames, len(frames), track=track)
             for track, frames in corpus.codes(config.level, corpus.tracks)]
    if config.source_level:
        above = corpus.codes(config.source_level, corpus.tracks)
        coded = [track._replace(above=frames, frames_above=len(frames))
                 for track, (_, frames) in zip(coded, above, strict=True)]
    return coded


@cached("codecs", "tracks", "plan")
def measure_pasts(corpus, weight_set) -> dict[str, float]:
    """{seconds of past, where tracks have as much: bits a frame} of the same frames."""
    config, longest = weight_set.config, max(t.seconds for t in corpus.tracks) - COUNTED_SECONDS
    if not (pasts := [past for past in corpus.plan.pasts if past <= longest]):
        return {}
    counted, *lengths = (max(1, round(seconds * corpus.rate / config.level))
                         for seconds in (COUNTED_SECONDS, *pasts))
    spans = [Span(coded, int(start), counted) for coded in coded_tracks(corpus, config)
             if (last := coded.frames - counted) >= max(lengths)
             for start in np.unique(np.linspace(max(lengths), last, PLACES).astype(int))]
    bits = bits_after(GeneratorEngine(weight_set, corpus.music.engine), spans, lengths)
    return {f"{past:g}": value for past, value in zip(pasts, bits, strict=True)}


def bits_after(generator: GeneratorEngine, spans: Sequence[Span],
               lengths: Sequence[int]) -> list[float]:
    """Bits a frame of the same spans after each number of frames of past; NaN without spans."""
    bits = []
    for length in lengths:
        nats: list[float] = []
        for i in range(0, len(spans), BATCH):
            longer = [span._replace(start=span.start - length, frames=length + span.frames)
                      for span in spans[i : i + BATCH]]
            nats += score(generator, longer, own_past=True)[:, length:].ravel().tolist()
        bits.append(float(-np.mean(nats) / np.log(2)) if nats else np.nan)
    return bits


def score(generator: GeneratorEngine, spans: Sequence[Span], own_past: bool = False,
          labels: Sequence[int] | None = None) -> np.ndarray:
    """Log-probabilities of the frames of spans of n frames, under the spans' own conditions:
    float32 [spans, n], all books of a frame added. own_past: the first frame follows the frame
    before it, not the start token. labels: the index of a label for each span, instead of its own.
    """
    config, count = generator.config, spans[0].frames
    chunk = CHUNK // (config.ratio or 1) * (config.ratio or 1)
    previous = np.stack([x.track.codes[x.start - 1] if own_past and x.start
                         else np.full(config.books, config.start_token, np.int32) for x in spans])
    state, nats = generator.initial_state(len(spans)), []
    unguided = config.sampling.model_copy(update={"guidance": 1.0})
    for i in range(0, count, chunk):
        parts = [x._replace(start=x.start + i, frames=min(chunk, count - i)) for x in spans]
        windows = [Window(config, [part]) for part in parts]
        frames = np.concatenate([x.frames(0, parts[0].frames, 0) for x in windows])
        context = None
        if config.conditions:
            inputs = {c.input: np.concatenate([c.rows(x, 0, frames.shape[1]) for x in windows])
                      for c in config.conditions}
            if labels is not None:
                inputs[config.labels.input][..., 0] = np.reshape(labels, (-1, 1, 1))
            context = generator.context(inputs)
            context = np.broadcast_to(context, (*frames.shape[:2], context.shape[2]))
        draws = np.zeros(frames.shape, np.float32)
        _, log_probs, state = generator.sample(context, draws, previous, state, unguided,
                                               forced=frames)
        previous = frames[:, -1]
        nats.append(log_probs.sum(axis=-1))
    return np.concatenate(nats, 1)
