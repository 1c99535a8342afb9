"""research: codecs and chains compared, and a training on one's own music."""

import json

import imported
import keras
import librosa
import numpy as np
import pytest
from prepared import data_folder, music
from research import compare_chains, compare_codecs, own_music, results

from vqwave import cli
from vqwave import config as configs
from vqwave.config import preset
from vqwave.errors import UserError
from vqwave.io import audio, weights
from vqwave.nn.codec import load_codec
from vqwave.nn.generator import Generator
from vqwave.report import fad, folder_page
from vqwave.train import plan


@pytest.fixture
def corpora(tmp_path):
    """Two data folders, each with a split beside it: "t" tests, "v" validates, "a" trains."""
    for n, name in enumerate(("one", "two")):
        data_folder(tmp_path / name, {f"{track} {name}": music(1.0, 10 * n + i)
                                      for i, track in enumerate("atv")})
        (tmp_path / f"{name}.yml").write_text(f"test: [t {name}]\nvalidation: [v {name}]\n")
    return tmp_path


@pytest.fixture
def compare(corpora, tiny_weights, monkeypatch, capsys):
    monkeypatch.setattr(fad, "load_if_available", lambda path=None, warn=print: None)

    def run(*options):
        code = cli.entry(compare_codecs.main, [
            "--codecs", f"tiny={tiny_weights.codecs}", f"copy={corpora / 'copy'}",
            f"copy={corpora / 'copy'}", "--data-dirs", str(corpora / "one"), str(corpora / "two"),
            "--splits", str(corpora / "one.yml"), str(corpora / "two.yml"),
            "--output-dir", str(corpora), *options])
        return code, *capsys.readouterr()

    weights.copy_as_best(weights.find(tiny_weights.codecs, "vqvae_32"), corpora / "copy")
    return run


def test_every_codec_is_measured_on_every_corpus(compare, corpora, tiny_weights):
    tracks = compare_codecs.TestTracks(corpora / "one", corpora / "one.yml")
    assert [t.file for t in tracks.tracks] == ["t one.ogg.u16"]
    weights.add_to_record(weights.find(corpora / "copy", "vqvae_32"), tracks=[tracks.tracks[0].sha256[:16]])
    code, printed, error = compare("--json")
    assert code == 0, error
    rows = json.loads(printed)
    assert len(rows) == 2 * (4 + 1 + 1 + 1)  # tiny, twice the copy, Opus
    leaked = {(row["codecs"], row["corpus"]): row.get("leaked") for row in rows}
    assert leaked["copy", "one"] == "t one" and leaked["copy", "two"] is None


def test_codecs_of_one_name_become_one_row_and_a_page_is_written(compare, corpora):
    code, printed, error = compare("--only-on", f"copy={corpora / 'two'}")
    assert code == 0, error
    lines = (corpora / "research/results/codecs_on_other_music.md").read_text(
        encoding="utf-8").splitlines()
    rows = [line.split(" | ")[:3] for line in lines if line.startswith(("| tiny", "| copy"))]
    assert rows == [["| tiny", "one", f"{level}x"] for level in (512, 128, 32, 8)] + [
        ["| copy", "two", "32x"]]
    sounds = corpora / "docs/results/codecs_on_other_music"
    assert (sounds / "two_copy_32.ogg").is_file() and (sounds / "one.png").is_file()
    assert printed.count("wrote ") == len(list(sounds.iterdir())) + 1


