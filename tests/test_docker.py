import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from imported import unknown
from test_setup import INSTALLED, calls, checkout, setup  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent


def instructions():
    """[(word, rest)] of the Dockerfile, with continued lines joined and comments left out."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    return [line.split(None, 1) for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line]


def arguments(instruction):
    return [rest for word, rest in instructions() if word == instruction]


def sources():
    """Every path that is copied into the image; the last word of a COPY is where it goes."""
    return [w for rest in arguments("COPY") for w in shlex.split(rest)[:-1] if not w.startswith("--")]


def is_ignored(path):
    """Whether .dockerignore keeps a path out: the last line for it or a folder above decides."""
    ignored = False
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    for line in (line for line in lines if line and not line.startswith("#")):
        keep, pattern = line.startswith("!"), line.lstrip("!").split("/")
        for part in [PurePosixPath(path), *PurePosixPath(path).parents][:-1]:
            parts = part.parts
            if pattern[0] == "**":
                parts, names = parts[-len(pattern[1:]) :], pattern[1:]
            else:
                names = pattern
            if len(parts) == len(names) and all(map(fnmatch.fnmatchcase, parts, names)):
                ignored = not keep
    return ignored


@pytest.fixture(scope="module")
def tracked():
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs a git checkout")
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    return [path for path in listed if (ROOT / path).exists()]


def test_copied_files_exist_and_are_not_ignored(tracked):
    for source in sources():
        inside = [path for path in tracked if path == source or path.startswith(f"{source}/")]
        assert inside, source
        assert [path for path in inside if is_ignored(path)] == []


def test_setup_runs_with_the_files_that_are_copied_before(checkout):  # noqa: F811
    """With the commands of the Dockerfile, and the Python and pip of test_setup.py."""
    shutil.rmtree(checkout / "locks")
    for name in ("setup.py", "setup.sh", "activate.sh", "pyproject.toml"):
        (checkout / name).unlink()
    runs = []
    for word, rest in instructions():
        words = shlex.split(rest)
        if word == "COPY":
            for source in [source for source in words[:-1] if not source.startswith("--")]:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, checkout / source)
        elif word == "RUN" and "setup.sh" in words:
            at = words.index("setup.sh")
            assert words[at - 1] == "bash"
            variables = dict(word.split("=") for word in words[: at - 1])
            result = setup(checkout, *words[at + 1 :], **variables)
            assert result.returncode == 0, result.stderr
            runs.append(calls(checkout))
    # The second run installs nothing: it exports the models and makes the demo.
    install, play = runs
    assert install == INSTALLED
    assert [line.split()[0] for line in play] == ["scripts/export.py", "scripts/generate_audio.py"]


def test_the_studio_accepts_its_command_and_listens_on_the_exposed_port():
    (command,) = map(json.loads, arguments("CMD"))
    python, program, *words = command
    assert python == ".venv/bin/python" and (ROOT / program).is_file()
    assert unknown(Path(program).stem, words) == []
    assert [words[words.index("--port") + 1]] == arguments("EXPOSE")
    assert words[words.index("--host") + 1] == "0.0.0.0"  # noqa: S104
