"""Codes of chains whose frames have several books, through the real engines."""

import numpy as np
import prepared
import pytest
from chains import preset, save_chain

import vqwave
from vqwave.errors import UserError

CHAINS = {"coarser": ({2048: 1, 512: 1, 128: 1}, 3000, 8192), "books": ({512: 3, 128: 1}, 22050, 8192)}
"""Books by level from the top down, samples a second, samples a block."""


@pytest.fixture(scope="module", params=CHAINS)
def music(request, tmp_path_factory):
    """Random weights; large, so that a code in another place would show."""
    root = tmp_path_factory.mktemp(request.param)
    saved = save_chain(root, preset(root / "preset.yml", *CHAINS[request.param]), spread=1.5)
    return vqwave.load(saved.codecs, saved.generators)


def test_codes_of_several_books_have_an_axis_of_books(music):
    chain = music.chain
    song = prepared.music((5 * chain.block + chain.top + 3) / chain.sample_rate, 3, chain.sample_rate)
    for level in chain.sizes:
        books, count = music.codec(level).config.books, -(-song.size // level)
        codes = music.encode(song, level)
        assert codes.shape == ((count,) if books == 1 else (count, books)) and codes.dtype == np.int32
        both = music.encode(np.stack([song, -song]), level)
        np.testing.assert_array_equal(both[0], codes)
        assert music.decode(codes, level).shape == (count * level,)
        np.testing.assert_allclose(music.decode(both, level)[0], music.decode(codes, level), atol=1e-5)
        assert len(np.unique(codes)) > 15  # so that what is compared could differ
    if books == 1 and chain.top == 512:
        for codes, level, message in (
            (np.zeros((5, 4), int), 512, "whole numbers"), (np.zeros(5, int), 512, "whole numbers"),
            (np.zeros((5, 0), int), 512, "whole numbers"), (np.zeros((5, 3)), 512, "whole numbers"),
            (np.full((5, 3), 64), 512, "are 64 … 64; they must be in 0 … 63"),
            (np.zeros((1, 5, 3), int), 128, r"int64 \[1, 5, 3\]"),
        ):
            with pytest.raises(UserError, match=message):
                music.decode(codes, level)
