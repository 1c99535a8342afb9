import keras
import numpy as np
import pytest
import tensorflow as tf

from vqwave.codecs.codec_layer import Codec, _without_gradient
from vqwave.levels import replace
from vqwave.presets import load_preset

LEVELS = load_preset("tiny").chain.sizes


@pytest.fixture(scope="module")
def codec():
    keras.utils.set_random_seed(3)
    model = Codec(load_preset("tiny").codec("vqvae_32"))
    model(np.random.default_rng(0).normal(0, 0.1, (2, 4096)).astype("float32"), training=True)
    return model


@pytest.fixture
def sound(rng):
    return rng.normal(0, 0.1, (2, 32 * 70)).astype("float32")


@pytest.mark.parametrize("level", LEVELS)
def test_a_codec_sees_as_far_as_its_halos_say_and_no_further(level, rng):
    model = Codec(load_preset("tiny").codec(level))
    for v in model.encoder.weights + model.decoder.weights:  # residual blocks begin as the identity
        v.assign(rng.normal(0, 0.3, v.shape))
    encode, decode = model.encoder, model.decode_model()
    halo, count = model.encode_halo, 2 * model.encode_halo + 9
    sound = rng.normal(0, 0.1, (1, count * level, 1)).astype("float32")
    changed = sound.copy()
    at = count // 2
    changed[0, at * level : (at + 1) * level] += 0.3
    moved = np.flatnonzero(np.abs(np.asarray(encode(changed)) - np.asarray(encode(sound))).max((0, 2)) > 1e-9)
    assert at - halo <= moved.min() <= at - halo / 2 and at + halo / 2 <= moved.max() <= at + halo
    halo, count = model.decode_halo, 2 * model.decode_halo + 9
    codes = rng.integers(0, 64, (1, count, 1)).astype("int32")
    other = codes.copy()
    at = count // 2
    other[0, at] = (codes[0, at] + 1) % 64
    start = [np.zeros(1, "int32")] * model.config.head.needs_position
    sounds = [np.asarray(decode([c, *start] if start else c))[0] for c in (codes, other)]
    moved = np.flatnonzero(np.abs(sounds[1] - sounds[0]) > 1e-9) // level
    assert at - halo <= moved.min() and moved.max() <= at + halo
    assert moved.max() - moved.min() >= halo


def causal(name="vqvae_32", **more):
    """A tiny codec that is causal, its weights random: residual blocks begin as the identity."""
    keras.utils.set_random_seed(3)
    model = Codec(replace(load_preset("tiny").codec(name), padding="causal", **more))
    rng = np.random.default_rng(1)
    for v in model.encoder.weights + model.decoder.weights:
        v.assign(rng.normal(0, 0.3, v.shape))
    return model


def test_the_latency_is_the_look_ahead_of_encoder_and_decoder(rng):
    """A frame of the reconstruction does not depend on samples beyond the latency."""
    model, level = Codec(load_preset("tiny").codec(32)), 32
    for v in model.encoder.weights + model.decoder.weights:
        v.assign(rng.normal(0, 0.3, v.shape))
    sound = rng.normal(0, 0.1, (1, 64 * level)).astype("float32")
    before, frame = np.asarray(model(sound)), slice(19 * level, 20 * level)
    for waited, same in ((model.latency, True), (model.latency // 2, False)):
        beyond = sound.copy()
        beyond[0, 19 * level + waited :] += 0.3
        after = np.asarray(model(beyond))
        assert np.allclose(after[0, frame], before[0, frame], atol=1e-6) == same
    assert causal().latency == level < model.latency < 40 * level


def test_the_parts_hold_every_weight_that_the_codec_needs(codec):
    parts = codec.parts
    assert set(parts) == {"encoder", "decoder", "codebook"}
    trained = {id(v) for v in codec.trainable_variables}
    assert trained == {id(v) for part in ("encoder", "decoder") for v in parts[part]}
    # A file holds its variables by path, which therefore must differ.
    for variables in parts.values():
        assert len({v.path for v in variables}) == len(variables)


def test_training_learns_and_evaluating_changes_nothing(codec, sound):
    sound = np.concatenate([sound, sound], axis=1)
    codec.compile(optimizer=keras.optimizers.Adam(2e-3), run_eagerly=True)
    metrics = {id(v) for m in codec.metrics for v in m.variables}
    kept = [v for v in codec.variables if id(v) not in metrics]
    before = [v.numpy().copy() for v in kept]
    first = codec.evaluate(sound, sound, verbose=0, return_dict=True)
    for old, v in zip(before, kept, strict=True):
        np.testing.assert_array_equal(old, v.numpy(), err_msg=v.path)
    assert 0 < first["usage"] <= 1
    assert 1 <= first["perplexity"] <= 64

    # The loss is the weighted sum of its terms and the commitment, and every term a metric of its
    # name.
    loss = codec.config.loss
    terms = {name: getattr(loss, name) * first[name]
             for name in ("spectral_convergence", "log_magnitude", "mel", "waveform")}
    latents = np.asarray(codec.encoder(codec.front_end(sound)))
    quantized = np.asarray(codec.quantizer.lookup(codec.quantizer.encode(latents)))
    commitment = codec.config.quantizer.commitment * ((latents - quantized) ** 2).mean()
    np.testing.assert_allclose(first["loss"], sum(terms.values()) + commitment, rtol=1e-4)

    codec.fit(sound, sound, epochs=10, verbose=0)
    last = codec.evaluate(sound, sound, verbose=0, return_dict=True)
    assert last["loss"] < 0.95 * first["loss"]
    assert any(not np.array_equal(old, v.numpy()) for old, v in zip(before, kept, strict=True)
               if "codebook" in v.path)


def test_rows_without_gradient_keep_their_values():
    x = keras.Variable(np.ones((2, 3), "float32"))
    with tf.GradientTape() as tape:
        y = _without_gradient(x.value, np.array([[True], [False]]))
        total = tf.reduce_sum(y * 2)
    assert float(total) == 12
    np.testing.assert_array_equal(tape.gradient(total, x.value), [[0, 0, 0], [2, 2, 2]])


def test_under_mixed_precision_only_the_convolutions_are_narrow(sound):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = Codec(load_preset("tiny").codec("vqvae_32"))
        out = model(sound, training=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    assert model.quantizer.compute_dtype == "float32"
    assert model.encoder.get_layer("down_0").compute_dtype == "bfloat16"
    assert all(v.dtype == "float32" for v in model.trainable_variables)
