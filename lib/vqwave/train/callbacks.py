"""What happens around `fit`: saving, resuming, stopping, and what a person sees meanwhile."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import signal
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops

from ..errors import Interrupted, UserError, signal_handlers
from ..io import weights
from ..io.files import atomic_write
from . import devices
from .record import RunRecord, RunState, TrainingError, run_variables

SAVE_EVERY_SECONDS = 120.0


class Checkpoint(keras.callbacks.Callback):
    """Saves the run: its state often and at a signal to stop; a numbered set of weights each epoch;
    the best set apart.

    It also stops the run: on a non-finite loss, with an error that names the step (what is on disk
    stays good); after `patience` epochs without a better validation loss; and on SIGTERM or Ctrl-C
    after the current step. Where that was the last step of an epoch it does not wait for the
    validation: the record keeps the epoch's training figures as `unjudged`.

    In a group of processes only the first one writes, and a signal to one of them stops all at the
    same step.
    """

    def __init__(self, folder, record: RunRecord, keep: int | None = None,
                 group: devices.Group = devices.ALONE):
        """keep: how many numbered sets stay besides the best; None keeps all."""
        super().__init__()
        self.folder, self.record, self.keep, self.group = Path(folder), record, keep, group
        self.state = RunState(folder, record.name)
        self.signal = None
        self.saved_at = time.monotonic()
        self.began, self.epoch_logs = record.step, {}
        # True while validation's first batch runs, which takes seconds to compile.
        self.first_test = False

    @contextlib.contextmanager
    def listen(self):
        """Turn SIGTERM and Ctrl-C into a flag that the end of a step looks at."""

        def note(number, frame):
            if self.signal is not None:
                # the second signal: leave at once; what is on disk is whole
                raise KeyboardInterrupt
            self.signal = number
            # Not print: the signal may come in the middle of a print, and printing then fails.
            os.write(2, "stopping after this step …\n".encode())
            # Both take long to compile. At the first step there is nothing to save yet; the state
            # at the first validation is saved below.
            first_step = self.record.step == self.began and self.record.unjudged is None
            if first_step or (self.first_test and self.group.processes == 1):
                nonlocal left
                left = True
                raise Interrupted(number)

        left = False
        with signal_handlers(note, signal.SIGINT, signal.SIGTERM):
            try:
                yield
            except (Interrupted, Exception) as e:
                # Raised inside TensorFlow, it may arrive here as one of TensorFlow's errors.
                if not left or isinstance(e, UserError | OSError):
                    raise
                if self.first_test:
                    self._save_before_validation()
                raise Interrupted(self.signal) from e

    def on_train_batch_end(self, batch, logs=None):
        self.record.step += 1
        step = self.record.step
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise TrainingError(f"the loss is not finite at step {step}; the weights on disk are "
                                f"those before it. Try a lower --learning-rate, or leave out "
                                f"--fp16")
        # An epoch's last step is saved by on_epoch_end, with what validation says; saving here
        # would skip that.
        within = step % self.record.steps_per_epoch and step < self.record.steps
        if not within:
            self.epoch_logs = {key: float(value) for key, value in (logs or {}).items()}
        signal_number = within and self._stop_signal()
        if signal_number or (within and time.monotonic() - self.saved_at > SAVE_EVERY_SECONDS):
            self.save_state()
            if signal_number:
                raise Interrupted(signal_number)

    def on_test_begin(self, logs=None):
        self.first_test = True

    def on_test_batch_end(self, batch, logs=None):
        self.first_test = False
        if signal_number := self._stop_signal():
            self._save_before_validation()
            raise Interrupted(signal_number)

    def _save_before_validation(self):
        if self.record.unjudged is None:
            self.record.unjudged = self.epoch_logs
        self.save_state()

    def _stop_signal(self) -> int:
        """The signal that this process or another of its group received, or 0. Every process of the
        group calls it at the same step.
        """
        return self.group.greatest(self.signal or 0)

    def save_state(self):
        if not self.group.first:
            return
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.state.save(self.record, run_variables(self.model))
        self.saved_at = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        record, number = self.record, epoch + 1
        record.unjudged = None
        judged = float(logs.get("val_loss", logs["loss"]))
        if not math.isfinite(judged):
            raise TrainingError(f"the validation loss is not finite after step {record.step}; "
                                "the weights on disk are those before it")
        note = record.note(number, judged)
        self._save_set(weights.epoch_tag(number), note)
        if record.best is None or judged < record.best:
            record.best, record.best_epoch, record.waited = judged, number, 0
            self._save_set("best", note)
        else:
            record.waited += 1
        patience = record.training.patience
        stop = patience and record.waited >= patience
        if stop:
            record.finished = f"no better validation loss for {patience} epochs"
        elif record.step >= record.steps:
            record.finished = f"all {record.steps} steps done"
        self.save_state()
        self._prune()
        if stop:
            self.model.stop_training = True
        signal_number = self._stop_signal()
        if signal_number and record.finished is None:
            raise Interrupted(signal_number)

    def note_beginning(self, loss: float):
        """Keep what the run begins with as the best so far, with its validation loss."""
        if not math.isfinite(loss):
            raise TrainingError("the validation loss is not finite before the first step")
        self.record.best, self.record.best_epoch = float(loss), 0
        self.record.beginning = round(float(loss), 6)
        self._save_set("best", self.record.note(0, float(loss)))

    def _save_set(self, tag: str, note: dict):
        if self.group.first:
            record = self.record
            weights.save(self.folder, record.name, tag, self.model.parts, record.model, note,
                         training=record.training, data=record.data)

    def _prune(self):
        """Remove all but the newest epochs; the one that is best stays, as `best` can be restored
        from it.
        """
        if self.keep is None or not self.group.first:
            return
        name = self.record.name
        for epoch in weights.epochs(self.folder, name)[: -self.keep]:
            if epoch != self.record.best_epoch:
                tag = weights.epoch_tag(epoch)
                # The description first: files that it no longer names are no set.
                weights.config_path(self.folder, name, tag).unlink(missing_ok=True)
                for part in weights.parts_of(self.record.model):
                    weights.weights_path(self.folder, name, part, tag).unlink(missing_ok=True)


class Log(keras.callbacks.CSVLogger):
    """Keras's CSV log, without the rows that a killed run wrote after its last saved state. A log
    that goes on keeps its columns.
    """

    def __init__(self, path, epochs_done: int):
        path = Path(path)
        if path.exists():
            # A crash of the machine can leave anything in the last lines, zero bytes included.
            text = path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
            rows = list(csv.reader(text.splitlines()))
            kept = [r for r in rows[1:] if r and r[0].isdigit() and int(r[0]) < epochs_done
                    and len(r) == len(rows[0])]
            with atomic_write(path) as f:
                text = io.StringIO()
                csv.writer(text, lineterminator="\n").writerows(rows[:1] + kept)
                f.write(text.getvalue().encode())
        super().__init__(os.fspath(path), append=True)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        with open(self.filename, encoding="utf-8", newline="") as f:
            header = next(csv.reader(f), None)
        if header:
            self.keys = header[1:]

    def close(self):
        """Close the file after a `fit` that raised: Keras tells no callback of that."""
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
    """A bar over all steps with rate and time left, and a line an epoch; only the lines where there
    is no terminal.
    """

    def __init__(self, record: RunRecord, say, show: tuple[str, ...]):
        super().__init__()
        self.record, self.say, self.show = record, say, show
        self.started = False
        # A step is timed from the one before it in its epoch, so no figure holds compiling,
        # validating or saving.
        self.ended, self.timed, self.seconds = None, 0, 0.0
        self.between = math.inf

    def on_train_begin(self, logs=None):
        if not self.started:
            self.started = True
            self.say.start(self.record.steps, self.record.step)

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if self.ended is not None:
            self.timed += 1
            self.seconds += now - self.ended
        self.ended = now
        self.say.advance(self.record.step, float((logs or {}).get("loss", math.nan)))

    def on_epoch_end(self, epoch, logs=None):
        if self.ended is not None:
            # The least of them: the first one compiles as well.
            self.between = min(self.between, time.monotonic() - self.ended)
            self.ended = None
        epochs = math.ceil(self.record.steps / self.record.steps_per_epoch)
        figures = "  ".join(f"{k} {float(logs[k]):.4g}" for k in self.show if k in logs)
        best = "  (best)" if self.record.best_epoch == epoch + 1 else ""
        speed = ""
        if self.timed:
            rate = self.timed / max(self.seconds, 1e-9)
            left = ((self.record.steps - self.record.step) / rate + (epochs - epoch - 1)
                    * self.between)
            speed = f"  {rate:.2f} steps/s  {duration(left)} left"
        self.say(f"epoch {epoch + 1}/{epochs}  {figures}{speed}{best}")


class AudioExamples(keras.callbacks.Callback):
    """Writes a few originals once and their reconstructions after each epoch to TensorBoard.

    given: what the model is given of them. finish: what makes audio of what it says.
    """

    def __init__(self, folder, audio: np.ndarray, sample_rate: int, given=None, finish=np.asarray):
        super().__init__()
        self.folder, self.audio, self.sample_rate = folder, audio, sample_rate
        self.given, self.finish = audio if given is None else given, finish

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        made = self.finish(ops.convert_to_numpy(self.model(self.given, training=False)))
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
