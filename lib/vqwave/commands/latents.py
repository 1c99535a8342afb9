"""Reconstruct recordings with a VAE, a codec without codes, and walk between two."""

import argparse
from pathlib import Path

from .. import cli, plots
from ..io import audio, weights
from ..io.files import make_folder, printable
from ..play import engine, latents
from . import arguments


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Reconstruct recordings with a VAE, or blend two recordings. A VAE is a codec of vectors "
        "instead of codes; the presets spectrogram_vae and cvae train one. "
        f"`{cli.command('generate')} --output FILE` samples the prior of a VAE.",
        "reconstruct a.wav b.wav --vqvae-weights-dir weights/blues --output-dir heard "
        "--picture heard/waveforms.png",
        "walk a.wav b.wav --vqvae-weights-dir weights/blues --output walk.wav",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND",
                                  parser_class=type(parser))

    def add(name: str, about: str, inputs):
        kind = kinds.add_parser(name, help=about, description=about,
                                formatter_class=parser.formatter_class)
        kind.add_argument("inputs", nargs=inputs, metavar="INPUT", help="recordings")
        kind.add_argument("--seconds", type=cli.number(above=0, most=3600), default=30.0,
                          metavar="S", help="seconds of each recording to use")
        arguments.add_label(kind)
        models = kind.add_argument_group("models")
        models.add_argument("--model", metavar="NAME",
                            help="name of the VAE (default: the first VAE of the chain)")
        arguments.add_codecs(models)
        arguments.add_epoch(models, "codecs")
        arguments.add_engine(models)
        return kind

    reconstruct = add("reconstruct", "encode and decode each recording", "+")
    reconstruct.add_argument("--output-dir", default=".", metavar="DIR",
                             help="folder for the reconstructions")
    reconstruct.add_argument("--picture", metavar="FILE",
                             help="draw the waveforms before and after, as .png or .svg")
    walk = add("walk", "write a piece that starts as one recording and ends as the other", 2)
    walk.add_argument("--output", required=True, metavar="FILE", help="the .wav, .flac or .ogg "
                                                                      "file to write")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    {"reconstruct": reconstruct, "walk": walk}[args.kind](args, load(args))
    return 0


def load(args) -> engine.CodecEngine:
    """The codec of --model. Raises `UserError` where it has codes."""
    folder = weights.find_folder(args.vqvae_weights_dir, weights.CODECS)
    names = list(weights.chain(folder).codecs.values())
    if args.model:
        names = [arguments.find_name(args.model, names, "codec of the chain")]
    sets = [weights.find(folder, name, args.epoch) for name in names]
    vae = next((codec for codec in sets if not codec.config.has_codes), sets[0])
    latents.check_latents(vae.config)
    return engine.CodecEngine(vae, args.engine)


def reconstruct(args, codec):
    folder, name, rate = make_folder(args.output_dir), codec.config.name, codec.config.sample_rate
    if args.picture:
        plots.check_output(args.picture)
    signals = {}
    for path in map(Path, args.inputs):
        sound = audio.read_excerpt(path, rate, 0.0, args.seconds)
        vectors = codec.encode(sound[None], args.label)
        decoded = codec.decode(vectors, args.label)[0, : len(sound)]
        write(folder / f"{path.stem}_{name}.wav", decoded, rate)
        signals |= {f"{path.name}, before": sound, f"{path.name}, after": decoded}
    if args.picture:
        plots.waveforms(signals, args.picture, rate, f"{name}: before and after", across=2)
        print(f"wrote {printable(args.picture)}")


def walk(args, codec):
    rate = codec.config.sample_rate
    sounds = [audio.read_excerpt(path, rate, 0.0, args.seconds) for path in args.inputs]
    vectors = latents.walk(*(codec.encode(sound[None], args.label)[0] for sound in sounds))
    decoded = codec.decode(vectors[None], args.label)
    write(args.output, decoded[0, : min(map(len, sounds))], rate)


def write(path, sound, rate: int):
    audio.write(path, sound, rate)
    print(f"wrote {printable(path)}: {len(sound) / rate:.2f} s")
