"""The rooms of the library: imports go down, nothing is oversized, and the table of registries is complete."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "lib/vqwave"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
ROOMS = ("base", "dsp", "levels", "codecs", "generators", "presets", "io", "plots", "data",
         "layers of codecs", "layers of generators", "export", "train", "play", "report", "studio", "commands")
TREES = {path.relative_to(LIBRARY): ast.parse(path.read_text(encoding="utf-8"))
         for path in sorted(LIBRARY.rglob("*.py"))}
LARGEST = {"file": 600, "class": 300, "function": 60}


def room(path):
    """The room of a file or module, given relative to the library."""
    if path.name == "__main__.py":
        return "commands"
    name = path.parts[0].removesuffix(".py")
    if path.stem.endswith("_layer"):
        return f"layers of {name}"
    return name if name in ROOMS else "base"


def imported(path):
    """The modules of the library that a file imports, as paths relative to the library."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1]
            if node.module:
                base /= node.module.replace(".", "/")
                yield base
            yield from (base / alias.name for alias in node.names
                        if not node.module or (base / f"{alias.name}.py") in TREES)


def sizes(path):
    """(kind, name, lines) of a file, its classes and its functions."""
    yield "file", path.as_posix(), len((LIBRARY / path).read_text(encoding="utf-8").splitlines())
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            kind = "class" if isinstance(node, ast.ClassDef) else "function"
            yield kind, f"{path}:{node.name}", node.end_lineno - node.lineno + 1


def test_imports_go_down_and_never_up():
    upwards = [f"{path} imports {module}" for path in TREES for module in imported(path)
               if ROOMS.index(room(module)) > ROOMS.index(room(path))]
    assert upwards == []


def test_what_needs_keras_says_so_in_its_name():
    """`codecs`, `generators`: NAME.py is imported by `play`, which starts without Keras."""
    keras = {path.as_posix() for path, tree in TREES.items() for node in ast.walk(tree)
             if path.parts[0] in ("levels", "codecs", "generators", "presets")
             and "keras" in (ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom) else "")}
    assert keras and all(path.endswith("_layer.py") for path in keras)


def test_nothing_imports_librosa():
    """Numba's cache of its compiled functions breaks for good when two processes first use it at once:
    from then on every use ends the process without a message."""
    names = {name.split(".")[0] for tree in TREES.values() for node in ast.walk(tree)
             for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                          else [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])}
    assert "numpy" in names and not names & {"librosa", "numba"}


@pytest.mark.parametrize("kind", LARGEST)
def test_nothing_is_oversized(kind):
    oversized = [f"{name} has {lines} lines" for path in TREES for found, name, lines in sizes(path)
                 if found == kind and lines > LARGEST[kind]]
    assert oversized == []


def test_every_registry_holds_the_kinds_that_the_table_lists():
    table = re.search(r"^\| axis \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
    assert len(rows) > 8
    for _, _, registry, kinds in rows:
        file, name = re.fullmatch(r"`(.+)\.py` `(.+)`", registry).groups()
        module = importlib.import_module(f"vqwave.{file.replace('/', '.')}")
        assert registered(getattr(module, name)) == kinds.split(", "), name


def registered(kinds):
    """The names of the kinds of a field, or of a registry, in order."""
    if isinstance(kinds, dict):
        return list(kinds)
    return list(kinds.configs)


def test_docstrings_name_what_exists():
    """`module.name` in the library names something in a module of that name."""
    modules = {}
    for path in LIBRARY.rglob("*.py"):
        modules[path.stem] = modules.get(path.stem, "") + path.read_text(encoding="utf-8")
    for path in LIBRARY.rglob("*.py"):
        for module, name in re.findall(r"`(?:\w+\.)?([a-z_]+)\.([A-Za-z_]\w+)", path.read_text(encoding="utf-8")):
            if name in ("py", "yml", "md", "json") or module not in modules:
                continue
            assert re.search(rf"\b{name}\b", modules[module]), f"{path}: {module}.{name}"
