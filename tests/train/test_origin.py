"""The training of a chain that begins with trained models."""

import argparse
import dataclasses

import imported
import planned
import pytest
from prepared import data_folder, music, save_numbers

from vqwave.codecs import Labels
from vqwave.commands import arguments
from vqwave.errors import UserError
from vqwave.io import manifest, splits, weights
from vqwave.levels import DataConfig, TrainingConfig, load_yaml, override, replace, validate
from vqwave.presets import load_preset
from vqwave.train import origin, plan, run_plan
from vqwave.train.origin import BaseModels, CorpusSize

TINY = load_preset("tiny")
CHAIN = replace(TINY.chain, end=128)


@pytest.fixture
def folder(tmp_path):
    """The weights of a chain that ends at 128x, as a training leaves them, with one number in each file."""
    folder = tmp_path / "source"
    training = TrainingConfig(learning_rate=1e-3, steps=777, offsets=2, batch_size=32)
    for level in CHAIN.sizes:
        for model in (TINY.codec(level), TINY.generator(level)):
            save_numbers(folder, model, "", level, {"id": model.name, "step": 9},
                         training=training, data=DataConfig(trim_silence=0.3))
    weights.save_chain(folder, CHAIN)
    return folder


@pytest.fixture
def data(tmp_path):
    data_folder(tmp_path / "data", {f"t{i}": music(0.5, i) for i in range(4)})
    return tmp_path / "data"


@pytest.fixture
def commands(monkeypatch):
    """The recorded tasks, and the names of unsuitable codecs."""
    run, poor = [], set()

    def end(task, spend):
        run.append(task)
        spend(60.0)
        if task.kind == "train" and task.options.start_from:
            weights.add_to_record(weights.find(task.options.output_dir, task.name), step=len(run))
        if task.kind != "judge":
            return 0, None
        return 0, ({name: "notes 0.5, needs 0.6" * (name in poor) for name in task.rest[0]}, ["a table"])

    planned.record(monkeypatch, end)
    return run, poor


def trainings(run):
    return [task.name + " decoder" * task.options.decoder_only for task in run if task.kind == "train"]


@pytest.fixture
def begin(folder, data, tmp_path, commands):
    main = imported.script("train_all").main

    def begin(*options, data=data, out=tmp_path / "out"):
        return main(["--data-dir", str(data), "--output-dir", str(out), "--start-from",
                     str(folder), "--no-fp16", *options])

    return begin


def test_suitable_codecs_are_kept_and_generators_are_trained_further(begin, folder, data, tmp_path,
                                                                     commands, capsys):
    run, out = commands[0], tmp_path / "out"
    assert begin("--hours", "1", "--val-split", "0.3", "--seed",
                 "4", "--musicnn", "musicnn.whl") == 0
    assert [task.kind for task in run] == ["judge", "train", "train", "report"]
    for task in (run[0], run[-1]):
        assert (str(task.musicnn), task.split) == ("musicnn.whl", out / "split.yml")
    # Down to the level that plays, each beginning with its earlier weights.
    assert trainings(run) == ["generator_512", "generator_128"]
    assert [task.options.start_from for task in run[1:3]] == [folder] * 2
    # A share is drawn once, and written down by file.
    drawn = splits.split(manifest.read(data), 0.3, 4)[1]
    assert load_yaml(out / "split.yml")["validation"] == [
        track.file.removesuffix(".u16") for track in drawn]
    # The hour is shared out among the generators, after the minute that measuring took.
    assert run[1].options.minutes == pytest.approx((59 - plan.ENDING / 60) / 2)
    assert run[-1].rest[0] == out / "report.html"
    for name in ("vqvae_512", "vqvae_128", "generator_512", "generator_128"):
        source, copy = weights.find(folder, name), weights.find(out, name)
        assert (copy.tag, copy.checksum) == ("best", source.checksum)
    assert weights.chain(out).sizes == (512, 128)
    output = capsys.readouterr().out
    assert "a table" in output and "vqvae_512      kept: this codec suits the music" in output
    assert "beginning with" in output and "3 semitones higher and lower" in output
    # What is decided is decided once.
    run.clear()
    begin("--hours", "1", "--val-split", "0.3", "--seed", "4")
    assert [task.kind for task in run] == ["report"]


