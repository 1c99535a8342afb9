"""Do the tests notice small bugs? Plants each bug of `mutants.yml` in a copy of the library and
runs the tests that must fail. Ends with exit code 1 where a bug survives.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from vqwave import cli
from vqwave.io.files import CHECKOUT
from vqwave.levels import parse_yaml


class Mutant(NamedTuple):
    """A bug: `old`, which occurs once in `file`, becomes `new`. tests: arguments of pytest."""

    bug: str
    file: str
    old: str
    new: str
    tests: str


def read_mutants() -> list[Mutant]:
    path = Path(__file__).with_suffix(".yml")
    return [Mutant(**values) for values in parse_yaml(path.read_bytes(), path)]


def survives(mutant: Mutant) -> str:
    """Why the tests do not notice a bug; empty if they pass without it and fail with it."""
    summary = run_tests(mutant, planted=False)
    if " passed" not in summary or " failed" in summary:
        return f"without the bug: {summary}"
    summary = run_tests(mutant, planted=True)
    return "" if " failed" in summary else f"with the bug: {summary}"


def run_tests(mutant: Mutant, planted: bool) -> str:
    """The last line of pytest on a copy of the library."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "lib"
        shutil.copytree(CHECKOUT / "lib", library, ignore=shutil.ignore_patterns("__pycache__"))
        if planted:
            path = library / "vqwave" / mutant.file
            before, after = path.read_text(encoding="utf-8").split(mutant.old)
            path.write_text(before + mutant.new + after, encoding="utf-8")
        result = subprocess.run(
            [sys.executable, "-m", "pytest", *shlex.split(mutant.tests), "-q", "-x", "--tb=line",
             "--no-header", "-p", "no:cacheprovider"], cwd=CHECKOUT, capture_output=True,
            text=True, env=os.environ | {"PYTHONPATH": str(library)})
        return (result.stdout.splitlines() or [result.stderr])[-1]


def main(argv=None) -> int:
    parser = cli.parser(" ".join(__doc__.split()), "", "chroma 'a loss'")
    parser.add_argument("words", nargs="*", help="plant bugs described with one of these words")
    words, reasons = parser.parse_args(argv).words, []
    for mutant in read_mutants():
        if not words or any(word in mutant.bug for word in words):
            reasons.append(survives(mutant))
            print("SURVIVES" if reasons[-1] else "caught", mutant.bug, reasons[-1], flush=True)
    print(f"{reasons.count('')} of {len(reasons)} caught")
    return int(any(reasons))


if __name__ == "__main__":
    sys.exit(cli.entry(main))
