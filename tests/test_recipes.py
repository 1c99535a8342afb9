"""The recipes' splits, and the commands of each step, on stand-ins for the music."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from imported import unknown
from prepared import music

from vqwave.io import audio, splits

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(path.parent.name for path in (ROOT / "recipes").glob("*/run.sh"))
NEVER_TRAINED_ON = "warzone"


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    for folder in ("scripts", "research"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    return tmp_path


def run(checkout, name, *arguments, **environment):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(["bash", checkout / "recipes" / name / "run.sh", *map(str, arguments)],
                          cwd="/", capture_output=True, text=True, check=False,
                          env=os.environ | {"PATH": path} | environment)


def songs(folder, name, seconds=1.0):
    """A song of the right name for each track that the split names, and two that train."""
    folder.mkdir()
    held = splits.read_split(ROOT / "recipes" / name / "split.yml").held_out_tracks
    # All differ: of two identical songs prepare leaves one out.
    for i, track in enumerate([*held, "one more", "another"], 100 * RECIPES.index(name)):
        audio.write(folder / f"{track}.wav", music(seconds, i), 22050)
    return len(held) + 2


def test_a_split_holds_tracks_out_and_none_of_them_twice():
    for name in RECIPES:
        split = splits.read_split(ROOT / "recipes" / name / "split.yml")
        assert split.test and (split.validation or name == NEVER_TRAINED_ON), name
        assert len(set(split.held_out_tracks)) == len(split.held_out_tracks), name


@pytest.mark.parametrize("name", ["both", "two_soundtracks"])
def test_a_recipe_of_both_soundtracks_holds_out_what_each_does(name):
    both, *each = (splits.read_split(ROOT / "recipes" / name / "split.yml")
                   for name in (name, "wesnoth", "singularity"))
    for side in ("test", "fresh", "validation", "excluded"):
        named = [track for split in each for track in getattr(split, side)]
        assert sorted(getattr(both, side)) == sorted(named)


def test_user_errors_are_one_line(checkout, tmp_path):
    for arguments, message in [(["--hour", "1"], "unknown argument '--hour'"),
                               (["--hours"], "--hours needs a value"),
                               (["--step", "ship"], "there is no step 'ship'"),
                               (["--", "--quick"], "name it with --step"),
                               (["--music", tmp_path / "none"], "none: no such folder"),
                               (["--step", "prepare"], "the step before this one is fetch")]:
        done = run(checkout, "wesnoth", *arguments)
        assert done.returncode == 2 and message in done.stderr
        assert done.stderr.splitlines()[-1].startswith("recipes/wesnoth/run.sh: ")
    (checkout / "data/music/both").mkdir(parents=True)
    done = run(checkout, "both", "--step", "prepare")
    assert done.returncode == 2
    assert "wesnoth" in done.stderr and "the step before this one is fetch" in done.stderr


def path_with(folder, **commands):
    """A PATH that begins with `folder`, which gets these shell scripts; Python is the same as in `run`."""
    folder.mkdir()
    for name, body in commands.items():
        (folder / name.replace("_", "-")).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name.replace("_", "-")).chmod(0o755)
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
def test_the_package_is_fetched_once_by_name_and_unpacked(checkout, tmp_path):
    tree = tmp_path / "package"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: a\nVersion: 1\nArchitecture: all\nMaintainer: a\nDescription: a\n")
    songs_folder = tree / "usr/share/games/singularity/music"
    songs_folder.mkdir(parents=True)
    (songs_folder / "a.ogg").write_bytes(b"music")
    subprocess.run(["dpkg-deb", "--build", tree, tmp_path / "package.deb"],
                   check=True, capture_output=True)
    path = path_with(tmp_path / "bin",
                     apt_get=f'echo "$@" >> {tmp_path}/calls; cp {tmp_path}/package.deb a_1_all.deb')
    fetched = checkout / "data" / "music" / "singularity"
    for _ in range(2):
        done = run(checkout, "singularity", "--step", "fetch", PATH=path)
        assert done.returncode == 0, done.stderr
        assert list(fetched.rglob("*.*")) == [fetched / "usr/share/games/singularity/music/a.ogg"]
    assert (tmp_path / "calls").read_text() == "download -q singularity-music\n"
    assert not list(fetched.parent.glob("*.part"))
    done = run(checkout, "wesnoth", "--step", "fetch", PATH=path)
    assert done.returncode == 2 and "wesnoth-1.16-music holds no folder usr/share" in done.stderr.splitlines()[-1]


def commands_of(checkout, tmp_path, name, *arguments):
    """(script, words) for each script that a recipe calls; a stand-in for Python runs none."""
    log = tmp_path / "calls"
    log.write_text("")
    body = f'case $1 in -c) echo a b ;; *) printf "%s\\\\n" "$@" end >> {log} ;; esac'
    shutil.rmtree(tmp_path / "bin", ignore_errors=True)
    done = run(checkout, name, *arguments, PATH=path_with(tmp_path / "bin", python=body))
    assert done.returncode == 0, done.stderr
    calls = [call.split("\n") for call in log.read_text().split("\nend\n")[:-1]]
    return [(words[1], words[2:]) if words[0] == "-m" else (Path(words[0]).stem, words[1:])
            for words in calls]


def test_the_soundtrack_that_nothing_is_trained_on_is_prepared_and_measured(checkout, tmp_path):
    name = NEVER_TRAINED_ON
    (tmp_path / "music").mkdir()
    (prepare, _), (module, measured) = commands_of(checkout, tmp_path, name, "--music", tmp_path / "music")
    assert (prepare, module) == ("prepare_audio", "research.clarity")
    assert unknown(module, measured) == [] and option(measured, "--data-dirs") == f"data/{name}"
    for arguments, message in [(["--step", "train"], "there is no step 'train'"), (["--hours", "1"], "takes no --hours")]:
        done = run(checkout, name, *arguments)
        assert done.returncode == 2 and message in done.stderr
    assert "--hours" not in run(checkout, name, "--help").stdout


def option(words, flag):
    return words[words.index(flag) + 1] if flag in words else None


@pytest.mark.parametrize("name, begin", [("singularity", None), ("wesnoth", "weights/singularity")])
def test_an_hour_starts_from_weights_that_never_heard_the_music(checkout, tmp_path, name, begin):
    [(train, trained)] = commands_of(checkout, tmp_path, name, "--step", "own", "--", "--seed", "3")
    assert train == "train_all" and unknown(train, trained) == []
    assert option(trained, "--start-from") == begin and option(trained, "--hours") == "1"
    assert option(trained, "--seed") == "3"
    assert option(trained, "--output-dir") == f"weights/{name}_own"


@pytest.mark.parametrize("name, each", [
    ("two_soundtracks", True), pytest.param("both", False, marks=pytest.mark.large)])
def test_both_soundtracks_become_one_data_folder(checkout, tmp_path, name, each):
    (tmp_path / "music").mkdir()
    counts = {name: songs(tmp_path / "music" / name, name, 0.1) for name in ("wesnoth", "singularity")}
    done = run(checkout, name, "--music", tmp_path / "music", "--step", "prepare", "--",
               "--workers", "1")
    assert done.returncode == 0, done.stderr
    counts_prepared = {folder.name: len(list(folder.rglob("*.u16")))
                       for folder in (checkout / "data").iterdir() if folder.name != "music"}
    assert counts_prepared == {name: sum(counts.values())} | (counts if each else {})


@pytest.mark.large
def test_the_steps_of_a_recipe_lead_from_music_to_figures(checkout, tmp_path):
    songs(tmp_path / "music", "singularity", 4.0)
    steps = [("prepare", []),
             ("train", ["--size", "tiny", "--steps", "2", "--epochs", "1", "--batch-size", "2", "--input-length",
                        "4096", "--offsets", "1", "--no-fp16", "--no-report"]),
             ("evaluate", ["--only", "health", "--minutes", "0.1", "--json"])]
    for step, options in steps:
        done = run(checkout, "singularity", "--music", tmp_path / "music",
                   "--step", step, "--", *options)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["test"]["health"]["longest pause"] >= 0
