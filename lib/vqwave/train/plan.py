"""Training a whole chain: every codec, then every generator, one after the other, each in a process
of its own.

A chain may begin with another (`origin.Origin`), what ships as a rule. Then codecs are kept where
they serve the folder's held-out tracks, and tuned where they do not: the decoder alone first, so
that the codes stay the same, then, with hours enough, the whole of it. Generators begin with those
that are there.

What is finished is noted in the output folder as `train_all.yml`, so that the same plan again
resumes. TensorFlow-free.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .. import cli, config, machine
from ..config import ChainConfig
from ..data import codes
from ..errors import Interrupted, UserError
from ..io import labels, manifest, silence, splits, weights
from ..io.files import atomic_write, printable
from ..progress import QuietReporter
from . import devices, options, origin
from .origin import Amount, Origin
from .record import EPOCH_MINUTES

SHARES = {"codec": 1.0, "decoder": 0.5, "generator": 2.5}
"""Parts of the time. A generator learns for as long as it is let; a codec is good after a fraction
of that.
"""

WHOLE_HOURS = 3.0
"""With less time no codec is tuned as a whole: generators would have to wait for its codes. Then
they come first, and decoders are tuned after them.
"""

ENCODING_SPEED = 220.0
"""Times real time, of what ships at 512x on two cores: for estimates."""

FILE = "train_all.yml"
HEARD, REPORT = "heard", "report.html"
"""In the output folder: what was generated while it trained, and what came of it."""


@dataclass(frozen=True)
class PlannedTraining:
    """One model to train: its role ("codec" or "generator"), its name and its share of the time.

    decoder_only: of a codec that is tuned, the decoder alone.
    """

    role: str
    name: str
    decoder_only: bool = False

    @property
    def share(self) -> float:
        return SHARES["decoder" if self.decoder_only else self.role]

    @property
    def key(self) -> str:
        """What it is called where it is said and noted down."""
        return f"{self.name} decoder" if self.decoder_only else self.name


@dataclass
class Plan:
    """What is to be trained on a data folder, and how far that is.

    preset: a preset's name or file. levels: those to train, from the top down; None for all of the
    chain, or with an origin for those that play. hours: for all of it, shared out over the stages;
    or `steps` of each. input_length, offsets, transpose, gain: None for each model's own. label:
    what says the labels of generators and of codecs without codes; None: as each has it. scheduler,
    musicnn: see `train_generator` and `fad.checkpoint`. extra: options that every training is given
    as they are. origin: what it begins with, in place of a preset's models from nothing. listen:
    minutes between two hearings of what is learnt (0: none). report: whether a page is written in
    the end. spent: seconds so far.
    first_music: seconds until the first hearing of what was learnt (None: none yet). memory: bytes
    that its trainings, and what ran beside them, held at most.
    promised: stages, and the part of the hours that each was planned with: encoding and hearings
    take none of that. finished: stages, and how many steps each was asked for (1 where the time was
    shared out). heard: the weights of the last hearing, see `Listener`.
    verdicts: of each of the origin's codecs its "treatment", and what is `JUDGED`.
    """

    data_dir: Path
    output_dir: Path
    preset: str = config.SHIPPED
    levels: tuple[int, ...] | None = None
    hours: float | None = None
    steps: int | None = None
    input_length: int | None = None
    offsets: int | None = None
    transpose: int | None = None
    gain: float | None = None
    label: str | None = None
    scheduler: str | None = None
    musicnn: str | None = None
    extra: tuple[str, ...] = ()
    origin: Origin | None = None
    listen: float = 0.0
    report: bool = False
    spent: float = 0.0
    first_music: float | None = None
    memory: int = 0
    promised: dict[str, float] = field(default_factory=dict)
    finished: dict[str, int] = field(default_factory=dict)
    verdicts: dict[str, dict] = field(default_factory=dict)
    heard: list[int] | None = None

    def __post_init__(self):
        if (self.hours is None) == (self.steps is None):
            raise UserError("--hours and --steps exclude each other" if self.hours else
                            "a plan needs hours, or steps")
        self.data_dir, self.output_dir = Path(self.data_dir), Path(self.output_dir)
        if self.origin:
            self.preset = os.fspath(self.output_dir / origin.FILE)
            self.whole = self.origin.chain
        else:
            self.whole = config.preset(self.preset).chain
        sizes = self.whole.sizes
        if self.levels is None:
            # What is not heard is not learnt, but where everything is.
            self.levels = tuple(x for x in sizes if x >= self.whole.ending or not self.origin)
        self.levels = tuple(self.levels)
        if not self.levels or self.levels != sizes[: len(self.levels)]:
            raise UserError(f"--levels is {','.join(map(str, self.levels))!r}; it must be "
                            f"{sizes[0]}, or {sizes[0]} and the next ones down: "
                            f"{','.join(map(str, sizes))}")

    @property
    def chain(self) -> ChainConfig:
        """The chain as far as it is trained."""
        return config.replace(self.whole,
                              levels=[config.to_dict(one)
                                      for one in self.whole.levels[: len(self.levels)]],
                              end=self.whole.end if self.whole.end in self.levels else None)

    @property
    def stages(self) -> list[PlannedTraining]:
        """Every model in order: the codecs from the top down, then the generators; of an origin's
        codecs those that must be tuned. Decoders that stay alone in it come last where there is
        `little_time`.
        """
        codecs, late = [], []
        for name in self.chain.codecs.values():
            treatment = self._treatment(name) if self.origin else "whole"
            if self.origin and treatment != "keep":
                (late if self.little_time and treatment == "decoder" else codecs).append(
                    PlannedTraining("codec", name, decoder_only=True))
            if treatment == "whole":
                codecs.append(PlannedTraining("codec", name))
        return codecs + [PlannedTraining("generator", name)
                         for name in self.chain.generators.values()] + late

    @property
    def little_time(self) -> bool:
        """Whether there is too little for codecs to be tuned as a whole."""
        return self.hours is not None and self.hours < WHOLE_HOURS

    def _treatment(self, codec: str) -> str:
        return self.verdicts.get(codec, {}).get("treatment", "keep")

    @property
    def open_stages(self) -> list[PlannedTraining]:
        """The stages that are still to be trained. Where hours are shared out a stage is trained
        once; else it is finished after `steps`, but for a codec whose codes a generator learns
        already: it stays as it is.
        """
        def wanted(stage):
            # A decoder that did not become good enough alone is not tuned alone again.
            over = stage.decoder_only and self._treatment(stage.name) == "whole"
            read = (stage.role == "codec" and not stage.decoder_only
                    and self.is_read(stage.name))
            return 1 if over or read else self.steps or 1

        return [stage for stage in self.stages
                if self.finished.get(stage.key, 0) < wanted(stage)]

    def is_read(self, codec: str) -> bool:
        """Whether a generator has begun to learn the codes of a codec: its own, or those of the
        level above.
        """
        sizes, generators = self.chain.sizes, self.chain.generators
        at = list(self.chain.codecs.values()).index(codec)
        readers = [generators[x] for x in sizes[at: at + 2] if x in generators]
        return any(self.finished.get(name) or (self.output_dir / f"{name}.state.npz").exists()
                   for name in readers)

    @property
    def anew(self) -> tuple[str, ...]:
        """The generators that begin with nothing although there is an origin: the top one, where it
        is to learn labels and knows none. What it heard so far tells one that is trained already
        what music it is in, so that it hardly learns to listen to them. Little music teaches
        nothing to one that knows nothing, labels or not.
        """
        if not (self.origin and self.label) or self.amount.small:
            return ()
        top = self.whole.generator(self.whole.top)
        return () if self.origin.labels_of(top) else (top,)

    def _is_told(self, stage: PlannedTraining) -> bool:
        """Whether it is told what each track is: a generator, and a codec that none plays."""
        return (stage.role == "generator"
                or not config.preset(self.preset).codec(stage.name).has_codes)

    def seconds(self, stage: PlannedTraining, among: list[PlannedTraining]) -> float:
        """How long a stage may learn: what it was promised, or more where others left more time."""
        left = max(0.0, self.hours * 3600 - self.spent)
        return max(left * stage.share / sum(other.share for other in among),
                   self.promised.get(stage.key, 0.0) * self.hours * 3600)

    def promise(self):
        """Share out what the finished stages left of the hours, where a stage is new."""
        todo = self.open_stages
        if not self.hours or all(stage.key in self.promised for stage in todo):
            return
        used = (sum(self.promised.get(key, 0.0) for key in self.finished) if self.promised
                else self.spent / (3600 * self.hours))
        for stage in todo:
            self.promised[stage.key] = round(
                max(0.0, 1 - used) * stage.share / sum(other.share for other in todo), 4)

    def command(self, stage: PlannedTraining, seconds: float | None = None) -> list[str]:
        """The command line of one training."""
        name, flag = (("train-codec", "--model") if stage.role == "codec"
                      else ("train-generator", "--generator"))
        command = [*_VQWAVE, name, flag, stage.name, "--data-dir", str(self.data_dir),
                   "--output-dir", str(self.output_dir), "--preset", self.preset, *self.extra]
        if self.origin and stage.name not in self.anew:
            # A codec whose decoder was tuned first goes on from that.
            begin = (self.output_dir if stage.role == "codec" and not stage.decoder_only
                     else self.origin.folder_of(stage.name))
            command += ["--start-from", str(begin)]
            command += ["--decoder-only"] if stage.decoder_only else []
        if stage.role == "generator":
            command += ["--vqvae-weights-dir", str(self.output_dir)]
            command += ["--offsets", str(self.offsets)] if self.offsets else []
            command += ["--transpose", str(self.transpose)] if self.transpose is not None else []
            command += ["--gain", str(self.gain)] if self.gain is not None else []
            command += ["--scheduler", self.scheduler] if self.scheduler else []
        command += self.held_out  # in place of a share that `extra` may name
        command += ["--label", self.label] if self.label and self._is_told(stage) else []
        command += ["--input-length", str(self.input_length)] if self.input_length else []
        if self.hours:
            return [*command, "--minutes", f"{max(0.2, seconds / 60):.2f}"]
        return [*command, "--steps", str(self.steps)]

    @property
    def settings(self):
        """What `extra` says: a namespace of every option that all trainings have."""
        parser = cli.parser("")
        options.add_training_flags(parser)
        return parser.parse_args(list(self.extra))

    @property
    def held_out(self) -> list[str]:
        """The option by which trainings and other commands know which tracks are held out."""
        return ["--val-split", str(self.output_dir / splits.FILE)]

    @functools.cached_property
    def split(self) -> config.Split:
        """What is held out: as `--val-split` names it, or a share, which is drawn once."""
        return self._find_split(lambda line: None)

    def keep_split(self, say: Callable[[str], None]):
        """Write down what is held out, and say where that is not what was asked for."""
        self.split = self._find_split(say)
        # Every process that trains: each reads it, and all write the same.
        splits.record(self.output_dir, self.split)

    def _find_split(self, say) -> config.Split:
        asked = self.settings
        split = (config.DataConfig().split if asked.val_split is None
                 else options.parse_split(asked.val_split))
        if isinstance(split, config.Split):
            return split
        tracks, path = manifest.read(self.data_dir), self.output_dir / splits.FILE
        kept, gone = splits.recorded(self.output_dir, tracks) or (None, [])
        if kept and not kept.held_out_tracks:
            raise UserError(f"{path}: none of the tracks that are held out is in {self.data_dir}; "
                            f"use another --output-dir, or remove that file and others are")
        if gone:
            say(f"{len(gone)} of the tracks that were held out are not in {self.data_dir} any "
                f"more, such as {printable(gone[0])}")
        if kept and asked.val_split is not None:
            say(f"--val-split {split:g}: what was drawn before is held out still ({path})")
        seed = config.TrainingConfig().seed if asked.seed is None else asked.seed
        known = self.origin.known if self.origin else ()
        return kept or splits.draw(tracks, split, seed, known)

    @functools.cached_property
    def amount(self) -> Amount:
        """How much music there is."""
        return Amount.of(self.data_dir, self.split, self.origin.trim_silence)

    @property
    def network(self) -> list[str]:
        """The option by which other commands know what distances are measured by."""
        return ["--musicnn", self.musicnn] if self.musicnn else []

    @property
    def encoding(self) -> float:
        """About how many seconds go by before a top generator's tracks are encoded."""
        own = config.preset(self.preset).training(self.whole.generator(self.whole.top))
        offsets, shift, gain = (getattr(own, key) if asked is None else asked for key, asked in (
            ("offsets", self.offsets), ("transpose", self.transpose), ("gain", self.gain)))
        copies = len(codes.variants(offsets, shift, gain=gain))
        return 3600 * (self.amount.hours * copies + self.amount.held_out_hours) / ENCODING_SPEED

    @property
    def about_folders(self) -> list[str]:
        """The options by which other commands find the data, its split and the models."""
        return ["--data-dir", str(self.data_dir), "--vqvae-weights-dir", str(self.output_dir),
                "--generator-weights-dir", str(self.output_dir), *self.held_out]

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
        wrong = (f"{path}: is not a plan that `{cli.command('train')}` wrote; remove it to begin a "
                 "new one")
        keys = {"schema", "preset", "spent", "finished"}
        more = {"origin", "verdicts", "first_music", "memory", "label", "promised", "heard"}
        if not keys <= set(values) <= keys | more:
            raise UserError(wrong)
        config.check_schema(values, os.fspath(path))
        spent, finished = values["spent"], values["finished"]
        promised = values.get("promised") or {}
        first, memory, heard = (values.get("first_music"), values.get("memory", 0),
                                values.get("heard"))
        begun, verdicts = values.get("origin"), values.get("verdicts") or {}
        if (not all(map(_is_amount, (spent, memory, 0 if first is None else first)))
                or not isinstance(finished, dict)
            or not all(isinstance(n, int) for n in finished.values())
                or not isinstance(promised, dict) or not all(map(_is_amount, promised.values()))
            or not isinstance(heard, list | None)
                or not isinstance(verdicts, dict)
            or not all(isinstance(one, dict) and one.get("treatment") in TREATMENTS
                       for one in verdicts.values())):
            raise UserError(wrong)
        if begun != self._begun:
            there, now = (f"begins with {' and '.join(x)}" if x else "begins with nothing"
                          for x in (begun, self._begun))
            raise UserError(f"{self.output_dir}: holds models of a training that {there}, and this "
                            f"one {now}; use another --output-dir"
                            + ("" if begun else ", or go on there with --from-scratch"))
        if not self.origin and values["preset"] != self.preset:
            raise UserError(f"{self.output_dir}: holds models of preset {values['preset']}, not "
                            f"{self.preset}; use another --output-dir")
        if finished and values.get("label") != self.label:
            there, now = (f"labels by {of}" if of else "no labels"
                          for of in (values.get("label"), self.label))
            raise UserError(f"{self.output_dir}: holds models of a training with {there}, and this "
                            f"one has {now}; use another --output-dir")
        self.spent, self.finished, self.verdicts = float(spent), finished, verdicts
        self.first_music, self.memory, self.heard = first, int(memory), heard
        self.promised = promised

    @property
    def _begun(self) -> list[str] | None:
        """The origin's folders as the file has them."""
        if self.origin is None:
            return None
        return [os.path.abspath(x) for x in (self.origin.codecs, self.origin.generators)]

    def write(self):
        """Note down how far it is; of several processes that train together the first one does."""
        if not devices.is_first():
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        values = {"schema": config.SCHEMA, "preset": self.preset, "spent": round(self.spent, 1),
                  "finished": self.finished, "memory": self.memory}
        if self.promised:
            values["promised"] = self.promised
        if self.label:
            values["label"] = self.label
        if self.first_music is not None:
            values["first_music"] = round(self.first_music, 1)
        if self.heard is not None:
            values["heard"] = self.heard
        if self.origin:
            values |= {"origin": self._begun, "verdicts": self.verdicts}
        with atomic_write(self.output_dir / FILE) as f:
            f.write(config.dump_yaml(values).encode())

    def spend(self, seconds: float):
        """Count time as it passes, so that a kill loses none of the account."""
        self.spent += seconds
        self.memory = max(self.memory, machine.children_memory())
        self.write()


