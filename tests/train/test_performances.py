"""A decoder learns the codes that a performer plays from the scores of the tracks."""

import shutil

import keras
import numpy as np
import pytest
from chains import preset, save_chain, with_score
from prepared import RecordingReporter, data_folder, music

from vqwave.codecs.codec_layer import Codec
from vqwave.data import scores
from vqwave.errors import UserError
from vqwave.generators.generator_layer import Generator
from vqwave.io import manifest, weights
from vqwave.levels import DataConfig, TrainingConfig, dump_yaml, load_yaml, replace
from vqwave.play import engine
from vqwave.play.labels import Mixture, read_labels
from vqwave.presets import load_preset
from vqwave.train import performances
from vqwave.train.options import RunOptions
from vqwave.train.training import train_codec

CODEC, PERFORMER = "codec-of-512", "generator-of-512"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data_folder(folder, {"a": music(3, 1), "b": music(2.5, 2)})
    return folder


@pytest.fixture(scope="module")
def trained(shared):
    def fill(root):
        described = with_score(preset(root / "plain.yml", {512: 2, 128: 2}), root / "led.yml")
        values = load_yaml(described.name)
        for performer in values["generators"].values():
            if performer["core"].get("kind") != "roll":
                performer["core"] = {"kind": "frames", "code_dim": 8, "head_dim": 16}
                performer["sampling"] = {"temperature": 0.0}
        values["generators"][PERFORMER]["conditions"][1] |= {"names": ["a/01", "b/01"], "channels": 6}
        (root / "led.yml").write_text(dump_yaml(values))
        described = load_preset(root / "led.yml")
        save_chain(root, described)
        ids: dict[str, str] = {}
        for level, name in described.chain.codecs.items():
            codec = weights.find(root / "codecs", name)
            ids[name] = codec.codes_id
            keras.utils.set_random_seed(0)
            model = Generator(described.generator(level))
            vectors, kernel = codec.codebook_per_code(), model.core.vectors.kernel
            model.core.start_outputs(vectors, np.random.default_rng(0))
            # Vectors as large as codes: an untrained context of codes is a hundredth of a score's.
            kernel.assign(kernel * np.std(vectors[1]) * (0.25 if level == 512 else 25.0))
            weights.save(root / "generators", model.config.name, "", model.parts, model.config,
                         {"codecs": dict(ids)})

    root = shared("performers of tracks", fill)
    return root


def vectors_of(trained, level, codes):
    """The codes' vectors: of codes with equal vectors, any may play."""
    books = weights.find(trained / "codecs", f"codec-of-{level}").codebook_per_code()
    return np.concatenate([book[codes[:, k]] for k, book in enumerate(books)], axis=-1)


def perform(trained, folder, tracks, level=512, generators=None, say=None):
    """The codes of performances, by file."""
    codec = weights.find(trained / "codecs", f"codec-of-{level}")
    return performances.perform(generators or trained / "generators", codec, folder, tracks, say or RecordingReporter())


def play(generators, folder, track, uniforms):
    """The codes that the engine plays from the score of a track: int32 [frames, 2]."""
    player = engine.GeneratorEngine(weights.find(generators, PERFORMER), "onnx-float32")
    frames, halo = len(uniforms), player.config.conditions[0].halo
    rows = scores.of_track(folder, track).in_frames(-halo * 512 / 22050, 512 / 22050, frames + 2 * halo, 20)
    part = read_labels(f"{track.file[0]}/01", player.config.labels, 1)
    context = player.context({"score": rows[None], "label": Mixture(part, part).pairs(0, frames)})
    played, *_ = player.sample(context, uniforms[None], np.full((1, 2), 64, np.int32), player.initial_state(1))
    return played[0]


