import keras
import numpy as np
import pytest
from test_encoders import notes_config

from vqwave.codecs.codec_layer import Codec
from vqwave.codecs.filter_layer import STFT, NoiseSpectra
from vqwave.generators import validate_model
from vqwave.levels import ConfigError, to_dict
from vqwave.presets import load_preset

LEVEL = 512


def filtered(**head):
    """A small codec with this head."""
    keras.utils.set_random_seed(0)
    shape = {"books": 7, "num_codes": 40, "code_dim": 6}
    return Codec(notes_config(stages=[{"stride": LEVEL, "channels": 12, "dilations": [1, 2]}],
                              quantizer={"kind": "gain_shape", "shape": shape}, head={"taps": 3} | head))


@pytest.fixture(scope="module")
def codec():
    """Random weights, so that the filter changes much."""
    model = filtered(dilations=[1, 3])
    rng = np.random.default_rng(0)
    for v in model.decoder.weights:
        v.assign(v + rng.normal(0, 0.1, v.shape))
    return model


def codes_of(codec, rng, frames):
    return rng.integers(0, 12, (1, frames, codec.config.books)).astype("int32")


def test_the_overlap_add_of_spectra_is_the_sound(rng):
    stft, sound = STFT(1024, 256), rng.normal(size=(2, 20, 256)).astype("float32")
    np.testing.assert_allclose(stft.blocks(stft.spectra(sound)), sound[:, 3:-3], atol=1e-5)


def test_a_spectrum_has_the_amplitude_of_a_sine_and_the_power_of_noise(rng):
    stft, time = STFT(1024, 256), np.arange(1024 * 16)
    for sound, expected in ((0.3 * np.sin(2 * np.pi * 40 * time / 1024), 0.3), (None, None)):
        sound = rng.normal(0, 0.1, time.size) if sound is None else sound
        real, imag = np.split(np.asarray(stft.spectra(
            sound.reshape(1, -1, 256).astype("float32")))[0], 2, axis=-1)
        power = real**2 + imag**2
        if expected:
            assert np.sqrt(power[:, 40]) == pytest.approx(expected, rel=1e-3)
        assert power.sum(1).mean() * stft.power == pytest.approx(np.square(sound).mean(), rel=0.1)


def test_noise_is_a_function_of_the_spectrum_s_number():
    noise = NoiseSpectra(200)
    draws = np.asarray(noise(np.arange(4096)[None]))[0]
    assert abs(draws.mean()) < 0.01 and draws.std() == pytest.approx(1, abs=0.01)
    np.testing.assert_array_equal(noise(np.array([[7, 3]]))[0], draws[[7, 3]])
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("step", [16, 5])
def test_decoded_parts_are_the_decoded_piece(codec, rng, step):
    frames, delay = 60, codec.decode_delay
    codes = codes_of(codec, rng, frames)
    whole = np.asarray(codec.decode_model()([codes, np.zeros(1, "int32")]))[0]
    part = codec.decode_part_model()
    state = np.zeros((1, part.outputs[1].shape[-1]), "float32")
    padded, sound = np.pad(codes, ((0, 0), (0, delay + step), (0, 0))), []
    for start in range(0, frames + delay, step):
        places = np.arange(start - delay, start + step)
        inside = ((places >= 0) & (places < frames)).astype("float32")[None, :, None]
        audio, state = part([padded[:, start : start + step], inside, np.array([step], "int32"),
                             np.arange(step, dtype="int32")[None], state,
                             np.array([start - delay], "int32")])
        state = np.asarray(state)
        sound.append(np.asarray(audio)[0])
    sound = np.concatenate(sound)[delay * LEVEL :][: frames * LEVEL]
    np.testing.assert_allclose(sound, whole, atol=1e-5)


def test_the_sound_depends_on_as_many_frames_as_the_head_says(codec, rng):
    codes = codes_of(codec, rng, 90)
    other = codes.copy()
    other[0, 45] = (codes[0, 45] + 5) % 12
    decode = codec.decode_model()
    sounds = [np.asarray(decode([c, np.zeros(1, "int32")]))[0] for c in (codes, other)]
    moved = np.flatnonzero(np.abs(sounds[0] - sounds[1]) > 1e-7) // LEVEL
    assert 45 - codec.decode_halo <= moved.min() < 45 < moved.max()
    assert moved.max() <= 45 + codec.decode_halo + codec.decode_past


def test_the_gains_of_a_steady_sound_are_those_of_its_codes(rng):
    """Without a trained network, which changes nothing."""
    layer = filtered(dilations=[1]).head.layer
    features = np.repeat(rng.normal(size=(1, 1, 12)), 80, axis=1).astype("float32")
    rms = []
    for gain in (0.6, 0.7):
        audio, _ = layer(features, np.zeros(1, "int32"), np.full((1, 80, 6), gain, "float32"))
        rms.append(np.sqrt(np.square(np.asarray(audio)[0, 10 * LEVEL : 70 * LEVEL]).mean()))
    # A tenth is 8 dB.
    assert 20 * np.log10(rms[1] / rms[0]) == pytest.approx(8, abs=1)


def test_a_head_that_does_not_fit_is_refused():
    base = load_preset().codec("vqvae_512")
    values = to_dict(base)
    values["stages"] = [{"stride": 8, "channels": 8}, {"stride": 64, "channels": 8}]
    with pytest.raises(ConfigError, match="needs one stage"):
        validate_model(values, "a.yml")
    values["stages"] = [{"stride": 512, "channels": 8}]
    values["head"] = {"kind": "source_filter", "hop": 384}
    with pytest.raises(ConfigError, match="hop is 384; it must divide"):
        validate_model(values, "a.yml")
