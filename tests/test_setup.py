"""setup.sh, activate.sh, .ci/run and the packaging, without installing anything.

setup.sh runs in a copy of the checkout. There `python3` lists the calls of pip and of the tests;
apt-get, sudo, npm and nvidia-smi are scripts of the test.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ["setup.sh", "activate.sh", "locks/make.sh", ".ci/run"]
LOCKS = [f"locks/{name}.txt" for name in ("play", "dev", "cuda", "playback")]

PYTHON = f"""#!/usr/bin/env bash
case "$*" in
    "-m venv "*) mkdir -p .venv/bin; cp "$0" .venv/bin/python; rm -f .venv/whole ;;
    "-m pip --version") [ ! -e .venv/no-pip ] ;;
    "-m pip install "*)
        echo "$*" >>calls
        if [ -e slow ]; then touch begun; exec sleep 600; fi
        while read -r wrong; do
            case "$*" in *"$wrong"*) cat complaint; exit 1 ;; esac
        done <refused
        touch .venv/whole ;;
    "- "*) cat >/dev/null; [ -e .venv/whole ] ;;
    "-c import pyaudio") exit 1 ;;
    "-c import sys; print(sys._base_executable)") exit 1 ;;
    -c*) exec {sys.executable} -S "$@" ;;
    -V) echo "Python 3.11.0" ;;
    *) echo "$*" >>calls; exit "$(cat exit-code)" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A copy of what setup.sh reads, in a folder with a space in its name."""
    folder = tmp_path / "a checkout"
    for name in (".ci", "locks"):
        (folder / name).mkdir(parents=True)
    for name in [*SCRIPTS, *LOCKS, "pyproject.toml", "setup.py"]:
        shutil.copy(ROOT / name, folder / name)
    (folder / "refused").touch()
    (folder / "complaint").write_text("ERROR: this does not install\n")
    (folder / "exit-code").write_text("0")
    tools = tmp_path / "tools"
    tools.mkdir()
    nothing = "#!/bin/sh\nexit 1\n"
    for name, content in {"python3": PYTHON, "apt-get": nothing, "sudo": nothing,
                          "npm": nothing, "nvidia-smi": nothing}.items():
        (tools / name).write_text(content)
        (tools / name).chmod(0o755)
    return folder


def environment(checkout, **more):
    return ({"PATH": f"{checkout.parent / 'tools'}:/usr/bin:/bin", "HOME": str(checkout.parent)}
            | more)


def setup(checkout, *arguments, script="setup.sh", **more):
    return subprocess.run(["bash", checkout / script, *arguments],
                          env=environment(checkout, **more),
                          cwd=checkout.parent, text=True, capture_output=True, timeout=600)


def calls(checkout):
    """The calls of pip (all but PyAudio's) and of the tests since the last call of this, in lines."""
    path = checkout / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line for line in lines if "playback" not in line]


LOCKED = "-m pip install --require-hashes -r locks/dev.txt --only-binary :all:"
INSTALLED = [LOCKED, "-m pip install --no-deps --no-build-isolation -e ."]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
TESTS = f"-m pytest -q -rs -m not large -n {min(8, CORES)} --dist worksteal"


