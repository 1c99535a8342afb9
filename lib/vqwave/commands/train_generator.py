"""Train the generator of one level on a prepared folder."""

import argparse

from .. import cli
from ..io import defaults
from ..train import options, run_plan
from . import arguments


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Train one generator on the codes of a data folder. Run the same command again to continue "
        "a stopped training.",
        "--generator generator_128 --data-dir data/my_music --minutes 60 --fp16",
        "--generator generator_128 --data-dir data/both --label folder",
    )
    options.add_options(parser, "generator")
    arguments.add_codecs(parser)
    arguments.add_epoch(parser, "codecs")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    codecs = defaults.codecs(args.vqvae_weights_dir)
    run_plan.train_model(options.read_settings(args, "generator"), args.data_dir, codecs,
                         args.epoch, args.scheduler)
    return 0
