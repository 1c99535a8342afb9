"""Arguments that several commands share."""

import argparse

from .. import cli, config
from ..config import DataConfig, Split, TrainingConfig
from ..io import manifest, splits, weights
from ..io.files import CHECKOUT
from ..report import fad
from ..train import options


def add_data(parser):
    parser.add_argument("--data-dir", required=True, metavar="DIR",
                        help="the data folder that `prepare` made")


def add_codecs(parser, with_chain: bool = False, preset: bool = False):
    """--vqvae-weights-dir. with_chain: the folder's chain.yml says which codecs there are. preset:
    see `add_weights`.
    """
    chain = ", and of chain.yml if they are of a chain of your own" if with_chain else ""
    _add_folder(parser, "--vqvae-weights-dir", weights.CODECS, "the folder of the codecs" + chain,
                preset)


def add_generators(parser, preset: bool = False):
    """--generator-weights-dir. preset: see `add_weights`."""
    _add_folder(parser, "--generator-weights-dir", weights.GENERATORS,
                "the folder of the generators, and of chain.yml", preset)


def _add_folder(parser, flag, shipped, what, preset):
    usual = f" (default: {shipped}); with --preset {weights.GENERATORS}/NAME" if preset else ""
    parser.add_argument(flag, default=None if preset else shipped, metavar="DIR", help=what + usual)


def add_weights(parser, preset: bool = False):
    """The folders of both. preset: --preset too, which then says where they lie."""
    if preset:
        parser.add_argument("--preset", metavar="NAME",
                            help=f"play what was trained as this preset, and nothing else: "
                                 f"{', '.join(config.preset_names())}, or the path of a preset's "
                                 f"YAML file")
    add_codecs(parser, preset=preset)
    add_generators(parser, preset)


def add_epoch(parser, of: str):
    """--epoch, of the codecs or the generators."""
    parser.add_argument("--epoch", metavar="N|best",
                        help=f"which weights of the {of}: an epoch's, or the best by validation "
                             f"(default: the set without a number, else the best)")


def add_held_out(parser):
    """--val-split and --split-seed: which tracks a training holds out."""
    parser.add_argument("--val-split", metavar="SHARE|F.yml",
                        help=f"what the training holds out: a share of the hours, or a split.yml "
                             f"(default: the {splits.FILE} that `train` leaves beside the weights, "
                             f"else {DataConfig().split:g})")
    parser.add_argument("--split-seed", type=cli.number(int, 0), metavar="S",
                        help=f"the --seed of the training, by which a share is drawn (default: "
                             f"{TrainingConfig().seed})")


def held_out(args, folder) -> tuple[float | Split, int]:
    """What `add_held_out` was told, or else what a training into a folder of weights wrote down:
    the split and the seed of a draw.
    """
    seed = TrainingConfig().seed if args.split_seed is None else args.split_seed
    if args.val_split is not None:
        return options.parse_split(args.val_split), seed
    kept = (splits.recorded(folder, manifest.read(args.data_dir)) if args.split_seed is None
            else None)
    # Of a folder of other music none of it is there.
    return kept[0] if kept and kept[0].held_out_tracks else DataConfig().split, seed


def add_musicnn(parser):
    """--musicnn: the network that distances are measured by."""
    parser.add_argument("--musicnn", metavar="PATH",
                        help=f"the wheel of {fad.PACKAGE}, or the folder it was unpacked in "
                             f"(default: fetched once)")


def add_results(parser, what: str):
    """--output-dir and --json. what: of the page there is."""
    parser.add_argument("--output-dir", default=str(CHECKOUT), metavar="DIR",
                        help=f"where {what}")
    parser.add_argument("--json", action="store_true",
                        help="print the figures as JSON, write nothing")


def named(text: str) -> tuple[str, str]:
    """NAME=PATH, as an option has it."""
    name, found, folder = text.partition("=")
    if not (name and found and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name and a path, NAME=PATH")
    return name, folder


def add_label(parser):
    """--label, of what plays."""
    parser.add_argument("--label", metavar="LABEL[:SHARE],...",
                        help="what the music is to be like, of weights that were trained with "
                             "labels: one of them, or several with the share of each, such as "
                             "calm:0.7,battle:0.3 (default: like any of them)")


def chosen(args) -> dict:
    """What --label and --choose say, as `Stream` takes it."""
    return dict(args.choose or ()) | ({} if args.label is None else {"label": args.label})
