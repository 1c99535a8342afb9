"""Arguments of several commands. parser: a parser, or one of its groups."""

from .. import cli
from ..io import manifest, splits, weights
from ..levels import DataConfig, Split, TrainingConfig
from ..play import engine
from ..report import fad
from ..train import options


def add_data(parser):
    parser.add_argument("--data-dir", required=True, metavar="DIR",
                        help=f"the data folder that `{cli.command('prepare')}` wrote")


def add_codecs(parser):
    """--vqvae-weights-dir."""
    parser.add_argument("--vqvae-weights-dir", metavar="DIR",
                        help=f"folder of the codecs (default: {weights.CODECS})")


def add_weights(parser, preset: bool = False):
    """The folders of codecs and generators. preset: also --preset, which changes their defaults."""
    if preset:
        parser.add_argument("--preset", metavar="NAME",
                            help=f"use weights that were trained with this preset: a name "
                                 f"(`{cli.command('train')} --list` lists all) or the path of a "
                                 f"YAML file")
    parser.add_argument("--vqvae-weights-dir", metavar="DIR",
                        help=f"folder of the codecs (default: that of the generators if it holds "
                             f"any, otherwise {weights.CODECS})")
    named = f"; with --preset {weights.GENERATORS}/NAME" * preset
    parser.add_argument("--generator-weights-dir", metavar="DIR",
                        help=f"folder of the generators and of chain.yml (default: "
                             f"{weights.GENERATORS}{named})")


def add_generator_folders(parser, text: str):
    """--generator-weights-dir for several folders."""
    parser.add_argument("--generator-weights-dir", nargs="+", metavar="DIR",
                        help=f"folders of generators (default: {weights.GENERATORS}); {text}. "
                             f"Generators use the codecs in their own folder, if there are any")


def add_address(parser, port: int, text: str = ""):
    """--host and --port."""
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="network address to listen on; 0.0.0.0 is every network of this "
                             "machine" + text)
    parser.add_argument("--port", type=cli.number(int, least=0, most=65535), default=port,
                        metavar="N", help="port to listen on; 0 chooses a free port")


def add_partners(parser):
    parser.add_argument("--osc", metavar="HOST:PORT",
                        help="send /vqwave/tempo and /vqwave/beat at each beat of the score by "
                             "OSC, and take /vqwave/tempo at the next port (needs python-osc)")
    parser.add_argument("--link", action="store_true",
                        help="share tempo and bars of the score through Ableton Link (needs "
                             "aalink)")


def add_epoch(parser, of: str):
    """--epoch. of: "codecs" or "generators"."""
    parser.add_argument("--epoch", metavar="N|best",
                        help=f"the {of}' weights of epoch N, or those with the best validation "
                             f"loss (default: the set without an epoch number, otherwise the best)")


def add_engine(parser):
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                        help="onnx: LSTMs, WaveNets, Transformers and PixelCNNs in int8; "
                             "onnx-float32: all in float32")


def add_label(parser):
    parser.add_argument("--label", metavar="LABEL[:SHARE],...",
                        help="for weights that were trained with labels: a label, or a mixture of "
                             "labels such as elvish-theme:0.7,battle:0.3 (default: any music)")


def add_force(parser):
    parser.add_argument("--force", action="store_true", help="replace existing files")


def add_musicnn(parser):
    """--musicnn: the network of the Fréchet distance."""
    parser.add_argument("--musicnn", metavar="PATH",
                        help=f"the wheel of {fad.MUSICNN}, or a folder with the unpacked wheel "
                             f"(default: download it once, 29 MB)")


def add_held_out(parser):
    """--val-split and --split-seed: the tracks that a training holds out."""
    parser.add_argument("--val-split", metavar="SHARE|F.yml",
                        help=f"the tracks that the training held out: a share of the hours, or the "
                             f"path of a split.yml (default: the {splits.SPLIT_FILE} beside the "
                             f"weights, otherwise {DataConfig().split:g})")
    parser.add_argument("--split-seed", type=cli.number(int, 0), metavar="S",
                        help=f"the --seed of the training, if --val-split is a share (default: "
                             f"{TrainingConfig().seed})")


def held_out(args, folder) -> tuple[float | Split, int]:
    """The split and seed for `splits.split`: from --val-split, or as the training recorded them."""
    seed = TrainingConfig().seed if args.split_seed is None else args.split_seed
    if args.val_split is not None:
        return options.parse_split(args.val_split), seed
    recorded = (splits.load(folder, manifest.read(args.data_dir)) if args.split_seed is None
                else None)
    # Without a held-out track among these, the record belongs to a training on other music.
    return (recorded[0] if recorded and recorded[0].held_out_tracks else DataConfig().split), seed
