"""The studio: a page in the browser to make music on, to see and hear it while it is made."""

import argparse

from .. import cli, weights
from ..play import engine
from ..studio import Studio, web
from . import arguments


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "A page in the browser: make music, continue or vary a recording, hear and see it while it "
        "is made, listen to the codecs. Only this machine can reach it unless --host says "
        "otherwise; anyone who can reach it may use it. Ctrl-C ends it.",
        "--port 8000",
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                        help="address to listen on; 0.0.0.0 is every network this machine is in. "
                             "Only requests to it, localhost, 127.0.0.1 and [::1] are answered")
    parser.add_argument("--port", type=cli.number(int, least=0, most=65535),
                        default=web.PORT, metavar="N",
                        help="port to listen on; 0 takes a free one")
    arguments.add_codecs(parser)
    parser.add_argument("--generator-weights-dir", default=[weights.GENERATORS],
                        nargs="+", metavar="DIR",
                        help="folders of generators; these and the folders in them can be chosen "
                             "on the page. One with codecs in it is used with those; the "
                             "codecs of one without generators can be heard")
    parser.add_argument("--follow", metavar="DIR",
                        help="the output folder of a training that runs: its newest best weights "
                             "are what plays, and a piece that is over begins anew when there are "
                             "newer ones")
    parser.add_argument("--engine", choices=engine.ENGINES[:2], default=engine.ENGINES[0],
                        help="what runs the models")
    parser.add_argument("--streams", type=cli.number(int, least=1, most=64), default=8, metavar="N",
                        help="how many takes can be made at the same time")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    studio = Studio(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.streams,
                    args.follow)
    try:
        web.run(studio, args.host, args.port, say=lambda line: print(line, flush=True))
    finally:
        studio.close()
    return 0
