"""What becomes of a night's work when it is killed, when the disk is full, when memory ends: done
to the real commands.

Moments are drawn by seed over the time that the same command takes undisturbed: a few in every run,
twenty of each command with -m large.
"""

import contextlib
import os
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
from prepared import data_folder, music

from vqwave.errors import UserError
from vqwave.io import manifest, weights

CODEC, GENERATOR = "vqvae_512", "generator_512"
STEPS = 6  # in epochs of 2

def many(*values):
    return pytest.param(*values, marks=pytest.mark.large)


few_or_many = pytest.mark.parametrize("times", [2, many(20)])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A codec and its generator, each trained undisturbed: `.data`, `.weights`; `.codec` and
    `.generator` are
    functions of an output folder that return (command, arguments), `.seconds` what each command
    took.
    """
    root = tmp_path_factory.mktemp("faults")
    made = SimpleNamespace(data=root / "data", weights=root / "weights", seconds={}, root=root)
    data_folder(made.data, {f"track {i}": music(1.0, i) for i in range(3)})
    common = ["--size", "tiny", "--steps", STEPS, "--epochs", 3, "--batch-size",
              2, "--input-length", 4096]
    common += ["--keep-all"]

    def codec(out, data=made.data):
        return "train_vqvae", "--model", CODEC, "--data-dir", data, "--output-dir", out, *common

    def generator(out, data=made.data):
        return ("train_generator", "--generator", GENERATOR, "--data-dir",
                data, "--output-dir", out,
                "--vqvae-weights-dir", made.weights, "--offsets", 1, *common)

    made.codec, made.generator = codec, generator
    # The first command waits for the server to import what takes long.
    assert done(root / "log", "export", "--help")[0] == 0
    for name, command in ((CODEC, codec), (GENERATOR, generator)):
        code, said, made.seconds[name] = done(root / "log", *command(made.weights),
                                              setting=every_step_is_saved)
        assert code == 0, said
    return made


def assert_trained_as(folder, other, name):
    """Every saved epoch, the best, and all that the next step would depend on are the same."""
    with np.load(folder / f"{name}.state.npz") as a, np.load(other / f"{name}.state.npz") as b:
        assert sorted(a.files) == sorted(b.files)
        for key in set(a.files) - {"record"}:
            np.testing.assert_allclose(a[key], b[key], atol=1e-6, rtol=1e-6)
    assert weights.tags(folder, name) == weights.tags(other,
                                                      name) == ["00001", "00002", "00003", "best"]
    for tag in (1, 2, 3, "best"):
        a, b = weights.find(folder, name, tag), weights.find(other, name, tag)
        for part in a.files:
            for key, array in a.load(part).items():
                np.testing.assert_allclose(array, b.load(part)[key], atol=1e-6, rtol=1e-6)


def assert_whole_or_refused(folder, name):
    """What stands under a final name is a whole set, or known by its checksums not to be one."""
    for tag in weights.tags(folder, name) if folder.exists() else ():
        with contextlib.suppress(weights.WeightsError):
            weights.find(folder, name, tag)
    state = folder / f"{name}.state.npz"
    if state.exists():
        with np.load(state) as arrays:
            assert all(arrays[key] is not None for key in arrays.files)


def in_turns(times, seed, seconds, start, look, finish, chain=10):
    """Start, wait for a random part of `seconds`, kill, `look`; every `chain` kills, and at the
    end, `finish`.
    """
    random, killed = np.random.default_rng(seed), 0
    while killed < times:
        command = start()
        if command.wait(random.uniform(0, seconds)) is None:
            command.kill()
            killed += 1
            look()
            if killed % chain and killed < times:
                continue
        finish()
    return killed


# ------------------------------------------------------------------------------------------ kill -9


@pytest.mark.parametrize("name, times",
                         [(CODEC, 1), (GENERATOR, 2), many(CODEC, 20), many(GENERATOR, 20)])
def test_a_training_killed_at_any_moment_ends_as_if_it_had_not_been(tiny, tmp_path, name, times):
    out, command = tmp_path / "out", tiny.codec if name == CODEC else tiny.generator

    def start():
        return Command(tmp_path / "log", *command(out), setting=every_step_is_saved)

    def finish():
        last = start()
        assert last.wait() == 0, last.log.read_text()
        assert_trained_as(out, tiny.weights, name)
        shutil.rmtree(out)
        # What the killed runs encoded goes too: the next ones encode again.
        shutil.rmtree(tiny.data / ".codes", ignore_errors=True)

    def look():
        assert_whole_or_refused(out, name)

    assert in_turns(times, times, tiny.seconds[name], start, look, finish) == times


def alive(pid) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Process(subprocess.Popen):
    """A script as a process of its own, from nothing; as `Command`, but that it takes its time to
    begin.
    """

    def __init__(self, log, name, *arguments):
        self.log = Path(log)
        with open(log, "wb") as file:
            super().__init__([sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)],
                             stdout=file,
                             stderr=file)

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
    """Every other time it is the training it has started that is killed, as by a system whose
    memory is full.
    """
    out, random = tmp_path / "out", np.random.default_rng(times)
    arguments = ["--data-dir", tiny.data, "--output-dir", out, "--size",
                 "tiny", "--no-fp16", "--levels", 512]
    arguments += ["--steps", STEPS, "--epochs", 3, "--batch-size", 2, "--input-length",
                  4096, "--offsets", 1]
    arguments += ["--keep-all", "--listen", 0, "--no-report"]

    class TrainAll(Command):
        def kill(self):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            if not children or random.random() < 0.5:
                super().kill()
                # What it has started ends with it, and no longer holds the folder.
                while any(alive(pid) for pid in children):
                    time.sleep(0.01)
                return
            os.kill(int(children[0]), signal.SIGKILL)
            assert self.wait() == 2, self.log.read_text()
            assert "was killed" in self.log.read_text()

    def start():
        return TrainAll(tmp_path / "log", "train_all", *arguments, setting=stages_are_forked)

    def look():
        for name in (CODEC, GENERATOR):
            assert_whole_or_refused(out, name)

    def finish():
        last = start()
        assert last.wait() == 0, last.log.read_text()
        for name in (CODEC, GENERATOR):
            assert_trained_as(out, tiny.weights, name)
        shutil.rmtree(out)

    assert in_turns(times, times, sum(tiny.seconds.values()), start, look, finish) == times


@few_or_many
def test_preparing_killed_at_any_moment_ends_as_if_it_had_not_been(tmp_path, times):
    src, dst = tmp_path / "music", tmp_path / "data"
    src.mkdir()
    for i, suffix in enumerate((".mp3", ".flac", ".ogg", ".m4a", ".wav",
                                ".opus", ".aac", ".aiff") * 2):
        encode(src / f"{i}{suffix}", music(6.0, i % 8, 48000), 48000)

    def start():
        return Process(tmp_path / "log", "prepare_audio", src, dst, "--workers", 2)

    began = time.monotonic()
    assert start().wait() == 0
    seconds = time.monotonic() - began
    wanted = {p.name: p.read_bytes() for p in dst.iterdir()}
    shutil.rmtree(dst)

    def look():
        for path in dst.glob("*.u16"):
            assert path.read_bytes() == wanted[path.name]
        if (dst / manifest.NAME).exists():
            assert manifest.read(dst)

    def finish():
        last = start()
        assert last.wait() == 0, last.log.read_text()
        assert {p.name: p.read_bytes() for p in dst.iterdir()} == wanted
        shutil.rmtree(dst)

    assert in_turns(times, times, seconds, start, look, finish) == times


@few_or_many
def test_music_in_the_making_never_stands_under_its_final_name(tiny_weights, tmp_path, times):
    out = tmp_path / "out" / "a.wav"
    out.parent.mkdir()

    def start():
        return Command(tmp_path / "log", "generate_audio", "--vqvae-weights-dir",
                       tiny_weights.codecs,
                       "--generator-weights-dir", tiny_weights.generators,
                       "--generators", "generator_128",
                       "--seconds", 60, "--seed", 1, "--output", out, "--force")

    assert start().wait() == 0
    began = time.monotonic()
    assert start().wait() == 0
    seconds = time.monotonic() - began
    wanted = out.read_bytes()
    out.unlink()

    def finish():
        last = start()
        assert last.wait() == 0, last.log.read_text()
        assert out.read_bytes() == wanted
        out.unlink()

    # Where the kill came after the renaming, the piece is whole.
    def look():
        assert not out.exists() or out.read_bytes() == wanted

    assert in_turns(times, times, seconds, start, look, finish) == times


# ------------------------------------------------------------------------------- SIGTERM and Ctrl-C


@pytest.mark.parametrize("name, times", [(GENERATOR, 2), many(CODEC, 6), many(GENERATOR, 20)])
def test_told_to_stop_a_training_saves_and_leaves(tiny, tmp_path, name, times):
    """With `-m large` it is also timed: five seconds."""
    random, left = np.random.default_rng(times), []
    out, training = tmp_path / "out", tiny.codec if name == CODEC else tiny.generator
    while len(left) < times:
        command = Command(tmp_path / "log", *training(out))
        command.wait_for("tracks to train on")
        if command.wait(random.uniform(0, tiny.seconds[name])) is not None:
            assert command.wait() == 0
            shutil.rmtree(out)
            continue
        number = (signal.SIGTERM, signal.SIGINT)[len(left) % 2]
        os.kill(command.pid, number)
        began = time.monotonic()
        code = command.wait()
        left.append(time.monotonic() - began)
        # 0 where it came after the last step
        assert code in (0, 128 + number), command.log.read_text()
        assert "Traceback" not in command.log.read_text()
        if code == 0:
            assert_trained_as(out, tiny.weights, name)
            shutil.rmtree(out)
    print("seconds from the signal to the end: " + " ".join(f"{s:.2f}" for s in left))
    if times > 2:
        assert max(left) < 5
    last = Command(tmp_path / "log", *training(out))
    assert last.wait() == 0, last.log.read_text()
    assert_trained_as(out, tiny.weights, name)


# ---------------------------------------------------------------------------- one training a folder


def test_the_second_training_into_a_folder_is_refused_and_a_dead_one_holds_nothing(tiny, tmp_path):
    first = Command(tmp_path / "first", *tiny.generator(tmp_path / "out"))
    first.wait_for("trainable parameters")
    os.kill(first.pid, signal.SIGSTOP)
    since = time.strftime("%Y-%m-%d")
    code, said, _ = done(tmp_path / "second", *tiny.generator(tmp_path / "out"))
    assert code == 2
    line = said.splitlines()[-1]
    assert f"{GENERATOR} is already being trained here by process {first.pid} since {since}" in line
    first.kill()
    code, said, _ = done(tmp_path / "third", *tiny.generator(tmp_path / "out"))
    assert code == 0, said
    assert_trained_as(tmp_path / "out", tiny.weights, GENERATOR)


# -------------------------------------------------------------------------------------- a full disk


@pytest.fixture
def disk(tmp_path):
    """A file system of its own: `.folder`; `.limit(bytes)` and `.read_only(yes)` change it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*arguments):
        tried = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"a file system of its own cannot be mounted here: {tried.stderr.strip()}")

    try:
        mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    yield SimpleNamespace(
        folder=folder, limit=lambda size: mount("-o", f"remount,size={size}", str(folder)),
        read_only=lambda yes: mount("-o", f"remount,{'ro' if yes else 'rw'}", str(folder)))
    subprocess.run(["umount", str(folder)], check=True)


