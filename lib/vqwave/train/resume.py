"""Where a run begins: with nothing, from its saved state, a numbered set, or another run's weights.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import config
from ..config import ChainConfig, DataConfig, TrainingConfig
from ..errors import UserError
from ..io import files, weights
from .options import RunOptions
from .record import RunRecord, RunState


@dataclass
class Start:
    """A record and what the model is restored from: a saved run's variables, or a set of weights,
    or neither.
    """

    record: RunRecord
    path: Path
    variables: list[np.ndarray] | None = None
    weights: weights.WeightSet | None = None


def open_folder(folder, name: str, chain: ChainConfig | None = None):
    """Make the output folder and check that it can be written to, before hours of work. chain: see
    `weights.add_chain`.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with open(Path(folder) / f".{name}.lock", "a"), tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
        if chain:
            weights.add_chain(folder, chain)
    except OSError as e:
        raise UserError(f"{folder}: cannot be written to: {e.strerror}") from e
    files.sweep(folder)


def find_start(job, options: RunOptions, training: TrainingConfig, data: DataConfig, say) -> Start:
    """Where this run begins. Tells the user which settings differ from those it was begun with.

    Args:
        job: whose `model` is trained, on the codes of its `codecs`.
        training, data: the settings asked for; `options.given` names those that are not mere
            defaults.

    Raises:
        UserError: the folder holds a run that this one cannot go on with.
    """
    folder, name = options.output_dir, job.model.name
    state = RunState(folder, name)
    saved, variables = state.load() or (None, None)
    begin = None if options.start_epoch is None else weights.find(folder, name, options.start_epoch)
    if (begin and saved and begin.record.get("step") == saved.step
        and begin.record.get("id") == saved.id):
        begin = None  # the saved state is that very point
    source = None
    if not saved and not begin and options.start_from:
        source = weights.find(options.start_from, name)
    before = begin.config if begin else saved.model if saved else source and source.config
    job.complete(before, data.split, training.seed)
    given = options.asked(training, data)
    if earlier := saved or (begin if begin and begin.training else None):
        training = _settle(earlier.training, training, given)
        data = _settle(earlier.data or DataConfig(trim_silence=None), data, given)
    codecs = {one.name: one.codes_id for one in job.codec_weights} or None
    if begin or not saved:
        record = RunRecord(job.model, training, data, secrets.token_hex(8), codecs=codecs,
                           steps=None if options.minutes else training.steps)
        start = Start(record, state.path)
        if begin or source:
            _check_labels(begin or source, job)
        if begin:
            _check_part(begin.record.get("codes_of"), name, options)
            _rewind(record, begin, options, saved)
            start.weights = begin
        elif source:
            start.weights = _begin_with(record, source, options, say)
        return start
    _check_same(saved, job.model, codecs, options)
    _adopt(saved, training, data, given, options, say)
    return Start(saved, state.path, variables)


def _settle(kept, asked, given):
    """`asked` where that was `given`, else what a run before has `kept`."""
    values = {key: value for key, value in config.to_dict(asked).items() if key in given}
    return config.validate(type(kept), config.to_dict(kept) | values)


def _begin_with(record: RunRecord, source: weights.WeightSet, options: RunOptions,
                say) -> weights.WeightSet:
    new = record.model.labels and not source.config.labels
    say(f"begins with {source.summary}" + (f", and learns {record.model.labels.summary}"
                                           if new else ""))
    if options.decoder_only:
        record.codes_of = source.codes_id
    record.tracks = list(source.record.get("tracks") or ())
    record.held_out = source.record.get("held_out")
    return source


def _check_labels(source: weights.WeightSet, job):
    """Raises `UserError` where a model was trained with other labels than it is to have, or with
    none and cannot be given any.
    """
    if job.gives_labels and source.config.labels is None:
        return
    if (said := _other_labels(source.config, job.model)) is not None:
        raise UserError(f"{source.summary}: was trained with {said[0]}; it cannot go on with "
                        f"{said[1]}")


def _other_labels(there, now) -> tuple[str, str] | None:
    """The labels of two models in words; None where they are the same."""
    labels = [one.labels for one in (there, now)]
    facts = [(one.of, one.names) if one else None for one in labels]
    if facts[0] == facts[1]:
        return None
    words = tuple(one.summary if one else "no labels" for one in labels)
    return words if words[0] != words[1] else (f"other {words[0]}", words[1])


