"""Train every codec, then every generator, of a chain on a prepared folder."""

import argparse
from pathlib import Path

from .. import cli, machine, weights
from ..errors import UserError
from ..train import options, plan


class _List(argparse.Action):
    def __call__(self, parser, *_):
        print(plan.describe_presets())
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Train the whole chain: its codecs, then its generators, one after the other. What is finished is skipped, "
        "what was interrupted goes on; the same command again resumes. Options that are not listed here are passed on "
        "to train_vqvae.py and train_generator.py (see their --help): --batch-size, --distribute, --epochs, "
        "--keep-all, --learning-rate, --patience, --promote, --seed, --start-from, --val-split.",
        "--data-dir data/my_music --hours 8",
    )
    parser.add_argument("--list", action=_List, nargs=0, help="say what presets there are, and leave")
    parser.add_argument("--data-dir", required=True, help="folder that prepare_audio.py wrote")
    parser.add_argument("--output-dir", help="where everything goes (default: weights/NAME of the data folder)")
    options.add_preset(parser)
    parser.add_argument("--hours", type=cli.number(float, above=0),
                        help="time for all of it, shared out over the levels (default: 8, unless --steps is given)")
    parser.add_argument("--steps", type=cli.number(int, 1), help="steps of each model, in place of --hours")
    parser.add_argument("--levels", help="the levels to train, coarsest first (default: all of the preset's chain)")
    parser.add_argument("--input-length", type=cli.number(int, 1),
                        help="samples a window (default: the preset's, for each model)")
    parser.add_argument("--offsets", type=cli.number(int, 1, 64), help="see train_generator.py")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="see train_generator.py")
    parser.add_argument("--no-fp16", action="store_true", help="float32 even where mixed precision is faster")
    return parser


def main(argv=None) -> int:
    args, extra = parser().parse_known_args(argv)
    _check_extra(extra)
    if not args.no_fp16 and (machine.has_bfloat16() or machine.has_nvidia_gpu()):
        extra.append("--fp16")
    hours = args.hours or (None if args.steps else 8.0)
    output = args.output_dir or Path(weights.GENERATORS) / Path(args.data_dir).resolve().name
    chosen = plan.Plan(args.data_dir, output, args.preset, _parse_levels(args.levels), hours, args.steps,
                       args.input_length, args.offsets, args.scheduler, tuple(extra))
    plan.run(chosen)
    print(f"All {len(chosen.stages)} models are trained, in {plan.format_hours(chosen.spent)}. To hear them:\n"
          f"  python scripts/generate_audio.py --vqvae-weights-dir '{output}' --generator-weights-dir '{output}' "
          f"--seconds 30 --output first.wav\n"
          f"To train them further: the same command with more --steps (in place of --hours)")
    return 0


def _check_extra(extra: list[str]):
    """The options for the trainings are read once here, so that a mistake is not found by the fifth
    of them.
    """
    alone = "train that one with train_vqvae.py or train_generator.py"
    for flag, instead in {"--minutes": "use --hours", "--start-epoch": alone, "--config": alone}.items():
        if any(x == flag or x.startswith(f"{flag}=") for x in extra):
            raise UserError(f"{flag} is not for all models alike: {instead}")
    parser = cli.parser("", "")
    options.add_training_flags(parser)
    parser.parse_args(extra)


def _parse_levels(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(x) for x in text.split(","))
    except ValueError:
        raise UserError(f"--levels is {text!r}; it must be levels with commas between them, coarsest first") from None
