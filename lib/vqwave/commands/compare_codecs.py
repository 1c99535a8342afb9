"""Measure the codecs of several folders on several corpora."""

import argparse
import json
import sys
from pathlib import Path

from .. import cli, progress, weights
from ..errors import UserError
from ..files import CHECKOUT, printable
from ..measure import crossing, evaluation, report, serving
from ..play import engine


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Measure what codecs keep of music that they were, and were not, trained on: every folder "
        f"of codecs on the test tracks of every corpus. Writes the section {crossing.SECTION!r} of "
        "RESULTS.md.",
        "--codecs wesnoth=final_weights singularity=weights/singularity both=weights/universal "
        "--data-dirs data/wesnoth data/singularity",
    )
    parser.add_argument("--codecs", nargs="+", required=True, metavar="NAME=DIR", type=_named,
                        help="folders of codecs, and what each is called in the table")
    parser.add_argument("--data-dirs", nargs="+", required=True, metavar="DIR",
                        help="data folders that `prepare` made")
    parser.add_argument("--splits", nargs="+", metavar="F.yml",
                        help="which tracks of each data folder are held out for testing (default: "
                             "recipes/NAME/split.yml, NAME being the data folder's)")
    parser.add_argument("--side", choices=("test", "validation"), default="test",
                        help="the tracks to measure; figures of any side but test are only printed")
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                        help="what runs the codecs")
    parser.add_argument("--musicnn", metavar="PATH", help=f"the wheel of {evaluation.fad.PACKAGE}, "
                        "or the folder it was unpacked in (default: fetched once)")
    parser.add_argument("--output-dir", default=str(CHECKOUT), metavar="DIR",
                        help="where RESULTS.md is")
    parser.add_argument("--json", action="store_true",
                        help="print the figures as JSON, write nothing")
    return parser


def _named(text: str) -> tuple[str, str]:
    name, found, folder = text.partition("=")
    if not (name and found and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name and a folder, NAME=DIR")
    return name, folder


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    splits = args.splits or [CHECKOUT / "recipes" / Path(one).resolve().name / "split.yml"
                             for one in args.data_dirs]
    if len(splits) != len(args.data_dirs):
        raise UserError(f"--splits names {len(splits)} files for {len(args.data_dirs)} data "
                        f"folders; it must name one for each")
    corpora = [crossing.Corpus.of(one, split, args.side == "test")
               for one, split in zip(args.data_dirs, splits, strict=True)]
    codecs = {name: weights.find_folder(folder, weights.CODECS) for name, folder in args.codecs}
    embed = serving.load_embedder(args.musicnn, lambda line: print(line, file=sys.stderr))
    with progress.bar() as bar:
        task = bar.add_task("", total=1.0)
        rows = crossing.measure(codecs, corpora, embed, args.engine,
                                lambda what, share: bar.update(task, description=what,
                                                               completed=share))
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    command = report.command_line("compare_codecs.py", sys.argv[1:] if argv is None else argv)
    if args.side == "test":
        print(f"wrote {printable(crossing.write(rows, corpora, args.output_dir, command))}")
    else:
        print(crossing.section(rows, corpora, command))
    return 0
