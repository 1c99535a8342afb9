"""README.md and docs/: every link leads somewhere, the programs accept every command shown.

Commands are only parsed, never run: each script's own argument parser reads them, setup.sh and the
recipes read theirs with --help behind, and Dask's parsers read Dask's.
"""

import ast
import configparser
import inspect
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from parsed import unknown

import vqwave
from vqwave.commands.radio import MOST_STATIONS
from vqwave.studio import radio

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "final_weights/README.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), CARD,
         ROOT / "recipes/README.md"]
TYPED = [*PAGES, ROOT / "RESULTS.md"]
"""Where commands are shown: RESULTS.md says how each section was measured."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, *kinds):
    """The fenced blocks of a page that are of these kinds."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [text for kind, text in found if kind in kinds]


def prose(page):
    """A page without its fenced blocks."""
    return FENCE.sub("\n\n", page.read_text(encoding="utf-8"))


def name(page):
    return page.relative_to(ROOT).as_posix()


# ---------------------------------------------------------------------------------------- the pages


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def anchors(page):
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "RESULTS.md"], ids=name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in [link for link in links if "://" not in link]:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name(page)}: {link}"
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link}"


def test_the_table_of_contents_lists_every_page():
    contents = ROOT / "docs/README.md"
    listed = re.findall(r"\]\((\w[\w-]*\.md)\)", contents.read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(p.name for p in (ROOT / "docs").glob("*.md") if p != contents)


def sentences(page):
    """The longer sentences of a page's text, and the longer cells of its tables."""
    paragraphs = [" ".join(text.split()) for text in re.split(r"\n\s*\n|\n(?=[-|#] )", prose(page))]
    found = {part.strip() for text in paragraphs for part in re.split(r"(?<=[.:;])\s|\|", text)}
    return {sentence for sentence in found if len(sentence) > 60}


def test_no_sentence_stands_on_two_pages():
    seen = {}
    for page in PAGES:
        for sentence in sentences(page):
            other = seen.setdefault(sentence, page)
            assert other == page, f"{name(other)} and {name(page)}: {sentence}"


def test_what_is_told_of_real_music_is_what_was_measured():
    """In sound.md, of RESULTS.md's figures of the test tracks, which stand first in a cell."""
    rows = [line.strip("| ").split(" | ")
            for line in (ROOT / "RESULTS.md").read_text(encoding="utf-8").splitlines()]
    sound = " ".join(prose(ROOT / "docs/sound.md").split())

    def measured(first, column=-1, head=None):
        at = next((i for i, row in enumerate(rows) if head in row), 0) if head else 0
        (cell, *_) = [row[column] for row in rows[at:] if row[0] == first]
        return cell.split(" / ")[0]

    chain = "down to 512x, temperature as shipped"
    told = (f"its harmony is {measured(chain, head='alike a second later')} alike a second later, "
            f"real music's {measured('the tracks themselves')}")
    assert told in sound
    won, prompt = (measured(what, head="pairs won").replace("%", " %")
                   for what in (chain, "the prompt"))
    assert f"({won} of pairs; the prompt itself {prompt})" in sound
    told = re.search(r"512x keep ([\d.]+) of the notes and those of 128x ([\d.]+), .* 6 kbit/s keeps ([\d.]+)\.", sound)
    kept = [float(measured(what, -2, "chroma")) for what in ("vqvae_512", "vqvae_128", "Opus 6")]
    assert [float(x) for x in told.groups()] == pytest.approx(kept, abs=0.0051)


def test_what_changes_a_stream_from_python_does_as_it_is_printed(tiny_weights):
    """But for what takes weights of labels or notes, other weights, or a recording."""
    [shown] = [text for text in blocks(ROOT / "docs/python.md", "python") if "stream.set(" in text]
    took = ("label=", "guidance", "notes=", "weights=", "begin=")
    lines = [line for line in shown.splitlines() if not any(word in line for word in took)]
    assert sum("stream.set(" in line for line in lines) > 5
    known = {"model": vqwave.load(tiny_weights.codecs, tiny_weights.generators)}
    exec("\n".join(lines), known)  # noqa: S102
    assert len(next(known["stream"])) == len(known["blocks"][0])


def test_as_many_stations_are_promised_as_radio_takes():
    assert f"`--stations` goes to {MOST_STATIONS} a folder" in prose(ROOT / "docs/scaling.md")


# ------------------------------------------------------------------------------------- the commands


def containers(page):
    """Every container of the Kubernetes examples of a page."""
    found = []
    for block in blocks(page, "yaml"):
        for document in yaml.safe_load_all(block):
            spec = document.get("spec", {}).get("template", {}).get("spec", {})
            found += spec.get("containers", [])
    return found


def joined(text):
    """The lines of a text, those that a backslash continues as one."""
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def shell_lines(page):
    """Every line of shell on a page, continued lines as one, and what Kubernetes is to run."""
    scripts = blocks(page, "bash", "dockerfile")
    for container in containers(page):
        command, given = container.get("command", []), container.get("args", [])
        if command[-1:] == ["-c"]:
            scripts += given
        else:
            scripts.append(shlex.join([*command, *given]))
    lines = [line for text in scripts for line in joined(text)]
    # On a console what follows no prompt was printed.
    typed = [line for text in blocks(page, "console") for line in joined(text)]
    return lines + [line[2:] for line in typed if line.startswith("$ ")]


def commands(page, program, begins=False):
    """The words that stand behind a program (a regular expression) in each command of a page.

    begins: only where the command begins with it.
    """
    found = []
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
                found.append((part[at], part[at + 1 :]))
    return found


SCRIPT = r"(?:/\S+/)?scripts/\w+\.py"


@pytest.mark.parametrize("page", TYPED, ids=name)
def test_scripts_accept_every_command_shown(page):
    for program, words in commands(page, SCRIPT):
        assert unknown(Path(program).stem, words) == [], f"{program} {shlex.join(words)}"


def vqwave_commands(page):
    """The words behind `vqwave` in each command of a page, in its blocks and in its text."""
    spans = [shlex.split(span)[1:] for span in " ".join(prose(page).split()).split("`")[1::2]
             if span.startswith("vqwave ")]
    return spans + [words for _, words in commands(page, r"(\S*/)?vqwave", begins=True) if words]


def unknown_to_vqwave(words):
    """The words that `vqwave` does not know, the name of a command included."""
    from vqwave import cli
    from vqwave import commands as library

    first, *rest = words
    if first in ("--help", "--version", "--completion"):
        return []
    if first not in cli.COMMANDS:
        return [first]
    stem = cli.COMMANDS[first][0]
    if not rest:  # what it needs stands elsewhere: this only names it
        return []
    return unknown(stem, rest) if stem else library.load(first).parser().parse_known_args(rest)[1]


@pytest.mark.parametrize("page", TYPED, ids=name)
def test_vqwave_accepts_every_command_shown(page):
    for words in vqwave_commands(page):
        assert unknown_to_vqwave(words) == [], f"vqwave {shlex.join(words)}"


def test_vqwave_commands_are_found_and_wrong_ones_told(tmp_path):
    assert {"play", "studio", "--help"} <= {words[0]
                                            for words in vqwave_commands(ROOT / "README.md")}
    listed = {words[0] for words in vqwave_commands(ROOT / "docs/using.md")}
    assert {"play", "generate", "evaluate", "benchmark", "export"} <= listed
    page = tmp_path / "page.md"
    page.write_text("""Type `vqwave play --seed 3`, or

```bash
vqwave generate --seconds 3 \\
    --moods calm | tee said
.venv/bin/vqwave compose
```

```console
$ vqwave play --output a.wav
```
""")
    assert [unknown_to_vqwave(words) for words in vqwave_commands(page)] == [
        [], ["--moods", "calm"], ["compose"], ["--output", "a.wav"]]
    with pytest.raises(ValueError, match="refuses"):
        unknown_to_vqwave(["generate", "--seconds", "many"])


def test_both_forms_of_each_command_are_listed():
    from vqwave import cli

    page = (ROOT / "docs/using.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `vqwave ([a-z-]+)` \| `python scripts/(\w+)\.py`", page, re.MULTILINE)
    assert listed == [(name, stem or "generate_audio") for name, (stem, _) in cli.COMMANDS.items()]


def test_commands_are_found_in_every_kind_of_block():
    """Behind prompts and continuations, behind srun, in both forms of a container."""
    readme = [Path(program).stem for program, _ in commands(ROOT / "README.md", SCRIPT)]
    assert {"prepare_audio", "train_all", "test_vqvae", "generate_audio", "app"} <= set(readme)
    found = commands(ROOT / "docs/scaling.md", SCRIPT)
    assert sum("--distribute" in words for _, words in found) >= 5
    assert sum("tcp://dask:8786" in words for _, words in found) == 1
    found = commands(ROOT / "docs/training.md", SCRIPT)
    assert any("--generator" in words and "800" in words for _, words in found)


def test_a_flag_that_does_not_exist_is_found():
    assert unknown("generate_audio", ["--seconds", "3", "--moods", "calm"]) == ["--moods", "calm"]
    for_all = ["--data-dir", "data"]
    assert unknown("train_all", [*for_all, "--patience-of", "3"]) == ["--patience-of", "3"]
    assert unknown("plot", ["curves", "weights", "--output", "a.png", "--moods"]) == ["--moods"]
    for words in (["--hours", "many"], ["--patience", "much"]):
        with pytest.raises(ValueError, match="refuses"):
            unknown("train_all", [*for_all, *words])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_shell_programs_accept_every_command_shown(page):
    """They read their arguments in turn: --help last, a wrong one is refused and nothing done."""
    for program, words in commands(page, r"setup\.sh|recipes/\w+/run\.sh"):
        command = ["bash", ROOT / program, *words, "--help"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), f"{program} {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_extras_that_are_installed_exist(page):
    from importlib.metadata import metadata

    known = metadata("vqwave").get_all("Provides-Extra")
    for _, words in commands(page, r"(\S*/)?pip"):
        extras = re.findall(r"\.\[(\w+)\]", " ".join(words))
        assert [extra for extra in extras if extra not in known] == []


def test_dask_accepts_every_command_shown():
    import distributed.cli.dask_scheduler
    import distributed.cli.dask_worker

    found = 0
    for page in PAGES:
        for _, (kind, *words) in commands(page, r"(\S*/)?dask"):
            if kind not in ("scheduler", "worker"):  # a name in kubectl's line
                continue
            parser = getattr(distributed.cli, f"dask_{kind}").main
            parser.make_context(f"dask {kind}", words)
            found += 1
    assert found >= 6


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_flag_in_the_text_belongs_to_some_command(page):
    shell = (ROOT / "setup.sh").read_text() + (ROOT / "recipes/recipe.sh").read_text()
    known = set(re.findall(r"--[a-z][\w-]+", shell))
    for path in [*(ROOT / "scripts").glob("*.py"), *(ROOT / "lib").rglob("*.py")]:
        known |= set(re.findall(r'"(--[a-z][\w-]*)"', path.read_text(encoding="utf-8")))
    spans = " ".join(prose(page).split()).split("`")[1::2]
    others = re.compile(r"(pip|docker|pytest|kubectl|dask|tensorboard) ")
    ours = [span for span in spans if not others.match(span)]
    named = [flag for span in ours for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)]
    assert [flag for flag in named if flag not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_environment_variables_are_read_by_the_program(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:VQWAVE|KERAS_DISTRIBUTION)_\w+", text))
    sources = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "lib").rglob("*.py"))
    assert [variable for variable in named if variable not in sources] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_examples_name_what_there_is(page):
    """Methods, attributes and keywords; tests/play/test_export.py runs the program in onnx.md."""
    from vqwave.play.api import VQWave, load
    from vqwave.play.stream import Stream

    shown = set(re.findall(r"self\.(\w+)", inspect.getsource(Stream)))
    shown |= set(vars(Stream))
    homes = {"vqwave": {"load", "Stream"}, "model": vars(VQWave), "stream": shown}
    calls = {"load": load, **{key: call for key, call in vars(VQWave).items() if callable(call)}}
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
    words = words[words.index("train_generator.py") + 1 :]
    file = words[words.index("--config") + 1] = str(tmp_path / words[words.index("--config") + 1])
    Path(file).write_text(example)
    parser = cli.parser("", "")
    options.add_options(parser, "generator")
    settings = options.read_settings(parser.parse_args([*words, "--data-dir", "data"]), "generator")
    said = yaml.safe_load(example)
    assert settings.model.core.units == said["model"]["core"]["units"]
    assert settings.training.learning_rate == said["training"]["learning_rate"]
    assert settings.data.split == said["data"]["split"]


