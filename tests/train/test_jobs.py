"""jobs.py: what a model is trained on: which tracks, which copies of them, on which side."""

import pytest
from prepared import data_folder, music

from vqwave import config as configs
from vqwave.config import DataConfig, TrainingConfig
from vqwave.data.codes import OFFSET_STEP
from vqwave.progress import QuietReporter
from vqwave.train.jobs import GeneratorJob
from vqwave.train.record import RunRecord
from vqwave.train.replicas import ALONE

TINY = configs.preset("tiny")


class Told(QuietReporter):
    """Keeps the lines."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def __call__(self, line):
        self.lines.append(line)


def prepared(folder, codecs, name="generator_128", data=None, **settings):
    """A generator's job with its data ready, and what was said."""
    job, said = GeneratorJob(TINY.generator(name), folder, codecs, None, None, None), Told()
    job.check()
    training = TrainingConfig(**{"input_length": 4096, "batch_size": 2, "offsets": 1} | settings)
    record = RunRecord(job.model, training, data or DataConfig(split=0.2), "id")
    job.check_settings(training)
    job.prepare(record, ALONE, said)
    return job, record, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data_folder(folder, {f"track {i}": music(0.8, i) for i in range(4)})
    return folder


def test_training_tracks_are_transposed_and_held_out_ones_never(folder, tiny_weights):
    job, _, _ = prepared(folder, tiny_weights.codecs, offsets=2, transpose=1)
    shifts = {}
    for corpus in job.corpora:  # a generator's own level and the one above it have the same copies
        assert list(corpus) == list(job.corpora[0])
        for file, variant in corpus:
            shifts.setdefault(file, set()).add((variant.offset, variant.shift))
    assert len(job.train) == 3 and len(job.val) == 1
    for track in job.train:
        assert shifts[track.file] == {(0, 0), (1, 0), (1, 1), (2, -1)}
    for track in job.val:
        assert shifts[track.file] == {(0, 0), (1, 0)}
    assert len(job.batches(0).tracks) == 12 and len(job.validation.tracks) == 2
    # Whatever serves a condition's input can tell which part of which track a window is.
    rows = job.batches(0).tracks
    assert {(row.track.file, row.shift, row.start) for row in rows} == {
        (track.file, shift, skipped) for track in job.train for shift, skipped in
        ((0, 0), (0, OFFSET_STEP), (1, OFFSET_STEP), (-1, 2 * OFFSET_STEP))}
