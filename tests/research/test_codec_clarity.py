import imported
import numpy as np
import pytest
from prepared import data_folder, music
from research import clarity, excerpts

from vqwave.io import audio

RATE = 22050


@pytest.fixture
def corpora(tmp_path):
    """Two data folders: "one" has a test and a fresh track, "two" a test track; "a" trains."""
    for n, (name, split) in enumerate((("one", "test: [t one]\nfresh: [f one]\n"), ("two", "test: [t two]\n"))):
        data_folder(tmp_path / name, {f"{track} {name}": music(2.0, 10 * n + i) for i, track in enumerate("atf")})
        (tmp_path / f"{name}.yml").write_text(split)
    return tmp_path


def run(corpora, tiny_weights, capsys, *options):
    return imported.run(
        capsys, "research.clarity", "--data-dirs", corpora / "one", corpora / "two", "--splits", corpora / "one.yml",
        corpora / "two.yml", "--vqvae-weights-dir", tiny_weights.codecs, "--output-dir", corpora, *options)


def test_recordings_and_copies_stand_side_by_side(corpora, tiny_weights, capsys):
    code, printed, error = run(corpora, tiny_weights, capsys)
    assert code == 0, error
    page = (corpora / "research/results/clarity.md").read_text(encoding="utf-8")
    assert "one test: real" in page and "one fresh: real" in page and "two test: real" in page
    assert "two fresh" not in page
    for name in (*clarity.ROWS.values(), *clarity.COPIES.values(), *clarity.BOUNDED.values()):
        assert f"| {name} |" in page, name


def test_an_exact_copy_has_no_faults():
    figures = clarity.measure([(x, x) for x in (music(3.0, 1), music(2.0, 2))], RATE)
    faults = {key: figures["compared"][key] for key in ("contrast", "roughness", "whistle", "step", "on_grid", "highs", "loudness")}
    assert set(faults.values()) == {0.0} and figures["compared"]["notes"] == pytest.approx(1.0)
    assert all(figures["real"][key] == figures["codec"][key] for key in clarity.ROWS)


def test_a_minute_from_twenty_seconds_on_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(excerpts, "FIRST_SECOND", 0.2)
    monkeypatch.setattr(excerpts, "SECONDS", 0.5)
    sound = music(1.2, 1)
    data_folder(tmp_path / "data", {"a": sound, "short": sound[:6000], "b": sound[::-1]})
    (tmp_path / "split.yml").write_text("test: [a, short]\n")
    long, short = excerpts.read_split(tmp_path / "data", tmp_path / "split.yml")["test"]
    for track, first, count in ((long, round(0.2 * RATE), round(0.5 * RATE)), (short, 2000, 4000)):
        np.testing.assert_array_equal(excerpts.read(tmp_path / "data", track), audio.from_u16(
            audio.read_window(track.path(tmp_path / "data"), first, count)))


def test_a_generator_or_another_sample_rate_is_refused(corpora, tiny_weights, capsys):
    code, _, error = run(corpora, tiny_weights, capsys, "--vqvae-weights-dir", tiny_weights.generators, "--model", "generator_512")
    assert code == 2 and "generator" in error
    data_folder(corpora / "slow", {"t": music(1.0, 1), "a": music(1.0, 2)}, sample_rate=8000)
    (corpora / "slow.yml").write_text("test: [t]\n")
    code, _, error = run(corpora, tiny_weights, capsys, "--data-dirs", corpora / "slow", "--splits", corpora / "slow.yml")
    assert code == 2 and "8000 Hz" in error
