"""A new kind of quantizer, defined here, without a codebook: each number of a latent is rounded to
one of four values (finite scalar quantization, Mentzer et al. 2023). Guards the contract of
quantizers: nothing outside the registry depends on a codebook.
"""

from typing import ClassVar, Literal

import keras
import numpy as np
import pytest
from chains import save_levels
from keras import ops
from kinds import one_more
from prepared import data_folder, music

from vqwave import cli, plots
from vqwave import config as configs
from vqwave.commands import plot
from vqwave.config import CodecConfig, DataConfig, QuantizerConfig, TrainingConfig
from vqwave.io import weights
from vqwave.nn.codebooks import Quantized
from vqwave.nn.quantizers import QUANTIZERS
from vqwave.play import api, engine
from vqwave.progress import SilentReporter
from vqwave.train import training
from vqwave.train.options import RunOptions

STEPS, NUMBERS = 4, 3


class Scalar(QuantizerConfig):
    kind: Literal["scalar"] = "scalar"
    num_codes: ClassVar[int] = STEPS**NUMBERS
    books: ClassVar[int] = 1
    width: ClassVar[int] = NUMBERS


class ScalarQuantizer(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.codebooks = []
        self.place = STEPS ** np.arange(NUMBERS)

    def use_loaded_codebooks(self):
        pass

    def new_metrics(self):
        return {}

    def _scale(self, latents):
        """0 … 3, not whole yet."""
        return (ops.tanh(ops.cast(latents, "float32")) + 1) * (STEPS - 1) / 2

    def encode(self, latents):
        whole = ops.cast(ops.round(self._scale(latents)), "int32")
        return ops.sum(whole * ops.cast(self.place, "int32"), axis=-1, keepdims=True)

    def lookup(self, codes):
        whole = ops.mod(ops.floor_divide(codes, ops.cast(self.place, "int32")), STEPS)
        return ops.cast(whole, "float32") * 2 / (STEPS - 1) - 1

    def call(self, latents, training=False):
        scaled, codes = self._scale(latents) * 2 / (STEPS - 1) - 1, self.encode(latents)
        vectors = scaled + ops.stop_gradient(self.lookup(codes) - scaled)
        return Quantized(vectors, codes, {}, {})


@pytest.fixture(scope="module", autouse=True)
def quantizer():
    """The kind `scalar` is one of those that a config may name."""
    with one_more(CodecConfig, "quantizer", Scalar,
                  [(QUANTIZERS, lambda config, seed, name: ScalarQuantizer(name=name))]):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a codec and a generator of one level, trained."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    data_folder(data, {f"track {i}": music(1.5, i) for i in range(2)})
    tiny = configs.preset("tiny")
    settings = TrainingConfig(steps=2, epochs=1, batch_size=2, input_length=4096, offsets=1)
    codec = configs.replace(tiny.codec(512), quantizer={"kind": "scalar"})
    training.train_codec(codec, data, RunOptions(out), settings, DataConfig(), SilentReporter())
    training.train_generator(tiny.generator(512), data, out, RunOptions(out),
                             settings, DataConfig(), SilentReporter())
    save_levels(out, tiny.chain)
    return out


def test_every_engine_encodes_and_decodes_alike(trained):
    found = weights.find(trained, "vqvae_512")
    sound = music(1.0)[None]
    made = {name: engine.load_codec(found, name) for name in ("onnx", "keras")}
    codes = {name: codec.encode(sound) for name, codec in made.items()}
    np.testing.assert_array_equal(codes["onnx"], codes["keras"])
    assert found.codebooks() == [] and 1 < len(np.unique(codes["onnx"])) <= found.config.num_codes
    np.testing.assert_allclose(made["onnx"].decode(codes["onnx"]),
                               made["keras"].decode(codes["keras"]), atol=1e-5)


def test_its_codes_are_played_and_drawn(trained):
    played = api.load(trained, trained)
    assert np.isfinite(played.generate(seconds=0.5, seed=1)).all()
    shades = plots.codec_shades(played.codec(512))[0]
    assert sorted(shades) == pytest.approx(np.linspace(0, 1, 64))
    assert len(set(np.sign(np.diff(shades)))) == 1


def test_a_map_of_its_codebook_is_refused(trained, tmp_path, capsys):
    code = cli.entry(plot.main, ["codebook", str(tmp_path / "none.wav"),
                                 "--vqvae-weights-dir", str(trained),
                                 "--output", str(tmp_path / "a.png")])
    assert code == 2 and "vqvae_512 has no codebook" in capsys.readouterr().err
