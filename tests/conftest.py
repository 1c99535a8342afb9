"""Fixtures that more than one test file uses."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

# Before anything imports TensorFlow or matplotlib.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import numpy as np
import pytest

from vqwave import config as configs
from vqwave import weights

# Neither the speed of the machine nor chance decides whether a test passes.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")

# A test run started in the background by a shell ignores Ctrl-C, and so would every command that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """No test reads or fills the cache of whoever runs it; the scripts that tests start inherit this."""
    os.environ["VQWAVE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """Random weights of every tiny codec and generator, as they ship: `.codecs` and `.generators` are folders.

    Read-only: the whole session shares them. Each codebook comes from latents of noise, so that most codes are in use.
    """
    import keras

    from vqwave.nn.codec import VQVAE
    from vqwave.nn.generator import Generator

    root = tmp_path_factory.mktemp("tiny")
    folders = SimpleNamespace(codecs=root / "final_weights", generators=root / "weights")
    folders.codecs.mkdir()
    folders.generators.mkdir()
    keras.utils.set_random_seed(0)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (2, 65536)).astype("float32")
    preset = configs.preset("tiny")
    for level in preset.chain.sizes:
        config = preset.codec(level)
        codec = VQVAE(config)
        codec(noise, training=True)
        weights.save(folders.codecs, config.name, "", codec.parts, config)
        config = preset.generator(level)
        weights.save(folders.generators, config.name, "", Generator(config).parts, config)
    return folders


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The whole chain as a user makes it: music in four formats, prepared, then every tiny model trained on it.

    `.music`, `.data` and `.weights` are folders, `.output` is what train_all.py said, `.command` its arguments,
    `.steps` the steps of each model, `.seconds` the length of each song. Read-only: the whole session shares it.
    """
    from encoded import encode
    from prepared import music

    root = tmp_path_factory.mktemp("trained")
    made = SimpleNamespace(music=root / "music", data=root / "data", weights=root / "weights", steps=2, seconds=1.0)
    made.music.mkdir()
    for i, suffix in enumerate((".mp3", ".flac", ".ogg", ".m4a")):
        sound = music(made.seconds, i, 44100)
        encode(made.music / f"song {i}{suffix}", np.stack([sound, sound], axis=1))
    made.command = ["--data-dir", str(made.data), "--output-dir", str(made.weights), "--size", "tiny", "--no-fp16",
                    "--steps", str(made.steps), "--epochs", "1", "--batch-size", "2", "--input-length", "4096",
                    "--offsets", "1"]
    made.output = ""
    for command in (["prepare_audio.py", str(made.music), str(made.data)], ["train_all.py", *made.command]):
        scripts = Path(__file__).resolve().parents[1] / "scripts"
        done = subprocess.run([sys.executable, scripts / command[0], *command[1:]], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        made.output += done.stdout + done.stderr
    return made
