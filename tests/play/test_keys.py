"""The keys of a terminal turn what a score and the studio turn, and show it in a line."""

import numpy as np
import pytest
from test_stream import BLOCK, chain, start

from vqwave.play import controls
from vqwave.play.keys import Keys


@pytest.fixture
def stream():
    stream = start(chain(128), seed=3, past=16 * BLOCK / 22050)
    for _ in range(8):
        next(stream)
    return stream


PLAIN = {name: one for name, one in controls.CONTROLS.items() if not one.labels}
"""Those of weights that were trained without labels."""


@pytest.mark.parametrize("name", PLAIN)
def test_each_number_has_keys_that_turn_it(stream, name):
    keys, one = Keys(stream), controls.CONTROLS[name]
    keys.press(one.keys[-1])
    (sample, change), = keys.score
    assert sample == 8 * BLOCK
    if one.sampled:
        assert list(change["sampling"]) == [512, 128]
    elif len(one.keys) == 1:
        assert change == {name: keys.bar}
    else:
        assert change == {name: one.clip(one.default + one.step)}
    if name != "top_p":  # which is at its most
        assert name in keys.line
    for _ in range(100):  # to its end, and no further
        keys.press(one.keys[0])
    assert len(keys.score) == 101 and not keys.said


def test_a_digit_chooses_the_level_that_keys_go_to(stream):
    keys = Keys(stream)
    for key in "2T0T1f":
        keys.press(key)
    changes = [change for _, change in keys.score]
    assert changes == [{"sampling": {128: {"temperature": 1.05}}},
                       {"sampling": {512: {"temperature": 1.05}, 128: {"temperature": 1.1}}},
                       {"freeze": {512: keys.bar}}]


def test_what_cannot_be_is_said_and_changes_nothing():
    keys = Keys(start(chain(128), seed=3))
    for key, words in (("h", "keeps nothing to hold"), ("f", "keeps nothing to freeze")):
        keys.press(key)
        assert words in keys.line
    keys.press("7")
    keys.press("§")
    assert not keys.score and not keys.line


def test_keys_are_explained(stream):
    keys = Keys(stream)
    keys.press("?")
    assert all(f"{'/'.join(one.keys)} {name}" in keys.line
               for name, one in PLAIN.items())
    keys.press("x")
    assert not keys.line


def test_what_was_pressed_plays_again_bit_for_bit(stream):
    keys, heard = Keys(stream), []
    for key in "T-]h>j1f[":
        keys.press(key)
        heard.append(next(stream))
    again = controls.replay(start(chain(128), seed=3, past=16 * BLOCK / 22050), keys.score)
    whole = [next(again) for _ in range(17)]
    np.testing.assert_array_equal(whole[8:], heard)
