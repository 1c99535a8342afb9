"""A new kind of condition, defined here: a label for each piece. It guards the registries: a config
class, a Keras model and two functions for its input are all that a new kind needs to train, to be
exported, to play and to resume.
"""

from dataclasses import replace
from typing import ClassVar, Literal

import keras
import numpy as np
import pytest
from chains import save_levels
from kinds import one_more
from prepared import data_folder, music

from vqwave import config as configs
from vqwave.config import ConditionConfig, DataConfig, GeneratorConfig, TrainingConfig
from vqwave.data import windows
from vqwave.errors import UserError
from vqwave.io import manifest, weights
from vqwave.nn import generator as nn_generator
from vqwave.nn.conditions import CONDITIONS
from vqwave.play import api, engine
from vqwave.play import conditions as feeds
from vqwave.play.stream import Stream
from vqwave.progress import SilentReporter
from vqwave.train import training
from vqwave.train.options import RunOptions

GENRES = ("waltz", "march")


class Label(ConditionConfig):
    """The genre of the piece."""

    input: ClassVar[str] = "genre"
    kind: Literal["label"] = "label"
    names: tuple[str, ...]
    channels: int = 4

    @property
    def shape(self):
        return ()

    @property
    def choices(self):
        return len(self.names)


def label_model(config, generator):
    """genre int32 [batch] -> float32 [batch, 1, channels]. Its layer has the name of a layer in the
    condition of the level above.
    """
    genre = keras.Input(config.shape, dtype="int32", name=config.input)
    x = keras.layers.Embedding(len(config.names), config.channels, "normal",
                               name="embedding")(genre)
    return keras.Model(genre, keras.layers.Reshape((1, config.channels))(x))


def genre_of(condition, generator, spans):
    return np.int32(condition.names.index(spans[0].track.track.tags["genre"]))


@pytest.fixture(scope="module", autouse=True)
def label():
    """The kind `label` is one of those that a config may name."""
    entries = (CONDITIONS, label_model), (windows.SERVERS,
                                          genre_of), (feeds.FEEDS, feeds.chosen_value)
    with one_more(GeneratorConfig, "conditions", Label, entries):
        yield


def with_label(name):
    """A tiny generator that is told the genre as well."""
    config = configs.preset("tiny").generator(name)
    return configs.replace(config, conditions=[*map(configs.to_dict, config.conditions),
                                               {"kind": "label", "names": GENRES}])


