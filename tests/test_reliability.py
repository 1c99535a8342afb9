"""docs/reliability.md: each test that it names is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_every_promise_names_tests_that_there_are():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert len(promises) > 20
    for row in promises:
        _, named, cases = row.strip("| ").split(" | ")
        assert re.search(r"\d", cases), row
        for span in named.split(", "):
            file, test, more = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)(…?)`", span).groups()
            there = re.findall(r"^def (test_\w+)", (TESTS / file).read_text(), re.MULTILINE)
            assert any(name.startswith(test) if more else name == test for name in there), span
