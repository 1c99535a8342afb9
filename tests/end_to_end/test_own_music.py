"""Users' folders through train_all.py: each trains, or is refused in one line. Guards against
crashes on degenerate music. The training begins with random weights of the tiny top level.
"""


import numpy as np
import pytest
from chains import save_levels
from commands import done, stages_are_forked
from encoded import tone
from prepared import data_folder, music

from vqwave.io import weights
from vqwave.presets import load_preset

TINY = load_preset("tiny")
RATE = 22050


def short_report():
    """A setting: short reports without distances, forked trainings."""
    stages_are_forked()
    from vqwave.report import fad, folder_page

    measure = folder_page.measure
    folder_page.measure = lambda music, data, sides, spans, minutes, *more: measure(
        music, data, sides, spans, 0.1, *more)
    fad.load_if_available = lambda path=None, warn=print: None


@pytest.fixture(scope="module")
def origin(tmp_path_factory, tiny_weights):
    """Trained models of one level; the codec serves everything, for it does nothing at home."""
    folder = tmp_path_factory.mktemp("origin")
    save_levels(folder, TINY.chain)
    weights.copy_as_best(weights.find(tiny_weights.generators, "generator_512"), folder)
    codec = weights.copy_as_best(weights.find(tiny_weights.codecs, "vqvae_512"), folder)
    weights.add_to_record(codec, held_out={"notes": 0.0, "mel": 1e6, "distance": None, "seconds": 1.0})
    return folder


def train(tmp_path, origin, data, *more):
    """(exit code, what was printed) of a training of two steps into `tmp_path`/out."""
    code, said, _ = done(tmp_path / "log", "train_all", "--data-dir", data, "--start-from", origin,
                         "--output-dir", tmp_path / "out", "--steps", 2, "--epochs", 1,
                         "--batch-size", 2, "--offsets", 1, "--transpose", 1, "--no-fp16",
                         *(more or ["--no-report"]), setting=short_report)
    return code, said


FOLDERS = {
    "one note": lambda: {f"note {i}": tone(4.0, RATE) for i in range(4)},
    "12 tracks of two seconds": lambda: {f"t{i:03}": music(2.0, i % 5) * (0.5 + i / 100)
                                         for i in range(12)},
    "one song of a minute": lambda: {"song": np.tile(music(10.0, 1), 6)},
}
BY_DEFAULT = "one song of a minute"
"""The others are trained on in the large run."""


@pytest.mark.parametrize("kind", [
    pytest.param(kind, marks=[] if kind == BY_DEFAULT else pytest.mark.large) for kind in FOLDERS])
def test_any_folder_of_music_is_trained_on(kind, origin, tmp_path):
    data_folder(tmp_path / "data", FOLDERS[kind]())
    code, said = train(tmp_path, origin, tmp_path / "data")
    assert code == 0, said
    assert "Traceback" not in said and "vqvae_512      kept: this codec suits" in said
    assert weights.find(tmp_path / "out", "generator_512").config.level == 512
    alone = kind.startswith("one song")
    assert ("variations of the one track" in said) == alone
    record = weights.find(tmp_path / "out", "generator_512").record
    # Held-out tracks judge what it begins with, too; where there are none nothing can.
    assert ("beginning" in record) != alone
    if alone:
        models = ("--vqvae-weights-dir", tmp_path / "out", "--generator-weights-dir", tmp_path / "out")
        code, said, _ = done(tmp_path / "log", "generate_audio", *models, "--seconds", 1, "--output",
                             tmp_path / "piece.wav")
        assert code == 0 and (tmp_path / "piece.wav").stat().st_size > RATE, said


@pytest.mark.large
def test_an_unsuitable_codec_is_tuned(origin, tiny_weights, tmp_path):
    codec = weights.find(origin, "vqvae_512")
    poor = tmp_path / "poor"
    weights.copy_as_best(weights.find(origin, "generator_512"), poor)
    weights.copy_as_best(weights.find(tiny_weights.codecs, "vqvae_512"), poor)  # says nothing of its home
    weights.save_chain(poor, weights.chain(origin))
    data_folder(tmp_path / "data", {f"t{i}": music(4.0, i) for i in range(4)})
    code, said = train(tmp_path, poor, tmp_path / "data", "--transpose", 0)
    assert code == 0, said
    for line in ("== generator_512 (1 of 2)", "== vqvae_512 decoder (2 of 2)"):
        assert line in said
    tuned = weights.find(tmp_path / "out", "vqvae_512")
    assert tuned.codes_id == codec.codes_id and tuned.checksum != codec.checksum
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 5 and "vqvae_512" in page
