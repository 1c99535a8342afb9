"""Whether music that was asked for by a label is like that label's: by a classifier that real music
taught, and by its distance to the music of each label.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import numpy as np

from ... import config
from ...errors import UserError
from ...io import audio
from ...io.labels import index_of
from ...io.splits import track_name
from ...play.labels import find_labels
from .. import fad
from ..benchmark import Target
from .controls import thin_out
from .part import Part, Rows, side_by_side

PIECE_SECONDS = 30.0
"""Of music, a piece that the classifier names the label of."""

EXAMPLES = 4
"""Labels that have a piece to listen to, at most."""

TRAINING, HELD_OUT = "training tracks", "held-out tracks"
DECODED = "held-out tracks, encoded and decoded"
"""By the codec that decodes generated music: what it leaves of the labels."""


class ByLabel(Part):
    """What `measure_labels` returns, of the first setting.

    Nothing of it is measured of a chain that was trained without labels.
    """

    name = "labels"
    fresh = True

    def why_not(self, evaluation):
        known = _vocabulary(evaluation)
        if known is None:
            return "the chain was trained without labels"
        both = (_by_label(evaluation.train, known).keys()
                & _by_label(evaluation.test, known).keys())
        if len(both) < 2:
            return (f"the {TRAINING} and the {HELD_OUT} have fewer than two of the {known.summary} "
                    f"in common")
        return ""

    def measure(self, evaluation):
        plan, setting = evaluation.plan, evaluation.plan.settings[0]
        known = _vocabulary(evaluation)
        key = {"figure": "labels", "seed": plan.seeds[0], "minutes": plan.minutes,
               "guidance": plan.guidance, **setting.key(evaluation.music.chain),
               "by": evaluation.chain_key(setting.depth), "of": known.of,
               "taught": [TRAINING, DECODED], "codec": evaluation.codec_key(setting.depth),
               "train": evaluation.corpus(evaluation.train),
               "test": evaluation.corpus(evaluation.test)}
        return {"setting": str(setting)} | evaluation.figure(
            key, lambda: measure_labels(evaluation, known), known.summary)

    def figures(self, chain):
        def named(guided):
            def measure(results):
                rows = [row for row in _generated(results) if (row["guidance"] != 1) == guided]
                return 100 * float(np.mean([row["named"] for row in rows])) if rows else None
            return measure

        def nearest(results):
            shares = [row["to"][row["label"]] / min(to for other, to in row["to"].items()
                                                    if other != row["label"])
                      for row in _generated(results)
                      if row["guidance"] == 1 and row["label"] in row.get("to", ())]
            return max(shares, default=None)

        return (Target("pieces that sound like their label", "≥", None, None, "%", named(False)),
                Target("pieces that sound like their label, guided", "≥", None, None, "%",
                       named(True)),
                Target("distance of a label's music to its own tracks, over that to the nearest "
                       "others, worst label", "≤", None, None, "x", nearest))

    def draw(self, results, evaluation, gallery):
        for i, label in enumerate(results[self.name]["labels"][:EXAMPLES], 1):
            gallery.example(f"label_{i}.ogg", generate_pieces(evaluation, label, 1.0)[0])

    def write(self, page, sides, evaluation):
        found = {side: results[self.name] for side, results in sides.items()}
        first = next(iter(found.values()))
        page.heading("Labels")
        page.add(f"Pieces of {first['piece_seconds']:g} s that were asked for by their label "
                 f"({first['setting']}), and which label a classifier gives them: a logistic "
                 f"regression of the embedding, taught by the training tracks, every label "
                 f"counting alike. Chance is {1 / len(first['labels']):.0%}; real pieces show how "
                 f"well it tells the labels apart, and decoded ones what the codec leaves of that: "
                 f"generated music, which it decodes too, can hardly do better.")
        page.tables(side_by_side([_named(one) for one in found.values()]))
        if any("named_decoded" in row for row in first["generated"]):
            page.add("The same of a classifier that heard the training tracks encoded and decoded, "
                     "and so knows what the codec does to all of them alike:")
            page.tables(side_by_side([_named(one, "named_decoded") for one in found.values()]))
        page.add("The distance of each label's music to the held-out tracks of each label, all of "
                 "equal amounts of sound: its own should be the least of its row.")
        page.tables(side_by_side([_distances(one, side if len(found) > 1 else "")
                                  for side, one in found.items()], 2))
        page.listen([(f"label_{i}.ogg", label)
                     for i, label in enumerate(first["labels"][:EXAMPLES], 1)])


def _generated(results) -> list[dict]:
    return results["labels"]["generated"] if "labels" in results else []


def _title(row) -> str:
    """What music a row is of."""
    if row["guidance"] is None:
        return row["what"]
    return "generated" + (f", guidance {row['guidance']:g}" if row["guidance"] != 1 else "")


def _named(found, key: str = "named") -> Rows:
    """A line for each kind of music, a column for each label; key: of a row, by which classifier.
    """
    labels, lines = found["labels"], {}
    for row in [*found["real"], *found["generated"]]:
        if key in row:
            lines.setdefault(_title(row), {})[row["label"]] = row
    return [("named by its label", *labels, "mean"),
            *((what, *(f"{row[x][key]:.0%} of {row[x]['pieces']}" if x in row else ""
                       for x in labels), f"{np.mean([one[key] for one in row.values()]):.0%}")
              for what, row in lines.items())]


def _distances(found, side: str) -> Rows:
    """A line for each kind of music and label, a column for each label that tracks test."""
    size = (f"{found['seconds']:.0f} s to {found['reference_seconds']:.0f} s"
            + (f", {side} tracks" if side else ""))
    to = list(dict.fromkeys(x for row in found["generated"] for x in row.get("to", ())))
    return [("music", "label", *(f"to {x}, {size}" for x in to)),
            *((_title(row), row["label"], *(f"{row['to'][x]:.1f}" if x in row["to"] else ""
                                            for x in to))
              for row in [*found["real"], *found["generated"]] if "to" in row)]


def _vocabulary(evaluation) -> config.Labels | None:
    """What the chain's generators are told of labels; None where they were trained without."""
    configs = []
    for name in evaluation.music.chain.generators.values():
        with contextlib.suppress(UserError):  # a part that needs it will say so
            configs.append(evaluation.music.weight_set(name).config)
    return find_labels(configs) if any(c.labels for c in configs) else None


