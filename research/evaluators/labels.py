"""Whether music that is generated for a label sounds like it, by a classifier and by distances."""

from collections.abc import Iterable, Sequence

import numpy as np

from vqwave import config
from vqwave.io import audio
from vqwave.io.labels import known_label, label_of
from vqwave.play.labels import find_labels
from vqwave.play.stream import AS_COMPOSED
from vqwave.report import fad

from ..corpus import cached, patch_count, thin_out

PIECE_SECONDS = 30.0  # length of a piece that is classified


def run(corpus) -> Iterable[tuple[str, float]]:
    """Nothing of a chain without labels, or of fewer than two labels with tracks on both sides."""
    configs = [corpus.models[x].config for x in corpus.music.chain.generators.values()
               if x in corpus.models]
    rows = any(c.labels for c in configs) and measure_labels(corpus, find_labels(configs))
    if not rows:
        return
    for row in rows:
        subject = f"{row['label']}, {row['what']}"
        if "named" in row:
            yield f"pieces named {subject}", 100 * row["named"]
        for label, distance in row.get("to", {}).items():
            yield f"Fréchet distance to {label}, {subject}", distance
    for what, end in (("generated", ""), ("guided", ", guided")):
        yield (f"pieces that sound like their label{end}",
               100 * float(np.mean([row["named"] for row in rows if row["what"] == what])))
    ratios = [row["to"][row["label"]] / min(distance for label, distance in row["to"].items()
                                            if label != row["label"])
              for row in rows if row["what"] == "generated" and row["label"] in row.get("to", ())]
    if ratios:
        yield ("distance of a label's music to its own tracks, over that to the nearest others, "
               "worst label", max(ratios))


def tracks_by_label(tracks: Iterable, trained_labels: config.Labels) -> dict[str, list]:
    """{label: its tracks that are long enough to embed}; of parts, {folder: …}."""
    groups: dict[str, list] = {name: [] for name in trained_labels.groups}
    for track in tracks:
        name = (label_of(track, "folder") if trained_labels.are_parts
                else known_label(track, trained_labels))
        if track.seconds >= fad.PATCH_SECONDS and name in groups:
            groups[name].append(track)
    return {name: group for name, group in groups.items() if group}


@cached("music", "plan", "tracks", "train")
def measure_labels(corpus, trained_labels: config.Labels) -> list[dict]:
    """Rows {"what", "label"}: shares named right, and "to": {label: Fréchet distance}."""
    train, held_out = (tracks_by_label(x, trained_labels) for x in (corpus.train, corpus.tracks))
    held_out = {label: tracks for label, tracks in held_out.items() if label in train}
    if len(held_out) < 2:
        return []
    real = {label: corpus.embeddings(tracks) for label, tracks in train.items()}
    references = {label: corpus.embeddings(tracks) for label, tracks in held_out.items()}
    classifier = fit_classifier(real)
    embedded = [("held-out tracks", label, [piece for track in tracks for piece in cut_pieces(
        corpus.embeddings([track]))]) for label, tracks in held_out.items()]
    embedded += [(what, label, [corpus.embed(sound, corpus.rate) for sound in audio.from_u16(
        generate_pieces(corpus, label, guidance)["audio"])])
        for what, guidance in (("generated", 1.0), ("guided", corpus.plan.guidance))
        for label in train]
    rows = [({"what": "training tracks", "label": label}, real[label]) for label in real]
    rows += [({"what": what, "label": label, "named": share_named(classifier, pieces, label)},
              np.concatenate(pieces)) for what, label, pieces in embedded]
    # Fewer patches have larger distances: every distance is of as many.
    count = min(len(patches) for _, patches in rows)
    reference_count = min(map(len, references.values()))
    if min(count, reference_count) > 1:
        for row, patches in rows:
            row["to"] = {label: fad.frechet(thin_out(patches, count),
                                            thin_out(reference, reference_count))
                         for label, reference in references.items()}
    return [row for row, _ in rows]


def fit_classifier(patches: dict[str, np.ndarray]):
    """A logistic regression of embeddings, {label: float32 [n, d]}; labels have equal weight."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = [label for label, group in patches.items() for _ in group]
    classifier = make_pipeline(StandardScaler(),
                               LogisticRegression(class_weight="balanced", max_iter=10000))
    return classifier.fit(np.concatenate(list(patches.values())), labels)


def share_named(classifier, pieces: Sequence[np.ndarray], label: str) -> float:
    """The share of pieces, [n, d] each, whose patches make `label` the likeliest."""
    def name(patches):
        # Sums of scores, not of log-probabilities: a probability of 0 would decide alone.
        scores = np.sum(classifier.decision_function(patches), axis=0)
        if scores.ndim == 0:  # of two classes: the score of the second one
            scores = np.stack([-scores, scores])
        return classifier.classes_[scores.argmax()]

    return float(np.mean([name(patches) == label for patches in pieces]))


def cut_pieces(patches: np.ndarray) -> list[np.ndarray]:
    """A track's embeddings in pieces of `PIECE_SECONDS`; a shorter track is one piece."""
    count = patch_count(PIECE_SECONDS)
    if len(patches) < count:
        return [patches] if len(patches) else []
    return [patches[i : i + count] for i in range(0, len(patches) - count + 1, count)]


@cached("music", "plan")
def generate_pieces(corpus, label: str, guidance: float) -> dict[str, np.ndarray]:
    """Pieces of about `PIECE_SECONDS` for a label: {"audio": uint16 [pieces, samples]}."""
    plan = corpus.plan
    count = max(1, round(60 * plan.minutes / PIECE_SECONDS))
    stream = corpus.music.stream(
        level=plan.depth, seconds=60 * plan.minutes / count, seed=plan.seeds[0], batch=count,
        sampling=corpus.plan.sampling | {"guidance": guidance}, label={label: 1.0},
        **AS_COMPOSED)
    return corpus.collect(stream, (), f"generating {count} pieces of {label}")
