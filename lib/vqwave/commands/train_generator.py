"""Train the generator of one level on a prepared folder."""

import argparse

from .. import cli, config
from ..io import weights
from ..train import options
from . import arguments


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Train one generator on the codes of a data folder. The same command again continues a "
        "stopped training.",
        "--generator generator_128 --data-dir data/my_music --minutes 60 --fp16",
        "--generator generator_128 --data-dir data/both --label folder",
    )
    options.add_options(parser, "generator")
    arguments.add_codecs(parser)
    arguments.add_epoch(parser, "codecs")
    parser.add_argument("--offsets", type=cli.field(config.TrainingConfig, "offsets"), metavar="N",
                        help="encode each track N times, each time beginning some samples later, "
                             "so that no one alignment is learnt (default: the preset's)")
    parser.add_argument("--transpose", type=cli.field(config.TrainingConfig, "transpose"),
                        metavar="SEMITONES",
                        help="encode each training track also 1 … SEMITONES higher and lower "
                             "(default: the preset's)")
    parser.add_argument("--gain", type=cli.field(config.TrainingConfig, "gain"), metavar="DB",
                        help="encode each training track also up to so many dB quieter (default: "
                             "the preset's)")
    options.add_label(parser)
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                        help="encode the tracks on the workers of a Dask cluster (docs/scaling.md)")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    codecs = weights.find_folder(args.vqvae_weights_dir, weights.CODECS)
    options.read_settings(args, "generator").train(args.data_dir, codecs, args.epoch,
                                                   args.scheduler)
    return 0