def _by_label(tracks: Iterable, known: config.Labels) -> dict[str, list]:
    """The tracks of each label that has some, in the vocabulary's order; none that are too short
    to be heard.
    """
    made: dict[str, list] = {name: [] for name in known.names}
    for track in tracks:
        number = index_of(track, known)
        if number != known.none and track.seconds >= fad.PATCH_SECONDS:
            made[known.names[number]].append(track)
    return {name: own for name, own in made.items() if own}


def measure_labels(evaluation, known: config.Labels) -> dict:
    """How alike generated music and its label's are.

    Returns:
        labels: those that training tracks have, which the classifier knows. piece_seconds: of a
        generated piece. seconds, reference_seconds: of sound on the two sides of each distance.
        real, generated: rows of {"what", "label", "guidance"} with "named": the share of "pieces"
        that the classifier gives their own label, "named_decoded": the same of one that heard the
        training tracks encoded and decoded, and "to": {label: the Fréchet distance to its held-out
        tracks}; real music as it is, is asked less.
    """
    train, test = (_by_label(tracks, known) for tracks in (evaluation.train, evaluation.test))
    taught = {name: evaluation.embeddings(f"the training tracks of {name}", own)
              for name, own in train.items()}
    held = {name: [evaluation.embeddings(f"the held-out tracks of {name}", [t]) for t in own]
            for name, own in test.items() if name in train}
    decoded, decoded_held = ({name: [piece for track in own
                                     for piece in decode_pieces(evaluation, track)]
                              for name, own in side.items()} for side in (train, test))
    classifiers = {"named": teach(taught)}
    if all(decoded.values()):
        classifiers["named_decoded"] = teach({name: np.concatenate(own)
                                              for name, own in decoded.items()})

    def row(what, label, guidance=None, pieces=None, by=tuple(classifiers)):
        asked = {} if pieces is None else {"pieces": len(pieces)} | {
            key: share_named(classifiers[key], pieces, label) for key in by}
        return {"what": what, "label": label, "guidance": guidance} | asked

    real = [row(HELD_OUT, name, by=("named",), pieces=[piece for patches in own for piece in
                                                      cut_pieces(patches)])
            for name, own in held.items()]
    heard = [(row(TRAINING, name), patches) for name, patches in taught.items()]
    real += [one for one, _ in heard]
    for name in held:
        if pieces := decoded_held[name]:
            real.append(row(DECODED, name, pieces=pieces))
            heard.append((real[-1], np.concatenate(pieces)))
    generated, seconds = [], 0.0
    for guidance in dict.fromkeys((1.0, evaluation.plan.guidance)):
        for name in train:
            sounds = generate_pieces(evaluation, name, guidance)
            seconds = sounds.shape[1] / evaluation.rate
            pieces = [evaluation.embed(sound, evaluation.rate) for sound in sounds]
            generated.append(row("generated", name, guidance, pieces))
            heard.append((generated[-1], np.concatenate(pieces)))
    # Fewer patches read farther: every distance is of as many.
    references = {name: np.concatenate(own) for name, own in held.items()}
    here = min(len(patches) for _, patches in heard)
    there = min(map(len, references.values()))
    if min(here, there) > 1:
        for one, patches in heard:
            one["to"] = {name: fad.frechet(thin_out(patches, here), thin_out(own, there))
                         for name, own in references.items()}
    return {"labels": list(train), "piece_seconds": seconds, "seconds": fad.seconds_of(here),
            "reference_seconds": fad.seconds_of(there), "real": real, "generated": generated}


