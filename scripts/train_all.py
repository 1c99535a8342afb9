#!/usr/bin/env python3
"""Train every codec, then every generator, on a prepared folder."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

from vqwave import cli, config, machine
from vqwave.data import manifest
from vqwave.errors import Interrupted, UserError
from vqwave.files import atomic_write
from vqwave.train import replicas

# Parts of the time. A generator learns for as long as it is let; a codec is good after a fraction of that.
CODEC_SHARE, GENERATOR_SHARE = 1.0, 2.5
# Samples a window: enough for each level to see its own reach, few enough for a CPU to make many steps.
CODEC_WINDOW = {512: 65536, 128: 32768, 32: 16384, 8: 8192}
PLAN = "train_all.yml"


def main(argv=None) -> int:
    parser = cli.parser(
        "Train the whole chain: four codecs, then four generators, one after the other. What is finished is skipped, "
        "what was interrupted goes on; the same command again resumes. Options that are not listed here are passed on "
        "to train_vqvae.py and train_generator.py (see their --help): --batch-size, --distribute, --epochs, "
        "--keep-all, --learning-rate, --patience, --promote, --seed, --val-split.",
        "scripts/train_all.py --data-dir data/my_music --hours 8",
    )
    parser.add_argument("--data-dir", required=True, help="folder that prepare_audio.py wrote")
    parser.add_argument("--output-dir", help="where everything goes (default: weights/NAME of the data folder)")
    parser.add_argument("--size", default="compact", metavar="SIZE", help="compact, reference or tiny")
    parser.add_argument("--hours", type=cli.number(float, above=0),
                        help="time for all of it, shared out over the levels (default: 8, unless --steps is given)")
    parser.add_argument("--steps", type=cli.number(int, 1), help="steps of each model, in place of --hours")
    parser.add_argument("--levels", default="512,128,32,8", help="the levels to train, coarsest first")
    parser.add_argument("--input-length", type=cli.number(int, 1),
                        help="samples a window (default: chosen for each level)")
    parser.add_argument("--offsets", type=cli.number(int, 1, 64), default=4, help="see train_generator.py")
    parser.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="see train_generator.py")
    parser.add_argument("--no-fp16", action="store_true", help="float32 even where mixed precision is faster")
    args, extra = parser.parse_known_args(argv)
    if args.hours and args.steps:
        raise UserError("--hours and --steps exclude each other")
    hours = args.hours or (None if args.steps else 8.0)
    levels = _levels(args.levels)
    stages = [(config.codec_preset(config.codec_name(x), args.size).name, CODEC_SHARE) for x in levels]
    stages += [(config.generator_preset(config.generator_name(x), args.size).name, GENERATOR_SHARE) for x in levels]
    _check_passed_on(extra)
    # What is wrong with the data is found now, not by a training hours later.
    manifest.read(args.data_dir)
    if not args.no_fp16 and (machine.bfloat16_cpu() or machine.nvidia_gpu()):
        extra.append("--fp16")

    data = Path(args.data_dir)
    output = Path(args.output_dir or Path("weights") / data.resolve().name)
    plan = _read_plan(output, args.size)
    # A stage is finished for good when the time was shared out; with --steps, when it has made that many.
    finished = [name for name, _ in stages if plan["finished"].get(name, 0) >= (args.steps or 1)]
    _begin_plan(output, plan)
    _announce(stages, finished, plan, hours, args, output)
    for i, (name, share) in enumerate(stages):
        if name in finished:
            continue
        command = [sys.executable, str(Path(__file__).with_name(_script(name))), _flag(name), name, "--data-dir",
                   str(data), "--output-dir", str(output), "--size", args.size, *extra]
        if name.startswith("generator"):
            command += ["--vqvae-weights-dir", str(output), "--offsets", str(args.offsets)]
            command += ["--scheduler", args.scheduler] if args.scheduler else []
        length = args.input_length or (CODEC_WINDOW[int(name.split("_")[1])] if name.startswith("vqvae") else None)
        if length:
            command += ["--input-length", str(length)]
        left = ""
        if hours:
            open_shares = sum(s for n, s in stages[i:] if n not in finished)
            minutes = max(0.2, (hours * 60 - plan["spent"] / 60) * share / open_shares)
            command += ["--minutes", f"{minutes:.2f}"]
            left = f", {_hours(hours * 3600 - plan['spent'])} left in all"
        else:
            command += ["--steps", str(args.steps)]
        print(f"== {name} ({i + 1} of {len(stages)}{left})", flush=True)
        code = _run(command, lambda seconds: _spend(output, plan, seconds))
        if code == 0:
            plan["finished"][name] = args.steps or 1
        _write_plan(output, plan)
        if code:
            if code in (130, 143):
                raise Interrupted(code - 128)
            ended = f"ended with exit code {code}"
            if code == 128 + signal.SIGKILL:
                ended = "was killed (where memory ran out: a lower --batch-size or --input-length needs less)"
            print(f"train_all.py: {name} {ended}; what is finished is kept, and the same command goes on from here",
                  file=sys.stderr)
            return 2
    print(f"All {len(stages)} models are trained, in {_hours(plan['spent'])}. To hear them:\n"
          f"  python scripts/generate_audio.py --vqvae-weights-dir '{output}' --generator-weights-dir '{output}' "
          f"--seconds 30 --output first.wav\n"
          f"To train them further: the same command with more --steps (in place of --hours)")
    return 0


def _check_passed_on(extra: list[str]):
    """The options for the trainings are read once here, so that a mistake is not found by the fifth of them."""
    parser = cli.parser("", "")
    cli.add_training_options(parser, batch_size=8, input_length=None)
    alone = "train that one with train_vqvae.py or train_generator.py"
    for flag, instead in {"--minutes": "use --hours", "--start-epoch": alone, "--config": alone}.items():
        if any(x == flag or x.startswith(f"{flag}=") for x in extra):
            raise UserError(f"{flag} is not for all models alike: {instead}")
    parser.parse_args(["--data-dir", "-", *extra])


def _levels(text: str) -> list[int]:
    known = list(config.LEVELS)
    try:
        levels = [int(x) for x in text.split(",")]
    except ValueError:
        levels = []
    if not levels or levels != known[: len(levels)]:
        raise UserError(f"--levels is {text!r}; it must be 512, or 512 and the next ones down: "
                        f"{','.join(map(str, known))}")
    return levels


def _script(name: str) -> str:
    return "train_vqvae.py" if name.startswith("vqvae") else "train_generator.py"


def _flag(name: str) -> str:
    return "--model" if name.startswith("vqvae") else "--generator"


def _read_plan(output: Path, size: str) -> dict:
    """{"size", "spent": seconds so far, "finished": {model: its steps, or 1 where time was shared out}}."""
    path = output / PLAN
    empty = {"size": size, "spent": 0.0, "finished": {}}
    if not path.exists():
        return empty
    plan = config.load_yaml(path)
    if (set(plan) != set(empty) or not isinstance(plan["finished"], dict)
            or not isinstance(plan["spent"], int | float) or not 0 <= plan["spent"] < float("inf")
            or not all(isinstance(steps, int) for steps in plan["finished"].values())):
        raise UserError(f"{path}: is not a plan that train_all.py wrote; remove it to begin a new one")
    if plan["size"] != size:
        raise UserError(f"{output}: holds models of size {plan['size']}, not {size}; use another --output-dir")
    return plan


def _write_plan(output: Path, plan: dict):
    if not replicas.leads():
        return
    output.mkdir(parents=True, exist_ok=True)
    with atomic_write(output / PLAN) as f:
        f.write(config.dump_yaml(plan | {"spent": round(plan["spent"], 1)}).encode())


def _begin_plan(output: Path, plan: dict):
    """See that the folder can be written to while there is nothing to lose."""
    try:
        _write_plan(output, plan)
    except OSError as e:
        raise UserError(f"{output}: cannot be written to: {e.strerror}") from e


def _spend(output: Path, plan: dict, seconds: float):
    """Count time as it passes, so that a kill loses none of the account."""
    plan["spent"] += seconds
    _write_plan(output, plan)


def _announce(stages, finished, plan, hours, args, output):
    open_shares = sum(share for name, share in stages if name not in finished)
    print(f"Training {len(stages)} models of size {args.size} on {args.data_dir} into {output}:")
    for name, share in stages:
        if name in finished:
            what = "finished"
        elif hours:
            what = f"about {_hours(max(0.0, hours * 3600 - plan['spent']) * share / open_shares)}"
        else:
            what = f"{args.steps} steps"
        print(f"  {name:<14} {what}")
    sys.stdout.flush()


def _run(command: list[str], spend) -> int:
    """The command's exit code. SIGTERM is passed on to it, Ctrl-C reaches it anyway; either way it is waited for.

    Where this process is killed the command ends too, so that the next run does not find its folder taken.
    spend(seconds) is told of the time that passes, every half minute and at the end.
    """
    told = time.monotonic()
    with cli.child(command) as child:
        code = None
        while code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(timeout=30)
            now = time.monotonic()
            spend(now - told)
            told = now
    return code if code >= 0 else 128 - code


def _hours(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


if __name__ == "__main__":
    sys.exit(cli.entry(main))
