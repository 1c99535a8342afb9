#!/usr/bin/env python3
"""Train the generator of one level on a prepared folder."""

import sys

from vqwave import cli, quiet, weights
from vqwave.train import options


def main(argv=None) -> int:
    parser = cli.parser(
        "Train one generator on the codes that trained codecs make of music prepared by prepare_audio.py. The same "
        "command again resumes where it was.",
        "scripts/train_generator.py --generator generator_128 --data-dir data/my_music --minutes 60 --fp16",
    )
    options.add_options(parser, "generator")
    parser.add_argument("--vqvae-weights-dir", default=weights.CODECS, help="folder of the codecs")
    parser.add_argument("--epoch", help="the codecs' epoch, or best (default: the set that ships, else the best)")
    parser.add_argument("--offsets", type=cli.number(int, 1, 64),
                        help="encode each track at so many sample offsets, so that no one alignment is learnt "
                             "(default: the preset's)")
    parser.add_argument("--transpose", type=cli.number(int, 0, 12), metavar="SEMITONES",
                        help="encode each training track also 1 … SEMITONES higher and lower (default: the preset's)")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="encode the tracks on the workers of a Dask cluster (docs/scaling.md)")
    args = parser.parse_args(argv)
    settings = options.read_settings(args, "generator")

    quiet.import_keras()
    from vqwave.train import training

    training.train_generator(settings.model, args.data_dir, args.vqvae_weights_dir, settings.options,
                             settings.training, settings.data, codec_epoch=args.epoch, chain=settings.chain,
                             scheduler=args.scheduler)
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
