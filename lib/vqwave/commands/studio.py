"""The studio: a page in the browser to make music on."""

import argparse
import time
from pathlib import Path

from .. import cli
from ..errors import UserError
from ..io import files, weights
from ..play import sync
from ..studio import Studio, limits, plays, web
from . import arguments


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Run the studio, a page in the browser: play and steer music, continue or vary a "
        "recording, listen to the codecs. Only this machine can reach the studio unless --host "
        "says otherwise. There is no password. Ctrl-C ends it.",
        "--port 8000",
    )
    arguments.add_address(parser, web.PORT, ". The studio answers requests to this address, "
                                            "localhost, 127.0.0.1 and [::1]")
    arguments.add_partners(parser.add_argument_group("other programs"))
    models = parser.add_argument_group("models")
    arguments.add_codecs(models)
    arguments.add_generator_folders(models, "the page offers these folders and their subfolders, "
                                            "also folders with codecs alone")
    models.add_argument("--follow", metavar="DIR",
                        help="output folder of a running training: play the best weights so far, "
                             "and begin each piece again when the weights improve. Waits for the "
                             "first generator")
    arguments.add_engine(models)
    rare = parser.add_argument_group("rare options")
    rare.add_argument("--streams", type=cli.number(int, least=1, most=64),
                      default=limits.STREAMS, metavar="N",
                      help="pieces that can be generated at the same time")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    if args.follow:
        _wait_for_generators(args.follow)
    studio = Studio(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.streams,
                    args.follow, sync.partners(args))
    try:
        web.run(studio, args.host, args.port, say=lambda line: print(line, flush=True))
    finally:
        studio.close()
    return 0


def _wait_for_generators(folder):
    """Return when a folder has generators."""
    name, waiting = files.printable(folder), False
    while not plays(folder):
        if not Path(folder).is_dir():
            raise UserError(f"{name}: no such folder; a training creates its folder when it begins")
        if not weights.chain(folder).can_generate:
            raise UserError(f"{name}: holds codecs of a chain without generators; nothing to "
                            f"follow")
        if not waiting:
            print(f"{name}: no generators to play yet; waiting for the first (Ctrl-C ends)",
                  flush=True)
        waiting = True
        time.sleep(2.0)