# ----------------------------------------------------------------------------- Slurm and Kubernetes


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_shell_examples_are_valid_bash(page):
    for block in blocks(page, "bash"):
        text = re.sub(r"<[a-z ]+>", "PLACEHOLDER", block)
        done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert (done.returncode, done.stderr) == (0, ""), block


def test_batch_files_ask_slurm_before_they_do_anything():
    files = [block for page in PAGES for block in blocks(page, "bash") if "#SBATCH" in block]
    assert len(files) >= 2
    for text in files:
        first, *lines = text.splitlines()
        assert first == "#!/bin/bash"
        asked = [i for i, line in enumerate(lines) if line.startswith("#SBATCH ")]
        assert asked == list(range(len(asked)))  # sbatch stops reading them at the first command
        assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", lines[i]) for i in asked)


def test_kubernetes_examples_fit_together():
    examples = blocks(ROOT / "docs/scaling.md", "yaml")
    documents = [document for text in examples for document in yaml.safe_load_all(text)]
    services = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Service"}
    assert {d["kind"] for d in documents} == {"Service", "Job", "Deployment"}
    pods = {}
    for document in documents:
        if document["kind"] == "Service":
            continue
        template = document["spec"]["template"]
        own = document["metadata"]["name"]
        labels = template.get("metadata", {}).get("labels", {}) | {"job-name": own}
        pods[own] = labels
        if document["kind"] == "Deployment":
            assert document["spec"]["selector"]["matchLabels"].items() <= labels.items()
        volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
            given = {pair["name"]: pair["value"] for pair in container.get("env", [])}
            if address := given.get("KERAS_DISTRIBUTION_JOB_ADDRESSES"):
                job, subdomain = re.fullmatch(r"(\w+)-0\.(\w+):\d+", address).groups()
                assert job == own
                assert subdomain == template["spec"]["subdomain"] and subdomain in services
                processes = int(given["KERAS_DISTRIBUTION_NUM_PROCESSES"])
                assert processes == document["spec"]["completions"]
    for service in services.values():
        assert any(service["selector"].items() <= labels.items() for labels in pods.values())


# -------------------------------------------------------------------------------------- the service


def test_the_service_runs_a_script_and_options_that_there_are():
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read_string((ROOT / "docs/vqwave-radio.service").read_text(encoding="utf-8"))
    service = unit["Service"]
    python, script, *words = shlex.split(service["ExecStart"])
    assert python == f"{service['WorkingDirectory']}/.venv/bin/python" and (ROOT / script).is_file()
    assert unknown(Path(script).stem, words) == []
    assert int(service["LimitNOFILE"]) > radio.LISTENERS
    told = (ROOT / "docs/radio.md").read_text(encoding="utf-8")
    assert f"`{service['WorkingDirectory']}`" in told and f"`{service['User']}`" in told