def test_the_codes_of_a_track_are_those_of_the_engine(trained, folder, monkeypatch):
    monkeypatch.setattr(performances, "PART", 50)
    tracks = manifest.read(folder)
    codes = perform(trained, folder, tracks)
    assert {file: len(rows) for file, rows in codes.items()} == {
        track.file: track.samples // 512 for track in tracks}
    heard = codes[tracks[1].file]
    played = play(trained / "generators", folder, tracks[1], np.zeros(heard.shape, np.float32))
    # A vector may lie on a boundary of rounding.
    assert np.mean(vectors_of(trained, 512, heard) == vectors_of(trained, 512, played)) > 0.98
    assert len(np.unique(played[..., 1])) > 1


def test_a_lower_performer_reads_the_codes_of_the_performer_above(trained, folder, monkeypatch):
    monkeypatch.setattr(performances, "PART", 64)
    (track, _), say = manifest.read(folder), RecordingReporter()
    upper, lower = (perform(trained, folder, [track], level, say=say)[track.file] for level in (512, 128))
    assert len(lower) == 4 * len(upper)
    assert say.text.count("performances of generator-of-512") == 2
    player = engine.GeneratorEngine(weights.find(trained / "generators", "generator-of-128"), "onnx-float32")
    halo = player.config.halo
    source = np.pad(upper, ((halo, halo), (0, 0)), constant_values=player.config.pad_token)
    played, *_ = player.sample(player.context({"source": np.int32(source[None])}),
                               np.zeros((1, len(lower), 2), np.float32),
                               np.full((1, 2), 64, np.int32), player.initial_state(1))
    assert np.mean(vectors_of(trained, 128, lower) == vectors_of(trained, 128, played[0])) > 0.98
    assert len(np.unique(lower[:, 1])) > 1


def test_performances_have_the_noise_of_their_performer(trained, folder, tmp_path):
    copy = tmp_path / "generators"
    shutil.copytree(trained / "generators", copy)
    described = copy / f"{PERFORMER}.yml"
    described.write_text(described.read_text().replace("temperature: 0.0", "temperature: 0.8"))
    track = manifest.read(folder)[0]
    codes, again = (perform(trained, folder, [track], generators=copy)[track.file] for _ in range(2))
    np.testing.assert_array_equal(codes, again)
    nearest = perform(trained, folder, [track])[track.file]
    uniforms = np.random.default_rng([int(track.sha256[:8], 16), 512]).random((performances.PART, 2), np.float32)
    played = play(copy, folder, track, uniforms[: len(codes)])
    heard, expected, still = (vectors_of(trained, 512, x) for x in (codes, played, nearest))
    assert np.mean(heard == expected) > 0.98  # a vector may lie on a boundary of rounding
    assert np.mean(heard != still) > 0.1


def test_a_performer_of_other_codes_is_refused(trained, tmp_path):
    other = weights.find(trained / "codecs", CODEC)
    weights.save(tmp_path, CODEC, "", Codec(other.config, seed=5).parts, other.config)
    with pytest.raises(UserError, match="codes from a different codec"):
        performances.perform(trained / "generators", weights.find(tmp_path, CODEC), "", [], print)


def test_a_decoder_learns_performances_and_the_codes_stay(trained, folder, tmp_path):
    codec = weights.find(trained / "codecs", CODEC)
    model = replace(codec.config, adversary={"late": True, "discriminators": [
        {"n_fft": 512, "hop": 128}]})
    keras.utils.set_random_seed(0)
    say = RecordingReporter()
    train_codec(model, folder, RunOptions(
        tmp_path, start_from=trained / "codecs", decoder_only=True,
        performer=trained / "generators"), TrainingConfig(
        steps=2, epochs=2, batch_size=2, input_length=8192), DataConfig(split=0.0), say)
    assert "performances of generator-of-512" in say.text
    best = weights.find(tmp_path, CODEC, "best")
    assert best.record["epoch"] == 2 and best.codes_id == codec.codes_id
    np.testing.assert_array_equal(best.codebooks()[0], codec.codebooks()[0])
