"""README.md and docs/: every link has a target, and the programs accept every command.

Commands are parsed and not run. The argument parsers of the scripts and of Dask read theirs; setup.sh and the
recipes read theirs with `--help` at the end.
"""

import ast
import inspect
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from commands import draw_pitches
from imported import unknown

from vqwave.io import weights
from vqwave.play import pitches

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "final_weights/README.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), CARD,
         ROOT / "recipes/README.md"]
TYPED = [*PAGES, ROOT / "RESULTS.md", *sorted((ROOT / "research").rglob("*.md"))]
"""Pages with commands: each table of results says how it was measured."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, *kinds):
    """The fenced blocks of a page that are of these kinds."""
    return [text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind in kinds]


def prose(page):
    """A page without its fenced blocks."""
    return FENCE.sub("\n\n", page.read_text(encoding="utf-8"))


def name(page):
    return page.relative_to(ROOT).as_posix()


def for_each(pages):
    return pytest.mark.parametrize("page", pages, ids=name)


def anchors(page):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@for_each(TYPED)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in [link for link in links if "://" not in link]:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link}"
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link}"


def test_python_examples_run_with_the_shipped_weights(monkeypatch):
    """All but those of the last section, which needs weights that a user trains."""
    if not weights.tags(ROOT / weights.CODECS, "vqvae_512"):
        pytest.skip("no weights ship here")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pitches, "of_codec", draw_pitches)
    text, own = (ROOT / "docs/python.md").read_text(encoding="utf-8").split("\n## With your own weights\n")
    examples = [*blocks(ROOT / "README.md", "python"), *(example for _, example in FENCE.findall(text))]
    assert len(examples) >= 6 and "weights/mine" in own
    variables = {}
    for example in examples:
        exec(example, variables)  # noqa: S102
    assert len(variables["audio"]) == 10 * 22050


def containers(page):
    """Every container of the Kubernetes examples of a page."""
    documents = [document for block in blocks(page, "yaml") for document in yaml.safe_load_all(block)]
    specs = [document.get("spec", {}).get("template", {}).get("spec", {}) for document in documents]
    return [container for spec in specs for container in spec.get("containers", [])]


def joined(text):
    """The lines of a text; a backslash joins a line with the next."""
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def shell_lines(page):
    """Every line of shell on a page, continued lines joined, and the commands of Kubernetes' containers."""
    scripts = blocks(page, "bash", "dockerfile")
    for container in containers(page):
        command, arguments = container.get("command", []), container.get("args", [])
        scripts += arguments if command[-1:] == ["-c"] else [shlex.join([*command, *arguments])]
    lines = [line for text in scripts for line in joined(text)]
    # On a console what follows no prompt was printed.
    typed = [line for text in blocks(page, "console") for line in joined(text)]
    return lines + [line[2:] for line in typed if line.startswith("$ ")]


def commands(page, program, begins=False):
    """(program, words behind it) in each command; program: a regular expression. begins: first."""
    matches = []
    for line in shell_lines(page):
        # A command ends where a comment, a pipe or another command begins.
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, words, parts = True, [], []
        for word in lexer:
            if set(word) <= set("();<>|&"):
                parts, words = [*parts, words], []
            else:
                words.append(word)
        for part in [*parts, words]:
            at = next((i for i, word in enumerate(part) if re.fullmatch(program, word)), None)
            if at is not None and not (begins and at):
                matches.append((part[at], part[at + 1 :]))
    return matches


SCRIPT = r"(?:/\S+/)?scripts/\w+\.py|research\.\w+"


@for_each(TYPED)
def test_scripts_accept_every_command_shown(page):
    for program, words in commands(page, SCRIPT):
        known_as = program if program.startswith("research.") else Path(program).stem
        assert unknown(known_as, words) == [], f"{program} {shlex.join(words)}"


def vqwave_commands(page):
    """The words behind `vqwave` in each command of a page, also where another command starts it."""
    from vqwave import cli

    spans = [shlex.split(span)[1:] for span in " ".join(prose(page).split()).split("`")[1::2]
             if span.startswith("vqwave ")]
    own = [words for _, words in commands(page, r"(\S*/)?vqwave", begins=True) if words]
    started = [words for program in ("vqwave", r"\S+/vqwave") for _, words in commands(page, program)
               if words and words[0] in cli.COMMANDS]
    return spans + own + started


def unknown_to_vqwave(words):
    """The words that `vqwave` does not know, the name of a command included."""
    from vqwave import cli
    from vqwave import commands as library

    first, *rest = words
    if first in ("--help", "--version"):
        return []
    if first not in cli.COMMANDS:
        return [first]
    stem = cli.COMMANDS[first][0]
    if not rest:  # what it needs stands elsewhere: this only names it
        return []
    return unknown(stem, rest) if stem else library.load(first).parser().parse_known_args(rest)[1]


@for_each(TYPED)
def test_vqwave_accepts_every_command_shown(page):
    for words in vqwave_commands(page):
        assert unknown_to_vqwave(words) == [], f"vqwave {shlex.join(words)}"


@for_each(PAGES)
def test_shell_programs_accept_every_command_shown(page):
    """They read their arguments in order. So with --help last, a wrong argument is refused and nothing is done."""
    for program, words in commands(page, r"setup\.sh|recipes/\w+/run\.sh"):
        command = ["bash", ROOT / program, *words, "--help"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), f"{program} {shlex.join(words)}"


@for_each(PAGES)
def test_python_examples_use_only_existing_names(page):
    """Methods, attributes and keywords; tests/export/test_export.py runs the program in onnx.md."""
    from vqwave.play.api import VQWave, load
    from vqwave.play.stream import Stream

    shown = set(re.findall(r"self\.(\w+)", inspect.getsource(Stream)))
    shown |= set(dir(Stream))
    homes = {"vqwave": {"load", "Stream"}, "model": dir(VQWave), "stream": shown}
    calls = {"load": load, **{key: getattr(VQWave, key) for key in dir(VQWave)
                               if not key.startswith("_") and callable(getattr(VQWave, key))}}
    for node in [node for text in blocks(page, "python") for node in ast.walk(ast.parse(text))]:
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in homes:
            assert node.attr in homes[node.value.id], ast.unparse(node)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) in calls:
            known = set(inspect.signature(calls[node.func.attr]).parameters)
            if "options" in known:  # those of `stream`
                known |= set(inspect.signature(VQWave.stream).parameters)
            assert {keyword.arg for keyword in node.keywords} <= known, ast.unparse(node)


def test_the_example_of_a_config_is_accepted(tmp_path):
    from vqwave import cli
    from vqwave.train import options

    (example,) = blocks(ROOT / "docs/training.md", "yaml")
    words = shlex.split(example.splitlines()[0])
    words = words[words.index("train-generator") + 1 :]
    file = words[words.index("--config") + 1] = str(tmp_path / words[words.index("--config") + 1])
    Path(file).write_text(example)
    parser = cli.parser("", "")
    options.add_options(parser, "generator")
    settings = options.read_settings(parser.parse_args([*words, "--data-dir", "data"]), "generator")
    values = yaml.safe_load(example)
    assert settings.model.core.units == values["model"]["core"]["units"]
    assert settings.training.learning_rate == values["training"]["learning_rate"]
    assert settings.data.split == values["data"]["split"]


@for_each(PAGES)
def test_shell_examples_are_valid_bash(page):
    for block in blocks(page, "bash"):
        text = re.sub(r"<[a-z ]+>", "PLACEHOLDER", block)
        done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, ""), block
