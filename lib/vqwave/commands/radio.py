"""Radio: endless streams over HTTP, which any player opens."""

import argparse
import sys

from .. import cli
from ..errors import UserError
from ..generators import MOST_GUIDANCE, Sampling
from ..io import defaults
from ..play import api
from ..play.sampling import draw_seed
from ..studio import stations
from . import arguments

MOST_STATIONS = 64


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Stream endless music over HTTP as Ogg/Opus and MP3, with a page that lists the stations. "
        "All listeners of a station hear the same music. Without listeners, nothing is computed. "
        "Only this machine can reach the radio unless --host says otherwise. Ctrl-C ends it.",
        "--stations 4 --seed 1 --host 0.0.0.0",
    )
    arguments.add_address(parser, stations.PORT)
    parser.add_argument("--stations", type=cli.number(int, least=1, most=MOST_STATIONS), default=1,
                        metavar="N", help="number of stations for each folder of generators")
    parser.add_argument("--seed", type=cli.number(int, least=0, most=2**63 - 1), metavar="S",
                        help="the same seed, weights and number of stations give the same music "
                             "(default: a random seed)")
    arguments.add_label(parser)
    models = parser.add_argument_group("models")
    arguments.add_codecs(models)
    arguments.add_generator_folders(models, "each folder has its own stations")
    arguments.add_engine(models)
    rare = parser.add_argument_group("rare options")
    rare.add_argument("--guidance", type=cli.field(Sampling, "guidance"), metavar="G",
                      help=f"how strongly the music follows --label, from 1 to "
                           f"{MOST_GUIDANCE:g} (default: each generator's own)")
    rare.add_argument("--listeners", type=cli.number(int, least=1), default=stations.LISTENERS,
                      metavar="N", help="maximum number of listeners")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    seed = draw_seed(args.seed)
    if args.guidance is not None and args.label is None:
        raise UserError("--guidance needs --label")
    from ..studio import radio

    groups: list[stations.StationGroup] = []
    folders = defaults.generators(args.generator_weights_dir)
    music = api.load(args.vqvae_weights_dir, next(iter(folders.values())), args.engine)
    openers = {name: opener(music.open(folder), seed, args) for name, folder in folders.items()}
    rates = {}
    for folder, open_stream in openers.items():
        with open_stream() as stream:  # raises if weights are missing or do not fit the options
            rates[folder] = stream.sample_rate
    for folder, open_stream in openers.items():
        groups.append(stations.StationGroup(
            folder, args.stations, seed, open_stream, rates[folder],
            first=1 + len(groups) * args.stations, label=args.label,
            report=lambda line: print(line, file=sys.stderr, flush=True)))
    print(f"seed {seed}", flush=True)
    radio.run(radio.Radio(groups, args.listeners), args.host, args.port,
              say=lambda line: print(line, flush=True))
    return 0


def opener(music: api.VQWave, seed: int, args):
    """A function that opens a stream with a piece for each station."""
    sampling = None if args.guidance is None else {"guidance": args.guidance}
    return lambda: music.stream(seed=seed, batch=args.stations, sampling=sampling, label=args.label)
