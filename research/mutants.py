"""Do the tests notice small bugs? Plants each bug of `mutants.yml` in a copy of the library and
runs the tests that must fail.

    python -m research.mutants [WORD ...]      the bugs whose description holds one of the words

Ends with exit code 1 where a bug survives.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "lib"


class Mutant(BaseModel):
    """A bug: `old`, which occurs once in `file`, becomes `new`. tests: arguments of pytest."""

    bug: str
    file: str
    old: str
    new: str
    tests: str

    def plant(self, library: Path):
        """Change the file below `library`. Raises `ValueError` unless `old` occurs once."""
        path = library / "vqwave" / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.bug}: occurs {text.count(self.old)} times in {self.file}: "
                             f"{self.old}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def read_mutants() -> list[Mutant]:
    """All bugs."""
    text = Path(__file__).with_suffix(".yml").read_text(encoding="utf-8")
    return [Mutant(**values) for values in yaml.safe_load(text)]


def survives(mutant: Mutant) -> str:
    """Why the tests do not notice a bug; empty where one fails."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "lib"
        shutil.copytree(LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
        mutant.plant(library)
        result = subprocess.run(
            [sys.executable, "-m", "pytest", *shlex.split(mutant.tests), "-q", "-x", "--tb=line",
             "--no-header", "-p", "no:cacheprovider"], cwd=ROOT, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": str(library)})
        summary = (result.stdout.splitlines() or [result.stderr])[-1]
        return "" if result.returncode == 1 and " failed" in summary else f"pytest: {summary}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="of the bugs' descriptions (default: all bugs)")
    words = parser.parse_args(argv).words
    chosen = [mutant for mutant in read_mutants()
              if not words or any(word in mutant.bug for word in words)]
    survivors = 0
    for mutant in chosen:
        reason = survives(mutant)
        survivors += bool(reason)
        print(f"{'SURVIVES' if reason else 'caught  '}  {mutant.bug}"
              f"{f'  ({reason})' if reason else ''}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
