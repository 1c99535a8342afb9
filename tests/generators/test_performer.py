"""The core of a performer: the conditions give vectors, and codes near the vectors are played."""

import keras
import numpy as np
import pytest
import reference
from keras import ops

from vqwave.generators import VECTOR_SCALE, GeneratorConfig, Sampling
from vqwave.generators.generator_layer import Generator
from vqwave.generators.losses_layer import squared_distance
from vqwave.io import weights
from vqwave.levels import replace, validate

CODES, BOOKS, FRAMES = 16, 3, 20
CONFIG = validate(GeneratorConfig, {
    "name": "generator_512", "level": 512, "books": BOOKS, "num_codes": CODES,
    "core": {"kind": "frames", "code_dim": 5, "adversary": 1.0, "feature_matching": 1.0},
    "conditions": [{"kind": "score", "books": 12, "channels": 8, "dilations": [1, 2]}]})


@pytest.fixture(scope="module")
def codebooks():
    random = np.random.default_rng(2)
    return [random.normal(size=(CODES, dim)).astype("float32") for dim in (5, 5, 1)]


@pytest.fixture(scope="module")
def model(codebooks):
    keras.utils.set_random_seed(1)
    model = Generator(CONFIG)
    model.core.start_outputs(codebooks, np.random.default_rng(0))
    return model


@pytest.fixture(scope="module")
def context(model):
    rows = np.random.default_rng(3).integers(0, 3, (2, FRAMES + 2 * CONFIG.conditions[0].halo, CONFIG.conditions[0].shape[-1]))
    return np.array(model.context({"score": rows.astype(np.int32)}))


def test_logits_are_minus_the_squared_distances_of_codes(model, context, codebooks):
    logits = np.array(model.core(None, context))
    silence = np.zeros((2, FRAMES, BOOKS), np.float32)
    features = ops.gelu(model.core.hidden(np.concatenate([context, silence], axis=-1)))
    vectors = VECTOR_SCALE * np.array(model.core.vectors(features)).reshape(2, FRAMES, BOOKS, 5)
    for book, (codebook, weight) in enumerate(zip(codebooks, (8 / 5, 8 / 5, 8), strict=True)):
        wide = np.pad(codebook, ((0, 0), (0, 5 - codebook.shape[1])))
        distances = np.square(vectors[:, :, book, None] - wide).sum(-1)
        np.testing.assert_allclose(logits[:, :, book], -weight * distances, rtol=1e-4, atol=1e-3)
    right = logits.argmax(-1)
    assert float(squared_distance(right, logits).numpy().mean()) == pytest.approx(
        -logits.max(-1).mean(), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_every_engine_plays_the_nearest_codes_with_the_same_noise(model, context, tmp_path, temperature):
    weights.save(tmp_path, CONFIG.name, "", model.parts, CONFIG)
    weight_set = weights.find(tmp_path, CONFIG.name)
    draws = np.random.default_rng(4).random((2, FRAMES, BOOKS), np.float32)
    noise = model.core.noise(temperature * (draws - 0.5))
    nearest = model.core.nearest(model.core.perform(context, noise)).numpy().argmax(-1)
    assert (nearest != model.core.nearest(model.core.perform(context, 0 * noise)).numpy().argmax(-1)).any() == (
        temperature > 0)
    start = np.full((2, BOOKS), CODES, np.int32)
    for name in ("onnx", "keras"):
        played = reference.generator(weight_set, name)
        half, sampling = FRAMES // 2, Sampling(temperature=temperature)
        for log_probs in (True, False):  # log-probabilities use the full loop
            first, _, state = played.sample(context[:, :half], draws[:, :half], start, played.initial_state(2),
                                            sampling, log_probs=log_probs)
            last, _, _ = played.sample(context[:, half:], draws[:, half:], first[:, -1], state, sampling,
                                       log_probs=log_probs)
            np.testing.assert_array_equal(np.concatenate([first, last], axis=1), nearest)
    np.testing.assert_array_equal(model.core.played(
        context[:1], model.core.noise_of(temperature * (draws[0] - 0.5))), nearest[0])


def test_noise_has_a_variance_of_one_and_books_of_their_own_slowness(model):
    core = replace(CONFIG.core, adversary=0.0)
    draws = np.random.default_rng(5).uniform(-0.5, 0.5, (4, 3000, BOOKS)).astype("float32")
    noise = np.array(model.core.noise(draws))[:, 1000:]
    np.testing.assert_allclose(noise.std((0, 1)), 1.0, atol=0.2)
    kept = (noise[:, 1:] * noise[:, :-1]).mean((0, 1)) / (noise[:, :-1] ** 2).mean((0, 1))
    np.testing.assert_allclose(kept, core.kept(BOOKS), atol=0.05)


def test_the_critic_tells_performances_from_recordings_and_teaches_the_performer(model, context):
    codes = np.random.default_rng(6).integers(0, CODES, (2, FRAMES, BOOKS)).astype(np.int32)
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        logits = model.core(None, context, training=True)
        terms = model.critic.losses_of(model.core, codes, logits, context)
    critic, performer = model.critic.trainable_variables, [model.core.vectors.kernel]
    for name, learns, rests in (("discriminator", critic, performer), ("adversarial", performer, critic),
                                ("feature_matching", performer, critic)):
        assert all(g is not None and np.abs(g).max() > 0 for g in tape.gradient(
            terms[name], [v.value for v in learns if "bias" not in v.path]))
        assert all(g is None or not np.abs(g).max() for g in tape.gradient(terms[name], [v.value for v in rests]))
