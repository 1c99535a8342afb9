import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from chains import save_codec
from prepared import RecordingReporter, assert_same_sets, data_folder, music

from vqwave.codecs import CodecConfig
from vqwave.errors import Interrupted, UserError
from vqwave.generators.generator_layer import Generator
from vqwave.io import weights
from vqwave.levels import DataConfig, Split, TrainingConfig, override, replace
from vqwave.plots import read_log
from vqwave.presets import load_preset
from vqwave.train import jobs, training
from vqwave.train.options import RunOptions
from vqwave.train.record import RunState

CODEC, GENERATOR = "vqvae_8", "generator_512"
TINY = load_preset("tiny")
SMALL, NEXT = TINY.codec(CODEC), TINY.generator("generator_128")
# Wide enough that Muon trains some of it and AdamW the rest.
WIDE = override(TINY.generator(GENERATOR), {"core": {"units": 40}}, "test")
STEPS = 7  # in epochs of 3, 3 and 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data_folder(folder, {f"track {i}": music(1.5, i) for i in range(3)})
    return folder


@pytest.fixture(scope="module")
def train(data, tiny_weights):
    """Train a tiny model for a few steps into a folder. Returns the record and the reporter."""

    def train(folder, name=GENERATOR, at_step=None, config=None,
              codecs=tiny_weights.codecs, **more):
        """By default the top generator, which compiles fastest."""
        reporter, data_config = RecordingReporter(at_step), DataConfig(split=more.pop("split", 0.1))
        run = {key: more.pop(key) for key in list(more) if key in RunOptions.__dataclass_fields__}
        settings = {"steps": STEPS, "epochs": 3, "batch_size": 2, "learning_rate": 3e-3,
                    "warmup": 2, "seed": 5,
                    "offsets": 2, "input_length": 2048 if name == CODEC else 4096} | more
        settings = TrainingConfig(**{key: value for key, value in settings.items()
                                     if value is not None})
        options = RunOptions(folder, **run)
        if isinstance(config or (SMALL if name == CODEC else WIDE), CodecConfig):
            record = training.train_codec(config or SMALL, data, options, settings, data_config,
                                          reporter)
        else:
            config = config or (WIDE if name == GENERATOR else NEXT)
            record = training.train_generator(config, data, codecs, options, settings, data_config,
                                              reporter)
        return SimpleNamespace(record=record, reporter=reporter)

    return train


@pytest.fixture(scope="module")
def straight(train, tmp_path_factory):
    """An uninterrupted run of a codec and of a generator."""
    folders = {name: tmp_path_factory.mktemp(name) for name in (CODEC, GENERATOR)}
    return {name: SimpleNamespace(folder=f, **vars(train(f, name))) for name, f in folders.items()}


@pytest.fixture
def begun(straight, tmp_path):
    shutil.copytree(straight[GENERATOR].folder, tmp_path / "run")
    return tmp_path / "run"


def contents(folder) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and ".lock" not in p.name}


def state(folder, name):
    return RunState(folder, name).load()


def assert_alike(folder, other, name):
    """Weights, codebook, optimizer, seeds and every saved epoch are the same."""
    (record, variables), (expected, wanted) = state(folder, name), state(other, name)
    for key in ("step", "best_epoch", "waited", "finished"):
        assert getattr(record, key) == getattr(expected, key)
    assert record.best == pytest.approx(expected.best, rel=1e-5)
    for i, (a, b) in enumerate(zip(variables, wanted, strict=True)):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-6, err_msg=str(i))
    assert_same_sets(folder, other, name)
    a, b = ([line.split(",")[0] for line in (f / f"{name}.csv").read_text().splitlines()]
            for f in (folder, other))
    assert a == b == ["epoch", "0", "1", "2"]