def _is_amount(value) -> bool:
    """Whether it is a number, finite and not below 0."""
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and 0 <= value < float("inf"))


def _read_labels(plan: Plan, tracks) -> tuple[str, ...]:
    """The labels of the tracks that train. Raises `UserError` where they say none, or what the plan
    begins with knows labels of another kind.
    """
    names = labels.vocabulary(splits.split(tracks, plan.split, seed=0)[0], plan.label)
    for name in plan.chain.generators.values() if plan.origin else ():
        there = plan.origin.labels_of(name)
        if there and there.of != plan.label:
            raise UserError(f"--label {plan.label}: {name} in {plan.origin.generators} was trained "
                            f"with {there.summary}; --from-scratch trains one that knows others")
    return names


JUDGED = ("serves", "lacks", "notes", "mel", "distance", "seconds")
"""What a verdict says of a codec; its "first" says the same from before it was tuned."""
TREATMENTS = ("keep", "decoder", "whole")
"""Of a codec that a chain begins with: kept as it is, its decoder tuned, all of it tuned."""

# -P: nothing that lies in the working folder is taken for a library.
_VQWAVE = (sys.executable, "-P", "-m", "vqwave")


def run(plan: Plan, say: Callable[[str], None] = print):
    """Train what a plan has open, noting down what is finished.

    Raises:
        UserError: the data or the folder cannot be used, or a training failed.
        Interrupted: a training was stopped by a signal.
    """
    # What is wrong with the data is found now, not by a training hours later.
    tracks = manifest.read(plan.data_dir)
    rate = plan.whole.sample_rate
    if tracks and tracks[0].sample_rate != rate:
        who = f"what {plan.origin} holds" if plan.origin else f"preset {plan.preset}"
        raise UserError(
            f"{plan.data_dir}: is at {tracks[0].sample_rate} Hz, {who} at {rate} "
            f"Hz; prepare the audio with --sample-rate {rate}")
    plan.read()
    told = _read_labels(plan, tracks) if plan.label else ()
    if plan.origin and devices.process_count() > 1:
        raise UserError("several processes can only train together from nothing: --from-scratch")
    amount = plan.amount if plan.origin else None  # also where nothing sounds, that is said now
    try:
        plan.write()
        plan.keep_split(say)
        if plan.origin:
            plan.origin.adopt(plan.chain, plan.output_dir, amount, plan.anew)
        elif devices.is_first():
            weights.save_chain(plan.output_dir, plan.chain)
    except OSError as e:
        raise UserError(f"{plan.output_dir}: cannot be written to: {e.strerror}") from e
    if plan.origin and (new := [name for name in plan.chain.codecs.values()
                                if name not in plan.verdicts]):
        say(f"Do the codecs of {plan.origin.codecs} serve the music in {plan.data_dir}? "
            f"Measuring on its {'held-out tracks' if amount and amount.held_out else 'music'} …")
        for name in new if plan.verdicts else [None]:
            judge(plan, name, say)
    plan.promise()
    describe(plan, told, say)
    if "--promote" in plan.extra and devices.is_first():
        todo = plan.open_stages
        for stage in plan.stages:
            if stage not in todo:  # the others promote themselves at their end
                say(weights.promote(plan.output_dir, stage.name))
    code = None
    with Listener(plan) as listener:
        while todo := plan.open_stages:
            stage, seconds, length = todo[0], None, ""
            plan.promise()
            if plan.hours:
                seconds = plan.seconds(stage, todo)
                length = f", {_at_most(plan)} {format_hours(seconds)}"
            say(f"== {stage.key} ({plan.stages.index(stage) + 1} of {len(plan.stages)}{length})")
            if plan.origin and stage.role == "codec" and not stage.decoder_only:
                _leave_decoder_run(plan, stage.name)
            code = run_command(plan.command(stage, seconds), plan.spend,
                               listener.look if stage.role == "generator" else None)
            if code == 0:
                plan.finished[stage.key] = plan.steps or 1
            plan.write()
            _check_ending(stage.key, code)
            if plan.origin and stage.role == "codec":
                judge(plan, stage.name, say)
            # Codecs before the generators change nothing that somebody waits to hear.
            if stage.role == "generator" or all(one.role == "codec" for one in todo):
                listener.listen()
        if code is None and (plan.heard or plan.first_music is None):
            listener.listen()  # which the run before was stopped in
    if plan.report and plan.chain.plays and devices.is_first():
        say(f"== {REPORT}")
        # What was trained stands, whatever the page lacks.
        code = run_command([*_VQWAVE, "evaluate", *plan.about_folders, *plan.network,
                            "--html", str(plan.output_dir / REPORT)], plan.spend)
        _check_stopped(code)


