"""Each quantizer follows its equations in training and rests in inference."""

import keras
import numpy as np
import pytest
from keras import ops

from vqwave.codecs import (
    QUANTIZERS,
    BandedQuantizer,
    EMAQuantizer,
    GainShapeQuantizer,
)
from vqwave.codecs.family.gaussian import GaussianQuantizer
from vqwave.codecs.family.residual import ResidualQuantizer
from vqwave.codecs.family.som import SOMQuantizer
from vqwave.codecs.quantizers_layer import new_quantizer

CODES, DIM = 6, 3
BOOK = {"decay": 0.8, "revival_threshold": 0.0, "commitment": 0.25}


def build(config, seed=0):
    layer = new_quantizer(config, seed)
    layer.build((None, None, config.width))
    return layer


def quantizer(codes=CODES, seed=1, **more):
    values = BOOK | {"decay": 0.9, "num_codes": codes, "code_dim": DIM} | more
    return build(EMAQuantizer(**values), seed)


def at(layer, codebook, count, total=None):
    codebook, count = np.asarray(codebook, "float32"), np.asarray(count, "float32")
    layer.codebook.assign(codebook)
    layer.count.assign(count)
    layer.total.assign(codebook * count[:, None] if total is None else total)
    layer.started.assign(1.0)
    return layer


def state(layer):
    return [np.array(v.numpy()) for v in (layer.codebook, layer.count, layer.total, layer.started)]


def gradient(function, x):
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x).numpy()


@pytest.fixture
def latents(rng):
    return rng.normal(size=(2, 40, DIM)).astype("float32")


@pytest.fixture
def known(rng):
    return at(quantizer(), rng.normal(size=(CODES, DIM)), np.full(CODES, 5.0))


def test_commitment_pulls_latents_to_their_codes(known, latents):
    def commitment(x):
        return known(x).losses[0]

    quantized = np.asarray(known.lookup(known.encode(latents)))
    expected = 2 * 0.25 * (latents - quantized) / latents.size
    np.testing.assert_allclose(gradient(commitment, latents), expected, atol=1e-7)
    np.testing.assert_allclose(commitment(latents), 0.25 * ((latents - quantized) ** 2).mean(),
                               rtol=1e-5)