@pytest.mark.parametrize("name", [CODEC, GENERATOR])
def test_a_run_leaves_its_epochs_the_best_and_a_log(straight, name):
    run = straight[name]
    assert run.record.step == STEPS
    assert "7 steps" in run.record.finished
    assert weights.tags(run.folder, name) == ["00001", "00002", "00003", "best"]
    losses = {e: weights.find(run.folder, name, e).record["validation_loss"] for e in (1, 2, 3)}
    best = weights.find(run.folder, name, "best")
    assert best.record["validation_loss"] == min(losses.values())
    assert best.record["epoch"] == run.record.best_epoch
    assert [weights.find(run.folder, name, e).record["step"] for e in (1, 2, 3)] == [3, 6, 7]
    assert list((run.folder / "tensorboard" / name).rglob("events*"))
    header, *rows = (run.folder / f"{name}.csv").read_text().splitlines()
    shown = {CODEC: {"val_loss", "val_usage", "val_perplexity", "val_mel"},
             GENERATOR: {"bits", "val_bits", "val_top1"}}
    assert shown[name] <= set(header.split(","))
    assert len(rows) == 3
    assert not list(run.folder.glob(".vqwave-*"))
    # The seed alone decides where a run begins; its weights did move from there.
    first, last = (weights.find(run.folder, name, e) for e in (1, 3))
    assert first.checksum != last.checksum


