import keras
import numpy as np
import pytest

from vqwave.codecs import CodecConfig
from vqwave.codecs.codec_layer import Codec
from vqwave.levels import merge, validate
from vqwave.presets import load_preset

RATE = 22050


def notes_config(**changes):
    values = {
        "name": "notes", "sample_rate": RATE, "front_end": {"kind": "log_frequency"},
        "encoder": {"kind": "banded", "units": 8},
        "stages": [{"stride": 512, "channels": 12}],
        "quantizer": {"kind": "banded", "books": 7, "num_codes": 32, "code_dim": 6},
        "head": {"kind": "source_filter", "width": 16, "dilations": [1, 2]},
        "loss": {"waveform": 0.0},
    }
    return validate(CodecConfig, merge(values, changes))


def test_the_latents_of_a_band_see_that_band_and_no_other(rng):
    keras.utils.set_random_seed(0)
    model = Codec(notes_config())
    features = rng.uniform(0, 1, (1, 40, 336)).astype("float32")
    latents = np.asarray(model.encoder(features)).reshape(40, 7, 6)
    np.testing.assert_allclose((latents**2).mean(-1), 1.0, atol=0.02)
    for bin_, bands in ((3 * 24 + 12, {3}), (2 * 24 + 2, {1, 2}), (168 + 5 * 24 + 23, {5, 6}),
                        (0, {0}), (167, {6})):
        changed = features.copy()
        changed[0, 20, bin_] += 1.0
        moved = np.abs(np.asarray(model.encoder(changed)).reshape(40, 7, 6) - latents).max(-1) > 1e-6
        assert set(np.flatnonzero(moved.any(0))) == bands
        # Taps of 1, 3 and 1 frames to either side.
        assert set(np.flatnonzero(moved.any(1))) == set(range(15, 26))


def test_a_mirror_encoder_begins_behind_the_hop_of_the_front_end():
    config = notes_config(encoder={"kind": "mirror"}, front_end={"hop": 8},
                          head={"kind": "waveform"}, stages=[{"stride": 8, "channels": 8}, {"stride": 64, "channels": 12}],
                          quantizer={"kind": "ema", "num_codes": 16, "code_dim": 6})
    assert list(config.encoder_stages) == [1]
    assert list(load_preset("tiny").codec(512).encoder_stages) == [0, 1, 2, 3]
    model = Codec(config)
    sound = np.random.default_rng(0).normal(0, 0.1, (2, 512 * 20)).astype("float32")
    assert model.encode_model()(sound).shape == (2, 20, 1)
    assert model(sound).shape == sound.shape


@pytest.mark.parametrize("changes", [{}, {"quantizer": {"books": 14}}])
def test_decoding_the_codes_of_notes_is_the_reconstruction(changes, rng):
    keras.utils.set_random_seed(1)  # overtones of others may be many times as loud as full scale
    model = Codec(notes_config(**changes))
    sound = rng.normal(0, 0.1, (2, 512 * 70)).astype("float32")
    model(sound, training=True)
    codes = np.asarray(model.encode_model()(sound))
    assert codes.shape == (2, 70, model.config.books) and len(np.unique(codes)) > 3
    audio = np.asarray(model.decode_model()([codes, np.zeros(2, "int32")]))
    np.testing.assert_allclose(audio, np.asarray(model(sound)), atol=1e-5)
