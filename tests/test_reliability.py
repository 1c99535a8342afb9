"""docs/reliability.md and docs/scaling.md: the tests they name exist and run when it says so."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"

# Collects the files it is given; prints for each test whether its cases have the mark `large`.
COLLECT = """
import collections, json, os, sys, pytest
class Marks:
    def pytest_collection_modifyitems(self, items):
        found = collections.defaultdict(list)
        for item in items:
            large = item.get_closest_marker("large") is not None
            found[f"{item.path.name}::{item.function.__name__}"].append(large)
        print("MARKS", json.dumps(found))
options = ["--collect-only", "-q", "-p", "no:cacheprovider"]
sys.exit(pytest.main([*options, *sys.argv[1:]], plugins=[Marks()]))
"""


def promises(page):
    """(words, its tests) of each promise of a page.

    A test is (file, name or its beginning, "…" where it is only the beginning, when it runs).
    """
    test = re.compile(r"`(test_\w+\.py)(?:::(test_\w+)(…?))?`(?: \((.*)\))?")
    for row in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if re.match(r"\| .*\| `test_\w+\.py", row):
            words, named = row.strip("| ").rsplit(" | ", 1)
            yield words, [test.fullmatch(one).groups("") for one in named.split(", ")]


@pytest.fixture(scope="module")
def marks():
    """{"file::test": [whether each case is of the large run]} of every file that a page names."""
    every = [*promises("reliability.md"), *promises("scaling.md")]
    names = {file for _, named in every for file, *_ in named}
    files = []
    for name in sorted(names):
        (path,) = TESTS.rglob(name)  # one, so that a name without its folder is enough
        files.append(str(path))
    command = [sys.executable, "-c", COLLECT, *files]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)
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
            pattern = rf"{start}\w*" if open_ended or not start else start
            if file not in collected:  # pytest skips all of it here, for want of JAX say
                (source,) = TESTS.rglob(file)
                assert re.search(rf"^def {pattern}\(", source.read_text(), re.MULTILINE), start
                continue
            cases = [large for key, each in marks.items() for large in each
                     if re.fullmatch(rf"{re.escape(file)}::{pattern}", key)]
            assert cases, f"{file}::{start}: {words}"
            runs = "large run only" if all(cases) else "more in the large run" if any(cases) else ""
            assert when == runs, f"{file}::{start}"


def test_no_count_of_cases_is_typed():
    """Counts change with the tests; a page that types them is wrong soon."""
    for _, named in promises("reliability.md"):
        assert not any(re.search(r"\d", when) for *_, when in named)
