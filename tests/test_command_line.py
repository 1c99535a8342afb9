"""`vqwave`: every command's help and mistakes, what starts quickly, completion, and the other forms
of the same commands.
"""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from vqwave import cli, commands

ROOT = Path(__file__).resolve().parent.parent
NAMES = list(cli.COMMANDS)


def vqwave(capsys, *words):
    """(exit code, stdout, stderr) of a command line, in this process."""
    try:
        code = commands.run([str(word) for word in words])
    except SystemExit as e:
        code = e.code or 0
    said = capsys.readouterr()
    return code, said.out, said.err


def test_every_command_has_help_under_its_own_name(capsys):
    for name in NAMES:
        code, said, notes = vqwave(capsys, name, "--help")
        assert (code, notes) == (0, "")
        assert said.startswith(f"usage: vqwave {name} ")
        examples = re.search(r"^examples?:\n((?:  .*\n)+)", said, re.MULTILINE)[1].splitlines()
        assert all(re.match(rf"  vqwave {name}( |$)", line) for line in examples)


def test_help_lists_the_commands(capsys):
    for words in ([], ["--help"]):
        code, said, _ = vqwave(capsys, *words)
        assert code == 0
        assert re.findall(r"^    ([a-z-]+)  ", said, re.MULTILINE) == NAMES


def test_the_version_is_that_of_the_package(capsys):
    project = (ROOT / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.*)"', project, re.MULTILINE)[1]
    assert vqwave(capsys, "--version") == (0, f"vqwave {version}\n", "")


@pytest.mark.parametrize(("words", "said"), [
    (["nonsense"], "vqwave: no command is called 'nonsense'; there are play, generate"),
    (["generat", "--seed", "1"], "vqwave: no command is called 'generat'; did you mean 'generate'?"),
    (["--completion", "sh"], "vqwave: argument --completion: invalid choice: 'sh'"),
    (["play", "--output", "a.wav"], "vqwave play: --output is for files: `vqwave generate "
                                    "--output FILE` writes one"),
    (["generate", "--seconds", "1e12"], "vqwave generate: argument --seconds: '1e12' is not"),
    (["generate", "--top-p", "2"], "vqwave generate: argument --top-p: '2' is not"),
    (["generate", "--output", "a.mp3", "--seconds", "1"], "vqwave generate: a.mp3: audio is "
                                                          "written as .wav"),
    (["prepare", "none", "data"], "there is no such folder"),
    (["train"], "vqwave train: the following arguments are required: --data-dir"),
    (["plot", "waves"], "vqwave plot: argument KIND: invalid choice: 'waves'"),
])
def test_a_mistake_is_one_line_and_code_2(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    code, out, notes = vqwave(capsys, *words)
    assert (code, out) == (2, "")
    assert notes.startswith("vqwave") and said in notes and len(notes.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_every_script_is_a_command_and_says_the_same(capsys, monkeypatch):
    from imported import script

    scripts = {what[0]: name for name, what in cli.COMMANDS.items() if what[0]}
    assert set(scripts) == {path.stem for path in (ROOT / "scripts").glob("*.py")}
    for stem, name in scripts.items():
        assert script(stem).main is commands.load(name).main


def test_other_commands_are_named_in_the_form_that_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/train_all.py"])
    assert cli.command("generate") == "python scripts/generate_audio.py"
    assert cli.command("play") == "vqwave play"
    with cli.set_program("vqwave train"):
        assert cli.command("generate") == "vqwave generate"
    assert cli.program() == "train_all.py"


@pytest.mark.parametrize("shell", commands.SHELLS)
def test_completion_knows_commands_options_and_choices(capsys, shell):
    code, said, notes = vqwave(capsys, "--completion", shell)
    assert (code, notes) == (0, "")
    for word in (*NAMES, "temperature", "variation-of", "spectrograms", "onnx-float32"):
        assert word in said
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=said, text=True, check=False).returncode == 0
        typed = 'COMP_WORDS=(vqwave train-); COMP_CWORD=1; _shtab_vqwave; echo "${COMPREPLY[*]}"'
        done = subprocess.run(["bash"], input=f"{said}\n{typed}\n", text=True,
                              capture_output=True, check=False)
        assert done.stdout.split() == ["train-codec", "train-generator"], done.stderr


def test_help_imports_nothing_heavy():
    heavy = ("tensorflow", "keras", "matplotlib", "numpy", "onnxruntime", "librosa", "pydantic")
    program = ("import sys; from vqwave import commands; commands.run([]);"
               f"print([m for m in {heavy} if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True,
                          text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_command_needs_tensorflow_or_matplotlib_to_read_its_arguments():
    heavy = ("tensorflow", "keras", "matplotlib", "librosa")
    program = f"""
import sys
from vqwave import cli, commands
for name in cli.COMMANDS:
    commands.load(name).parser()
    assert not [module for module in {heavy} if module in sys.modules], name"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_installs_the_command_and_runs_as_a_module():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (place,) = [place for name, place in project["scripts"].items() if name == "vqwave"]
    assert EntryPoint("vqwave", place, "console_scripts").load() is commands.run
    done = subprocess.run([sys.executable, "-m", "vqwave", "--version"],
                          capture_output=True, text=True, check=True)
    assert re.fullmatch(r"vqwave \d+(\.\d+)*\n", done.stdout)


def test_every_command_finds_what_ships_from_anywhere(capsys, tmp_path, monkeypatch):
    """Also where training has made a folder `weights`. Each is asked for something that it refuses
    only once it has the weights; where none ship here, it names the folder.
    """
    from prepared import data_folder, music

    from vqwave.io import weights
    from vqwave.io.files import CHECKOUT

    if not weights.tags(CHECKOUT / weights.CODECS, "vqvae_512"):
        pytest.skip("no weights ship here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights" / "mine").mkdir(parents=True)
    data_folder(tmp_path / "data", {f"t{i}": music(0.5, i) for i in range(3)})
    for words, said in [
        (["generate", "--generators", "x", "--seconds", 1, "--output", "a.wav"],
         "no generator is called 'x'"),
        (["test-codec", "--model", "vqvae_512", "--input", "none.wav"], "none.wav: no such file"),
        (["export", "--models", "x"], "no model is called 'x'; there are vqvae_512"),
        (["plot", "codebook", "none.wav", "--output", "a.png"], "none.wav: no such file"),
        (["train-generator", "--generator", "generator_512", "--data-dir",
          "data", "--output-dir", "weights/mine",
          "--start-from", "weights", "--steps", 1, "--input-length", 100], "multiple of"),
        (["benchmark", "--only", "chain", "--sizes", "none"], "none"),
    ]:
        code, _, notes = vqwave(capsys, *words)
        assert code == 2 and said in notes.splitlines()[-1], notes
        assert "no such folder, so" not in notes and "there are none at all" not in notes
