"""Measure how fast music is made on this machine."""

import argparse
import json

from rich.console import Console

from .. import cli, progress
from ..io import defaults
from ..io.files import atomic_write, check_place, printable
from ..report import benchmark
from . import arguments


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Measure how fast this machine makes music, and print a table for each part. Run nothing "
        "else meanwhile.",
        "", "--part stream --part start --json out.json")
    parser.add_argument("--part", action="append", choices=benchmark.BENCHMARKS, metavar="NAME",
                        help=f"measure only this part; may be repeated. Parts: "
                             f"{', '.join(benchmark.BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="measure fewer rounds, for rough "
                                                             "figures")
    arguments.add_weights(parser)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to a file")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    if args.json:
        check_place(args.json)  # before the measurements
    with progress.bar(transient=False, elapsed=True) as bar:
        task = bar.add_task("starting")
        results = benchmark.run(
            args.part or list(benchmark.BENCHMARKS),
            *defaults.folders(args.vqvae_weights_dir, args.generator_weights_dir),
            benchmark.QUICK if args.quick else benchmark.FULL,
            progress=lambda done, total, name: bar.update(task, completed=done, total=total,
                                                          description=name))
    out = Console()
    benchmark.print_tables(results, out if out.is_terminal else Console(width=120))
    if args.json:
        with atomic_write(args.json) as file:
            file.write((json.dumps(results, indent=1) + "\n").encode())
        print(f"wrote {printable(args.json)}")
    return 0
