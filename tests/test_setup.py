"""setup.sh, activate.sh, .ci/run and the packaging, as far as they can be tried without installing
anything.

The logic of setup.sh runs in a copy whose `python3` keeps a list of what pip and the tests were
asked to do, and whose apt-get, sudo, npm and nvidia-smi are the test's own.
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

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ["setup.sh", "activate.sh", ".ci/run"]

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
    (folder / ".ci").mkdir(parents=True)
    for name in [*SCRIPTS, "pyproject.toml", "setup.py", "constraints.txt"]:
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
    """What was asked of pip (all but PyAudio) and the tests since the last look, a line each."""
    path = checkout / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line for line in lines if "[playback]" not in line]


CONSTRAINED = "-m pip install -e .[dev,app] -c constraints.txt"
FREE = "-m pip install -e .[dev,app]"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
TESTS = f"-m pytest -q -rs -m not large -n {min(8, CORES)} --dist worksteal"


def test_scripts_are_valid_bash_and_ci_can_be_executed():
    for script in SCRIPTS:
        subprocess.run(["bash", "-n", ROOT / script], check=True)
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", *(ROOT / script for script in SCRIPTS)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_help_says_what_there_is_and_does_nothing(checkout):
    flags = ("--demo", "--test", "--no-apt", "--help", "PYTHON=")
    for flag in ("--help", "-h"):
        done = setup(checkout, flag)
        assert done.returncode == 0 and done.stderr == ""
        assert all(word in done.stdout for word in flags)
    assert not (checkout / ".venv").exists()


def test_an_unknown_flag_is_one_line_and_code_2(checkout):
    done = setup(checkout, "--demmo")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "setup.sh: unknown argument '--demmo' (see bash setup.sh --help)\n"


def test_a_second_run_installs_nothing(checkout):
    first = setup(checkout)
    assert first.returncode == 0, first.stderr
    assert calls(checkout) == [CONSTRAINED]
    second = setup(checkout)
    assert second.returncode == 0 and calls(checkout) == []
    assert "Ready" in second.stderr and "Installing" not in second.stderr


def test_a_change_of_what_it_reads_installs_again(checkout):
    setup(checkout)
    calls(checkout)
    for name in ("pyproject.toml", "constraints.txt", "setup.sh", "setup.py"):
        with open(checkout / name, "a") as f:
            f.write("\n# changed\n")
        assert setup(checkout).returncode == 0
        assert calls(checkout) == [CONSTRAINED], name


def test_an_environment_that_broke_is_repaired(checkout):
    setup(checkout)
    calls(checkout)
    (checkout / ".venv/whole").unlink()
    assert setup(checkout).returncode == 0
    assert calls(checkout) == [CONSTRAINED]


def test_an_environment_without_pip_is_made_anew(checkout):
    setup(checkout)
    (checkout / ".venv/whole").unlink()
    (checkout / ".venv/bin/python").unlink()
    assert "Making .venv" in setup(checkout).stderr


def test_what_was_interrupted_is_completed_by_the_next_run(checkout):
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
    assert calls(checkout) == [CONSTRAINED]


def test_what_failed_is_completed_by_the_next_run(checkout):
    (checkout / "refused").write_text("dev\n")
    failed = setup(checkout)
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.splitlines()[-1].startswith("setup.sh: pip could not install the "
                                                     "dependencies: ERROR: this")
    assert calls(checkout) == [CONSTRAINED, FREE]
    (checkout / "refused").write_text("")
    assert setup(checkout).returncode == 0
    assert calls(checkout) == [CONSTRAINED]


def test_versions_that_do_not_fit_give_way_to_the_newest_and_it_says_so(checkout):
    (checkout / "refused").write_text("constraints.txt\n")
    done = setup(checkout)
    assert done.returncode == 0 and "constraints.txt do not install here" in done.stderr
    assert calls(checkout) == [CONSTRAINED, FREE]


def test_without_a_network_nothing_is_tried_twice(checkout):
    (checkout / "refused").write_text("dev\n")
    (checkout / "complaint").write_text("WARNING: Retrying after connection broken by "
                                        "'NewConnectionError'\nERROR: No matching distribution "
                                        "found for setuptools>=77\n")
    done = setup(checkout)
    assert done.returncode == 2 and "is there a network?" in done.stderr
    assert calls(checkout) == [CONSTRAINED]


def test_a_python_too_new_for_tensorflow_is_told_from_other_failures(checkout):
    (checkout / "refused").write_text("dev\n")
    (checkout / "complaint").write_text("ERROR: No matching distribution found for "
                                        "tensorflow>=2.16\n")
    assert "PYTHON=python3.12 bash setup.sh" in setup(checkout).stderr.splitlines()[-1]


def test_a_gpu_adds_cuda_and_does_without_where_that_fails(checkout):
    tools = checkout.parent / "tools"
    (tools / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: Something (UUID: GPU-1)'\n")
    cuda = [line.replace("[dev,app]", "[dev,app,cuda]") for line in (CONSTRAINED, FREE)]
    assert setup(checkout).returncode == 0
    assert calls(checkout) == cuda[:1]
    (checkout / ".venv/whole").unlink()
    (checkout / "refused").write_text("cuda\n")
    done = setup(checkout)
    assert done.returncode == 0 and "going on without" in done.stderr
    assert calls(checkout) == [*cuda, CONSTRAINED]


def test_a_python_that_is_none_is_refused(checkout):
    done = setup(checkout, PYTHON="/bin/false")
    assert (done.returncode, done.stderr) == (2, "setup.sh: PYTHON=/bin/false is not a Python 3.11 "
                                                 "or later\n")


def test_the_oldest_python_is_the_one_that_the_package_takes():
    script = (ROOT / "setup.sh").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert set(re.findall(r"(?<=Python )\(?(3\.\d+) or later", script)) == {oldest}
    assert re.findall(r"sys.version_info < \((\d+), (\d+)\)", script) == [tuple(oldest.split("."))]


def test_the_package_takes_every_file_of_the_library_along():
    """What is no Python lies in it because package-data names it."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    patterns = [f"{module.replace('.', '/')}/{one}"
                for module, all_of in named.items() for one in all_of]
    library = ROOT / "lib"
    files = [path.relative_to(library) for path in (library / "vqwave").rglob("*")
             if path.is_file()]
    data = [path for path in files if path.suffix not in (".py", ".pyc")]
    assert data and [path for path in data if not any(map(path.match, patterns))] == []


