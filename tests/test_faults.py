"""Real commands are killed, stopped, and run out of disk and memory: no work may be lost.

Moments are drawn by seed over the time that the same command takes undisturbed: a few in every run,
twenty of each command with -m large.
"""

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import SCRIPTS, Command, done, every_step_is_saved, stages_are_forked
from encoded import encode
from prepared import assert_same_sets, data_folder, music

from vqwave.io import manifest, weights

CODEC, GENERATOR = "vqvae_512", "generator_512"
STEPS = 6  # in epochs of 2

def many(*values):
    return pytest.param(*values, marks=pytest.mark.large)


few_or_many = pytest.mark.parametrize("times", [2, many(20)])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A codec and its generator, each trained undisturbed: `.data`, `.weights`; `.codec` and
    `.generator` are functions of an output folder that return (command, arguments); `.seconds` by
    model.
    """
    root = tmp_path_factory.mktemp("faults")
    tiny = SimpleNamespace(data=root / "data", weights=root / "weights", seconds={})
    data_folder(tiny.data, {f"track {i}": music(1.0, i) for i in range(3)})
    common = ["--size", "tiny", "--steps", STEPS, "--epochs", 3, "--batch-size", 2,
              "--input-length", 4096]

    def codec(out, data=tiny.data):
        return "train_vqvae", "--model", CODEC, "--data-dir", data, "--output-dir", out, *common

    def generator(out, data=tiny.data):
        return ("train_generator", "--generator", GENERATOR, "--data-dir", data, "--output-dir",
                out, "--vqvae-weights-dir", tiny.weights, "--offsets", 1, *common)

    tiny.codec, tiny.generator = codec, generator
    # The first command waits until the server has imported the slow libraries.
    assert done(root / "log", "export", "--help")[0] == 0
    for name, command in ((CODEC, codec), (GENERATOR, generator)):
        code, output, tiny.seconds[name] = done(root / "log", *command(tiny.weights),
                                                setting=every_step_is_saved)
        assert code == 0, output
    return tiny


def succeed(command):
    assert command.wait() == 0, command.log.read_text()


def fail(command) -> str:
    assert command.wait() == 2, command.log.read_text()
    assert "Traceback" not in command.log.read_text()
    return command.log.read_text()


def assert_trained_as(folder, other, name):
    """Every saved epoch, the best, and all that the next step would depend on are the same."""
    with np.load(folder / f"{name}.state.npz") as a, np.load(other / f"{name}.state.npz") as b:
        assert sorted(a.files) == sorted(b.files)
        for key in set(a.files) - {"record"}:
            np.testing.assert_allclose(a[key], b[key], atol=1e-6, rtol=1e-6)
    assert_same_sets(folder, other, name)


def assert_whole_or_refused(folder, name):
    """A set under a final name is whole, or its checksums refuse it."""
    for tag in weights.tags(folder, name) if folder.exists() else ():
        with contextlib.suppress(weights.WeightsError):
            weights.find(folder, name, tag)
    state = folder / f"{name}.state.npz"
    if state.exists():
        with np.load(state) as arrays:
            assert all(arrays[key] is not None for key in arrays.files)


def kill_repeatedly(times, seed, seconds, start, check, finish, chain=10):
    """Start, wait a random part of `seconds`, kill, `check`; after each `chain` kills, `finish`."""
    random, killed = np.random.default_rng(seed), 0
    while killed < times:
        command = start()
        if command.wait(random.uniform(0, seconds)) is None:
            command.kill()
            killed += 1
            check()
            if killed % chain and killed < times:
                continue
        finish()


@pytest.mark.parametrize("name, times",
                         [many(CODEC, 1), (GENERATOR, 2), many(CODEC, 20), many(GENERATOR, 20)])
def test_a_training_killed_at_any_moment_ends_as_if_it_had_not_been(tiny, tmp_path, name, times):
    out, command = tmp_path / "out", tiny.codec if name == CODEC else tiny.generator

    def start():
        return Command(tmp_path / "log", *command(out), setting=every_step_is_saved)

    def finish():
        succeed(start())
        assert_trained_as(out, tiny.weights, name)
        shutil.rmtree(out)
        # Also the codes that killed runs encoded: the next runs encode again.
        shutil.rmtree(tiny.data / ".codes", ignore_errors=True)

    def check():
        assert_whole_or_refused(out, name)

    kill_repeatedly(times, times, tiny.seconds[name], start, check, finish)


def is_alive(pid) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Process(subprocess.Popen):
    """A script in a new Python process, with the interface of `Command`."""

    def __init__(self, log, name, *arguments):
        self.log = Path(log)
        with open(log, "wb") as file:
            super().__init__([sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)],
                             stdout=file, stderr=file)

    def wait(self, seconds=None):
        try:
            return super().wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self):
        super().kill()
        super().wait()


@pytest.mark.parametrize("times", [many(20)])
def test_train_all_killed_at_any_moment_ends_as_if_it_had_not_been(tiny, tmp_path, times):
    """Every second kill hits its child, the training, as of a system without free memory."""
    out, random = tmp_path / "out", np.random.default_rng(times)
    arguments = ["--data-dir", tiny.data, "--output-dir", out, "--size", "tiny", "--no-fp16",
                 "--levels", 512, "--steps", STEPS, "--epochs", 3, "--batch-size", 2,
                 "--input-length", 4096, "--offsets", 1,
                 "--no-report"]

    class TrainAll(Command):
        def kill(self):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            if not children or random.random() < 0.5:
                super().kill()
                # Its children end with it, and release the folder.
                while any(map(is_alive, children)):
                    time.sleep(0.01)
                return
            os.kill(int(children[0]), signal.SIGKILL)
            if self.wait() == 0:  # the last child had ended by itself
                assert_all_trained()
            else:
                assert "was killed" in fail(self)

    def assert_all_trained():
        for name in (CODEC, GENERATOR):
            assert_trained_as(out, tiny.weights, name)

    def start():
        return TrainAll(tmp_path / "log", "train_all", *arguments, setting=stages_are_forked)

    def check():
        for name in (CODEC, GENERATOR):
            assert_whole_or_refused(out, name)

    def finish():
        succeed(start())
        assert_all_trained()
        shutil.rmtree(out)

    kill_repeatedly(times, times, sum(tiny.seconds.values()), start, check, finish)


@few_or_many
def test_unfinished_music_never_has_its_final_name(tiny_weights, tmp_path, times):
    out = tmp_path / "out" / "a.wav"
    out.parent.mkdir()

    def start():
        return Command(tmp_path / "log", "generate_audio", "--vqvae-weights-dir",
                       tiny_weights.codecs, "--generator-weights-dir", tiny_weights.generators,
                       "--generators", "generator_128", "--seconds", 60, "--seed", 1, "--output",
                       out, "--force")

    succeed(start())  # exports the graphs
    began = time.monotonic()
    succeed(start())
    seconds = time.monotonic() - began
    expected = out.read_bytes()
    out.unlink()

    def finish():
        succeed(start())
        assert out.read_bytes() == expected
        out.unlink()

    # A kill after the renaming leaves the whole piece.
    def check():
        assert not out.exists() or out.read_bytes() == expected

    kill_repeatedly(times, times, seconds, start, check, finish)


# ---------------------------------------------------------------------------- one training a folder


def test_a_folder_takes_one_training_at_a_time_and_a_killed_one_releases_it(tiny, tmp_path):
    first = Command(tmp_path / "first", *tiny.generator(tmp_path / "out"))
    first.wait_for("trainable parameters")
    os.kill(first.pid, signal.SIGSTOP)
    today = time.strftime("%Y-%m-%d")
    output = fail(Command(tmp_path / "second", *tiny.generator(tmp_path / "out")))
    assert (f"{GENERATOR} is already being trained here by process {first.pid} since {today}"
            in output.splitlines()[-1])
    first.kill()
    succeed(Command(tmp_path / "third", *tiny.generator(tmp_path / "out")))
    assert_trained_as(tmp_path / "out", tiny.weights, GENERATOR)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own: `.folder`; `.limit(bytes)` and `.read_only(yes)` change it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*arguments):
        result = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"no file system can be mounted here: {result.stderr.strip()}")

    try:
        mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    yield SimpleNamespace(
        folder=folder, limit=lambda size: mount("-o", f"remount,size={size}", str(folder)),
        read_only=lambda yes: mount("-o", f"remount,{'ro' if yes else 'rw'}", str(folder)))
    subprocess.run(["umount", str(folder)], check=True)


def fill_disk(command):
    lines = [line for line in fail(command).splitlines() if "no space left on the disk" in line]
    assert len(lines) == 1 and lines[0].endswith("make room and run the same command again")


@pytest.mark.parametrize("name, share", [(GENERATOR, 0.6), many(CODEC, 0.3), many(CODEC, 0.6)])
def test_a_training_on_a_full_disk_continues_once_there_is_room(tiny, tmp_path, disk, name, share):
    training = tiny.codec if name == CODEC else tiny.generator
    out = disk.folder / "out"
    size = sum(p.stat().st_size for p in tiny.weights.rglob("*") if name in p.as_posix())
    disk.limit(int(share * size) // 4096 * 4096)
    fill_disk(Command(tmp_path / "log", *training(out), setting=every_step_is_saved))
    assert not list(disk.folder.rglob(".vqwave-*"))
    assert_whole_or_refused(out, name)
    for weight_set in (weights.find(out, name, tag) for tag in weights.tags(out, name)):
        assert all(np.isfinite(array).all() for part in weight_set.files
                   for array in weight_set.load(part).values())
    disk.limit(64 << 20)
    succeed(Command(tmp_path / "log", *training(out), setting=every_step_is_saved))
    assert_trained_as(out, tiny.weights, name)


def test_preparing_onto_a_full_disk_continues_once_there_is_room(tmp_path, disk):
    src, dst = tmp_path / "music", disk.folder / "data"
    src.mkdir()
    for i in range(12):
        encode(src / f"{i}.flac", music(10.0, i))
    command = tmp_path / "log", "prepare_audio", src, dst, "--workers", 2
    disk.limit(2 << 20)
    fill_disk(Process(*command))
    assert not list(dst.glob(".vqwave-*"))
    files = list(dst.glob("*.u16"))
    assert 0 < len(files) < 12 and {path.stat().st_size for path in files} == {220500}
    disk.limit(64 << 20)
    succeed(Process(*command))
    assert len(manifest.read(dst)) == 12


def test_a_read_only_folder_is_refused_before_any_work(tiny, tiny_weights, tmp_path, disk):
    (disk.folder / "out").mkdir()
    (disk.folder / "out" / f".{CODEC}.lock").touch()
    (src := tmp_path / "music").mkdir()
    encode(src / "a.wav", music(1.0))
    disk.read_only(True)
    train_all = ["train_all", "--data-dir", tiny.data, "--size", "tiny", "--output-dir"]
    for command in (tiny.codec(disk.folder / "out"), tiny.generator(disk.folder / "out"),
                    ("generate_audio", "--vqvae-weights-dir", tiny_weights.codecs,
                     "--generator-weights-dir", tiny_weights.generators, "--seconds", 1,
                     "--output", disk.folder / "a.wav"),
                    ("prepare_audio", src, disk.folder / "data"),
                    (*train_all, disk.folder / "out"), (*train_all, disk.folder / "new")):
        output = fail(Command(tmp_path / "log", *command))
        assert str(disk.folder) in output and re.search("cannot be (written|created)", output)
        assert len(output.splitlines()) == 1


def limit_memory():
    """A gigabyte more than the process has by now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@pytest.mark.parametrize("batch", [many(3000), 100_000])
def test_without_memory_the_error_names_the_two_flags_to_lower(tiny, tmp_path, batch):
    """In the backend, and already where the batch is put together."""
    name, *arguments = tiny.codec(tmp_path / "out")
    arguments[arguments.index("--batch-size") + 1] = batch
    command = Command(tmp_path / "log", name, *arguments, setting=limit_memory)
    if command.wait(600) is None:
        # TensorFlow's threads may wait for one another for ever: see docs/reliability.md
        command.kill()
    assert "out of memory: lower --batch-size or --input-length" in fail(command).splitlines()[-1]
    assert weights.tags(tmp_path / "out", CODEC) == []