def told(log):
    """The line that says that the disk is full; there is one, and no traceback."""
    text = log.read_text()
    assert "Traceback" not in text, text
    lines = [line for line in text.splitlines() if "no space left on the disk" in line]
    assert len(lines) == 1 and lines[0].endswith("make room and run the same command again"), text
    return lines[0]


@pytest.mark.parametrize("name, share", [(GENERATOR, 0.6), many(CODEC, 0.3), many(CODEC, 0.6)])
def test_a_training_on_a_full_disk_says_so_and_goes_on_once_there_is_room(tiny, tmp_path,
                                                                          disk, name, share):
    training = tiny.codec if name == CODEC else tiny.generator
    out = disk.folder / "out"
    size = sum(p.stat().st_size for p in tiny.weights.rglob("*") if name in p.as_posix())
    disk.limit(int(share * size) // 4096 * 4096)
    command = Command(tmp_path / "log", *training(out), setting=every_step_is_saved)
    assert command.wait() == 2, command.log.read_text()
    told(command.log)
    # Not a file of what could not be written whole, and all that stands there is good.
    assert not list(disk.folder.rglob(".vqwave-*"))
    assert_whole_or_refused(out, name)
    for tag in weights.tags(out, name):
        assert all(np.isfinite(a).all() for part in weights.find(out, name, tag).files
                   for a in weights.find(out, name, tag).load(part).values())
    disk.limit(64 << 20)
    assert Command(tmp_path / "log", *training(out), setting=every_step_is_saved).wait() == 0
    assert_trained_as(out, tiny.weights, name)


def test_a_full_disk_under_the_cache_of_codes(tiny, tmp_path, disk):
    data = disk.folder / "data"
    shutil.copytree(tiny.data, data, ignore=shutil.ignore_patterns(".codes"))
    used = os.statvfs(disk.folder)
    disk.limit((used.f_blocks - used.f_bfree) * used.f_frsize + 2 * 4096)
    command = Command(tmp_path / "log", *tiny.generator(tmp_path / "out", data))
    assert command.wait() == 2, command.log.read_text()
    assert "no space left" in command.log.read_text().lower() and "Traceback" not in command.log.read_text()
    disk.limit(64 << 20)
    again = Command(tmp_path / "log", *tiny.generator(tmp_path / "out", data))
    assert again.wait() == 0, again.log.read_text()
    assert_trained_as(tmp_path / "out", tiny.weights, GENERATOR)


def test_preparing_onto_a_full_disk(tmp_path, disk):
    src, dst = tmp_path / "music", disk.folder / "data"
    src.mkdir()
    for i in range(12):
        encode(src / f"{i}.flac", music(10.0, i))
    disk.limit(2 << 20)
    command = Process(tmp_path / "log", "prepare_audio", src, dst, "--workers", 2)
    assert command.wait() == 2, command.log.read_text()
    told(command.log)
    assert not list(dst.glob(".vqwave-*"))
    made = list(dst.glob("*.u16"))
    assert 0 < len(made) < 12 and {p.stat().st_size for p in made} == {220500}
    disk.limit(64 << 20)
    assert Process(tmp_path / "log", "prepare_audio", src, dst, "--workers", 2).wait() == 0
    assert len(manifest.read(dst)) == 12


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_music_onto_a_full_disk(tiny_weights, tmp_path, disk, suffix):
    arguments = ["--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir",
                 tiny_weights.generators,
                 "--generators", "generator_512", "--seed", 1, "--output",
                 disk.folder / f"a{suffix}", "--seconds"]
    disk.limit(64 << 10)
    command = Command(tmp_path / "log", "generate_audio", *arguments, 60)
    assert command.wait() == 2, command.log.read_text()
    told(command.log)
    assert not list(disk.folder.iterdir())
    disk.limit(64 << 20)
    assert Command(tmp_path / "log", "generate_audio", *arguments, 60).wait() == 0
    assert [p.name for p in disk.folder.iterdir()] == [f"a{suffix}"]


def test_a_folder_that_can_only_be_read_is_said_before_anything_is_done(tiny, tiny_weights,
                                                                        tmp_path, disk):
    (disk.folder / "out").mkdir()
    (disk.folder / "out" / f".{CODEC}.lock").touch()
    (src := tmp_path / "music").mkdir()
    encode(src / "a.wav", music(1.0))
    disk.read_only(True)
    music_to = ["--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir",
                tiny_weights.generators,
                "--seconds", 1, "--output", disk.folder / "a.wav"]
    all_to = ["--data-dir", tiny.data, "--size", "tiny", "--output-dir"]
    for command in (tiny.codec(disk.folder / "out"), tiny.generator(disk.folder / "out"),
                    ("generate_audio", *music_to),
                    ("prepare_audio", src, disk.folder / "data"),
                    ("train_all", *all_to, disk.folder / "out"),
                    ("train_all", *all_to, disk.folder / "new")):
        code, said, _ = done(tmp_path / "log", *command)
        assert code == 2
        assert str(disk.folder) in said and "cannot be written" in said
        assert len(said.splitlines()) == 1


# ------------------------------------------------------------------------------------------- memory


def little_memory():
    """A gigabyte more than the process has by now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (1 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@pytest.mark.parametrize("batch", [many(3000), 100_000])
def test_where_memory_ends_it_says_which_two_flags_to_lower(tiny, tmp_path, batch):
    """In the backend, and already in putting the batch together."""
    name, *arguments = tiny.codec(tmp_path / "out")
    arguments[arguments.index("--batch-size") + 1] = batch
    command = Command(tmp_path / "log", name, *arguments, setting=little_memory)
    code, said = command.wait(600), command.log.read_text()
    if code is None:
        # TensorFlow's threads may wait for one another for ever: see docs/reliability.md
        command.kill()
    assert code == 2, said
    assert "Traceback" not in said
    assert "out of memory: lower --batch-size or --input-length" in said.splitlines()[-1]
    assert weights.tags(tmp_path / "out", CODEC) == []


# ------------------------------------------------------------------------------------------- damage


def test_damaged_data_is_named_by_every_command_that_reads_it(tiny, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny.data, data)
    path = data / manifest.NAME
    content = bytearray(path.read_bytes())
    content[content.index(b":")] ^= 1
    path.write_bytes(content)
    for command in (tiny.codec(tmp_path / "out", data), tiny.generator(tmp_path / "out", data)):
        code, said, _ = done(tmp_path / "log", *command)
        assert code == 2 and len(said.splitlines()) == 1
        assert str(path) in said and "run python scripts/prepare_audio.py again" in said
    with pytest.raises(UserError, match="line"):
        manifest.read(data)
