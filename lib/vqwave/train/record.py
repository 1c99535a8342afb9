"""The saved state of a run: model, settings, progress and all variables."""

import dataclasses
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from ..codecs import CodecConfig
from ..errors import UserError
from ..generators import GeneratorConfig, validate_model
from ..io import weights
from ..io.files import atomic_write
from ..levels import SCHEMA, DataConfig, TrainingConfig, fields, replace, validate

STEPS_PER_EPOCH, EPOCH_MINUTES = 250, 3.0
"""The most steps and minutes of an epoch, if the settings have no number of epochs."""


@dataclass
class RunRecord:
    """The settings and the progress of a run; see also `weights.Record`.

    steps: None until the speed of a step is measured. first_step: the step at which the optimizer
    was new. best, best_epoch: the validation loss and
    the epoch of the best set (0: the initial weights). waited: the epochs since then. held_out: if
    a codec started from another codec, that codec's measurements on its own corpus
    (`report.judge`). finished: why the run ended.
    """

    model: CodecConfig | GeneratorConfig
    training: TrainingConfig
    data: DataConfig
    id: str
    steps: int | None = None
    steps_per_epoch: int | None = None
    step: int = 0
    first_step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    beginning: float | None = None
    tracks: list[str] = field(default_factory=list)
    codecs: dict[str, str] | None = None
    codes_of: str | None = None
    held_out: dict | None = None
    finished: str | None = None

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def scheduled_steps(self) -> int:
        """The steps of the optimizer's schedule."""
        return (self.steps or 0) - self.first_step

    def plan(self, steps: int):
        """Set the number of steps."""
        self.steps, self.training = steps, replace(self.training, steps=steps)

    def values_of_set(self, epoch: int, loss: float) -> dict:
        """The `record` of the weights that are saved now."""
        optional = {key: getattr(self, key) for key in ("beginning", "codecs", "codes_of", "tracks",
                                                        "held_out")}
        return {"epoch": epoch, "step": self.step, "seed": self.training.seed, "id": self.id,
                "validation_loss": round(loss, 6)} | {
            key: value for key, value in optional.items() if value not in (None, [])}

    def to_dict(self) -> dict:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        parts = {key: fields.to_dict(values[key]) for key in ("model", "training", "data")}
        return {"schema": SCHEMA} | values | parts

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """The record of `to_dict`; other keys are ignored."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {key: value for key, value in values.items() if key in known}
        for key, kind in (("training", TrainingConfig), ("data", DataConfig)):
            values[key] = validate(kind, values[key], key)
        return cls(**values | {"model": validate_model(values["model"], "model")})


class RunState:
    """A run's record and variables on disk, beside its sets of weights.

    `{name}.state.npz` holds all variables of model and optimizer, bit for bit, and the `RunRecord`.
    """

    def __init__(self, folder, name: str):
        self.path = Path(folder) / f"{name}.state.npz"

    def load(self) -> tuple[RunRecord, list[np.ndarray]] | None:
        """The record and the variables in order; None if nothing is saved."""
        if not self.path.exists():
            return None
        try:
            # Opened here, because `np.load` does not close a file that is no archive.
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as f:
                count = len(f.files) - 1
                values, arrays = json.loads(str(f["record"])), [f[f"v{i}"] for i in range(count)]
            return RunRecord.from_dict(values), arrays
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile,
                zlib.error) as e:
            raise UserError(f"{self.path}: damaged ({e}); use another --output-dir, with "
                            f"--start-from {self.path.parent}") from e

    def save(self, record: RunRecord, variables: list):
        arrays = {f"v{i}": weights.to_numpy(v) for i, v in enumerate(variables)}
        for v, array in zip(variables, arrays.values(), strict=True):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise UserError(f"step {record.step}: {v.path} is not finite; the last good state "
                                f"is kept")
        with atomic_write(self.path) as f:
            np.savez(f, record=np.array(json.dumps(record.to_dict())), **arrays)


def run_variables(model) -> list:
    """All variables that the next training step depends on: weights, codebook, seeds, optimizer.
    Metrics are left out, because each `fit` resets them.
    """
    metrics = {id(v) for m in model.metrics for v in m.variables}
    variables = {id(v): v for v in (*model.variables, *model.optimizer.variables)}
    return [v for key, v in variables.items() if key not in metrics]
