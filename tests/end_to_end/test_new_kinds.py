"""New kinds of two axes, defined here: a condition (a label for each piece) and a core (a plain
recurrent layer). Guards the registries: the classes and functions below are all that a new kind
needs to train, to be exported, to play and to resume.
"""

import contextlib
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, get_args, get_origin

import keras
import numpy as np
import pytest
from chains import save_levels
from keras import layers, ops
from prepared import data_folder, music
from pydantic import Field

from vqwave import config as configs
from vqwave.config import (
    ConditionConfig,
    CoreConfig,
    DataConfig,
    GeneratorConfig,
    TrainingConfig,
    default_kind,
)
from vqwave.io import manifest, weights
from vqwave.nn import generator as nn_generator
from vqwave.nn import losses
from vqwave.nn.conditions import CONDITIONS, FrameEmbedding
from vqwave.nn.cores import CORES
from vqwave.onnx.bodies import BODIES
from vqwave.play import engine
from vqwave.play.level import Level
from vqwave.play.stream import AS_COMPOSED, Stream
from vqwave.progress import SilentReporter
from vqwave.train import training
from vqwave.train.options import RunOptions

TINY = configs.preset("tiny")
SETTINGS = TrainingConfig(steps=2, epochs=1, batch_size=2, input_length=4096, offsets=1)
GENRES = ("waltz", "march")
NAMES = ("generator_512", "generator_128")


class Label(ConditionConfig):
    input: ClassVar[str] = "genre"
    kind: Literal["label"] = "label"
    names: tuple[str, ...]
    channels: int = 4

    @property
    def shape(self):
        return ()

    def rows(self, view, start, count):
        if isinstance(view, Level):
            return np.full(view.batch, PLAYED["genre"], np.int32)
        return np.int32([self.names.index(view.spans[0].track.track.tags["genre"])])


def label_model(config, generator):
    """int32 [batch] -> float32 [batch, 1, channels]; another condition has a layer of this name."""
    genre = keras.Input(config.shape, dtype="int32", name=config.input)
    x = keras.layers.Embedding(len(config.names), config.channels, "normal",
                               name="embedding")(genre)
    return keras.Model(genre, keras.layers.Reshape((1, config.channels))(x))


PLAYED = {"genre": 0}
"""The genre that streams play."""


class PlainCore(CoreConfig):
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

    compile_options = staticmethod(losses.code_compile_options)

    def start_inputs(self, codebooks, random):
        self.embedding.start_from(codebooks, random)

    def start_outputs(self, codebooks, random):
        pass

    def call(self, previous, context=None, current=None, training=False):
        return ops.expand_dims(self.logits(self.recurrent(self.embedding(previous),
                                                          training=training)), -2)

    def step(self, previous, context, state, draw):
        x, new = self.recurrent.cell(self.embedding(previous[:, None])[:, 0], state)
        return ops.stack([draw(0, self.logits(x))], axis=-1), list(new)


class PlainLoop:
    int8 = False

    def __init__(self, config, arrays, precision, main, body):
        self.arrays, self.body = arrays, body
        self.together = self.in_passes = False

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


# ------------------------------------------------------------------------------ using the new kinds


