"""The tracks of each side of a training, their variants and windows."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from prepared import RecordingReporter, data_folder, music

from vqwave.data import windows
from vqwave.data.codes import OFFSET_STEP
from vqwave.errors import UserError
from vqwave.generators import GeneratorConfig
from vqwave.generators.generator_layer import Generator, take_labels
from vqwave.io import manifest
from vqwave.levels import DataConfig, Split, TrainingConfig, replace
from vqwave.presets import load_preset
from vqwave.train.devices import ALONE
from vqwave.train.jobs import CodecJob, GeneratorJob
from vqwave.train.options import RunOptions
from vqwave.train.record import RunRecord

TINY = load_preset("tiny")


def prepared(folder, codecs, name="generator_128", data=None, changed=None, **settings):
    """A generator's job with its data prepared, its record and the printed lines. changed: keys of its config."""
    model = replace(TINY.generator(name), **changed or {})
    job, reporter = GeneratorJob(model, folder, codecs), RecordingReporter()
    job.check()
    training = TrainingConfig(**{"input_length": 4096, "batch_size": 2, "offsets": 1} | settings)
    record = RunRecord(job.model, training, data or DataConfig(split=0.2), "id")
    job.check_settings(training)
    job.prepare(record, ALONE, reporter)
    return job, record, reporter


def prepared_codec(folder, split=0.2, **settings):
    """A codec's job, its record and the printed lines."""
    job, reporter = CodecJob(TINY.codec("vqvae_128"), folder, RunOptions(folder)), RecordingReporter()
    job.check()
    training = TrainingConfig(**{"input_length": 8192, "batch_size": 2} | settings)
    record = RunRecord(job.model, training, DataConfig(split=split, trim_silence=0.5), "id")
    job.prepare(record, ALONE, reporter)
    return job, record, reporter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data_folder(folder, {f"track {i}": music(0.8, i) for i in range(4)})
    return folder


@pytest.mark.parametrize("role", ["codec", "generator"])
def test_windows_come_only_from_training_tracks(folder, tiny_weights, role):
    split = Split(validation=["track 1"], test=["track 2"], fresh=["track 3"])
    if role == "generator":
        job, record, _ = prepared(folder, tiny_weights.codecs, data=DataConfig(split=split))
        files = [{row.track.file for row in side.tracks} for side in (job.batches(0), job.validation)]
    else:
        job, record, _ = prepared_codec(folder, split)
        files = [set(side.files) for side in (job.batches(0), job.validation)]
    assert files == [{"track 0.ogg.u16"}, {"track 1.ogg.u16"}]
    assert len(record.tracks) == 1


