import re
import runpy
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
    try:
        code = commands.run([str(word) for word in words])
    except SystemExit as e:
        code = e.code or 0
    return code, *capsys.readouterr()


def test_every_command_has_help_under_its_own_name(capsys):
    for name in NAMES:
        code, text, errors = vqwave(capsys, name, "--help")
        assert (code, errors) == (0, "")
        assert text.startswith(f"usage: vqwave {name} ")
        assert not re.search(r"\(default: [^)]*\)\s+\(default", text)
        examples = re.search(r"^examples?:\n((?:  .*\n)+)", text, re.MULTILINE)[1].splitlines()
        assert all(re.match(rf"  vqwave {name}( |$)", line) for line in examples)


def test_help_lists_the_commands(capsys):
    for words in ([], ["--help"]):
        code, text, _ = vqwave(capsys, *words)
        assert code == 0
        assert re.findall(r"^    ([a-z-]+)  ", text, re.MULTILINE) == NAMES


@pytest.mark.parametrize(("words", "error"), [
    (["nonsense"], "vqwave: no command is called 'nonsense'; there are play, generate"),
    (["studio", "--prot", "1"], "vqwave studio: unrecognized arguments: --prot 1; did you mean --port?"),
    (["generat", "--seed", "1"], "vqwave: no command is called 'generat'; did you mean 'generate'?"),
    (["play", "--output", "a.wav"], "vqwave play: unrecognized arguments: --output a.wav; `vqwave "
                                    "generate --output FILE` has the options for files"),
    (["play", "-oa.wav"], "vqwave play: unrecognized arguments: -oa.wav; `vqwave generate --output FILE` has"),
    (["generate", "-oa.xyz"], "vqwave generate: a.xyz: the ending '.xyz' is unknown"),
    (["generate", "-o=a.xyz"], "vqwave generate: a.xyz: the ending '.xyz' is unknown"),
    (["generate", "--score", "a.mid", "--output", "a.wav"],
     "vqwave generate: unrecognized arguments: --score a.mid; did you mean --score-from?"),
    (["generate", "--midi"], "vqwave generate: unrecognized arguments: --midi; `vqwave generate "
                             "--output FILE` has the options for files (see --help)"),
    (["plot", "notes", "a.wav", "--output", "a.png", "--sec", "3"],
     "vqwave plot: unrecognized arguments: --sec 3"),
    (["train"], "vqwave train: the following arguments are required: --data-dir"),
    (["generate", "--tempo", "3", "--output", "a.wav"], "vqwave generate: argument --tempo: '3' is not 0 or a number from 30 to 200"),
    (["play", "--tempo", "29.9"], "vqwave play: argument --tempo: '29.9' is not 0 or a number from 30 to 200"),
    (["plot", "waves"], "vqwave plot: argument KIND: invalid choice: 'waves'"),
])
def test_a_mistake_is_one_line_and_code_2(capsys, words, error):
    code, out, errors = vqwave(capsys, *words)
    assert (code, out) == (2, "")
    assert errors.startswith(error) and errors.count("\n") == 1


def test_every_script_is_a_command(monkeypatch, capsys):
    scripts = {stem: name for name, (stem, _) in cli.COMMANDS.items() if stem}
    assert set(scripts) == {path.stem for path in (ROOT / "scripts").glob("*.py")}
    for stem, name in scripts.items():
        monkeypatch.setattr(commands.load(name), "main", lambda argv: print(cli.program(), *argv))
        monkeypatch.setattr(sys, "argv", [f"scripts/{stem}.py", name])
        with pytest.raises(SystemExit, match="^0$"):
            runpy.run_path(str(ROOT / "scripts" / f"{stem}.py"), run_name="__main__")
        assert capsys.readouterr().out == f"{stem}.py {name}\n"


def test_help_and_arguments_import_nothing_heavy():
    program = """
import sys
from vqwave import cli, commands
def imported(*names):
    return [name for name in names if name in sys.modules]
commands.run([])
assert not imported("numpy", "pydantic", "onnxruntime"), imported("numpy", "pydantic")
for name in cli.COMMANDS:
    commands.load(name).parser()
    assert not imported("tensorflow", "keras", "matplotlib", "librosa"), name"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("module", ["vqwave.cli", "vqwave.commands.generate", "numpy"])
@pytest.mark.parametrize("words", [["-m", "vqwave", "generate"], ["scripts/generate_audio.py"]])
def test_ctrl_c_is_quiet_during_the_imports(words, module):
    program = """
import runpy, sys
module, *words = sys.argv[1:]
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "vqwave.cli":
            assert not {"argparse", "multiprocessing", "importlib.metadata"} & set(sys.modules)
        if name == module:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.argv = words[-2:]
if words[0] == "-m":
    runpy.run_module(words[1], run_name="__main__")
else:
    runpy.run_path(words[0], run_name="__main__")"""
    done = subprocess.run([sys.executable, "-c", program, module, *words], capture_output=True,
                          text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\n")


def test_the_package_installs_the_command_and_runs_as_a_module():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entry = EntryPoint("vqwave", project["scripts"]["vqwave"], "console_scripts")
    assert entry.load() is commands.run
    done = subprocess.run([sys.executable, "-m", "vqwave", "--version"],
                          capture_output=True, text=True, check=True)
    assert done.stdout == f"vqwave {project['version']}\n"


def test_every_command_finds_the_shipped_weights_from_any_folder(capsys, tmp_path, monkeypatch):
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
    for words, error in [
        (["generate", "--generators", "x", "--seconds", 1, "--output", "a.wav"],
         "no generator is called 'x'"),
        (["test-codec", "--model", "vqvae_512", "--input", "none.wav"], "none.wav: no such file"),
        (["export", "--models", "x"], "no model is called 'x'; there are vqvae_512"),
        (["train-generator", "--generator", "generator_512", "--data-dir",
          "data", "--output-dir", "weights/mine",
          "--start-from", CHECKOUT / "weights", "--steps", 1, "--input-length", 100], "multiple of"),
        (["train-generator", "--generator", "generator_512", "--data-dir", "data", "--start-from",
          "weights"], "weights: no weights of generator_512"),  # named, so not replaced
    ]:
        code, _, errors = vqwave(capsys, *words)
        assert code == 2 and error in errors.splitlines()[-1], errors
        assert "no such folder, so" not in errors and "there are none at all" not in errors
