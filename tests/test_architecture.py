"""docs/architecture.md: the rooms, files and registries that it draws are those of the library."""

import ast
import re
from pathlib import Path

from vqwave import config

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "lib/vqwave"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
ROOMS = ("ground", "data", "nn", "train", "play", "measure", "studio", "commands")


def room(path):
    """The room that a file or module of the library, relative to it, is in."""
    if path.name == "__main__.py":  # `python -m vqwave`
        return "commands"
    return path.parts[0] if path.parts[0] in ROOMS else "ground"


def imported(path):
    """The modules of the library that a file of it imports, as paths relative to the library."""
    for node in ast.walk(ast.parse((LIBRARY / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1]
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield base / name.replace(".", "/")


def modules():
    return sorted(path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py"))


def test_imports_go_down_and_never_up():
    upwards = [f"{path} imports {module}" for path in modules() for module in imported(path)
               if ROOMS.index(room(module)) > ROOMS.index(room(path))]
    assert upwards == []


def test_every_module_is_in_its_room_of_the_drawing():
    drawing = re.search(r"```\n(   scripts/.*?)```", PAGE, re.DOTALL)[1]
    # Of a line the words up to a wide gap; a remark stands behind it. A room's names go on below.
    drawn, current = {}, None
    for line in drawing.splitlines():
        if begins := re.match(r" {3}(\w+)/? ", line):
            current = begins[1]
        names = re.split(r" {3,}", re.sub(r"^[ |]*(\w+/? )?\s+", "", line))[0]
        drawn.setdefault(current, set()).update(re.findall(r"\b[a-z]\w+\b", names.split(":")[-1]))
    assert set(drawn) == {"scripts", *ROOMS}
    there = {name: set() for name in ROOMS}
    for path in modules():
        if path.stem not in ("__init__", "__main__"):
            there[room(path)].add(path.stem)
    there["ground"] |= {"presets", "yml"}
    there["studio"] |= {"static"}
    assert {name: drawn[name] for name in ROOMS} == there


def test_every_file_that_is_named_is_there():
    named = set(re.findall(r"(?<![\w./-])((?:\w+/)*\w+\.py)\b", PAGE))
    assert len(named) > 25
    places = (ROOT, LIBRARY, ROOT / "scripts")
    assert [name for name in named if not any((place / name).is_file() for place in places)] == []


def rows():
    """[(axis, field, file, name of the registry, kinds)] of the table of axes."""
    table = re.search(r"^\| axis \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1]
    for row in table.splitlines():
        axis, field, registry, kinds = (cell.strip() for cell in row.strip("|").split("|"))
        file, name = re.fullmatch(r"`(.+)` `(.+)`", registry).groups()
        yield axis, field, file, name, kinds.split(", ")


def registry(file, name):
    """What a registry has entries for, in order: kinds, of config classes where they are its keys.
    """
    body = ast.parse((LIBRARY / file).read_text(encoding="utf-8")).body
    lines = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == "config"]
    called = {alias.asname or alias.name: alias.name for line in lines for alias in line.names}
    for node in body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if target is not None and ast.unparse(target) == name:
            return [key.value if isinstance(key, ast.Constant)
                    else getattr(config, called[key.id]).model_fields["kind"].default
                    for key in node.value.keys]
    raise AssertionError(f"{file} holds no {name}")


def test_every_registry_holds_the_kinds_that_are_listed():
    found = list(rows())
    for _, _, file, name, kinds in found:
        assert registry(file, name) == kinds, name
    entry = re.compile(r"^([A-Z_]+): dict\[(?:type\[Config\]|str, Any\])", re.MULTILINE)
    there = {(path.as_posix(), name) for path in modules()
             for name in entry.findall((LIBRARY / path).read_text(encoding="utf-8"))}
    assert sorted((file, name) for _, _, file, name, _ in found) == sorted(there) and len(there) > 8


def test_every_function_that_is_named_is_there():
    """`file` `name` side by side: that file defines, or holds, that name."""
    pairs = re.findall(r"`((?:\w+/)*\w+\.py)`\s+`([A-Za-z_.]+)`", PAGE)
    assert len(pairs) > 12
    for file, name in pairs:
        text = (LIBRARY / file).read_text(encoding="utf-8")
        last = name.split(".")[-1]
        found = re.search(rf"^ *(def|class) {last}\b|^{last}(:.*)? = ", text, re.MULTILINE)
        assert found, f"{file}: {name}"
