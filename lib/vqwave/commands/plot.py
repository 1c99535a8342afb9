"""Draw music, its notes and training."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import cli, plots
from ..dsp import notes as note_finder
from ..errors import UserError
from ..io import audio, weights
from ..io.files import check_replaced, printable
from ..play import midi_files
from ..presets import load_preset
from . import arguments


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Draw music, notes or training curves. The ending of --output chooses PNG or SVG. Nothing "
        f"is shown by colour alone. `{cli.command('plot')} KIND --help` lists the options of a "
        f"kind.",
        "spectrograms song.mp3 out.wav --seconds 20 --output both.svg",
        "curves weights/wesnoth --output curves.png",
        "notes song.mp3 out.wav --seconds 30 --output notes.png",
        "notes out.wav out.mid --output score.png",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND",
                                  parser_class=type(parser))
    for name, kind in KINDS.items():
        p = kinds.add_parser(name, help=kind.help, description=kind.help,
                             formatter_class=parser.formatter_class)
        p.add_argument("inputs", nargs=kind.count, metavar="INPUT", help=kind.inputs)
        p.add_argument("--output", required=True, metavar="FILE", help="the picture, .png or .svg")
        p.add_argument("--title", default="", help="title of the picture")
        arguments.add_force(p)
        if name != "curves":
            p.add_argument("--start", type=cli.number(least=0), default=0.0, metavar="S",
                           help="second at which to start")
            p.add_argument("--seconds", type=cli.number(above=0), default=kind.seconds,
                           metavar="S", help="seconds to draw (default: "
                                             f"{'%(default)s' if kind.seconds else 'all'})")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    plots.check_output(args.output)
    check_replaced([args.output], args.force)
    KINDS[args.kind].draw(args)
    print(f"wrote {printable(args.output)}")
    return 0


def draw_sounds(args):
    rate = load_preset().chain.sample_rate
    sounds = read(args, lambda path: audio.read_excerpt(path, rate, args.start, args.seconds))
    plots.spectrograms(sounds, args.output, rate, args.title, start=args.start)


def draw_notes(args):
    rolls = read(args, lambda path: find_roll(path, args.start, args.seconds))
    plots.notes(rolls, args.output, args.title)


def find_roll(path: Path, start: float, seconds: float) -> note_finder.PianoRoll:
    """The notes of a part of a recording, or of a MIDI file."""
    rate = note_finder.SAMPLE_RATE
    if not midi_files.is_midi(path):
        return note_finder.roll(audio.read_excerpt(path, rate, start, seconds), rate, start=start)
    score = midi_files.read(path)
    end = min(start + seconds, score.ends.max())
    heard = (score.starts < end) & (score.ends > start)
    if not heard.any():
        raise UserError(f"{printable(path)}: has no notes between second {start:g} and "
                        f"{start + seconds:g}")
    starts, ends = np.maximum(score.starts[heard], start), np.minimum(score.ends[heard], end)
    return note_finder.score_roll(starts, ends - starts, score.pitches[heard], start, end - start)


def draw_curves(args):
    path = Path(args.inputs[0])
    if path.is_dir():
        drawn = plots.training_curves(plots.logs(path, weights.chain(path).names),
                                      args.output, args.title)
    else:
        drawn = plots.loss_curves(path, args.output, args.title or path.stem)
    if not drawn:
        raise UserError(f"{printable(path)}: no epoch of any model is logged there yet")


class Kind(NamedTuple):
    """A kind of picture. seconds: the default seconds of a file to draw; None: all. count: the
    number of inputs, as in argparse.
    """

    draw: Callable
    help: str
    seconds: float | None = None
    inputs: str = "files of music, or folders (with subfolders)"
    count: str | int = "+"


KINDS = {
    "spectrograms": Kind(draw_sounds, "waveforms and spectrograms by pitch, side by side"),
    "notes": Kind(draw_notes, "piano rolls, of recordings over spectrograms, stacked", seconds=30.0,
                  inputs="files of music or MIDI files, or folders of music (with subfolders)"),
    "curves": Kind(draw_curves, "training curves, also of a running training: all models of a "
                   "folder, or every metric of one model",
                   inputs="the folder of a run, or the .csv log of one model", count=1),
}


def read(args, load: Callable) -> dict[str, Any]:
    """What `load` makes of each input's path: {name: value}. Reports unreadable files."""
    files, loaded, errors = find_files(map(Path, args.inputs)), {}, []
    names = [path.name for path in files]
    common = os.path.commonpath([path.absolute().parent for path in files])
    for path in files:
        name = path.name if names.count(path.name) == 1 else os.path.relpath(path, common)
        try:
            loaded[printable(name)] = load(path)
        except UserError as e:
            errors.append(e)
    if not loaded:
        raise errors[0]
    for error in errors:
        print(f"left out: {error}", file=sys.stderr)
    return loaded


def find_files(paths) -> list[Path]:
    """The files, and the music files in the folders."""
    files = []
    for path in paths:
        music = [path] if not path.is_dir() else sorted(
            p for p in path.rglob("*") if p.suffix.lower() in audio.AUDIO_SUFFIXES and p.is_file())
        if not music:
            raise UserError(f"{printable(path)}: holds no music "
                            f"({', '.join(audio.AUDIO_SUFFIXES)})")
        files += music
    return files
