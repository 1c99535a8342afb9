"""A performer learns from the sound of what it plays, and the codec stays as it is."""

import numpy as np
import pytest
from chains import preset, save_chain, with_score
from keras import ops
from prepared import RecordingReporter, data_folder, music

from vqwave import config as configs
from vqwave.commands import train_generator as command
from vqwave.config import DataConfig, TrainingConfig
from vqwave.data import scores
from vqwave.data.windows import RehearsalWindows
from vqwave.errors import UserError
from vqwave.io import manifest, weights
from vqwave.nn.generator import Generator
from vqwave.nn.rehearsal import Rehearsal
from vqwave.train import performances
from vqwave.train.jobs import start_from_codebooks
from vqwave.train.options import RunOptions
from vqwave.train.training import train_generator

CODEC, PERFORMER = "codec-of-512", "generator-of-512"
ADVERSARY = {"late": True, "discriminators": [{"kind": "stft", "n_fft": 512, "hop": 128}]}
SHORT = TrainingConfig(steps=2, epochs=2, batch_size=4, input_length=8192)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data_folder(folder, {"a": music(3, 1), "b": music(2.5, 2)})
    return folder


@pytest.fixture(scope="module")
def trained(shared):
    def fill(root):
        described = with_score(preset(root / "plain.yml", {512: 7}, of_notes=(512,)),
                               root / "led.yml")
        values = configs.load_yaml(described.name)
        values["codecs"][CODEC]["adversary"] = ADVERSARY
        performer = values["generators"][PERFORMER]
        performer["core"] = {"kind": "frames", "code_dim": 16, "head_dim": 16}
        performer["sampling"] = {"temperature": 0.0}
        performer["conditions"][1] |= {"names": ["a/01", "b/01"], "channels": 6}
        (root / "led.yml").write_text(configs.dump_yaml(values))
        described = configs.preset(root / "led.yml")
        save_chain(root, described)
        codec = weights.find(root / "codecs", CODEC)
        model = Generator(described.generator(PERFORMER))
        start_from_codebooks(model, [codec], 0)
        weights.save(root / "generators", PERFORMER, "", model.parts, model.config,
                     {"codecs": {CODEC: codec.codes_id}})

    return shared("a performer that rehearses", fill)


def rehearsal(trained):
    performer = weights.find(trained / "generators", PERFORMER)
    model = Rehearsal(weights.find(trained / "codecs", CODEC), performer.config, seed=0)
    for part, variables in model.parts.items():
        weights.assign(variables, performer.load(part), "")
    return model


def windows_of(folder, trained, unpaired):
    tracks = manifest.read(folder)
    return RehearsalWindows(
        folder, tracks, 8192, 4, 7, scores=scores.of_corpus(folder, tracks, RecordingReporter()),
        performer=weights.find(trained / "generators", PERFORMER).config, unpaired=unpaired)


def test_a_rehearsal_plays_the_codes_of_a_performance(folder, trained):
    model, tracks = rehearsal(trained), manifest.read(folder)
    played = performances.perform(trained / "generators", weights.find(trained / "codecs", CODEC),
                                  folder, tracks, RecordingReporter())
    windows = windows_of(folder, trained, 0)
    inputs, sound = windows[0]
    vectors = model.choose_vectors({k: ops.convert_to_tensor(v) for k, v in inputs.items()},
                                   model.quantizer(model.encoder(model.front_end(sound))), False)
    for row, number in enumerate(windows.numbers(0)):
        item, place = windows.position(number)
        first = min(place // 512, len(played[tracks[item].file]) - 16)
        codes = played[tracks[item].file][first : first + 16]
        # At the ends of a window the convolutions see what lies beside it, here as there.
        np.testing.assert_allclose(vectors[row], model.quantizer.lookup(codes[None])[0], atol=1e-5)


def test_the_performers_vectors_move_those_of_the_codec_by_its_standard_deviations(trained):
    model, codec = rehearsal(trained), weights.find(trained / "codecs", CODEC)
    standard = np.asarray(model.performer.core.nearest.codebook)
    codes = np.random.default_rng(3).integers(0, standard.shape[1], (2, 1, standard.shape[0]))
    before, after = (np.asarray(model.quantizer.lookup(row[None]))[0, 0] for row in codes)
    step = np.take_along_axis(standard, codes[:, 0, :, None].transpose(1, 0, 2), axis=1)
    moved = np.einsum("kd,kdw->w", step[:, 1] - step[:, 0], model.to_codec)
    np.testing.assert_allclose(moved, after - before, atol=1e-4)
    assert np.abs(moved).max() > 0.01
    assert sum(book.shape[1] for book in codec.codebook_per_code()) == len(moved)


def test_the_last_rows_have_score_and_labels_of_other_places(folder, trained):
    paired, mixed = windows_of(folder, trained, 0)[0][0], windows_of(folder, trained, 4)[0][0]
    for name, rows in paired.items():
        np.testing.assert_array_equal(rows[:3], mixed[name][:3])
    np.testing.assert_array_equal(paired["samples"], mixed["samples"])
    assert (paired["score"][3] != mixed["score"][3]).any()


def test_a_performer_learns_and_keeps_its_codec(folder, trained, tmp_path):
    say = RecordingReporter()
    before = weights.find(trained / "generators", PERFORMER)
    options = RunOptions(tmp_path, start_from=trained / "generators", rehearse=True)
    chain = configs.preset(trained / "led.yml").chain
    train_generator(before.config, folder, trained / "codecs", options, SHORT, DataConfig(split=0.0), say,
                    chain=chain)
    after = weights.find(tmp_path, PERFORMER, "best")
    assert "learns from the sound of codec-of-512" in say.text
    assert after.record["epoch"] == 2 and after.record["codecs"] == before.record["codecs"]
    assert sorted(after.files) == ["context", "generator"]
    learnt = {path for path, array in after.load("context").items()
              if (array != before.load("context")[path]).any()}
    assert any("dilated" in path for path in learnt)
    fixed = [path for path in after.load("generator") if "codebook" in path or "weight" in path.rsplit("/", 1)[-1]]
    assert fixed
    for path in fixed:
        np.testing.assert_array_equal(after.load("generator")[path],
                                      before.load("generator")[path])
    with pytest.raises(UserError, match="begun with --rehearse"):
        train_generator(before.config, folder, trained / "codecs",
                        RunOptions(tmp_path, start_from=trained / "generators"), SHORT,
                        DataConfig(split=0.0), say, chain=chain)


def test_what_cannot_rehearse_is_refused(folder, trained, tmp_path):
    described = configs.preset(trained / "led.yml")
    options = RunOptions(tmp_path / "a", start_from=trained / "generators", rehearse=True)
    with pytest.raises(UserError, match="plays no score"):
        train_generator(described.generator("score"), folder, trained / "codecs", options, SHORT)
    codec = weights.find(trained / "codecs", CODEC)
    plain = configs.replace(codec.config, adversary=None)
    arrays = {part: codec.load(part) for part in codec.files}
    weights.save(tmp_path, CODEC, "", arrays, plain, codec.record)
    with pytest.raises(UserError, match="has no adversary"):
        Rehearsal(weights.find(tmp_path, CODEC), described.generator(PERFORMER), seed=0)
    with pytest.raises(UserError, match="--rehearse needs --start-from"):
        command.main(["--rehearse", "--data-dir", str(folder)])
