"""report/tuned.py and `evaluate --html --section`: what a chain that began with another learnt."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from vqwave import cli, commands, machine
from vqwave import config as configs
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.report import report, serving, summary, tuned
from vqwave.train import plan

RUN = {"spent": 3600.0, "first_music": 300.0, "memory": 1_400_000_000, "origin": ["a", "b"],
       "verdicts": {"vqvae_512": {"treatment": "keep"}, "vqvae_128": {"treatment": "whole"}}}


def measured(**more):
    """Two levels, of which the second is the worse."""
    generators = [{"model": name, "bits": bits, "before": 10.0, "epoch": 3}
                  for name, bits in (("top", 6.0), ("below", 8.0))]
    values = {"generators": generators, "distance": {"made": 25.0, "real": 10.0, "seconds": 60.0},
              "pieces": {1: np.zeros(22050)}}
    return summary.Summary(9, 0.5, 1, 0.1, 22050, 512, **values | more)


def test_figures_are_of_the_worst_level_and_in_the_words_of_the_table(tmp_path):
    scratch = [{"bits": 7.5}, {"bits": 8.0}]
    found = tuned.figures(measured(), RUN, scratch)
    assert found == {"first_music": 5.0, "times": 2.5, "against_before": pytest.approx(-20),
                     "against_scratch": pytest.approx(0), "memory": 1.4}
    path = tmp_path / "targets.yml"
    path.write_text("".join(f"{target.what}: {{must: {must}, aim: {aim}}}\n"
                            for target, must, aim in zip(tuned.FIGURES, (15, 3, -15, 0, 3),
                                                         (5, 2, -30, -0.1, 1.5), strict=True)))
    text = tuned.section(measured(), "mine", RUN, command="python x",
                         targets=report.read_targets(path, tuned.FIGURES))
    for words in ("## Mine, beginning with trained models", "It began with a and b.\n", "```bash\npython x\n```",
                  "| ≤ 15 min | ≤ 5 min | 5 min | aim met |", "| ≤ 3 | ≤ 2 | 2.5 | must met |",
                  "| ≤ -15 % | ≤ -30 % | -20 % | must met |", "| ≤ 0 % | ≤ -0.1 % |  | not measured |",
                  "| ≤ 3 GB | ≤ 1.5 GB | 1.4 GB | aim met |", "| top | 10.00 | 6.00 | 3 |"):
        assert words in text
    note = "The whole of vqvae_128 was tuned: what stands before a generator's training is of its"
    assert note in text
    kept = RUN | {"verdicts": None}
    assert note not in tuned.section(measured(), "mine", kept)


def test_what_was_not_measured_has_no_figure():
    nothing = tuned.figures(measured(distance=None, generators=[]),
                            RUN | {"first_music": None, "memory": None})
    assert set(nothing.values()) == {None}


def test_a_training_from_nothing_has_no_such_section(tmp_path):
    (tmp_path / plan.FILE).write_text("preset: tiny\nspent: 1.0\nfinished: {}\n")
    with pytest.raises(UserError, match="began with nothing"):
        tuned.read_run(tmp_path)


def test_the_section_is_written_beside_the_page(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(serving, "load_embedder", lambda path, say: None)
    folder = tmp_path / "own"
    shutil.copytree(trained.weights, folder)
    (folder / plan.FILE).write_text(configs.dump_yaml(RUN | {"preset": "p", "finished": {}}))
    arguments = ["--data-dir", str(trained.data), "--vqvae-weights-dir", str(folder),
                 "--generator-weights-dir", str(folder), "--minutes", "0.1",
                 "--output-dir", str(tmp_path), "--name", "mine", "--section"]
    main = commands.load("evaluate").main
    assert cli.entry(main, arguments) == 2
    assert "--section goes with --html" in capsys.readouterr().err
    code = cli.entry(main, [*arguments, "--html", str(tmp_path / "page.html"),
                            "--scratch", str(trained.weights)])
    assert code == 0, capsys.readouterr().err
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "<!-- evaluate.py: mine, beginning with trained models -->" in text
    assert "| from nothing | its best epoch |" in text and "of training on" in text
    for name in weights.chain(folder).names:
        assert name in text
    assert (tmp_path / "page.html").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
def test_memory_of_processes_that_run_together_adds_up():
    code = "held = bytearray({} << 20); held[::4096] = b'x' * len(held[::4096]); print(1); input()"
    children = [subprocess.Popen([sys.executable, "-c", code.format(size)], text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                for size in (60, 90)]
    for child in children:
        child.stdout.readline()
    both = machine.children_memory()
    for child in children:
        child.communicate("\n")
    assert both >= 150 << 20
    assert machine.children_memory() >= 90 << 20
