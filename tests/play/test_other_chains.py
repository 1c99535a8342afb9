"""Chains of other levels, rates and books than what ships has, through the real engines."""


import numpy as np
import prepared
import pytest
from chains import preset, save_chain

import vqwave
from vqwave.errors import UserError

CHAINS = {
    "finer": ({128: 1, 32: 1, 8: 1}, 44100, 4096),
    "coarser": ({2048: 1, 512: 1, 128: 1}, 3000, 8192),
    "books": ({512: 3, 128: 1}, 22050, 8192),
    "notes": ({512: 7, 128: 7}, 22050, 8192),
}
"""Books by level from the top down, samples a second, samples a block."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Random weights of a chain by its name, made once: `.codecs`, `.generators`, `.chain`."""
    made = {}

    def save(name):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            # Large weights, so that a code in another place would show.
            notes = CHAINS[name][0] if name == "notes" else ()
            made[name] = save_chain(root, preset(root / "preset.yml", *CHAINS[name],
                                                 of_notes=notes), spread=1.5)
        return made[name]

    return save


@pytest.fixture(scope="module", params=CHAINS)
def folders(request, saved):
    made = saved(request.param)
    made.name = request.param
    return made


@pytest.fixture(scope="module")
def music(folders):
    return vqwave.load(folders.codecs, folders.generators)


@pytest.fixture(scope="module")
def song(music):
    """A recording of five blocks and a little: float32 [samples] at the chain's rate."""
    chain = music.chain
    return prepared.music((5 * chain.block + chain.top + 3) / chain.sample_rate, 3,
                          chain.sample_rate)


def test_codes_of_several_books_have_an_axis_of_books(music, song):
    for level in music.chain.sizes:
        books = music.codec(level).config.books
        codes = music.encode(song, level)
        count = -(-song.size // level)
        assert codes.shape == ((count,) if books == 1 else (count, books))
        assert codes.dtype == np.int32
        both = music.encode(np.stack([song, -song]), level)
        np.testing.assert_array_equal(both[0], codes)
        assert music.decode(codes, level).shape == (count * level,)
        np.testing.assert_allclose(music.decode(both, level)[0], music.decode(codes, level),
                                   atol=1e-5)
        # Most codes are in use: what is compared below could differ.
        assert len(np.unique(codes)) > 15


@pytest.fixture(scope="module")
def residual(saved):
    return saved("books")


@pytest.mark.parametrize("codes, level, message", [
    (np.zeros((5, 4), int), 512, "whole numbers"), (np.zeros(5, int), 512, "whole numbers"),
    (np.zeros((5, 0), int), 512, "whole numbers"), (np.zeros((5, 3)), 512, "whole numbers"),
    (np.full((5, 3), 64), 512, "are 64 … 64; they must be in 0 … 63"),
    (np.zeros((1, 5, 3), int), 128, r"int64 \[1, 5, 3\]"),
])
def test_invalid_codes_raise_user_error(residual, codes, level, message):
    with pytest.raises(UserError, match=message):
        vqwave.load(residual.codecs, residual.generators).decode(codes, level)
