"""The callbacks of `fit`: saving, stopping, the log and the progress bar."""

import contextlib
import csv
import datetime
import io
import math
import os
import signal
import time
from pathlib import Path

import keras

from .. import plots
from ..errors import Interrupted, UserError, signal_handlers
from ..io import weights
from ..io.files import atomic_write
from . import devices
from .record import RunRecord, RunState, run_variables

SAVE_EVERY_SECONDS = 120.0


class Checkpoint(keras.callbacks.Callback):
    """Saves the run: its state often, a numbered set of weights after each epoch, and the best set.
    The newest set of some models counts as the best. In a group, only the first process writes.

    It also stops the run. A non-finite loss is an error that names the step. The run ends after
    `patience` epochs without a better validation loss, and at its deadline. After SIGTERM or Ctrl-C
    to any process of the group, it ends with the current step or validation. keep_last: the number
    of numbered sets that stay, besides the best; None keeps all. ends: see `Deadline`.
    """

    def __init__(self, folder, record: RunRecord, keep_last: int | None = None,
                 group: devices.DeviceGroup = devices.ALONE, ends: float = math.inf):
        super().__init__()
        self.folder, self.record, self.group = Path(folder), record, group
        self.keep_last = keep_last
        self.deadline = Deadline(ends, record.scheduled_steps, group)
        self.state = RunState(folder, record.name)
        self.signal = 0
        self.saved_at = time.monotonic()
        # True during the first batch, which compiles for seconds and changes no saved state.
        self.compiling = True

    @contextlib.contextmanager
    def listen(self):
        """Turn SIGTERM and Ctrl-C into a flag, which is read at the end of a step."""
        stopped = False

        def note(number, frame):
            if self.signal:
                raise KeyboardInterrupt  # at a second signal; all files are complete
            self.signal = number
            # Not print, which fails where the signal interrupts another print.
            os.write(2, "stopping after this step …\n".encode())
            if self.compiling and self.group.processes == 1:
                nonlocal stopped
                stopped = True
                raise Interrupted(number)

        with signal_handlers(note, signal.SIGINT, signal.SIGTERM):
            try:
                yield
            except (Interrupted, Exception) as e:
                # TensorFlow may turn an Interrupted inside it into one of its own errors.
                if not stopped or isinstance(e, UserError | OSError):
                    raise
                raise Interrupted(self.signal) from e

    def on_train_begin(self, logs=None):
        self.compiling = True

    def on_train_batch_end(self, batch, logs=None):
        self.compiling = False
        self.record.step += 1
        step, logs = self.record.step, logs or {}
        if "loss" in logs and not math.isfinite(float(logs["loss"])):
            raise UserError(f"the loss is not finite at step {step}; the weights on disk are from "
                            f"an earlier step. Try a lower --learning-rate, or --no-fp16")
        if self.deadline.is_over():
            self.record.steps, self.model.stop_training = step, True
        if step % self.record.steps_per_epoch == 0 or step >= self.record.steps:
            return  # `on_epoch_end` saves
        # The signal that any process received, or 0. All processes must call this together.
        signal_number = self.group.greatest(self.signal)
        if signal_number or time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS:
            self.save_state()
        if signal_number:
            raise Interrupted(signal_number)

    def save_state(self):
        if not self.group.first:
            return
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.state.save(self.record, run_variables(self.model))
        self.saved_at = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        record, number = self.record, epoch + 1
        loss = float(logs.get("val_loss", logs["loss"]))
        if not math.isfinite(loss):
            raise UserError(f"the validation loss is not finite after step {record.step}; the "
                            f"weights on disk are from an earlier epoch")
        values = record.values_of_set(number, loss)
        self._save_set(weights.epoch_tag(number), values)
        if record.best is None or loss < record.best or self.model.select_last:
            record.best, record.best_epoch, record.waited = loss, number, 0
            self._save_set("best", values)
        else:
            record.waited += 1
        patience = record.training.patience
        if patience and record.waited >= patience:
            record.finished = f"no better validation loss for {patience} epochs"
            self.model.stop_training = True
        elif record.step >= record.steps:
            record.finished = f"all {record.steps} steps done"
        self.save_state()
        self._prune(number)
        signal_number = self.group.greatest(self.signal)
        if signal_number and not record.finished:
            raise Interrupted(signal_number)

    def save_beginning(self, loss: float):
        """Save the initial model as the best set, with its validation loss."""
        if not math.isfinite(loss):
            raise UserError("the validation loss is not finite before the first step")
        self.record.best, self.record.best_epoch = float(loss), 0
        self.record.beginning = round(float(loss), 6)
        self._save_set("best", self.record.values_of_set(0, float(loss)))

    def _save_set(self, tag: str, values: dict):
        if self.group.first:
            record = self.record
            weights.save(self.folder, record.name, tag, self.model.parts, record.model, values,
                         training=record.training, data=record.data)

    def _prune(self, newest: int):
        """Remove old epochs, except the best one, from which `best` can be restored. newest: the
        epoch that was saved now; later ones are of a run that began again at an earlier epoch.
        """
        if self.keep_last is None or not self.group.first:
            return
        name = self.record.name
        epochs = [epoch for epoch in weights.epochs(self.folder, name) if epoch <= newest]
        for epoch in epochs[: -self.keep_last]:
            if epoch != self.record.best_epoch:
                tag = weights.epoch_tag(epoch)
                # The YAML file first: files that no YAML file names are no set.
                weights.config_path(self.folder, name, tag).unlink(missing_ok=True)
                for part in weights.parts_of(self.record.model):
                    weights.weights_path(self.folder, name, part, tag).unlink(missing_ok=True)


