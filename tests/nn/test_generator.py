"""generator.py: N source codes give N·ratio steps, no step knows a later one, and stepping equals teaching."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from vqwave import config as configs
from vqwave.nn.generator import Generator, build_context, build_core

N = 9


@pytest.fixture(scope="module")
def generators():
    keras.utils.set_random_seed(5)
    return {level: Generator(configs.preset("tiny").generator(f"generator_{level}")) for level in (512, 32)}


def inputs(config, rng, batch=2, n=N):
    steps = n * (config.ratio or 4)
    given = {"previous": rng.integers(0, config.num_codes + 1, (batch, steps)).astype("int32")}
    if config.source_level:
        given["source"] = rng.integers(0, config.source_codes + 1, (batch, n + 2 * config.halo)).astype("int32")
    return given


@pytest.mark.parametrize("size", configs.SIZES)
@pytest.mark.parametrize("level", configs.LEVELS)
def test_every_preset_has_the_shapes_it_says(level, size):
    config = configs.generator_preset(f"generator_{level}", size)
    core = build_core(config)
    assert core.output_shape == (None, None, config.num_codes)
    assert len(core.inputs) == (2 if config.source_level else 1)
    if config.source_level:
        context = build_context(config)
        assert config.halo == sum(config.context_dilations)
        made = context(np.full((1, 1 + 2 * config.halo), config.pad_token, "int32"))
        assert made.shape == (1, config.ratio, config.context_channels)


@pytest.mark.parametrize("n", [1, 2, 13])
def test_context_of_n_source_codes_is_n_times_ratio_steps(generators, n, rng):
    generator = generators[32]
    config = generator.config
    made = generator.context(inputs(config, rng, n=n)["source"])
    assert made.shape == (2, n * config.ratio, config.context_channels)


def test_context_of_a_window_is_that_of_the_whole_there(generators, rng):
    generator = generators[32]
    halo, ratio, pad = generator.config.halo, generator.config.ratio, generator.config.pad_token
    piece = rng.integers(0, 64, (1, 40)).astype("int32")
    padded = np.pad(piece, ((0, 0), (halo, halo)), constant_values=pad)
    whole = np.asarray(generator.context(padded))
    for start, stop in ((0, 5), (17, 18), (30, 40), (0, 40)):
        window = generator.context(padded[:, start : stop + 2 * halo])
        np.testing.assert_allclose(window, whole[:, start * ratio : stop * ratio], atol=1e-5)


def test_context_sees_its_halo_and_no_further(generators, rng):
    generator = generators[32]
    halo, ratio = generator.config.halo, generator.config.ratio
    source = inputs(generator.config, rng, batch=1, n=30)["source"]
    before = np.asarray(generator.context(source))
    changed = source.copy()
    at = halo + 15
    changed[0, at] = (changed[0, at] + 1) % 64
    moved = np.flatnonzero(np.abs(np.asarray(generator.context(changed)) - before).max(axis=(0, 2)) > 0) // ratio
    assert moved.min() == 15 - halo
    assert moved.max() == 15 + halo


@pytest.mark.parametrize("level", [512, 32])
def test_no_logit_depends_on_a_later_code(generators, level, rng):
    """By gradient: of the logits at t with respect to the embedded inputs, only those up to t are not zero."""
    import tensorflow as tf

    generator = generators[level]
    core, config = generator.core, generator.config
    given = inputs(config, rng, batch=1)
    embedded = core.get_layer("embedding")(given["previous"])
    context = generator.context(given["source"]) if config.source_level else None
    t = 7
    with tf.GradientTape() as tape:
        tape.watch(embedded)
        x = embedded if context is None else ops.concatenate([embedded, context], axis=-1)
        for i in range(config.lstm_layers):
            x = core.get_layer(f"lstm_{i}")(x)
        picked = ops.sum(core.get_layer("logits")(x)[:, t] ** 2)
    seen = np.abs(tape.gradient(picked, embedded).numpy()).sum(axis=(0, 2))
    assert (seen[: t + 1] > 0).all()
    assert (seen[t + 1 :] == 0).all()


@pytest.mark.parametrize("level", [512, 32])
def test_changing_a_code_changes_no_earlier_logits(generators, level, rng):
    generator = generators[level]
    given = inputs(generator.config, rng)
    before = np.asarray(generator(given))
    assert before.shape == (*given["previous"].shape, generator.config.num_codes)
    changed = given["previous"].copy()
    changed[:, 10] = (changed[:, 10] + 1) % 64
    after = np.asarray(generator(given | {"previous": changed}))
    np.testing.assert_allclose(after[:, :10], before[:, :10], atol=1e-6)
    assert np.abs(after[:, 10] - before[:, 10]).max() > 1e-6


@pytest.mark.parametrize("level", [512, 32])
def test_step_by_step_is_teacher_forcing(generators, level, rng):
    generator = generators[level]
    config = generator.config
    given = inputs(config, rng)
    taught = np.asarray(generator(given))
    context = generator.context(given["source"]) if config.source_level else None
    state = generator.initial_state(2)
    assert len(state) == 2 * config.lstm_layers
    for t in range(taught.shape[1]):
        logits, state = generator.step(given["previous"][:, t], None if context is None else context[:, t], state)
        np.testing.assert_allclose(logits, taught[:, t], atol=1e-4)


def test_the_parts_hold_every_weight(generators):
    assert set(generators[512].parts) == {"generator"}
    assert set(generators[32].parts) == {"generator", "context"}
    for generator in generators.values():
        held = [v for variables in generator.parts.values() for v in variables]
        assert {id(v) for v in held} == {id(v) for v in generator.weights}
        # A file holds its variables by path, which therefore must differ.
        for variables in generator.parts.values():
            assert len({v.path for v in variables}) == len(variables)


def test_dropout_acts_in_training_alone(rng):
    config = configs.replace(configs.preset("tiny").generator("generator_512"), dropout=0.5)
    generator = Generator(config)
    given = inputs(config, rng)
    still = np.asarray(generator(given))
    np.testing.assert_array_equal(generator(given), still)
    assert not np.allclose(generator(given, training=True), still)
