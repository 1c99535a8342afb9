"""resume.py: a run that continues from an earlier epoch."""

import numpy as np
import pytest

from vqwave import config as configs
from vqwave.io import weights
from vqwave.train import resume
from vqwave.train.options import RunOptions
from vqwave.train.record import RunRecord

MODEL = configs.preset("tiny").generator("generator_512")


@pytest.mark.parametrize("losses, best", [((3.0, 2.0, 2.5), (2.0, 2)), ((1.0, 2.0, 2.5), (1.0, 1)),
                                          ((3.0, 2.0, 1.5), (1.5, 3))])
def test_a_rewound_run_keeps_the_best_of_all_epochs(tmp_path, losses, best):
    """A worse epoch never replaces the best set, whichever epoch the run continues from."""
    arrays = {part: {"a": np.ones(1, np.float32)} for part in weights.parts_of(MODEL)}
    for epoch, loss in enumerate(losses, 1):
        note = {"epoch": epoch, "step": 3 * epoch, "validation_loss": loss}
        weights.save(tmp_path, MODEL.name, weights.epoch_tag(epoch), arrays, MODEL, note)
        if loss == best[0]:
            weights.save(tmp_path, MODEL.name, "best", arrays, MODEL, note)
    for epoch in (1, 2, 3):
        record = RunRecord(MODEL, configs.TrainingConfig(), configs.DataConfig(), "id", steps=30)
        begin = weights.find(tmp_path, MODEL.name, epoch)
        resume._rewind(record, begin, RunOptions(tmp_path, start_epoch=epoch), None)
        assert (record.best, record.best_epoch) == best
        assert (record.step, record.steps_per_epoch) == (3 * epoch, 3)
