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


PEER_DIED = r"^distributed_run.py: another process of this training has ended .* continues from .*$"


def ours(said: str) -> list[str]:
    """The lines of a process's stderr that are not JAX's own."""
    return [line for line in said.splitlines() if line.startswith("distributed_run.py: ")]


class Training:
    """`count` processes of one training, on this machine."""

    def __init__(self, folder, name, steps, count=2, cache=None):
        folder.mkdir(exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # Most of the time is XLA's: it optimizes nothing, and compiles once what runs twice.
        env = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu",
                            "JAX_COMPILATION_CACHE_DIR": str(cache),
                            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
                            "XLA_FLAGS": "--xla_backend_optimization_level=0"}
        flags = ["--distribute"] * (count > 1)
        if count > 1:
            env |= {"KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
                    "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count)}
        self.processes = [
            subprocess.Popen([sys.executable, SCRIPT, folder, name, str(steps), *flags],
                             stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True,
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
    run = Training(beside / "straight", "vqvae_8", 12, 1, beside / "cache")
    assert run.ends()[0][0] == 0
    return run.losses(6)


@pytest.fixture(scope="module")
def beside(tmp_path_factory, tiny_weights):
    """A folder with `data`, `codecs` and JAX's `cache`."""
    folder = tmp_path_factory.mktemp("distributed")
    data_folder(folder / "data", {f"track {i}": music(1.5, i) for i in range(3)})
    (folder / "codecs").symlink_to(tiny_weights.codecs)
    return folder


def trained(folder, name):
    return RunState(folder / "out", name).load()


def assert_same(folder, other, name, losses, wanted):
    assert losses and losses == pytest.approx({step: wanted[step] for step in losses}, rel=1e-4)
    (record, variables), (expected, arrays) = trained(folder, name), trained(other, name)
    assert record.step == expected.step and record.best == pytest.approx(expected.best, rel=1e-4)
    for a, b in zip(variables, arrays, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-3)


def train_alone_and_together(beside, name, steps):
    """The losses and the ends of a training in one process and in two, by "one" and "two"."""
    losses, ends = {}, {}
    for count, kind in ((1, "one"), (2, "two")):
        run = Training(beside / f"{kind} {name} {steps}", name, steps, count, beside / "cache")
        ends[kind] = run.ends()
        assert [code for code, _, _ in ends[kind]] == [0] * count, ends[kind]
        losses[kind] = list(run.losses(steps // 2).values())
        assert len(losses[kind]) == steps
    return losses, ends


@pytest.mark.large
def test_two_processes_train_like_one(beside):
    losses, ends = train_alone_and_together(beside, "vqvae_8", 4)
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-4)
    # The second process prints and writes nothing.
    assert not re.sub(r"\[Gloo\].*\n?", "", ends["two"][1][1])
    one, two = ({p.name for p in (beside / f"{kind} vqvae_8 4" / "out").iterdir()}
                for kind in ("one", "two"))
    assert one == two


@pytest.mark.large
@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_or_stopped_process_ends_all_and_the_same_command_continues(beside, straight, lost):
    """Epochs have six steps. A killed run continues from the end of the first epoch, a stopped run
    from its last step.
    """
    folder, name = beside / f"killed {lost}", "vqvae_8"
    killed = Training(folder, name, 12, 2, beside / "cache")
    killed.until(8)
    killed.processes[lost].kill()
    ends = killed.ends()
    code, _, said = ends[1 - lost]
    # JAX may notice first; it then ends the process itself, at length.
    assert code in (2, -signal.SIGABRT), ends
    assert said if code < 0 else re.search(PEER_DIED, said, re.MULTILINE), ends
    assert trained(folder, name)[0].step == 6
    stopped = Training(folder, name, 12, 2, beside / "cache")
    stopped.until(8)
    stopped.processes[lost].send_signal(signal.SIGTERM)
    ends = stopped.ends()
    assert [code for code, _, _ in ends] == [143, 143], ends
    reached = trained(folder, name)[0].step
    assert 8 <= reached < 12
    rest = Training(folder, name, 12, 2, beside / "cache")
    assert [code for code, _, _ in rest.ends()] == [0, 0]
    assert min(rest.losses(6)) == reached + 1
    assert_same(folder, beside / "straight", name, rest.losses(6), straight)


@pytest.mark.large
def test_an_error_of_the_first_process_ends_all(beside):
    folder = beside / "taken"
    (folder / "out").mkdir(parents=True)
    with files.lock_folder(folder / "out", "vqvae_8", "being trained"):
        ends = Training(folder, "vqvae_8", 4, 2, beside / "cache").ends()
    assert [code for code, _, _ in ends] == [2, 2], ends
    assert all(len(ours(err)) == 1 and "is already being trained here by "
                                       "process" in err for _, _, err in ends), ends
    ends = Training(folder, "vqvae_8", 4, 3, beside / "cache").ends()
    assert [code for code, _, _ in ends] == [2, 2, 2], ends
    assert all(len(ours(err)) == 1 and "--batch-size is 4" in err for _, _, err in ends), ends
