"""The start of a run: from random weights, from its saved state, or from other weights."""

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
    saved, variables = state.load() or (None, None)
    source = None
    if not saved and options.start_from:
        source = weights.find(options.start_from, name)
    job.complete(saved and saved.model, source and source.config, data, training.seed)
    codecs = {codec.name: codec.codes_id for codec in job.codec_weights} or None
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


def _override(earlier, settings, set_by_user):
    """The settings of an earlier run, overridden by those that the user set now."""
    return config.override(earlier, {key: value for key, value in config.to_dict(settings).items()
                                     if key in set_by_user}, "settings")


def _check_labels(who: str, before: config.Labels | None, now: config.Labels | None):
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
    old, new = _flat(config.to_dict(saved.model)), _flat(config.to_dict(model))
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
