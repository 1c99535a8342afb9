import fcntl
import gc
import os
import shutil
import signal
import sys
from types import SimpleNamespace

# Before anything imports TensorFlow or matplotlib.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import numpy as np
import pytest
from commands import export_quickly, fork_workers, train_eagerly

from vqwave.presets import load_preset

# With `pytest -n` each worker has its own cores: on shared cores the threads of several
# TensorFlows wait for each other.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores, workers = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    if len(cores) >= workers:
        os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) :: workers])

# Tests must not depend on the machine's speed or on chance.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")

# A test run in the background of a shell ignores Ctrl-C, and so would the commands it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = ("end_to_end", "test_faults.py", "test_notebook.py", "test_docs.py", "test_folder_page.py",
        "test_benchmark.py", "test_evaluate.py", "test_other_chains.py", "test_studio_page.py",
        "test_studio_page_codecs.py", "test_cluster.py", "train")
"""Files and folders of tests that take long."""


def pytest_collection_modifyitems(items):
    """Long tests come first, so that no worker has one left when the others are done."""
    items.sort(key=lambda item: not {item.path.name, item.path.parent.name} & set(LONG))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """The folder of the whole run, shared by the workers of `pytest -n`."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session", autouse=True)
def cache(shared):
    """Tests and the scripts they start use a cache of their own, not the user's. What setup.sh has
    put there, the graphs of the shipped weights and ONNX Runtime Web, are links.
    """
    from vqwave.io.files import cache_folder

    exported = cache_folder()

    def link(folder):
        for path in [*exported.glob("*.onnx*"), *exported.glob("onnxruntime-web-*")]:
            (folder / path.name).symlink_to(path.resolve())

    os.environ["VQWAVE_CACHE"] = str(shared("cache", link))


@pytest.fixture(scope="session", autouse=True)
def speed():
    """The collector leaves out what was imported; short trainings run eagerly; workers are forked.
    `end_to_end/test_as_shipped.py` does without.
    """
    gc.freeze()
    export_quickly()
    fork_workers()
    if "vqwave.train.training" in sys.modules:  # a test file has imported it
        train_eagerly()


@pytest.fixture(scope="session")
def shared(run_folder):
    """`shared(name, fill)`: a read-only folder that `fill(folder)` fills once for the whole run."""
    def shared(name, fill):
        folder, done = run_folder / name, run_folder / f"{name}.done"
        with open(run_folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                # A worker may have failed half way.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return shared


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tiny_weights(shared):
    """Random weights of every tiny model: the folders `.codecs` and `.generators`; read-only."""
    root = shared("tiny", make_tiny_weights)
    return SimpleNamespace(codecs=root / "final_weights", generators=root / "weights")


def make_tiny_weights(root):
    import keras
    from chains import save_codec, save_generator

    folders = SimpleNamespace(codecs=root / "final_weights", generators=root / "weights")
    folders.codecs.mkdir()
    folders.generators.mkdir()
    keras.utils.set_random_seed(0)
    preset = load_preset("tiny")
    for level in preset.chain.sizes:
        save_codec(folders.codecs, preset.codec(level))
        save_generator(folders.generators, preset.generator(level))


@pytest.fixture(scope="session")
def led_weights(shared):
    """Random weights of a chain of two levels that a score leads: `.codecs`, `.generators`."""
    from chains import save_led

    root = shared("led by a score", save_led)
    return SimpleNamespace(codecs=root / "codecs", generators=root / "generators")


@pytest.fixture(scope="module")
def led_music(led_weights):
    from vqwave.play import api

    return api.load(led_weights.codecs, led_weights.generators, engine="onnx-float32")


@pytest.fixture(scope="session")
def trained(shared):
    """A chain made as a user makes it: music in four formats, prepared, then every tiny model
    trained.

    `.music`, `.data` and `.weights` are folders, `.output` the output of train_all.py, `.command`
    its arguments, `.steps` the steps of each model, `.seconds` the length of each song. Read-only:
    the whole run shares it.
    """
    root = shared("trained", lambda root: train_tiny_models(chain_of(root)))
    chain = chain_of(root)
    chain.output = (root / "output").read_text()
    return chain


def chain_of(root):
    chain = SimpleNamespace(music=root / "music", data=root / "data", weights=root / "weights",
                           steps=2, seconds=1.0)
    chain.command = ["--data-dir", str(chain.data), "--output-dir", str(chain.weights),
                    "--size", "tiny", "--no-fp16", "--steps", str(chain.steps), "--epochs", "1", "--batch-size",
                    "2", "--input-length", "4096",
                    "--offsets", "1", "--no-report"]
    return chain


def train_tiny_models(chain):
    from commands import done, stages_are_forked
    from encoded import encode
    from prepared import music

    chain.music.mkdir()
    for i, suffix in enumerate((".mp3", ".flac", ".ogg", ".m4a")):
        sound = music(chain.seconds, i, 44100)
        encode(chain.music / f"song {i}{suffix}", np.stack([sound, sound], axis=1))
    output = ""
    # Forked, so that no training has to import TensorFlow first.
    for name, *arguments in (["prepare_audio", chain.music, chain.data], ["train_all", *chain.command]):
        code, printed, _ = done(chain.music.parent / "log", name, *arguments, setting=stages_are_forked)
        assert code == 0, printed
        output += printed
    (chain.music.parent / "output").write_text(output)