@contextlib.contextmanager
def extra_kind(config, field, kind, *entries):
    """While it lasts, `field` of a config may also be a `kind`. entries: (registry, its entry)."""
    info = config.model_fields[field]
    annotation = info.annotation
    many = get_origin(annotation) is tuple
    union = get_args(annotation)[0] if many else annotation
    if get_origin(union) is Annotated:
        union = get_args(union)[0]
    default = get_args(union)[0].model_fields["kind"].default
    extended = Annotated[union | kind, Field(discriminator="kind"), default_kind(default)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(info, "annotation", tuple[extended, ...] if many else extended)
        config.model_rebuild(force=True)
        for registry, entry in entries:
            patch.setitem(registry, kind.model_fields["kind"].default, entry)
        yield
    config.model_rebuild(force=True)


@pytest.fixture(scope="module", autouse=True)
def kinds():
    """Configs may name the new kinds."""
    with (extra_kind(GeneratorConfig, "conditions", Label, (CONDITIONS, label_model)),
          extra_kind(GeneratorConfig, "core", PlainCore, (CORES, PlainStack),
                     (BODIES, PlainLoop))):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    tracks = data_folder(data, {f"{name} {i}": music(1.5, i) for i in range(2) for name in GENRES})
    manifest.write(data, [replace(t, tags=t.tags | {"genre": t.file.split()[0]}) for t in tracks])
    return data


def train(model, data, codecs, out):
    training.train_generator(model, data, codecs, RunOptions(out), SETTINGS, DataConfig(),
                             SilentReporter())


def with_label(name):
    """A tiny generator that has the genre as a condition as well."""
    config = TINY.generator(name)
    return configs.replace(config, conditions=[*map(configs.to_dict, config.conditions),
                                               {"kind": "label", "names": GENRES}])


@pytest.fixture(scope="module")
def labelled(data, tiny_weights, tmp_path_factory):
    """The folder of two generators that were trained with labels, and of their chain."""
    out = tmp_path_factory.mktemp("out")
    for name in NAMES:
        train(with_label(name), data, tiny_weights.codecs, out)
        # Two steps change the embeddings too little to be heard.
        weight_set = weights.find(out, name)
        parts = {part: weight_set.load(part) for part in weight_set.files}
        parts["context"]["genre/embedding/embeddings"] *= 100
        weights.save(out, name, "", parts, weight_set.config)
    save_levels(out, TINY.chain, 2)
    return out


@pytest.fixture(params=["onnx", "onnx-float32", "keras"])
def parts(request, labelled, tiny_weights):
    """(codec, generators) of one engine."""
    codec = engine.CodecEngine(weights.find(tiny_weights.codecs, "vqvae_128"), request.param)
    return codec, [engine.GeneratorEngine(weights.find(labelled, name), request.param)
                   for name in NAMES]


def test_the_label_changes_the_sound(parts, monkeypatch):
    def piece(genre):
        monkeypatch.setitem(PLAYED, "genre", genre)
        with Stream(*parts, block=8192, seed=1, samples=3 * 8192, **AS_COMPOSED) as stream:
            return np.concatenate([codes for _ in stream for codes in [stream.codes[128]]])

    waltz, march = piece(0), piece(1)
    assert np.mean(waltz != march) > 0.2
    np.testing.assert_array_equal(waltz, piece(0))


def test_the_context_is_that_of_the_trained_model(parts, labelled, rng):
    for played in parts[1]:
        model = nn_generator.load_generator(weights.find(labelled, played.config.name))
        inputs = {"genre": np.array([1, 0])}
        if played.config.source:
            inputs["source"] = rng.integers(0, 64, (2, 8 + 2 * played.config.halo, 1))
        context = played.context(inputs)
        frames = 8 * played.config.ratio or 1
        assert context.shape == (2, frames, played.config.context_channels)
        np.testing.assert_allclose(context, model.context(inputs), atol=1e-5)


@pytest.fixture(scope="module")
def plain(data, tiny_weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    train(configs.replace(TINY.generator(512), core={"kind": "plain"}), data, tiny_weights.codecs, out)
    return weights.find(out, "generator_512")


def test_every_engine_plays_a_new_core_alike(plain):
    draws = np.random.default_rng(0).random((2, 50, 1), np.float32)
    start = np.full((2, 1), plain.config.start_token, np.int32)
    played = {}
    for name in engine.ENGINES:
        generator = engine.GeneratorEngine(plain, name)
        state = generator.initial_state(2)
        assert [x.shape for x in state] == [(2, 16)]
        played[name] = generator.sample(None, draws, start, state)
    for name in ("onnx", "onnx-float32"):
        np.testing.assert_array_equal(played[name][0], played["keras"][0])
        np.testing.assert_allclose(played[name][1], played["keras"][1], atol=1e-5)
        np.testing.assert_allclose(played[name][2][0], played["keras"][2][0], atol=1e-5)


def test_a_new_core_streams_and_resumes(plain, tiny_weights):
    codec = engine.CodecEngine(weights.find(tiny_weights.codecs, "vqvae_512"))
    generators = [engine.GeneratorEngine(plain)]
    with Stream(codec, generators, block=8192, seed=1, **AS_COMPOSED) as stream:
        next(stream)
        state, second = stream.state(), next(stream)
    with Stream.resume(state, codec, generators) as stream:
        np.testing.assert_array_equal(next(stream), second)
