"""Compute the figures of RESULTS.md from trained weights and the corpus they were trained on."""

import argparse
import json
import sys
from pathlib import Path

from .. import cli, config, progress
from ..errors import UserError
from ..io import manifest, splits, weights
from ..io.files import CHECKOUT, printable
from ..io.splits import read_split
from ..play import api, engine
from ..report import evaluation, report, serving, summary, tuned
from . import arguments

MINUTES, PAGE_MINUTES = 10.0, 2.0
"""Of a generated piece for RESULTS.md, and of all pieces of a page."""


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Measure codecs (beside Opus and MP3), generators, the chain, labels, variations, notes, "
        "what is copied, and how ten minutes hold up. Writes the corpus's section of RESULTS.md, "
        "pictures and examples. Takes about an hour on two cores; the same command again goes on "
        "where it was stopped. A network that says how alike recordings sound is fetched once "
        "(29 MB).\n"
        f"Parts: {', '.join(evaluation.PARTS)}.\n"
        "With --html it looks at any folder in some minutes, and writes one page to read and "
        "listen to.",
        "--data-dir data/wesnoth --depths 8 32 128 --temperatures default 0.9",
        "--data-dir data/my_music --generator-weights-dir weights/my_music --vqvae-weights-dir "
        "weights/my_music --html report.html",
    )
    number = cli.number
    arguments.add_data(parser)
    parser.add_argument("--name", metavar="NAME", help="the section of RESULTS.md (default: the "
                                                       "data folder's name)")
    parser.add_argument("--split", metavar="F.yml", help="which tracks are held out for testing "
                        "(default: recipes/NAME/split.yml)")
    parser.add_argument("--targets", metavar="F.yml", help="the targets that the figures are held "
                                                           "to "
                        "(default: targets.yml beside the split file, where there is one)")
    parser.add_argument("--html", metavar="FILE",
                        help="write one page with sounds and pictures in it, of any folder: of the "
                             "tracks that --split or --val-split holds out. RESULTS.md stays")
    parser.add_argument("--section", action="store_true",
                        help="with --html, of a training that began with trained models: write "
                             "what it gave into RESULTS.md, too")
    parser.add_argument("--scratch", metavar="DIR",
                        help="with --section: generators that were trained from nothing, to "
                             "compare bits with")
    arguments.add_held_out(parser)
    parser.add_argument("--only", default=",".join(evaluation.PARTS), metavar="PART,...",
                        help="the parts to measure; the figures of other parts are kept. Only a "
                             "run with all parts replaces published figures")
    parser.add_argument("--side", choices=evaluation.SIDES, default="test",
                        help="the tracks to measure. Choose settings on validation; figures of any "
                             "side but test are only printed")
    parser.add_argument("--depths", type=number(int, 1), nargs="+", metavar="LEVEL",
                        help="levels for the chain to end at, each measured by itself, the one "
                             "that ships first (default: the chain's own)")
    parser.add_argument("--temperatures", nargs="+", default=["default"], metavar="T",
                        help="each measured by itself: `default` (what the generators' configs "
                             "say), a number, or a number for each level from the top down with "
                             "commas between")
    parser.add_argument("--top-p", type=cli.field(config.Sampling, "top_p"), metavar="P",
                        help=f"see {cli.command('generate')} --help")
    parser.add_argument("--seeds", type=number(int, 0), nargs="+", default=[1], metavar="S",
                        help="seeds: a piece is generated and measured for each")
    parser.add_argument("--minutes", type=number(above=0), metavar="M",
                        help=f"length of each piece (default: {MINUTES:g}); with --html, of all of "
                             f"them together (default: {PAGE_MINUTES:g})")
    parser.add_argument("--guidance", type=cli.field(config.Sampling, "guidance"), metavar="G",
                        default=evaluation.Extent.guidance,
                        help="of a chain with labels: how strongly they are followed in the second "
                             "half of the pieces that are asked for by label")
    parser.add_argument("--offsets", type=cli.field(config.TrainingConfig, "offsets"), metavar="N",
                        default=config.TrainingConfig().offsets,
                        help="alignments of the training codes to look for copies in: as many as "
                             "in training")
    parser.add_argument("--quick", action="store_true",
                        help="rough figures from half a minute of music, to try it out; published "
                             "figures stay")
    parser.add_argument("--context-free", metavar="DIR",
                        help="generators trained without conditions, to tell what the context is "
                             "worth")
    parser.add_argument("--runs", metavar="DIR", help="the folder of the training runs, whose "
                                                      "curves are drawn")
    arguments.add_weights(parser)
    arguments.add_epoch(parser, "generators")
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                        help="what runs the models")
    arguments.add_musicnn(parser)
    parser.add_argument("--cache-dir", metavar="DIR", help="where what was measured is kept "
                        "(default: .evaluation in the data folder)")
    arguments.add_results(parser, "RESULTS.md and docs/ are")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)

    name = args.name or Path(args.data_dir).resolve().name
    if args.html:
        return _write_page(args, name, argv)
    if args.section or args.scratch:
        raise UserError(f"--{'section' if args.section else 'scratch'} goes with --html")
    split = args.split or CHECKOUT / "recipes" / name / "split.yml"
    if not Path(split).is_file():
        raise UserError(f"{printable(split)}: no such file: --split names the file that says which "
                        f"tracks test; --html writes a page of any folder")
    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir,
                     args.engine, args.epoch, default_choice=0)
    wanted, targets = args.targets or Path(split).with_name("targets.yml"), None
    if args.targets or wanted.is_file():
        # What stands beside the split may be of a chain with other levels.
        others = [] if args.targets else report.figures(config.preset(config.SHIPPED).chain)
        targets = report.read_targets(wanted, report.figures(music.chain), others)
    depths = [music.chain.check_level(depth) for depth in args.depths or [music.level]]
    settings = evaluation.parse_settings(music.chain, depths, args.temperatures, args.top_p)
    plan = evaluation.Extent(settings, tuple(args.seeds),
                             MINUTES if args.minutes is None else args.minutes,
                             offsets=args.offsets, guidance=args.guidance)
    if args.quick:
        plan = evaluation.Extent(settings, tuple(args.seeds), 0.5, bits_seconds=5.0,
                                 warm_up=1.0, pasts=(2.0, 8.0),
                                 continuations=4, prompt_seconds=5.0, offsets=1,
                                 guidance=args.guidance, rough=True)
    parts = [part.strip() for part in args.only.split(",")]

    with progress.bar() as bar:
        tasks = {}

        def show(part, what, share):
            """One bar, of what is being done; each new thing has its own time."""
            if what not in tasks:
                for task in tasks.values():
                    bar.remove_task(task)
                tasks.clear()
                tasks[what] = bar.add_task(f"{part}: {what}", total=1.0)
            bar.update(tasks[what], completed=share)

        evaluated = evaluation.Evaluation(
            music, args.data_dir, split, plan, cache_dir=args.cache_dir, musicnn=args.musicnn,
            context_free=args.context_free, progress=show, side=args.side)
        found = evaluated.run(parts)
        command, written = _line(argv), []
        # What was measured before is among `found`; still, published figures wait for a run of all
        # parts.
        whole = set(parts) >= set(evaluation.PARTS) or not report.has_section(args.output_dir, name)
        if not args.json and args.side == "test" and whole:
            show("results", "drawing and writing", 0.0)
            written = report.write(found, evaluated, name, args.output_dir,
                                   args.runs, command, targets)
    if args.json:
        print(json.dumps({"overlap": evaluated.overlap()} | found, indent=1))
    elif not written:
        print(report.section(found, evaluated, name, [], command, targets))
        if args.side == "test":
            print(f"RESULTS.md keeps its figures of {name}: only a whole run replaces "
                  f"them", file=sys.stderr)
    for path in written:
        print(f"wrote {printable(path)}")
    return 0


