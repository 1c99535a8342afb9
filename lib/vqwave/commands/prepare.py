"""Turn a folder of music into a data folder: mono uint16 tracks and a manifest."""

import argparse
import sys

from .. import cli
from ..data.prepare import prepare
from ..io.files import printable
from ..presets import load_preset


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Convert a folder of music for training: each audio file under SRC becomes a mono .u16 "
        "track under DST, listed in DST/manifest.jsonl. Run the same command again to continue, or "
        "to add files.\n"
        "Exit codes: 0 all files converted; 1 some files failed; 2 all files failed, or another "
        "error.",
        "~/Music data",
    )
    parser.add_argument("src", metavar="SRC", help="folder of music, with all subfolders")
    parser.add_argument("dst", metavar="DST", help="data folder to write, created if missing")
    parser.add_argument("--sample-rate", type=cli.number(int, least=1000, most=192000),
                        default=load_preset().chain.sample_rate, metavar="HZ",
                        help="sample rate of the tracks")
    parser.add_argument("--workers", type=cli.number(int, least=1, most=256), metavar="N",
                        help="number of processes (default: one for each core)")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="convert on a Dask cluster (docs/scaling.md)")
    parser.add_argument("--overwrite", action="store_true",
                        help="convert all files again, also to another sample rate")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    report = prepare(args.src, args.dst, args.sample_rate, args.workers, args.overwrite,
                     args.scheduler)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for source, reason in report.failed:
        print(f"failed: {printable(source)}: {reason}", file=sys.stderr)
    tracks = report.converted + report.up_to_date
    hours = sum(track.seconds for track in tracks) / 3600
    print(f"{len(report.converted)} converted, {len(report.up_to_date)} up to date, "
          f"{len(report.failed)} failed; {hours:.2f} hours of audio at {args.sample_rate} Hz in "
          f"{printable(args.dst)}")
    return report.exit_code