def _check_stopped(code: int):
    """Raises `Interrupted` where a signal to stop ended a command with this exit code."""
    if code in (130, 143):
        raise Interrupted(code - 128)


def _check_ending(what: str, code: int):
    """Raises what the exit code of a command calls for, unless it is 0."""
    _check_stopped(code)
    if code:
        ended = f"ended with exit code {code}"
        if code == 128 + signal.SIGKILL:
            ended = ("was killed (where memory ran out: a lower --batch-size or --input-length "
                     "needs less)")
        raise UserError(f"{what} {ended}; what is finished is kept, and the same command goes on "
                        f"from here")


def _leave_decoder_run(plan: Plan, codec: str):
    """The run that tuned a codec's decoder is over: its weights stay, what it would go on from
    goes.
    """
    if "codes_of" in weights.find(plan.output_dir, codec, "best").record:
        (plan.output_dir / f"{codec}.state.npz").unlink(missing_ok=True)


def judge(plan: Plan, codec: str | None, say: Callable[[str], None] = print):
    """Measure the codecs of a plan's folder (None: all) on held-out tracks, and decide what becomes
    of each: one that serves stays; else its decoder is tuned, and then the whole of it, where there
    are hours enough and no generator knows its codes yet.
    """
    with tempfile.TemporaryFile() as file:
        code = run_command([*_VQWAVE, "test-codec", "--model", codec or "all", "--json",
                            "--data-dir", str(plan.data_dir), "--vqvae-weights-dir",
                            str(plan.output_dir), *plan.held_out, *plan.network], plan.spend,
                           stdout=file)
        _check_ending("measuring the codecs", code)
        file.seek(0)
        found = json.loads(file.read())
    for line in found["table"]:
        say(f"  {line}")
    for row in found["models"]:
        before = plan.verdicts.get(row["model"])
        alone = plan.little_time or not before or plan.is_read(row["model"])
        more = "decoder" if alone else "whole"
        treatment = (before["treatment"] if before else "keep") if row["serves"] else more
        if before and treatment == "whole" != before["treatment"]:
            say(f"  {row['model']}: its decoder alone is not enough, so the whole of it is tuned "
                f"next, before the generators")
        plan.verdicts[row["model"]] = {"treatment": treatment, **{key: row[key] for key in JUDGED}}
        if before:  # tuned meanwhile
            first = before.get("first") or {key: before[key] for key in JUDGED}
            plan.verdicts[row["model"]]["first"] = first
    plan.write()