class Deadline(keras.callbacks.Callback):
    """Ends a training in time. If steps are slower than planned, the schedule of the learning rate
    skips the steps that will not be reached: after each step, on JAX after each epoch. ends: a time
    of `time.monotonic`, or infinite. steps: the length of the schedule.
    """

    def __init__(self, ends: float, steps: int, group: devices.DeviceGroup):
        super().__init__()
        self.ends, self.steps, self.group = ends, steps, group
        self.began: tuple[float, int] | None = None  # the time of the first step, its iteration
        self.stepped_at, self.finishing = math.inf, 0.0  # seconds from an epoch's last step on

    def is_over(self) -> bool:
        """Whether the epoch must end now. Every process of the group must call this."""
        return self.ends < math.inf and bool(
            self.group.greatest(time.monotonic() + self.finishing >= self.ends))

    def on_epoch_begin(self, epoch, logs=None):
        self.finishing = max(0.0, time.monotonic() - self.stepped_at)

    def on_train_batch_end(self, batch, logs=None):
        self.stepped_at = time.monotonic()
        if keras.backend.backend() == "tensorflow":
            self._skip()

    def on_epoch_end(self, epoch, logs=None):
        self._skip()

    def _skip(self):
        if math.inf in (self.ends, self.stepped_at):
            return
        iterations = self.model.optimizer.iterations
        now, place = self.stepped_at, int(iterations)
        self.began = self.began or (now, place)
        begin, first = self.began
        share = (now - begin) / max(1e-9, self.ends - self.finishing - begin)
        planned = first + int(min(1.0, share) * (self.steps - first))
        planned = self.group.from_first(lambda: planned)
        if planned > place:
            iterations.assign(planned)


class Log(keras.callbacks.Callback):
    """Adds a row of metrics for each epoch to a CSV file, in the columns of the first epoch, and
    draws the curves beside it. A killed run may repeat an epoch; `read_log` takes its last row.
    """

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)

    def on_epoch_end(self, epoch, logs=None):
        before, after = "", io.StringIO()
        with contextlib.suppress(FileNotFoundError):
            before = self.path.read_text(encoding="utf-8", errors="replace")
        header = next(csv.reader(io.StringIO(before)), None)
        rows = csv.DictWriter(after, header or ["epoch", *logs], "NA", "ignore",
                              lineterminator="\n")
        if not header:
            rows.writeheader()
        rows.writerow({"epoch": epoch} | logs)
        with atomic_write(self.path) as file:
            file.write((before + after.getvalue()).encode())
        plots.loss_curves(self.path, self.path.with_suffix(".png"))


class Progress(keras.callbacks.Callback):
    """A progress bar over all steps (only in a terminal), and a line for each epoch. show: the
    metrics in the line. ends: the end of the training, a time of `time.monotonic`.
    """

    def __init__(self, record: RunRecord, say, show: tuple[str, ...], ends: float = math.inf):
        super().__init__()
        self.record, self.say, self.show, self.ends = record, say, show, ends
        self.started = False
        # A step is timed from the step before in the same epoch. So compiling, validating and
        # saving do not count.
        self.last_step, self.timed_steps, self.seconds = None, 0, 0.0
        self.validation_seconds = math.inf

    def on_train_begin(self, logs=None):
        if not self.started:
            self.started = True
            self.say.start(self.record.steps, self.record.step)

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if self.last_step is not None:
            self.timed_steps += 1
            self.seconds += now - self.last_step
        self.last_step = now
        self.say.advance(self.record.step, float((logs or {}).get("loss", math.nan)))

    def on_epoch_end(self, epoch, logs=None):
        if self.last_step is not None:
            # The shortest validation counts, because the first one also compiles.
            self.validation_seconds = min(self.validation_seconds,
                                          time.monotonic() - self.last_step)
            self.last_step = None
        record = self.record
        epochs = math.ceil(record.steps / record.steps_per_epoch)
        parts = [f"epoch {epoch + 1}/{epochs}"]
        parts += [f"{key} {float(logs[key]):.4g}" for key in self.show if key in logs]
        if self.timed_steps:
            rate = self.timed_steps / max(self.seconds, 1e-9)
            left = ((record.steps - record.step) / rate
                    + (epochs - epoch - 1) * self.validation_seconds)
            left = min(left, max(0.0, self.ends - time.monotonic()))
            parts += [f"{rate:.2f} steps/s", f"{datetime.timedelta(seconds=int(left))} left"]
        parts += ["(best)"] * (record.best_epoch == epoch + 1)
        self.say("  ".join(parts))
