"""One process of a training on JAX, for test_distributed.py: prints the loss of every step as a
line of JSON.

    KERAS_BACKEND=jax python tests/end_to_end/distributed_run.py FOLDER NAME STEPS [--distribute]

FOLDER gets `out`; beside it are `data` and, for a generator, `codecs`.
"""

import dataclasses
import json
import sys
from pathlib import Path

from vqwave import cli, progress
from vqwave.levels import TrainingConfig, override
from vqwave.presets import load_preset


def main(argv):
    folder, name, steps, *flags = argv
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

    folder, beside, tiny = Path(folder), Path(folder).parent, load_preset("tiny")
    options = RunOptions(folder / "out", distribute=bool(flags))
    settings = TrainingConfig(steps=int(steps), epochs=2, batch_size=4,
                              warmup=1, input_length=2048,
                                     learning_rate=3e-3, offsets=1)
    if name == "adversary":
        # Everything that could see a part of the batch where it should see all: tones, noise,
        # discriminators, norms.
        codec = override(tiny.codec("vqvae_8"),
                         {"head": {"kind": "tones", "tones": 24}, "loss": {"hum": 0.1},
                                 "adversary": {"weight": 0.5}}, "test")
        training.train_codec(codec, beside / "data", options, settings, say=Say())
    elif name == "tuned":
        training.train_codec(tiny.codec("vqvae_8"), beside / "data",
                             dataclasses.replace(options, start_from=beside / "codecs"), settings,
                             say=Say())
    elif name.startswith("vqvae"):
        training.train_codec(tiny.codec(name), beside / "data", options, settings, say=Say())
    else:
        # Wide enough that Muon trains some of it.
        generator = override(tiny.generator(name), {"core": {"units": 40}}, "test")
        training.train_generator(generator, beside / "data", beside / "codecs", options, settings, say=Say())
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main, sys.argv[1:]))
