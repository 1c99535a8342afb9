"""The training of a chain that begins with trained models."""

import argparse
import dataclasses

import imported
import numpy as np
import planned
import pytest
from planned import option, training_flags
from prepared import data_folder, music

from vqwave import config as configs
from vqwave.commands import arguments, evaluate
from vqwave.config import TrainingConfig
from vqwave.errors import UserError
from vqwave.io import manifest, splits, weights
from vqwave.train import origin, plan, run_plan
from vqwave.train.origin import Amount, Origin

TINY = configs.preset("tiny")
CHAIN = configs.replace(TINY.chain, end=128)


@pytest.fixture
def folder(tmp_path):
    """The weights of a chain that ends at 128x, as a training leaves them, with one number in each file."""
    folder = tmp_path / "source"
    folder.mkdir()
    for level in CHAIN.sizes:
        for model in (TINY.codec(level), TINY.generator(level)):
            parts = {part: {"a": np.full(1, level, np.float32)} for part in weights.parts_of(model)}
            training = TrainingConfig(learning_rate=1e-3, steps=777, offsets=2, batch_size=32)
            weights.save(folder, model.name, "", parts, model, {"id": model.name, "step": 9},
                         training=training, data=configs.DataConfig(trim_silence=0.3))
    weights.save_chain(folder, CHAIN)
    return folder


@pytest.fixture
def data(tmp_path):
    data_folder(tmp_path / "data", {f"t{i}": music(0.5, i) for i in range(4)})
    return tmp_path / "data"


@pytest.fixture
def commands(monkeypatch):
    """The recorded tasks as command lines, and {codec: how often it is still measured as unsuitable}."""
    run, poor = [], {}

    def end(line, spend):
        run.append(line)
        spend(60.0)
        if line[0].startswith("train-") and "--start-from" in line:
            weight_set = weights.find(option(line, "--output-dir"),
                                 option(line, "--generator") or option(line, "--model"))
            weights.add_to_record(weight_set, step=len(run))
        if line[0] != "judge":
            return 0, None
        rows = []
        for name in option(line, "--model").split(","):
            poor[name] = poor.get(name, 0) - 1
            serves = poor[name] < 0
            rows.append({"model": name, "suitable": serves, "shortfall": "" if serves else "notes",
                         "notes": 0.5, "mel": 0.5, "distance": None, "seconds": 9.0})
        return 0, (rows, ["a table"])

    planned.record(monkeypatch, end)
    return run, poor


def trainings(run):
    return [(option(c, "--model") or option(c, "--generator")) + " decoder" * ("--decoder-only" in c)
            for c in run if c[0].startswith("train-")]


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
    assert [option(c, "--musicnn") for c in (run[0], run[-1])] == ["musicnn.whl"] * 2
    assert [c[0] for c in run] == ["judge", "train-generator", "train-generator", "report"]
    # Down to the level that plays, each beginning with its earlier weights.
    assert trainings(run) == ["generator_512", "generator_128"]
    for command in run[1:3]:
        assert option(command, "--start-from") == str(folder)
    for command in (run[0], run[-1]):
        assert option(command, "--val-split") == str(out / "split.yml")
    # A share is drawn once, and written down by file.
    drawn = splits.split(manifest.read(data), 0.3, 4)[1]
    assert configs.load_yaml(out / "split.yml")["validation"] == [
        track.file.removesuffix(".u16") for track in drawn]
    # The hour is shared out among the generators, after the minute that measuring took.
    assert float(option(run[1], "--minutes")) == pytest.approx((59 - plan.ENDING / 60) / 2)
    assert option(run[-1], "--html") == str(out / "report.html")
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
    assert [c[0] for c in run] == ["report"]


def test_of_an_unsuitable_codec_the_decoder_is_tuned_first(begin, folder, tmp_path, commands,
                                                           capsys):
    run, poor = commands
    poor |= {"vqvae_512": 1, "vqvae_128": 2}
    out = tmp_path / "out"
    begin("--steps", "5", "--no-report")
    assert trainings(run) == ["vqvae_512 decoder", "vqvae_128 decoder", "vqvae_128",
                              "generator_512", "generator_128"]
    codecs = [c for c in run if c[0] == "train-codec"]
    assert [option(c, "--start-from") for c in codecs] == [str(folder), str(folder), str(out)]
    # Each codec is measured again after its decoder is tuned, and after the whole codec is.
    assert [option(c, "--model") for c in run if c[0] == "judge"] == [
        "vqvae_512,vqvae_128", "vqvae_512", "vqvae_128", "vqvae_128"]
    state = configs.load_yaml(out / "train_all.yml")
    assert {name: verdict["treatment"] for name, verdict in state["verdicts"].items()} == {
        "vqvae_512": "decoder", "vqvae_128": "whole"}
    assert [row["model"] for row in evaluate.before_tuning(out)] == [
        "vqvae_512, before it was tuned", "vqvae_128, before it was tuned"]
    assert not any(row["suitable"] for row in evaluate.before_tuning(out))
    assert evaluate.before_tuning(tmp_path) == []
    output = capsys.readouterr().out
    assert "== vqvae_128 decoder (2 of 4)" in output
    assert output.count("tuning the decoder was not enough, so the whole codec is tuned next") == 1
    run.clear()
    begin("--steps", "5", "--no-report")
    assert run == []
    # More steps are of what the treatment came to, and change no codes that a generator knows.
    begin("--steps", "9", "--no-report")
    assert trainings(run) == ["vqvae_512 decoder", "generator_512", "generator_128"]