def test_parts_of_tracks_are_labels_of_their_own_corpus(folder):
    label = {"kind": "labels", "of": "part", "channels": 8}
    before, again = (replace(TINY.generator("generator_512"),
                             conditions=[label | {"names": names}])
                     for names in (["elvish/01", "track 1/01"], ["track 0/01"]))
    job = GeneratorJob(before, folder, None)
    job.tracks = manifest.read(folder)
    data = DataConfig(split=Split(validation=["track 3"]), trim_silence=None)
    job.resolve_labels(None, before, data, 0)
    assert job.model.labels.names == ("track 0/01", "track 1/01", "track 2/01")
    model, source = Generator(job.model), Generator(before)
    take_labels(model, source)
    rows, earlier = (x.conditions["label"].get_weights()[0] for x in (model, source))
    none = 2
    np.testing.assert_array_equal(rows, earlier[[none, 1, none, none]])
    for ours, theirs in zip(model.core.get_weights(), source.core.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    job.resolve_labels(again, None, data, 0)
    assert job.model.labels.names == ("track 0/01",), "a run that goes on keeps its names"


def test_only_training_tracks_are_transposed_and_made_quieter(folder, tiny_weights):
    for gain, trained in ((0.0, ["0", "1", "1+1", "2-1"]),
                          (4.0, ["0", "1", "0-4dB", "1+1-2dB", "2-1-4dB"])):
        job, _, _ = prepared(folder, tiny_weights.codecs, offsets=2, transpose=1, gain=gain)
        assert len(job.train) == 3 and len(job.val) == 1
        for tracks, expected in ((job.train, trained), (job.val, ["0", "1"])):
            for track in tracks:
                # A generator's own level and the one above it have the same variants.
                for key in ("codes", "above"):
                    names = [getattr(row, key).name.split(".", 2)[2].removesuffix(".u16")
                             for row in job.code_tracks[track.file]]
                    assert names == [f"u16.{one}" for one in expected]
    job, _, _ = prepared(folder, tiny_weights.codecs, offsets=2, transpose=1)
    assert len(job.batches(0).tracks) == 12 and len(job.validation.tracks) == 2
    # Whatever serves a condition's input can tell which part of which track a window is.
    rows = job.batches(0).tracks
    assert {(row.track.file, row.shift, row.start) for row in rows} == {
        (track.file, shift, skipped) for track in job.train
        for shift, skipped in ((0, 0), (0, OFFSET_STEP), (1, OFFSET_STEP), (-1, 2 * OFFSET_STEP))}


def test_silence_at_the_ends_is_cut_at_every_level(tmp_path, tiny_weights):
    silence = np.zeros(3 * 22050, np.float32)
    data_folder(tmp_path, {"hush": silence, "held": music(1.0, 1),
                           "song": np.concatenate([silence, music(2.0, 2), silence])})
    split = DataConfig(split=Split(validation=("held",)), trim_silence=0.5)
    job, record, reporter = prepared(tmp_path, tiny_weights.codecs, data=split, input_length=8192)
    assert reporter.lines[2] == "left out, because they are mostly silent: hush (100 % silent)"
    assert reporter.lines[3].startswith("silence at the ends of 1 tracks is cut to 0.5 s each, 5 s in "
                                    "all")
    assert reporter.lines[4].startswith("1 tracks to train on (0.00 h), 1 held out")
    (song,) = job.train
    assert len(record.tracks) == 1 and song.sha256.startswith(record.tracks[0])
    (row,) = job.batches(0).tracks
    begin, end = job.spans[song.file]
    assert begin == 66150 - 11025 and end < 66150 + 44100 + 2205 + 11025
    assert row.first == 4 * row.first_above == begin // 512 * 4
    assert row.frames == -(-end // 128) - row.first and row.start == 128 * row.first
    # A piece begins where its sound does, as any other.
    starts = [first for i in range(80) for first in job.batches(i)[0][0]["previous"][:, 0, 0]]
    assert job.model.start_token in starts

    codec, _, _ = prepared_codec(tmp_path, split.split)
    assert codec.train == job.train and codec.spans == job.spans
    assert all(np.square(sound).mean() > 0 for i in range(8) for sound in codec.batches(i)[0])

    off = replace(split, trim_silence=None)
    job, _, reporter = prepared(tmp_path, tiny_weights.codecs, data=off, input_length=8192)
    assert not [line for line in reporter.lines if "silen" in line]
    assert len(job.train) == 2 and job.batches(0).tracks[1].first == 0


def test_tracks_shorter_than_a_window_train_too(tmp_path, tiny_weights):
    data_folder(tmp_path, {"a": music(1.5, 1), "b": music(1.4, 2), "c": music(0.3, 3),
                           "d": music(1.2, 4)})
    data = DataConfig(split=Split(validation=("d",)))
    job, _, reporter = prepared(tmp_path, tiny_weights.codecs, data=data, input_length=20480)
    assert "3 tracks to train on" in reporter.lines[2] and job.window == 160
    assert "1 of 3 training tracks are shorter than a window of 0.929 s; such a window continues with another track" in reporter.lines
    assert len(job.batches(0)[0]) == 2 and len(job.validation[0]) == 2
    job, _, reporter = prepared(tmp_path, tiny_weights.codecs, data=data, input_length=512 * 1000)
    assert job.window == 4000
    assert [line for line in reporter.lines if line.startswith("3 of 3 training tracks are shorter "
                                                           "than a window of 23.2")]


def test_short_tracks_are_left_out_and_the_error_names_the_longest(tmp_path):
    data_folder(tmp_path, {"a": music(1.0, 1), "b": music(3.0, 2), "c": music(2.0, 3), "d": music(2.5, 4)})
    split = Split(validation=("d",))
    job, _, reporter = prepared_codec(tmp_path, split, input_length=32768)
    assert [track.file for track in job.train] == ["b.ogg.u16", "c.ogg.u16"]
    assert any("1 left out, shorter than 32768 samples" in line for line in reporter.lines)
    with pytest.raises(UserError, match=r"as long as --input-length, 88200 samples \(4.00 s\); the longest has 66150 "
                                        r"\(3.00 s\): use a shorter --input-length or longer music"):
        prepared_codec(tmp_path, split, input_length=88200)


def test_loss_and_figures_ignore_frames_outside_the_tracks(tmp_path, rng):
    """Computed by hand for two tracks, one of which is shorter than its window."""
    config = GeneratorConfig(name="g", level=512, num_codes=8,
                             books=2, core={"units": 8, "head_dim": 4})
    rows = []
    for name, count in (("a", 12), ("b", 5)):
        (tmp_path / name).write_bytes(rng.integers(0, 8, (count, 2)).astype("<u2").tobytes())
        rows.append(windows.CodeTrack(tmp_path / name, count))
    model = Generator(config)
    model.compile(**GeneratorJob.compile_options(SimpleNamespace(model=config)))
    # Of 12 + 5 frames the places are 1 and 5: validation counts short tracks by their duration.
    batches = windows.CodeWindows(rows, config, 12, 3, 0, fixed=6)
    figures = model.evaluate(batches, verbose=0, return_dict=True)
    each, right = [], []
    for batch in range(batches.num_batches):
        inputs, target, weights = batches[batch]
        logits = np.asarray(model(inputs), np.float64)
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        inside = weights[..., 0] > 0
        each.append(-np.log2(np.take_along_axis(p, target[..., None], -1)[..., 0][inside]))
        right.append(logits.argmax(-1)[inside] == target[inside])
    bits = np.concatenate(each)
    assert bits.shape == (12 + 5 * 5, 2)
    assert figures["bits"] == pytest.approx(bits.sum(-1).mean(), rel=1e-4)
    assert figures["loss"] == pytest.approx(bits.mean() * np.log(2), rel=1e-4)
    assert figures["top1"] == pytest.approx(np.concatenate(right).mean(), rel=1e-4)
    # And what is past a track's end moves no weight.
    inputs, target, weights = windows.CodeWindows(rows[1:] + rows[:1], config, 12, 4, 0, fixed=6)[0]
    other = np.where(weights > 0, target, 7)
    assert (other != target).any()
    ends = []
    for codes in (target, other):
        keras.utils.set_random_seed(0)
        again = Generator(config)
        again.compile(optimizer=keras.optimizers.SGD(0.5), **GeneratorJob.compile_options(SimpleNamespace(model=config)))
        again.train_on_batch(inputs, codes, weights)
        ends.append(again.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)
