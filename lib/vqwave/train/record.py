"""What a run remembers: its models and settings, how far it is, and every variable that the next
step depends on.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import config
from ..config import CodecConfig, DataConfig, GeneratorConfig, TrainingConfig
from ..errors import UserError
from ..io import weights
from ..io.files import atomic_write

STEPS_PER_EPOCH, EPOCH_MINUTES = 250, 3.0
"""An epoch's, at most, where it is not said how many epochs a run has."""


class TrainingError(UserError):
    """Training cannot go on: says at which step and why."""


@dataclass
class RunRecord:
    """Where a run stands and how it is made.

    id: names the run permanently. steps: the plan; None until `--minutes` is measured. best,
    best_epoch: the lowest validation loss so far and whose it is (0: what the run began
    with); waited: epochs since then. beginning: the validation loss of what the run began with.
    tracks: the first 16 digits of the sha256 of every track that it, its codecs or what it began
    with were trained on, sorted. codecs: the codes that a generator is trained on, by the codec's
    name; codes_of: whose codes a decoder that is trained alone decodes. held_out: of a codec that
    began with another, what that one does at home (`report.judge`), which it is held to as well.
    unjudged: what training said of an epoch whose validation is still to come. finished: why there
    is nothing more to do.
    """

    model: CodecConfig | GeneratorConfig
    training: TrainingConfig
    data: DataConfig
    id: str
    steps: int | None = None
    steps_per_epoch: int | None = None
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0
    beginning: float | None = None
    tracks: list[str] = field(default_factory=list)
    codecs: dict[str, str] | None = None
    codes_of: str | None = None
    held_out: dict | None = None
    unigram_bits: float | None = None
    unjudged: dict[str, float] | None = None
    finished: str | None = None

    @property
    def name(self) -> str:
        return self.model.name

    def plan(self, steps: int):
        """Make `steps` the plan."""
        self.steps, self.training = steps, config.replace(self.training, steps=steps)

    def note(self, epoch: int, loss: float) -> dict:
        """What is noted down in a set of weights saved now."""
        noted = {"epoch": epoch, "step": self.step, "seed": self.training.seed, "id": self.id,
                 "validation_loss": round(loss, 6)}
        return noted | {key: getattr(self, key) for key in ("beginning", "codecs", "codes_of",
                                                              "tracks", "held_out")
                        if getattr(self, key) is not None and getattr(self, key) != []}

    def to_dict(self) -> dict:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        parts = {key: config.to_dict(values[key]) for key in ("model", "training", "data")}
        return {"schema": config.SCHEMA} | values | parts

    @classmethod
    def from_dict(cls, values: dict) -> RunRecord:
        """What `to_dict` made."""
        config.check_schema(values, "record")
        values = {key: value for key, value in values.items() if key != "schema"}
        for key, kind in (("training", TrainingConfig), ("data", DataConfig)):
            values[key] = config.validate(kind, values[key], key)
        return cls(**values | {"model": config.validate_model(values["model"], "model")})


class RunState:
    """A run's record and variables on disk, beside its sets of weights.

    `{name}.state.npz` holds every variable of model and optimizer as it is, and the `RunRecord`.
    """

    def __init__(self, folder, name: str):
        self.path = Path(folder) / f"{name}.state.npz"

    def load(self) -> tuple[RunRecord, list[np.ndarray]] | None:
        """The record and the variables in order; None where nothing is saved."""
        if not self.path.exists():
            return None
        try:
            # Opened here, because `np.load` leaves open what turns out to be no archive.
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as f:
                count = len(f.files) - 1
                values, arrays = json.loads(str(f["record"])), [f[f"v{i}"] for i in range(count)]
            return RunRecord.from_dict(values), arrays
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile,
                zlib.error) as e:
            raise UserError(f"{self.path}: damaged ({e}); remove it to go on from the last whole "
                            f"epoch with --start-epoch") from e

    def save(self, record: RunRecord, variables: list):
        arrays = {f"v{i}": weights.to_numpy(v) for i, v in enumerate(variables)}
        for v, array in zip(variables, arrays.values(), strict=True):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise TrainingError(f"step {record.step}: {v.path} is not finite; the last good "
                                    f"state is kept")
        with atomic_write(self.path) as f:
            np.savez(f, record=np.array(json.dumps(record.to_dict())), **arrays)


def run_variables(model) -> list:
    """Every variable that training changes and the next step depends on: weights, codebook, seeds,
    optimizer.

    Metrics are left out: they start anew with each stretch of training.
    """
    metrics = {id(v) for m in model.metrics for v in m.variables}
    seen, kept = set(), []
    for v in [*model.variables, *model.optimizer.variables]:
        if id(v) not in metrics and id(v) not in seen:
            seen.add(id(v))
            kept.append(v)
    return kept
