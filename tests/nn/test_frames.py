"""The core of a performer: the conditions give vectors, and codes near the vectors are played."""

import keras
import numpy as np
import pytest
from keras import ops

from vqwave import config as configs
from vqwave.config import GAIN_SHARE, VECTOR_SCALE, GeneratorConfig, Sampling
from vqwave.io import weights
from vqwave.nn.generator import Generator
from vqwave.nn.losses import squared_distance
from vqwave.play import engine

CODES, BOOKS, FRAMES = 16, 3, 20
CONFIG = configs.validate(GeneratorConfig, {
    "name": "generator_512", "level": 512, "books": BOOKS, "num_codes": CODES,
    "core": {"kind": "frames", "code_dim": 5}, "sampling": {"temperature": 0.0},
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
    features = ops.gelu(model.core.hidden(context))
    vectors = VECTOR_SCALE * np.array(model.core.vectors(features)).reshape(2, FRAMES, BOOKS, 5)
    for book, (codebook, weight) in enumerate(zip(codebooks, (8 / 5, 8 / 5, 8), strict=True)):
        wide = np.pad(codebook, ((0, 0), (0, 5 - codebook.shape[1])))
        distances = np.square(vectors[:, :, book, None] - wide).sum(-1)
        np.testing.assert_allclose(logits[:, :, book], -weight * distances, rtol=1e-4, atol=1e-3)
    right = logits.argmax(-1)
    assert float(squared_distance(right, logits).numpy().mean()) == pytest.approx(
        -logits.max(-1).mean(), rel=1e-5)


def test_every_engine_plays_the_nearest_codes(model, context, tmp_path):
    for _ in range(600):
        model.core(None, context, training=True)
    centre = model.core.nearest.centre.numpy()
    np.testing.assert_allclose(centre, model.core._vectors(context).numpy().mean((0, 1)), atol=0.02)
    weights.save(tmp_path, CONFIG.name, "", model.parts, CONFIG)
    weight_set = weights.find(tmp_path, CONFIG.name)
    # Away from the mean of all vectors: vectors by the sharpness, that of a gain by the dynamics.
    factors = np.array([2.0, 2.0, 1.2])[:, None]
    vectors = centre + factors * (model.core._vectors(context).numpy() - centre)
    nearest = model.core.nearest(vectors.astype("float32")).numpy().argmax(-1)
    draws, start = np.random.default_rng(4).random((2, FRAMES, BOOKS), np.float32), np.full(
        (2, BOOKS), CODES, np.int32)
    for name in engine.ENGINES:
        played = engine.GeneratorEngine(weight_set, name)
        codes, _, state = played.sample(context, draws, start, played.initial_state(2))
        np.testing.assert_array_equal(codes, nearest)
        assert state == []


def test_a_low_temperature_draws_gains_alone(model, context, tmp_path):
    weights.save(tmp_path, CONFIG.name, "", model.parts, CONFIG)
    weight_set, temperature = weights.find(tmp_path, CONFIG.name), 0.0003
    logits = model.core.nearest(model.core.nearest.spread(model.core._vectors(context))).numpy()
    logits[:, :, 2] *= GAIN_SHARE
    likelihood = ops.softmax(logits / temperature).numpy()
    draws, start = np.random.default_rng(5).random((2, FRAMES, BOOKS), np.float32), np.full(
        (2, BOOKS), CODES, np.int32)
    drawn = (likelihood.cumsum(-1) > draws[..., None]).argmax(-1)
    near = (drawn == logits.argmax(-1)).mean((0, 1))
    assert near[:2].min() == 1.0 and 0.1 < near[2] < 0.9
    for name in ("keras", "onnx-float32"):
        played = engine.GeneratorEngine(weight_set, name)
        for copies in (1, 4):  # eight rows use the loop for many; log-probabilities use the full loop
            rows = [np.concatenate([x] * copies) for x in (context, draws, start)]
            for log_probs in (True, False):
                codes, *_ = played.sample(*rows, [], Sampling(temperature=temperature),
                                          log_probs=log_probs)
                np.testing.assert_array_equal(codes, np.concatenate([drawn] * copies), name)


def test_a_performer_that_would_draw_its_gains_at_random_is_refused():
    with pytest.raises(ValueError, match="temperature is 0.2; a core of kind frames needs at most"):
        configs.replace(CONFIG, sampling=Sampling(temperature=0.2))
