"""Training a whole chain: every codec, then every generator, one after the other, each in a process
of its own.

What is finished is noted in the output folder as `train_all.yml`, so that the same plan again
resumes. TensorFlow-free.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .. import cli, config, weights
from ..config import ChainConfig, Preset
from ..data import manifest
from ..errors import Interrupted, UserError
from ..files import atomic_write
from . import replicas

SHARES = {"codec": 1.0, "generator": 2.5}
"""Parts of the time. A generator learns for as long as it is let; a codec is good after a fraction
of that.
"""

FILE = "train_all.yml"


@dataclass(frozen=True)
class PlannedTraining:
    """One model to train: its role ("codec" or "generator"), its name and its share of the time."""

    role: str
    name: str

    @property
    def share(self) -> float:
        return SHARES[self.role]


@dataclass
class Plan:
    """What is to be trained on a data folder, and how far that is.

    preset: a preset's name or file. levels: those to train, from the top down; None for all of the
    chain. hours: for all of it, shared out over the stages; or `steps` of each. input_length,
    offsets, transpose: None for each model's own. scheduler: see `train_generator`. extra: options
    that every training is given as they are. spent: seconds so far. finished: models, and how many
    steps each was asked for (1 where the time was shared out).
    """

    data_dir: Path
    output_dir: Path
    preset: str = "compact"
    levels: tuple[int, ...] | None = None
    hours: float | None = None
    steps: int | None = None
    input_length: int | None = None
    offsets: int | None = None
    transpose: int | None = None
    scheduler: str | None = None
    extra: tuple[str, ...] = ()
    spent: float = 0.0
    finished: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if (self.hours is None) == (self.steps is None):
            raise UserError("--hours and --steps exclude each other" if self.hours else
                            "a plan needs hours, or steps")
        self.data_dir, self.output_dir = Path(self.data_dir), Path(self.output_dir)
        self.system: Preset = config.preset(self.preset)
        sizes = self.system.chain.sizes
        self.levels = sizes if self.levels is None else tuple(self.levels)
        if not self.levels or self.levels != sizes[: len(self.levels)]:
            raise UserError(f"--levels is {','.join(map(str, self.levels))!r}; it must be "
                            f"{sizes[0]}, or {sizes[0]} and the next ones down: "
                            f"{','.join(map(str, sizes))}")

    @property
    def chain(self) -> ChainConfig:
        """The chain as far as it is trained."""
        whole = self.system.chain
        return config.replace(whole,
                              levels=[config.to_dict(one)
                                      for one in whole.levels[: len(self.levels)]],
                              end=whole.end if whole.end in self.levels else None)

    @property
    def stages(self) -> list[PlannedTraining]:
        """Every model in order: the codecs from the top down, then the generators."""
        return [PlannedTraining("codec", name) for name in self.chain.codecs.values()] + [
            PlannedTraining("generator", name) for name in self.chain.generators.values()]

    @property
    def open_stages(self) -> list[PlannedTraining]:
        """The stages that are still to be trained. Where hours are shared out a stage is trained
        once; else it is finished after `steps`.
        """
        return [stage for stage in self.stages
                if self.finished.get(stage.name, 0) < (self.steps or 1)]

    def seconds(self, stage: PlannedTraining, among: list[PlannedTraining]) -> float:
        """How long a stage may take, of what time is left for the stages that are still open."""
        left = max(0.0, self.hours * 3600 - self.spent)
        return left * stage.share / sum(other.share for other in among)

    def command(self, stage: PlannedTraining, seconds: float | None = None) -> list[str]:
        """The command line of one training."""
        name, flag = (("train-codec", "--model") if stage.role == "codec"
                      else ("train-generator", "--generator"))
        # -P: nothing that lies in the working folder is taken for a library.
        command = [sys.executable, "-P", "-m", "vqwave", name, flag, stage.name,
                   "--data-dir", str(self.data_dir),
                   "--output-dir", str(self.output_dir), "--preset", self.preset, *self.extra]
        if stage.role == "generator":
            command += ["--vqvae-weights-dir", str(self.output_dir)]
            command += ["--offsets", str(self.offsets)] if self.offsets else []
            command += ["--transpose", str(self.transpose)] if self.transpose is not None else []
            command += ["--scheduler", self.scheduler] if self.scheduler else []
        command += ["--input-length", str(self.input_length)] if self.input_length else []
        if self.hours:
            return [*command, "--minutes", f"{max(0.2, seconds / 60):.2f}"]
        return [*command, "--steps", str(self.steps)]

    # ------------------------------------------------------------------------------------- its file

    def read(self):
        """Take up what `train_all.yml` says of an earlier run into the same folder.

        Raises:
            UserError: it is no such file, or the folder holds models of another preset.
        """
        path = self.output_dir / FILE
        if not path.exists():
            return
        values = config.load_yaml(path)
        if "size" in values:  # as schema 1 wrote it
            values = {"schema": config.SCHEMA, "preset": values.pop("size")} | values
        wrong = (f"{path}: is not a plan that `{cli.command('train')}` wrote; remove it to begin a "
                 "new one")
        if set(values) != {"schema", "preset", "spent", "finished"}:
            raise UserError(wrong)
        config.check_schema(values, os.fspath(path))
        spent, finished = values["spent"], values["finished"]
        if (isinstance(spent, bool) or not isinstance(spent, int | float)
            or not 0 <= spent < float("inf")
                or not isinstance(finished, dict)
            or not all(isinstance(n, int) for n in finished.values())):
            raise UserError(wrong)
        if values["preset"] != self.preset:
            raise UserError(f"{self.output_dir}: holds models of preset {values['preset']}, not "
                            f"{self.preset}; use another --output-dir")
        self.spent, self.finished = float(spent), finished

    def write(self):
        """Note down how far it is; of several processes that train together the first one does."""
        if not replicas.is_first():
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        values = {"schema": config.SCHEMA, "preset": self.preset, "spent": round(self.spent, 1),
                  "finished": self.finished}
        with atomic_write(self.output_dir / FILE) as f:
            f.write(config.dump_yaml(values).encode())

    def spend(self, seconds: float):
        """Count time as it passes, so that a kill loses none of the account."""
        self.spent += seconds
        self.write()


def run(plan: Plan, say: Callable[[str], None] = print):
    """Train what a plan has open, noting down what is finished.

    Raises:
        UserError: the data or the folder cannot be used, or a training failed.
        Interrupted: a training was stopped by a signal.
    """
    # What is wrong with the data is found now, not by a training hours later.
    tracks = manifest.read(plan.data_dir)
    rate = plan.system.chain.sample_rate
    if tracks and tracks[0].sample_rate != rate:
        raise UserError(
            f"{plan.data_dir}: is at {tracks[0].sample_rate} Hz, preset {plan.preset} at {rate} "
            f"Hz; prepare the audio with --sample-rate {rate}")
    plan.read()
    try:
        plan.write()
        if replicas.is_first():
            weights.save_chain(plan.output_dir, plan.chain)
    except OSError as e:
        raise UserError(f"{plan.output_dir}: cannot be written to: {e.strerror}") from e
    describe(plan, say)
    stages, todo = plan.stages, plan.open_stages
    if "--promote" in plan.extra and replicas.is_first():
        for stage in stages:
            if stage not in todo:  # the others promote themselves at their end
                say(weights.promote(plan.output_dir, stage.name))
    for i, stage in enumerate(todo):
        seconds, left = None, ""
        if plan.hours:
            seconds = plan.seconds(stage, todo[i:])
            left = f", {format_hours(plan.hours * 3600 - plan.spent)} left in all"
        say(f"== {stage.name} ({stages.index(stage) + 1} of {len(stages)}{left})")
        code = run_command(plan.command(stage, seconds), plan.spend)
        if code == 0:
            plan.finished[stage.name] = plan.steps or 1
        plan.write()
        if code in (130, 143):
            raise Interrupted(code - 128)
        if code:
            ended = f"ended with exit code {code}"
            if code == 128 + signal.SIGKILL:
                ended = ("was killed (where memory ran out: a lower --batch-size or --input-length "
                         "needs less)")
            raise UserError(f"{stage.name} {ended}; what is finished is kept, and the same command "
                            f"goes on from here")


def describe(plan: Plan, say: Callable[[str], None] = print):
    """Say what a plan will do."""
    todo = plan.open_stages
    say(f"Training {len(plan.stages)} models of preset {plan.preset} on {plan.data_dir} into "
        f"{plan.output_dir}:")
    for stage in plan.stages:
        what = f"{plan.steps} steps"
        if stage not in todo:
            what = "finished"
        elif plan.hours:
            what = f"about {format_hours(plan.seconds(stage, todo))}"
        say(f"  {stage.name:<14} {what}")


def run_command(command: list[str], spend: Callable[[float], None]) -> int:
    """The command's exit code. SIGTERM is passed on to it, Ctrl-C reaches it anyway; either way it
    is waited for.

    Where this process is killed the command ends too, so that the next run does not find its folder
    taken.

    Args:
        spend: called with the seconds that passed, every half minute and at the end.
    """
    sys.stdout.flush()
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


def format_hours(seconds: float) -> str:
    """3725 -> `1 h 02 min`, 90 -> `1.5 min`."""
    minutes = max(0, round(seconds / 60))
    return (f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60
            else f"{seconds / 60:.1f} min")


def describe_presets() -> str:
    """The presets that come with the library: what each is about, and the comment at the top of its
    file.
    """
    blocks = []
    for name in config.preset_names():
        text = (config.PRESETS / f"{name}.yml").read_text(encoding="utf-8")
        comment = re.match(r"(?:#.*\n)*", text)[0]
        lines = [f"    {line.lstrip('# ')}" for line in comment.splitlines()]
        blocks.append("\n".join([f"{name}: {config.preset(name).about}", *lines]))
    return "\n".join(blocks)
