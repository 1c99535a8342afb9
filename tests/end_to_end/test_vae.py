"""A codec whose frames are vectors, not codes: a VAE, without and with labels. What needs codes
refuses the VAE by its name. With labels, folders are genres, and the prior is sampled for a genre.
"""

import csv
import itertools

import numpy as np
import pytest
import soundfile
from imported import run
from prepared import RecordingReporter, data_folder, music
from reference import KerasCodec

from vqwave.codecs import Labels
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.levels import ChainConfig, ChainLevel, DataConfig, TrainingConfig, fields
from vqwave.play import api, engine
from vqwave.presets import load_preset
from vqwave.report import fad, judge
from vqwave.train import training
from vqwave.train.options import RunOptions

GENRES = ("blues", "jazz", "metal")
CHAIN = ChainConfig(sample_rate=22050, block=8192,
                    levels=[ChainLevel(level=512, codec="vqvae_512")])
SETTINGS = TrainingConfig(steps=2, epochs=1, batch_size=2, input_length=4096)
REFUSED = "vqvae_512 has a quantizer of gaussian, which makes no codes"


def vae(**more):
    """The tiny codec of 512x, whose head must know its position, as a VAE."""
    return fields.replace(load_preset("tiny").codec(512), **{
        "quantizer": {"kind": "gaussian", "dim": 6, "warmup_steps": 2}} | more)


LABELLED = vae().with_labels(Labels(of="folder"))


def train(model, data, options, settings=SETTINGS, split=0.1):
    split = DataConfig(split=split)
    assert training.train_codec(model, data, options, settings, split, RecordingReporter()).finished


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder of two tracks of each genre, in a folder for each genre, as in GTZAN."""
    data = tmp_path_factory.mktemp("data")
    data_folder(data, {f"{name}/{i}": music(0.6, i) for i in range(2) for name in GENRES})
    return data


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain")
    train(vae(), data, RunOptions(out), fields.replace(SETTINGS, steps=3, epochs=2), 0.5)
    weights.save_chain(out, CHAIN)
    return out


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """The folder of a VAE that was trained with labels."""
    out = tmp_path_factory.mktemp("out")
    train(LABELLED, data, RunOptions(out))
    weights.save_chain(out, CHAIN)
    # Two steps change the embeddings too little to be heard.
    saved = weights.find(out, "vqvae_512")
    parts = {part: saved.load(part) for part in saved.files}
    parts["encoder"]["labels/embeddings"] *= 20
    weights.save(out, "vqvae_512", "", parts, saved.config)
    return out


def test_its_divergence_and_reconstruction_are_logged(plain):
    with open(plain / "vqvae_512.csv", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 2
    for row in rows:
        for side in ("", "val_"):
            assert row[f"{side}kl"] > 0 and row[f"{side}reconstruction"] > 0
    loss = rows[-1]["val_reconstruction"] + 0.01 * rows[-1]["val_kl"] / 6
    assert rows[-1]["val_loss"] == pytest.approx(loss, rel=0.01)
    assert (rows[0]["beta"], rows[1]["beta"]) == (pytest.approx(0.0025), pytest.approx(0.01))


def test_whatever_needs_codes_refuses_a_vae_by_name(plain, data, tmp_path):
    model, sound = api.load(plain, plain), music(1.0)
    for call in (lambda: model.encode(sound), lambda: model.decode(np.zeros(4, int)),
                 lambda: model.prompt(sound), lambda: model.stream(seconds=1),
                 lambda: model.generate(seconds=1)):
        with pytest.raises(UserError, match=REFUSED):
            call()
    with pytest.raises(UserError, match="the chain has no level above 512"):
        model.source(sound, 512)
    with pytest.raises(UserError, match="generator_512 needs codes, but vqvae_512 has a quantizer "
                                        "of gaussian, which makes none"):
        training.train_generator(load_preset("tiny").generator(512), data, plain,
                                 RunOptions(tmp_path), say=RecordingReporter())


def test_every_engine_encodes_and_decodes_alike_as_any_of_its_labels(trained):
    saved, sound = weights.find(trained, "vqvae_512"), music(1.0)[None]
    onnx, keras = engine.CodecEngine(saved), KerasCodec(saved)
    decoded = []
    for label in (None, "blues", "jazz", {"blues": 1, "metal": 3}):
        vectors = onnx.encode(sound, label)
        np.testing.assert_allclose(vectors, keras.encode(sound, label), atol=1e-4)
        decoded.append(onnx.decode(vectors, label))
        np.testing.assert_allclose(decoded[-1], keras.decode(vectors, label), atol=1e-4)
    for a, b in itertools.combinations(decoded, 2):
        assert np.abs(a - b).max() > 1e-4
    # Each piece of a batch may have its own label.
    vectors = onnx.encode(sound, "blues")
    batch = onnx.decode(np.repeat(vectors, 2, axis=0), ["blues", "jazz"])
    for row, label in zip(batch, ("blues", "jazz"), strict=True):
        np.testing.assert_allclose(row[None], onnx.decode(vectors, label), atol=1e-5)


def test_a_codec_is_heard_with_a_label_and_judged_with_each_tracks_own(
        trained, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", music(0.5, 1), 22050)
    arguments = ["test_vqvae", "--model", "all", "--vqvae-weights-dir", trained]
    sounds = []
    for label in ("jazz", "metal"):
        assert run(capsys, *arguments, "--input", "a.wav", "--label", label, "--force")[0] == 0
        sounds.append(soundfile.read("a_vqvae_512.wav")[0])
    assert np.abs(sounds[0] - sounds[1]).max() > 1e-4
    judged_as = []
    monkeypatch.setattr(fad, "load_if_available", lambda path, say: None)
    measure = judge.judge
    monkeypatch.setattr(judge, "judge", lambda *codec_and_sounds, track_labels, **options: (
        judged_as.extend(track_labels), measure(*codec_and_sounds, track_labels=track_labels, **options))[1])
    assert run(capsys, *arguments, "--data-dir", data)[0] == 0
    assert judged_as and set(judged_as) <= set(GENRES)
