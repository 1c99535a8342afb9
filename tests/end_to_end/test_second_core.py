"""A new kind of core, defined here: a plain recurrent layer. Guards the registries: a config class, a
Keras model and the body of an ONNX loop are all that a new core needs to train, export and play.
"""

from typing import Literal

import keras
import numpy as np
import pytest
from keras import layers, ops
from kinds import one_more
from prepared import data_folder, music

from vqwave import config as configs
from vqwave.config import CoreConfig, DataConfig, GeneratorConfig, TrainingConfig
from vqwave.io import weights
from vqwave.nn.conditions import FrameEmbedding
from vqwave.nn.cores import CORES
from vqwave.onnx import loops
from vqwave.play import engine
from vqwave.play.stream import Stream
from vqwave.progress import SilentReporter
from vqwave.train import training
from vqwave.train.options import RunOptions

NAME = "generator_512"


class PlainCore(CoreConfig):
    """One recurrent layer."""

    kind: Literal["plain"] = "plain"
    units: int = 16

    def states(self, books):
        return {"memory": (self.units,)}


class PlainStack(keras.Model):
    """One book, no conditions: as small as a core can be."""

    def __init__(self, config, **kwargs):
        super().__init__(name="generator", **kwargs)
        self.embedding = FrameEmbedding(1, config.num_codes, 8, name="embedding")
        self.recurrent = layers.SimpleRNN(config.core.units, return_sequences=True,
                                          name="recurrent")
        self.logits = layers.Dense(config.num_codes, name="logits")
        self.embedding.build((None, None, 1))
        self.recurrent.build((None, None, 8))
        self.logits.build((None, None, config.core.units))
        self.built = True

    def start_outputs(self, codebooks, random):
        pass

    def call(self, previous, context=None, current=None, training=False):
        return ops.expand_dims(self.logits(self.recurrent(self.embedding(previous),
                                                          training=training)), -2)

    def step(self, previous, context, state, draw):
        x, new = self.recurrent.cell(self.embedding(previous[:, None])[:, 0], state)
        return ops.stack([draw(0, self.logits(x))], axis=-1), list(new)


class PlainLoop:
    def __init__(self, config, arrays, precision, main, body):
        self.arrays, self.body, self.together = arrays, body, False

    def features(self, previous, context):
        body, cell = self.body, "recurrent/simple_rnn_cell"
        heard = body("MatMul", body("Gather", self.arrays["embedding/embeddings"],
                                    previous, axis=0),
                     self.arrays[f"{cell}/kernel"])
        kept = body("MatMul", "body_memory", self.arrays[f"{cell}/recurrent_kernel"])
        body.node("Tanh", body("Add", body("Add", heard, kept), self.arrays[f"{cell}/bias"]),
                  outputs=["body_memory_out"])
        return "body_memory_out"

    def logits(self, book, features, drawn):
        product = self.body("MatMul", features, self.arrays["logits/kernel"])
        return self.body("Mul", self.body("Add", product, self.arrays["logits/bias"]),
                         "inverse_temperature")


@pytest.fixture(scope="module", autouse=True)
def core():
    """The kind `plain` is one of those that a config may name."""
    with one_more(GeneratorConfig, "core", PlainCore,
                  [(CORES, PlainStack), (loops.LOOPS, PlainLoop)]):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    data_folder(data, {f"track {i}": music(1.5, i) for i in range(2)})
    return data


@pytest.fixture(scope="module")
def trained(data, tiny_weights, tmp_path_factory):
    """The set of a top level that was trained with the core."""
    out = tmp_path_factory.mktemp("out")
    config = configs.replace(configs.preset("tiny").generator(NAME), core={"kind": "plain"})
    settings = TrainingConfig(steps=2, epochs=1, batch_size=2, input_length=4096, offsets=1)
    training.train_generator(config, data, tiny_weights.codecs, RunOptions(out),
                             settings, DataConfig(),
                             SilentReporter())
    return weights.find(out, NAME)


def test_every_engine_plays_it_alike(trained):
    draws = np.random.default_rng(0).random((2, 50, 1), np.float32)
    start = np.full((2, 1), trained.config.start_token, np.int32)
    played = {}
    for name in engine.ENGINES:
        generator = engine.load_generator(trained, name)
        state = generator.initial_state(2)
        assert [x.shape for x in state] == [(2, 16)]
        played[name] = generator.sample(None, draws, start, state)
    for name in ("onnx", "onnx-float32"):
        np.testing.assert_array_equal(played[name][0], played["keras"][0])
        np.testing.assert_allclose(played[name][1], played["keras"][1], atol=1e-5)
        np.testing.assert_allclose(played[name][2][0], played["keras"][2][0], atol=1e-5)


def test_it_streams_and_resumes(trained, tiny_weights):
    codec = engine.load_codec(weights.find(tiny_weights.codecs, "vqvae_512"))
    generators = [engine.load_generator(trained)]
    with Stream(codec, generators, block=8192, seed=1) as stream:
        next(stream)
        state, second = stream.state(), next(stream)
    with Stream.resume(state, codec, generators) as stream:
        np.testing.assert_array_equal(next(stream), second)