def describe(plan: Plan, told: tuple[str, ...], say: Callable[[str], None] = print):
    """Say what a plan will do, and why. told: the labels that its generators learn."""
    todo = plan.open_stages
    if plan.origin:
        _describe_beginning(plan, told, say)
    else:
        count = len(plan.stages)
        say(f"Training {count} model{'s' * (count != 1)} of preset {plan.preset} on "
            f"{plan.data_dir} into {plan.output_dir}:")
    for name in plan.chain.codecs.values() if plan.origin else ():
        if plan._treatment(name) == "keep":
            say(f"  {name:<14} kept as it is: it serves")
    for stage in plan.stages:
        what = f"{plan.steps} steps"
        if stage not in todo:
            what = "finished"
        elif plan.hours:
            what = f"{_at_most(plan)} {format_hours(plan.seconds(stage, todo))}"
        lacks = plan.verdicts.get(stage.name, {}).get("lacks") if stage in todo else None
        say(f"  {stage.key:<14} {what}" + (f": {lacks}" if lacks else ""))
    if plan.origin and plan.little_time and any(stage.decoder_only for stage in todo):
        say(f"  (a codec is tuned as a whole where --hours is {WHOLE_HOURS:g} or more from the "
            f"beginning, and its decoder alone is not enough)")
    _describe_added(plan, say)
    generators = [stage for stage in todo if stage.role == "generator"]
    if plan.listen and plan.hours and generators:
        before = todo[: todo.index(generators[0])]
        whole = plan.seconds(generators[0], todo)
        epochs = (plan.settings.epochs
                  or config.preset(plan.preset).training(generators[0].name).epochs)
        seconds = (sum(plan.seconds(stage, todo) for stage in before)
                   + (whole / epochs if epochs else min(60 * EPOCH_MINUTES, whole)))
        encoding = f" (about {format_hours(plan.encoding)})" if plan.origin else ""
        say(f"Once the tracks are encoded{encoding}, the first music is to be heard after about "
            f"{format_hours(seconds)}, in {plan.output_dir / HEARD}")


