"""Name the part of a performance: `python -m research.parts`.

A logistic regression over the embeddings of `vqwave.report.fad` learns to name recordings by their
first halves: the soundtrack, and the part, which is a training track. It counts if it names the
second halves. Then it names performances of 10 s: scores of held-out tracks, in the sound of each
training track that the generators know. Everything is fixed: places, seeds, lengths.

Deaf to: notes, timing and loudness, as the Fréchet distance is.
"""

import json
import sys
from pathlib import Path

import numpy as np

from vqwave import cli, progress
from vqwave.commands import arguments
from vqwave.data import scores
from vqwave.io import audio, labels
from vqwave.io.files import printable
from vqwave.levels import SCORE
from vqwave.play import api
from vqwave.play.stream import AS_COMPOSED
from vqwave.report import fad

from . import excerpts, results
from .corpus import patch_count, read_split

HALF_SECONDS, PIECE_SECONDS = 60.0, 10.0
"""The most that is heard of each half of a recording, and the length of what is named."""
PERFORMANCES = 4
"""Performances of each part, of scores of other held-out tracks."""
KINDS = "second halves", "second halves through the codec", "performances"
BOUNDS = {"soundtrack named, second halves": {"must": "≥ 0.95"},  # or the classifier is not valid
          "soundtrack named, performances": {"must": "≥ 0.85", "aim": "≥ 0.95"},
          "part named, performances": {"must": "≥ 0.5", "aim": "≥ 0.7"}}


def parser():
    parser = cli.parser(" ".join(__doc__.split("\n\n")[1].split()) + " Takes minutes, and writes "
                        "research/results/NAME.md.", "--data-dirs data/wesnoth data/warzone")
    results.add_corpora(parser)
    arguments.add_weights(parser)
    arguments.add_musicnn(parser)
    results.add_output(parser, "parts")
    return parser


def cut(patches: np.ndarray) -> list[np.ndarray]:
    """Embeddings [n, d] in pieces of `PIECE_SECONDS`."""
    count = patch_count(PIECE_SECONDS)
    return [patches[i : i + count] for i in range(0, len(patches) - count + 1, count)]


def fit(groups: dict[str, list[np.ndarray]]):
    """A logistic regression of embeddings, {class: [n, d] each}; classes have equal weight."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = [name for name, group in groups.items() for piece in group for _ in piece]
    classifier = make_pipeline(StandardScaler(),
                               LogisticRegression(class_weight="balanced", max_iter=10000))
    return classifier.fit(np.concatenate([x for group in groups.values() for x in group]), names)


def share_named(classifier, groups: dict[str, list[np.ndarray]]) -> float | None:
    """The share of pieces, [n, d] each, that are named right; the mean over the classes."""
    def name(piece):
        # Sums of scores, not of log-probabilities: a probability of 0 would decide alone.
        sums = np.sum(classifier.decision_function(piece), axis=0)
        return classifier.classes_[sums.argmax() if np.ndim(sums) else int(sums > 0)]

    shares = [np.mean([name(piece) == right for piece in group])
              for right, group in groups.items() if group]
    return float(np.mean(shares)) if shares else None


def hear(music: api.VQWave, embed, folder, split, bar) -> dict[str, dict[tuple, list[np.ndarray]]]:
    """{"first halves", or one of `KINDS`: {(soundtrack, part): embeddings of pieces}} of the
    training tracks of a data folder.
    """
    rate, sides = music.sample_rate, read_split(folder, split)
    half, most = round(HALF_SECONDS * rate), round(PIECE_SECONDS * rate)
    codec, heard = music.codec(music.chain.ending), {kind: {} for kind in ("first halves", *KINDS)}
    known = music.chain_engines().labels
    held_out = [track for side in ("test", "fresh") for track in sides[side]]
    train = [track for track in sides["train"] if track.samples >= 2 * most]
    for number, track in enumerate(bar.track(train, description=Path(folder).name)):
        name = labels.parts_of(track)[0].rpartition("/")[0]
        inside = Path(track.file).parts[:-1]  # as of both soundtracks in one data folder
        soundtrack = inside[0] if inside else Path(folder).resolve().name
        middle, data = track.samples // 2, track.path(folder)
        first, second = (audio.from_u16(audio.read_window(data, start, count)) for start, count in (
            (max(0, middle - half), min(half, middle)), (middle, min(half, middle))))
        label = name if known.are_parts else labels.known_label(track, known)
        performances = [perform(music, folder, held_out[(number + k) % len(held_out)], label, k)
                        for k in range(PERFORMANCES) if held_out and label in known.groups]
        for kind, sounds in zip(heard, ([first], [second], [excerpts.decode(codec, second)],
                                        performances), strict=True):
            heard[kind][soundtrack, name] = [x for sound in sounds for x in cut(embed(sound, rate))]
    return heard


def perform(music: api.VQWave, folder, track, label: str, seed: int) -> np.ndarray:
    """The second 10 s of a track's score in the sound of a label: float32 [samples]."""
    score = scores.of_track(folder, track) if SCORE in music.chain.generators else None
    count = round(PIECE_SECONDS * music.sample_rate)
    return music.generate(samples=2 * count, seed=seed, score=score, label=label,
                          **AS_COMPOSED)[count:]


def name_all(heard: dict[str, dict[tuple, list]]) -> dict[str, float]:
    """{figure: share of pieces that are named right}. heard: see `hear`."""
    figures = {}
    for axis, what in enumerate(("soundtrack", "part")):
        groups: dict[str, dict[str, list]] = {kind: {} for kind in heard}
        for kind, pieces in heard.items():
            for key, group in pieces.items():
                groups[kind].setdefault(key[axis], []).extend(group)
        if len(groups["first halves"]) > 1:
            classifier = fit(groups["first halves"])
            figures |= {f"{what} named, {kind}": share for kind in KINDS
                        if (share := share_named(classifier, groups[kind])) is not None}
    return figures


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir)
    embed, heard = fad.load(args.musicnn), {}
    with progress.bar() as bar:
        for corpus in results.corpora(args):
            for kind, groups in hear(music, embed, *corpus, bar).items():
                heard.setdefault(kind, {}).update(groups)
    figures = name_all(heard)
    if args.json:
        print(json.dumps(figures, indent=1))
        return 0
    performed = {key[0] for key, group in heard["performances"].items() if group}
    page = results.page(
        args.name, "parts", argv, f"There are {len({key[0] for key in heard['first halves']})} "
        f"soundtracks and {len(heard['first halves'])} parts. Performed were parts of: "
        f"{', '.join(sorted(performed)) or 'none'}, with {PERFORMANCES} scores each.",
        *results.figure_tables({"held-out": {"parts": figures}}, BOUNDS).values())
    print(f"wrote {printable(results.write(args.output_dir, args.name, page))}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
