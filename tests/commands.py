"""The commands as processes that start at once: each is forked from a server that has imported what
takes long.
"""

import multiprocessing
import os
import runpy
import sys
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([
    "keras", "onnxruntime", "librosa.filters", "matplotlib.pyplot", "vqwave.train.training",
    "vqwave.play.api",
    "commands"
])


class Command:
    """`python scripts/NAME.py arguments`, started. What it prints goes to the file `log`.

    setting: called in the process before the script runs.
    """

    def __init__(self, log, name: str, *arguments, setting=None):
        self.log = Path(log)
        self.log.write_bytes(b"")
        argv = [str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
        self.process = _server.Process(target=_run, args=(argv, os.fspath(log), setting))
        self.process.start()
        self.pid = self.process.pid

    def wait(self, seconds=None) -> int | None:
        """The exit code, as a shell counts it; None where it still runs after so many seconds."""
        self.process.join(seconds)
        code = self.process.exitcode
        return 128 - code if code is not None and code < 0 else code

    def kill(self):
        self.process.kill()
        self.process.join()

    def wait_for(self, text: str):
        """Until it has printed `text`; fails where it ends without."""
        while text not in self.log.read_text():
            if self.wait(0.02) is not None and text not in self.log.read_text():
                raise AssertionError(self.log.read_text())


def _run(argv, log, setting):
    # A group of its own, so that a test's Ctrl-C, or a kill of the group, reaches it and what it
    # starts alone.
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    if setting:
        setting()
    sys.argv = argv
    try:
        runpy.run_path(argv[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def done(log, name: str, *arguments, setting=None) -> tuple[int, str, float]:
    """(exit code, what it printed, seconds it took)."""
    began = time.monotonic()
    command = Command(log, name, *arguments, setting=setting)
    code = command.wait()
    return code, command.log.read_text(), time.monotonic() - began


def every_step_is_saved():
    """A setting, so that a kill may meet a state half written; two minutes lie between two savings
    otherwise.
    """
    from vqwave.train import callbacks

    callbacks.SAVE_EVERY_SECONDS = -1.0


def stages_are_forked():
    """The same for train_all.py, and the trainings that it starts need not import TensorFlow first,
    each anew.
    """
    every_step_is_saved()
    from vqwave.train import isolated

    isolated.CONTEXT = multiprocessing.get_context("fork")
