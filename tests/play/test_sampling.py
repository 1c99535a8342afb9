"""Randomness by position, and logits to codes: what the graphs are held against."""

import numpy as np
import pytest
from chains import distribution
from hypothesis import given
from hypothesis import strategies as st
from reference import pick
from scipy import stats

from vqwave.errors import UserError
from vqwave.generators import Sampling
from vqwave.io import defaults
from vqwave.levels import SCORE, replace
from vqwave.play import sampling
from vqwave.presets import load_preset


@given(start=st.integers(0, 2**40), cut=st.integers(0, 40), count=st.integers(0, 40))
def test_a_number_depends_only_on_its_position(start, cut, count):
    whole = sampling.uniforms(7, 3, 32, start, cut + count)
    parts = [sampling.uniforms(7, 3, 32, start, cut),
             sampling.uniforms(7, 3, 32, start + cut, count)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert whole.dtype == np.float32 and whole.shape == (cut + count,)


def test_numbers_are_uniform_and_exact_in_float32():
    u = sampling.uniforms(1, 0, 8, 0, 1_000_000)
    assert u.min() >= 0 and u.max() <= 1 - 2.0**-24
    np.testing.assert_array_equal(u * 2**24, np.round(u * 2.0**24))
    counts = np.bincount((u * 1000).astype(int), minlength=1000)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.005


def test_each_of_seed_stream_level_and_book_makes_other_numbers():
    keys = [(s, r, v, b) for s in (0, 1, 2**64, 2**127) for r in (0, 1) for v in (8, 512)
            for b in (0, 1)]
    rows = np.stack([sampling.uniforms(seed, stream, level, 5, 4000, book)
                     for seed, stream, level, book in keys])
    assert np.abs(np.corrcoef(rows) - np.eye(len(keys))).max() < 0.08


def philox(counter, key):
    """Philox-4x64-10 as in Salmon et al. 2011, from a counter of four words and a key of two."""
    mask = 2**64 - 1
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(b >> 64) ^ c[1] ^ k0, b & mask, (a >> 64) ^ c[3] ^ k1, a & mask]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return c


@pytest.mark.parametrize("seed", [0, 1234, 2**100 + 5])
def test_a_seed_stays_the_same_music(seed):
    # By hand, so that no other release of NumPy can change what a seed plays. NumPy counts before
    # it draws.
    stream, level, start = 5, 32, 803
    for book in (0, 2):
        halves = []
        for block in range(100, 104):
            for word in philox([block + 1, stream, level, book], [seed % 2**64, seed >> 64]):
                halves += [word & 0xFFFFFFFF, word >> 32]
        expected = [(half >> 8) / 2**24 for half in halves]
        np.testing.assert_array_equal(sampling.uniforms(seed, stream, level, start, 20, book),
                                      expected[3:23])


