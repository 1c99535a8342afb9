"""Make the ONNX graphs of trained models: into the cache that playing uses, or where you want them.
"""

import argparse
import sys

from .. import cli
from ..errors import UserError
from ..io import weights
from ..io.files import printable
from ..onnx import export
from ..play import api, engine
from . import arguments


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Turn trained weights into ONNX graphs. Without --output-dir they go into the cache, so "
        "that the first music need not wait for them; docs/onnx.md says how to run them from "
        "another language.",
        "--models vqvae_8,generator_8 --output-dir graphs",
    )
    parser.add_argument("--models", default="all", metavar="NAMES",
                        help="all of the chain that are there, or names with commas between")
    arguments.add_weights(parser)
    arguments.add_epoch(parser, "generators")
    parser.add_argument("--engine", choices=engine.ENGINES[:2], default=engine.ENGINES[0],
                        help="what the generators' weights are: int8 or float32")
    parser.add_argument("--output-dir", metavar="DIR",
                        help="where to write NAME_KIND.onnx (default: the cache)")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)

    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch)
    codecs = weights.find_folder(args.vqvae_weights_dir, weights.CODECS)
    generators = weights.find_folder(args.generator_weights_dir, weights.GENERATORS)
    if args.models == "all":
        names = [name for name in music.chain.names
                 if weights.tags(codecs if name in music.chain.codecs.values()
                                 else generators, name)]
        if not names:
            raise UserError(f"no weights in {printable(codecs)} or {printable(generators)}")
    else:
        names = [name.strip() for name in args.models.split(",")]
    for name in names:
        if name not in music.chain.names:
            raise UserError(f"no model is called {name!r}; there are "
                            f"{', '.join(music.chain.names)}, or all")
    for one in [music.weight_set(name) for name in names]:
        print(printable(one.summary), file=sys.stderr)
        if args.output_dir:
            for path in export.export(one, args.output_dir, args.engine):
                print(f"wrote {printable(path)}")
        else:
            for kind in export.kinds(one, args.engine):
                export.cached_graph(one, kind)
    return 0
