import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from imported import run
from prepared import data_folder, music

from vqwave.dsp import metrics
from vqwave.io import audio
from vqwave.presets import load_preset

CHAIN = load_preset("tiny").chain
LEVELS, RATE = CHAIN.sizes, CHAIN.sample_rate


@pytest.fixture
def song(tmp_path):
    """Two seconds of decaying partials and noise, of a length that no level divides."""
    t = np.arange(2 * RATE + 331) / RATE
    rng = np.random.default_rng(0)
    x = sum(np.sin(2 * np.pi * hz * t) / i for i, hz in enumerate((220, 331, 447), 1)) * np.exp(-t)
    path = tmp_path / "a song [1].wav"
    audio.write(path, (0.3 * x + 0.01 * rng.standard_normal(len(t))).astype(np.float32), RATE)
    return path


def test_all_levels_write_wavs_and_pictures_of_the_inputs_length(
        capsys, song, tiny_weights, tmp_path):
    folder = tmp_path / "new" / "folder"
    code, out, notes = run(capsys, "test_vqvae", "--model", "all", "--input", song, "--output-dir",
                           folder, "--json", "--vqvae-weights-dir", tiny_weights.codecs)
    assert code == 0
    report = json.loads(out)
    assert report["input"] == str(song) and report["engine"] == "onnx"
    assert [m["model"] for m in report["models"]] == [f"vqvae_{level}" for level in LEVELS]
    original = audio.decode(song, RATE)
    for level, model in zip(LEVELS, report["models"], strict=True):
        assert model["codes"] == -(-len(original) // level)
        assert model["bitrate_kbps"] == pytest.approx(RATE / level * 6 / 1000)
        assert 0 < model["usage"] <= 1 <= model["perplexity"] <= 64
        assert model["encode_speed"] > 0 and model["decode_speed"] > 0
        copy = audio.decode(model["wav"], RATE)
        assert copy.shape == original.shape
        # The figures are those of the written file, except for the rounding to 16 bits.
        assert model["sc_db"] == pytest.approx(metrics.spectral_convergence(original, copy), abs=0.05)
        assert model["si_sdr_db"] == pytest.approx(metrics.si_sdr(original, copy), abs=0.5, rel=0.02)
        assert Path(model["picture"]).read_bytes().startswith(b"\x89PNG")
        assert f"vqvae_{level}: the default set" in notes
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"a song [1]_vqvae_{level}.{kind}" for level in LEVELS for kind in ("wav", "png"))


def test_a_part_is_written_to_this_folder_and_replaced(
        capsys, song, tiny_weights, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    line = ("test_vqvae", "--model", "vqvae_8", "--input", song, "--start", 0.5, "--seconds", 0.25,
            "--vqvae-weights-dir", tiny_weights.codecs)
    for verb, force in (("wrote", ()), ("replaced", ("--force",))):
        code, out, _ = run(capsys, *line, *force)
        assert code == 0 and f"{verb} a song [1]_vqvae_8.wav" in out and "SI-SDR dB" in out
    (path,) = (tmp_path / "here").iterdir()
    before = path.stat()
    code, out, notes = run(capsys, *line)
    assert (code, out) == (2, "") and path.stat() == before
    assert "a song [1]_vqvae_8.wav: exists; name another file, or replace this one with --force" in notes
    assert len(audio.decode(path, RATE)) == round(0.25 * RATE)


def test_user_errors_are_one_line_and_write_nothing(capsys, song, tiny_weights, tmp_path):
    (tmp_path / "text.mp3").write_text("no music" * 100)
    good = {"--model": "vqvae_8", "--input": song, "--vqvae-weights-dir": tiny_weights.codecs,
            "--output-dir": tmp_path / "out"}
    for change, why in [
        ({"--input": tmp_path / "no.mp3"}, "no.mp3: no such file"),
        ({"--input": tmp_path / "text.mp3"}, "text.mp3: not audio"),
        ({"--start": 60}, "lasts 2.0 s"),
        ({"--model": "vqvae_9"}, "no weights of vqvae_9"),
        ({"--vqvae-weights-dir": tiny_weights.generators, "--model": "generator_8"},
         "generator_8 is a generator"),
        ({"--epoch": 7}, "no epoch 7 of vqvae_8"),
        ({"--output-dir": song}, "a song [1].wav"),
    ]:
        code, out, notes = run(capsys, "test_vqvae",
                               *(text for pair in (good | change).items() for text in pair))
        assert code == 2 and not out
        assert why in notes.splitlines()[-1]
        assert not list(tmp_path.rglob("*_vqvae_8.*"))


def test_a_data_folder_is_judged_by_its_held_out_tracks(
        capsys, tiny_weights, tmp_path, monkeypatch):
    from vqwave.report import fad

    data_folder(tmp_path / "data", {f"t{i}": music(1.0, i) for i in range(5)})
    shutil.copytree(tiny_weights.codecs, tmp_path / "codecs")
    monkeypatch.setattr(fad, "load_if_available", lambda path, warn: warn("no distances"))
    given = ["--model", "vqvae_32", "--data-dir", tmp_path / "data", "--val-split", "0.3",
             "--vqvae-weights-dir", tmp_path / "codecs"]
    code, said, notes = run(capsys, "test_vqvae", *given, "--json")
    assert code == 0 and notes.startswith("no distances\n")
    found = json.loads(said)
    [row] = found["models"]
    assert found["tracks"] == 2 and found["held_out"] and row["seconds"] == 2.0
    assert row["suitable"] is False and row["shortfall"].startswith("notes kept ") and row["distance"] is None
    assert 0 <= row["notes"] < 0.6
    # Once the figures on the codec's own music are recorded, verdicts are relative to them.
    code, said, _ = run(capsys, "test_vqvae", *given, "--note")
    assert code == 0 and said.splitlines() == found["table"][:1] + [
        line[: line.index("unsuitable")] + "suitable" for line in found["table"][1:]]
    code, said, _ = run(capsys, "test_vqvae", *given, "--json", "--val-split", "0")
    assert json.loads(said)["tracks"] == 5 and not json.loads(said)["held_out"]
    code, _, notes = run(capsys, "test_vqvae", *given[:2], "--input", "a.wav", "--note",
                         "--vqvae-weights-dir", tmp_path / "codecs")
    assert code == 2 and "--note needs --data-dir" in notes
    code, _, notes = run(capsys, "test_vqvae", *given, "--label", "calm")
    assert code == 2 and "--label goes with --input" in notes
    code, _, notes = run(capsys, "test_vqvae", *given, "--force")
    assert code == 2 and "--force goes with --input" in notes
