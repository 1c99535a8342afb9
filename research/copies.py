"""Searches every published piece for passages of the training tracks of all corpora, by its sound:
the piece is encoded with the shipped codec of 512x. Planted copies show how much of a copy the
search finds, and tracks that were held out show what chance gives. Prints both tables.
"""

import io
import math
import sys
from pathlib import Path

import numpy as np
import soundfile

from vqwave import cli
from vqwave.data.codes import variants
from vqwave.io import audio, splits, weights
from vqwave.io.files import CHECKOUT
from vqwave.play import api
from vqwave.report import tables
from vqwave.report.copying import HELD_FRAMES, HELD_SECONDS, find_held, longest_shared

from .corpus import SIDES, Corpus, Plan

LEVEL, OFFSETS, TRANSPOSE = 512, 4, 3
PIECES = ("vqwave/seed_*.ogg", "cores_over_*/*.ogg", "both/label_*.ogg",
          "singularity_timed/generated_*.ogg")
"""What is published and was generated, in docs/results."""
PLANTED_SECONDS, PLANTED = 30.0, 4
"""The length of a planted copy, and how many training tracks have one."""
FASTER = {f"{percent} % faster and higher": 1 + percent / 100 for percent in (1, 2, 5)} | {
    f"{shift} semitones higher": 2 ** (shift / 12) for shift in (2, 5)}


def search(corpus: Corpus, training: list[np.ndarray], sound: np.ndarray) -> dict[str, float]:
    """Seconds of the longest copy in a sound, float32 [samples], with and without held sounds."""
    codes = corpus.music.encode(sound, LEVEL)
    held = find_held(codes, round(HELD_SECONDS * corpus.rate / LEVEL), HELD_FRAMES)
    return {name: longest_shared(codes, training, barred) * LEVEL / corpus.rate
            for name, barred in (("run", None), ("melody", held))}


def plant(corpus: Corpus, track) -> dict[str, np.ndarray]:
    """Copies of the middle of a track, by what was done to them."""
    count = round(PLANTED_SECONDS * corpus.rate)
    sound = corpus.samples(track, (track.samples - count) // 2 + LEVEL // 3, count)
    file = io.BytesIO()
    soundfile.write(file, sound, corpus.rate, format="OGG", subtype="VORBIS")
    file.seek(0)
    copies = {"as it is": sound, "as Vorbis": soundfile.read(file, dtype="float32")[0]}
    copies["through 512x"] = corpus.music.decode(corpus.music.encode(sound, LEVEL), LEVEL)
    for name, factor in FASTER.items():
        copies[name] = np.concatenate([*audio.transpose([sound], count, 12 * math.log2(factor))])
    return copies


def main(argv=None) -> int:
    parser = cli.parser(" ".join(__doc__.split()), "--corpora wesnoth singularity")
    parser.add_argument("--corpora", nargs="+", required=True, metavar="NAME",
                        help="each is in data/NAME, and its split in recipes/NAME/split.yml")
    args = parser.parse_args(argv)
    music = api.load(weights.CODECS, weights.GENERATORS)
    corpora = [Corpus(music, Path("data") / name, CHECKOUT / "recipes" / name / "split.yml",
                      Plan(LEVEL)) for name in args.corpora]
    corpus = corpora[0]
    training = [codes for each in corpora for _, codes in each.codes(
        LEVEL, each.train, variants(OFFSETS, TRANSPOSE, LEVEL))]
    columns = [tables.Column("longest run, s", "run", ".1f"),
               tables.Column("without held sounds, s", "melody", ".1f")]
    rows = [{"sound": str(path.relative_to(CHECKOUT / "docs" / "results")),
             **search(corpus, training, audio.decode(path, corpus.rate))}
            for pattern in PIECES for path in sorted((CHECKOUT / "docs/results").glob(pattern))]
    for each in corpora:
        rows += [{"sound": f"{side} track {splits.track_name(track)}",
                  **search(each, training, each.samples(track))}
                 for side in SIDES for track in each.sides[side]]
    print(tables.render(rows, [tables.Column("sound", "sound"), *columns]))
    found: dict[str, list[dict[str, float]]] = {}
    tracks = [t for t in corpus.train if t.seconds > 2 * PLANTED_SECONDS]
    for track in tracks[:: len(tracks) // PLANTED][:PLANTED]:
        for name, sound in plant(corpus, track).items():
            found.setdefault(name, []).append(search(corpus, training, sound))
    print(tables.render(
        [{"sound": name, **{key: float(np.mean([x[key] for x in each])) for key in each[0]}}
         for name, each in found.items()],
        [tables.Column(f"copy of {PLANTED_SECONDS:.0f} s", "sound"), *columns]))
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
