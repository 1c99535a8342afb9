"""What happens around `fit`: saving, resuming, stopping, and what a person sees meanwhile."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import signal
import time
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
from keras import ops

from .. import weights
from ..errors import Interrupted, UserError, signal_handlers
from ..files import atomic_write
from . import replicas

SAVE_EVERY_SECONDS = 120.0


class TrainingError(UserError):
    """Training cannot go on: says at which step and why."""


class RunState:
    """Where a run stands, beside the weights sets: everything that the next step depends on.

    `{name}.state.npz` holds every variable of model and optimizer as it is, and what the callbacks must remember: the
    step, the best validation loss, the epochs without a better one, the seed and the plan.
    """

    def __init__(self, folder, name: str):
        self.path = Path(folder) / f"{name}.state.npz"

    def load(self) -> tuple[dict, list[np.ndarray]] | None:
        if not self.path.exists():
            return None
        try:
            # Opened here, because `np.load` leaves open what turns out to be no archive.
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as f:
                count = len(f.files) - 1
                return json.loads(str(f["record"])), [f[f"v{i}"] for i in range(count)]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
            raise UserError(f"{self.path}: damaged ({e}); remove it to go on from the last whole epoch with "
                            "--start-epoch") from e

    def save(self, record: dict, variables: list):
        arrays = {f"v{i}": weights.to_numpy(v) for i, v in enumerate(variables)}
        for v, array in zip(variables, arrays.values(), strict=True):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise TrainingError(f"step {record['step']}: {v.path} is not finite; the last good state is kept")
        with atomic_write(self.path) as f:
            np.savez(f, record=np.array(json.dumps(record)), **arrays)


def run_variables(model) -> list:
    """Every variable that training changes and the next step depends on: weights, codebook, seeds, optimizer.

    Metrics are left out: they start anew with each stretch of training.
    """
    metrics = {id(v) for m in model.metrics for v in m.variables}
    seen, kept = set(), []
    for v in [*model.variables, *model.optimizer.variables]:
        if id(v) not in metrics and id(v) not in seen:
            seen.add(id(v))
            kept.append(v)
    return kept


class Checkpoint(keras.callbacks.Callback):
    """Saves the run: its state often and when told to stop; a numbered weights set each epoch; the best apart.

    Also stops: on a non-finite loss with an error that names the step (what is on disk stays good), after `patience`
    epochs without a better validation loss, and on SIGTERM or Ctrl-C after the step in hand. Where that was an epoch's
    last, validation is not waited for: the record keeps, as `unjudged`, what the epoch's training came to.

    In a group of processes only the first one writes, and what one of them is told all heed at the same step.
    """

    def __init__(self, folder, config, state: RunState, record: dict, steps_per_epoch: int, patience: int,
                 keep: int | None, say, group: replicas.Group = replicas.ALONE):
        super().__init__()
        self.folder, self.config, self.state, self.record = Path(folder), config, state, record
        self.steps_per_epoch, self.patience, self.keep, self.say = steps_per_epoch, patience, keep, say
        self.name, self.group = config.name, group
        self.signal = None
        self.saved_at = time.monotonic()
        self.began, self.trained = record["step"], {}
        # While True, validation's first batch is on its way, which takes seconds to compile.
        self.first_test = False

    @contextlib.contextmanager
    def listening(self):
        """Turn SIGTERM and Ctrl-C into a flag that the end of a step looks at."""

        def note(number, frame):
            if self.signal is not None:
                raise KeyboardInterrupt  # asked twice: leave at once; what is on disk is whole
            self.signal = number
            # Not print: a handler may have come in the middle of one, which it would fail.
            os.write(2, "stopping after this step …\n".encode())
            # Both take long to compile: at the first step there is nothing to save yet, for the other it is done below.
            first_step = self.record["step"] == self.began and "unjudged" not in self.record
            if first_step or (self.first_test and self.group.processes == 1):
                nonlocal left
                left = True
                raise Interrupted(number)

        left = False
        with signal_handlers(note, signal.SIGINT, signal.SIGTERM):
            try:
                yield
            except (Interrupted, Exception) as e:
                # TensorFlow may have made an error of its own out of what was raised in the middle of it.
                if not left or isinstance(e, UserError | OSError):
                    raise
                if self.first_test:
                    self._save_unjudged()
                raise Interrupted(self.signal) from e

    def on_train_batch_end(self, batch, logs=None):
        self.record["step"] += 1
        step = self.record["step"]
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise TrainingError(f"the loss is not finite at step {step}; the weights on disk are those before it. "
                                "A lower --learning-rate, or no --fp16, may mend it")
        # An epoch's last step is saved by on_epoch_end, with what validation says; saving here would skip that.
        within = step % self.steps_per_epoch and step < self.record["steps"]
        if not within:
            self.trained = {key: float(value) for key, value in (logs or {}).items()}
        told = within and self._told()
        if told or (within and time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS):
            self.save_state()
            if told:
                raise Interrupted(told)

    def on_test_begin(self, logs=None):
        self.first_test = True

    def on_test_batch_end(self, batch, logs=None):
        self.first_test = False
        if told := self._told():
            self._save_unjudged()
            raise Interrupted(told)

    def _save_unjudged(self):
        self.record.setdefault("unjudged", self.trained)
        self.save_state()

    def _told(self) -> int:
        """The signal that this process, or another of its group, was sent; 0 where there was none. All ask at once."""
        return self.group.greatest(self.signal or 0)

    def save_state(self):
        if not self.group.first:
            return
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.state.save(self.record, run_variables(self.model))
        self.saved_at = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        number = epoch + 1
        self.record.pop("unjudged", None)
        judged = float(logs.get("val_loss", logs["loss"]))
        if not math.isfinite(judged):
            raise TrainingError(f"the validation loss is not finite after step {self.record['step']}; "
                                "the weights on disk are those before it")
        info = {"epoch": number, "step": self.record["step"], "seed": self.record["seed"], "id": self.record["id"],
                "validation_loss": round(judged, 6)}
        info |= {key: self.record[key] for key in ("codecs", "codes_of") if key in self.record}
        if self.group.first:
            weights.save(self.folder, self.config.name, weights.epoch_tag(number), self.model.parts, self.config, info)
        if self.record["best"] is None or judged < self.record["best"]:
            self.record |= {"best": judged, "best_epoch": number, "waited": 0}
            if self.group.first:
                weights.save(self.folder, self.config.name, "best", self.model.parts, self.config, info)
        else:
            self.record["waited"] += 1
        stop = self.patience and self.record["waited"] >= self.patience
        if stop:
            self.record["finished"] = f"no better validation loss for {self.patience} epochs"
        elif self.record["step"] >= self.record["steps"]:
            self.record["finished"] = f"all {self.record['steps']} steps done"
        self.save_state()
        if self.keep is not None and self.group.first:
            self._prune()
        if stop:
            self.model.stop_training = True
        told = self._told()
        if told and "finished" not in self.record:
            raise Interrupted(told)

    def _prune(self):
        """Remove all but the newest epochs; the one that is best stays, as `best` can be restored from it."""
        name = self.config.name
        for epoch in weights.epochs(self.folder, name)[: -self.keep]:
            if epoch != self.record["best_epoch"]:
                tag = weights.epoch_tag(epoch)
                # The description first: files that it no longer names are no set.
                weights.config_path(self.folder, name, tag).unlink(missing_ok=True)
                for part in weights.PARTS[weights.kind(name)]:
                    weights.weights_path(self.folder, name, part, tag).unlink(missing_ok=True)


class Log(keras.callbacks.CSVLogger):
    """Keras's CSV log, without the rows that a killed run wrote after its last saved state."""

    def __init__(self, path, epochs_done: int):
        path = Path(path)
        if path.exists():
            # A crash of the machine can leave anything in the last lines, zero bytes included.
            text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
            rows = list(csv.reader(text.splitlines()))
            kept = [r for r in rows[1:] if r and r[0].isdigit() and int(r[0]) < epochs_done and len(r) == len(rows[0])]
            with atomic_write(path) as f:
                text = io.StringIO()
                csv.writer(text, lineterminator="\n").writerows(rows[:1] + kept)
                f.write(text.getvalue().encode())
        super().__init__(os.fspath(path), append=True)

    def close(self):
        """For a `fit` that ended in an exception, which Keras tells no callback."""
        if self.csv_file:
            self.csv_file.close()


