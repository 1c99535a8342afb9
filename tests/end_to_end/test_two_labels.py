"""Two folders of clearly different sounds as two labels, which a tiny generator learns."""

import imported
import numpy as np
import pytest
from chains import save_levels
from prepared import RecordingReporter, data_folder
from research.corpus import Corpus, Plan
from research.evaluators import generators

from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.levels import DataConfig, TrainingConfig, replace
from vqwave.play import api
from vqwave.presets import load_preset
from vqwave.train import training
from vqwave.train.options import RunOptions

NAME = "generator_512"
STEPS = 80


def tone(seconds, pitch, seed):
    """float32 [samples] of a tone that wavers around one pitch, in Hz."""
    random = np.random.default_rng(seed)
    t = np.arange(round(22050 * seconds)) / 22050
    return (0.4 * np.sin(2 * np.pi * pitch * (1 + 0.02 * np.sin(3 * t)) * t)
            + 0.05 * random.normal(size=t.size)).astype(np.float32)


def sounds(labels):
    return {f"{label}/{label}{i}": tone(6, pitch, i) for label, pitch in labels.items() for i in range(4)}


def labelled(**more):
    model = load_preset("tiny").generator(NAME)
    return replace(model, conditions=[{"kind": "labels", "of": "folder", "channels": 8} | more])


SETTINGS = TrainingConfig(steps=STEPS, epochs=1, batch_size=8, input_length=32768, offsets=1,
                          learning_rate=1e-2, warmup=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data_folder(folder, sounds({"low": 110, "high": 1760}))
    return folder


def run(model, data, codecs, out, say=None, steps=2, **more):
    return training.train_generator(model, data, codecs, RunOptions(out, promote=True, **more),
                                    replace(SETTINGS, steps=steps),
                                    DataConfig(split=0.0, trim_silence=None), say or RecordingReporter())


@pytest.fixture(scope="module")
def trained(data, tiny_weights, tmp_path_factory):
    """The folder of a generator that learnt both labels, and what its training said."""
    out, say = tmp_path_factory.mktemp("out"), RecordingReporter()
    run(labelled(), data, tiny_weights.codecs, out, say, STEPS)
    save_levels(out, load_preset("tiny").chain)
    return out, say


def test_the_vocabulary_stands_beside_the_weights(trained):
    out, say = trained
    assert weights.find(out, NAME).config.labels.names == ("high", "low")
    assert "labels by folder: high (4), low (4)" in say.lines
    assert "names: [high, low]" in (out / f"{NAME}.yml").read_text()


def test_labels_save_bits(trained, data, tiny_weights, tmp_path):
    (tmp_path / "split.yml").write_text("test: [low0, high0]\n")
    music = api.load(tiny_weights.codecs, trained[0], engine="onnx-float32")
    corpus = Corpus(music, data, tmp_path / "split.yml",
                    Plan(512, bits_seconds=4.0, warm_up=0.2),
                    cache_dir=tmp_path / "cache")
    figures = dict(generators.run(corpus))
    bits_right, without, wrong = (figures[f"bits a frame{what}, 512x"] for what in (
        "", " without the label", " with another label"))
    assert bits_right < without < wrong
    assert figures["bits that the label is worth, against none, worst level"] == pytest.approx(
        without - bits_right)


def test_the_command_line_takes_a_label(trained, tiny_weights, tmp_path, capsys):
    def play(*more):
        code, _, notes = imported.run(
            capsys, "generate_audio", "--seconds", 1, "--seed", 1, "--output", tmp_path / "out.wav",
            "--force", "--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir",
            trained[0], *more)
        return code, notes.splitlines()[-1]

    heard = set()
    for more in ((), ("--label", "low"), ("--label", "high"), ("--label", "low:0.7,high:0.3"),
                 ("--label", "low", "--guidance", "3")):
        assert play(*more)[0] == 0
        heard.add((tmp_path / "out.wav").read_bytes())
    assert len(heard) == 5
    code, error = play("--label", "lo")
    assert code == 2 and "'lo'; did you mean 'low'?" in error


def test_weights_without_labels_learn_them(data, tiny_weights, tmp_path):
    say, out = RecordingReporter(), tmp_path / "out"
    run(labelled(), data, tiny_weights.codecs, out, say, start_from=tiny_weights.generators)
    assert any(line.startswith("begins with") and line.endswith(", and learns labels by folder (high, low)")
               for line in say.lines)
    assert weights.find(out, NAME).config.labels.names == ("high", "low")
    run(labelled(), data, tiny_weights.codecs, out, steps=4, start_from=tiny_weights.generators)
    assert weights.find(out, NAME, "best").config.labels.names == ("high", "low")


def test_training_never_begins_with_weights_of_other_labels(trained, data, tiny_weights, tmp_path):
    source, _ = trained
    for model, start, message in (
        (labelled(names=["low", "mid"]), source,
         r"with labels by folder \(high, low\); it cannot be trained with labels by folder \(low, mid\)"),
        (load_preset("tiny").generator(NAME), source, "it cannot be trained with no labels"),
    ):
        with pytest.raises(UserError, match=message):
            run(model, data, tiny_weights.codecs, tmp_path / "other", start_from=start)
