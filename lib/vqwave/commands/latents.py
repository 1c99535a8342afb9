"""Blend two recordings with a VAE, a codec without codes."""

import argparse

from .. import cli
from ..errors import check_name
from ..io import audio, defaults, weights
from ..io.files import check_replaced, printable
from ..play import engine, latents
from . import arguments


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Write a piece that starts as one recording and ends as another. A VAE is a codec of "
        "vectors instead of codes; the presets spectrogram_vae and cvae train one. "
        f"`{cli.command('test-codec')}` writes reconstructions, and "
        f"`{cli.command('generate')} --output FILE` samples the prior of a VAE.",
        "walk a.wav b.wav --vqvae-weights-dir weights/blues --output walk.wav",
    )
    parser.add_argument("kind", choices=["walk"], metavar="walk", help="from the first recording "
                                                                       "to the second")
    parser.add_argument("inputs", nargs=2, metavar="INPUT", help="recordings")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .wav, .flac or .ogg "
                                                                        "file to write")
    parser.add_argument("--seconds", type=cli.number(above=0, most=3600), default=30.0,
                        metavar="S", help="seconds of each recording to use")
    arguments.add_label(parser)
    arguments.add_force(parser)
    models = parser.add_argument_group("models")
    models.add_argument("--model", metavar="NAME",
                        help="name of the VAE (default: the first VAE of the chain)")
    arguments.add_codecs(models)
    arguments.add_epoch(models, "codecs")
    arguments.add_engine(models)
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    output = audio.check_output(args.output)
    check_replaced([output], args.force, args.inputs)
    codec = load(args)
    rate = codec.config.sample_rate
    sounds = [audio.read_excerpt(path, rate, 0.0, args.seconds) for path in args.inputs]
    vectors = latents.walk(*(codec.encode(sound[None], args.label)[0] for sound in sounds))
    decoded = codec.decode(vectors[None], args.label)
    count = min(map(len, sounds))
    audio.write(args.output, decoded[0, :count], rate)
    print(f"wrote {printable(args.output)}: {count / rate:.2f} s")
    return 0


def load(args) -> engine.CodecEngine:
    """The codec of --model. Raises `UserError` if it is no VAE."""
    folder = defaults.codecs(args.vqvae_weights_dir)
    names = list(weights.chain(folder).codecs.values())
    if args.model:
        names = [check_name("codec of the chain", args.model, names)]
    sets = [weights.find(folder, name, args.epoch) for name in names]
    vae = next((codec for codec in sets if not codec.config.has_codes), sets[0])
    latents.check_latents(vae.config)
    return engine.CodecEngine(vae, args.engine)