class Curves(keras.callbacks.Callback):
    """Draws the CSV log as a picture after each epoch."""

    def __init__(self, csv_path, png_path):
        super().__init__()
        self.csv_path, self.png_path = csv_path, png_path

    def on_epoch_end(self, epoch, logs=None):
        from ..plots import loss_curves

        loss_curves(self.csv_path, self.png_path)


class Progress(keras.callbacks.Callback):
    """A bar over all steps with rate and time left, and a line an epoch; only the lines where there is no terminal."""

    def __init__(self, record: dict, steps: int, steps_per_epoch: int, say, show: tuple[str, ...]):
        super().__init__()
        self.record, self.steps, self.per_epoch, self.say, self.show = record, steps, steps_per_epoch, say, show
        self.started = False
        # A step is timed from the one before it in its epoch, so no figure holds compiling, validating or saving.
        self.ended, self.timed, self.seconds = None, 0, 0.0
        self.between = math.inf

    def on_train_begin(self, logs=None):
        if not self.started:
            self.started = True
            self.say.start(self.steps, self.record["step"])

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if self.ended is not None:
            self.timed += 1
            self.seconds += now - self.ended
        self.ended = now
        self.say.advance(self.record["step"], float((logs or {}).get("loss", math.nan)))

    def on_epoch_end(self, epoch, logs=None):
        if self.ended is not None:
            # The least of them: the first one compiles as well.
            self.between = min(self.between, time.monotonic() - self.ended)
            self.ended = None
        epochs = math.ceil(self.steps / self.per_epoch)
        figures = "  ".join(f"{k} {float(logs[k]):.4g}" for k in self.show if k in logs)
        best = "  (best)" if self.record["best_epoch"] == epoch + 1 else ""
        speed = ""
        if self.timed:
            rate = self.timed / max(self.seconds, 1e-9)
            left = (self.steps - self.record["step"]) / rate + (epochs - epoch - 1) * self.between
            speed = f"  {rate:.2f} steps/s  {duration(left)} left"
        self.say(f"epoch {epoch + 1}/{epochs}  {figures}{speed}{best}")


class AudioExamples(keras.callbacks.Callback):
    """Writes a few originals once and their reconstructions after each epoch to TensorBoard."""

    def __init__(self, folder, audio: np.ndarray, sample_rate: int):
        super().__init__()
        self.folder, self.audio, self.sample_rate = folder, audio, sample_rate

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        made = ops.convert_to_numpy(self.model(self.audio, training=False))
        writer = tf.summary.create_file_writer(os.fspath(self.folder))
        with writer.as_default(step=epoch):
            for name, sound in (("original", self.audio), ("reconstruction", np.clip(made, -1, 1))):
                if name == "reconstruction" or epoch == 0:
                    tf.summary.audio(name, sound[..., None], self.sample_rate, max_outputs=4)
        writer.close()


def duration(seconds: float) -> str:
    """3725 -> `1:02:05`."""
    seconds = int(seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
