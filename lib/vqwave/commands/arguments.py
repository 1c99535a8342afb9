"""Arguments that several commands share. parser: a parser, or one of its groups."""

from .. import cli
from ..config import DataConfig, Split, TrainingConfig
from ..errors import UserError
from ..io import manifest, splits, weights
from ..play import engine
from ..report import fad
from ..train import options


def add_data(parser):
    parser.add_argument("--data-dir", required=True, metavar="DIR",
                        help="the data folder that `prepare` wrote")


def add_codecs(parser, preset: bool = False):
    """--vqvae-weights-dir. preset: --preset changes its default."""
    _add_folder(parser, "--vqvae-weights-dir", weights.CODECS, "the folder of the codecs", preset)


def add_weights(parser, preset: bool = False):
    """The folders of codecs and generators. preset: also --preset, which changes their defaults."""
    if preset:
        parser.add_argument("--preset", metavar="NAME",
                            help=f"use the weights that were trained as this preset: a name that "
                                 f"`{cli.command('train')} --list` shows, or the path of a YAML "
                                 f"file")
    add_codecs(parser, preset)
    _add_folder(parser, "--generator-weights-dir", weights.GENERATORS,
                "the folder of the generators, and of chain.yml", preset)


def _add_folder(parser, flag, shipped, text, preset):
    default = f" (default: {shipped}; with --preset {weights.GENERATORS}/NAME)" * preset
    parser.add_argument(flag, default=None if preset else shipped, metavar="DIR",
                        help=text + default)


def add_generator_folders(parser, text: str):
    """--generator-weights-dir for several folders."""
    parser.add_argument("--generator-weights-dir", default=[weights.GENERATORS], nargs="+",
                        metavar="DIR", help=f"folders of generators; {text}. Codecs in the same "
                                            f"folder are used with them")


def add_address(parser, port: int, text: str = ""):
    """--host and --port."""
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="address to listen on; 0.0.0.0 is every network this machine is in"
                             + text)
    parser.add_argument("--port", type=cli.number(int, least=0, most=65535), default=port,
                        metavar="N", help="port to listen on; 0 takes a free one")


def add_epoch(parser, of: str):
    """--epoch. of: "codecs" or "generators"."""
    parser.add_argument("--epoch", metavar="N|best",
                        help=f"which weights of the {of}: those of an epoch, or the best by "
                             f"validation (default: the set without a number, else the best)")


def add_engine(parser, engines=engine.ENGINES):
    texts = {"onnx": "int8 on the CPU", "onnx-float32": "float32 on the CPU",
             "keras": "Keras, also on a GPU"}
    parser.add_argument("--engine", choices=engines, default=engines[0],
                        help="; ".join(f"{name}: {texts[name]}" for name in engines))


def add_label(parser):
    parser.add_argument("--label", metavar="LABEL[:SHARE],...",
                        help="for weights that were trained with labels: a label, or several with "
                             "their shares, such as calm:0.7,battle:0.3 (default: any music)")


def add_musicnn(parser):
    """--musicnn: the network of the Fréchet distance."""
    parser.add_argument("--musicnn", metavar="PATH",
                        help=f"the wheel of {fad.PACKAGE}, or the folder of the unpacked wheel "
                             f"(default: downloaded once)")


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
    """The split and the seed of `splits.split`: of --val-split, else what the training into
    `folder` recorded.
    """
    seed = TrainingConfig().seed if args.split_seed is None else args.split_seed
    if args.val_split is not None:
        return options.parse_split(args.val_split), seed
    recorded = (splits.load(folder, manifest.read(args.data_dir)) if args.split_seed is None
                else None)
    # A training on other music held out none of these tracks.
    return (recorded[0] if recorded and recorded[0].held_out_tracks else DataConfig().split), seed


def chosen(args) -> dict:
    """--label, as `Stream` takes it."""
    return {} if args.label is None else {"label": args.label}


def find_name(name: str, names, what: str) -> str:
    """`name`. Raises `UserError` where it is not among the names of every `what`."""
    if name not in names:
        raise UserError(f"no {what} is called {name!r}; there are {', '.join(names)}")
    return name