def teach(patches: dict[str, np.ndarray]):
    """A logistic regression that tells labels apart by embeddings, {label: float32 [n, d]}; every
    label counts alike, however much music it has.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = [name for name, own in patches.items() for _ in own]
    made = make_pipeline(StandardScaler(),
                         LogisticRegression(class_weight="balanced", max_iter=10000))
    return made.fit(np.concatenate(list(patches.values())), names)


def share_named(classifier, pieces: Sequence[np.ndarray], label: str) -> float:
    """The share of pieces, embeddings [n, d] each, that a classifier gives `label`: it is the
    likeliest by all of a piece's patches together.
    """
    def name(patches):
        # Summed before they are normalised, which is the same for every label: a probability of a
        # patch may be 0 in floating point, and its logarithm would decide alone.
        scores = np.sum(classifier.decision_function(patches), axis=0, keepdims=True)
        if len(classifier.classes_) == 2:  # of the second over the first
            scores = np.append(-scores, scores)
        return classifier.classes_[scores.argmax()]

    return float(np.mean([name(patches) == label for patches in pieces]))


def cut_pieces(patches: np.ndarray) -> list[np.ndarray]:
    """The embeddings of a track as those of pieces of `PIECE_SECONDS`, one behind the other; a
    shorter track is one piece.
    """
    count = fad.patch_count(PIECE_SECONDS)
    if len(patches) < count:
        return [patches] if len(patches) else []
    return [patches[i : i + count] for i in range(0, len(patches) - count + 1, count)]


def decode_pieces(evaluation, track) -> list[np.ndarray]:
    """The embeddings of the pieces of a track, cut as `cut_pieces` does, after the codec that the
    chain ends with encoded and decoded each.
    """
    level = evaluation.plan.settings[0].depth
    codec, rate = evaluation.music.codec(level), evaluation.rate
    length = min(evaluation.cut(round(PIECE_SECONDS * rate)), evaluation.cut(track.samples))
    made = []
    for start in range(0, track.samples - length + 1, length):
        def decode(start=start):
            sound = evaluation.samples(track, start, length)
            return {"patches": evaluation.embed(codec.decode(codec.encode(sound[None]))[0], rate)}

        key = {"figure": "decoded", "track": track.content, "samples": track.samples,
               "start": start, "length": length, "by": evaluation.codec_key(level),
               "engine": evaluation.music.engine}
        made.append(evaluation.arrays(key, decode)["patches"])
        evaluation.progress(evaluation.part, f"decoding {track_name(track)}",
                            start / track.samples)
    return [patches for patches in made if len(patches)]


def generate_pieces(evaluation, label: str, guidance: float) -> np.ndarray:
    """Pieces that are asked for by a label, each of its own: float32 [pieces, samples] in [-1, 1],
    of about `PIECE_SECONDS` each, together as long as a generated piece of other parts.
    """
    plan, setting, chain = evaluation.plan, evaluation.plan.settings[0], evaluation.music.chain
    count = max(1, round(60 * plan.minutes / PIECE_SECONDS))
    key = {"figure": "labelled", "label": label, "guidance": guidance, "seed": plan.seeds[0],
           "minutes": plan.minutes, **setting.key(chain), "by": evaluation.chain_key(setting.depth)}

    def generate():
        chosen = setting.sampling(chain)
        sampling = {level: chosen.get(level, {}) | {"guidance": guidance}
                    for level in setting.levels(chain)}
        stream = evaluation.music.stream(
            level=setting.depth, seconds=60 * plan.minutes / count, seed=plan.seeds[0],
            batch=count, sampling=sampling, chosen={config.Labels.input: {label: 1.0}})
        return evaluation.collect(stream, (), f"generating {count} pieces of {label}, guidance "
                                              f"{guidance:g}")

    return audio.from_u16(evaluation.arrays(key, generate)["audio"])
