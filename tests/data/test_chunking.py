"""chunking.py: window by window is the whole, at every length, with halos no narrower than what a
code can see.
"""

import itertools

import keras
import numpy as np
import pytest

from vqwave import config as configs
from vqwave.data import chunking
from vqwave.io import weights
from vqwave.nn.codec import Codec, load_codec


class Counted:
    """A model's call, and how long its inputs were."""

    def __init__(self, model):
        self.model, self.lengths = model, []

    def __call__(self, x, start=0):
        self.lengths.append(x.shape[1])
        if len(self.model.inputs) > 1:
            x = [x, np.full(len(x), start, np.int32)]
        return np.asarray(self.model.predict_on_batch(x))


@pytest.fixture(scope="module")
def codecs(tiny_weights):
    """Tiny codecs whose residual blocks do something, so that a halo too narrow would be seen."""
    made = {}
    for level in (512, 32, 8):
        codec = load_codec(weights.find(tiny_weights.codecs, f"vqvae_{level}"))
        for v in codec.weights:
            if v.path.endswith("mix/kernel"):
                v.assign(np.random.default_rng(1).normal(0, 0.2, v.shape))
        made[level] = (codec.config, codec, Counted(codec.encode_model()),
                       Counted(codec.decode_model()))
    return made


@pytest.mark.parametrize("level, lengths",
                         [(8, (1, 7, 8, 299)), (32, (1, 31, 33, 32 * 29)),
                          (512, (1, 512 * 9 + 17))])
