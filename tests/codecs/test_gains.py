import numpy as np
import pytest
from reference import KerasCodec

from vqwave.codecs.codec_layer import Codec
from vqwave.codecs.gains_layer import BandGains, RelativeLoudness
from vqwave.codecs.losses_layer import flux
from vqwave.generators import validate_model
from vqwave.io import weights
from vqwave.levels import ConfigError
from vqwave.play import engine

RATE, HOP, EDGES = 22050, 512, (500, 2000)


def codec_config(**quantizer):
    return validate_model({
        "kind": "codec", "name": "timed", "sample_rate": RATE,
        "front_end": {"kind": "log_frequency"}, "encoder": {"kind": "banded", "units": 8},
        "stages": [{"stride": 512, "channels": 8, "dilations": [1]}],
        "head": {"kind": "source_filter", "width": 16, "dilations": [1, 2]}, "loss": {"flux": 1.0},
        "quantizer": {"kind": "gain_shape", "edges": EDGES,
                      "shape": {"books": 7, "num_codes": 64, "code_dim": 4}} | quantizer})


@pytest.fixture(scope="module")
def codec():
    model = Codec(codec_config())
    model(np.random.default_rng(1).normal(0, 0.1, (2, 65536)).astype("float32"), training=True)
    return model


def noise(seconds=1.0, amplitude=0.1, seed=0):
    samples = round(seconds * RATE) // HOP * HOP
    return np.random.default_rng(seed).normal(0, amplitude, (1, samples)).astype("float32")


def test_the_bands_add_up_to_the_audio_and_hold_their_own_frequencies():
    measure, audio = BandGains(EDGES, HOP, RATE), noise()
    np.testing.assert_allclose(np.asarray(measure.split(audio)).sum(-1), audio, atol=1e-5)
    for band, hertz in enumerate((100, 1000, 6000)):
        tone = np.sin(2 * np.pi * hertz * np.arange(HOP * 40) / RATE).astype("float32")[None]
        power = (np.asarray(measure.split(tone)) ** 2).mean((0, 1))
        assert power[band] > 0.99 * power.sum()


def test_a_gain_follows_an_attack_within_a_frame_and_is_in_80_dB():
    measure, audio = BandGains(EDGES, HOP, RATE), noise()
    audio[:, : 20 * HOP] *= 0.001
    gains = np.asarray(measure.gains(measure.split(audio)))[0]
    assert np.all(gains[:19] < gains[21:].min() - 0.4)
    louder = np.asarray(measure.gains(measure.split(2 * audio)))[0]
    np.testing.assert_allclose(80 * (louder - gains)[22:], 20 * np.log10(2), atol=0.01)


def test_the_features_are_relative_to_the_gains():
    config = codec_config()
    layer, bins = RelativeLoudness(config), config.front_end.bins
    features = np.random.default_rng(0).uniform(0.4, 0.6, (1, 3, 2 * bins + 3)).astype("float32")
    louder = features + np.concatenate([np.full(bins, 0.1), np.zeros(bins), np.full(3, 0.1)])
    before, after = (np.asarray(layer(x))[..., :bins] for x in (features, louder))
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_a_decay_changes_gain_codes(codec):
    audio = noise(3) * np.exp(-np.linspace(0, 3, noise(3).size)).astype("float32")
    codes = np.asarray(codec.encode_model()(audio))[0]
    assert codes.shape == (audio.size // HOP, 7 + 3)
    gains = codes[4:-4, 7:]
    step = codec.config.quantizer.step
    fall = step * (gains[0] - gains[-1])
    np.testing.assert_allclose(fall, 20 * 3 * np.log10(np.e), atol=3 * step)


def test_the_decoded_sound_is_as_loud_as_the_gains_say(codec, rng):
    codes, start = np.array(codec.encode_model()(noise(2))), np.zeros(1, np.int32)
    quieter = codes - 4 * (np.arange(10) >= 7)
    loud, quiet = (np.std(codec.decode_model()([x, start])) for x in (codes, quieter))
    assert 20 * np.log10(loud / quiet) == pytest.approx(4 * codec.config.quantizer.step, abs=4.0)
    # Every code that a generator may draw is decoded.
    drawn = rng.integers(0, 64, codes.shape).astype("int32")
    assert np.isfinite(codec.decode_model()([drawn, start])).all()


def test_codebooks_are_in_the_order_of_the_codes_of_a_frame(codec, tmp_path):
    weights.save(tmp_path, "timed", "", codec.parts, codec.config)
    books = weights.find(tmp_path, "timed").codebook_per_code()
    codes = np.arange(len(books))[None, None]  # a different code of each book
    vectors = np.concatenate([book[code] for book, code in zip(books, codes[0, 0], strict=True)])
    np.testing.assert_allclose(np.asarray(codec.quantizer.lookup(codes))[0, 0], vectors, atol=1e-6)


def test_a_part_is_decoded_as_the_whole_and_the_engines_agree(codec, tmp_path):
    weights.save(tmp_path, "timed", "", codec.parts, codec.config)
    weight_set = weights.find(tmp_path, "timed")
    audio = noise(3, seed=3)
    onnx, keras = engine.CodecEngine(weight_set), KerasCodec(weight_set)
    codes = keras.encode(audio)
    assert np.mean(onnx.encode(audio) != codes) < 0.01
    whole = keras.decode(codes)
    np.testing.assert_allclose(onnx.decode(codes), whole, atol=1e-4)
    part, _ = onnx.decode_part(codes, 0, 40, 20)
    np.testing.assert_allclose(part, whole[:, 40 * HOP : 60 * HOP], atol=1e-4)


@pytest.mark.parametrize("changes, message", [
    ({"edges": [500, 200]}, "edges"), ({"edges": [500, 12000]}, "12000 Hz"),
    ({"step": 1.0}, "num_codes"), ({"step": 0}, "step")])
def test_impossible_gains_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        codec_config(**changes)


def test_the_flux_term_hears_a_late_attack_and_no_change_of_loudness():
    early, late = noise(seed=4), noise(seed=4)
    early[:, : 20 * HOP] *= 0.01
    late[:, : 22 * HOP] *= 0.01
    same, moved = (float(flux(early, other, RATE)) for other in (0.5 * early, late))
    assert 4 * same < moved


def test_parts_that_follow_each_other_are_the_piece_with_its_past(codec, tmp_path, rng):
    """The overtones hear six seconds of past, in a stream and in the windows of a long piece."""
    weights.save(tmp_path, "timed", "", codec.parts, codec.config)
    played = engine.CodecEngine(weights.find(tmp_path, "timed"))
    halo, count, step = played.decode_halo, 700, 50
    assert 256 <= played.decode_past < 270 and halo < 40
    codes = rng.integers(0, 64, (1, count, 10)).astype(np.int32)
    whole = np.asarray(codec.decode_model()([codes, np.zeros(1, np.int32)]))
    memory, start, parts = None, 0, []
    for first in range(0, count, step):
        stop = min(first + step + halo, count)
        part, memory = played.decode_part(codes[:, start:stop], start, first, step, memory)
        start = stop
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(played.decode(codes), whole, rtol=1e-4, atol=1e-4)
    # A part far from the start, from the codes before it alone.
    begin = 400 - halo - played.decode_past
    part, _ = played.decode_part(codes[:, begin : 450 + halo], begin, 400, 50)
    np.testing.assert_allclose(part, whole[:, 400 * HOP : 450 * HOP], atol=1e-4)