def _write_page(args, name: str, argv) -> int:
    """The page of a folder, and what its training gave."""
    if args.scratch and not args.section:
        raise UserError("--scratch goes with --section")
    if args.section:  # before anything takes time
        run = tuned.read_run(args.generator_weights_dir)
        targets = (report.read_targets(args.targets, tuned.FIGURES) if args.targets
                   else tuned.FIGURES)
    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch,
                     default_choice=0)
    if args.scratch:
        weights.find(args.scratch, music.chain.generator(music.chain.top))
    split, seed = ((read_split(args.split), 0) if args.split
                   else arguments.held_out(args, weights.find_folder(args.generator_weights_dir,
                                                                weights.GENERATORS)))
    top = music.weight_set(music.chain.generator(music.chain.top))
    sides, spans = summary.sides_of(args.data_dir, split, seed, top.trim_silence, bool(args.split))
    embed = serving.load_embedder(args.musicnn, lambda line: print(line, file=sys.stderr))
    with progress.bar() as bar:
        task = bar.add_task("", total=1.0)
        made = summary.measure(music, args.data_dir, sides, spans,
                               PAGE_MINUTES if args.minutes is None else args.minutes, embed,
                               lambda what, share: bar.update(task, description=what,
                                                              completed=share))
    folder = music.weight_set(music.chain.codecs[music.chain.top]).folder
    kept = splits.recorded(folder, manifest.read(args.data_dir))
    if kept and kept[0] == split and not kept[1] and not args.split:  # the same tracks
        made.before = tuned.before_tuning(folder)
    summary.write(made, args.html, name, args.runs or args.generator_weights_dir, music.chain.names)
    print(f"wrote {printable(args.html)}")
    if args.section:
        text = tuned.section(made, name, run, args.scratch, _line(argv), targets)
        path = report.write_section(args.output_dir, tuned.section_name(name), text)
        print(f"wrote {printable(path)}")
    for line in made.advice:
        print(line)
    return 0


def _line(argv) -> str:
    """This command as RESULTS.md shows it."""
    return report.command_line("evaluate.py", sys.argv[1:] if argv is None else argv)