def test_without_playback_it_says_the_command_and_goes_on(checkout):
    done = setup(checkout)
    assert done.returncode == 0
    assert "sudo apt-get install portaudio19-dev gcc python3." in done.stderr


def test_the_tests_run_last_and_their_exit_code_is_that_of_ci(checkout):
    assert setup(checkout, script=".ci/run").returncode == 0
    assert calls(checkout) == [CONSTRAINED, "-m ruff check .", "-m mypy", TESTS]
    (checkout / "exit-code").write_text("1")
    assert setup(checkout, script=".ci/run").returncode == 1


@pytest.fixture
def no_chromium(checkout):
    """A PATH on which there is no browser."""
    programs = checkout.parent / "programs"
    programs.mkdir()
    for program in Path("/usr/bin").iterdir():
        if not program.name.startswith(("chromium", "google-chrome")):
            (programs / program.name).symlink_to(program)
    return f"{checkout.parent / 'tools'}:{programs}"


def allow_apt(checkout):
    """Let sudo ask for nothing and apt-get install; the file where apt-get lists its arguments."""
    tools = checkout.parent / "tools"
    (tools / "sudo").write_text('#!/bin/sh\nshift; exec "$@"\n')
    (tools / "apt-get").write_text(f'#!/bin/sh\ncp {tools}/nvidia-smi {tools}/chromium\necho "$@" '
                                   f'>>{tools}/asked\n')
    return tools / "asked"


def test_the_tests_get_chromium_if_apt_may_and_do_without_it_otherwise(checkout, no_chromium):
    done = setup(checkout, "--test", PATH=no_chromium)
    assert done.returncode == 0 and "sudo apt-get install chromium" in done.stderr
    asked = allow_apt(checkout)
    done = setup(checkout, "--test", PATH=no_chromium)
    assert done.returncode == 0 and "Installing chromium (apt)" in done.stderr
    assert "sudo apt-get install chromium" not in done.stderr
    assert "chromium" in asked.read_text()
    assert calls(checkout)[-1] == TESTS