def test_chunked_encoding_is_that_of_the_whole(codecs, level, lengths, rng):
    config, codec, encode, _ = codecs[level]
    for samples in lengths:
        audio = rng.normal(0, 0.1, (2, samples)).astype("float32")
        count = -(-samples // level)
        whole = encode(np.pad(audio, ((0, 0), (0, count * level - samples))))
        for window in (1, 3, 7, None):
            codes = chunking.encode(encode, audio, level, codec.encode_halo, window)
            assert codes.shape == (2, count, 1)
            assert codes.dtype == np.int32
            np.testing.assert_array_equal(codes, whole)


@pytest.mark.parametrize("level", [8, 32, 512])
def test_encoding_as_it_arrives_is_that_of_the_whole_and_holds_a_window(codecs, level, rng):
    config, codec, encode, _ = codecs[level]
    for samples in (0, 1, level, 29 * level - 3, 150 * level + 1):
        audio = rng.normal(0, 0.1, samples).astype("float32")
        whole = chunking.encode(encode, audio[None], level, codec.encode_halo)[0]
        for window, sizes in ((1, [1000]), (7, [1, 50000]), (40, [10**6]), (None, [777])):
            edges = np.cumsum(sizes * (samples // sum(sizes) + 1))
            encode.lengths.clear()
            made = list(chunking.encode_blocks(encode,
                                               np.split(audio, edges[edges < samples]), level,
                                                codec.encode_halo, window))
            np.testing.assert_array_equal(np.concatenate([np.empty((0, 1), int), *made]), whole)
            if window and samples:
                assert max(encode.lengths) <= (window + 2 * codec.encode_halo) * level


@pytest.mark.parametrize("level", [8, 32, 512])
def test_chunked_decoding_is_that_of_the_whole(codecs, level, rng):
    config, codec, _, decode = codecs[level]
    for count in (1, 2, 29):
        codes = rng.integers(0, config.num_codes, (2, count, 1)).astype("int32")
        whole = decode(codes)
        for window in (1, 4, 11, None):
            audio = chunking.decode(decode, codes, level, codec.decode_halo, window)
            assert audio.shape == (2, count * level)
            assert audio.dtype == np.float32
            np.testing.assert_allclose(audio, whole, atol=1e-5)


def test_silence_stays_the_same_code_wherever_the_windows_fall(codecs):
    config, codec, encode, decode = codecs[8]
    audio = np.zeros((1, 8 * 60), "float32")
    codes = chunking.encode(encode, audio, 8, codec.encode_halo, 5)
    np.testing.assert_array_equal(codes, encode(audio))
    np.testing.assert_allclose(chunking.decode(decode, codes, 8, codec.decode_halo, 5),
                               decode(codes), atol=1e-5)


def test_nothing_gives_nothing(codecs):
    config, codec, encode, decode = codecs[8]
    assert chunking.encode(encode, np.zeros((1, 0)), 8, codec.encode_halo).shape == (1, 0, 1)
    assert chunking.decode(decode, np.zeros((1, 0, 1)), 8, codec.decode_halo).shape == (1, 0)


def test_a_run_never_grows_with_the_length(codecs, rng):
    config, codec, encode, decode = codecs[8]
    for count in (100, 400):
        encode.lengths.clear()
        decode.lengths.clear()
        chunking.encode(encode, rng.normal(0, 0.1, (1, 8 * count)), 8, codec.encode_halo, 20)
        chunking.decode(decode, rng.integers(0, 64, (1, count, 1)), 8, codec.decode_halo, 20)
        assert max(encode.lengths) <= 8 * (20 + 2 * codec.encode_halo)
        assert max(decode.lengths) <= 20 + 2 * codec.decode_halo


@pytest.mark.parametrize("level", [8, 32, 512])
def test_the_halo_covers_what_a_code_can_see(codecs, level, rng):
    """By changing one place and looking how far it is heard."""
    config, codec, _, decode = codecs[level]
    halo = codec.decode_halo
    count = 2 * halo + 9
    middle = count // 2
    codes = rng.integers(0, config.num_codes, (1, count, 1)).astype("int32")
    changed = codes.copy()
    changed[0, middle] = (changed[0, middle] + 7) % config.num_codes
    heard = np.flatnonzero(np.abs(decode(changed) - decode(codes))[0] > 0) // level
    assert middle - heard.min() <= halo
    assert heard.max() - middle <= halo
    # And is not much wider than that, which would cost time.
    assert halo - (heard.max() - middle) <= 3

    halo = codec.encode_halo
    count = 2 * halo + 9
    middle = count // 2
    audio = rng.normal(0, 0.1, (1, count * level)).astype("float32")
    before = codec.encoder.predict_on_batch(audio[..., None])
    audio[0, middle * level : (middle + 1) * level] += 0.5
    moved = np.flatnonzero(np.abs(codec.encoder.predict_on_batch(audio[..., None]) - before).max(axis=(0, 2)) > 0)
    assert middle - moved.min() <= halo
    assert moved.max() - middle <= halo


def test_halos_of_the_shipped_presets_are_small_against_a_window():
    for preset, level in itertools.product(("compact", configs.SHIPPED), (512, 128, 32, 8)):
        codec = Codec(configs.preset(preset).codec(level))
        window = chunking.WINDOW_SAMPLES // level
        assert 0 < codec.encode_halo < window / 2
        assert 0 < codec.decode_halo < window / 2


def test_several_books_keep_their_places(rng):
    """A codec of three books, window by window and as the signal arrives."""
    quantizer = {"kind": "residual", "books": 3, "num_codes": 16, "code_dim": 4}
    config = configs.override(configs.preset("tiny").codec(32), {"quantizer": quantizer}, "test")
    codec = Codec(config)
    codec(rng.normal(0, 0.1, (2, 4096)).astype("float32"), training=True)
    encode, decode = Counted(codec.encode_model()), Counted(codec.decode_model())
    audio = rng.normal(0, 0.1, (2, 32 * 41 - 5)).astype("float32")
    codes = chunking.encode(encode, audio, 32, codec.encode_halo, 7)
    assert codes.shape == (2, 41, 3)
    np.testing.assert_array_equal(codes, encode(np.pad(audio, ((0, 0), (0, 5)))))
    blocks = chunking.encode_blocks(encode, np.split(audio[0], [100, 700]),
                                    32, codec.encode_halo, 5)
    np.testing.assert_array_equal(np.concatenate(list(blocks)), codes[0])
    for books in (1, 3):
        cut = codes[..., :books]
        np.testing.assert_allclose(chunking.decode(decode, cut, 32, codec.decode_halo, 9),
                                   decode(cut), atol=1e-5)


def test_codes_that_are_chosen_together_are_those_of_the_whole(rng):
    """A banded codec's codes depend on the frames of their segment, wherever the windows are cut.

    Paths of the same cost but for rounding occur in noise: one code in a thousand may be the other
    one.
    """
    from nn.test_encoders import notes_config

    keras.utils.set_random_seed(4)
    made = Codec(notes_config(quantizer={"change_cost": 0.1}))
    audio = rng.normal(0, 0.1, (1, 512 * 300 - 70)).astype("float32")
    made(audio[:, : 512 * 100], training=True)
    encode = Counted(made.encode_model())
    whole = encode(np.pad(audio, ((0, 0), (0, 70))))
    assert 0.02 < (whole[:, 1:] != whole[:, :-1]).mean() < 0.8
    segment = made.config.quantizer.segment
    for window in (1, 64, 100, None):
        codes = chunking.encode(encode, audio, 512, made.encode_halo, window, segment)
        assert (codes != whole).mean() < 2e-3
        blocks = np.array_split(audio[0], 7)
        pieces = list(chunking.encode_blocks(encode, blocks, 512, made.encode_halo,
                                             window, segment))
        np.testing.assert_array_equal(np.concatenate(pieces), codes[0])
    # A window that begins within a segment has other paths.
    shifted = encode(np.pad(audio, ((0, 0), (512, 70 + 512 * 63))))[:, 1:301]
    assert (shifted != whole).mean() > 0.02
    assert max(encode.lengths[1:]) <= 512 * (512 + 2 * made.encode_halo)
