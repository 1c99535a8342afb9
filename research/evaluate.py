"""Measure a chain on the held-out tracks of a recipe: `python -m research.evaluate`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from vqwave import cli, progress
from vqwave.commands import arguments
from vqwave.errors import UserError
from vqwave.generators import Sampling
from vqwave.io.files import CHECKOUT, printable
from vqwave.play import api
from vqwave.report import fad

from . import evaluators, results
from .corpus import SIDES, Corpus, Plan

SAMPLING = ("temperature", "top_p")


def parser():
    number = cli.number
    parser = cli.parser(
        "Measure codecs (beside Opus and MP3), generators, generated music and what it copies, and "
        "write research/results/NAME.md. It takes about an hour on two cores; the same command "
        "continues an interrupted run. "
        f"Evaluators: {', '.join(evaluators.EVALUATORS)}.",
        "--data-dir data/wesnoth --only codecs,notes --side validation")
    arguments.add_data(parser)
    parser.add_argument("--name", metavar="NAME", help="default: the name of the data folder")
    parser.add_argument("--split", metavar="F.yml", help="default: recipes/NAME/split.yml")
    parser.add_argument("--targets", metavar="F.yml",
                        help="bounds (default: targets.yml beside the split, if it exists)")
    parser.add_argument("--only", metavar="NAME,...", help="evaluators; the figures are printed")
    parser.add_argument("--side", choices=SIDES, default="test",
                        help="choose settings on validation; only figures of test are written")
    parser.add_argument("--depth", type=number(int, 1), metavar="LEVEL",
                        help="the level where the chain ends (default: its own)")
    for name in SAMPLING:
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="X",
                            type=cli.field(Sampling, name),
                            help="of every level (default: the generators' own)")
    parser.add_argument("--seeds", type=number(int, 0), nargs="+", default=[1, 2, 3], metavar="S",
                        help="a piece is generated for each")
    parser.add_argument("--minutes", type=number(above=0), default=10.0, metavar="M",
                        help="length of a piece")
    parser.add_argument("--quick", action="store_true", help="a rough trial of half a minute")
    arguments.add_weights(parser)
    arguments.add_epoch(parser, "generators")
    parser.add_argument("--cache-dir", metavar="DIR",
                        help="default: .evaluation in the data folder")
    results.add_arguments(parser)
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    name = args.name or Path(args.data_dir).resolve().name
    split = Path(args.split or CHECKOUT / "recipes" / name / "split.yml")
    names = [x.strip() for x in args.only.split(",")] if args.only else [*evaluators.EVALUATORS]
    if unknown := set(names) - evaluators.EVALUATORS.keys():
        raise UserError(f"--only: no evaluator is called {min(unknown)!r}; there are "
                        f"{', '.join(evaluators.EVALUATORS)}")
    targets_file = Path(args.targets or split.with_name("targets.yml"))
    targets = (results.read_targets(targets_file)
               if args.targets or targets_file.is_file() else {})
    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch)
    plan = Plan(music.chain.check_level(args.depth or music.chain.ending),
                {name: value for name in SAMPLING if (value := getattr(args, name)) is not None},
                tuple(args.seeds), args.minutes)
    if args.quick:
        plan = replace(plan, seeds=plan.seeds[:1], minutes=0.5, bits_seconds=5.0, warm_up=1.0,
                       pasts=(2.0, 8.0), continuations=4, prompt_seconds=5.0, offsets=1, rough=True)
    with progress.share_bar() as show:
        corpus = Corpus(music, args.data_dir, split, plan, side=args.side, musicnn=args.musicnn,
                        cache_dir=args.cache_dir, progress=show)
        corpora = [corpus]
        if args.side == "test" and corpus.sides["fresh"]:
            corpora.append(corpus.for_side("fresh"))
        sides = {c.side: evaluators.run(names, c) for c in corpora}
        blocks = [results.describe_side(c.side, c.tracks, c.leaked()) for c in corpora]
        for topic, table in results.figure_tables(sides, targets).items():
            blocks += [f"## {topic.capitalize()}", table, fad.DEAF * ("Fréchet" in table)]
        text = results.page(name, "evaluate", argv, *blocks)
        if args.json:
            print(json.dumps(sides, indent=1))
        elif args.only or args.side != "test" or plan.rough:
            print(text)
        else:
            print(f"wrote {printable(results.write(args.output_dir, name, text))}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
