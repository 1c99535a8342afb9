"""layers.py: blocks keep or fold time as they say; the quantizer follows its equations, and rests in inference."""

import keras
import numpy as np
import pytest
from keras import ops

from vqwave.nn.layers import CroppedResidual, Perplexity, ResidualBlock, SubPixelUpsampling, Usage, VectorQuantizer

CODES, DIM = 6, 3


def quantizer(codes=CODES, **more):
    made = VectorQuantizer(codes, DIM, **({"decay": 0.9, "revival_threshold": 0.0, "seed": 1} | more))
    made.build((None, None, DIM))
    return made


def at(made, codebook, count, total=None):
    """`made` in a state known by hand."""
    codebook, count = np.asarray(codebook, "float32"), np.asarray(count, "float32")
    made.codebook.assign(codebook)
    made.count.assign(count)
    made.total.assign(codebook * count[:, None] if total is None else total)
    made.started.assign(1.0)
    return made


def state(made):
    return [np.array(v.numpy()) for v in (made.codebook, made.count, made.total, made.started)]


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


# ------------------------------------------------------------------------------------------------------- the blocks


@pytest.mark.parametrize("dilation", [1, 3, 9])
def test_a_residual_block_begins_as_the_identity_and_keeps_the_shape(dilation, rng):
    x = rng.normal(size=(2, 21, 4)).astype("float32")
    block = ResidualBlock(4, dilation)
    np.testing.assert_array_equal(block(x), x)
    block.mix.kernel.assign(rng.normal(size=block.mix.kernel.shape))
    assert block(x).shape == x.shape
    assert not np.allclose(block(x), x)


def test_a_cropped_block_gives_a_window_what_the_whole_has_there(rng):
    x = rng.normal(size=(1, 30, 4)).astype("float32")
    block = CroppedResidual(4, 5)
    whole = np.asarray(block(x))
    assert whole.shape == (1, 20, 4)
    np.testing.assert_allclose(block(x[:, 7:25]), whole[:, 7:15], atol=1e-6)


def test_upsampling_unfolds_channels_into_time(rng):
    x = rng.normal(size=(2, 5, 3)).astype("float32")
    layer = SubPixelUpsampling(4, 8, kernel_size=1)
    layer.build(x.shape)
    layer.conv.kernel.assign(rng.normal(size=layer.conv.kernel.shape))
    made = np.asarray(layer(x))
    assert made.shape == (2, 40, 4)
    kernel, bias = (v.numpy() for v in layer.conv.variables)
    np.testing.assert_allclose(made[1, 8 * 3 : 8 * 4], (x[1, 3] @ kernel[0] + bias).reshape(8, 4), atol=1e-5)


def test_even_upsampling_keeps_what_is_constant_constant(rng):
    x = np.broadcast_to(rng.normal(0, 1, (1, 1, 5)), (1, 30, 5)).astype("float32")
    changes = [rng.normal(0, 1, (7, 5, 24)), rng.normal(0, 1, 24)]
    ripple = {}
    for even in (0.0, 0.75, 1.0):
        layer = SubPixelUpsampling(3, 8, 7, even)
        layer.build(x.shape)
        # Untrained, all do.
        assert np.ptp(np.asarray(layer(x))[0, 24:-24], axis=0).max() < 1e-5
        for weight, change in zip((layer.conv.kernel, layer.conv.bias), changes, strict=True):
            weight.assign(change)
        middle = np.asarray(layer(x))[0, 24:32]
        ripple[even] = middle - middle.mean(0)
        # It is no constant function: what changes still differs from phase to phase.
        changing = np.asarray(layer(x * rng.normal(0, 1, (1, 30, 1)).astype("float32")))[0, 24:32]
        assert np.ptp(changing, axis=0).min() > 0.01
    assert np.abs(ripple[0.0]).max() > 1
    np.testing.assert_allclose(ripple[0.75], 0.25 * ripple[0.0], atol=1e-4)
    np.testing.assert_allclose(ripple[1.0], 0, atol=1e-4)


