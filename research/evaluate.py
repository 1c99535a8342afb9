"""Measure a chain on the held-out tracks of a recipe: `python -m research.evaluate`."""

import json
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from vqwave import cli, config, plots, progress
from vqwave.commands import arguments
from vqwave.errors import UserError
from vqwave.io.files import CHECKOUT, atomic_write, make_folder, printable
from vqwave.play import api
from vqwave.report.folder_page import EXAMPLE_SECONDS

from . import evaluators, results
from .corpus import SIDES, Corpus, Plan
from .evaluators import variations
from .media import encode_file

SAMPLING = ("temperature", "top_p")


def parser():
    number = cli.number
    parser = cli.parser(
        "Measure codecs (beside Opus and MP3), generators, generated music and what it copies, and "
        "write research/results/NAME.md with sounds and pictures in docs/results/NAME. It takes "
        "about an hour on two cores; the same command continues an interrupted run. "
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
                            type=cli.field(config.Sampling, name),
                            help="of every level (default: the generators' own)")
    parser.add_argument("--seeds", type=number(int, 0), nargs="+", default=[1, 2, 3], metavar="S",
                        help="a piece is generated for each")
    parser.add_argument("--minutes", type=number(above=0), default=10.0, metavar="M",
                        help="length of a piece")
    parser.add_argument("--quick", action="store_true", help="a rough trial of half a minute")
    parser.add_argument("--context-free", metavar="DIR",
                        help="generators that were trained without conditions, for comparison")
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
                        cache_dir=args.cache_dir, context_free=args.context_free, progress=show)
        corpora = [corpus]
        if args.side == "test" and corpus.sides["fresh"]:
            corpora.append(corpus.for_side("fresh"))
        sides = {c.side: evaluators.run(names, c) for c in corpora}
        blocks = [results.describe_side(c.side, c.tracks, c.leaked()) for c in corpora]
        for topic, table in results.figure_tables(sides, targets).items():
            blocks += [f"## {topic.capitalize()}", table]
        text = results.page(name, "evaluate", argv, *blocks)
        if args.json:
            print(json.dumps(sides, indent=1))
        elif args.only or args.side != "test" or plan.rough:
            print(text)
        else:
            for path in (results.write(args.output_dir, name, text),
                         *draw(corpus, Path(args.output_dir) / "docs" / "results" / name)):
                print(f"wrote {printable(path)}")
    return 0


def draw(corpus: Corpus, folder) -> list[Path]:
    """Write sounds and pictures of a test track through each codec, and of generated pieces."""
    folder = make_folder(folder)
    track = corpus.tracks[0]
    count = min(round(EXAMPLE_SECONDS * corpus.rate), track.samples)
    original = corpus.samples(track, (track.samples - count) // 3, count)
    sounds = {"original": original} | {
        f"reconstruction_{level}": corpus.music.decode(corpus.music.encode(original, level), level)
        [:count] for level in corpus.music.chain.sizes}
    pieces = {f"generated_{seed}": example(corpus, corpus.plan.depth, seed)
              for seed in corpus.plan.seeds}
    paths = [folder / "reconstructions.png", folder / "generated.png"]
    for path, shown in zip(paths, (sounds, pieces), strict=True):
        plots.spectrograms(shown, path, sample_rate=corpus.rate)
    for name, sound in (sounds | pieces | lower_levels(corpus, original)).items():
        paths.append(folder / f"{name}.ogg")
        with atomic_write(paths[-1]) as file:
            file.write(encode_file(sound, corpus.rate, "libopus", 32000, frame_duration=20,
                                   vbr="on"))
    return paths


def example(corpus: Corpus, depth: int, seed: int):
    """A piece as a listener hears it: from where the music sounds, and leveled."""
    return corpus.music.generate(level=depth, seconds=EXAMPLE_SECONDS, seed=seed,
                                 sampling=corpus.plan.sampling)


def lower_levels(corpus: Corpus, original) -> dict:
    """{name: sound}: a variation at each level that has a generator, from the original's codes of
    the level above. If every level has a generator, a piece down to the lowest level, too.
    """
    chain = corpus.music.chain
    trained = {x for x in chain.sizes if chain.generators.get(x) in corpus.models}
    sounds = {f"variation_{level}": variations.vary(corpus, original, 0, above, level)
              for above, level in pairwise(chain.sizes) if level in trained}
    if trained == {*chain.sizes} and corpus.plan.depth > chain.bottom:
        sounds[f"generated_to_{chain.bottom}"] = example(corpus, chain.bottom,
                                                         corpus.plan.seeds[0])
    return sounds


if __name__ == "__main__":
    sys.exit(cli.entry(main))