def test_no_apt_leaves_apt_alone_and_shows_the_commands(checkout, no_chromium):
    asked = allow_apt(checkout)
    done = setup(checkout, "--no-apt", "--test", PATH=no_chromium)
    assert done.returncode == 0 and "(apt)" not in done.stderr
    assert not asked.exists()
    assert "sudo apt-get install portaudio19-dev gcc python3." in done.stderr
    assert "sudo apt-get install chromium" in done.stderr
    assert calls(checkout)[-1] == TESTS


def test_help_names_every_package_that_apt_may_install(checkout):
    """Each is in a list or an argument of `apt_install`; the Python's version is filled in."""
    script, said = (checkout / "setup.sh").read_text(), setup(checkout, "--help").stdout
    packages = re.search(r"^playback_packages=\((.*)\)$", script, re.MULTILINE)[1].split(" ", 2)[:2]
    packages += re.findall(r"apt_install (\w+)", script) + ["python3.X-dev", "python3.X-venv"]
    assert {"portaudio19-dev", "gcc", "chromium"} <= set(packages)
    assert re.findall(r'print\("(python\S*)" %', script) == ["python%d.%d-venv", "python%d.%d-dev"]
    assert [name for name in packages if name not in said] == []


def test_the_demo_says_where_it_is(checkout):
    done = setup(checkout, "--demo")
    assert calls(checkout)[-1] == "scripts/generate_audio.py --seconds 20 --seed 1 --output demo.wav --force"
    assert f"{checkout}/demo.wav" in done.stderr


def test_shipped_weights_are_made_ready(checkout):
    (checkout / "final_weights").mkdir()
    (checkout / "final_weights/vqvae_8_decoder.weights.h5").touch()
    assert setup(checkout).returncode == 0
    assert calls(checkout)[-1] == "scripts/export.py"
    (checkout / "exit-code").write_text("2")
    failed = setup(checkout)
    assert failed.returncode == 2 and failed.stderr.splitlines()[-1].startswith("setup.sh: ")


def test_activate_enters_an_environment_that_is_there(checkout):
    def source(command):
        return subprocess.run(["bash", "-c", command], cwd=checkout, text=True, capture_output=True)

    done = source("source ./activate.sh; echo code $?")
    assert done.stdout == "code 2\n" and "bash " in done.stderr and "setup.sh" in done.stderr
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/activate").write_text("ENTERED=yes\n")
    assert source("source ./activate.sh; echo $ENTERED").stdout == "yes\n"
    assert source('cd /; source "$OLDPWD/activate.sh"; echo $ENTERED').stdout == "yes\n"
    ran = source("bash activate.sh")
    assert ran.returncode == 2 and "source activate.sh" in ran.stderr


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"),
                    reason="needs a git checkout")
def test_what_ships_is_not_ignored_and_what_training_leaves_is():
    ships = ["lib/vqwave/config/codec.py", "weights/generator_512_generator.weights.h5",
             "weights/generator_8.yml",
             "weights/generator_8_context.weights.h5", "final_weights/vqvae_8.yml",
             "recipes/any/plot.png",
             *(f"final_weights/vqvae_8_{part}.weights.h5"
               for part in ("encoder", "decoder", "codebook"))]
    stays = [".venv/bin/python", "data/a.u16", "demo.wav",
             "lib/vqwave/__pycache__/config.pyc",
             *(f"weights/generator_8_{part}.weights.h5"
               for part in ("generator_00010", "context_best")),
             "weights/generator_8_00010.yml", "weights/generator_8_best.yml", "weights/logs/events",
             "weights/vqvae_8_encoder.weights.h5", "final_weights/vqvae_8_encoder_00010.weights.h5",
             "final_weights/vqvae_8_best.yml"]
    command = ["git", "check-ignore", "--no-index", *ships, *stays]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.stdout.splitlines() == stays


def test_every_dependency_has_a_lower_bound_and_a_recorded_version_within_it():
    pins = (line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()
            if not line.startswith("#"))
    recorded = {name.lower(): version for name, version in (pin.split("==") for pin in pins)}
    for requirement in map(Requirement, requires("vqwave")):
        if requirement.extras:
            continue
        assert any(s.operator == ">="
                   for s in requirement.specifier), f"{requirement} has no lower bound"
        assert recorded[requirement.name.lower()] in requirement.specifier
