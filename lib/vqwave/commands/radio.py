"""Radio: endless streams over HTTP, which any player opens."""

import argparse
import sys

from .. import cli, config
from ..errors import UserError
from ..io import weights
from ..play import api, engine
from ..play.conditions import check_chosen
from ..play.sampling import check_guidance, draw_seed, sampling_per_level
from ..studio import stations, web
from . import arguments

MOST_STATIONS = 64


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Radio over HTTP: stations that play without end, as Ogg/Opus and MP3, with a page that "
        "lists them. All listeners of a station share one stream; stations of the same weights are "
        "computed together; without listeners nothing is computed. Only this machine "
        "can reach it unless --host says otherwise. Ctrl-C ends it.",
        "--stations 4 --seed 1 --host 0.0.0.0",
    )
    arguments.add_address(parser, stations.PORT)
    parser.add_argument("--stations", type=cli.number(int, least=1, most=MOST_STATIONS), default=1,
                        metavar="N", help="stations for each folder of generators")
    parser.add_argument("--seed", type=cli.number(int, least=0, most=2**63 - 1), metavar="S",
                        help="the same seed, weights and number of stations give the same music "
                             "(default: a random seed)")
    parser.add_argument("--bitrate", type=cli.number(int, least=16, most=256), default=64,
                        metavar="KBIT", help="kbit/s of each stream")
    parser.add_argument("--listeners", type=cli.number(int, least=1), default=stations.LISTENERS,
                        metavar="N", help="listeners at the same time, at most")
    arguments.add_label(parser)
    parser.add_argument("--guidance", type=cli.field(config.Sampling, "guidance"), metavar="G",
                        help=f"how strongly the music follows --label, up to "
                             f"{config.MOST_GUIDANCE:g}; 1 is as trained (default: as each "
                             f"generator's config says)")
    arguments.add_codecs(parser)
    arguments.add_generator_folders(parser, "each has stations of its own")
    arguments.add_engine(parser, engine.ENGINES[:2])
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    seed, chosen = draw_seed(args.seed), arguments.chosen(args)
    if args.guidance is not None and args.label is None:
        raise UserError("--guidance needs --label")
    web.require_server("radio")
    from ..studio import radio

    folders = dict.fromkeys(args.generator_weights_dir)
    music = api.load(args.vqvae_weights_dir, next(iter(folders)), args.engine)
    models = {folder: music.open(weights.find_folder(folder, weights.GENERATORS))
              for folder in folders}
    played = {folder: check(music, chosen, args.stations, args.guidance)
              for folder, music in models.items()}

    groups: list[stations.Group] = []
    for folder, music in models.items():
        def open_stream(music=music, sampling=played[folder]):
            return music.stream(seed=seed, batch=args.stations, log_probs=True, chosen=chosen,
                                sampling=sampling)

        groups.append(stations.Group(
            folder, args.stations, seed, open_stream, first=1 + len(groups) * args.stations,
            conditions=chosen, bitrate=1000 * args.bitrate,
            report=lambda line: print(line, file=sys.stderr, flush=True)))
    print(f"seed {seed}", flush=True)
    radio.run(radio.Radio(groups, args.listeners), args.host, args.port,
              say=lambda line: print(line, flush=True))
    return 0


def check(music: api.VQWave, chosen: dict, stations: int, guidance: float | None = None):
    """The sampling of each level with this guidance: {level: `Sampling`}. Raises `UserError` where
    weights are missing or do not fit together, or were trained without the chosen labels.
    """
    chain = music.chain
    codec = music.weight_set(chain.codecs[chain.ending])
    codec.config.check_codes()
    generators = [music.weight_set(chain.generator(level)) for level in chain.sizes
                  if level >= chain.ending]
    engine.check_chain(codec, generators)
    configs = [weight_set.config for weight_set in generators]
    check_chosen(configs, chosen, stations)
    change = {} if guidance is None else {x.level: {"guidance": guidance} for x in configs}
    return check_guidance(configs, sampling_per_level(configs, change))