def test_top_k_keeps_exactly_k_the_lower_code_where_two_tie():
    logits = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0], np.float32)
    every = range(6)
    for k, kept in ((1, [1]), (2, [1, 3]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (6, every),
                    (0, every), (99, every)):
        probs = distribution(logits, Sampling(top_k=k))
        assert np.flatnonzero(probs).tolist() == list(kept)
        assert probs.sum() == pytest.approx(1, abs=1e-6)


@given(logits=st.lists(st.floats(-8, 8, width=32), min_size=2, max_size=30),
       top_p=st.floats(0.01, 1.0))
def test_top_p_is_the_smallest_set_that_reaches_p(logits, top_p):
    full, cut = distribution(logits), distribution(logits, Sampling(top_p=top_p))
    kept = np.flatnonzero(cut)
    mass = full[kept].sum()
    assert mass >= min(top_p, full.sum()) - 1e-5
    assert mass - full[kept].min() < top_p + 1e-5 or len(kept) == 1
    assert full[kept].min() >= np.delete(full, kept).max(initial=0)
    np.testing.assert_allclose(cut[kept], full[kept] / mass, rtol=1e-4)


@pytest.mark.parametrize("top_p, kept", [(0.5, 1), (0.75, 2), (0.875, 3), (0.5001, 2)])
def test_top_p_keeps_no_code_beyond_an_exact_boundary(top_p, kept):
    # Powers of two, so that the sums are exact.
    logits = np.log2(np.array([0.5, 0.25, 0.125, 0.125])) * np.float32(np.log(2))
    probs = distribution(logits, Sampling(top_p=top_p))
    assert np.flatnonzero(probs).tolist() == list(range(kept))


def test_temperature_0_is_the_likeliest_the_lower_code_where_two_tie():
    greedy = Sampling(temperature=0, top_k=7, top_p=0.5)
    np.testing.assert_array_equal(distribution([1.0, 5.0, 5.0], greedy), [0, 1, 0])


def chain_configs():
    preset = load_preset("tiny")
    return [preset.generator(level) for level in (512, 128, 32)]


def test_sampling_comes_from_each_config_from_one_for_all_or_from_a_mapping():
    chain = chain_configs()
    chain[1] = replace(chain[1], sampling=Sampling(temperature=0.8, top_k=9))
    own = {"512x": Sampling(), "128x": Sampling(temperature=0.8, top_k=9), "32x": Sampling()}
    for chosen in (None, {}):
        assert list(sampling.choose_sampling(chain, chosen).items()) == list(own.items())
    everywhere = Sampling(top_p=0.5)
    assert sampling.choose_sampling(chain, everywhere) == dict.fromkeys(own, everywhere)
    # A mapping names the fields that differ; a Sampling has all fields.
    assert sampling.choose_sampling(chain, {"32x": everywhere, "128": {"temperature": 0}, "top_k": 3}) == {
        "512x": Sampling(top_k=3), "128x": Sampling(temperature=0, top_k=3), "32x": everywhere}


@pytest.mark.parametrize("chosen, score, performer, said", [
    ({"temperature": 1.2, "top_p": 0.8, "guidance": 2}, {"temperature": 1.2}, {"guidance": 2}, "top_p 0.8 does not"),
    ({"temperature": 0}, {}, {}, "temperature 0 does not change the score, which would have no notes"),
    ({"score": {"temperature": 0}}, {"temperature": 0}, {}, ""),
    ({512: {"temperature": 0.001, "top_k": 5}}, {}, {"temperature": 0.001}, "top_k and top_p do not change 512x"),
])
def test_a_value_for_all_levels_leaves_what_it_would_spoil(chosen, score, performer, said, capsys):
    preset = load_preset("vqwave")
    chain = [preset.generator(SCORE), preset.generator(512), preset.generator(32)]
    chain[1] = replace(chain[1], sampling={"temperature": 0.0001})
    defaults._noted.clear()
    for _ in range(2):  # it is said once
        made = sampling.choose_sampling(chain, chosen)
    assert made["score"] == Sampling(**score)
    assert made["512x"] == Sampling(**{"temperature": 0.0001} | performer)
    assert made["32x"].temperature == chosen.get("temperature", chain[2].sampling.temperature) and made["32x"].guidance == 1
    notes = capsys.readouterr().err
    assert said in notes and notes.count("\n") == bool(said)


@pytest.mark.parametrize("bad, message", [
    *(({128: {field: value}}, f"sampling of 128x: {field} is ") for field, value in (
        ("temperature", -1), ("temperature", float("nan")), ("temperature", float("inf")),
        ("temperature", "hot"), ("temperature", True), ("top_k", -1), ("top_k", 1.5),
        ("top_p", 0), ("top_p", 1.1), ("top_p", "much"))),
    ({128: {"topk": 1}}, "sampling of 128x: unknown key 'topk'; did you mean 'top_k'"),
    ({"8x": {"top_p": 0.5}}, "sampling: no level is called '8x'; there are 512x, 128x, 32x"),
    ({"score": {"temperature": 1}}, "sampling: no level is called 'score'"),
    ({"temperature": -1}, "sampling: temperature is -1"), ({"32x": {"guidance": 2}}, "generator_32 was trained without"),
    ({128: 0.9}, "sampling of 128x is 0.9"), ([0.9, 1.0], "sampling is"),
])
def test_wrong_settings_are_refused(bad, message):
    with pytest.raises(UserError, match=f"^{message}"):
        sampling.choose_sampling(chain_configs(), bad)


def test_pick_inverts_the_cumulative_distribution():
    probs = np.array([0.0, 0.25, 0.0, 0.5, 0.25, 0.0], np.float32)
    for u, code in ((0.0, 1), (0.2499, 1), (0.25, 3), (0.7499, 3), (0.75, 4), (1 - 2.0**-24, 4)):
        assert pick(probs, np.float32(u)) == code
