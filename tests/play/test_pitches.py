"""What pitches codes sound is heard from a codec that plays known sines, and held notes lean on it."""

from pathlib import Path

import numpy as np
import pytest

from vqwave.codecs import CodecConfig
from vqwave.io.weights import WeightSet
from vqwave.play import pitches

RATE, LEVEL, CODES = 22050, 512, 13


class Sines:
    """Code c of book b plays pitch class c in octave 4 + b; code 12 is silent; the sum is heard."""

    engine = "sines"

    def __init__(self, kind="banded", books=2, head="tones"):
        quantizer = {"kind": kind, "num_codes": CODES} | ({"books": books} if books > 1 else {})
        self.config = CodecConfig(name="vqvae_512", sample_rate=RATE, quantizer=quantizer,
                                  head={"kind": head}, stages=[{"stride": LEVEL, "channels": 4}])
        self.weight_set = WeightSet(Path("nowhere"), "vqvae_512", "", self.config, {}, kind, {})
        self.decoded = 0

    def encode(self, audio):
        assert not audio.any()
        return np.full((1, audio.shape[1] // LEVEL, self.config.books), 12, np.int32)

    def decode_window(self, codes, start=0):
        self.decoded += len(codes)
        time = np.arange(codes.shape[1] * LEVEL) / RATE
        code = np.repeat(codes, LEVEL, axis=1)
        octave = 12 * (5 + np.arange(codes.shape[2]))
        hertz = 440 * 2 ** ((code + octave - 69) / 12)
        return (0.1 * (code < 12) * np.sin(2 * np.pi * hertz * time[:, None])).sum(-1).astype(
            np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind, books", [("banded", 2), ("ema", 1), ("residual", 2)])
def test_codes_have_the_pitches_of_the_decoder(kind, books):
    powers = pitches.of_codec(Sines(kind, books))
    assert powers.shape == (books, CODES, 12)
    expected = 0.01 * np.eye(CODES, 12)
    np.testing.assert_allclose(powers[0], expected, atol=3e-4)
    np.testing.assert_allclose(powers[1:], [expected] * (books - 1) if kind == "banded"
                               else np.zeros((books - 1, CODES, 12)), atol=3e-4)


def test_pitches_are_measured_again_only_if_their_file_is_torn(cache):
    first, second = Sines(), Sines()
    np.testing.assert_array_equal(pitches.of_codec(first), pitches.of_codec(second))
    assert first.decoded and not second.decoded
    for path in cache.glob("*.npy"):
        path.write_bytes(b"torn")
    third = Sines()
    pitches.of_codec(third)
    assert third.decoded


def test_held_notes_make_codes_likelier_that_sound_them():
    powers = pitches.measure(Sines("ema", 1))
    bias = pitches.bias(powers, [60, 64, 79], 6.0)[0]
    held = [0, 4, 7]
    np.testing.assert_allclose(bias[held], 6.0, atol=0.3)
    assert (np.delete(bias, [*held, 12]) < 0).all() and bias[12] == pytest.approx(0, abs=0.3)
    np.testing.assert_allclose(pitches.bias(powers, [60, 64, 79], 3.0)[0], bias / 2, atol=1e-6)
    for notes, pull in (((), 6.0), ((60,), 0.0), (range(12), 6.0)):
        assert pitches.bias(powers, notes, pull) is None


def test_a_recordings_pitches_make_codes_likelier_that_sound_them_and_less_with_time():
    powers = np.eye(14, 12, dtype=np.float32)[None]  # code c sounds class c; the last two nothing
    codes = np.array([0, 0, 4, 7, 12, 13])[:, None]
    home = pitches.PitchAnchor.of(powers, codes, half=100.0)
    share = np.full(12, 0.2 / 12)
    share[[0, 4, 7]] += 0.8 * np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(home.scores[0, :12], np.log(12 * share), rtol=1e-4)
    assert not home.scores[0, 12:].any() and home.begin == 6
    np.testing.assert_array_equal(home.bias(6, 2.0), 2 * home.scores)
    np.testing.assert_allclose(home.bias(206, 2.0), home.scores / 2, rtol=1e-6)
    assert home.bias(206, 0.0) is None and home.bias(1206, 2.0) is None
    # A recording of nothing that sounds draws nowhere.
    np.testing.assert_allclose(pitches.PitchAnchor.of(powers, codes[4:], 100.0).scores, 0, atol=1e-6)
    # What a code sounds of several classes counts by its share, however loud it is.
    chord = np.zeros((1, 2, 12), np.float32)
    chord[0, 0, [0, 4]] = 1e-3
    chord[0, 1, 0] = 1.0
    scores = pitches.PitchAnchor.of(chord, np.array([[1]]), 100.0).scores[0]
    assert scores[0] == pytest.approx((np.log(12 * 0.2 / 12) + scores[1]) / 2, rel=1e-3)