def test_one_training_step_is_the_formula(known, latents):
    codebook, count, total, _ = state(known)
    codes = np.asarray(known.encode(latents)).ravel()
    quantized = known(latents, training=True).vectors
    np.testing.assert_allclose(quantized.numpy().reshape(-1, DIM), codebook[codes], atol=1e-6)
    flat = latents.reshape(-1, DIM)
    n = np.bincount(codes, minlength=CODES)
    sums = np.stack([flat[codes == i].sum(0) for i in range(CODES)])
    new_count, new_total = 0.9 * count + 0.1 * n, 0.9 * total + 0.1 * sums
    smoothed = (new_count + 1e-5) / (new_count.sum() + CODES * 1e-5) * new_count.sum()
    np.testing.assert_allclose(known.count.numpy(), new_count, rtol=1e-5)
    np.testing.assert_allclose(known.total.numpy(), new_total, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(known.codebook.numpy(), new_total / smoothed[:, None],
                               rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("uses", [1, 50])
def test_a_code_is_dead_below_a_share_of_the_mean_count(uses):
    """However large the batch: four of six codes are used so often in it."""
    codebook = np.concatenate([np.eye(DIM), -np.eye(DIM)])
    layer = at(quantizer(revival_threshold=0.5), codebook, np.array([1, 1, 1, 1, 0.8, 0.3]) * uses)
    layer(np.repeat(codebook[None, :4], uses, axis=1).astype("float32"), training=True)
    moved = np.abs(state(layer)[0] - codebook).max(1) > 0.1
    assert moved.tolist() == [False] * 5 + [True]


def test_a_dead_code_is_moved_onto_a_latent_of_the_batch_with_its_count_and_total(latents):
    codebook = np.zeros((CODES, DIM))
    codebook[2] = 1e3  # far from every latent
    codebook[4] = -1e3
    layer = at(quantizer(revival_threshold=0.1), codebook, [5, 5, 0.01, 5, 0.02, 5])
    layer(latents, training=True)
    vectors, counts, totals, _ = state(layer)
    flat = latents.reshape(-1, DIM)
    for dead in (2, 4):
        assert np.abs(flat - vectors[dead]).sum(1).min() == 0
        # A fair share: the code neither dies again at once nor outweighs the others.
        assert counts[dead] > 1.0
        np.testing.assert_allclose(totals[dead] / counts[dead], vectors[dead], rtol=1e-5)
    # The revived codes come from anywhere in the batch, not all from one place.
    assert not np.array_equal(vectors[2], vectors[4])
    assert counts[0] > 1.0


def test_the_first_batch_gives_the_initial_codes_unless_a_codebook_was_loaded(rng, latents):
    layer, loaded = quantizer(), quantizer()
    quantized, codes, _, _ = layer(latents, training=True)
    flat = latents.reshape(-1, DIM)
    for vector in np.unique(quantized.numpy().reshape(-1, DIM), axis=0):
        assert np.abs(flat - vector).sum(1).min() < 1e-6
    # The first batch's counts stand for the past.
    np.testing.assert_array_equal(layer.count.numpy(),
                                  np.bincount(codes.numpy().ravel(), minlength=CODES))
    loaded.codebook.assign(rng.normal(size=(CODES, DIM)))
    loaded.use_loaded_codebooks()
    np.testing.assert_array_equal(loaded.encode(latents), loaded(latents, training=True).codes)


def residual(books=3, dropout=0.0, codes=8, **more):
    values = BOOK | {"decay": 0.9, "num_codes": codes, "code_dim": DIM} | more
    return build(ResidualQuantizer(books=books, dropout=dropout, **values))


def test_each_book_quantizes_the_residual_of_the_books_before(latents):
    layer = residual()
    layer(latents, training=True)
    codes = np.asarray(layer.encode(latents))
    assert codes.shape == (2, 40, 3) and codes.dtype == np.int32
    left = latents.copy()
    for k, book in enumerate(layer.books):
        table = book.codebook.numpy()
        nearest = ((left[:, :, None] - table) ** 2).sum(-1).argmin(-1)
        np.testing.assert_array_equal(codes[..., k], nearest)
        left = left - table[nearest]
    quantized, chosen, _, _ = layer(latents)
    np.testing.assert_array_equal(chosen, codes)
    np.testing.assert_allclose(quantized, layer.lookup(codes), atol=1e-5)
    np.testing.assert_allclose(latents - np.asarray(quantized), left, atol=1e-5)


def test_dropout_drops_later_books_of_whole_windows_only_in_training(rng):
    x = rng.normal(size=(64, 10, DIM)).astype("float32")
    layer = residual(dropout=1.0)
    layer(x, training=True)
    codes = layer.encode(x)
    by_count = np.stack([layer.lookup(codes[..., :n]) for n in (1, 2, 3)])
    vectors = np.asarray(layer(x, training=True).vectors)
    # The step moved the codebooks after the lookup: the nearest of the three tells the count.
    counts = np.abs(by_count - vectors).mean((2, 3)).argmin(0)
    assert set(counts) == {0, 1, 2}
    sizes = [book.count.numpy().sum() for book in layer.books]
    assert sizes[0] > sizes[1] > sizes[2]
    np.testing.assert_allclose(layer(x).vectors, layer.lookup(layer.encode(x)), atol=1e-5)


def test_codes_start_and_revive_among_the_windows_that_count(rng):
    x = np.repeat(rng.normal(size=(1, 4, 10, DIM)), 2, axis=0).astype("float32")
    x += np.array([0, 100, 0, 100], "float32")[None, :, None, None]
    counts = np.array([1, 0, 1, 0], "float32")
    layer = quantizer(codes=64, revival_threshold=0.5)
    for batch in x:
        layer(batch, training=True, window_mask=counts)
        assert np.abs(layer.codebook.numpy()).max() < 50
    served = x[0][counts > 0].reshape(-1, DIM)
    drawn = {int(np.abs(served - code).sum(1).argmin()) for code in layer.codebook.numpy()}
    assert {place // 10 for place in drawn} == {0, 1}


def plane(rng, count=4000):
    """Latents on a bent square, which a map in two dimensions can lie on."""
    u, v = rng.uniform(-1, 1, (2, count))
    return np.stack([u, v, 0.3 * u * v], axis=-1)[None].astype("float32")


def som_of_36(final_radius, steps, **more):
    return build(SOMQuantizer(num_codes=36, radius=0.5, final_radius=final_radius,
                              shrink_steps=steps, **(BOOK | more)))


def test_a_map_becomes_ordered_and_ends_with_the_final_radius(rng):
    x = plane(rng)
    layer, plain = som_of_36(0.05, 60, code_dim=DIM), quantizer(36, decay=0.8)
    for _ in range(120):
        layer(x, training=True)
        plain(x, training=True)

    def step_across(quantizer):
        """The mean distance between neighbours of the grid."""
        return np.linalg.norm(np.diff(quantizer.codebook.numpy().reshape(6, 6, DIM), axis=1),
                              axis=-1).mean()

    assert step_across(layer) < 0.6 * step_across(plain)
    errors = [((np.asarray(book(x).vectors) - x) ** 2).mean() for book in (layer, plain)]
    assert errors[0] < 2.0 * errors[1]
    assert float(layer(x).metrics["topographic_error"]) < 0.25
    # The final neighbourhood is next to nothing: a step is that of a plain codebook.
    codes, counts = np.asarray(layer.encode(x)).ravel(), layer.count.numpy()
    layer(x, training=True)
    np.testing.assert_allclose(layer.count.numpy(),
                               0.8 * counts + 0.2 * np.bincount(codes, minlength=36), rtol=1e-4)


def gaussian(**more):
    return build(GaussianQuantizer(**({"dim": DIM, "beta": 0.5, "warmup_steps": 4} | more)))


@pytest.fixture
def moments(rng):
    """Means and log variances, side by side."""
    return rng.normal(-0.3, 1.0, (4, 3000, 2 * DIM)).astype("float32")


def test_the_divergence_is_that_of_samples(moments):
    layer = gaussian()
    _, _, losses, metrics = layer(moments)
    mean, log_variance = moments[..., :DIM], moments[..., DIM:]
    drawn = mean + np.exp(log_variance / 2) * np.random.default_rng(1).normal(size=mean.shape)
    log_q = -0.5 * (log_variance + (drawn - mean) ** 2 / np.exp(log_variance))
    sampled = (log_q + 0.5 * drawn**2).sum(-1).mean()
    assert float(metrics["kl"]) == pytest.approx(sampled, rel=0.03)
    assert float(losses[0]) == pytest.approx(0.5 * float(metrics["kl"]) / DIM, rel=1e-4)
    assert float(layer(np.zeros_like(moments)).metrics["kl"]) == 0


def test_training_draws_around_the_mean_and_inference_is_the_mean(moments):
    layer = gaussian()
    vectors, mean = (np.asarray(x) for x in layer(moments, training=True)[:2])
    unit = (vectors - mean) / np.exp(moments[..., DIM:] / 2)
    assert abs(unit.mean()) < 0.02 and abs(unit.std() - 1) < 0.02
    assert np.abs(np.asarray(layer(moments, training=True)[0]) - vectors).mean() > 0.1
    for means in (mean, layer(moments).vectors, layer.encode(moments)):
        np.testing.assert_array_equal(means, moments[..., :DIM])
    gradients = gradient(lambda x: ops.sum(layer(x, training=True)[0]), moments[:1, :50])
    np.testing.assert_array_equal(gradients[..., :DIM], 1.0)
    assert (gradients[..., DIM:] != 0).all()


def test_beta_grows_over_the_warm_up_and_is_whole_in_inference(moments):
    layer = gaussian()
    weights = []
    for _ in range(6):
        weights.append(float(layer(moments, training=True).metrics["beta"]))
        assert float(layer(moments).metrics["beta"]) == 0.5
    assert weights == [0, 0.125, 0.25, 0.375, 0.5, 0.5]
    again = gaussian()
    again.use_loaded_codebooks()
    assert float(again(moments, training=True).metrics["beta"]) == 0.5


EVERY = [
    EMAQuantizer(num_codes=8, code_dim=DIM),
    SOMQuantizer(num_codes=8, code_dim=DIM),
    ResidualQuantizer(num_codes=8, code_dim=DIM, books=2),
    BandedQuantizer(num_codes=8, code_dim=DIM, books=3),
    GaussianQuantizer(dim=DIM),
    GainShapeQuantizer(shape={"num_codes": 16, "code_dim": DIM, "books": 2}, step=12),
]


@pytest.mark.parametrize("config", EVERY, ids=lambda config: config.kind)
def test_every_quantizer_keeps_the_contract(config, rng):
    assert {type(config) for config in EVERY} == set(QUANTIZERS.configs.values())
    layer, metrics = build(config), build(config).new_metrics()
    latents = rng.normal(size=(2, 40, config.width)).astype("float32")
    trained = layer(latents, training=True)
    before = [v.numpy().copy() for v in layer.variables]
    vectors, codes, losses, updates = layer(latents)
    # Evaluation changes no variable, and the same latents give the same codes and vectors.
    for v, old in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(v.numpy(), old, err_msg=v.path)
    np.testing.assert_array_equal(layer.encode(latents), codes)
    np.testing.assert_allclose(layer.lookup(codes), vectors, atol=1e-5)
    assert vectors.shape == trained.vectors.shape == (2, 40, config.vector_width)
    # Losses and metrics are returned, and every metric takes its update.
    assert len(losses) == len(trained.losses) > 0 and not layer.losses
    assert all(np.isfinite(float(loss)) for loss in losses)
    assert updates.keys() == trained.metrics.keys() == metrics.keys()
    for name, metric in metrics.items():
        metric.update_state(updates[name])
        assert metric.name == name and np.isfinite(float(metric.result()))
    if config.has_codes:
        assert codes.shape == (2, 40, config.books) and len(layer.codebooks) == config.books
        assert np.asarray(codes).dtype == np.int32 and np.min(codes) >= 0
        assert np.max(codes) < config.num_codes
        ones = gradient(lambda x: ops.sum(layer(x, training=True).vectors), latents)
        shape = getattr(config, "shape", config).width
        np.testing.assert_array_equal(ones[..., :shape], np.ones_like(latents[..., :shape]))
    # In float32 under mixed precision.
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        vectors = build(config)(latents.astype("float16"), training=True).vectors
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert keras.backend.standardize_dtype(vectors.dtype) == "float32"


def test_the_commitment_counts_only_the_masked_windows(known, latents):
    mask = np.array([1.0, 0.0], "float32")
    quantized = np.asarray(known.lookup(known.encode(latents)))
    error = ((latents - quantized) ** 2).mean((1, 2))
    loss = known(latents, window_mask=mask).losses[0]
    np.testing.assert_allclose(loss, 0.25 * error[0] / 2, rtol=1e-5)
    pull = gradient(lambda x: known(x, window_mask=mask).losses[0], latents)
    assert np.abs(pull[0]).max() > 0 and not pull[1].any()
