import shlex
from pathlib import Path

from imported import ROOT, script

mutants = script("research.mutants")


def test_every_bug_can_be_planted():
    bugs = mutants.read_mutants()
    assert len(bugs) >= 45
    for mutant in bugs:
        text = (ROOT / "lib/vqwave" / mutant.file).read_text(encoding="utf-8")
        assert text.count(mutant.old) == 1 and mutant.old != mutant.new, mutant.bug
        assert Path(ROOT, shlex.split(mutant.tests)[0]).is_file(), mutant.bug
