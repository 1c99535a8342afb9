import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqwave.report.copying import find_held, longest_shared

few = st.lists(st.integers(0, 2), max_size=40)


def windows(codes, length):
    return {tuple(codes[i : i + length]) for i in range(len(codes) - length + 1)}


@given(few, st.lists(few, max_size=3))
def test_the_longest_shared_run_equals_a_search_of_every_length(codes, corpus):
    best = max((n for n in range(1, len(codes) + 1)
                if any(windows(codes, n) & windows(c, n) for c in corpus)),
               default=0)
    assert longest_shared(np.array(codes, int), [np.array(c, int) for c in corpus]) == best


@given(few, st.integers(1, 8), st.integers(0, 3))
def test_held_codes_lie_in_a_window_of_few_codes(codes, length, distinct):
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
    assert longest_shared(codes, corpus) == 200
    assert longest_shared(codes, corpus, find_held(codes, 20, 4)) == 50
    frames = np.stack([codes, codes], axis=1)
    np.testing.assert_array_equal(find_held(frames, 20, 4), find_held(codes, 20, 4))


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 4097])
def test_a_planted_run_is_found_in_a_large_corpus(rng, length):
    corpus = [rng.integers(0, 1024, 200_000) for _ in range(3)]
    codes = rng.integers(1024, 2048, 20_000)  # nothing else in common
    codes[777 : 777 + length] = corpus[1][5000 : 5000 + length]
    assert longest_shared(codes, corpus) == length


def bands(rng, count, books=14):
    """Codes as of music in bands: each book of its own range, held for some frames."""
    held = rng.integers(0, 1 + np.arange(books) % 7 * 3, (count // 3 + 1, books))
    return np.repeat(held, 3, axis=0)[:count]


MINUTE = 2584
"""Frames of 512 samples at 22,050 Hz."""


@pytest.mark.parametrize("change", ["none", "one band a frame", "a fifth of the codes", "a frame in ten"])
def test_a_copied_minute_is_found_although_it_differs_a_little(rng, change):
    corpus = [bands(rng, 8000) for _ in range(3)]
    copied = corpus[2][3000 : 3000 + MINUTE].copy()
    if change == "one band a frame":
        copied[np.arange(MINUTE), rng.integers(0, 14, MINUTE)] += 1
    elif change == "a fifth of the codes":
        copied += rng.random(copied.shape) < 0.2
    elif change == "a frame in ten":
        copied[::10] = 99
    codes = np.concatenate([bands(rng, 500), copied, bands(rng, 500)])
    assert abs(longest_shared(codes, corpus) - MINUTE) <= 10
    barred = np.zeros(len(codes), bool)
    barred[1000:1100] = True
    assert abs(longest_shared(codes, corpus, barred) - (MINUTE - 600)) <= 10


@pytest.mark.parametrize(("change", "seconds"), [
    ("three bands", 59), (1.01, 20), (1.02, 12), (1.05, 5)])
def test_a_copied_minute_is_found_with_bands_replaced_or_stretched(rng, change, seconds):
    """The power that docs/evaluation.md states, on bands that change as rarely as real codes do."""
    def music(count):
        change = rng.random((count, 14)) < 0.04
        last = np.maximum.accumulate(np.where(change, np.arange(count)[:, None], 0))
        return np.take_along_axis(rng.integers(0, 256, (count, 14)), last, 0)

    corpus = [music(8000) for _ in range(3)]
    copied = corpus[2][3000 : 3000 + MINUTE].copy()
    if change == "three bands":
        copied[:, ::5] = music(MINUTE)[:, ::5]
    else:
        copied = copied[(np.arange(round(MINUTE * change)) / change).astype(int)]
    codes = np.concatenate([music(500), copied, music(500)])
    assert longest_shared(codes, corpus) >= seconds * MINUTE / 60
    assert longest_shared(music(4000), corpus) < 43