def test_scripts_are_valid_bash_and_ci_can_be_executed():
    for script in SCRIPTS:
        subprocess.run(["bash", "-n", ROOT / script], check=True)
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_shellcheck_finds_nothing():
    result = subprocess.run(["shellcheck", *(ROOT / script for script in SCRIPTS)],
                          capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_an_unknown_flag_and_another_python_are_one_line_and_code_2(checkout):
    for result, word in ((setup(checkout, "--demmo"), "--demmo"),
                         (setup(checkout, PYTHON="/bin/false"), "PYTHON=/bin/false")):
        assert result.returncode == 2 and result.stdout == ""
        assert word in result.stderr and result.stderr.count("\n") == 1


def test_setup_reinstalls_only_after_changes_or_damage(checkout):
    first = setup(checkout)
    assert first.returncode == 0, first.stderr
    assert calls(checkout) == INSTALLED
    second = setup(checkout)
    assert second.returncode == 0 and calls(checkout) == []
    assert "Ready" in second.stderr and "Installing" not in second.stderr
    for name in ("pyproject.toml", "locks/play.txt", "setup.sh", "setup.py"):
        with open(checkout / name, "a") as file:
            file.write("\n# changed\n")
        assert setup(checkout).returncode == 0
        assert calls(checkout) == INSTALLED, name
    (checkout / ".venv/whole").unlink()
    assert setup(checkout).returncode == 0
    assert calls(checkout) == INSTALLED
    (checkout / ".venv/whole").unlink()
    (checkout / ".venv/bin/python").unlink()
    assert "Making .venv" in setup(checkout).stderr


def test_the_demo_installs_what_plays_and_setup_the_rest(checkout):
    played = [LOCKED.replace("dev", "play"), INSTALLED[1]]
    demo = "scripts/generate_audio.py --seconds 20 --seed 1 --output demo.wav --force"
    first = setup(checkout, "--demo")
    assert first.returncode == 0 and calls(checkout) == [*played, demo]
    assert "bash setup.sh" in first.stderr.splitlines()[-1]
    assert setup(checkout, "--demo").returncode == 0
    assert calls(checkout) == [demo]
    assert setup(checkout).returncode == 0
    assert calls(checkout) == INSTALLED
    # What trains plays, too.
    last = setup(checkout, "--demo")
    assert calls(checkout) == [demo] and "bash setup.sh" not in last.stderr.splitlines()[-1]


def test_an_interrupted_installation_is_completed_by_the_next_run(checkout):
    (checkout / "slow").touch()
    with subprocess.Popen(["bash", checkout / "setup.sh"], env=environment(checkout), text=True,
                          stderr=subprocess.PIPE) as process:
        while not (checkout / "begun").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(600) == 130
        assert "run it again to go on" in process.stderr.read()
    (checkout / "slow").unlink()
    calls(checkout)
    assert setup(checkout).returncode == 0
    assert calls(checkout) == INSTALLED


@pytest.mark.parametrize("refused, complaint, words", [
    ("dev.txt", "ERROR: No matching distribution found for numba==0.68.1",
     "there is no numba==0.68.1 for Python 3.11.0 on this system; name another Python: PYTHON=python3.12"),
    ("dev.txt", """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, please
    h5py==3.14.0 from https://index.example/h5py-3.14.0-cp311-cp311-manylinux_2_17_x86_64.whl:
        Expected sha256 0
             Got        1""", "dependencies: h5py==3.14.0 does not match its hash in locks/"),
    ("dev.txt", "WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: No matching "
     "distribution found for setuptools==84.2.1", "is there a network?"),
    ("-e .", "error: this", "could not install VQWave: error: this")])
def test_a_failure_of_pip_is_explained_in_a_line_and_nothing_else_is_tried(checkout, refused, complaint, words):
    (checkout / "refused").write_text(f"{refused}\n")
    (checkout / "complaint").write_text(f"{complaint}\n")
    result = setup(checkout)
    assert result.returncode == 2 and words in result.stderr.splitlines()[-1]
    assert refused in calls(checkout)[-1]


def test_a_gpu_adds_cuda_unless_that_fails(checkout):
    tools = checkout.parent / "tools"
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Something (UUID: GPU-1)'\n")
    expected = [LOCKED, LOCKED.replace("dev", "cuda"), INSTALLED[1]]
    assert setup(checkout).returncode == 0
    assert calls(checkout) == expected
    (checkout / ".venv/whole").unlink()
    (checkout / "refused").write_text("cuda\n")
    result = setup(checkout)
    assert result.returncode == 0 and "going on without" in result.stderr
    assert calls(checkout) == expected


def test_package_data_names_every_other_file_of_the_library():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = [f"{module.replace('.', '/')}/{pattern}" for module, names in
                project["tool"]["setuptools"]["package-data"].items() for pattern in names]
    files = [path.relative_to(ROOT / "lib") for path in (ROOT / "lib/vqwave").rglob("*")
             if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert files and [path for path in files if not any(map(path.match, patterns))] == []


def test_the_tests_run_last_and_their_exit_code_is_that_of_ci(checkout):
    assert setup(checkout, script=".ci/run").returncode == 0
    assert calls(checkout) == [*INSTALLED, "-m ruff check .", "-m mypy", TESTS]
    (checkout / "exit-code").write_text("1")
    assert setup(checkout, script=".ci/run").returncode == 1


def test_shipped_weights_are_exported(checkout):
    (checkout / "final_weights").mkdir()
    (checkout / "final_weights/vqvae_8_decoder.weights.h5").touch()
    assert setup(checkout).returncode == 0
    assert calls(checkout)[-1] == "scripts/export.py"
    (checkout / "exit-code").write_text("2")
    failed = setup(checkout)
    assert failed.returncode == 2 and failed.stderr.splitlines()[-1].startswith("setup.sh: ")


def locked(name):
    """{package: (Requirement, hashes)} of a lock file and of those that it begins with."""
    packages = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / "locks" / name).read_text().strip()):
        if entry.startswith("-r "):
            packages |= locked(entry[3:])
        elif not entry.startswith("#"):
            pin, *hashes = entry.replace("\\\n", " ").split(" --hash=sha256:")
            packages[Requirement(pin).name] = Requirement(pin), [line.strip() for line in hashes]
    return packages


@pytest.mark.parametrize("lock, extras", [
    ("play", []), ("dev", ["train", "dev"]), ("cuda", ["train", "dev", "cuda"]), ("playback", ["playback"])])
def test_every_dependency_is_locked_within_its_bounds(lock, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    wanted += [line for extra in extras for line in project["project"]["optional-dependencies"][extra]]
    packages = locked(f"{lock}.txt")
    for requirement in map(Requirement, wanted):
        pin, _ = packages[canonicalize_name(requirement.name)]
        assert next(iter(pin.specifier)).version in requirement.specifier, requirement


def test_the_locks_agree_and_have_the_hashes_of_all_systems():
    play, dev, cuda = (locked(f"{name}.txt") for name in ("play", "dev", "cuda"))
    assert play.keys() < dev.keys() < cuda.keys() and "nvidia-cudnn-cu12" in cuda
    assert all(name.startswith("nvidia-") for name in cuda.keys() - dev.keys())
    for name, (pin, hashes) in (cuda | locked("playback.txt")).items():
        assert [bound.operator for bound in pin.specifier] == ["=="], pin
        assert hashes and all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes), pin
        assert name not in play or play[name] == (pin, hashes)
    # Three Pythons on x86-64, ARM and macOS.
    for name in ("numpy", "av", "onnxruntime", "pydantic-core", "tensorflow", "onnx", "scipy"):
        assert len(cuda[name][1]) >= 9, name


def test_every_dependency_has_a_lower_bound():
    for requirement in map(Requirement, requires("vqwave")):
        assert requirement.extras or any(s.operator == ">=" for s in requirement.specifier), requirement
