"""Runs a plan: each training in its own process, and a report at the end.

A plan that was killed continues where it stopped. Only its processes load TensorFlow.
"""

import functools
import signal
from collections.abc import Callable
from pathlib import Path

from .. import stderr
from ..codecs import CodecConfig
from ..errors import Interrupted, UserError
from ..generators import GeneratorConfig
from ..io import labels, manifest, splits, weights
from . import codecs, devices
from .isolated import Task
from .options import TrainingSettings
from .plan import REPORT, PlannedTraining, TrainingPlan, format_hours
from .record import RunState


def train_model(settings: TrainingSettings, data_dir, codec_dir=None, codec_epoch=None,
                scheduler: str | None = None):
    """Train one model. codec_dir: of a generator, the folder of the codecs of its codes."""
    model, run, data, options, chain, preset = settings
    if isinstance(model, GeneratorConfig) and model.core.learns == "codes":
        codecs.find_all(model, codec_dir, codec_epoch, chain, preset)  # before Keras is loaded
    stderr.import_keras()
    from . import training

    if isinstance(model, CodecConfig):
        training.train_codec(model, data_dir, options, run, data, chain=chain)
    else:
        training.train_generator(model, data_dir, codec_dir, options, run, data, chain=chain,
                                 codec_epoch=codec_epoch, scheduler=scheduler)


def run(plan: TrainingPlan, judge: Callable | None = None, report: Callable | None = None,
        say: Callable[[str], None] = print):
    """Run the open trainings of a plan.

    Each callable runs in its own process, so another process must be able to import it.

    Args:
        judge: (data folder, weights folder, split file, names of codecs) -> (the shortfall of each
            codec, lines to show); needed with an origin.
        report: (data folder, weights folder, split file, page): write a page about the result.

    Raises:
        UserError: the data or the folder cannot be used, or a training failed.
        Interrupted: a training was stopped by a signal.
    """
    names = _check_data(plan)
    if plan.origin and devices.process_count() > 1:
        raise UserError("several processes can only train from random weights: add --from-scratch")
    _prepare_folder(plan, say)
    if plan.origin:
        _judge_codecs(plan, judge, say)
    describe(plan, names, say)
    if plan.flags.promote and devices.is_first():
        todo = plan.open_stages
        for stage in plan.stages:
            if stage not in todo:  # trainings that run now promote their weights themselves
                say(weights.promote(plan.output_dir, stage.name))
    _train_all(plan, say)
    if report and plan.chain.can_generate and devices.is_first():
        say(f"== {REPORT}")
        # A failed report is ignored, because the models are trained.
        _check_stopped(Task(report, *_folders(plan), plan.output_dir / REPORT).wait(plan.spend))


def _check_data(plan: TrainingPlan) -> tuple[str, ...]:
    """Read the data and the saved state. Returns the labels that the generators learn."""
    tracks, rate, label = manifest.read(plan.data_dir), plan.whole.sample_rate, plan.flags.label
    if tracks and tracks[0].sample_rate != rate:
        owner = f"the models of {plan.origin}" if plan.origin else f"preset {plan.preset}"
        raise UserError(f"{plan.data_dir}: is at {tracks[0].sample_rate} Hz, {owner} at {rate} Hz; "
                        f"prepare the audio with --sample-rate {rate}")
    plan.read()
    if not label:
        return ()
    names = labels.vocabulary(splits.split(tracks, plan.split, seed=0)[0], label)
    if plan.origin:
        learnt = [known for name in plan.chain.generators.values()
                  if (known := plan.origin.labels_of(name))]
        if label not in [known.of for known in learnt]:
            raise UserError(f"--label {label}: the generators in {plan.origin.generators} were "
                            f"trained with {learnt[0].summary if learnt else 'no labels'}; "
                            f"--from-scratch trains them with other labels")
    return names


def _prepare_folder(plan: TrainingPlan, say):
    """Write the chain, the split and, with an origin, its models and preset."""
    size = plan.corpus_size if plan.origin else None  # raises for silence, before any write
    try:
        plan.write()
        plan.keep_split(say)
        if plan.origin:
            plan.origin.adopt(plan.chain, plan.output_dir, size)
        elif devices.is_first():
            weights.save_chain(plan.output_dir, plan.chain)
    except OSError as e:
        raise UserError(f"{plan.output_dir}: cannot be written to: {e.strerror}") from e