def test_technogens_test_loss_is_of_whole_slices(tmp_path, tiny_weights):
    """The same by its formula with librosa's spectra."""
    data_folder(tmp_path / "one", {"t": music(20.0, 3), "a": music(1.0, 1)})
    (tmp_path / "one.yml").write_text("test: [t]\n")
    tracks = compare_codecs.TestTracks(tmp_path / "one", tmp_path / "one.yml")
    weight_set = weights.find(tiny_weights.codecs, "vqvae_32")
    codec, size, losses = load_codec(weight_set), 176384, []
    for start in (0, size):
        x = audio.from_u16(audio.read_window(tracks.tracks[0].path(tracks.data_dir), start, size))
        latents = np.array(codec.encoder(codec.front_end(x[None])))
        coded = np.array(codec.quantizer.lookup(codec.quantizer.encode(latents)))
        y = np.array(codec(x[None]))[0]
        a, b = (np.linalg.norm(librosa.stft(sound, n_fft=1024, hop_length=256, window="boxcar",
                                            pad_mode="reflect"), axis=-1) for sound in (x, y))
        losses.append(((x - y) ** 2).mean() + 0.8 * ((latents - coded) ** 2).mean()
                      + np.linalg.norm(a - b) / np.linalg.norm(a))
    figures = compare_codecs.slice_losses(weight_set, tracks)
    assert figures["slice_loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_generators_over_the_same_codes_are_compared(tmp_path, tiny_weights, monkeypatch, capsys):
    def embed(sound, rate):
        parts = np.array_split(np.asarray(sound, np.float32), 8)
        return np.array([[part.std(), np.abs(np.diff(part)).mean()] for part in parts])

    monkeypatch.setattr(fad, "load", lambda musicnn=None: embed)
    monkeypatch.setattr(compare_chains, "PASTS", (2.0, 30.0))
    data_folder(tmp_path / "data", {name: music(8.0, i) for i, name in enumerate("atv")})
    (tmp_path / "split.yml").write_text("test: [t]\nvalidation: [v]\n")
    cores = {"lstm": {"kind": "lstm", "units": 24},
             "window": {"kind": "transformer", "width": 16, "heads": 2, "layers": 2,
                        "hidden_dim": 16, "window": 16}}
    for name, core in cores.items():
        config = configs.replace(preset("tiny").generator(512), core=core)
        (tmp_path / name).mkdir()
        keras.utils.set_random_seed(0)
        weights.save(tmp_path / name, config.name, "", Generator(config).parts, config,
                     record={"step": 7})
    code = cli.entry(compare_chains.main, [
        "--generators", *(f"{name}={tmp_path / name}" for name in cores), "--vqvae-weights-dir",
        str(tiny_weights.codecs), "--data-dir", str(tmp_path / "data"), "--split",
        str(tmp_path / "split.yml"), "--output-dir", str(tmp_path), "--minutes", "0.1",
        "--seeds", "1", "--json"])
    printed, error = capsys.readouterr()
    assert code == 0, error
    rows = {row["chain"]: row for row in json.loads(printed)}
    assert [(row["core"], row["steps"]) for row in rows.values()] == [("lstm", 7),
                                                                      ("transformer", 7)]
    # A window of 16 frames makes the same of both pasts.
    assert rows["window"]["minute"] == pytest.approx(rows["window"]["hour"], abs=1e-4)
    assert compare_chains.render(rows.values(), compare_chains.COLUMNS).count("\n") == 3


RUN = {"origin": ["a"], "first_music": 300.0, "memory": 1.4e9}


def filled(**changes):
    values = {"generators": [{"model": name, "bits": bits, "before": 10.0, "epoch": 3}
                             for name, bits in (("top", 6.0), ("below", 8.0))],
              "distance": {"generated": 25.0, "training": 10.0, "seconds": 60.0}}
    return folder_page.Results(9, 0.5, 1, 0.1, 22050, 512, **values | changes)


def test_ones_own_music_is_held_to_its_bounds():
    targets = results.read_targets(imported.ROOT / "recipes/own_music.yml")
    figures = own_music.figures(filled(), RUN, [{"bits": 7.5}, {"bits": 8.0}])
    assert list(figures.values()) == pytest.approx([5.0, 2.5, -20.0, 0.0, 1.4])
    assert figures.keys() == targets.keys()
    nothing = own_music.figures(filled(distance=None, generators=[]), {"origin": ["a"]}, [])
    assert nothing == {}


def test_a_training_from_nothing_is_refused(tmp_path):
    (tmp_path / plan.FILE).write_text("preset: tiny\nspent: 1.0\nfinished: {}\n")
    with pytest.raises(UserError, match="did not begin with trained models"):
        own_music.read_run(tmp_path)
