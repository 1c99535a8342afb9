"""Measure how fast music is made on this machine, and compare with what is wanted."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from .. import cli, config, progress
from ..errors import UserError
from ..io import weights
from ..io.files import make_folder, printable
from ..report import benchmark, cores
from ..train.options import parse_split
from . import arguments

SIZES, QUICK_SIZES = ",".join(benchmark.SIZES), config.SHIPPED


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Measure sampling, decoding, the whole chain, its start and its memory; print tables and "
        "which targets are met. A whole run took 20 minutes on two cores of an AMD EPYC; let "
        "nothing else run meanwhile. Sizes without trained weights get random ones, which are as "
        "fast. Writes results.json, report.txt and speed.png, and into docs/benchmark also the "
        "tables of docs/performance.md. Those are replaced by a whole run alone: every part, "
        f"{' and '.join(benchmark.SIZES)}, --data-dir, no --quick; the results of any other go to "
        f"docs/benchmark/{benchmark.PARTIAL}.",
        "--data-dir data/wesnoth --val-split recipes/wesnoth/split.yml",
    )
    parser.add_argument("--sizes", default=None, metavar="SIZE,...",
                        help=f"presets, by name or path (default: {SIZES}; with --quick "
                             f"{QUICK_SIZES})")
    parser.add_argument("--only", default=",".join(benchmark.PARTS), metavar="NAME,...",
                        help="what to measure")
    parser.add_argument("--cores", metavar="DIR",
                        help="compare generators of the same codes in one table, in place of all "
                             "else: DIR holds a folder of each preset that --sizes names")
    parser.add_argument("--table", metavar="NAME",
                        help="with --cores: write cores_NAME.json, and into docs/benchmark also "
                             "the table of that name in docs/performance.md")
    parser.add_argument("--quick", action="store_true",
                        help="fewer rounds of one size, rough figures")
    parser.add_argument("--data-dir", metavar="DIR",
                        help="a data folder; the cost of int8 is measured on its held-out tracks")
    parser.add_argument("--val-split", default=str(config.DataConfig().split),
                        metavar="SHARE|F.yml",
                        help="which tracks are held out: as the generators were trained with")
    arguments.add_weights(parser)
    parser.add_argument("--output-dir", default="docs/benchmark", metavar="DIR",
                        help="where the results go")
    parser.add_argument("--json", action="store_true",
                        help="print the results as JSON, and nothing else, on stdout")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    if args.cores:
        return _compare_cores(args)
    if args.table:
        raise UserError("--table goes with --cores")
    sizes, parts = _names(args.sizes or (QUICK_SIZES if args.quick else SIZES)), _names(args.only)
    effort = benchmark.QUICK if args.quick else benchmark.FULL
    lacks = benchmark.find_lacks(sizes, parts, effort, args.data_dir)
    # Before anything is measured: a folder that cannot be made would lose minutes.
    place = make_folder(benchmark.find_place(args.output_dir, lacks))
    if place != Path(args.output_dir):
        print(f"{printable(args.output_dir)} keeps its figures: this run lacks {', '.join(lacks)}; "
              f"its own go to {printable(place)}", file=sys.stderr)

    with progress.bar(transient=False, elapsed=True) as bar:
        task = bar.add_task("starting")

        def show(done, total, what):
            bar.update(task, completed=done, total=total, description=what)

        results = benchmark.run(
            sizes, weights.find_folder(args.vqvae_weights_dir, weights.CODECS),
            weights.find_folder(args.generator_weights_dir, weights.GENERATORS), parts, effort,
            data_dir=args.data_dir, val_split=parse_split(args.val_split), progress=show,
        )
    written = benchmark.write(results, args.output_dir)
    if args.json:
        print(json.dumps(results, indent=1))
        return 0
    out = Console()
    benchmark.report(results, out if out.is_terminal else Console(width=120))
    for path in written:
        print(f"wrote {printable(path)}")
    return 0


def _compare_cores(args) -> int:
    """The table of generators of the same codes, see `cores.compare`."""
    if args.data_dir is None:
        raise UserError("--cores needs prepared music to predict: --data-dir")
    with progress.bar(transient=False, elapsed=True) as bar:
        task = bar.add_task("starting")
        rows = cores.compare(
            _names(args.sizes or SIZES),
            weights.find_folder(args.vqvae_weights_dir, weights.CODECS), args.cores,
            args.data_dir, parse_split(args.val_split),
            benchmark.QUICK if args.quick else benchmark.FULL,
            lambda done, total, what: bar.update(task, completed=done, total=total,
                                                 description=what))
    written = cores.write(rows, args.table, args.output_dir) if args.table else []
    print(json.dumps(rows, indent=1) if args.json else cores.markdown(rows))
    for path in written:
        print(f"wrote {printable(path)}", file=sys.stderr)
    return 0


def _names(text: str) -> list[str]:
    """Names with commas between, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))