@pytest.mark.parametrize("layer", [ResidualBlock(4, 3), CroppedResidual(4, 2), SubPixelUpsampling(4, 2),
                                   SubPixelUpsampling(4, 2, even=0.5), VectorQuantizer(CODES, DIM, decay=0.5,
                                                                                        revival_threshold=0.2)])
def test_a_layer_can_be_made_again_from_its_config(layer):
    config = layer.get_config()
    assert type(layer).from_config(config).get_config() == config


# ---------------------------------------------------------------------------------------------------- the quantizer


def test_each_latent_gets_its_nearest_code_and_lookup_gives_what_was_quantized(known, latents):
    quantized, codes = (np.asarray(x) for x in known(latents))
    codebook = known.codebook.numpy()
    distances = ((latents[:, :, None] - codebook) ** 2).sum(-1)
    np.testing.assert_array_equal(codes, distances.argmin(-1))
    np.testing.assert_array_equal(np.asarray(known.encode(latents)), codes)
    np.testing.assert_allclose(quantized, np.asarray(known.lookup(codes)), atol=1e-6)
    assert codes.dtype == np.int32
    # A code's own vector is its own nearest.
    np.testing.assert_array_equal(known.encode(codebook[None])[0], np.arange(CODES))


@pytest.mark.parametrize("training", [False, True])
def test_the_straight_through_gradient_is_ones(known, latents, training):
    gradients = gradient(lambda x: ops.sum(known(x, training=training)[0]), latents)
    np.testing.assert_array_equal(gradients, np.ones_like(latents))


def test_commitment_pulls_latents_to_their_codes(known, latents):
    def commitment(x):
        known(x)
        return known.losses[0]

    quantized = np.asarray(known.lookup(known.encode(latents)))
    expected = 2 * 0.25 * (latents - quantized) / latents.size
    np.testing.assert_allclose(gradient(commitment, latents), expected, atol=1e-7)
    np.testing.assert_allclose(commitment(latents), 0.25 * ((latents - quantized) ** 2).mean(), rtol=1e-5)


