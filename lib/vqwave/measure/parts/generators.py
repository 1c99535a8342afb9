"""Bits a frame of real music: of each generator, without its context, and of the unigram."""

from __future__ import annotations

import math

import numpy as np

from ... import metrics, weights
from ...errors import UserError
from ...play import engine
from ..benchmark import Target
from .part import Part, side_by_side

_CHUNK = 2048
"""Frames that a generator is asked about in one call."""


class Generators(Part):
    """A row a level: {"generator", "level", "unigram", "bits", "padded", …}, bits a frame of the
    test tracks.

    padded: all source codes replaced by the token for "nothing there"; foreign: by those of other
    test music; both ask a model that was trained with a context. context_free: a model of its own,
    trained without one.
    """

    name = "generators"
    fresh = True

    def measure(self, evaluation):
        rows, plan, music = [], evaluation.plan, evaluation.music
        for level, name in music.chain.generators.items():
            found = music.weight_set(name)
            source = found.config.source_level
            key = {"figure": "bits", "by": found.checksum[:16], "engine": music.engine,
                   "codecs": evaluation.codec_key(level, *[source] * bool(source)),
                   "test": evaluation.corpus(evaluation.test), "train": evaluation.corpus(evaluation.train),
                   "seconds": plan.bits_seconds, "warm_up": plan.warm_up}
            row = evaluation.figure(key, lambda found=found: measure_bits(evaluation, found), name)
            free = evaluation.context_free
            if free and source and weights.tags(free, name):
                other = weights.find(free, name)
                if other.config.conditions:
                    raise UserError(f"{other.summary}: has a context (it reads level {other.config.source_level}); "
                                    "one trained without is what --context-free is for")
                row["context_free"] = evaluation.figure(
                    key | {"by": other.checksum[:16]}, lambda other=other: measure_bits(evaluation, other),
                    f"{name} without context")["bits"]
            rows.append(row)
        return rows

    def figures(self, chain):
        def a_second(level):
            def measure(results):
                return next((row["bits"] * chain.sample_rate / level for row in results.get("generators") or ()
                             if row["level"] == level), None)
            return measure

        return (
            *(Target(f"bits a second to predict, {level}x", "≤", None, None, "", a_second(level))
              for level in chain.generators),
            Target("bits under the unigram, worst level", "≥", None, None, "", _least_gain("unigram")),
            # A model that was taught to rely on its context is worse without it than one that never
            # had any: no bound fits.
            Target("bits that the context is worth, asked without it, worst level", "≥", None, None, "",
                   _least_gain("padded")),
            Target("bits that the context is worth, against one trained without, worst level", "≥", None, None, "",
                   _least_gain("context_free")),
        )

    def write(self, page, sides, evaluation):
        plan, rate = evaluation.plan, evaluation.rate
        own = any("context_free" in row for found in sides.values() for row in found["generators"])
        page.heading("Generators")
        page.add(f"Bits a frame of {plan.bits_seconds:g} s from the middle of each track, each frame given the real "
                 f"ones before it (the first {plan.warm_up:g} s are heard, not counted). At most: coded without "
                 "knowing anything. Unigram: coded by how often each code stands in training. A second: the model's "
                 "bits for a second of music. Without context: asked with every source code replaced by the token "
                 "for nothing (padded) or by another track's (foreign), which overstates what it is worth, since the "
                 "model was taught to rely on it" + ("; own model: one that was trained without." if own else "."))
        page.tables(side_by_side([_table(found["generators"], own, rate) for found in sides.values()]))


def _table(rows, own, rate):
    keys = ("padded", "foreign", *["context_free"] * own)
    return [("generator", "at most", "unigram", "model", "a second", "padded", "foreign", *["own model"] * own),
            *((row["generator"], f"{row['most']:g}", f"{row['unigram']:.2f}", f"{row['bits']:.2f}",
               f"{row['bits'] * rate / row['level']:.0f}",
               *(f"{row[key]:.2f}" if key in row else "" for key in keys)) for row in rows)]


def _least_gain(key):
    """The least that the model is better by, in bits, over the levels that have `key`."""

    def measure(results):
        rows = [row for row in results.get("generators") or () if row.get(key) is not None]
        return (min(row[key] - row["bits"] for row in rows), [row["level"] for row in rows]) if rows else None

    return measure


