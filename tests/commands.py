"""Commands as processes that start at once, forked from a server with the slow libraries."""

import multiprocessing
import os
import runpy
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

EAGER_STEPS = 8
"""Steps up to which eager training takes less time than TensorFlow's tracing of `fit`."""
EAGER_ADVERSARY = False
"""Whether adversaries train eagerly, too. A step of theirs leaves some discriminators without
gradients, of which Keras then warns.
"""
VALIDATION_WINDOWS = 4

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([
    "keras", "onnxruntime", "matplotlib.pyplot", "vqwave.train.training", "vqwave.play.api",
    "commands"
])


class Command:
    """`python scripts/NAME.py arguments`, started. Its output goes to the file `log`.

    setting: a function that is called in the process before the script runs.
    """

    def __init__(self, log, name: str, *arguments, setting=None):
        self.log = Path(log)
        self.log.write_bytes(b"")
        argv = [str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
        self.process = _server.Process(target=_run, args=(argv, os.fspath(log), setting))
        self.process.start()
        self.pid = self.process.pid

    def wait(self, seconds=None) -> int | None:
        """The exit code as a shell gives it; None if the process still runs after `seconds`."""
        self.process.join(seconds)
        code = self.process.exitcode
        return 128 - code if code is not None and code < 0 else code

    def kill(self):
        self.process.kill()
        self.process.join()

    def wait_for(self, text: str):
        """Waits until the process has printed `text`; fails if it ends before."""
        while text not in self.log.read_text():
            if self.wait(0.02) is not None and text not in self.log.read_text():
                raise AssertionError(self.log.read_text())


def _run(argv, log, setting):
    # A process group of its own, so that Ctrl-C or a kill reaches only it and its children.
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    train_eagerly()
    export_quickly()
    fork_workers("fork")
    if setting:
        setting()
    sys.argv = argv
    try:
        runpy.run_path(argv[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def train_eagerly():
    """From here on, short trainings run eagerly, validate on few windows and draw no curves. No
    training measures the machine.
    """
    from vqwave.train import callbacks, jobs, training

    compile_model = training.compile_model

    def compile_quickly(model, settings, steps, **losses):
        compile_model(model, settings, steps, **losses)
        adversary = getattr(model.config, "adversary", None)
        model.run_eagerly = steps <= EAGER_STEPS and (EAGER_ADVERSARY or not adversary)

    training.compile_model, jobs.VALIDATION_WINDOWS = compile_quickly, VALIDATION_WINDOWS
    training.speed_of = lambda policy: 1.0
    callbacks.plots = SimpleNamespace(loss_curves=lambda *_: None)  # half a second an epoch


def export_quickly():
    """From here on, exports of this process go without tf2onnx's optimizer, which takes half of the
    time. Such graphs need a cache of their own.
    """
    from vqwave.export import export

    keras_graph = export.keras_graph

    def unoptimized(model, *outputs):
        from tf2onnx import optimizer

        optimize = partial(optimizer.optimize_graph, optimizers={})
        with mock.patch.object(optimizer, "optimize_graph", lambda graph, *_, **__: optimize(graph)):
            return keras_graph(model, *outputs)

    export.keras_graph = unoptimized


def fork_workers(method="forkserver"):
    """From here on, workers that convert music are forked, so that none imports the library again."""
    from vqwave.data import prepare

    prepare.CONTEXT = multiprocessing.get_context(method)


def draw_pitches(codec) -> np.ndarray:
    """In place of `pitches.of_codec`, which listens to each code of a shipped codec for a minute."""
    shape = codec.config.books, codec.config.num_codes, 12
    return np.random.default_rng(0).exponential(size=shape).astype(np.float32)


def done(log, name: str, *arguments, setting=None) -> tuple[int, str, float]:
    """Runs a command; returns (exit code, its output, seconds)."""
    began = time.monotonic()
    command = Command(log, name, *arguments, setting=setting)
    code = command.wait()
    return code, command.log.read_text(), time.monotonic() - began


def wait_until(condition, seconds=30):
    """Waits for something that takes its time on a busy machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def every_step_is_saved():
    """A setting: the state is saved after every step, so that a kill may hit a half-written one."""
    from vqwave.train import callbacks

    callbacks.SAVE_EVERY_SECONDS = -1.0


def stages_are_forked():
    """A setting for train_all.py: as `every_step_is_saved`, and trainings are forked."""
    every_step_is_saved()
    from vqwave.train import isolated

    isolated.CONTEXT = multiprocessing.get_context("fork")
