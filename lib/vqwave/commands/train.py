"""Train a chain on a prepared folder: from the shipped models, or from random weights."""

import argparse
import functools
import re
import shlex
from pathlib import Path

from .. import cli
from ..errors import UserError
from ..io import splits, weights
from ..levels import TrainingConfig
from ..play import api
from ..presets import DEFAULT_PRESET, PRESETS, load_preset, preset_names
from ..train import options, plan, run_plan
from ..train.origin import BaseModels
from . import arguments

HOURS, FROM_SCRATCH_HOURS = 1.0, 8.0
"""The default hours of a training from trained models, and of a training from scratch."""
KEEP_LAST = 3
"""The default number of numbered sets of each model that stay, besides the best."""


class _List(argparse.Action):
    def __call__(self, parser, *_):
        print(_describe_presets())
        parser.exit()


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Train on your own music, starting from the shipped models. Generators are trained "
        "further; decoders of codecs that reconstruct your music badly are tuned. Run the same "
        "command again to continue a stopped training. With --from-scratch or --preset, all models "
        "start from random weights.",
        "--data-dir data/my_music --hours 1",
        "--data-dir data/my_music --hours 20 --from-scratch",
        "--data-dir data/both --from-scratch --label folder",
    )
    parser.add_argument("--list", action=_List, nargs=0, help="list the presets and exit")
    arguments.add_data(parser)
    parser.add_argument("--output-dir", metavar="DIR",
                        help=f"folder for the weights and the report (default: "
                             f"{weights.GENERATORS}/NAME, with the NAME of the data folder)")
    parser.add_argument("--start-from", metavar="DIR",
                        help="start from the generators and codecs in this folder (default: the "
                             "shipped models)")
    parser.add_argument("--from-scratch", action="store_true",
                        help=f"start from random weights, with the preset {DEFAULT_PRESET} "
                             f"unless --preset names another")
    options.add_preset(parser)
    # Without a preset, the configs of the trained models apply.
    parser.set_defaults(preset=None, keep_last=KEEP_LAST)
    parser.add_argument("--hours", type=cli.number(float, above=0), metavar="H",
                        help=f"time for everything, the report included; trainings adapt their "
                             f"steps to the speed of the machine (default: {HOURS:g}, from scratch "
                             f"{FROM_SCRATCH_HOURS:g}, with --steps no limit)")
    parser.add_argument("--levels", metavar="L,...", type=lambda text: text.split(","),
                        help="levels to train, coarsest first, such as 512x,128x (default: the "
                             "levels that play; from scratch, all levels)")
    parser.add_argument("--no-report", action="store_true",
                        help=f"do not write {plan.REPORT} at the end")
    arguments.add_musicnn(parser)
    options.add_training_flags(parser)
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    scratch = args.from_scratch or args.preset is not None
    if args.start_from and scratch:
        raise UserError(f"--start-from begins with trained models, "
                        f"{'--from-scratch' if args.from_scratch else '--preset'} with random "
                        f"weights: give only one")
    hours = args.hours or (None if args.steps else FROM_SCRATCH_HOURS if scratch else HOURS)
    output = args.output_dir or Path(weights.GENERATORS) / Path(args.data_dir).resolve().name
    chosen = plan.TrainingPlan(args.data_dir, output, args.preset or DEFAULT_PRESET,
                               args.levels, hours,
                               None if scratch else BaseModels.find(args.start_from), flags=args)
    run_plan.run(chosen, functools.partial(judge, args.musicnn),
                 None if args.no_report else functools.partial(report, args.musicnn))
    print(f"Trained {', '.join(dict.fromkeys(stage.name for stage in chosen.stages))} in "
          f"{plan.format_hours(chosen.state.spent)}. To hear the result:")
    for line in _listening_commands(chosen, shlex.quote(str(output))):
        print(f"  {line}")
    print("To train further, also on added music, into another folder:\n  "
          + _next_command(args, chosen, output) if chosen.chain.can_generate else
          "To train further: the same command with more --steps")
    return 0


def judge(musicnn, data_dir, folder, split, names: list[str]) -> tuple[dict[str, str], list[str]]:
    """Measure the codecs in a folder: the shortfall of each, and the lines of a table."""
    from . import test_codec

    figures = test_codec.judge_folder([weights.find(folder, name) for name in names], data_dir,
                                      splits.read_split(split), musicnn=musicnn)
    return {row["model"]: row["shortfall"] for row in figures["models"]}, figures["table"]


def report(musicnn, data_dir, folder, split, page):
    """Write a page about the weights in a folder."""
    from . import evaluate

    evaluate.report(api.load(folder, folder), folder, data_dir, splits.read_split(split),
                    TrainingConfig().seed, musicnn=musicnn, html=page)


def _describe_presets() -> str:
    """A description of each preset of the library, with the comment at the top of its file."""
    blocks = []
    for name in preset_names():
        text = (PRESETS / f"{name}.yml").read_text(encoding="utf-8")
        comment = re.match(r"(?:#.*\n)*", text)[0]
        lines = [f"    {line.lstrip('# ')}" for line in comment.splitlines()]
        blocks.append("\n".join([f"{name}: {load_preset(name).about}", *lines]))
    return "\n".join(blocks)


def _next_command(args, chosen: plan.TrainingPlan, output) -> str:
    """The command that continues from the result with the same held-out tracks."""
    values = {"--data-dir": args.data_dir, "--start-from": output, "--output-dir": f"{output}_2",
              "--label": args.label, "--seed": args.seed,
              "--val-split": chosen.split_file if chosen.split.held_out_tracks else None}
    return f"{cli.command('train')} " + " ".join(
        f"{flag} {shlex.quote(str(value))}" for flag, value in values.items() if value is not None)


def _listening_commands(chosen: plan.TrainingPlan, folder: str) -> list[str]:
    """The commands for listening to the result."""
    generate = (f"{cli.command('generate')} --vqvae-weights-dir {folder} --generator-weights-dir "
                f"{folder}")
    if chosen.chain.can_generate:
        return [generate]
    lines = [f"{cli.command('test-codec')} --model all --vqvae-weights-dir {folder} --input FILE"]
    preset = load_preset(chosen.preset)
    if not any(preset.codec(name).has_codes for name in chosen.chain.codecs.values()):
        lines.append(f"{generate} --seconds 30 --output FILE")
    return lines
