"""Turn a folder of music into a data folder: mono uint16 tracks and a manifest."""

import argparse
import sys

from .. import cli, config
from ..io.files import printable
from ..io.prepare import prepare


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Convert every audio file under SRC to a mono .u16 track under DST and list them in "
        "DST/manifest.jsonl. Run it again to continue, or to add new files. Of identical files "
        "only one is converted.\n"
        "Exit codes: 0 all files are converted; 1 some could not be; 2 none could, or another "
        "error.",
        "~/Music data",
    )
    parser.add_argument("src", metavar="SRC", help="the folder of music, searched to the bottom")
    parser.add_argument("dst", metavar="DST", help="the data folder, created if missing")
    parser.add_argument("--sample-rate", type=cli.number(int, least=1000, most=192000),
                        default=config.preset().chain.sample_rate, metavar="HZ",
                        help="sample rate of the tracks")
    parser.add_argument("--workers", type=cli.number(int, least=1, most=256), metavar="N",
                        help="processes (default: one for each core)")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="convert on the workers of a Dask cluster instead (docs/scaling.md)")
    parser.add_argument("--overwrite", action="store_true",
                        help="convert everything again, also to another sample rate")
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
