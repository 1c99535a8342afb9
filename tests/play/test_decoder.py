"""The sound that a level below reads is that of the whole piece, in whatever order it is read."""

import numpy as np
import pytest
from test_stream import BLOCK, CODES, IntegerCodec

from vqwave.errors import UserError
from vqwave.play.decoder import Decoder, Sound, SoundState, Workers
from vqwave.play.level import BufferState, CodeBuffer


@pytest.fixture
def workers():
    workers = Workers()
    yield workers
    workers.close()


def sound_of(codec, codes, workers, state=None):
    buffer = CodeBuffer(codec.config.level, BLOCK, BufferState(codes=codes), codes.shape[1])
    state = state or SoundState(codes=np.zeros((len(codes), 0, 1), np.float32))
    return Sound(Decoder(codec, buffer, state, workers))


def test_windows_of_a_sound_are_those_of_the_whole_piece(workers, rng):
    codec = IntegerCodec(128)
    codes = rng.integers(0, CODES, (2, 5 * BLOCK // 128 + 3, 1), np.int32)
    whole = codec.decode_window(codes)
    sound = sound_of(codec, codes, workers)
    padded = np.pad(whole, ((0, 0), (100, BLOCK)))
    for begin, end in ((-100, 900), (850, 2 * BLOCK + 5), (2 * BLOCK, 4 * BLOCK),
                       (4 * BLOCK + 7, whole.shape[1] + 50)):
        np.testing.assert_array_equal(sound.read(begin, end), padded[:, begin + 100 : end + 100])
    assert sound.state.codes.shape[1] < 2 * BLOCK


def test_a_sound_that_is_not_finite_is_an_error(workers):
    codec = IntegerCodec(128)
    codec.decode_part = lambda codes, *_: (np.full((1, BLOCK), np.nan), None)
    with pytest.raises(UserError, match="not finite"):
        sound_of(codec, np.zeros((1, 64, 1), np.int32), workers).read(0, 10)
