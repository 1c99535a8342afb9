"""Train one codec on a prepared folder."""

import argparse

from .. import cli
from ..errors import UserError
from ..train import options, run_plan


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Train one codec (VQ-VAE) on a data folder. Run the same command again to continue a "
        "stopped training.",
        "--model vqvae_32 --data-dir data/mine --output-dir weights/my_codec --minutes 30",
        "--preset cvae --model vqvae_500 --data-dir data/gtzan --output-dir weights/gtzan "
        "--minutes 30 --label folder",
    )
    options.add_options(parser, "codec")
    parser.add_argument("--decoder-only", action="store_true",
                        help="with --start-from: train the decoder only; the codes stay the same, "
                             "so their generators stay valid")
    parser.add_argument("--performer", metavar="FOLDER",
                        help="with --decoder-only: the decoder also learns how the generators in "
                             "this folder play the scores of the tracks")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    if args.decoder_only and not args.start_from:
        raise UserError("--decoder-only needs --start-from, because an untrained encoder has no "
                        "codes worth decoding")
    if args.performer and not args.decoder_only:
        raise UserError("--performer needs --decoder-only, because a performer plays codes that "
                        "must stay as they are")
    run_plan.train_model(options.read_settings(args, "codec"), args.data_dir)
    return 0
