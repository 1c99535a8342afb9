"""Saving, stopping, the log and the progress, called by hand with a tiny model."""

import math
import os
import signal

import keras
import numpy as np
import pytest

from vqwave import plots
from vqwave.codecs import Labels
from vqwave.errors import Interrupted, UserError
from vqwave.generators.generator_layer import Generator
from vqwave.io import weights
from vqwave.levels import DataConfig, TrainingConfig, validate
from vqwave.plots import read_log
from vqwave.presets import load_preset
from vqwave.train import callbacks, devices
from vqwave.train.callbacks import Checkpoint, Log
from vqwave.train.record import RunRecord, RunState, run_variables

NAME = "generator_512"
MODEL = load_preset("tiny").generator(NAME)
PER_EPOCH = 3


def new_record(model=MODEL, **more):
    """The record of a run that has just begun."""
    training = TrainingConfig(patience=more.pop("patience", 0), seed=1)
    return RunRecord(model, training, DataConfig(), "x",
                     **{"steps": 30, "steps_per_epoch": PER_EPOCH} | more)


@pytest.fixture(scope="module")
def model():
    made = Generator(MODEL)
    made.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    made.optimizer.build(made.trainable_variables)
    return made


class Run:
    """A run of `steps` whose losses are given."""

    def __init__(self, folder, model, steps=30, patience=0, keep=3):
        self.record = new_record(model.config, steps=steps, patience=patience)
        self.folder, self.model = folder, model
        self.checkpoint = Checkpoint(folder, self.record, keep)
        self.checkpoint.set_model(model)

    def saved(self):
        """The saved record and arrays, or None."""
        return RunState(self.folder, NAME).load()

    def step(self, loss=1.0):
        self.checkpoint.on_train_batch_end(self.record.step % PER_EPOCH, {"loss": loss})

    def epoch(self, number, bias=None, **logs):
        """Run the steps and the end of an epoch, which leaves other weights."""
        for _ in range(PER_EPOCH):
            self.step()
        self.assign(number if bias is None else bias)
        self.checkpoint.on_epoch_end(number - 1, {"loss": 1.0} | logs)

    def assign(self, bias):
        self.model.core.codebook_heads.outputs[0].bias.assign(np.full(64, float(bias)))

    def bias(self, tag):
        return weights.find(self.folder, NAME, tag).load("generator")["logits/bias"][0]


@pytest.fixture
def run(tmp_path, model):
    model.stop_training = False
    made = Run(tmp_path, model)
    made.assign(0)
    return made


def test_the_best_set_has_the_lowest_validation_loss(run):
    for number, loss in enumerate((3.0, 2.0, 2.5, 2.0, 1.9, 4.0), 1):
        run.epoch(number, val_loss=loss)
        best = weights.find(run.folder, NAME, "best").record["epoch"]
        assert best == (1, 2, 2, 2, 5, 5)[number - 1]
    assert run.bias("best") == 5.0
    assert run.record.best == 1.9
    assert run.bias(6) == 6.0
    info = weights.find(run.folder, NAME, 6).record
    assert (info["epoch"], info["step"], info["validation_loss"]) == (6, 18, 4.0)


@pytest.mark.parametrize("of, best", [("part", 3), ("folder", 2)])
def test_held_out_tracks_do_not_measure_labels_of_parts(tmp_path, of, best):
    labels = validate(Labels, {"of": of, "names": ["a/01", "a/02"], "channels": 4})
    model = Generator(MODEL.with_labels(labels))
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    model.optimizer.build(model.trainable_variables)
    run = Run(tmp_path, model, patience=1)
    for number, loss in enumerate((3.0, 2.0, 2.5), 1):
        run.epoch(number, val_loss=loss)
    assert weights.find(run.folder, NAME, "best").record["epoch"] == best
    assert (run.record.finished is None) == (best == 3)


@pytest.mark.parametrize("keep, epochs", [(3, [2, 4, 5, 6]), (None, [1, 2, 3, 4, 5, 6])])
def test_the_best_and_the_newest_epochs_are_kept(tmp_path, model, keep, epochs):
    run = Run(tmp_path, model, keep=keep)
    for number, loss in enumerate((3.0, 1.0, 2.5, 2.0, 1.9, 4.0), 1):
        run.epoch(number, val_loss=loss)
    assert weights.epochs(run.folder, NAME) == epochs
    assert len(list(run.folder.glob("*.weights.h5"))) == len(epochs) + 1


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_names_its_step_and_changes_no_file(run, loss):
    run.epoch(1, val_loss=1.0)
    before = {p: p.read_bytes() for p in run.folder.iterdir()}
    run.step()
    with pytest.raises(UserError, match="step 5"):
        run.step(loss)
    assert {p: p.read_bytes() for p in run.folder.iterdir()} == before


