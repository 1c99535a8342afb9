"""docs/reliability.md and docs/scaling.md: each test that a promise names exists, and runs when the page says it runs."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"

# Collects the files it is given and prints, for each test function, whether its cases have the mark `large`.
COLLECT = """
import collections, json, os, sys, pytest
class Marks:
    def pytest_collection_modifyitems(self, items):
        found = collections.defaultdict(list)
        for item in items:
            found[f"{item.path.name}::{item.function.__name__}"].append(item.get_closest_marker("large") is not None)
        print("MARKS", json.dumps(found))
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[Marks()]))
"""


def promises(page):
    """(words, [(file, start of the test's name, whether it is the whole name, when it runs)]) of each promise of a page."""
    for row in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if re.match(r"\| .*\| `test_\w+\.py", row):
            words, named = row.strip("| ").rsplit(" | ", 1)
            yield words, [re.fullmatch(r"`(test_\w+\.py)(?:::(test_\w+)(…?))?`(?: \((.*)\))?", one).groups("")
                          for one in named.split(", ")]


@pytest.fixture(scope="module")
def marks():
    """{"file::test": [whether each case is of the large run]} of every file that a page names."""
    names = {file for page in ("reliability.md", "scaling.md") for _, named in promises(page) for file, *_ in named}
    found = {path.name: path for path in TESTS.rglob("test_*.py")}
    assert names <= set(found)
    assert len(found) == len(list(TESTS.rglob("test_*.py")))  # a name without a folder says which file
    files = [str(found[name]) for name in sorted(names)]
    done = subprocess.run([sys.executable, "-c", COLLECT, *files], cwd=TESTS.parent, capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("MARKS ")), None)
    assert line, done.stdout + done.stderr
    return defaultdict(list, json.loads(line.removeprefix("MARKS ")))


@pytest.mark.parametrize("page, least", [("reliability.md", 25), ("scaling.md", 7)])
def test_every_promise_names_tests_that_run_when_it_says(page, least, marks):
    found = list(promises(page))
    assert len(found) >= least
    collected = {key.partition("::")[0] for key in marks}
    for words, named in found:
        for file, start, open_ended, when in named:
            if file not in collected:  # it is left out as a whole, for want of JAX say
                (source,) = TESTS.rglob(file)
                assert re.search(rf"^def {start}{r'' if open_ended else r'[(]'}", source.read_text(), re.MULTILINE)
                continue
            cases = [large for key, each in marks.items() for large in each
                     if key.startswith(f"{file}::{start}") and (open_ended or not start or key == f"{file}::{start}")]
            assert cases, f"{file}::{start}: {words}"
            runs = "large run only" if all(cases) else "more in the large run" if any(cases) else ""
            assert when == runs, f"{file}::{start}"


def test_no_count_of_cases_is_typed():
    """Counts change with the tests; a page that types them is wrong soon."""
    for _, named in promises("reliability.md"):
        assert not any(re.search(r"\d", when) for *_, when in named)
