"""copying.py: the longest shared and repeated runs, against search by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqwave.report.copying import Run, find_held, longest_repeat, longest_shared

few = st.lists(st.integers(0, 2), max_size=40)


def windows(codes, length):
    return {tuple(codes[i : i + length]) for i in range(len(codes) - length + 1)}


@given(few, st.lists(few, max_size=3))
def test_shared_is_what_trying_every_length_finds(codes, corpus):
    best = max((n for n in range(1, len(codes) + 1)
                if any(windows(codes, n) & windows(c, n) for c in corpus)),
               default=0)
    run = longest_shared(np.array(codes, int), [np.array(c, int) for c in corpus])
    assert run.length == best
    if best:
        found = codes[run.position : run.position + best]
        assert found == corpus[run.track][run.other : run.other + best]
        assert run.distinct == len(set(found))


@given(few, st.integers(1, 8), st.integers(0, 3))
def test_held_is_what_lies_in_a_window_of_few_codes(codes, length, distinct):
    held = [any(len(set(codes[i : i + length])) <= distinct
                for i in range(max(0, at - length + 1), at + 1)
                if i + length <= len(codes)) for at in range(len(codes))]
    assert find_held(np.array(codes, int), length, distinct).tolist() == held


def test_a_melody_is_found_beside_a_longer_held_note(rng):
    melody, flicker = rng.integers(0, 500, 60), np.tile([600, 601], 100)
    corpus = [np.concatenate([rng.integers(700, 800, 50), flicker, rng.integers(700, 800, 50),
                              melody])]
    codes = np.concatenate([rng.integers(800, 900, 70), flicker, rng.integers(800, 900, 70),
                            melody[:50]])
    assert longest_shared(codes, corpus).length == 200
    run = longest_shared(codes, corpus, find_held(codes, 20, 4))
    assert (run.length, run.position, run.other) == (50, 340, 300)
    frames = np.stack([codes, codes], axis=1)
    np.testing.assert_array_equal(find_held(frames, 20, 4), find_held(codes, 20, 4))


@given(few)
def test_repeat_is_what_trying_every_length_finds(codes):
    best = max((n for n in range(1, len(codes)) if len(windows(codes, n)) < len(codes) - n + 1),
               default=0)
    run = longest_repeat(np.array(codes, int))
    assert run.length == best
    if best:
        assert run.position < run.other
        assert codes[run.position : run.position + best] == codes[run.other : run.other + best]


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 4097])
def test_a_planted_run_is_found_in_a_large_corpus(rng, length):
    corpus = [rng.integers(0, 1024, 200_000) for _ in range(3)]
    codes = rng.integers(1024, 2048, 20_000)  # nothing else in common
    codes[777 : 777 + length] = corpus[1][5000 : 5000 + length]
    run = longest_shared(codes, corpus)
    assert run.length == length and run.position == 777
    assert length < 3 or (run.track, run.other) == (1, 5000)


def test_a_loop_is_one_long_run_and_silence_has_one_code(rng):
    phrase = rng.permutation(1024)[:100]
    run = longest_repeat(np.tile(phrase, 10))
    assert (run.length, run.position, run.other, run.distinct) == (900, 0, 100, 100)
    assert longest_repeat(np.zeros(50, int)) == Run(49, 0, 0, 1, 1)


def test_frames_of_several_books_are_alike_where_every_book_is(rng):
    frames = rng.integers(0, 64, (500, 3))
    frames[300:340] = frames[100:140]
    frames[200:240, :2] = frames[100:140, :2]  # another last book: no copy
    run = longest_repeat(frames)
    assert (run.length, run.position, run.other) == (40, 100, 300)
    assert longest_shared(frames[100:150],
                          [rng.integers(0, 64, (50, 3)), frames[290:400]]).length == 40
    one = rng.integers(0, 8, 200)
    assert longest_repeat(one[:, None]) == longest_repeat(one)


def test_what_is_no_sequence_is_refused():
    with pytest.raises(ValueError, match="one sequence"):
        longest_repeat(np.zeros((2, 3, 4), int))
