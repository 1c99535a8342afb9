"""Compare the music of several generators over the same codes."""

import argparse
import json
import sys

from .. import cli, progress
from ..io import weights
from ..io.files import printable
from ..play import api, engine
from ..report import evaluation, players, report
from . import arguments


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Measure generators side by side, each as a chain of its own over the same codec: bits a "
        "frame of held-out tracks, also after an hour of music; how far what they generate is from "
        "real music, and how it uses notes. Writes a section of RESULTS.md, with a piece of each "
        "to hear and their notes drawn. `recipes/cores.sh` trains such generators.",
        "--section 'cores over notes' --generators notes=weights/cores/notes "
        "prior_wavenet=weights/cores/prior_wavenet --data-dir data/wesnoth --split "
        "recipes/wesnoth/split.yml",
    )
    parser.add_argument("--section", default="generators compared", metavar="TITLE",
                        help="the section of RESULTS.md (default: generators compared)")
    parser.add_argument("--generators", nargs="+", required=True, metavar="NAME=DIR",
                        type=arguments.named,
                        help="folders of generators, and what each is called in the table")
    parser.add_argument("--vqvae-weights-dir", default=weights.CODECS, metavar="DIR",
                        help="the folder of their codecs")
    arguments.add_data(parser)
    parser.add_argument("--split", required=True, metavar="F.yml",
                        help="which tracks are held out for testing")
    parser.add_argument("--side", choices=("test", "validation"), default="test",
                        help="the tracks to measure by; figures of any side but test are only "
                             "printed")
    parser.add_argument("--seeds", nargs="+", type=cli.number(int, 0), default=[1, 2, 3],
                        metavar="S", help="of the generated pieces")
    parser.add_argument("--minutes", type=cli.number(float, above=0), default=10.0, metavar="M",
                        help="of each piece")
    parser.add_argument("--no-hour", action="store_true",
                        help="leave out the bits after an hour of music")
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                        help="what runs the models")
    parser.add_argument("--cache-dir", metavar="DIR", help="where what was measured is kept "
                        "(default: .evaluation in the data folder)")
    arguments.add_musicnn(parser)
    arguments.add_results(parser, "RESULTS.md and docs/ are")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    with progress.bar() as bar:
        task = bar.add_task("", total=1.0)

        def show(part, what, share):
            bar.update(task, description=what, completed=share)

        listed = [players.Player(name, _evaluation(args, folder, show))
                  for name, folder in args.generators]
        rows = players.measure(listed, not args.no_hour)
        if args.json:
            print(json.dumps(rows, indent=1))
            return 0
        command = report.command_line("compare_chains.py",
                                      sys.argv[1:] if argv is None else argv)
        if args.side != "test":
            print(players.section(args.section, rows, listed, command))
            return 0
        files = players.draw(args.section, listed, args.output_dir)
        page = players.write(args.section, rows, listed, args.output_dir, command,
                             [file.name for file in files])
    for file in (page, *files):
        print(f"wrote {printable(file)}")
    return 0


def _evaluation(args, folder, show) -> evaluation.Evaluation:
    """Of the generators in a folder, down to where they end."""
    music = api.load(args.vqvae_weights_dir, folder, args.engine, default_choice=0)
    settings = evaluation.parse_settings(music.chain, [music.level], ["default"])
    extent = evaluation.Extent(settings, tuple(args.seeds), args.minutes)
    return evaluation.Evaluation(music, args.data_dir, args.split, extent,
                                 cache_dir=args.cache_dir, musicnn=args.musicnn, progress=show,
                                 side=args.side)
