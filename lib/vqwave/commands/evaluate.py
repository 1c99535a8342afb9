"""Measure a trained chain on the held-out tracks of its music."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from .. import cli, progress
from ..io import defaults, silence
from ..io.files import printable
from ..play import api
from ..report import fad, folder_page, judge, tables
from . import arguments

MINUTES = 2.0
"""The default length of the generated music."""
CLARITY = tuple((metric.name, metric.title) for metric in judge.CLARITY if metric.bound)
"""Keys and titles of the printed figures of clarity."""


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Measure a trained chain on held-out tracks: how well its codecs reconstruct music, how "
        "well its generators predict codes, how close generated music is to real music, and what "
        "is copied. Takes minutes. Prints a table; --html writes a page with pictures and sounds.",
        "--data-dir data/my_music --generator-weights-dir weights/my_music --vqvae-weights-dir "
        "weights/my_music --html report.html")
    arguments.add_data(parser)
    parser.add_argument("--html", metavar="FILE",
                        help="write one page that contains pictures and sounds")
    parser.add_argument("--name", metavar="NAME",
                        help="title of the page (default: the name of the data folder)")
    parser.add_argument("--minutes", type=cli.number(above=0), default=MINUTES, metavar="M",
                        help=f"minutes of generated music to measure (default: {MINUTES:g})")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    models = parser.add_argument_group("models")
    arguments.add_weights(models)
    arguments.add_epoch(models, "generators")
    arguments.add_engine(models)
    rare = parser.add_argument_group("rare options")
    arguments.add_held_out(rare)
    arguments.add_musicnn(rare)
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    folders = defaults.folders(args.vqvae_weights_dir, args.generator_weights_dir,
                               epoch=args.epoch)
    music = api.load(*folders, args.engine, args.epoch)
    split, seed = arguments.held_out(args, folders[1])
    report(music, folders[1], args.data_dir, split, seed, minutes=args.minutes,
           musicnn=args.musicnn, as_json=args.json, html=args.html, name=args.name)
    return 0


def report(music, folder, data_dir, split, seed: int, *, minutes: float = MINUTES, musicnn=None,
           as_json: bool = False, html=None, name: str | None = None):
    """Measure a chain whose generators lie in `folder`, print the figures, and write the page."""
    if html:
        folder_page.check(html)  # before the measurements
    top = music.weight_set(music.chain.generator(music.chain.top))
    sides, spans = silence.read_sides(data_dir, split, seed, top.trim_silence)
    embed = fad.load_if_available(musicnn, lambda line: print(line, file=sys.stderr))
    with progress.share_bar() as show:
        measured = folder_page.measure(music, data_dir, sides, spans, minutes, embed, show)
    rows = figures(measured)
    if as_json:
        print(json.dumps(dict(rows), indent=1))
    else:
        Console().print(tables.render(
            [(figure, f"{value:.4g}") for figure, value in rows], ("figure", "value"), "rich"))
        print(folder_page.verdict(measured), *measured.advice, sep="\n")
    if html:
        name = name or Path(data_dir).resolve().name
        folder_page.write(measured, html, name, folder, music.chain.names)
        print(f"wrote {printable(html)}", file=sys.stderr if as_json else sys.stdout)


def figures(measured: folder_page.Results) -> list[tuple[str, float]]:
    """(name, value) of the printed figures that were measured."""
    rows = [(f"{title} of {row['model']}", row.get(key))
            for row in measured.codecs
            for key, title in (("notes", "notes kept"), ("mel", "mel"), ("distance", "distance"),
                               *CLARITY)]
    rows += [(f"{title} of generated music", measured.clarity.get(key)) for key, title in CLARITY]
    rows += [(f"bits a frame of {row['model']}", row["bits"]) for row in measured.generators]
    distance = measured.distance or {}
    rows += [("distance of generated music", distance.get("generated")),
             ("distance of the training tracks", distance.get("training"))]
    for row in measured.copies:
        rows += [(f"seconds copied at {row['level']}x", row["seconds"]),
                 (f"seconds that held-out music shares at {row['level']}x",
                  row["held_out_seconds"])]
    return [(name, value) for name, value in rows if value is not None]
