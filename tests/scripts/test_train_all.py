import os
import re
import signal

import chains
import imported
import planned
import pytest

from vqwave.errors import Interrupted, UserError
from vqwave.io import weights
from vqwave.levels import dump_yaml, load_yaml
from vqwave.presets import load_preset
from vqwave.train import plan

CHAIN = load_preset("tiny").chain
NAMES = CHAIN.names


@pytest.fixture(scope="module")
def train_all():
    return imported.script("train_all")


@pytest.fixture
def stages(monkeypatch):
    """The recorded trainings, a minute each, and their exit codes in `ends` (default 0)."""
    run, ends = [], {}

    def end(task, spend):
        if task.kind == "report":
            return 0, None
        run.append(task)
        spend(60.0)
        return ends.get(len(run), 0), None

    planned.record(monkeypatch, end)
    # No music is needed to see what would be run.
    read = plan.manifest.read
    monkeypatch.setattr(plan.manifest, "read", lambda folder: read(folder) if os.path.isdir(folder)
                        else [])
    return run, ends


@pytest.fixture
def scratch(train_all, stages, tmp_path):
    def scratch(*options, out=tmp_path):
        preset = () if {"--size", "--preset"} & {*options} else ("--preset", "compact")
        return train_all.main(["--from-scratch", "--data-dir", "d", "--output-dir", str(out),
                               *preset, *options])

    return scratch


def names(run):
    return [task.name for task in run]


def test_all_models_are_trained_in_order(trained):
    for name in NAMES:
        weight_set = weights.find(trained.weights, name)
        assert weight_set.tag == "best"
        assert weight_set.record["step"] == trained.steps
        assert set(weights.tags(trained.weights, name)) == {"00001", "best"}
    assert re.findall(r"^== (\w+)", trained.output, re.MULTILINE) == NAMES
    assert f"Trained {', '.join(NAMES)} in " in trained.output
    assert "Traceback" not in trained.output
    assert load_yaml(trained.weights / "train_all.yml")["finished"] == dict.fromkeys(NAMES,
                                                                                     trained.steps)


def test_codecs_come_before_generators_and_options_are_passed_on(scratch, stages, tmp_path, capsys):
    run, _ = stages
    out, split = tmp_path / "out", tmp_path / "s.yml"
    split.write_text("test: [one]\n")
    assert scratch("--steps", "9", "--size", "tiny", "--no-fp16", "--val-split", str(split),
                   "--promote", "--scheduler", "tcp://s:8786", "--transpose", "0", "--gain", "2",
                   out=out) == 0
    assert names(run) == NAMES
    for task in run:
        options, training, is_codec = task.options, task.training, task.model.kind == "codec"
        assert (str(task.data_dir), options.output_dir, task.codec_dir) == ("d", out, out)
        assert options.promote and options.minutes is None
        assert training.steps == 9 and not training.mixed_precision
        assert task.scheduler == (None if is_codec else "tcp://s:8786")
        assert is_codec or (training.transpose, training.gain) == (0, 2.0)
        # Without a flag the preset decides.
        own = {"transpose", "gain", "input_length", "offsets"} & options.set_by_user
        assert own == (set() if is_codec else {"transpose", "gain"})
    assert "generate_audio.py" in capsys.readouterr().out


def test_the_decoder_of_a_performer_learns_its_performances_at_last(train_all, stages, tmp_path,
                                                                   capsys):
    run, _ = stages
    led = chains.with_score(chains.preset(tmp_path / "plain.yml", {512: 2}), tmp_path / "led.yml")
    out = tmp_path / "out"
    assert train_all.main(["--data-dir", "d", "--output-dir", str(out), "--preset", led.name,
                           "--steps", "9"]) == 0
    assert names(run) == ["codec-of-512", "score", "generator-of-512", "codec-of-512"]
    first, *_, last = run
    assert first.options.start_from is None and not first.options.decoder_only
    assert last.options.start_from == last.options.performer == out and last.options.decoder_only
    assert "codec-of-512 decoder" in capsys.readouterr().out


@pytest.mark.parametrize("preset, scripts", [
    ("tiny", ["generate_audio", "train_all"]), ("cvae", ["test_vqvae", "generate_audio"]),
])
def test_the_last_lines_are_commands_to_hear_the_result(train_all, stages, tmp_path, capsys, preset,
                                                        scripts):
    assert train_all.main(["--data-dir", "d", "--output-dir", str(tmp_path), "--preset", preset,
                           "--steps", "1", "--seed", "7"]) == 0
    commands = capsys.readouterr().out.partition("To hear the result:")[2]
    assert re.findall(r"^  python scripts/(\w+)\.py", commands, re.MULTILINE) == scripts
    assert (f"--start-from {tmp_path} --output-dir {tmp_path}_2 --seed 7\n" in commands) == (
        preset == "tiny")


def test_hours_are_shared_out_and_unused_time_is_shared_again(scratch, stages, capsys):
    run, _ = stages
    scratch("--hours", "2")
    minutes = [task.options.minutes for task in run]
    # Each training takes a minute, whatever its share is. The report has its own time.
    left = 120.0 - plan.ENDING / 60
    for i, share in enumerate(minutes):
        shares = [1.0] * 4 + [2.5] * 4
        assert share == pytest.approx(left * shares[i] / sum(shares[i:]), abs=0.02)
        left -= 1.0
    out = capsys.readouterr().out
    assert "vqvae_512      about 8.3 min" in out
    assert f"== vqvae_128 (2 of 8, about {minutes[1]:.1f} min)" in out


@pytest.mark.parametrize(("code", "message"), [
    (1, "vqvae_32 ended with exit code 1; what is finished is kept"),
    (128 + signal.SIGKILL, "vqvae_32 was killed .if memory ran out")])
def test_after_a_failed_training_the_same_command_continues(scratch, stages, code, message):
    run, ends = stages
    ends[3] = code
    with pytest.raises(UserError, match=message):
        scratch("--hours", "2")
    run.clear()
    ends.clear()
    assert scratch("--hours", "2") == 0
    assert names(run) == NAMES[2:]


def test_more_steps_continue_models_whose_codes_are_not_in_use(scratch, stages, tmp_path):
    run, ends = stages
    scratch("--steps", "5")
    scratch("--steps", "5")
    assert names(run) == NAMES
    # The generators know the codecs' codes, so only the generators continue.
    scratch("--steps", "9")
    codecs, generators = list(CHAIN.codecs.values()), list(CHAIN.generators.values())
    assert names(run) == NAMES + generators
    # The codecs continue too while no generator has finished.
    run.clear()
    ends[len(codecs) + 1] = 143
    with pytest.raises(Interrupted):
        scratch("--steps", "5", out=tmp_path / "other")
    ends.clear()
    scratch("--steps", "9", out=tmp_path / "other")
    assert names(run) == [*codecs, generators[0], *NAMES]


def test_a_folder_of_another_preset_or_an_invalid_plan_is_refused(scratch, tmp_path):
    scratch("--steps", "3", "--size", "tiny")
    with pytest.raises(UserError, match="preset tiny, not compact"):
        scratch("--steps", "3")
    good = {"schema": 2, "preset": "tiny", "spent": 1.0, "finished": {"vqvae_512": 3}}
    for wrong in ({"a": 1}, good | {"spent": "long"}, good | {"spent": float("nan")},
                  good | {"finished": [1]},
                  good | {"finished": {"vqvae_512": "all"}}):
        (tmp_path / "train_all.yml").write_text(dump_yaml(wrong))
        with pytest.raises(UserError, match="train_all.yml: is not a plan"):
            scratch("--steps", "3")
