"""Measure the codecs of several folders on several corpora."""

import argparse
import json
import sys
from pathlib import Path

from .. import cli, progress
from ..errors import UserError
from ..io import weights
from ..io.files import CHECKOUT, printable
from ..play import engine
from ..report import crossing, report, serving
from . import arguments


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Measure codecs side by side: those of every folder on the test tracks of every data "
        "folder of their sample rate. Writes a section of RESULTS.md: what codecs keep of music "
        "that they were, and were not, trained on, or what those of several presets do.",
        "--codecs shipped=final_weights singularity=weights/singularity both=weights/universal "
        "--data-dirs data/wesnoth data/singularity",
        "--section family --codecs jukebox=weights/family/jukebox "
        "soundstream=weights/family/soundstream soundstream=weights/family/soundstream_2 "
        "--data-dirs data/wesnoth",
    )
    parser.add_argument("--section", choices=tuple(crossing.SECTIONS), default="other_music",
                        help="the section of RESULTS.md; family has sounds, pictures and Opus too "
                             "(default: other_music)")
    parser.add_argument("--codecs", nargs="+", required=True, metavar="NAME=DIR",
                        type=arguments.named,
                        help="folders of codecs, and what each is called in the table; several of "
                             "one name are trainings that differ in their seed")
    parser.add_argument("--data-dirs", nargs="+", required=True, metavar="DIR",
                        help="data folders that `prepare` made")
    parser.add_argument("--splits", nargs="+", metavar="F.yml",
                        help="which tracks of each data folder are held out for testing (default: "
                             "recipes/NAME/split.yml, NAME being the data folder's)")
    parser.add_argument("--side", choices=("test", "validation"), default="test",
                        help="the tracks to measure; figures of any side but test are only printed")
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                        help="what runs the codecs")
    parser.add_argument("--slice-loss", nargs="+", default=(), metavar="NAME",
                        help="codecs, as the table calls them, whose test loss is also measured as "
                             "TechnoGen does, on slices of 8 s of whole tracks")
    parser.add_argument("--pieces", nargs="+", default=(), metavar="NAME=FILE",
                        type=arguments.named,
                        help="what generators made, each file beside its codecs and generator: to "
                             "list and to hear; NAME as in --codecs")
    parser.add_argument("--alone", nargs="+", default=(), metavar="NAME=DIR", type=arguments.named,
                        help="codecs, as the table calls them, that are measured on one of the "
                             "data folders only, and no others on it")
    arguments.add_musicnn(parser)
    arguments.add_results(parser, "RESULTS.md is")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    splits = args.splits or [CHECKOUT / "recipes" / Path(one).resolve().name / "split.yml"
                             for one in args.data_dirs]
    if len(splits) != len(args.data_dirs):
        raise UserError(f"--splits names {len(splits)} files for {len(args.data_dirs)} data "
                        f"folders; it must name one for each")
    corpora = [crossing.Corpus.of(one, split, args.side == "test")
               for one, split in zip(args.data_dirs, splits, strict=True)]
    codecs = crossing.find([(name, weights.find_folder(folder, weights.CODECS))
                            for name, folder in args.codecs], corpora)
    if unknown := set(args.slice_loss) - {one.name for one in codecs
                                          if one.weight_set.config.has_codes}:
        raise UserError(f"--slice-loss: no codec with codes is called {min(unknown)!r}")
    kind = crossing.SECTIONS[args.section]
    for flag, named in (("--pieces", args.pieces), ("--alone", args.alone)):
        if unknown := {name for name, _ in named} - {name for name, _ in args.codecs}:
            raise UserError(f"{flag}: no folder of --codecs is called {min(unknown)!r}")
    alone = {name: Path(folder).resolve().name for name, folder in args.alone}
    if unknown := set(alone.values()) - {corpus.name for corpus in corpora}:
        raise UserError(f"--alone: no folder of --data-dirs is called {min(unknown)!r}")
    if args.pieces and not kind.folder:
        raise UserError(f"--pieces: the section {args.section} has no sounds; that of family has")
    pieces = [crossing.Piece.of(name, file) for name, file in args.pieces]
    embed = serving.load_embedder(args.musicnn, lambda line: print(line, file=sys.stderr))
    with progress.bar() as bar:
        task = bar.add_task("", total=1.0)
        rows = crossing.measure(codecs, corpora, embed, args.engine, kind.baselines,
                                args.slice_loss, alone,
                                lambda what, share: bar.update(task, description=what,
                                                               completed=share))
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    command = report.command_line("compare_codecs.py", sys.argv[1:] if argv is None else argv)
    if args.side != "test":
        print(crossing.section(kind, rows, corpora, command, pieces=pieces))
        return 0
    files = []
    if kind.folder:
        folder = Path(args.output_dir) / "docs" / "results" / kind.folder
        files = crossing.draw(codecs, corpora, rows, folder, args.engine, pieces)
    pages = crossing.write(kind, rows, corpora, args.output_dir, command,
                           [file.name for file in files], pieces)
    for file in (*pages, *files):
        print(f"wrote {printable(file)}")
    return 0
