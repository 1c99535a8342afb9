"""Measure how fast music is made on this machine, and compare with what is wanted."""

import argparse
import json
import sys

from rich.console import Console

from .. import cli, config, progress, weights
from ..files import printable
from ..measure import benchmark
from ..train.options import parse_split
from . import arguments

SIZES, QUICK_SIZES = f"{config.SHIPPED},reference", config.SHIPPED


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Measure sampling, decoding, the whole chain, its start and its memory; print tables and "
        "which targets are met. Takes about eight minutes; let nothing else run meanwhile. Sizes "
        "without trained weights get random ones, which are as fast. Writes results.json, "
        "report.txt and speed.png; a whole run into docs/benchmark also the tables of "
        "docs/performance.md.",
        "--data-dir data/wesnoth --val-split recipes/wesnoth/split.yml",
    )
    parser.add_argument("--sizes", default=None, metavar="SIZE,...",
                        help=f"presets, by name or path (default: {SIZES}; with --quick "
                             f"{QUICK_SIZES})")
    parser.add_argument("--only", default=",".join(benchmark.PARTS), metavar="NAME,...",
                        help="what to measure")
    parser.add_argument("--quick", action="store_true", help="a minute or less, rough figures")
    parser.add_argument("--data-dir", metavar="DIR",
                        help="a data folder; its held-out tracks tell what int8 and int4 cost")
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

    with progress.bar(transient=False, elapsed=True) as bar:
        task = bar.add_task("starting")

        def show(done, total, what):
            bar.update(task, completed=done, total=total, description=what)

        results = benchmark.run(
            _names(args.sizes or (QUICK_SIZES if args.quick else SIZES)),
            weights.find_folder(args.vqvae_weights_dir, weights.CODECS),
            weights.find_folder(args.generator_weights_dir, weights.GENERATORS), _names(args.only),
            benchmark.QUICK if args.quick else benchmark.FULL, data_dir=args.data_dir,
            val_split=parse_split(args.val_split), progress=show,
        )
    written = benchmark.write(results, args.output_dir)
    if not written:
        print(f"{printable(args.output_dir)} keeps its figures: only a whole run replaces them (or "
              f"name another folder with --output-dir)", file=sys.stderr)
    if args.json:
        print(json.dumps(results, indent=1))
        return 0
    out = Console()
    benchmark.report(results, out if out.is_terminal else Console(width=120))
    for path in written:
        print(f"wrote {printable(path)}")
    return 0


def _names(text: str) -> list[str]:
    """Names with commas between, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",")))