def measure_bits(evaluation, found) -> dict:
    """The row of a generator; found: its weights."""
    from ...data.codes import count_codes, unigram_costs

    config, level = found.config, found.config.level
    codes, source, warm = read_middles(evaluation, config)
    made = {"generator": config.name, "level": level, "most": config.books * math.log2(config.num_codes)}
    costs = unigram_costs(count_codes((c for _, _, c in evaluation.codes(level, evaluation.train)), config.num_codes,
                                      config.books))
    asked = codes[:, warm:].reshape(-1, config.books)
    made["unigram"] = float(sum(costs[book][asked[:, book]].mean() for book in range(config.books)))
    generator = engine.load_generator(found, evaluation.music.engine)
    variants = {"bits": source}
    if source is not None:
        variants["padded"] = np.full_like(source, config.pad_token)
        variants["foreign"] = np.roll(source, 1, 0) if len(source) > 1 else np.roll(source, source.shape[1] // 2, 1)
    for i, (name, given) in enumerate(variants.items()):
        def report(share, name=name, i=i):
            evaluation.progress(evaluation.part, f"{config.name}, {name}", (i + share) / 3)

        made[name] = metrics.bits(score(generator, codes, given, report=report)[:, warm:])
    return made | {"frames": len(asked)}


def read_middles(evaluation, config) -> tuple[np.ndarray, np.ndarray | None, int]:
    """The codes of the middle of each test track, all as long as the shortest track allows.

    Codes and source are those of the whole track: what encoders and context see to either side is
    there.

    Returns:
        codes int [tracks, n, books]; source int [tracks, n / ratio + 2·halo, books above], or None;
        how many frames at first are not to be counted.
    """
    plan, rate = evaluation.plan, evaluation.rate
    top, ratio = evaluation.music.chain.top, config.ratio or 1
    warm = evaluation.cut(round(plan.warm_up * rate))
    each = evaluation.cut(min(warm + round(plan.bits_seconds * rate), *(t.samples for t in evaluation.test)))
    if each <= warm:
        raise UserError(f"the test tracks are shorter than {plan.warm_up:g} s: too short to ask about")
    codec = evaluation.music.codec(config.level)
    above = evaluation.music.codec(config.source_level) if config.source_level else None
    reach = codec.encode_halo * config.level
    if above is not None:
        reach = max(reach, (above.encode_halo + config.halo) * config.source_level)
    codes, sources = [], []
    for track in evaluation.test:
        start = evaluation.cut((track.samples - each) // 2)
        margin = min(start, -(-reach // top) * top)
        x = evaluation.samples(track, start - margin, min(margin + each + margin, track.samples - start + margin))[None]
        first, count = margin // config.level, each // config.level
        codes.append(codec.encode(x)[0, first : first + count])
        if above is not None:
            sources.append(cut_source(above.encode(x)[0], margin // config.source_level, count // ratio, config))
    return np.stack(codes), np.stack(sources) if sources else None, warm // config.level


def cut_source(frames, first: int, count: int, config) -> np.ndarray:
    """`count` source frames from number `first` on, with the halo that the context sees: int [count
    + 2·halo, books], the pad token where there is no track.
    """
    halo = config.halo
    row = frames[max(0, first - halo) : first + count + halo]
    left = max(0, halo - first)
    return np.pad(row, ((left, count + 2 * halo - left - len(row)), (0, 0)), constant_values=config.pad_token)


def score(generator, codes, source, previous=None, report=lambda share: None) -> np.ndarray:
    """Log-probabilities of frames, each given the real ones before it: float32 [tracks, n], all
    books of a frame added.

    Args:
        generator: what `engine.load_generator` returns.
        codes: int [tracks, n, books]; source: int [tracks, n / ratio + 2·halo, books above], or
            None.
        previous: the frames before the first, int [tracks, books]; None: the start token.
        report: called with the share that is done.
    """
    config = generator.config
    ratio = config.ratio or 1
    chunk = _CHUNK // ratio * ratio
    if previous is None:
        previous = np.full((len(codes), config.books), config.start_token, np.int32)
    state, nats = generator.initial_state(len(codes)), []
    for i in range(0, codes.shape[1], chunk):
        part = codes[:, i : i + chunk]
        context = None
        if config.conditions:
            first = i // ratio
            above = source[:, first : first + part.shape[1] // ratio + 2 * config.halo]
            context = generator.context({"source": above})
        _, chosen, state = generator.sample(context, np.zeros(part.shape, np.float32), previous, state, forced=part)
        previous = part[:, -1]
        nats.append(chosen.sum(axis=-1))
        report(i / codes.shape[1])
    return np.concatenate(nats, 1)