def test_of_unsuitable_codecs_the_decoders_are_tuned_after_the_generators(begin, folder, commands, capsys):
    run, poor = commands
    poor |= {"vqvae_512", "vqvae_128"}
    begin("--hours", "1", "--no-report")
    assert trainings(run) == ["generator_512", "generator_128", "vqvae_512 decoder", "vqvae_128 decoder"]
    assert [task.options.start_from for task in run[1:]] == [folder] * 4
    # Of the minutes that are left each generator has 2.5 parts of 6, each decoder half a part.
    assert run[1].options.minutes == pytest.approx((59 - plan.ENDING / 60) * 2.5 / 6, abs=0.01)
    output = capsys.readouterr().out
    assert "vqvae_128 decoder at most" in output and "notes 0.5, needs 0.6" in output
    run.clear()
    begin("--hours", "1", "--no-report")
    assert run == []
    begin("--steps", "9", "--no-report")
    assert [task.kind for task in run] == ["train"] * 4


def name_folders(data):
    """Put half of the tracks into a folder a, the others into b."""
    manifest.write(data, [dataclasses.replace(t, source=f"/music/{'ab'[i % 2]}/{i}.ogg")
                          for i, t in enumerate(manifest.read(data))])


def test_generators_learn_labels_and_keep_them(begin, folder, data, commands, capsys, monkeypatch):
    run = commands[0]
    name_folders(data)
    with pytest.raises(UserError, match="were trained with no labels; --from-scratch trains"):
        begin("--label", "folder", "--steps", "2")
    labels = validate(Labels, {"of": "folder", "names": ["a", "b"]})
    monkeypatch.setattr(BaseModels, "labels_of", lambda *_: labels)
    more = ("--steps", "2", "--no-report")
    begin("--label", "folder", *more)
    assert [task.model.labels.of for task in run[1:]] == ["folder", "folder"]
    assert [task.options.start_from for task in run[1:]] == [folder, folder]
    assert "  generators learn each track's folder: a, b" in capsys.readouterr().out
    run.clear()
    begin("--label", "folder", *more)
    assert run == []
    with pytest.raises(UserError, match="a training with label folder, not none"):
        begin(*more)


def test_settings_fit_the_amount_of_music(tmp_path, folder):
    def adopted(name, hours):
        begun = BaseModels.find(folder)
        begun.adopt(CHAIN, tmp_path / name, CorpusSize(3, hours, 1, 0.1))
        return load_preset(str(tmp_path / name / origin.PRESET_FILE))

    small, large = adopted("small", 0.3), adopted("large", 3.0)
    for preset, transpose, gain, dropout, rate, patience, passes in (
            (small, 3, origin.GAIN, 0.1, origin.SMALL_RATE, origin.SMALL_PATIENCE,
             origin.SMALL_PASSES),
            (large, 0, 0.0, 0.0, 1e-3, origin.PATIENCE, origin.PASSES)):
        training = preset.trainings["generator_128"]
        assert (training.transpose, training.patience) == (transpose, patience)
        assert training.gain == gain and not preset.trainings["vqvae_8"].gain
        assert (training.learning_rate, training.offsets) == (rate, 2)
        # As many samples at once as memory has room for, of short windows all.
        assert training.batch_size == 32
        codec_training = preset.trainings["vqvae_8"]
        assert codec_training.batch_size * codec_training.input_length <= origin.SAMPLES["codec"]
        assert preset.data.trim_silence == 0.3
        assert (training.passes, preset.trainings["vqvae_8"].passes) == (passes, origin.CODEC_PASSES)
        # A codec that is tuned at full speed forgets first.
        assert preset.trainings["vqvae_8"].learning_rate == origin.CODEC_RATE < 1e-3
        model = preset.models["generator_128"]
        assert model.core.dropout == dropout
        assert override(model, {"core": {"dropout": 0.0}}, "") == TINY.generator(128)
        assert preset.models["vqvae_8"] == TINY.codec(8) and preset.chain == CHAIN
        # Steps are this run's own, and codecs are not stopped early.
        assert preset.trainings["vqvae_8"].steps == TrainingConfig().steps
        assert preset.trainings["vqvae_8"].patience == 0
    # What was chosen once stays, however the folder grows.
    BaseModels.find(folder).adopt(CHAIN, tmp_path / "small", CorpusSize(9, 9.0, 1, 0.1))
    assert load_preset(str(tmp_path / "small" / origin.PRESET_FILE)).trainings[
        "generator_512"].transpose == 3


