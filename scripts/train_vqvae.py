#!/usr/bin/env python3
"""Train one codec on a prepared folder."""

import sys

from vqwave import cli, config, quiet
from vqwave.errors import UserError


def main(argv=None) -> int:
    parser = cli.parser(
        "Train one codec (VQ-VAE) on music prepared by prepare_audio.py. The same command again resumes where it was.",
        "scripts/train_vqvae.py --model vqvae_32 --data-dir data/my_music --minutes 30 --fp16",
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="vqvae_512, vqvae_128, vqvae_32 or vqvae_8")
    parser.add_argument("--decoder-only", action="store_true",
                        help="leave encoder and codebook as they are, so that generators trained on their codes stay "
                             "valid (with --start-from)")
    cli.add_training_options(parser, batch_size=8, input_length=65536)
    args = parser.parse_args(argv)
    if args.decoder_only and not args.start_from:
        raise UserError("--decoder-only needs --start-from: a decoder for the codes of an untrained encoder is no use")
    codec = config.codec_preset(args.model, args.size)
    if args.config:
        codec = config.override(codec, args.config)

    if args.distribute and (code := cli.guarded(argv)) is not None:
        return code
    quiet.import_keras()
    from vqwave.train import training

    training.train_codec(codec, args.data_dir, cli.training_options(args, decoder_only=args.decoder_only))
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