def test_with_little_time_generators_come_before_decoders(begin, tmp_path, commands):
    """No codes change while generators train."""
    run, poor = commands
    poor |= {"vqvae_512": 9, "vqvae_128": 1}
    out, more = tmp_path / "out", ("--hours", "1", "--no-report")
    begin(*more)
    assert trainings(run) == ["generator_512", "generator_128", "vqvae_512 decoder",
                              "vqvae_128 decoder"]
    verdicts = configs.load_yaml(out / "train_all.yml")["verdicts"]
    assert {name: verdict["treatment"] for name, verdict in verdicts.items()} == dict.fromkeys(verdicts, "decoder")
    # Of the minutes that are left each generator has 2.5 parts of 6, each decoder half a part.
    minutes = [float(option(c, "--minutes")) for c in run if c[0].startswith("train-")]
    assert minutes[0] == pytest.approx((59 - plan.ENDING / 60) * 2.5 / 6, abs=0.01)
    run.clear()
    begin(*more)
    assert run == []


def test_enough_hours_tune_a_whole_codec_unless_its_codes_are_in_use(begin, folder, data, tmp_path,
                                                                     commands):
    run, poor = commands
    poor |= {"vqvae_512": 99}
    out, more = tmp_path / "out", ("--no-report",)
    begin("--hours", str(plan.WHOLE_HOURS), *more, out=tmp_path / "enough")
    assert trainings(run) == ["vqvae_512 decoder", "vqvae_512", "generator_512", "generator_128"]
    begin("--hours", "1", *more)
    # As if it had been stopped in the last training.
    plan_file = out / plan.PLAN_FILE
    values = configs.load_yaml(plan_file)
    del values["finished"]["vqvae_512 decoder"]
    plan_file.write_text(configs.dump_yaml(values))
    run.clear()
    begin("--hours", "4", *more)
    assert trainings(run) == ["vqvae_512 decoder"]
    begun = plan.TrainingPlan(data, tmp_path / "begun", hours=4, origin=Origin.find(folder), flags=training_flags())
    assert not begun.codes_in_use("vqvae_128")
    # A generator reads the codes of its own level and of the level above.
    begun.output_dir.mkdir()
    (begun.output_dir / "generator_128.state.npz").touch()
    assert begun.codes_in_use("vqvae_128") and begun.codes_in_use("vqvae_512")


def name_folders(data):
    """Put half of the tracks into a folder a, the others into b."""
    manifest.write(data, [dataclasses.replace(t, source=f"/music/{'ab'[i % 2]}/{i}.ogg")
                          for i, t in enumerate(manifest.read(data))])


def test_generators_learn_labels_and_keep_them(begin, folder, data, commands, capsys):
    run = commands[0]
    name_folders(data)
    more = ("--steps", "2", "--no-report")
    begin("--label", "folder", *more)
    assert [option(c, "--label") for c in run] == [None, "folder", "folder"]
    assert [option(c, "--start-from") for c in run] == [None, str(folder), str(folder)]
    assert "  generators learn each track's folder: a, b" in capsys.readouterr().out
    run.clear()
    begin("--label", "folder", *more)
    assert run == []
    with pytest.raises(UserError, match="a training with label folder, not none"):
        begin(*more)


def test_with_enough_music_a_top_generator_without_labels_begins_with_random_weights(begin, folder,
                                                                                     data, tmp_path,
                                                                                     commands,
                                                                                     capsys,
                                                                                     monkeypatch):
    run, out = commands[0], tmp_path / "out"
    name_folders(data)
    monkeypatch.setattr(origin, "SMALL_HOURS", 0.0)
    begin("--label", "folder", "--steps", "2", "--no-report")
    assert [option(c, "--start-from") for c in run] == [None, None, str(folder)]
    assert not weights.tags(out, "generator_512") and weights.tags(out, "generator_128")
    assert "  generator_512 begins with random weights" in capsys.readouterr().out
    # One that knows nothing has more to learn than a few passes hold.
    preset = configs.preset(str(out / origin.PRESET_FILE))
    assert preset.trainings["generator_512"].passes == 0 == preset.trainings["generator_512"].patience
    assert preset.trainings["generator_128"].passes == origin.PASSES
    # One that knows labels goes on.
    labels = configs.validate(configs.Labels, {"of": "folder", "names": ["a", "b"]})
    monkeypatch.setattr(Origin, "labels_of", lambda *_: labels)
    labelled = plan.TrainingPlan(data, out, flags=training_flags(steps=2, label="folder"), origin=Origin.find(folder))
    top = next(stage for stage in labelled.stages if stage.name == "generator_512")
    assert labelled.untrained == () and labelled.settings(top).options.start_from == folder


