"""docs/studio.md: the paths, keys and limits that it lists are those of the code, all of them."""

import re
from pathlib import Path

from vqwave.studio import limits, routes

PAGE = (Path(__file__).parents[2] / "docs/studio.md").read_text(encoding="utf-8")
UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def rows(heading):
    """The rows of the table that begins with `heading`, each a list of cells."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-:| ]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


def test_every_limit_has_its_value():
    values = {name: value for name, value in vars(limits).items() if re.fullmatch(r"[A-Z_]+", name)}
    shown = {}
    for name, value, _ in rows("constant"):
        number, unit = re.fullmatch(r"(\d+) ?(\w*)", value).groups()
        shown[name.strip("`")] = int(number) * UNITS[unit]
    assert shown == values


def test_every_path_of_the_studio_is_listed():
    paths = {route.path for route in routes.router.routes}
    cells = " ".join(row[0] for row in rows("path"))
    listed = set(re.findall(r"`(/studio[^`]*?)(?:/…)?`", cells))
    assert listed == {"/studio/static", *paths} - {"/"}


def test_every_key_that_the_browser_keeps_is_listed():
    scripts = "".join(path.read_text(encoding="utf-8") for path in routes.STATIC.glob("*.js"))
    kept = set(re.findall(r'"(vqwave\.\w+)"', scripts))
    assert {key.strip("`") for key, _ in rows("key")} == kept
    assert not re.search(r"sessionStorage|indexedDB|document\.cookie", scripts)