def test_a_non_finite_validation_loss_is_never_the_best(run):
    run.epoch(1, val_loss=1.0)
    with pytest.raises(UserError, match="validation loss.*step 6"):
        run.epoch(2, val_loss=math.nan)
    assert weights.epochs(run.folder, NAME) == [1]
    assert run.bias("best") == 1.0


def test_non_finite_weights_reach_no_file(run, monkeypatch):
    run.epoch(1, val_loss=1.0)
    before = {p: p.read_bytes() for p in run.folder.iterdir()}
    with pytest.raises(UserError, match="logits/bias is not finite"):
        run.epoch(2, bias=math.nan, val_loss=0.5)
    assert {p: p.read_bytes() for p in run.folder.iterdir()} == before
    monkeypatch.setattr(callbacks, "SAVE_EVERY_SECONDS", -1.0)
    with pytest.raises(UserError, match="step 7.*not finite"):
        run.step()
    assert {p: p.read_bytes() for p in run.folder.iterdir()} == before


def test_the_learning_rate_ends_its_schedule_in_time(run, model, monkeypatch):
    """30 steps of a second are planned in 32 s; from the second epoch on they take three."""
    clock = [100.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock[0])
    iterations = model.optimizer.iterations
    deadline = run.checkpoint.deadline = callbacks.Deadline(132.0, 30, devices.ALONE)
    iterations.assign(0)
    deadline.set_model(model)
    places = []
    for epoch, seconds in enumerate((1, 3, 3, 3)):
        deadline.on_epoch_begin(epoch)
        for _ in range(PER_EPOCH):
            clock[0] += seconds
            iterations.assign(iterations + 1)
            deadline.on_train_batch_end(0)
            run.step()
            if model.stop_training:
                break
        deadline.on_epoch_end(epoch)
        places.append(int(iterations))
        clock[0] += 2.0  # validation
        run.checkpoint.on_epoch_end(epoch, {"loss": 1.0})
    # The last epoch ends early, so that its validation is in time.
    assert places == [3, 14, 25, 30] and run.record.step == 10 and clock[0] == 132.0
    assert run.record.finished == "all 10 steps done"


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_after_the_step_and_ends(run, number, code):
    with run.checkpoint.listen():
        run.step()
        assert run.saved() is None
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as e:
            run.step()
    assert e.value.code == code
    assert run.saved()[0].step == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_saved_state_is_loaded_unchanged(run, tmp_path, model):
    state = RunState(tmp_path, NAME)
    assert state.load() is None
    variables = run_variables(model)
    held = {id(v) for v in variables}
    assert len(held) == len(variables)
    # Weights and all that the optimizer remembers, each once; no metric.
    assert {id(v) for v in (*model.weights, *model.optimizer.variables)} <= held
    assert not held & {id(v) for m in model.metrics for v in m.variables}
    record = new_record(step=7, best=0.1 + 0.2, finished="ä", tracks=["0a"], codecs={"c": "d"})
    state.save(record, variables)
    again, arrays = state.load()
    assert again == record
    for v, array in zip(variables, arrays, strict=True):
        np.testing.assert_array_equal(array, keras.ops.convert_to_numpy(v))
        assert array.dtype == keras.ops.convert_to_numpy(v).dtype


@pytest.mark.parametrize("tail", ["", "3,0.1,0.1\n", "\x00garbage\n"])
def test_a_log_continues_and_is_drawn(tmp_path, monkeypatch, tail):
    monkeypatch.setattr(callbacks, "plots", plots)
    path = tmp_path / "run.csv"
    logs = [{"loss": 9.0 - epoch, "val_loss": 8.0 - epoch} for epoch in range(4)]
    for epochs in (range(3), [3]):
        log = Log(path)
        for epoch in epochs:
            log.on_epoch_end(epoch, logs[epoch])
        with open(path, "a") as file:
            file.write(tail * (len(epochs) > 1))
    assert read_log(path) == ([1, 2, 3, 4], {"loss": [9.0, 8.0, 7.0, 6.0], "val_loss": [8.0, 7.0, 6.0, 5.0]})
    assert path.with_suffix(".png").exists()


def test_a_state_holds_no_python_objects(tmp_path):
    """Unpickling would run code."""
    class Harm:
        def __reduce__(self):
            return os.mkdir, (os.fspath(tmp_path / "made"),)

    state = RunState(tmp_path, NAME)
    np.savez(state.path, record=np.array("{}"), v0=np.array([Harm()], dtype=object))
    with pytest.raises(UserError, match="state.npz: damaged"):
        state.load()
    assert not (tmp_path / "made").exists()


def test_a_log_is_never_written_through_a_link(tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "plots", plots)
    precious = tmp_path / "precious.txt"
    precious.write_text("mine\n")
    (tmp_path / "run.csv").symlink_to(precious)
    Log(tmp_path / "run.csv").on_epoch_end(0, {"loss": 1.0})
    assert precious.read_text() == "mine\n"
