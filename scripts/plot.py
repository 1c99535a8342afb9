#!/usr/bin/env python3
"""Pictures of music, of codes, of codebooks and of training."""

import sys
from pathlib import Path

import numpy as np

from vqwave import cli, metrics, plots
from vqwave.config import LEVELS, SAMPLE_RATE, codec_name
from vqwave.data import audio
from vqwave.errors import UserError
from vqwave.files import printable
from vqwave.play import api


def main(argv=None) -> int:
    parser = cli.parser(
        "Draw. Pictures are PNG or SVG, by the ending of --output; they can be read without colour.",
        "scripts/plot.py waveforms ~/Music/wesnoth --output waveforms.png\n"
        "  scripts/plot.py spectrograms song.mp3 out.wav --seconds 20 --output both.svg\n"
        "  scripts/plot.py curves weights/wesnoth --output curves.png\n"
        "  scripts/plot.py usage song.mp3 --output usage.png\n"
        "  scripts/plot.py codebook song.mp3 --model vqvae_128 --output codebook.png\n"
        "  scripts/plot.py codes song.mp3 --start 60 --seconds 10 --output codes.png",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND", parser_class=type(parser))

    def kind(name, draw, description, inputs):
        one = kinds.add_parser(name, help=description, description=description,
                               formatter_class=parser.formatter_class)
        one.set_defaults(draw=draw)
        one.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
        one.add_argument("--output", required=True, metavar="FILE", help="the picture, .png or .svg")
        one.add_argument("--title", default="", help="a line above it")
        return one

    def part(one, seconds):
        one.add_argument("--start", type=cli.number(least=0), default=0.0, metavar="S", help="seconds to skip first")
        one.add_argument("--seconds", type=cli.number(above=0), default=seconds, metavar="S",
                         help="seconds to take" + ("" if seconds else " (default: to the end)"))

    def codecs(one):
        one.add_argument("--vqvae-weights-dir", default=api.CODECS, metavar="DIR", help="where the codecs are")

    music = "files of music, or folders of them, searched to the bottom"
    part(kind("waveforms", waveforms, "the waveforms of a folder, one under the other", music), None)
    one = kind("spectrograms", spectrograms, "waveforms and mel spectrograms side by side", music)
    part(one, None)
    one.add_argument("--across", type=cli.number(int, 1, 12), default=3, help="how many beside each other")
    kind("curves", curves, "training curves, also of a run that still trains: all models of a folder, or every metric "
         "of one", "the folder of a run, or the .csv log of one model")
    for name, draw, what in (("usage", usage, "how often each code occurs in music, of every level"),
                             ("codebook", codebook, "a map of a codebook: which codes are alike, how often they occur"),
                             ("codes", codes, "the codes of the levels under the spectrogram of one file")):
        one = kind(name, draw, what, music)
        part(one, 10.0 if name == "codes" else None)
        codecs(one)
        if name == "codebook":
            one.add_argument("--model", default="vqvae_128", choices=[codec_name(x) for x in LEVELS], help="the codec")
        else:
            one.add_argument("--levels", type=cli.one_of(*LEVELS), nargs="+", default=list(LEVELS), metavar="L",
                             help="which levels")
    args = parser.parse_args(argv)
    plots.check_output(args.output)
    args.draw(args)
    print(f"wrote {printable(args.output)}")
    return 0


def waveforms(args):
    plots.waveforms(_heard(args), args.output, title=args.title)


def spectrograms(args):
    plots.spectrograms(_heard(args), args.output, title=args.title, across=args.across)


def curves(args):
    if len(args.inputs) > 1:
        raise UserError("curves draws one run: give one folder, or one .csv log")
    path = Path(args.inputs[0])
    if path.is_dir():
        drawn = plots.training_curves(plots.logs(path), args.output, args.title)
    else:
        drawn = plots.loss_curves(path, args.output, args.title or path.stem)
    if not drawn:
        raise UserError(f"{printable(path)}: no epoch of any model is logged there yet")


def usage(args):
    heard = _heard(args)
    loaded = api.load(args.vqvae_weights_dir)
    counts = {f"{level}x": _counts(loaded, level, heard) for level in sorted(args.levels, reverse=True)}
    plots.code_usage(counts, args.output, args.title)


def codebook(args):
    heard = _heard(args)
    loaded = api.load(args.vqvae_weights_dir)
    level = loaded.found(args.model).config.level
    (vectors,) = loaded.codec(level).weight_set.load("codebook").values()
    plots.codebook_map(vectors, _counts(loaded, level, heard), args.output, args.title or args.model)


def codes(args):
    heard = _heard(args)
    if len(heard) > 1:
        raise UserError("codes draws one file")
    (name, sound), = heard.items()
    loaded = api.load(args.vqvae_weights_dir)
    made = {level: loaded.encode(sound, level) for level in args.levels}
    shades = {level: plots.codec_shades(loaded.codec(level)) for level in args.levels}
    plots.codes(made, shades, args.output, sound, title=args.title or name)


def _heard(args) -> dict[str, np.ndarray]:
    """{name: float32 [samples]} of the files that are named, the part of each that is wanted."""
    files = []
    for name in map(Path, args.inputs):
        if name.is_dir():
            there = sorted(p for p in name.rglob("*") if p.suffix.lower() in audio.AUDIO_SUFFIXES and p.is_file())
            if not there:
                raise UserError(f"{printable(name)}: holds no music ({', '.join(audio.AUDIO_SUFFIXES)})")
            files += there
        else:
            files.append(name)
    heard = {}
    for path in files:
        name = path.name if sum(p.name == path.name for p in files) == 1 else str(path)
        heard[printable(name)] = audio.excerpt(path, SAMPLE_RATE, args.start, args.seconds)
    return heard


def _counts(loaded, level, heard) -> np.ndarray:
    size = loaded.codec(level).config.num_codes
    return sum(metrics.histogram(loaded.encode(sound, level), size) for sound in heard.values())


if __name__ == "__main__":
    sys.exit(cli.entry(main))
