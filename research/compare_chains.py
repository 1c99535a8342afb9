"""Compare generators over the same codes, each as a chain: `python -m research.compare_chains`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from vqwave import cli, plots, progress
from vqwave.commands import arguments
from vqwave.dsp import notes
from vqwave.io import weights
from vqwave.io.files import printable
from vqwave.play import api
from vqwave.report.media import EXAMPLE_SECONDS
from vqwave.report.tables import Column, render

from . import evaluators, results
from .corpus import Corpus, Plan, Setting
from .evaluators.generators import measure_after

PASTS = 60.0, 3600.0
"""Seconds of music after which bits a frame are compared."""
COLUMNS = (Column("chain", "chain"), Column("core", "core"), Column("steps", "steps", ","),
           Column("bits a frame", "bits", ".2f"), Column("after a minute", "minute", ".3f"),
           Column("after an hour", "hour", ".3f"),
           Column("distance", "Fréchet distance of the chain", ".1f"),
           Column("longest pause", "longest pause inside", ".1f"),
           *(Column(x, f"divergence of the chain's {x}", ".3f") for x in notes.STATISTICS),
           Column("notes a second", "notes a second of the chain's strongest line", ".1f"))


def parser():
    parser = cli.parser(
        "Measure generators over the same codes: bits a frame, also after an hour of music, and "
        "how near their music is to real music. Writes research/results/NAME.md and sounds.",
        "--name cores_over_notes --generators notes=weights/cores/notes "
        "wavenet=weights/cores/prior_wavenet --data-dir data/wesnoth --split "
        "recipes/wesnoth/split.yml")
    parser.add_argument("--name", default="chains", metavar="NAME", help="of the page")
    parser.add_argument("--generators", nargs="+", required=True, metavar="NAME=DIR",
                        type=results.named)
    parser.add_argument("--vqvae-weights-dir", default=weights.CODECS, metavar="DIR")
    arguments.add_data(parser)
    parser.add_argument("--split", required=True, metavar="F.yml")
    parser.add_argument("--seeds", nargs="+", type=cli.number(int, 0), default=[1, 2, 3])
    parser.add_argument("--minutes", type=cli.number(float, above=0), default=10.0, metavar="M")
    parser.add_argument("--cache-dir", metavar="DIR")
    arguments.add_musicnn(parser)
    results.add_results(parser)
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    rows, pieces = [], {}
    with progress.share_bar() as show:
        for name, folder in args.generators:
            music = api.load(args.vqvae_weights_dir, folder, default_choice=0)
            corpus = Corpus(music, args.data_dir, args.split,
                            Plan(Setting(music.level), tuple(args.seeds), args.minutes),
                            cache_dir=args.cache_dir, musicnn=args.musicnn, progress=show)
            top = music.weight_set(music.chain.generator(music.chain.top))
            figures = evaluators.run(["generators", "chain", "notes", "health"], music, corpus)
            minute, hour = measure_after(corpus, top, PASTS)
            rows.append({name: value for values in figures.values()
                         for name, value in values.items()}
                        | {"chain": name, "core": top.config.core.kind,
                           "steps": top.record.get("step"),
                           "bits": figures["generators"][f"bits a frame, {music.chain.top}x"],
                           "minute": minute, "hour": hour})
            pieces[name] = corpus.sound(args.seeds[0], EXAMPLE_SECONDS / 60)
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    table = render(rows, COLUMNS)
    command = results.command_line("compare_chains", sys.argv[1:] if argv is None else argv)
    path = results.write(args.output_dir, args.name, results.page(
        args.name, command, results.describe_side("test", corpus.tracks, {}), table))
    print(f"wrote {printable(path)}")
    gallery = results.Gallery(Path(args.output_dir) / "docs/results" / args.name, corpus.rate)
    for name, sound in pieces.items():
        gallery.example(name, sound)
    gallery.picture("notes.png", plots.notes, {
        name: notes.roll(sound, corpus.rate, columns=400) for name, sound in pieces.items()})
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
