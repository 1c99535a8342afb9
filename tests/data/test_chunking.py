import numpy as np
import pytest

from vqwave.data import chunking

LEVEL, HALO = 4, 3


def around(frames):
    """int [batch, n, books]: each frame's sum over the `HALO` frames on either side."""
    wide = np.pad(frames, ((0, 0), (HALO, HALO), (0, 0)))
    return sum(wide[:, i : i + frames.shape[1]] for i in range(2 * HALO + 1))


class Encoder:
    """Codes of two books that depend on every frame within the halo; notes the lengths of inputs."""

    def __init__(self):
        self.lengths = []

    def __call__(self, audio):
        self.lengths.append(audio.shape[1])
        frames = audio.reshape(len(audio), -1, LEVEL).astype(int)
        return around(np.stack([frames.sum(-1), frames[..., 0]], axis=-1))


class Decoder(Encoder):
    """Samples that depend on every frame within the halo and on the position in the piece."""

    def __call__(self, codes, first):
        self.lengths.append(codes.shape[1])
        position = first + np.arange(codes.shape[1])
        frames = around(codes).sum(-1) + 1000 * position
        return np.repeat(frames, LEVEL, axis=1).astype(np.float32)


@pytest.fixture
def audio(rng):
    return rng.integers(-9, 9, (2, 29 * LEVEL - 3)).astype("float32")


@pytest.mark.parametrize("samples", [0, 1, LEVEL, 29 * LEVEL - 3])
def test_chunked_encoding_is_that_of_the_whole(audio, samples):
    audio, count = audio[:, :samples], -(-samples // LEVEL)
    whole = Encoder()(np.pad(audio, ((0, 0), (0, count * LEVEL - samples))))
    for window in (1, 3, 7, None):
        codes = chunking.encode(Encoder(), audio, LEVEL, HALO, window)
        np.testing.assert_array_equal(codes, whole)
        for size in (1, 5, 1000):
            blocks, encoder = np.split(audio, range(size, samples, size), axis=1), Encoder()
            pieces = list(chunking.encode_blocks(encoder, blocks, LEVEL, HALO, window))
            np.testing.assert_array_equal(np.concatenate([np.empty((2, 0, 2), int), *pieces], axis=1), whole)
            if window and samples:
                assert max(encoder.lengths) <= (window + 2 * HALO) * LEVEL


@pytest.mark.parametrize("count", [0, 1, 2, 29])
def test_chunked_decoding_is_that_of_the_whole(count, rng):
    codes = rng.integers(0, 9, (2, count, 2))
    whole = Decoder()(codes, 0)
    for window in (1, 4, 11, None):
        decoder = Decoder()
        np.testing.assert_array_equal(chunking.decode(decoder, codes, LEVEL, HALO, window), whole)
        assert max(decoder.lengths, default=0) <= (window or count) + 2 * HALO
