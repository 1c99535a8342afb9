#!/usr/bin/env python3
"""Train the generator of one level on a prepared folder."""

import sys

from vqwave import cli, config, quiet


def main(argv=None) -> int:
    parser = cli.parser(
        "Train one generator on the codes that trained codecs make of music prepared by prepare_audio.py. The same "
        "command again resumes where it was.",
        "scripts/train_generator.py --generator generator_128 --data-dir data/my_music --minutes 60 --fp16",
    )
    parser.add_argument("--generator", required=True, metavar="NAME",
                        help="generator_512, generator_128, generator_32 or generator_8")
    parser.add_argument("--vqvae-weights-dir", default="final_weights", help="folder of the codecs")
    parser.add_argument("--epoch", help="the codecs' epoch, or best (default: the set that ships, else the best)")
    parser.add_argument("--offsets", type=cli.number(int, 1, 64), default=4,
                        help="encode each track at so many sample offsets, so that no one alignment is learnt")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="encode the tracks on the workers of a Dask cluster (docs/scaling.md)")
    cli.add_training_options(parser, batch_size=16, input_length=None)
    args = parser.parse_args(argv)
    generator = config.generator_preset(args.generator, args.size)
    if args.config:
        generator = config.override(generator, args.config)
    if args.input_length is None:
        args.input_length = 512 * generator.level

    if args.distribute and (code := cli.guarded(argv)) is not None:
        return code
    quiet.import_keras()
    from vqwave.train import training

    training.train_generator(generator, args.data_dir, args.vqvae_weights_dir, cli.training_options(args), args.epoch,
                             args.offsets, scheduler=args.scheduler)
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