@pytest.mark.parametrize("hours", [0.3, 3.0])
def test_labels_of_parts_are_learned_at_the_full_rate(folder, hours):
    weight_set = weights.find(folder, "generator_512")
    labels = validate(Labels, {"of": "part", "names": ["a/01", "a/02"]})
    labelled = dataclasses.replace(weight_set, config=weight_set.config.with_labels(labels))
    training = origin._tuned(labelled, CorpusSize(3, hours, 1, 0.1))["training"]
    assert (training["learning_rate"], training["patience"], training["passes"]) == (1e-3, 0, origin.PART_PASSES)
    assert (training["gain"] > 0) == (hours < origin.SMALL_HOURS)


def test_a_killed_training_has_the_rest_of_its_time_and_a_late_one_shortens_the_others(
        begin, commands, monkeypatch):
    run, poor = commands
    poor.add("vqvae_512")
    more = ("--hours", "1", "--no-report")
    plain, trained = run_plan.Task, []

    class Slow(plain):
        """The first generator is killed after ten minutes, then takes an hour to prepare."""

        def wait(self, spend):
            code = super().wait(spend)
            if self.task.kind == "train":
                trained.append(self)
                if len(trained) <= 2:
                    spend((600.0, 3600.0)[len(trained) - 1])
            return 137 if trained == [self] else code

    monkeypatch.setattr(run_plan, "Task", Slow)
    with pytest.raises(UserError, match="was killed"):
        begin(*more)
    begin(*more)
    minutes = [task.options.minutes for task in run if task.kind == "train"]
    assert trainings(run) == [
        "generator_512", "generator_512", "generator_128", "vqvae_512 decoder"]
    first = (59 - plan.ENDING / 60) * 2.5 / 5.5
    assert minutes == pytest.approx([first, first - 11, 0.01, 0.01], abs=0.05)


def test_added_music_leaves_the_held_out_tracks(begin, data, tmp_path, capsys):
    out, more = tmp_path / "out", ("--steps", "5", "--no-report")
    begin(*more)
    held_out = load_yaml(out / "split.yml")["validation"]
    trained_on = [track.sha256[:16] for track in manifest.read(data)]
    for name in ("generator_512", "generator_128"):
        weights.add_to_record(weights.find(out, name), tracks=trained_on)
    data_folder(data, {f"t{i}": music(0.5, i) for i in range(4)}
                | {f"new{i}": music(0.5, 10 + i) for i in range(9)})
    capsys.readouterr()
    begin(*more)
    assert load_yaml(out / "split.yml")["validation"] == held_out
    output = capsys.readouterr().out
    assert f"--val-split {out / 'split.yml'}" in output.splitlines()[-1]
    # Another command finds it by itself.
    args = argparse.Namespace(val_split=None, split_seed=None, data_dir=data)
    split, _ = arguments.held_out(args, out)
    assert list(split.validation) == held_out
    assert arguments.held_out(args, tmp_path)[0] == DataConfig().split
    # Other music is not what was trained on.
    data_folder(tmp_path / "other", {f"o{i}": music(0.5, 90 + i) for i in range(4)})
    with pytest.raises(UserError, match="none of the held-out tracks is in .*; use another"):
        begin(*more, data=tmp_path / "other")
