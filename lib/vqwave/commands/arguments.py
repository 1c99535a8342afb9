"""Arguments that several commands share."""

from .. import cli, weights
from ..config import DataConfig, TrainingConfig


def add_data(parser):
    parser.add_argument("--data-dir", required=True, metavar="DIR",
                        help="the data folder that `prepare` made")


def add_codecs(parser, with_chain: bool = False):
    """--vqvae-weights-dir. with_chain: the folder's chain.yml says which codecs there are."""
    chain = ", and of chain.yml if they are of a chain of your own" if with_chain else ""
    parser.add_argument("--vqvae-weights-dir", default=weights.CODECS, metavar="DIR",
                        help="the folder of the codecs" + chain)


def add_generators(parser):
    parser.add_argument("--generator-weights-dir", default=weights.GENERATORS, metavar="DIR",
                        help="the folder of the generators, and of chain.yml")


def add_weights(parser):
    """The folders of both."""
    add_codecs(parser)
    add_generators(parser)


def add_epoch(parser, of: str):
    """--epoch, of the codecs or the generators."""
    parser.add_argument("--epoch", metavar="N|best",
                        help=f"which weights of the {of}: an epoch's, or the best by validation "
                             f"(default: the set without a number, else the best)")


def add_held_out(parser):
    """--val-split and --split-seed: which tracks a training holds out."""
    parser.add_argument("--val-split", default=str(DataConfig().split), metavar="SHARE|F.yml",
                        help="what the training holds out: a share of the hours, or a split.yml")
    parser.add_argument("--split-seed", type=cli.number(int, 0), default=TrainingConfig().seed,
                        metavar="S", help="the --seed of the training, by which a share is drawn")


def add_label(parser):
    """--label, of what plays."""
    parser.add_argument("--label", metavar="LABEL[:SHARE],...",
                        help="what the music is to be like, of weights that were trained with "
                             "labels: one of them, or several with the share of each, such as "
                             "calm:0.7,battle:0.3 (default: like any of them)")


def chosen(args) -> dict:
    """What --label and --choose say, as `Stream` takes it."""
    return dict(args.choose or ()) | ({} if args.label is None else {"label": args.label})
