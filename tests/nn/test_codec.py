"""encoder.py: shapes of every preset, the two halves against the whole, and what training does and leaves alone."""

import keras
import numpy as np
import pytest

from vqwave import config as configs
from vqwave.nn.codec import VQVAE, build_decoder, build_encoder


@pytest.fixture(scope="module")
def codec():
    keras.utils.set_random_seed(3)
    made = VQVAE(configs.preset("tiny").codec("vqvae_32"))
    made(np.random.default_rng(0).normal(0, 0.1, (2, 4096)).astype("float32"), training=True)
    return made


@pytest.fixture
def sound(rng):
    return rng.normal(0, 0.1, (2, 32 * 70)).astype("float32")


@pytest.mark.parametrize("size", ["compact", "tiny"])
@pytest.mark.parametrize("level", configs.LEVELS)
def test_every_preset_maps_a_level_of_samples_to_a_code_and_back(level, size):
    config = configs.codec_preset(f"vqvae_{level}", size)
    encoder, decoder = build_encoder(config), build_decoder(config)
    assert int(np.prod(config.strides)) == config.level == level
    assert encoder.output_shape == (None, None, config.code_dim)
    assert decoder.output_shape == (None, None, 1)
    assert configs.codec_preset(f"vqvae_{level}", "reference") == configs.codec_preset(f"vqvae_{level}", "compact")


@pytest.mark.parametrize("level", configs.LEVELS)
def test_a_tiny_codec_really_makes_those_shapes(level):
    config = configs.preset("tiny").codec(f"vqvae_{level}")
    made = VQVAE(config)
    sound = np.zeros((2, 5 * level), "float32")
    assert made(sound).shape == sound.shape
    codes = np.asarray(made.encode_model()(sound))
    assert codes.shape == (2, 5)
    assert codes.dtype == np.int32
    audio = np.asarray(made.decode_model()([codes, np.zeros(2, "int32")] if config.positioned else codes))
    assert audio.shape == sound.shape
    assert audio.dtype == np.float32


def test_decoding_the_codes_is_the_reconstruction(codec, sound):
    whole = np.asarray(codec(sound))
    codes = codec.encode_model()(sound)
    np.testing.assert_allclose(codec.decode_model()(codes), whole, atol=1e-5)


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
    codec.compile(optimizer=keras.optimizers.Adam(2e-3), jit_compile=False)
    metrics = {id(v) for m in codec.metrics for v in m.variables}
    kept = [v for v in codec.variables if id(v) not in metrics]
    before = [v.numpy().copy() for v in kept]
    first = codec.evaluate(sound, sound, verbose=0, return_dict=True)
    for old, v in zip(before, kept, strict=True):
        np.testing.assert_array_equal(old, v.numpy(), err_msg=v.path)
    assert 0 < first["usage"] <= 1
    assert 1 <= first["perplexity"] <= 64

    # The loss is the weighted sum of its terms and the commitment, and every term a metric of its name.
    loss = codec.config.loss
    terms = {name: getattr(loss, name) * first[name]
             for name in ("spectral_convergence", "log_magnitude", "mel", "waveform")}
    latents = np.asarray(codec.encoder(sound[..., None]))
    quantized = np.asarray(codec.quantizer.lookup(codec.quantizer.encode(latents)))
    commitment = loss.commitment * ((latents - quantized) ** 2).mean()
    np.testing.assert_allclose(first["loss"], sum(terms.values()) + commitment, rtol=1e-4)

    codec.fit(sound, sound, epochs=15, verbose=0)
    last = codec.evaluate(sound, sound, verbose=0, return_dict=True)
    assert last["loss"] < 0.95 * first["loss"]
    assert any(not np.array_equal(old, v.numpy()) for old, v in zip(before, kept, strict=True) if "codebook" in v.path)


def test_under_mixed_precision_only_the_convolutions_are_narrow(sound):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        made = VQVAE(configs.preset("tiny").codec("vqvae_32"))
        out = made(sound, training=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert keras.backend.standardize_dtype(out.dtype) == "float32"
    assert made.quantizer.compute_dtype == "float32"
    assert made.encoder.get_layer("down_0").compute_dtype == "bfloat16"
    assert all(v.dtype == "float32" for v in made.trainable_variables)
