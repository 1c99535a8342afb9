"""Bits a frame of real music: of each generator, without its context, and of the unigram."""

from __future__ import annotations

import math

import numpy as np

from ... import quiet
from ...dsp import metrics
from ...errors import UserError
from ...io import weights
from ...play import engine
from ..benchmark import Target
from .part import Part, side_by_side


class Generators(Part):
    """A row a level: {"generator", "level", "unigram", "bits", "padded", …}, bits a frame of the
    test tracks.

    padded: all source codes replaced by the token for "nothing there"; foreign: by those of other
    test music; both ask a model that was trained with a context. context_free: a model of its own,
    trained without one. unlabelled, mislabelled: of generators that were trained with labels, asked
    without the track's label, and with another; by_label: {label: the same bits of its own tracks,
    and how many "tracks" these are}.
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
                   "test": evaluation.corpus(evaluation.test),
                   "train": evaluation.corpus(evaluation.train),
                   "seconds": plan.bits_seconds, "warm_up": plan.warm_up}
            if found.config.labels:
                key["by_label"] = True
            row = evaluation.figure(key, lambda found=found: measure_bits(evaluation, found), name)
            free = evaluation.context_free
            if free and source and weights.tags(free, name):
                other = weights.find(free, name)
                if other.config.source:
                    raise UserError(f"{other.summary}: has a context (it reads level "
                                    f"{other.config.source_level}); one trained without is what "
                                    f"--context-free is for")
                row["context_free"] = evaluation.figure(
                    key | {"by": other.checksum[:16]},
                    lambda other=other: measure_bits(evaluation, other),
                    f"{name} without context")["bits"]
            rows.append(row)
        return rows

    def figures(self, chain):
        def a_second(level):
            def measure(results):
                return next((row["bits"] * chain.sample_rate / level
                             for row in results.get("generators") or ()
                             if row["level"] == level), None)
            return measure

        return (
            *(Target(f"bits a second to predict, {level}x", "≤", None, None, "", a_second(level))
              for level in chain.generators),
            Target("bits under the unigram, worst "
                   "level", "≥", None, None, "", _least_gain("unigram")),
            # A model that was taught to rely on its context is worse without it than one that never
            # had any: no bound fits.
            Target("bits that the context is worth, asked without it, worst "
                   "level", "≥", None, None, "",
                   _least_gain("padded")),
            Target("bits that the context is worth, against one trained without, worst "
                   "level", "≥", None, None, "",
                   _least_gain("context_free")),
            Target("bits that the label is worth, against none, worst level", "≥", None, None, "",
                   _least_gain("unlabelled")),
            Target("bits that the label is worth, against another, worst level", "≥", None, None,
                   "", _least_gain("mislabelled")),
        )

    def write(self, page, sides, evaluation):
        plan, rate = evaluation.plan, evaluation.rate
        rows = [row for found in sides.values() for row in found["generators"]]
        own, labels = (any(key in row for row in rows) for key in ("context_free", "unlabelled"))
        page.heading("Generators")
        page.add(f"Bits a frame of {plan.bits_seconds:g} s from the middle of each track, each "
                 f"frame given the real ones before it (the first {plan.warm_up:g} s are heard, "
                 f"not counted). At most: coded without knowing anything. Unigram: coded by how "
                 f"often each code stands in training. A second: the model's bits for a second of "
                 f"music. Without context: asked with every source code replaced by the token for "
                 f"nothing (padded) or by another track's (foreign), which overstates what it is "
                 f"worth, since the model was taught to rely on it"
                 + ("; own model: one that was trained without." if own else ".")
                 + (" Without the label, and with another: told none, or the next of the labels, "
                    "in place of the track's." if labels else ""))
        page.tables(side_by_side([_table(found["generators"], own, labels, rate)
                                  for found in sides.values()]))
        if any("by_label" in row for row in rows):
            page.add("Of the tracks of each label alone:")
            page.tables(side_by_side([_by_label(found["generators"]) for found in sides.values()],
                                     2))


def _table(rows, own, labels, rate):
    keys = ("padded", "foreign", *["context_free"] * own,
            *["unlabelled", "mislabelled"] * labels)
    return [("generator", "at most", "unigram", "model", "a second", "padded",
             "foreign", *["own model"] * own, *["without the label", "with another"] * labels),
            *((row["generator"], f"{row['most']:g}", f"{row['unigram']:.2f}", f"{row['bits']:.2f}",
               f"{row['bits'] * rate / row['level']:.0f}",
               *(f"{row[key]:.2f}" if key in row else "" for key in keys)) for row in rows)]


def _by_label(rows):
    return [("generator", "label", "tracks", "model", "without the label", "with another"),
            *((row["generator"], label, str(own["tracks"]),
               *(f"{own[key]:.2f}" for key in ("bits", "unlabelled", "mislabelled")))
              for row in rows for label, own in row.get("by_label", {}).items())]


def _least_gain(key):
    """The least that the model is better by, in bits, over the levels that have `key`."""

    def measure(results):
        rows = [row for row in results.get("generators") or () if row.get(key) is not None]
        return ((min(row[key] - row["bits"] for row in rows), [row["level"] for row in rows])
                if rows else None)

    return measure


def measure_bits(evaluation, found) -> dict:
    """The row of a generator; found: its weights."""
    quiet.import_keras()
    from ...data.codes import count_codes, unigram_costs
    from .. import scoring

    config, level = found.config, found.config.level
    spans, warm = cut_middles(evaluation, config)
    made = {"generator": config.name, "level": level,
            "most": config.books * math.log2(config.num_codes)}
    costs = unigram_costs(count_codes((c for _, _, c in evaluation.codes(level, evaluation.train)),
                                      config.num_codes,
                                      config.books))
    asked = scoring.read_spans(spans, config.books)[:, warm:].reshape(-1, config.books)
    made["unigram"] = float(sum(costs[book][asked[:, book]].mean() for book in range(config.books)))
    generator = engine.load_generator(found, evaluation.music.engine)
    variants: dict[str, dict] = {"bits": {}}
    if config.source:
        variants |= {"padded": {"sources": scoring.pad_sources(spans, config)},
                     "foreign": {"sources": scoring.swap_sources(spans, config)}}
    if config.labels:
        variants |= {"unlabelled": {"labels": [config.labels.none] * len(spans)},
                     "mislabelled": {"labels": scoring.swap_labels(spans, config)}}
    numbers = scoring.labels_of(spans, config) if config.labels else []
    own = {config.labels.names[i]: np.equal(numbers, i) for i in sorted(set(numbers))
           if i != config.labels.none}
    by_label: dict[str, dict] = {label: {"tracks": int(spans_of.sum())}
                                 for label, spans_of in own.items()}
    for i, (name, told) in enumerate(variants.items()):
        def report(share, name=name, i=i):
            evaluation.progress(evaluation.part, f"{config.name}, {name}",
                                (i + share) / len(variants))

        nats = scoring.score(generator, spans, report=report, **told)[:, warm:]
        made[name] = metrics.bits(nats)
        for label, spans_of in own.items():
            by_label[label][name] = metrics.bits(nats[spans_of])
    return made | {"frames": len(asked)} | ({"by_label": by_label} if by_label else {})


def cut_middles(evaluation, config) -> tuple[list, int]:
    """The middle of each test track, all as long as the shortest track allows.

    Codes and source are those of the whole track: what encoders and context see to either side is
    there.

    Returns:
        a `Span` of each track; how many frames at first are not to be counted.
    """
    from .. import scoring

    plan, rate = evaluation.plan, evaluation.rate
    top = evaluation.music.chain.top
    warm = evaluation.cut(round(plan.warm_up * rate))
    each = evaluation.cut(min(warm + round(plan.bits_seconds * rate),
                              *(t.samples for t in evaluation.test)))
    if each <= warm:
        raise UserError(f"the test tracks are shorter than {plan.warm_up:g} s: too short to ask "
                        f"about")
    codec = evaluation.music.codec(config.level)
    above = evaluation.music.codec(config.source_level) if config.source_level else None
    reach = codec.encode_halo * config.level
    if above is not None:
        reach = max(reach, (above.encode_halo + config.halo) * config.source_level)
    spans = []
    for track in evaluation.test:
        start = evaluation.cut((track.samples - each) // 2)
        margin = min(start, -(-reach // top) * top)
        x = evaluation.samples(track, start - margin,
                               min(margin + each + margin, track.samples - start + margin))
        coded = scoring.encode_track(x, codec, above, track, start - margin)
        spans.append(scoring.Span(coded, margin // config.level, each // config.level))
    return spans, warm // config.level
