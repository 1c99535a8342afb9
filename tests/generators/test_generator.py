import keras
import numpy as np
import pytest

from vqwave.generators.generator_layer import Generator
from vqwave.levels import replace, to_dict
from vqwave.presets import DEFAULT_PRESET, load_preset, preset_names

N = 9


@pytest.fixture(scope="module")
def generators():
    keras.utils.set_random_seed(5)
    preset = load_preset("tiny")
    models = {32: Generator(preset.generator(32))}
    # Three books a frame, under a level of two.
    config = replace(preset.generator(128), books=3)
    source = replace(config.source, books=2)
    models["books"] = Generator(replace(config, conditions=[to_dict(source)]))
    return models


def inputs(config, rng, batch=2, n=N):
    steps = n * (config.ratio or 4)
    shape = (batch, steps, config.books)
    arrays = {"previous": rng.integers(0, config.num_codes + 1, shape).astype("int32")}
    if config.books > 1:
        arrays["current"] = rng.integers(0, config.num_codes, shape).astype("int32")
    if config.source:
        shape = (batch, n + 2 * config.halo, config.source.books)
        arrays["source"] = rng.integers(0, config.source.num_codes + 1, shape).astype("int32")
    if config.hears:
        shape = (batch, steps + 2 * config.above.halo, config.level)
        arrays["sound"] = rng.normal(0, 0.1, shape).astype("float32")
    return arrays


BY_DEFAULT = ("tiny", DEFAULT_PRESET, "prior_transformer", "prior_wavenet",
              "prior_vqvae2_pixelcnn")
"""Presets of each kind of core; the others are built in the large run."""


@pytest.mark.parametrize("size, level", [
    pytest.param(size, level, marks=[] if size in BY_DEFAULT else pytest.mark.large)
    for size in preset_names() for level in load_preset(size).chain.generators])
def test_every_preset_has_the_shapes_of_its_config(level, size, rng):
    config = load_preset(size).generator(level)
    generator, given = Generator(config), inputs(config, rng, 1, 1)
    if "score" in generator.conditions:
        rows = 4 + 2 * config.conditions[0].halo
        given["score"] = np.zeros((1, rows, config.conditions[0].shape[-1]), "int32")
    if config.labels:
        given[config.labels.input] = np.zeros((1, 4, 1, 2), "int32")
    assert generator(given).shape == (1, config.ratio or 4, config.books, config.num_codes)
    assert set(generator.conditions) == {condition.input for condition in config.conditions}
    if config.source:
        layers = generator.conditions["source"].layers
        assert config.halo == sum(x.receptive_field[0] for x in layers
                                  if hasattr(x, "receptive_field"))
        outside = np.full((1, 1 + 2 * config.halo, 1), config.pad_token, "int32")
        context = generator.context({"source": outside})
        assert context.shape == (1, config.ratio, config.context_channels)


def test_logits_begin_with_the_codebooks(generators, rng):
    generator = generators["books"]
    books = [rng.normal(size=(64, 5)).astype("float32") for _ in range(3)]
    for book in books:
        book[1] = book[0]
    generator.core.start_outputs(books, rng)
    logits = np.asarray(generator(inputs(generator.config, rng)))
    np.testing.assert_allclose(logits[..., 1], logits[..., 0], atol=1e-5)
    assert np.abs(logits[..., 2] - logits[..., 0]).max() > 0.01


def test_input_dropout_leaves_out_whole_codes_of_the_frame_before(rng):
    """In training alone; the rest is scaled up, so that its mean stays."""
    core = {"kind": "lstm", "embedding_dim": 8, "units": 24, "input_dropout": 0.5}
    config = replace(load_preset("tiny").generator("generator_512"), books=3, core=core)
    core, previous = Generator(config).core, inputs(config, rng)["previous"]
    whole, kept = (np.asarray(core._join(previous, None, training)).reshape(-1, 3, 8)
                   for training in (False, True))
    present = np.abs(kept).max(-1) > 0
    assert 0.3 < present.mean() < 0.7 and not np.array_equal(present.all(1), present.any(1))
    np.testing.assert_allclose(kept, 2 * whole * present[..., None], rtol=1e-6)