def test_a_run_stopped_repeatedly_ends_the_same(train, straight, tmp_path):
    """A signal stops the run after the next step, or after the validation of the finished epoch."""
    for expected in (2, 3, 5, 6):
        with pytest.raises(Interrupted) as e:
            train(tmp_path, at_step=lambda done: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(UserError, match=f"step {expected} of 7 already; --steps 1"):
            train(tmp_path, steps=1)
        assert e.value.code == 143
        assert state(tmp_path, GENERATOR)[0].step == expected
    assert "all 7 steps done" in train(tmp_path).reporter.text
    assert_alike(tmp_path, straight[GENERATOR].folder, GENERATOR)


def test_more_steps_continue_a_finished_run(train, begun):
    before = contents(begun)
    again = train(begun)
    assert "already finished (all 7 steps done)" in again.reporter.text
    assert again.reporter.steps == []
    assert contents(begun) == before
    assert "already finished" in train(begun, steps=5).reporter.text
    more = train(begun, steps=10)
    assert "planned for 7 steps; it continues to 10" in more.reporter.text
    assert more.reporter.steps == [8, 9, 10]
    assert more.record.step == 10
    assert weights.epochs(begun, GENERATOR)[-1] == 4
    assert read_log(begun / f"{GENERATOR}.csv")[0] == [1, 2, 3, 4]


def test_a_run_starts_again_after_an_epoch_with_a_new_optimizer(train, straight, begun):
    """The saved state does not count. A stopped run continues without the option."""
    first = {epoch: weights.find(begun, GENERATOR, epoch) for epoch in (1, 2, 3)}
    with pytest.raises(Interrupted):
        train(begun, start_epoch=1,
              at_step=lambda done: done == 4 and os.kill(os.getpid(), signal.SIGTERM))
    stopped, _ = state(begun, GENERATOR)
    assert (stopped.step, stopped.first_step, stopped.scheduled_steps) == (5, 3, 4)
    assert weights.find(begun, GENERATOR, "best").record == first[1].record, "the best so far"
    assert "all 7 steps done" in train(begun).reporter.text
    again = {epoch: weights.find(begun, GENERATOR, epoch) for epoch in (1, 2, 3)}
    assert again[1].checksum == first[1].checksum
    for epoch in (2, 3):
        assert again[epoch].record["step"] == first[epoch].record["step"]
        assert again[epoch].checksum != first[epoch].checksum
        assert again[epoch].record["id"] != first[epoch].record["id"]


def test_a_start_at_an_epoch_is_announced_or_refused_in_one_line(train, begun):
    before = contents(begun)
    for epoch, message in ((9, "no epoch 9 of generator_512; there are: 1, 2, 3"),
                           (3, "epoch 3 in .* is at step 7 already; --steps 7 is not beyond that")):
        with pytest.raises(UserError, match=message):
            train(begun, start_epoch=epoch)
    assert contents(begun) == before
    run = train(begun, start_epoch=2)
    assert run.reporter.steps == [7]
    [line] = [line for line in run.reporter.lines if line.startswith("starts from")]
    assert "generator_512: epoch 2 in" in line and "epochs from 3 on are written again" in line


def test_the_first_best_set_holds_the_initial_weights(train, tmp_path, straight):
    source = weights.find(straight[GENERATOR].folder, GENERATOR, "best")
    options = {"start_from": straight[GENERATOR].folder, "learning_rate": 30.0, "steps": 2,
               "epochs": 1, "seed": 6}
    run = train(tmp_path, **options)
    assert f"begins with {source.summary}" in run.reporter.text and run.reporter.steps == [1, 2]
    record, kept = run.record, weights.find(tmp_path, GENERATOR)
    assert (kept.tag, kept.record["epoch"], kept.record["step"]) == ("best", 0, 0)
    assert round(record.best, 6) == record.beginning
    assert record.best_epoch == 0 and record.waited == 1
    assert kept.record["beginning"] == kept.record["validation_loss"] == record.beginning
    for key, array in source.load("generator").items():
        np.testing.assert_array_equal(kept.load("generator")[key], array)
    assert f"{GENERATOR}: before training validation " in run.reporter.text
    assert "beginning" not in source.record
    # A run that has begun continues from its own state.
    assert "begins with" not in train(tmp_path, **options).reporter.text
    with pytest.raises(UserError, match="no weights of generator_512"):
        train(tmp_path / "b", start_from=tmp_path / "none")


def test_decoder_only_changes_no_code_and_can_have_an_adversary(train, tmp_path, straight):
    # The figures on the codec's own music stay in its record.
    home = {"notes": 0.9, "mel": 0.3, "distance": 20.0, "seconds": 120.0}
    begun = tmp_path / "begun"
    shutil.copytree(straight[CODEC].folder, begun)
    source = weights.find(begun, CODEC)
    weights.add_to_record(source, held_out=home)
    adversary = {"weight": 0.1, "feature_matching": 0.5}
    options = {"config": override(SMALL, {"adversary": adversary}, "test"),
               "start_from": begun, "decoder_only": True, "steps": 4, "epochs": 2}
    train(tmp_path, CODEC, **options)
    tuned = weights.find(tmp_path, CODEC, 2)
    assert tuned.codes_id == source.codes_id and tuned.record["held_out"] == home
    assert tuned.encoding_checksum == source.encoding_checksum
    for part in ("encoder", "codebook"):
        for key, array in tuned.load(part).items():
            np.testing.assert_array_equal(array, source.load(part)[key])
    assert any(np.abs(a - source.load("decoder")[k]).max() > 1e-4
               for k, a in tuned.load("decoder").items())
    header, first, *_ = (tmp_path / f"{CODEC}.csv").read_text().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert 0 < float(row["discriminator"]) < 4 and float(row["adversarial"]) > 0
    assert "val_mel" in row and not {"val_discriminator", "val_feature_matching"} & set(row)
    with pytest.raises(UserError, match="begun with --decoder-only"):
        train(tmp_path, CODEC, **options | {"decoder_only": False, "steps": 6})


def test_codes_are_identified_by_the_encoders_values(straight, tmp_path):
    """A set in half precision and its copy in single precision make the same codes."""
    first, last = (weights.find(straight[CODEC].folder, CODEC, e) for e in (1, 3))
    assert first.codes_id != last.codes_id
    assert first.encoding_checksum != last.encoding_checksum
    weights.copy_set(last, tmp_path, "", "float16")
    half = weights.find(tmp_path, CODEC)
    weights.copy_set(half, tmp_path, "best")
    single = weights.find(tmp_path, CODEC, "best")
    assert single.checksum != half.checksum and single.encoding_checksum == half.encoding_checksum


def test_a_run_that_cannot_continue_is_refused_and_no_file_changes(train, begun):
    before = contents(begun)
    with pytest.raises(UserError, match=r"with core.units 40, not 32; use another --output-dir"):
        train(begun, config=override(WIDE, {"core": {"units": 32}}, "test"))
    assert contents(begun) == before


def test_only_promote_saves_the_best_set_without_a_number(train, begun):
    best = weights.find(begun, GENERATOR, "best")
    done = train(begun, promote=True)
    shipped = weights.find(begun, GENERATOR)
    assert shipped.tag == ""
    assert shipped.record == best.record
    assert "float16" in done.reporter.text
    for key, array in shipped.load("generator").items():
        wanted = best.load("generator")[key]
        np.testing.assert_allclose(array, wanted, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(array, wanted.astype("float16").astype("float32"))
    before = shipped.checksum
    reporter = train(begun, steps=9).reporter.text
    assert "another default set" in reporter and "the same command with --promote" in reporter
    assert weights.find(begun, GENERATOR).checksum == before


def test_minutes_are_measured_once_and_then_kept(train, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_steps_in", lambda minutes, *_: 12)
    first = train(tmp_path, minutes=9.0, epochs=None)
    assert first.record.step == first.record.steps == 12
    assert first.reporter.steps == list(range(1, first.record.steps + 1))
    monkeypatch.delattr(training, "_steps_in")
    assert "already finished" in train(tmp_path, minutes=9.0, epochs=None).reporter.text


@pytest.mark.parametrize(("gain", "mixed"), [(1.05, False), (1.6, True)])
def test_the_faster_precision_is_measured_once(train, tmp_path, monkeypatch, gain, mixed):
    monkeypatch.setattr(training, "speed_of", {"mixed_bfloat16": gain, "float32": 1.0}.get)
    done = train(tmp_path, CODEC, steps=1, epochs=1)
    assert done.record.training.mixed_precision is mixed
    assert (", mixed_bfloat16," if mixed else ", float32,") in done.reporter.text
    monkeypatch.setattr(training, "speed_of", {"mixed_bfloat16": 1 / gain, "float32": 1.0}.get)
    assert train(tmp_path, CODEC, steps=2, epochs=2).record.training.mixed_precision is mixed


def test_a_generator_is_initialised_from_the_codebooks(tiny_weights, tmp_path):
    codecs = [weights.find(tiny_weights.codecs, f"vqvae_{level}") for level in (128, 512)]
    first, again, other = (Generator(TINY.generator(128)) for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        jobs.start_from_codebooks(model, codecs, seed)
    book = next(iter(codecs[0].load("codebook").values()))
    table = first.core.embedding.embeddings.numpy()
    # The standardised codebook. The start token has a vector of similar length, because a core that
    # normalises a zero vector has huge gradients.
    np.testing.assert_allclose(table[:64], (book - book.mean(0)) / book.std(), rtol=1e-3, atol=1e-5)
    above = first.conditions["source"].get_layer("embedding").embeddings.numpy()
    for embeddings in (table, above):
        lengths = np.linalg.norm(embeddings, axis=1)
        assert 0.3 < lengths[64] / lengths[:64].mean() < 3
    kernels = [model.core.codebook_heads.outputs[0].kernel.numpy() for model in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    # Codes with similar vectors have similar logits.
    unit = book - book.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    likeness = np.corrcoef((unit @ unit.T).ravel(), np.corrcoef(kernels[0].T).ravel())[0, 1]
    assert likeness > 0.5
    # Each book of a frame has its own part of the table.
    quantizer = {"kind": "residual", "books": 3, "num_codes": 64, "code_dim": 8}
    save_codec(tmp_path, override(SMALL, {"quantizer": quantizer}, "test"))
    codec = weights.find(tmp_path, CODEC)
    model, book = Generator(replace(TINY.generator(8), books=3, conditions=[])), codec.codebooks()[2]
    jobs.start_from_codebooks(model, [codec], 5)
    np.testing.assert_allclose(model.core.embedding.embeddings.numpy()[2 * 65 : 2 * 65 + 64],
                               (book - book.mean(0)) / (book.std() + 1e-6), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name, more, message", [
    (CODEC, {"input_length": 1024}, "--input-length is 1024.*at least 1025"),
    (CODEC, {"split": Split(validation=("nothing",))},
     "'nothing' that the data folder does not hold"),
    (GENERATOR, {"input_length": 4000}, "--input-length is 4000.*multiple of 512"),
    (GENERATOR, {"config": load_preset().generator(GENERATOR)},
     "num_codes is 256, but vqvae_512 in .* has 64"),
    ("generator_128",
     {"config": replace(NEXT,
                        conditions=[{"kind": "codes", "level": 512, "num_codes": 9}])},
     "the level above: num_codes is 9, but vqvae_512 in .* has 64"),
    (CODEC, {"config": replace(SMALL, sample_rate=8000)}, "22050 Hz.*8000 Hz"),
])
def test_user_errors_are_one_line(train, tmp_path, name, more, message):
    with pytest.raises(UserError, match=message) as e:
        train(tmp_path / "out", name, **more)
    assert "\n" not in str(e.value)


def test_the_stretches_of_a_run_cover_every_step_once():
    for step in range(11):
        for steps in range(12):
            for per_epoch in (1, 3, 4, 20):
                covered, at = 0, step
                for first, last, count in training._stretches(step, steps, per_epoch):
                    assert first == at // per_epoch
                    assert last > first
                    # `fit` runs so many epochs of `count` steps; only the rest of an epoch is
                    # shorter than one.
                    at += (last - first) * count
                    covered += (last - first) * count
                    assert at % per_epoch == 0 or at == steps
                assert covered == max(0, steps - step)
