#!/usr/bin/env python3
"""Make the ONNX graphs of trained models: into the cache that playing uses, or where you want them."""

import sys

from vqwave import cli, weights
from vqwave.config import LEVELS, codec_name, generator_name
from vqwave.errors import UserError
from vqwave.files import printable
from vqwave.play import api, engine, export

NAMES = [f(level) for f in (codec_name, generator_name) for level in LEVELS]


def main(argv=None) -> int:
    parser = cli.parser(
        "Turn trained weights into ONNX graphs. Without --output-dir they go into the cache, so that the first music\n"
        "does not wait for it; docs/onnx.md says how to run them from another language.",
        "scripts/export.py --models vqvae_8,generator_8 --output-dir graphs",
    )
    parser.add_argument("--models", default="all", metavar="NAMES",
                        help=f"all that there are, or names with commas between, of {', '.join(NAMES)}")
    parser.add_argument("--vqvae-weights-dir", default=api.CODECS, metavar="DIR", help="where the codecs are")
    parser.add_argument("--generator-weights-dir", default=api.GENERATORS, metavar="DIR",
                        help="where the generators are")
    parser.add_argument("--epoch", metavar="N|best",
                        help="the generators' set to take (default: the one that ships, else the best)")
    parser.add_argument("--engine", choices=engine.ENGINES[:2], default=engine.ENGINES[0],
                        help="the loops with int8 weights (large ones also with 4-bit ones) or with float32 ones")
    parser.add_argument("--output-dir", metavar="DIR", help="where to write NAME_KIND.onnx (default: the cache)")
    args = parser.parse_args(argv)

    found = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch).found
    folders = {"vqvae": args.vqvae_weights_dir, "generator": args.generator_weights_dir}
    names = [n for n in NAMES if weights.tags(folders[weights.kind(n)], n)]
    if args.models != "all":
        names = [name.strip() for name in args.models.split(",")]
    elif not names:
        raise UserError(f"no weights in {' or '.join(map(printable, folders.values()))}")
    for name in names:
        if name not in NAMES:
            raise UserError(f"no model is called {name!r}; there are {', '.join(NAMES)}, or all")
    for one in [found(name) for name in names]:
        print(printable(one.described), file=sys.stderr)
        if args.output_dir:
            for path in export.export(one, args.output_dir, args.engine):
                print(f"wrote {printable(path)}")
        else:
            for kind in export.kinds(one, args.engine):
                export.cached_graph(one, kind)
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
