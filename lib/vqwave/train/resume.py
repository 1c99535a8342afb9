"""The start of a run: from random weights, from its saved state, or from other weights."""

import math
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..codecs import Labels
from ..errors import UserError
from ..io import files, weights
from ..levels import ChainConfig, Config, DataConfig, TrainingConfig, override, replace, to_dict
from .options import RunOptions
from .record import RunRecord, RunState


@dataclass
class Start:
    """A record, with the variables of a saved run, or with initial weights, or with neither."""

    record: RunRecord
    path: Path
    variables: list[np.ndarray] | None = None
    weights: "weights.WeightSet | None" = None


def open_folder(folder, name: str, chain: ChainConfig | None = None):
    """Create the output folder, and test writing. chain: see `weights.add_chain`."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with (files.open_own(Path(folder) / f".{name}.lock"),
              tempfile.TemporaryFile(dir=folder) as file):
            file.write(bytes(4096))
            file.flush()
        if chain:
            weights.add_chain(folder, chain)
    except OSError as e:
        raise UserError(f"{folder}: cannot be written to: {e.strerror}") from e
    files.sweep(folder)


def find_start(job, options: RunOptions, training: TrainingConfig, data: DataConfig, say) -> Start:
    """The start of this run. A continued run keeps its settings, except those that the user set
    now; `say` reports the differences. Raises `UserError` if the run cannot be continued.
    """
    folder, name = options.output_dir, job.model.name
    state = RunState(folder, name)
    saved, variables = (None if options.start_epoch else state.load()) or (None, None)
    source = None
    if options.start_epoch:
        source = weights.find(folder, name, options.start_epoch)
        saved = _record_of(source, training, data, options)
    elif not saved and options.start_from:
        source = weights.find(options.start_from, name)
    job.resolve_labels(saved and saved.model, source and source.config, data, training.seed)
    codecs = {codec.name: codec.codes_id for codec in job.codec_weights} or None
    if options.start_epoch:
        _check_same(saved, job.model, codecs, options)
        say(f"starts from {source.summary}, with a new optimizer; epochs from "
            f"{saved.step // saved.steps_per_epoch + 1} on are written again. Without "
            f"--start-epoch, the same command continues this run")
        return Start(saved, state.path, weights=source)
    if saved:
        set_by_user = options.set_fields(training, data)
        training = _override(saved.training, training, set_by_user)
        data = _override(saved.data, data, set_by_user)
        _check_same(saved, job.model, codecs, options)
        _adopt(saved, training, data, options, say)
        return Start(saved, state.path, variables)
    record = RunRecord(job.model, training, data, secrets.token_hex(8), codecs=codecs,
                       steps=None if options.minutes else training.steps)
    if source:
        own, known = job.model.labels, source.config.labels
        new_labels = own and (not known or own.are_parts and known.are_parts)
        if not (new_labels and job.gives_labels):
            _check_labels(source.summary, source.config.labels, job.model.labels)
        record.tracks = list(source.record.get("tracks") or ())
        record.held_out = source.record.get("held_out")
        say(f"begins with {source.summary}"
            + (f", and learns {job.model.labels.summary}" if new_labels else ""))
        record.codes_of = source.codes_id if options.decoder_only else None
    return Start(record, state.path, weights=source)


def _record_of(source: weights.WeightSet, training: TrainingConfig, data: DataConfig,
               options: RunOptions) -> RunRecord:
    """The record of a run that continues a numbered set with a new optimizer. Its best epoch is the
    best of those up to this set. Raises `UserError` if the run would end before it begins.
    """
    values, set_by_user = source.record, options.set_fields(training, data)
    training = _override(source.training or training, training, set_by_user)
    step = values.get("step", 0)
    if not options.minutes and training.steps <= step:
        raise UserError(f"{source.summary}: is at step {step} already; --steps {training.steps} is "
                        f"not beyond that")
    losses = {epoch: weights.record(source.folder, source.name, epoch)["validation_loss"]
              for epoch in weights.epochs(source.folder, source.name) if epoch <= values["epoch"]}
    best = min(losses, key=lambda epoch: losses[epoch])
    return RunRecord(
        source.config, training, _override(source.data or data, data, set_by_user),
        secrets.token_hex(8), steps=None if options.minutes else training.steps,
        steps_per_epoch=math.ceil(step / values["epoch"]), step=step, first_step=step,
        best=losses[best], best_epoch=best, waited=values["epoch"] - best,
        **{key: values.get(key) for key in ("beginning", "codecs", "codes_of", "held_out")},
        tracks=list(values.get("tracks") or ()))


def restore_best(folder, record: RunRecord):
    """Make the best epoch of a record the best set again."""
    weights.copy_as_best(weights.find(folder, record.name, record.best_epoch), folder)


def _override(earlier, settings, set_by_user):
    """The settings of an earlier run, overridden by those that the user set now."""
    return override(earlier, {key: value for key, value in to_dict(settings).items()
                              if key in set_by_user}, "settings")


def _check_labels(who: str, before: Labels | None, now: Labels | None):
    """Raises `UserError` if the model to continue has other labels."""
    if (before and (before.of, before.names)) != (now and (now.of, now.names)):
        old, new = (labels.summary if labels else "no labels" for labels in (before, now))
        raise UserError(f"{who}: was trained with {old}; it cannot be trained with "
                        f"{'other ' * (old == new)}{new}")


def _check_same(saved: RunRecord, model, codecs, options: RunOptions):
    """Raises `UserError` if the saved run has another model, other codes or other trained parts."""
    folder, name = options.output_dir, saved.name
    advice = f"use another --output-dir, or remove {name}.state.npz"
    _check_labels(f"{folder}: {name}", saved.model.labels, model.labels)
    old, new = _flat(to_dict(saved.model)), _flat(to_dict(model))
    for key in old | new:
        if old.get(key) != new.get(key):
            raise UserError(f"{folder}: holds a run of {name} with {key} {old.get(key)!r}, not "
                            f"{new.get(key)!r}; {advice}")
    if saved.codecs != codecs:
        raise UserError(f"{folder}: holds a run of {name} on the codes of other codecs; {advice}")
    if options.decoder_only != (saved.codes_of is not None):
        begun = "without" if options.decoder_only else "with"
        raise UserError(f"{folder}: holds a run of {name} that was begun {begun} --decoder-only; "
                        f"use another --output-dir")


def _flat(values: dict, prefix: str = "") -> dict:
    """Nested mappings as one flat mapping, with keys such as `core.units`."""
    flat = {}
    for key, value in values.items():
        flat |= (_flat(value, f"{prefix}{key}.") if isinstance(value, dict)
                 else {prefix + key: value})
    return flat


def _adopt(record: RunRecord, training: TrainingConfig, data: DataConfig, options: RunOptions, say):
    """Set the settings of a continued run. The number of steps in an epoch stays."""
    steps = record.steps if options.minutes else training.steps
    for earlier, settings in ((record.training, training), (record.data, data)):
        for key, value in settings:
            old = getattr(earlier, key)
            if value != old and key not in ("steps", "epochs", "patience"):
                words = (f"another {key}" if isinstance(value, Config)
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
    record.training = replace(record.training, steps=record.steps)
