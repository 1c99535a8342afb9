"""Dockerfile and .dockerignore: what is copied exists, and the program accepts every command."""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from parsed import unknown
from test_setup import CONSTRAINED, calls, checkout, setup  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent


def instructions():
    """[(word, rest)] of the Dockerfile, with continued lines joined and comments left out."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    return [line.split(None, 1) for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line]


def all_of(word):
    return [rest for found, rest in instructions() if found == word]


def sources():
    """Every path that is copied into the image; the last word of a COPY is where it goes."""
    return [w for rest in all_of("COPY") for w in shlex.split(rest)[:-1] if not w.startswith("--")]


def ignored(path):
    """Whether .dockerignore keeps a path out: the last line for it or a folder above decides."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        keep, pattern = line.startswith("!"), line.lstrip("!").split("/")
        for part in [PurePosixPath(path), *PurePosixPath(path).parents][:-1]:
            parts = part.parts
            if pattern[0] == "**":
                parts, names = parts[-len(pattern[1:]) :], pattern[1:]
            else:
                names = pattern
            if len(parts) == len(names) and all(map(fnmatch.fnmatchcase, parts, names)):
                answer = not keep
    return answer


@pytest.fixture(scope="module")
def tracked():
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs a git checkout")
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    return [path for path in listed if (ROOT / path).exists()]


def test_what_is_copied_is_there_and_not_ignored(tracked):
    for source in sources():
        inside = [path for path in tracked if path == source or path.startswith(f"{source}/")]
        assert inside, source
        assert [path for path in inside if ignored(path)] == []


def test_everything_else_stays_out_of_the_build():
    inside = [".git/config", ".venv/bin/python", "data/mine/a.u16", "demo.wav", "docs/demo.png",
              "tests/test_docker.py", "lib/vqwave/__pycache__/config.pyc",
              "lib/vqwave.egg-info/PKG-INFO", "weights/mine/vqvae_8_best.yml",
              "weights/generator_8_generator_00010.weights.h5", "weights/generator_8_best.yml",
              "final_weights/vqvae_8_encoder_00010.weights.h5", "final_weights/vqvae_8_best.yml"]
    assert [path for path in inside if not ignored(path)] == []
    assert not ignored("weights/generator_8.yml") and not ignored("lib/vqwave/config/codec.py")


def test_it_begins_with_the_python_that_is_tested():
    (base,) = all_of("FROM")
    tested = re.search(r"\(Python (\d+\.\d+),", (ROOT / "constraints.txt").read_text())[1]
    assert re.fullmatch(rf"python:{re.escape(tested)}-slim-\w+", base)


def test_set_up_runs_with_what_is_copied_so_far(checkout):  # noqa: F811
    """By the very commands of the Dockerfile; Python and pip are those of test_setup.py."""
    for name in ("setup.py", "setup.sh", "activate.sh", "pyproject.toml", "constraints.txt"):
        (checkout / name).unlink()
    asked = []
    for word, rest in instructions():
        words = shlex.split(rest)
        if word == "COPY":
            for source in [source for source in words[:-1] if not source.startswith("--")]:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, checkout / source)
        elif word == "RUN" and "setup.sh" in words:
            at = words.index("setup.sh")
            assert words[at - 1] == "bash"
            variables = dict(one.split("=") for one in words[: at - 1])
            done = setup(checkout, *words[at + 1 :], **variables)
            assert done.returncode == 0, done.stderr
            asked.append(calls(checkout))
    # The second run installs nothing: it exports the models and makes the demo.
    assert asked[0] == [CONSTRAINED]
    started = [line.split()[0] for line in asked[1]]
    assert started == ["scripts/export.py", "scripts/generate_audio.py"]


def test_the_studio_accepts_its_command_and_listens_on_the_port_that_is_exposed():
    (command,) = map(json.loads, all_of("CMD"))
    python, program, *words = command
    assert python == ".venv/bin/python" and (ROOT / program).is_file()
    assert unknown(Path(program).stem, words) == []
    assert [words[words.index("--port") + 1]] == all_of("EXPOSE")
    assert words[words.index("--host") + 1] == "0.0.0.0"  # noqa: S104
