"""Several processes train one model on JAX, where JAX is installed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prepared import data_folder, music

from vqwave.io import files
from vqwave.train.record import RunState

pytest.importorskip("jax")
SCRIPT = Path(__file__).with_name("distributed_run.py")
NAME = "vqvae_8"
PEER_DIED = r"^distributed_run.py: another process of this training has ended .* continues from .*$"


def ours(said: str) -> list[str]:
    """The lines of a process's stderr that are not JAX's own."""
    return [line for line in said.splitlines() if line.startswith("distributed_run.py: ")]


class Training:
    """`count` processes of one training, on this machine."""

    def __init__(self, folder, steps, count=2):
        folder.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # Most of the time is XLA's: it optimizes nothing, and compiles once what runs twice.
        env = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu",
                            "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "cache"),
                            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
                            "XLA_FLAGS": "--xla_backend_optimization_level=0"}
        flags = ["--distribute"] * (count > 1)
        if count > 1:
            env |= {"KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
                    "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count)}
        self.processes = [
            subprocess.Popen([sys.executable, SCRIPT, folder, str(steps), *flags], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=env | {"KERAS_DISTRIBUTION_PROCESS_ID": str(i)})
            for i in range(count)]
        self.told = []

    def until(self, step):
        """Read the output of the first process up to the loss of this step."""
        output = ""
        for line in self.processes[0].stdout:
            output += line
            if line.startswith("{"):
                self.told.append(json.loads(line))
                if self.told[-1]["step"] == step:
                    return
        raise AssertionError(output + self.processes[0].stderr.read())

    def ends(self):
        """(exit code, stdout, stderr) of each."""
        ends = []
        for process in self.processes:
            out, err = process.communicate(timeout=600)
            ends.append((process.returncode, out, err))
        self.told += [json.loads(line) for line in ends[0][1].splitlines() if line.startswith("{")]
        return ends

    def losses(self, per_epoch):
        """{step: loss}, from Keras's running means, which restart with each epoch and each run."""
        losses, count, total = {}, 0, 0.0
        for line in self.told:
            count, total = (1, 0.0) if line["step"] % per_epoch == 1 else (count + 1, total)
            losses[line["step"]] = line["loss"] * count - total
            total = line["loss"] * count
        return losses


@pytest.fixture(scope="module")
def straight(beside):
    """Twelve steps of one process, in the folder `straight`."""
    run = Training(beside / "straight", 12, 1)
    assert run.ends()[0][0] == 0
    return run.losses(6)


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A folder with `data` and JAX's `cache`."""
    folder = tmp_path_factory.mktemp("distributed")
    data_folder(folder / "data", {f"track {i}": music(1.5, i) for i in range(3)})
    return folder


def trained(folder):
    return RunState(folder / "out", NAME).load()


@pytest.mark.large
def test_two_processes_train_like_one(beside):
    losses, written = [], []
    for count in (1, 2):
        run = Training(beside / f"{count} processes", 4, count)
        ends = run.ends()
        assert [code for code, _, _ in ends] == [0] * count, ends
        losses.append(list(run.losses(2).values()))
        written.append({path.name for path in (beside / f"{count} processes/out").iterdir()})
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    # The second process prints and writes nothing.
    assert not re.sub(r"\[Gloo\].*\n?", "", ends[1][1])
    assert written[0] == written[1]


@pytest.mark.large
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_or_stopped_process_ends_all_and_the_same_command_continues(beside, straight, lost):
    """Epochs have six steps. A killed run continues from the end of the first epoch, a stopped run
    from its last step.
    """
    folder = beside / f"killed {lost}"
    killed = Training(folder, 12)
    killed.until(8)
    killed.processes[lost].kill()
    ends = killed.ends()
    code, _, said = ends[1 - lost]
    # JAX may notice first; it then ends the process itself, at length.
    assert code in (2, -signal.SIGABRT), ends
    assert said if code < 0 else re.search(PEER_DIED, said, re.MULTILINE), ends
    assert trained(folder)[0].step == 6
    stopped = Training(folder, 12)
    stopped.until(8)
    stopped.processes[lost].send_signal(signal.SIGTERM)
    ends = stopped.ends()
    assert [code for code, _, _ in ends] == [143, 143], ends
    reached = trained(folder)[0].step
    assert 8 <= reached < 12
    rest = Training(folder, 12)
    assert [code for code, _, _ in rest.ends()] == [0, 0]
    losses = rest.losses(6)
    assert min(losses) == reached + 1
    assert losses == pytest.approx({step: straight[step] for step in losses}, rel=1e-4)
    (record, variables), (expected, arrays) = trained(folder), trained(beside / "straight")
    assert record.step == expected.step and record.best == pytest.approx(expected.best, rel=1e-4)
    for a, b in zip(variables, arrays, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.large
def test_an_error_of_the_first_process_ends_all(beside):
    folder = beside / "taken"
    (folder / "out").mkdir(parents=True)
    with files.lock_folder(folder / "out", NAME, "being trained"):
        taken = Training(folder, 4).ends()
    uneven = Training(folder, 4, 3).ends()
    for ends, message in ((taken, "is already being trained here by process"), (uneven, "--batch-size is 4")):
        assert all(code == 2 and len(ours(err)) == 1 and message in err for code, _, err in ends), ends
