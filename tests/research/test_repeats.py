import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from research.evaluators.health import longest_repeat


@given(st.lists(st.integers(0, 2), max_size=40))
def test_the_longest_repeat_equals_a_search_of_every_length(codes):
    def windows(length):
        return [tuple(codes[i : i + length]) for i in range(len(codes) - length + 1)]

    best = max((n for n in range(1, len(codes)) if len(set(windows(n))) < len(windows(n))), default=0)
    assert longest_repeat(np.array(codes, int)) == best


def test_a_loop_is_one_long_run_and_so_is_silence(rng):
    phrase = rng.permutation(1024)[:100]
    assert longest_repeat(np.tile(phrase, 10)) == 900
    assert longest_repeat(np.zeros(50, int)) == 49


def test_a_repeat_of_several_books_is_exact(rng):
    frames = rng.integers(0, 64, (500, 3))
    frames[300:340] = frames[100:140]
    frames[200:240, :2] = frames[100:140, :2]  # the last book differs
    assert longest_repeat(frames) == 40
    codes = rng.integers(0, 8, 200)
    assert longest_repeat(codes[:, None]) == longest_repeat(codes)
