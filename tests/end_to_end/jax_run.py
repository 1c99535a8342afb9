"""Train a tiny generator on JAX, stop it, go on, without TensorFlow.

    KERAS_BACKEND=jax python tests/end_to_end/jax_run.py FOLDER CODECS

CODECS: the folder of the codecs that the generators are trained on.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import keras
from prepared import data_folder, music

from vqwave import config
from vqwave.errors import Interrupted
from vqwave.io import weights
from vqwave.progress import Reporter
from vqwave.train import callbacks, training
from vqwave.train.options import RunOptions


class Say(Reporter):
    def __init__(self, stop_after=None):
        super().__init__()
        self.stop_after = stop_after

    def advance(self, done, loss=None):
        if loss is not None and done == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)


def main(folder, codecs):
    assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
    sys.modules["tensorflow"] = None
    callbacks.plots.loss_curves = lambda *_: None  # drawn alike anywhere
    data = folder / "data"
    data_folder(data, {f"track {i}": music(1.0, i) for i in range(3)})
    tiny = config.preset("tiny")
    settings = config.TrainingConfig(steps=4, epochs=2, batch_size=2, warmup=1,
                                     input_length=2048, offsets=1)
    generator, ends = tiny.generator(128), []
    for name, stop_after in (("straight", None), ("stopped", 2)):
        chosen = RunOptions(folder / name)
        try:
            training.train_generator(generator, data, codecs, chosen, settings, say=Say(stop_after))
            assert stop_after is None
        except Interrupted:
            assert stop_after is not None
            training.train_generator(generator, data, codecs, chosen, settings)
        weight_set = weights.find(folder / name, generator.name, 2)
        ends.append({k: a for part in weight_set.files for k, a in weight_set.load(part).items()})
    straight, stopped = ends
    assert all(abs(straight[k] - stopped[k]).max() < 1e-5 for k in straight)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
