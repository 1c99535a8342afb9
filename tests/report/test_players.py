"""report/players.py and compare_chains.py: generators of the same codes as players."""

import json

import keras
import numpy as np
import pytest
from prepared import data_folder, music

from vqwave import cli, commands
from vqwave import config as configs
from vqwave.config import preset
from vqwave.io import weights
from vqwave.nn.generator import Generator
from vqwave.report import fad, players

CORES = {"lstm": {"kind": "lstm", "units": 24},
         "window": {"kind": "transformer", "width": 16, "heads": 2, "layers": 2, "hidden_dim": 16,
                    "window": 16}}


@pytest.fixture
def main(tmp_path, tiny_weights, monkeypatch, capsys):
    """The command on two generators with random weights: (exit code, stdout, stderr)."""
    def embed(sound, rate):
        parts = np.array_split(np.asarray(sound, np.float32), 8)
        return np.array([[part.std(), np.abs(np.diff(part)).mean()] for part in parts])

    monkeypatch.setattr(fad, "load", lambda musicnn=None: embed)
    monkeypatch.setattr(players, "MINUTE", 2.0)
    monkeypatch.setattr(players, "HOUR", 30.0)
    monkeypatch.setattr(players, "LISTEN", 1.0)
    data_folder(tmp_path / "data", {name: music(8.0, i) for i, name in enumerate("atv")})
    (tmp_path / "split.yml").write_text("test: [t]\nvalidation: [v]\n")
    for name, core in CORES.items():
        config = configs.replace(preset("tiny").generator(512), core=core)
        (tmp_path / name).mkdir()
        keras.utils.set_random_seed(0)
        weights.save(tmp_path / name, config.name, "", Generator(config).parts, config,
                     record={"step": 7})

    def run(*more):
        code = cli.entry(commands.load("compare_chains").main, [
            "--generators", *(f"{name}={tmp_path / name}" for name in CORES),
            "--vqvae-weights-dir", str(tiny_weights.codecs), "--data-dir", str(tmp_path / "data"),
            "--split", str(tmp_path / "split.yml"), "--output-dir", str(tmp_path), "--minutes",
            "0.1", "--seeds", "1", "2", *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_generators_are_measured_by_what_they_predict_and_play(main, tmp_path):
    code, said, wrong = main("--json")
    assert code == 0, wrong
    rows = json.loads(said)
    assert not (tmp_path / "RESULTS.md").exists()
    assert [(row["player"], row["core"], row["steps"]) for row in rows] == [
        ("lstm", "lstm", 7), ("window", "transformer", 7)]
    for row in rows:
        assert row["bits"] == pytest.approx(6, abs=0.5)
        assert row["a_second"] == pytest.approx(row["bits"] * 22050 / 512)
        assert row["minute"] == pytest.approx(6, abs=0.5) and len(row["each"]) == 2
        assert np.isfinite([row["fad"], row["pause"], row["line"], row["key"]]).all()
    # Two layers of 16 frames are full after two seconds, 86 frames: the rest of the hour is gone.
    assert rows[1]["hour"] == pytest.approx(rows[1]["minute"], abs=1e-4)

    code, said, _ = main("--section", "cores over tiny")
    assert code == 0
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "## Cores over tiny" in page and f"| window | transformer | 7 | {rows[1]['bits']:.2f} |" in page
    assert "[lstm](docs/results/cores_over_tiny/lstm.ogg)" in page and "| test tracks |" in page
    for file in ("lstm.ogg", "window.ogg", "notes.png"):
        assert (tmp_path / "docs" / "results" / "cores_over_tiny" / file).stat().st_size > 500


def test_a_folder_without_generators_is_one_line(main, tmp_path):
    code, _, said = main("--generators", f"x={tmp_path / 'data'}")
    assert code == 2 and "no weights of generator_512" in said.splitlines()[-1]
