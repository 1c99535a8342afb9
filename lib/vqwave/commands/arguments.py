"""Arguments that several commands share."""

import argparse

from .. import cli, config
from ..config import DataConfig, Split, TrainingConfig
from ..io import manifest, splits, weights
from ..io.files import CHECKOUT
from ..play import engine
from ..report import fad
from ..train import options


def add_data(parser):
    parser.add_argument("--data-dir", required=True, metavar="DIR",
                        help="the data folder that `prepare` wrote")


def add_codecs(parser, with_chain: bool = False, preset: bool = False):
    """--vqvae-weights-dir. with_chain: the folder's chain.yml names the codecs. preset: see
    `add_weights`.
    """
    what = "the folder of the codecs" + ", and of chain.yml where there is one" * with_chain
    _add_folder(parser, "--vqvae-weights-dir", weights.CODECS, what, preset)


def add_generators(parser, preset: bool = False):
    """--generator-weights-dir. preset: see `add_weights`."""
    _add_folder(parser, "--generator-weights-dir", weights.GENERATORS,
                "the folder of the generators, and of chain.yml", preset)


def _add_folder(parser, flag, shipped, what, preset):
    default = (f" (default: {shipped}; with --preset {weights.GENERATORS}/NAME)" if preset else "")
    parser.add_argument(flag, default=None if preset else shipped, metavar="DIR",
                        help=what + default)


def add_weights(parser, preset: bool = False):
    """The folders of codecs and generators. preset: also --preset, which gives their default."""
    if preset:
        parser.add_argument("--preset", metavar="NAME",
                            help=f"use the weights that were trained as this preset: "
                                 f"{', '.join(config.preset_names())}, or the path of a preset's "
                                 f"YAML file")
    add_codecs(parser, preset=preset)
    add_generators(parser, preset)


def add_epoch(parser, of: str):
    """--epoch, of the codecs or the generators."""
    parser.add_argument("--epoch", metavar="N|best",
                        help=f"which weights of the {of}: those of an epoch, or the best by "
                             f"validation (default: the set without a number, else the best)")


def add_engine(parser, engines=engine.ENGINES):
    texts = {"onnx": "int8 on the CPU", "onnx-float32": "float32 on the CPU",
             "keras": "Keras, also on a GPU"}
    parser.add_argument("--engine", choices=engines, default=engines[0],
                        help="; ".join(f"{name}: {texts[name]}" for name in engines))


def add_held_out(parser):
    """--val-split and --split-seed: the tracks that a training holds out."""
    parser.add_argument("--val-split", metavar="SHARE|F.yml",
                        help=f"what the training holds out: a share of the hours, or a split.yml "
                             f"(default: the {splits.FILE} beside the weights, else "
                             f"{DataConfig().split:g})")
    parser.add_argument("--split-seed", type=cli.number(int, 0), metavar="S",
                        help=f"the --seed of the training, which draws that share (default: "
                             f"{TrainingConfig().seed})")


def held_out(args, folder) -> tuple[float | Split, int]:
    """The split that --val-split names, else the split that the training into `folder` recorded;
    and the seed that draws a share.
    """
    seed = TrainingConfig().seed if args.split_seed is None else args.split_seed
    if args.val_split is not None:
        return options.parse_split(args.val_split), seed
    recorded = (splits.load(folder, manifest.read(args.data_dir)) if args.split_seed is None
                else None)
    # A training on other music held out none of these tracks.
    return (recorded[0] if recorded and recorded[0].held_out_tracks else DataConfig().split), seed


def add_musicnn(parser):
    """--musicnn: the network of the Fréchet distance."""
    parser.add_argument("--musicnn", metavar="PATH",
                        help=f"the wheel of {fad.PACKAGE}, or the folder of the unpacked wheel "
                             f"(default: downloaded once)")


def add_results(parser, what: str):
    """--output-dir and --json. what: the pages in that folder, with a verb."""
    parser.add_argument("--output-dir", default=str(CHECKOUT), metavar="DIR",
                        help=f"where {what}")
    parser.add_argument("--json", action="store_true",
                        help="print the figures as JSON, write nothing")


def named(text: str) -> tuple[str, str]:
    """An argparse type: NAME=PATH."""
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, path


def add_label(parser):
    parser.add_argument("--label", metavar="LABEL[:SHARE],...",
                        help="for weights that were trained with labels: a label, or several with "
                             "their shares, such as calm:0.7,battle:0.3 (default: any music)")


def chosen(args) -> dict:
    """--label, as `Stream` takes it."""
    return {} if args.label is None else {"label": args.label}
