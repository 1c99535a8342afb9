"""Where a run begins: random weights, its saved state, a numbered set, or other weights."""

from __future__ import annotations

import contextlib
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
    """A record and what the model is restored from: the variables of a saved run, or a set of
    weights, or neither.
    """

    record: RunRecord
    path: Path
    variables: list[np.ndarray] | None = None
    weights: weights.WeightSet | None = None


def open_folder(folder, name: str, chain: ChainConfig | None = None):
    """Create the output folder and check that files can be written there, before hours of work.
    chain: see `weights.add_chain`.
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
    """Where this run begins. `say` receives the settings that differ from those of the earlier run.

    Args:
        training, data: the settings; an earlier run keeps its own where the user did not set them.

    Raises:
        UserError: the folder holds a run that this one cannot continue.
    """
    folder, name = options.output_dir, job.model.name
    state = RunState(folder, name)
    saved, variables = state.load() or (None, None)
    epoch = None if options.start_epoch is None else weights.find(folder, name, options.start_epoch)
    if (epoch and saved and epoch.record.get("step") == saved.step
        and epoch.record.get("id") == saved.id):
        epoch = None  # the saved state is of the same step
    source = None
    if not saved and not epoch and options.start_from:
        source = weights.find(options.start_from, name)
    models = epoch and epoch.config, saved and saved.model, source and source.config
    job.complete(next(filter(None, models), None), data.split, training.seed)
    set_by_user = options.set_fields(training, data)
    if earlier := saved or (epoch if epoch and epoch.training else None):
        training = _override(earlier.training, training, set_by_user)
        data = _override(earlier.data or DataConfig(trim_silence=None), data, set_by_user)
    codecs = {codec.name: codec.codes_id for codec in job.codec_weights} or None
    if saved and not epoch:
        _check_same(saved, job.model, codecs, options)
        _adopt(saved, training, data, options, say)
        return Start(saved, state.path, variables)
    record = RunRecord(job.model, training, data, secrets.token_hex(8), codecs=codecs,
                       steps=None if options.minutes else training.steps)
    if before := epoch or source:
        if not (job.gives_labels and before.config.labels is None):
            _check_labels(before.summary, before.config.labels, job.model.labels)
        record.tracks = list(before.record.get("tracks") or ())
        record.held_out = before.record.get("held_out")
    if epoch:
        _check_part(epoch.record.get("codes_of"), name, options)
        _rewind(record, epoch, options, saved)
    elif source:
        new = job.model.labels and not source.config.labels
        say(f"begins with {source.summary}"
            + (f", and learns {job.model.labels.summary}" if new else ""))
        record.codes_of = source.codes_id if options.decoder_only else None
    return Start(record, state.path, weights=before)


def _override(earlier, settings, set_by_user):
    """The settings of an earlier run, with those that the user set now."""
    return config.override(earlier, {key: value for key, value in config.to_dict(settings).items()
                                     if key in set_by_user}, "settings")


def _check_labels(who: str, before: config.Labels | None, now: config.Labels | None):
    """Raises `UserError` where a model of other labels would be continued."""
    if (before and (before.of, before.names)) != (now and (now.of, now.names)):
        old, new = (labels.summary if labels else "no labels" for labels in (before, now))
        raise UserError(f"{who}: was trained with {old}; it cannot be trained with "
                        f"{'other ' * (old == new)}{new}")


def _check_same(saved: RunRecord, model, codecs, options: RunOptions):
    """Raises `UserError` where the saved run has another model, other codes, or trains another
    part.
    """
    folder, name = options.output_dir, saved.name
    advice = f"use another --output-dir, or remove {name}.state.npz"
    _check_labels(f"{folder}: {name}", saved.model.labels, model.labels)
    old, new = _flat(config.to_dict(saved.model)), _flat(config.to_dict(model))
    for key in old | new:
        if old.get(key) != new.get(key):
            raise UserError(f"{folder}: holds a run of {name} with {key} {old.get(key)!r}, not "
                            f"{new.get(key)!r}; {advice}")
    if saved.codecs != codecs:
        raise UserError(f"{folder}: holds a run of {name} on the codes of other codecs; {advice}")
    _check_part(saved.codes_of, name, options)


def _flat(values: dict, prefix: str = "") -> dict:
    """Nested mappings as one, with keys such as `core.units`."""
    flat = {}
    for key, value in values.items():
        flat |= (_flat(value, f"{prefix}{key}.") if isinstance(value, dict)
                 else {prefix + key: value})
    return flat


def _check_part(codes_of: str | None, name: str, options: RunOptions):
    if options.decoder_only != (codes_of is not None):
        begun = "with" if codes_of is not None else "without"
        raise UserError(f"{options.output_dir}: holds a run of {name} that was begun {begun} "
                        f"--decoder-only; use another --output-dir")


def _adopt(record: RunRecord, training: TrainingConfig, data: DataConfig,
           options: RunOptions, say):
    """Set the settings with which a saved run continues. An epoch keeps its number of steps."""
    steps = record.steps if options.minutes else training.steps
    for earlier, settings in ((record.training, training), (record.data, data)):
        for key, value in settings:
            old = getattr(earlier, key)
            if value != old and key not in ("steps", "epochs", "patience"):
                words = (f"another {key}" if isinstance(value, config.Config)
                         else f"{key} {old}; it continues with {value}")
                say(f"the run so far had {words}")
    record.training, record.data = training, data
    if steps is None:
        return
    if steps != record.steps:
        if steps > record.step:
            say(f"the run was planned for {record.steps} steps; it continues to {steps}")
            record.waited, record.finished = 0, None
            record.plan(steps)
        elif not record.finished:
            raise UserError(f"{record.name} in {options.output_dir} is at step {record.step} of "
                            f"{record.steps} already; --steps {steps} is not beyond that")
    record.training = config.replace(record.training, steps=record.steps)


def _rewind(record: RunRecord, begin: weights.WeightSet, options: RunOptions,
            saved: RunRecord | None):
    """Set a new record to the step at which a numbered set was saved."""
    step, epoch = begin.record.get("step"), options.start_epoch
    if not step:
        raise UserError(f"{begin.summary}: does not say at which step it was saved, so no run can "
                        f"continue from it")
    if record.steps is not None and record.steps <= step:
        raise UserError(f"{begin.summary}: is step {step} already; --steps {record.steps} is not "
                        f"beyond that")
    best, best_epoch = begin.record.get("validation_loss"), epoch
    with contextlib.suppress(UserError, KeyError):
        # A later epoch may have been better; it stays the best until a better one comes.
        best_record = weights.find(begin.folder, begin.name, "best").record
        if best is None or best_record["validation_loss"] < best:
            best, best_epoch = best_record["validation_loss"], best_record["epoch"]
    record.step, record.best, record.best_epoch = step, best, best_epoch
    record.steps_per_epoch = saved.steps_per_epoch if saved else -(-step // epoch)
    record.codes_of = begin.record.get("codes_of")
