"""docs/studio.md: the paths, keys and limits that it lists are those of the code, all of them."""

import re
from pathlib import Path

import pytest

from vqwave.studio import settings, takes, web

PAGE = (Path(__file__).parents[2] / "docs/studio.md").read_text(encoding="utf-8")
UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "MiB": 2**20, "GiB": 2**30}
NO_LIMITS = {"BANDS", "OUTLINE", "LEAST_COLUMN", "WILDER", "PORT"}


def rows(heading):
    """The rows of the table that begins with `heading`, each a list of cells."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-:| ]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


def test_every_limit_has_its_value():
    constants = vars(settings) | vars(takes) | vars(web)
    numbers = {name: value for name, value in constants.items() if type(value) in (int, float)}
    limits = {name: value for name, value in numbers.items()
              if re.fullmatch(r"[A-Z_]+", name) and name not in NO_LIMITS}
    shown = {}
    for name, value, _ in rows("constant"):
        number, unit = re.fullmatch(r"(\d+) ?(\w*)", value).groups()
        shown[name.strip("`")] = int(number) * UNITS[unit]
    assert shown == limits


def test_every_path_of_the_studio_is_listed():
    pytest.importorskip("fastapi")
    paths = {route.path for route in web.routes(_NoTakes()).routes}
    cells = " ".join(row[0] for row in rows("path"))
    listed = set(re.findall(r"`(/studio[^`]*?)(?:/…)?`", cells))
    assert listed == {path for path in paths if path.startswith("/studio")}


class _NoTakes:
    """A studio as far as its routes ask for one when they are made."""

    streams = 1


def test_every_key_that_the_browser_keeps_is_listed():
    scripts = "".join(path.read_text(encoding="utf-8") for path in web.STATIC.glob("*.js"))
    kept = set(re.findall(r'"(vqwave\.\w+)"', scripts))
    assert {key.strip("`") for key, _ in rows("key")} == kept
    assert not re.search(r"sessionStorage|indexedDB|document\.cookie", scripts)
    ahead = int(re.search(r"const AHEAD = (\d+);", scripts)[1])
    whole = int(re.search(r"const WHOLE = (\d+);", scripts)[1])
    remembered = int(re.search(r"slice\(0, (\d+)\)\.sort", scripts)[1])
    for words in (f"at most {ahead} seconds made ahead", f"keeps {whole // 60} minutes of a take",
                  f"last {remembered} takes"):
        assert words in " ".join(PAGE.split()), words


def test_every_kind_of_file_is_listed():
    source = "".join(Path(one.__file__).read_text(encoding="utf-8") for one in (takes, web))
    kinds = set(re.findall(r'folder / f?"([a-z]+)', source))
    assert kinds == {re.match(r"`([a-z]+)", row[0])[1] for row in rows("file")}
