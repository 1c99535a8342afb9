"""One process of a codec's training on JAX, for test_distributed.py.

    KERAS_BACKEND=jax python tests/end_to_end/distributed_run.py FOLDER STEPS [--distribute]

It prints the loss of every step as a line of JSON. FOLDER gets `out`; beside it is `data`.
"""

import json
import sys
from pathlib import Path

from vqwave import cli, progress
from vqwave.levels import TrainingConfig
from vqwave.presets import load_preset


def main(argv):
    folder, steps, *flags = argv
    # As where it is not installed.
    sys.modules["tensorflow"] = None
    from vqwave.codecs import losses_layer
    from vqwave.train import callbacks, training
    from vqwave.train.options import RunOptions

    # Most of the time is XLA's: it compiles one resolution of spectra. Curves are drawn alike anywhere.
    losses_layer.STFT_SCALES, losses_layer.MEL_SCALES = losses_layer.STFT_SCALES[-1:], losses_layer.MEL_SCALES[-1:]
    callbacks.plots.loss_curves = lambda *_: None

    class Say(progress.Reporter):
        def advance(self, done, loss=None):
            if loss is not None:
                print(json.dumps({"step": done, "loss": loss}), flush=True)

    settings = TrainingConfig(steps=int(steps), epochs=2, batch_size=4, warmup=1, input_length=2048,
                              learning_rate=3e-3, offsets=1)
    options = RunOptions(Path(folder, "out"), distribute=bool(flags))
    codec = load_preset("tiny").codec("vqvae_8")
    training.train_codec(codec, Path(folder).parent / "data", options, settings, say=Say())
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main, sys.argv[1:]))
