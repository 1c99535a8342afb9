"""One process of a training on JAX, for test_distributed.py: prints the loss of every step as a line of JSON.

    KERAS_BACKEND=jax python tests/end_to_end/distributed_run.py FOLDER NAME STEPS [--distribute]

FOLDER gets `out`; beside it are `data` and, for a generator, `codecs`.
"""

import dataclasses
import json
import sys
from pathlib import Path

from vqwave import cli, config


def main(argv):
    folder, name, steps, *flags = argv
    if (code := cli.guarded(argv)) is not None:
        return code
    # As where it is not installed.
    sys.modules["tensorflow"] = None
    from vqwave.train import training

    class Say(training.Say):
        def advance(self, done, loss=None):
            if loss is not None:
                print(json.dumps({"step": done, "loss": loss}), flush=True)

    folder, beside = Path(folder), Path(folder).parent
    options = training.Options(output_dir=folder / "out", steps=int(steps), epochs=2, batch_size=4, warmup=1,
                               input_length=2048, learning_rate=3e-3, distribute="--distribute" in flags)
    if name == "adversary":
        # Everything that could see a part of the batch where it should see all: tones, noise, discriminators, norms.
        codec = config.codec_preset("vqvae_8", "tiny")
        loss = dataclasses.replace(codec.loss, adversarial=0.5, feature_matching=1.0, hum=0.1)
        codec = dataclasses.replace(codec, tones=24, noise=True, loss=loss)
        training.train_codec(codec, beside / "data", options, Say())
    elif name.startswith("vqvae"):
        training.train_codec(config.codec_preset(name, "tiny"), beside / "data", options, Say())
    else:
        # Wide enough that Muon trains some of it.
        generator = dataclasses.replace(config.generator_preset(name, "tiny"), units=40)
        training.train_generator(generator, beside / "data", beside / "codecs", options, offsets=1, say=Say())
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main, sys.argv[1:]))