NAMES = ("generator_512", "generator_128")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder of two tracks of each genre."""
    data = tmp_path_factory.mktemp("data")
    tracks = data_folder(data, {f"{name} {i}": music(1.5, i) for i in range(2) for name in GENRES})
    manifest.write(data, [replace(t, tags=t.tags | {"genre": t.file.split()[0]}) for t in tracks])
    return data


@pytest.fixture(scope="module")
def trained(data, tiny_weights, tmp_path_factory):
    """The folder of two generators that were trained with labels, and of their chain."""
    out = tmp_path_factory.mktemp("out")
    settings = TrainingConfig(steps=2, epochs=1, batch_size=2, input_length=4096, offsets=1)
    for name in NAMES:
        record = training.train_generator(with_label(name), data, tiny_weights.codecs,
                                          RunOptions(out), settings,
                                          DataConfig(), SilentReporter())
        assert record.finished
        # Two steps change the embeddings too little to be heard.
        found = weights.find(out, name)
        parts = {part: found.load(part) for part in found.files}
        parts["context"]["genre/embedding/embeddings"] *= 100
        weights.save(out, name, "", parts, found.config)
    save_levels(out, configs.preset("tiny").chain, 2)
    return out


@pytest.fixture(params=["onnx", "onnx-float32", "keras"])
def parts(request, trained, tiny_weights):
    """(codec, generators) of one engine."""
    codec = engine.load_codec(weights.find(tiny_weights.codecs, "vqvae_128"), request.param)
    return codec, [engine.load_generator(weights.find(trained, name), request.param)
                   for name in NAMES]


def test_conditions_have_inputs_of_different_names():
    label = {"kind": "label", "names": GENRES}
    with pytest.raises(configs.ConfigError, match="two conditions have the same input: genre"):
        configs.replace(with_label("generator_128"), conditions=[label, label])
    with pytest.raises(configs.ConfigError, match=r"kind must be one of 'codes', 'labels', 'label'"):
        configs.replace(with_label("generator_128"), conditions=[{"kind": "odour"}])


def test_every_level_of_a_preset_may_have_conditions(tmp_path):
    levels = configs.preset("tiny").chain.generators
    own = {name: {"conditions": [{}] * bool(i) + [{"kind": "label", "names": list(GENRES)}]}
           for i, name in enumerate(levels.values())}
    path = tmp_path / "own.yml"
    path.write_text(configs.dump_yaml({"base": "tiny", "generators": own}))
    system = configs.preset(path)
    for level in levels:
        assert [c.kind
                for c in system.generator(level).conditions] == ["codes"] * (level < 512) + ["label"]
    for wrong in ([{}], [{"kind": "codes"}]):
        own["generator_512"]["conditions"] = wrong
        path.write_text(configs.dump_yaml({"base": "tiny", "generators": own}))
        with pytest.raises(configs.ConfigError, match="generator_512 is the top of the chain and "
                                                      "has no level above"):
            configs.preset(path)


def test_training_windows_carry_the_genre_of_their_track(tmp_path):
    config = with_label("generator_128")
    (np.arange(400) % 64).astype("<u2").tofile(tmp_path / "codes")
    (np.arange(100) % 64).astype("<u2").tofile(tmp_path / "above")
    tracks = [manifest.Track(f"{genre}.u16", "", 22050, 51200, "", {"genre": genre})
              for genre in GENRES]
    rows = [windows.CodeTrack(tmp_path / "codes", 400, tmp_path / "above", 100, track)
            for track in tracks]
    served = windows.CodeWindows(rows, config, 16, 8, 0)
    inputs, target = served[0]
    assert set(inputs) == {"previous", "source", "genre"}
    assert [int(g) for g in inputs["genre"]] == [served.position(i)[0] for i in range(8)]
    assert set(inputs["genre"].tolist()) == {0, 1}
    assert nn_generator.Generator(config)(inputs).shape == (*target.shape, config.num_codes)


def test_the_label_is_heard(parts):
    def piece(**chosen):
        with Stream(*parts, block=8192, seed=1, samples=3 * 8192, chosen=chosen) as stream:
            return np.concatenate([codes for _ in stream for codes in [stream.codes[128]]])

    waltz, march = piece(genre=0), piece(genre=1)
    assert np.mean(waltz != march) > 0.2
    np.testing.assert_array_equal(waltz, piece(genre=0))


def test_the_context_is_that_of_the_trained_model(parts, trained, rng):
    for played in parts[1]:
        model = nn_generator.load_generator(weights.find(trained, played.config.name))
        inputs = {"genre": np.array([1, 0])}
        if played.config.source:
            inputs["source"] = rng.integers(0, 64, (2, 8 + 2 * played.config.halo, 1))
        made = played.context(inputs)
        frames = 8 * played.config.ratio or 1
        assert made.shape == (2, frames, played.config.context_channels)
        np.testing.assert_allclose(made, model.context(inputs), atol=1e-5)


def test_each_piece_of_a_batch_has_its_own_label_and_a_resumed_one_keeps_it(parts):
    codec, generators = parts

    def start(batch, genre):
        return Stream(codec, generators, block=8192, seed=3, batch=batch, chosen={"genre": genre})

    with start(2, [1, 0]) as both, start(1, [1]) as alone:
        first = next(both)
        if codec.engine != "onnx":  # what int8 rounds depends on the batch
            np.testing.assert_allclose(first[0], next(alone)[0], atol=1e-5)
        state, second = both.state(), next(both)
    with Stream.resume(state, codec, generators) as stream:
        np.testing.assert_array_equal(next(stream), second)
    with start(2, 0) as stream:
        assert not np.allclose(next(stream)[0], first[0])


def test_a_default_choice_is_played_where_nothing_is_chosen(trained, tiny_weights):
    music = api.load(tiny_weights.codecs, trained, engine="onnx-float32", default_choice=0)
    first = music.generate(level=128, seconds=0.5, seed=1, chosen={"genre": 0})
    np.testing.assert_array_equal(music.generate(level=128, seconds=0.5, seed=1), first)


@pytest.mark.parametrize("chosen, said", [
    (None, "generator_512 wants a value for its condition 'genre', from 0 to 1"),
    ({"genre": 2}, "genre is 2; generator_512 knows 0 to 1"),
    ({"genre": [0, -1]}, r"genre is \[0, -1\]; generator_512 knows 0 to 1"),
    ({"genre": 0, "mood": 1}, "no condition called 'mood'; there are genre"),
    ({"genre": "waltz"}, "genre is 'waltz'"),
    ({"genre": [0, 1, 1]},
     r"genre is \[0, 1, 1\].*a whole number, or one for each of 2 pieces"),
])
def test_a_wrong_choice_is_refused(parts, chosen, said):
    with pytest.raises(UserError, match=said):
        Stream(*parts, block=8192, batch=2, chosen=chosen)