def _check_same(saved: RunRecord, model, codecs, options: RunOptions):
    """Raises `UserError` where the saved run is of another model, other codes, or trains another
    part.
    """
    folder, name = options.output_dir, saved.name
    if (said := _other_labels(saved.model, model)) is not None:
        raise UserError(f"{folder}: holds a run of {name} with {said[0]}, not with {said[1]}; use "
                        f"another --output-dir, or remove {name}.state.npz")
    if saved.model != model:
        key, there, now = _first_difference(config.to_dict(saved.model), config.to_dict(model))
        raise UserError(f"{folder}: holds a run of {name} with another config ({key}: {there!r} "
                        f"there, {now!r} now); use another --output-dir, or remove "
                        f"{name}.state.npz")
    if saved.codecs != codecs:
        raise UserError(f"{folder}: holds a run of {name} on the codes of other codecs; use "
                        f"another --output-dir, or remove {name}.state.npz to begin anew")
    _check_part(saved.codes_of, name, options)


def _check_part(codes_of: str | None, name: str, options: RunOptions):
    if options.decoder_only != (codes_of is not None):
        begun = "with" if codes_of is not None else "without"
        raise UserError(f"{options.output_dir}: holds a run of {name} that was begun {begun} "
                        f"--decoder-only; use another --output-dir")


def _first_difference(there, now, path=""):
    """(key, value, value) where two nested mappings first differ."""
    if isinstance(there, dict) and isinstance(now, dict):
        for key in [*there, *(k for k in now if k not in there)]:
            if there.get(key) != now.get(key):
                return _first_difference(there.get(key), now.get(key),
                                         f"{path}.{key}" if path else key)
    return path, there, now


def _adopt(record: RunRecord, training: TrainingConfig, data: DataConfig,
           given, options: RunOptions, say):
    """Make the settled settings those of a saved run that goes on."""
    steps = record.steps if options.minutes else training.steps
    for key, value in training:
        old = getattr(record.training, key)
        if value != old and key not in ("steps", "epochs", "patience"):
            say(f"the run so far had {key} {old}; it goes on with {value}")
    if data.split != record.data.split:
        say("the run so far had another split; it goes on with the one asked for")
    if data.trim_silence != record.data.trim_silence:
        say(f"the run so far had trim_silence {record.data.trim_silence}; it goes on with "
            f"{data.trim_silence}")
    epochs, planned = training.epochs, record.steps_per_epoch
    if ("epochs" in given and epochs and planned
        and planned != math.ceil((steps or planned) / epochs)):
        say(f"--epochs: an epoch keeps the {planned} steps that it had when the run began")
    record.training, record.data = training, data
    if steps is None:
        return
    if steps != record.steps:
        if steps > record.step:
            say(f"the run was planned for {record.steps} steps; it goes on to {steps}")
            record.waited, record.finished = 0, None
            record.plan(steps)
        elif not record.finished:
            raise UserError(f"{record.name} in {options.output_dir} is at step {record.step} of "
                            f"{record.steps} already; --steps {steps} is not beyond that")
    record.training = config.replace(record.training, steps=record.steps)


def _rewind(record: RunRecord, begin: weights.WeightSet, options: RunOptions,
            saved: RunRecord | None):
    """Set a new record to where a numbered set was saved."""
    step, epoch = begin.record.get("step"), options.start_epoch
    if not isinstance(step, int) or step < 1:
        raise UserError(f"{begin.summary}: does not say at which step it was saved, so no run can "
                        f"go on from it")
    if record.steps is not None and record.steps <= step:
        raise UserError(f"{begin.summary}: is step {step} already; --steps {record.steps} is not "
                        f"beyond that")
    best, best_epoch = begin.record.get("validation_loss"), epoch
    with contextlib.suppress(UserError, KeyError):
        # A later epoch may have been better: only a still better one may replace it.
        known = weights.find(begin.folder, begin.name, "best").record
        if best is None or known["validation_loss"] < best:
            best, best_epoch = known["validation_loss"], known["epoch"]
    record.step, record.best, record.best_epoch = step, best, best_epoch
    record.steps_per_epoch = saved.steps_per_epoch if saved else -(-step // epoch)
    record.tracks = list(begin.record.get("tracks") or ())
    record.codes_of = begin.record.get("codes_of")
    record.held_out = begin.record.get("held_out")
