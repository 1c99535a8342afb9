"""Reconstruct, sample and walk with a VAE: a codec without codes."""

import argparse
from pathlib import Path

from .. import cli, plots
from ..errors import UserError
from ..io import audio, weights
from ..io.files import make_folder, printable
from ..play import api, engine, latents
from . import arguments


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Make sound with a VAE, a codec whose frames are vectors and not codes: as the presets "
        "spectrogram_vae and cvae train them. No generator plays it; its own prior does.",
        "reconstruct a.wav b.wav --vqvae-weights-dir weights/blues --output-dir heard "
        "--picture heard/waveforms.png",
        "sample --vqvae-weights-dir weights/blues --seconds 30 --seed 1 --output sample.wav",
        "walk a.wav b.wav --vqvae-weights-dir weights/blues --output walk.wav",
        "sample --label jazz --vqvae-weights-dir weights/gtzan --output jazz.wav",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND",
                                  parser_class=type(parser))

    def kind(name, run, description):
        one = kinds.add_parser(name, help=description, description=description,
                               formatter_class=parser.formatter_class)
        one.set_defaults(run=run)
        one.add_argument("--model", metavar="NAME",
                         help="the codec (default: the first of the chain without codes)")
        arguments.add_codecs(one, with_chain=True)
        arguments.add_epoch(one, "codecs")
        one.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                         help="what runs the codec")
        arguments.add_label(one)
        return one

    def output(one):
        one.add_argument("--output", required=True, metavar="FILE", help="the sound file")

    def part(one, seconds):
        one.add_argument("--seconds", type=cli.number(above=0, most=3600), default=seconds,
                         metavar="S", help="how many seconds")

    one = kind("reconstruct", reconstruct, "recordings through the codec and back")
    one.add_argument("inputs", nargs="+", metavar="INPUT", help="recordings, in any common format")
    one.add_argument("--output-dir", default=".", metavar="DIR", help="where the sounds go")
    one.add_argument("--picture", metavar="FILE",
                     help="draw the waveforms before and after, .png or .svg")
    part(one, 30.0)
    one = kind("sample", sample, "a piece from the prior, the standard normal distribution")
    part(one, 30.0)
    one.add_argument("--seed", type=cli.number(int, 0), default=1, metavar="S",
                     help="decides what is drawn")
    one.add_argument("--temperature", type=cli.number(above=0, most=latents.WIDEST),
                     default=1.0, metavar="T",
                     help="the standard deviation that is drawn with")
    output(one)
    one = kind("walk", walk, "a piece that begins as one recording and ends as another")
    one.add_argument("inputs", nargs=2, metavar="INPUT", help="two recordings")
    part(one, 30.0)
    output(one)
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    args.run(args, _load(args))
    return 0


def reconstruct(args, codec):
    folder, rate, drawn = make_folder(args.output_dir), codec.config.sample_rate, {}
    if args.picture:
        plots.check_output(args.picture)
    for path in map(Path, args.inputs):
        original = audio.excerpt(path, rate, 0.0, args.seconds)
        made = latents.decode(codec, latents.encode(codec, original, args.label), len(original),
                              args.label)
        _write(folder / f"{path.stem}_{codec.config.name}.wav", made, rate)
        drawn |= {f"{path.name}, before": original, f"{path.name}, after": made}
    if args.picture:
        plots.waveforms(drawn, args.picture, rate, f"{codec.config.name}: before and after",
                        across=2)
        print(f"wrote {printable(args.picture)}")


def sample(args, codec):
    rate = codec.config.sample_rate
    [piece] = latents.Sample(codec, api.samples_in(args.seconds, rate), args.seed, args.temperature,
                             args.label)
    _write(args.output, piece, rate)


def walk(args, codec):
    rate = codec.config.sample_rate
    heard = [audio.excerpt(path, rate, 0.0, args.seconds) for path in args.inputs]
    vectors = latents.walk(*(latents.encode(codec, one, args.label) for one in heard))
    _write(args.output, latents.decode(codec, vectors, min(map(len, heard)), args.label), rate)


def _load(args) -> engine.CodecEngine:
    """The codec that is asked for. Raises `UserError` where it has codes."""
    folder = weights.find_folder(args.vqvae_weights_dir, weights.CODECS)
    names = list(weights.chain(folder).codecs.values())
    if args.model and args.model not in names:
        raise UserError(f"no codec of the chain is called {args.model!r}; there are "
                        f"{', '.join(names)}")
    found = [weights.find(folder, name, args.epoch)
             for name in ([args.model] if args.model else names)]
    chosen = next((one for one in found if not one.config.has_codes), found[0])
    latents.check_latents(chosen.config)
    return engine.load_codec(chosen, args.engine)


def _write(path, sound, rate: int):
    audio.write(path, sound, rate)
    print(f"wrote {printable(path)}: {len(sound) / rate:.2f} s")
