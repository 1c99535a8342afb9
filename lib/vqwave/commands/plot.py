"""Pictures of music, of its notes, of codes, of codebooks and of training."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from .. import cli, plots
from ..dsp import metrics
from ..dsp import notes as note_measure
from ..errors import UserError
from ..io import audio, weights
from ..io.files import printable
from ..play import api
from ..report import maps
from . import arguments


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Draw music, its notes and codes, codebooks, or training curves. Pictures are PNG or SVG, "
        "by the ending of --output. Colours are chosen for colour-blind readers, and nothing is "
        "told by colour alone.",
        "waveforms ~/Music/wesnoth --output waveforms.png",
        "spectrograms song.mp3 out.wav --seconds 20 --output both.svg",
        "curves weights/wesnoth --output curves.png",
        "usage song.mp3 --output usage.png",
        "codebook song.mp3 --model vqvae_128 --output codebook.png",
        "map song.mp3 --vqvae-weights-dir weights/mapped --output map.png",
        "codes song.mp3 --start 60 --seconds 10 --output codes.png",
        "notes song.mp3 out.wav --seconds 30 --output notes.png",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND",
                                  parser_class=type(parser))

    def kind(name, draw, description, inputs):
        one = kinds.add_parser(name, help=description, description=description,
                               formatter_class=parser.formatter_class)
        one.set_defaults(draw=draw)
        one.add_argument("inputs", nargs="+", metavar="INPUT", help=inputs)
        one.add_argument("--output", required=True, metavar="FILE",
                         help="the picture, .png or .svg")
        one.add_argument("--title", default="", help="a line above it")
        return one

    def part(one, seconds):
        one.add_argument("--start", type=cli.number(least=0), default=0.0,
                         metavar="S", help="seconds to skip first")
        end = f"{seconds:g}" if seconds else "to the end"
        one.add_argument("--seconds", type=cli.number(above=0), metavar="S",
                         help=f"seconds to draw (default: {end})")
        one.set_defaults(most_seconds=seconds)

    def codecs(one):
        arguments.add_codecs(one, with_chain=True)

    def rate(one):
        one.add_argument("--sample-rate", type=cli.number(int, least=1000, most=192000),
                         metavar="HZ",
                         help="draw up to half this rate (default: that of the chain that ships)")

    music = "files of music, or folders of them, searched to the bottom"
    several = (kind("waveforms", waveforms, "the waveforms of many files, a panel each", music),
               kind("spectrograms", spectrograms, "waveforms and spectrograms side by side, by "
                                                  "pitch", music))
    for one in several:
        part(one, None)
        rate(one)
    for one in several:
        one.add_argument("--across", type=cli.number(int, least=1, most=12), metavar="N",
                         help="how many beside each other (default: as many as keep the picture on "
                              "a page)")
    part(kind("notes", notes, "piano rolls over log-frequency spectrograms, one under the "
                              "other", music), 30.0)
    kind("curves", curves, "training curves, also of a run that still trains: all models of a "
                           "folder, or every metric "
         "of one", "the folder of a run, or the .csv log of one model")
    for name, draw, what in (("usage", usage, "how often each code occurs in music, of every "
                                              "level"),
                             ("codebook", codebook, "a map of a codebook: which codes are alike, "
                                                    "how often they occur"),
                             ("map", code_map, "the codes of a self-organizing map in their places "
                                               "with what each sounds like"),
                             ("codes", codes, "the codes of the levels under the spectrogram of "
                                              "one file")):
        one = kind(name, draw, what, music)
        part(one, 10.0 if name == "codes" else None)
        codecs(one)
        if name in ("codebook", "map"):
            one.add_argument("--model", metavar="NAME",
                             help="the codec (default: the one that the chain ends with)")
        if name == "codebook":
            one.add_argument("--book", type=cli.number(int, 1), default=1,
                             metavar="N", help="which of its codebooks")
        elif name != "map":
            one.add_argument("--levels", type=cli.number(int, 1), nargs="+", metavar="L",
                             help="which levels (default: all of the chain)")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    plots.check_output(args.output)
    verb = "replaced" if Path(args.output).exists() else "wrote"
    args.draw(args)
    print(f"{verb} {printable(args.output)}")
    return 0


def waveforms(args):
    rate = _rate(args)
    plots.waveforms(_read(args, rate), args.output, rate, args.title, args.start, args.across)


def spectrograms(args):
    rate = _rate(args)
    plots.spectrograms(_read(args, rate), args.output, rate, args.title, args.across, args.start)


def notes(args):
    heard = _read(args, note_measure.SAMPLE_RATE)
    rolls = {name: note_measure.roll(sound, note_measure.SAMPLE_RATE, start=args.start)
             for name, sound in heard.items()}
    plots.notes(rolls, args.output, args.title)


def curves(args):
    if len(args.inputs) > 1:
        raise UserError("curves draws one run: give one folder, or one .csv log")
    path = Path(args.inputs[0])
    if path.is_dir():
        drawn = plots.training_curves(plots.logs(path, weights.chain(path).names),
                                      args.output, args.title)
    else:
        drawn = plots.loss_curves(path, args.output, args.title or path.stem)
    if not drawn:
        raise UserError(f"{printable(path)}: no epoch of any model is logged there yet")


def usage(args):
    loaded = _load(args)
    heard = _read(args, loaded.sample_rate)
    counts = {}
    for level in _levels(args, loaded):
        books = _counts(loaded, level, heard)
        counts |= {f"{level}x" + f", book {i + 1}" * (len(books) > 1): book
                   for i, book in enumerate(books)}
    plots.code_usage(counts, args.output, args.title)


def codebook(args):
    loaded = _load(args)
    name, level = _codec(args, loaded)
    vectors = loaded.weight_set(name).codebooks()
    if not vectors:
        raise UserError(f"{name} has no codebook: its codes are no vectors that could be drawn")
    if args.book > len(vectors):
        raise UserError(f"--book is {args.book}; {name} has {len(vectors)}")
    counts = _counts(loaded, level, _read(args, loaded.sample_rate))[args.book - 1]
    plots.codebook_map(vectors[args.book - 1], counts, args.output, args.title or name)


def code_map(args):
    loaded = _load(args)
    name, level = _codec(args, loaded)
    found = loaded.weight_set(name)
    maps.check_map(found.config)
    heard, grid = _read(args, loaded.sample_rate), found.config.quantizer.grid
    counts = _counts(loaded, level, heard)[0]
    spectra = maps.sounds_of_codes(loaded.codec(level))
    error = maps.topographic_error(found, list(heard.values()))
    alike = maps.neighbour_ratio(spectra, grid)
    said = f"topographic error {error:.3f}, neighbours {alike:.2f} as far apart as any two codes"
    plots.code_map(spectra, counts, grid, args.output, args.title or f"{name}: {said}")
    print(f"{name}: {said}")


def _codec(args, loaded) -> tuple[str, int]:
    """The codec that is asked for, and its level."""
    codecs = {name: level for level, name in loaded.chain.codecs.items()}
    name = args.model or loaded.chain.codecs[loaded.level]
    if name not in codecs:
        raise UserError(f"no codec of the chain is called {name!r}; there are {', '.join(codecs)}")
    return name, codecs[name]


def codes(args):
    loaded = _load(args)
    heard = _read(args, loaded.sample_rate)
    if len(heard) > 1:
        raise UserError("codes draws one file")
    (name, sound), = heard.items()
    levels = _levels(args, loaded)
    made = {level: loaded.encode(sound, level) for level in levels}
    shades = {level: plots.codec_shades(loaded.codec(level)) for level in levels}
    plots.codes(made, shades, args.output, loaded.sample_rate, loaded.chain.top,
                sound, args.title or name,
                args.start)


def _load(args) -> api.VQWave:
    """The codecs of a folder, by the chain that it says or the default one."""
    return api.load(args.vqvae_weights_dir,
                    weights.find_folder(args.vqvae_weights_dir, weights.CODECS))


def _rate(args) -> int:
    shipped = weights.find_folder(weights.GENERATORS, weights.GENERATORS)
    return args.sample_rate or weights.chain(shipped).sample_rate


def _levels(args, loaded) -> list[int]:
    return sorted(map(loaded.chain.check_level, args.levels or loaded.chain.sizes), reverse=True)


def _read(args, rate: int) -> dict[str, np.ndarray]:
    """{name: float32 [samples]} of the files that are named, the part of each that is wanted."""
    files = []
    for name in map(Path, args.inputs):
        if name.is_dir():
            there = sorted(p for p in name.rglob("*") if p.suffix.lower() in audio.AUDIO_SUFFIXES
                           and p.is_file())
            if not there:
                raise UserError(f"{printable(name)}: holds no music "
                                f"({', '.join(audio.AUDIO_SUFFIXES)})")
            files += there
        else:
            files.append(name)
    heard, refused = {}, []
    seconds = args.seconds or args.most_seconds
    above = os.path.commonpath([p.absolute().parent for p in files])
    for path in files:
        name = (path.name if sum(p.name == path.name for p in files) == 1
                else os.path.relpath(path, above))
        try:
            heard[printable(name)] = audio.excerpt(path, rate, args.start, seconds)
        except UserError as e:
            if len(files) == 1:
                raise
            refused.append(e)
    if not heard:
        raise refused[0]
    for error in refused:
        print(f"left out: {error}", file=sys.stderr)
    if (args.seconds is None and seconds
        and any(len(sound) >= round(seconds * rate) for sound in heard.values())):
        print(f"drawn are {seconds:g} seconds from second {args.start:g} on; --start and --seconds "
              f"choose others",
              file=sys.stderr)
    return heard


def _counts(loaded, level, heard) -> np.ndarray:
    """How often each code of each codebook occurs in what is heard: int [codebooks, num_codes]."""
    codec = loaded.codec(level)
    return sum(metrics.histogram(codec.encode(sound[None])[0], codec.config.num_codes,
                                 codec.config.codebook_of) for sound in heard.values())