def test_settings_fit_the_amount_of_music(tmp_path, folder):
    def adopted(name, hours):
        begun = Origin.find(folder)
        begun.adopt(CHAIN, tmp_path / name, Amount(3, hours, 1, 0.1))
        return configs.preset(str(tmp_path / name / origin.PRESET_FILE))

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
        assert configs.override(model, {"core": {"dropout": 0.0}}, "") == TINY.generator(128)
        assert preset.models["vqvae_8"] == TINY.codec(8) and preset.chain == CHAIN
        # Steps are this run's own, and codecs are not stopped early.
        assert preset.trainings["vqvae_8"].steps == TrainingConfig().steps
        assert preset.trainings["vqvae_8"].patience == 0
    # What was chosen once stays, however the folder grows.
    Origin.find(folder).adopt(CHAIN, tmp_path / "small", Amount(9, 9.0, 1, 0.1))
    assert configs.preset(str(tmp_path / "small" / origin.PRESET_FILE)).trainings[
        "generator_512"].transpose == 3


@pytest.mark.parametrize("hours", [0.3, 3.0])
def test_labels_of_parts_are_learned_at_the_full_rate(folder, hours):
    weight_set = weights.find(folder, "generator_512")
    labels = configs.validate(configs.Labels, {"of": "part", "names": ["a/01", "a/02"]})
    labelled = dataclasses.replace(weight_set, config=weight_set.config.with_labels(labels))
    training = origin._tuned(labelled, Amount(3, hours, 1, 0.1), False)["training"]
    assert (training["learning_rate"], training["patience"], training["passes"]) == (1e-3, 0, origin.PART_PASSES)
    assert (training["gain"] > 0) == (hours < origin.SMALL_HOURS)


def test_a_killed_training_has_the_rest_of_its_time_and_a_late_one_shortens_the_others(
        begin, commands, monkeypatch):
    run, poor = commands
    poor |= {"vqvae_512": 9}
    more = ("--hours", "1", "--no-report")
    plain, trained = run_plan.Task, []

    class Slow(plain):
        """The first generator is killed after ten minutes, then takes an hour to prepare."""

        def wait(self, spend):
            code = super().wait(spend)
            if self.line[0].startswith("train-"):
                trained.append(self)
                if len(trained) <= 2:
                    spend((600.0, 3600.0)[len(trained) - 1])
            return 137 if trained == [self] else code

    monkeypatch.setattr(run_plan, "Task", Slow)
    with pytest.raises(UserError, match="was killed"):
        begin(*more)
    begin(*more)
    minutes = [float(option(c, "--minutes")) for c in run if c[0].startswith("train-")]
    assert trainings(run) == [
        "generator_512", "generator_512", "generator_128", "vqvae_512 decoder"]
    first = (59 - plan.ENDING / 60) * 2.5 / 5.5
    assert minutes == pytest.approx([first, first - 11, 0.01, 0.01], abs=0.05)


def test_added_music_leaves_the_held_out_tracks(begin, data, tmp_path, capsys):
    out, more = tmp_path / "out", ("--steps", "5", "--no-report")
    begin(*more)
    held_out = configs.load_yaml(out / "split.yml")["validation"]
    trained_on = [track.sha256[:16] for track in manifest.read(data)]
    for name in ("generator_512", "generator_128"):
        weights.add_to_record(weights.find(out, name), tracks=trained_on)
    data_folder(data, {f"t{i}": music(0.5, i) for i in range(4)}
                | {f"new{i}": music(0.5, 10 + i) for i in range(9)})
    capsys.readouterr()
    begin(*more)
    assert configs.load_yaml(out / "split.yml")["validation"] == held_out
    output = capsys.readouterr().out
    assert f"--val-split {out / 'split.yml'}" in output.splitlines()[-1]
    # Another command finds it by itself.
    args = argparse.Namespace(val_split=None, split_seed=None, data_dir=data)
    split, _ = arguments.held_out(args, out)
    assert list(split.validation) == held_out
    assert arguments.held_out(args, tmp_path)[0] == configs.DataConfig().split
    # Other music is not what was trained on.
    data_folder(tmp_path / "other", {f"o{i}": music(0.5, 90 + i) for i in range(4)})
    with pytest.raises(UserError, match="none of the held-out tracks is in .*; use another"):
        begin(*more, data=tmp_path / "other")
