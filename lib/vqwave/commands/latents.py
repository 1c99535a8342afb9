"""Reconstruct, sample and walk with a VAE: a codec without codes."""

import argparse
from pathlib import Path

from .. import cli, plots
from ..io import audio, weights
from ..io.files import make_folder, printable
from ..play import api, engine, latents
from . import arguments

KINDS = {"reconstruct": "recordings through the codec and back",
         "sample": "a piece from the prior, the standard normal distribution",
         "walk": "a piece that begins as one recording and ends as another"}


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Make sound with a VAE, a codec whose frames are vectors instead of codes, as the presets "
        "spectrogram_vae and cvae train one. Its prior is sampled; no generator is needed.",
        "reconstruct a.wav b.wav --vqvae-weights-dir weights/blues --output-dir heard "
        "--picture heard/waveforms.png",
        "sample --vqvae-weights-dir weights/blues --seconds 30 --seed 1 --output sample.wav",
        "walk a.wav b.wav --vqvae-weights-dir weights/blues --output walk.wav",
        "sample --label jazz --vqvae-weights-dir weights/gtzan --output jazz.wav",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND",
                                  parser_class=type(parser))
    for name, description in KINDS.items():
        kind = kinds.add_parser(name, help=description, description=description,
                                formatter_class=parser.formatter_class)
        if name != "sample":
            kind.add_argument("inputs", nargs=2 if name == "walk" else "+", metavar="INPUT",
                              help="two recordings" if name == "walk" else "recordings")
        if name == "reconstruct":
            kind.add_argument("--output-dir", default=".", metavar="DIR",
                              help="the folder of the sounds")
            kind.add_argument("--picture", metavar="FILE",
                              help="draw the waveforms before and after, .png or .svg")
        else:
            kind.add_argument("--output", required=True, metavar="FILE", help="the sound file")
        kind.add_argument("--seconds", type=cli.number(above=0, most=3600), default=30.0,
                          metavar="S", help="how many seconds")
        if name == "sample":
            kind.add_argument("--seed", type=cli.number(int, 0), default=1, metavar="S",
                              help="the same seed gives the same sample")
            kind.add_argument("--temperature", type=cli.number(above=0, most=latents.WIDEST),
                              default=1.0, metavar="T", help="standard deviation of the latents")
        arguments.add_label(kind)
        kind.add_argument("--model", metavar="NAME",
                          help="the codec (default: the first of the chain without codes)")
        arguments.add_codecs(kind, with_chain=True)
        arguments.add_epoch(kind, "codecs")
        arguments.add_engine(kind)
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    run = {"reconstruct": reconstruct, "sample": sample, "walk": walk}[args.kind]
    run(args, load(args))
    return 0


def reconstruct(args, codec):
    folder, rate, signals = make_folder(args.output_dir), codec.config.sample_rate, {}
    if args.picture:
        plots.check_output(args.picture)
    for path in map(Path, args.inputs):
        original = audio.excerpt(path, rate, 0.0, args.seconds)
        decoded = latents.decode(codec, latents.encode(codec, original, args.label), len(original),
                                 args.label)
        write(folder / f"{path.stem}_{codec.config.name}.wav", decoded, rate)
        signals |= {f"{path.name}, before": original, f"{path.name}, after": decoded}
    if args.picture:
        plots.waveforms(signals, args.picture, rate, f"{codec.config.name}: before and after",
                        across=2)
        print(f"wrote {printable(args.picture)}")


def sample(args, codec):
    rate = codec.config.sample_rate
    [piece] = latents.Sample(codec, api.samples_in(args.seconds, rate), args.seed, args.temperature,
                             args.label)
    write(args.output, piece, rate)


def walk(args, codec):
    rate = codec.config.sample_rate
    sounds = [audio.excerpt(path, rate, 0.0, args.seconds) for path in args.inputs]
    vectors = latents.walk(*(latents.encode(codec, sound, args.label) for sound in sounds))
    write(args.output, latents.decode(codec, vectors, min(map(len, sounds)), args.label), rate)


def load(args) -> engine.CodecEngine:
    """The codec of --model. Raises `UserError` where it has codes."""
    folder = weights.find_folder(args.vqvae_weights_dir, weights.CODECS)
    names = list(weights.chain(folder).codecs.values())
    if args.model:
        names = [arguments.find_name(args.model, names, "codec of the chain")]
    sets = [weights.find(folder, name, args.epoch) for name in names]
    vae = next((codec for codec in sets if not codec.config.has_codes), sets[0])
    latents.check_latents(vae.config)
    return engine.load_codec(vae, args.engine)


def write(path, sound, rate: int):
    audio.write(path, sound, rate)
    print(f"wrote {printable(path)}: {len(sound) / rate:.2f} s")