def _train_all(plan: TrainingPlan, say):
    while todo := plan.open_stages:
        stage, seconds, length = todo[0], None, ""
        if plan.hours:
            seconds = plan.seconds(stage, todo)
            length = f", {_at_most(plan)} {format_hours(seconds)}"
        say(f"== {stage.key} ({plan.stages.index(stage) + 1} of {len(plan.stages)}{length})")
        if stage.role == "codec":
            _drop_other_run(plan, stage)
        task = Task(train_model, plan.settings(stage, seconds), plan.data_dir, plan.output_dir,
                    None, plan.flags.scheduler if stage.role == "generator" else None)
        code = task.wait(functools.partial(plan.spend, stage=stage))
        if code == 0:
            plan.state.finished[stage.key] = plan.flags.steps or 1
        plan.write()
        _check_ending(stage.key, code)


def _folders(plan: TrainingPlan) -> tuple[Path, Path, Path]:
    """The first arguments of both callables: data folder, weights folder, split file."""
    return plan.data_dir, plan.output_dir, plan.split_file


def _check_stopped(code: int):
    """Raises `Interrupted` if a signal ended the process with this exit code."""
    if code in (130, 143):
        raise Interrupted(code - 128)


def _check_ending(what: str, code: int):
    """Raises the error for an exit code other than 0."""
    _check_stopped(code)
    if code:
        ended = f"ended with exit code {code}"
        if code == 128 + signal.SIGKILL:
            ended = ("was killed (if memory ran out: a lower --batch-size or --input-length "
                     "needs less)")
        raise UserError(f"{what} {ended}; what is finished is kept, and the same command continues")


def _drop_other_run(plan: TrainingPlan, stage: PlannedTraining):
    """Remove the state (not the weights) of a codec's earlier run if only one of both runs trains
    the decoder alone.
    """
    state = RunState(plan.output_dir, stage.name)
    if (saved := state.load()) and (saved[0].codes_of is not None) != stage.decoder_only:
        state.path.unlink()


def _judge_codecs(plan: TrainingPlan, judge, say):
    """Measure the codecs that were not measured before on held-out tracks."""
    new = [name for name in plan.chain.codecs.values() if name not in plan.state.shortfalls]
    if not new:
        return
    tracks = "held-out tracks" if plan.corpus_size.held_out else "music"
    say(f"Measuring whether the codecs of {plan.origin.codecs} suit the {tracks} of "
        f"{plan.data_dir} …")
    task = Task(judge, *_folders(plan), new)
    _check_ending("measuring the codecs", task.wait(plan.spend))
    shortfalls, lines = task.receive_value()
    for line in lines:
        say(f"  {line}")
    plan.state.shortfalls |= shortfalls
    plan.write()


def describe(plan: TrainingPlan, names: tuple[str, ...], say: Callable[[str], None] = print):
    """Print what a plan will do, and why. names: the labels that its generators learn."""
    todo = plan.open_stages
    if plan.origin:
        _describe_origin(plan, names, say)
        for name in plan.chain.codecs.values():
            if not plan.state.shortfalls[name]:
                say(f"  {name:<14} kept: this codec suits the music")
    else:
        say(f"Training preset {plan.preset} on {plan.data_dir} into {plan.output_dir}:")
    for stage in plan.stages:
        length, shortfall = "finished", ""
        if stage in todo:
            length = (f"{_at_most(plan)} {format_hours(plan.seconds(stage, todo))}" if plan.hours
                    else f"{plan.flags.steps} steps")
            if stage.decoder_only and plan.origin:
                shortfall = f": {plan.state.shortfalls[stage.name]}"
        say(f"  {stage.key:<14} {length}{shortfall}")


def _at_most(plan: TrainingPlan) -> str:
    """"at most" or "about". The number of passes may end a training of trained models early."""
    return "at most" if plan.origin else "about"


def _describe_origin(plan: TrainingPlan, names, say):
    """Print the choices in a plan with an origin, and the reasons."""
    size, label = plan.corpus_size, plan.flags.label
    say(f"Training on {plan.data_dir} into {plan.output_dir}, beginning with {plan.origin}:")
    say(f"  {size}")
    if not size.held_out:
        say("  no track is held out, so over-fitting goes unnoticed: "
            + ("expect variations of the one track, or add music" if size.tracks == 1 else
               "--val-split holds some out"))
    shift, gain = plan.top_setting("transpose"), plan.top_setting("gain")
    copies = ([f"{shift} semitones higher and lower"] * bool(shift)
              + [f"{gain:g} dB quieter"] * bool(gain))
    if copies:
        say(f"  training also uses copies of each track, up to {' and '.join(copies)}")
    if names:
        say(f"  generators learn each track's {label}: {', '.join(names)}")
    patience = plan.top_setting("patience")
    if patience and size.held_out:
        say(f"  a generator stops after {patience} epochs without a better validation loss")
