"""Hear what a training has learnt so far."""

import argparse
import re
from pathlib import Path

from .. import cli
from ..io import silence, weights
from ..io.files import printable
from ..play import api, listening
from ..progress import SilentReporter
from . import arguments


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Generate a piece and continue a held-out track with the best weights of a training, which "
        "may still run. Weights with labels generate a piece for each label. TensorBoard shows the "
        f"sounds, too. `{cli.command('train')}` does this every few minutes.",
        "--data-dir data/my_music --generator-weights-dir weights/my_music --vqvae-weights-dir "
        "weights/my_music",
    )
    arguments.add_data(parser)
    parser.add_argument("--output-dir", metavar="DIR",
                        help="folder for the sounds (default: heard/ in the generators' folder)")
    parser.add_argument("--seconds", type=cli.number(float, 1, 600), default=listening.SECONDS,
                        metavar="S", help="length of each sound")
    models = parser.add_argument_group("models")
    arguments.add_weights(models)
    arguments.add_engine(models)
    rare = parser.add_argument_group("rare options")
    arguments.add_held_out(rare)
    rare.add_argument("--name", default="now", metavar="NAME",
                      help="start of the file names; a number in NAME is the step in TensorBoard")
    rare.add_argument("--seed", type=cli.number(int, 0), default=1, metavar="S",
                      help="seed of the sounds; the same seed makes two trainings comparable")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    folder = weights.find_folder(args.generator_weights_dir, weights.GENERATORS)
    chain = weights.chain(folder)
    best = "best" in weights.tags(folder, chain.generator(chain.top))
    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine,
                     "best" if best else None)
    listening.playable_level(music)
    trained = music.weight_set(chain.generator(chain.top))
    (_, held_out), _ = silence.read_sides(args.data_dir, *arguments.held_out(args, folder),
                                          trained.trim_silence, SilentReporter())
    sounds = listening.hear(music, args.data_dir, held_out, args.seed, args.seconds)
    for path in listening.save(sounds, music.sample_rate, args.output_dir or folder / "heard",
                               Path(args.name).name):
        print(f"wrote {printable(path)}")
    step = re.search(r"\d{1,9}", args.name)
    listening.show_in_tensorboard(sounds, music.sample_rate, folder / "tensorboard" / "heard",
                                  int(step[0]) if step else 0)
    return 0
