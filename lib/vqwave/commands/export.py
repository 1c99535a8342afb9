"""Export trained models to ONNX."""

import argparse
import sys

from .. import cli
from ..errors import UserError, check_name
from ..export import export, packing
from ..io import defaults, weights
from ..io.files import check_replaced, printable
from ..play import api
from . import arguments


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Export trained models as ONNX graphs, into the cache (so that playing starts without a "
        "wait), into --output-dir, or into an archive that plays without TensorFlow. docs/onnx.md "
        "explains how other languages run the graphs.",
        "--models vqvae_512,score --output-dir graphs",
    )
    parser.add_argument("--models", default="all", metavar="NAMES",
                        help="all, or names of models separated by commas")
    parser.add_argument("--output-dir", metavar="DIR",
                        help="folder for the files NAME_KIND.onnx (default: the cache)")
    parser.add_argument("--archive", action="store_true",
                        help=f"write the graphs of the chain into {weights.GRAPHS} beside "
                             f"chain.yml, and list its checksum in the weights' YAML files")
    arguments.add_force(parser)
    models = parser.add_argument_group("models")
    arguments.add_weights(models)
    arguments.add_epoch(models, "generators")
    arguments.add_engine(models)
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch)
    names = model_names(args, music)
    if args.archive:
        path = packing.pack(*defaults.folders(args.vqvae_weights_dir, args.generator_weights_dir))
        print(f"wrote {printable(path)}")
        return 0
    if args.output_dir:
        check_replaced([path for name in names for path in export.paths(
            music.weight_set(name), args.output_dir, args.engine)], args.force)
    for name in names:
        weight_set = music.weight_set(name)
        print(printable(weight_set.summary), file=sys.stderr)
        if args.output_dir:
            for path in export.export(weight_set, args.output_dir, args.engine):
                print(f"wrote {printable(path)}")
        else:
            for kind in export.kinds(weight_set, args.engine):
                export.cached_graph(weight_set, kind)
            if name in music.chain.codecs.values() and weight_set.config.has_codes:
                music.pitches(weight_set.config.level)  # so that a continuation starts at once
    return 0


def model_names(args, music) -> list[str]:
    """The names of --models. Raises `UserError` if a folder is missing or has no weights."""
    for folder in filter(None, (args.vqvae_weights_dir, args.generator_weights_dir)):
        weights.existing_folder(folder)
    if args.models != "all":
        return [check_name("model", name.strip(), [*music.chain.names, "all"])
                for name in args.models.split(",")]
    names = [name for name in music.chain.names if music.has(name)]
    if not names:
        codecs, generators = defaults.folders(args.vqvae_weights_dir, args.generator_weights_dir)
        raise UserError(f"no weights in {printable(codecs)} or {printable(generators)}")
    return names