def _describe_added(plan: Plan, say):
    """Say which tracks came after generators had been trained: these learn them no more."""
    done = [stage.name for stage in plan.stages
            if stage.role == "generator" and stage not in plan.open_stages
            and weights.tags(plan.output_dir, stage.name)]
    if not done:
        return
    (train, _), _ = silence.read_sides(plan.data_dir, plan.split, 0,
                                       config.preset(plan.preset).data.trim_silence,
                                       QuietReporter())
    for name in done:
        if new := weights.find(plan.output_dir, name).unheard(train):
            say(f"  {name} was not trained on {len(new)} of the {len(train)} tracks, such as "
                f"{printable(splits.track_name(new[0]))}: what is told in the end begins a "
                f"training that learns them")


def _at_most(plan: Plan) -> str:
    """What begins with a trained model has learnt what it can after some passes."""
    return "at most" if plan.origin else "about"


def _describe_beginning(plan: Plan, told, say):
    """What a plan with an origin chose, and why."""
    amount, preset = plan.amount, config.preset(plan.preset)
    say(f"Training on {plan.data_dir} into {plan.output_dir}, beginning with {plan.origin}:")
    say(f"  {amount}")
    if not amount.held_out:
        what, then = (("one track alone, of which nothing is held out",
                       "expect variations of that track, or add music") if amount.tracks == 1 else
                      ("no track is held out", "--val-split holds some out"))
        say(f"  {what}: no verdict can tell learning from learning by heart; {then}")
    training = preset.training(plan.chain.generator(plan.chain.top))
    shift = training.transpose if plan.transpose is None else plan.transpose
    gain = training.gain if plan.gain is None else plan.gain
    ways = ([f"{shift} semitones higher and lower"] * bool(shift)
            + [f"{gain:g} dB quieter"] * bool(gain))
    if ways:
        say(f"  each training track is heard up to {' and '.join(ways)} too"
            + (f", for there is less than {origin.SMALL_HOURS:g} h of music" if amount.small
               else ""))
    if told:
        say(f"  generators are told each track's {plan.label}: {', '.join(told)}")
        if amount.small and not plan.origin.labels_of(plan.chain.generator(plan.chain.top)):
            say(f"  what began without labels hardly heeds them; {origin.SMALL_HOURS:g} h of music "
                f"would let the top generator begin anew")
    for name in plan.anew:
        say(f"  {name} begins with nothing: one that was trained without labels would hardly heed "
            f"them")
    patience = plan.settings.patience
    patience = training.patience if patience is None else patience
    if patience and amount.held_out:
        say(f"  a generator stops after {patience} epochs that are no better on held-out tracks")