def test_evaluating_moves_nothing(known, latents):
    before = state(known)
    known(latents, training=False)
    known(latents)
    known.encode(latents)
    for a, b in zip(before, state(known), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_training_step_is_the_formula(known, latents):
    codebook, count, total, _ = state(known)
    codes = np.asarray(known.encode(latents)).ravel()
    quantized, _ = known(latents, training=True)
    np.testing.assert_allclose(quantized.numpy().reshape(-1, DIM), codebook[codes], atol=1e-6)
    flat = latents.reshape(-1, DIM)
    n = np.bincount(codes, minlength=CODES)
    sums = np.stack([flat[codes == i].sum(0) for i in range(CODES)])
    new_count, new_total = 0.9 * count + 0.1 * n, 0.9 * total + 0.1 * sums
    smoothed = (new_count + 1e-5) / (new_count.sum() + CODES * 1e-5) * new_count.sum()
    np.testing.assert_allclose(known.count.numpy(), new_count, rtol=1e-5)
    np.testing.assert_allclose(known.total.numpy(), new_total, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(known.codebook.numpy(), new_total / smoothed[:, None], rtol=1e-4, atol=1e-5)


def test_ema_finds_the_means_of_clusters(rng):
    centres = 10.0 * np.eye(DIM, dtype="float32")
    made = at(quantizer(DIM, decay=0.8), centres + 2.0, np.full(DIM, 10.0))
    for _ in range(40):
        x = np.repeat(centres, 20, axis=0) + rng.normal(0, 0.01, (20 * DIM, DIM))
        made(x[None].astype("float32"), training=True)
    np.testing.assert_allclose(made.codebook.numpy(), centres, atol=0.02)


def test_a_dead_code_is_moved_onto_a_latent_of_the_batch_with_its_count_and_total(latents):
    codebook = np.zeros((CODES, DIM))
    codebook[2] = 1e3  # far from every latent
    codebook[4] = -1e3
    made = at(quantizer(revival_threshold=0.1), codebook, [5, 5, 0.01, 5, 0.02, 5])
    made(latents, training=True)
    vectors, counts, totals, _ = state(made)
    flat = latents.reshape(-1, DIM)
    for dead in (2, 4):
        assert np.abs(flat - vectors[dead]).sum(1).min() == 0
        # A fair share: the code neither dies again at once nor outweighs the others.
        assert counts[dead] > 1.0
        np.testing.assert_allclose(totals[dead] / counts[dead], vectors[dead], rtol=1e-5)
    # The revived codes come from anywhere in the batch, not all from one place.
    assert not np.array_equal(vectors[2], vectors[4])
    assert counts[0] > 1.0


def test_revived_codes_stay_alive_and_codes_in_use_are_let_be(rng):
    made = at(quantizer(revival_threshold=0.1), np.zeros((CODES, DIM)), [20, 0, 0, 0, 0, 0])
    x = rng.normal(size=(1, 600, DIM)).astype("float32")
    for _ in range(30):
        made(x, training=True)
    before = made.codebook.numpy().copy()
    made(x, training=True)
    assert np.unique(made.encode(x)).size == CODES
    # No jump: nothing was revived in the last step.
    assert np.abs(made.codebook.numpy() - before).max() < 0.2


def test_the_first_batch_gives_the_initial_codes(latents):
    made = quantizer()
    assert made.started.numpy() == 0
    quantized, codes = made(latents, training=True)
    flat = latents.reshape(-1, DIM)
    for vector in np.unique(quantized.numpy().reshape(-1, DIM), axis=0):
        assert np.abs(flat - vector).sum(1).min() < 1e-6
    assert made.started.numpy() == 1
    # The first batch's counts stand for the past.
    np.testing.assert_allclose(made.count.numpy().sum(), flat.shape[0], rtol=1e-5)
    np.testing.assert_array_equal(made.count.numpy(), np.bincount(codes.numpy().ravel(), minlength=CODES))


def test_a_given_codebook_is_not_started_again(rng, latents):
    made = quantizer()
    vectors = rng.normal(size=(CODES, DIM)).astype("float32")
    made.set_codebook(vectors)
    np.testing.assert_array_equal(made.encode(latents), made(latents, training=True)[1])
    np.testing.assert_allclose(made.lookup(np.arange(CODES)), made.codebook.numpy())


def test_the_same_seed_revives_alike(latents):
    first, again = (quantizer(revival_threshold=0.5) for _ in range(2))
    other = quantizer(revival_threshold=0.5, seed=2)
    for made in (first, again, other):
        made(latents, training=True)
    np.testing.assert_array_equal(first.codebook.numpy(), again.codebook.numpy())
    assert not np.array_equal(first.codebook.numpy(), other.codebook.numpy())


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_it_stays_in_float32_under_mixed_precision(policy, latents):
    keras.mixed_precision.set_global_policy(policy)
    try:
        made = quantizer()
        quantized, _ = made(latents.astype("float16"), training=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert made.compute_dtype == made.variable_dtype == "float32"
    assert keras.backend.standardize_dtype(quantized.dtype) == "float32"


def test_usage_and_perplexity_of_a_known_histogram(known):
    usage, perplexity = Usage(8, "usage"), Perplexity(8, "perplexity")
    assert usage.result() == 0
    assert np.isfinite(perplexity.result())
    for metric in (usage, perplexity):
        metric.update_state([3, 0, 0, 1, 0, 0, 0, 0])
        metric.update_state([0, 3, 0, 2, 0, 3, 0, 0])
    assert usage.result() == 4 / 8
    np.testing.assert_allclose(perplexity.result(), 4.0, rtol=1e-6)
    perplexity.reset_state()
    perplexity.update_state([5, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(perplexity.result(), 1.0, rtol=1e-6)
    # The quantizer counts what it assigned.
    known(known.codebook.numpy()[None, [0, 0, 1, 1, 5]])
    np.testing.assert_array_equal(known.batch_count, [2, 2, 0, 0, 0, 1])