class Listener:
    """Lets what is learnt be heard while a plan runs: `vqwave listen` as soon as anything is, and
    then every few minutes, beside the training, where there are newer weights than the last time.
    """

    def __init__(self, plan: Plan):
        self.plan, self.began = plan, time.monotonic()
        self.waits = plan.first_music is not None  # the first music is heard as soon as it can be
        self._running = contextlib.ExitStack()
        self.process: subprocess.Popen | None = None
        self.hearing: tuple[list | None, int] = None, 0  # the weights of `process`, their epoch

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._running.close()  # which ends the command, where one still runs

    @property
    def _newest(self) -> list | None:
        """What the weights are known by; None where there is nothing to hear yet, or no wish to."""
        folder, chain = self.plan.output_dir, self.plan.chain
        paths = [weights.config_path(folder, name, "best") for name in chain.names]
        if not (self.plan.listen and chain.plays and devices.is_first()
                and weights.tags(folder, chain.generator(chain.top))):
            return None
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]

    @property
    def _command(self) -> list[str]:
        return [*_VQWAVE, "listen", *self.plan.about_folders, "--output-dir",
                str(self.plan.output_dir / HEARD),
                "--name", f"{round(self.plan.spent / 60):04d}min"]

    def look(self):
        """Begin a hearing if it is time for one; called while a training runs."""
        if self.process is not None:
            if (code := self.process.poll()) is None:
                return
            self._end(code)
        if self.waits and time.monotonic() - self.began < 60 * self.plan.listen:
            return
        if self._is_newer and self._epoch:
            self._begin()
            self.process = self._running.enter_context(cli.attached(self._command))

    def listen(self):
        """A hearing now, after one that still runs, and wait for it."""
        if self.process is not None:
            with cli.waited_for(self.process):
                code = _wait(self.process, self.plan.spend)
            self._end(code)
            _check_stopped(code)
        if self._is_newer:
            self._begin()
            code = run_command(self._command, self.plan.spend)
            self._end(code)
            _check_stopped(code)

    @property
    def _is_newer(self) -> bool:
        newest = self._newest
        return newest is not None and newest != self.plan.heard

    def _begin(self):
        """Remember when a hearing began, and of which weights it is."""
        self.began, self.waits, self.hearing = time.monotonic(), True, (self._newest, self._epoch)

    def _end(self, code: int):
        """A hearing is over. One that failed stops no training, and is tried again."""
        self._running.close()
        self.process = None
        newest, epoch = self.hearing
        if code == 0:
            self.plan.heard = newest
            self._note(epoch)

    @property
    def _epoch(self) -> int:
        """Of the top generator's best weights; 0 is what it began with, which everybody knows: the
        set that was taken over at first, then the training's own.
        """
        plan, top = self.plan, self.plan.chain.generator(self.plan.chain.top)
        with contextlib.suppress(UserError):  # replaced just now
            best = weights.find(plan.output_dir, top, "best")
            if not (plan.origin and best.record == plan.origin.set_of(top).record):
                return best.record.get("epoch") or 0
        return 0

    def _note(self, epoch: int):
        """Remember what was heard, and when the first music was that something was learnt for;
        epoch: of the weights that were heard.
        """
        if epoch and self.plan.first_music is None:
            self.plan.first_music = self.plan.spent
        self.plan.write()


def run_command(command: list[str], spend: Callable[[float], None],
                meanwhile: Callable[[], None] | None = None, stdout=None) -> int:
    """The command's exit code. SIGTERM is passed on to it, Ctrl-C reaches it anyway; either way it
    is waited for.

    Where this process is killed the command ends too, so that the next run does not find its folder
    taken.

    Args:
        spend: called with the seconds that passed, every half minute and at the end.
        meanwhile: called every half minute.
        stdout: a file for what it prints.
    """
    sys.stdout.flush()
    with cli.child(list(command), **({"stdout": stdout} if stdout else {})) as child:
        return _wait(child, spend, meanwhile)


def _wait(process: subprocess.Popen, spend: Callable[[float], None],
          meanwhile: Callable[[], None] | None = None) -> int:
    """The exit code of a command that runs; see `run_command`."""
    told, code = time.monotonic(), None
    while code is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout=30)
        now = time.monotonic()
        spend(now - told)
        told = now
        if meanwhile and code is None:
            meanwhile()
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
