"""The engines against each other, against closed forms, and what a warm start loads."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from chains import save_codec, save_generator
from int8 import exact_int8
from scipy import stats

import vqwave
from vqwave import config as configs
from vqwave.config import GeneratorConfig, Sampling
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.nn import generator as reference_models
from vqwave.onnx import export, loops
from vqwave.play import engine, sampling

LEVELS = configs.preset("tiny").chain.sizes
SETTINGS = [Sampling(), Sampling(temperature=0.7, top_k=5), Sampling(top_p=0.6),
            Sampling(temperature=1.3, top_k=20, top_p=0.8)]
BOOKS, TOGETHER = "generator_books", "generator_books_together"
BOOKS_TOP = "generator_books_top"
"""Generators of three books a frame: two read two books of the level above, of which one draws its
own together, and one begins a chain; the codes of the latter two repeat."""


def with_books(preset):
    """The configs of `BOOKS` and `BOOKS_TOP`, as large as a preset's generators."""
    reads, begins = preset.generator(128), preset.generator(512)
    source = configs.to_dict(reads.source) | {"books": 2}
    together = configs.replace(reads.core, repeats=True, drawing="together")
    return (configs.replace(reads, name=BOOKS, books=3, conditions=[source]),
            configs.replace(reads, name=TOGETHER, books=3, conditions=[source], core=together),
            configs.replace(begins, name=BOOKS_TOP, books=3,
                            core=configs.replace(begins.core, repeats=True)))


@pytest.fixture(scope="module")
def lively(tmp_path_factory):
    """Tiny generators whose weights are large enough that each code depends clearly on what came
    before it."""
    return random_generators(tmp_path_factory.mktemp("lively"), "tiny", spread=2.0)


def random_generators(folder, size, spread):
    keras.utils.set_random_seed(1)
    preset = configs.preset(size)
    for level in LEVELS:
        save_generator(folder, preset.generator(level), spread)
    for config in with_books(preset):
        # Their first layer reads more: as large, it would be chaotic, and tell no rounding from a
        # mistake.
        save_generator(folder, config, 0.7 * spread)
    return folder


@pytest.fixture(scope="module")
def load(lively):
    """Each engine of each generator, by level or name, made once."""
    engines = {}

    def load(which, name):
        if (which, name) not in engines:
            generator = which if isinstance(which, str) else f"generator_{which}"
            engines[which, name] = engine.load_generator(weights.find(lively, generator), name)
        return engines[which, name]

    with exact_int8():
        yield load


def random_source(config, count, batch=1, seed=0):
    """Frames of the level above that `count` of them, and a halo to either side, are read from;
    tokens among them."""
    source = config.source
    shape = (batch, count + 2 * config.halo, source.books)
    return np.random.default_rng(seed).integers(0, source.num_codes + 1, shape).astype(np.int32)


def arguments(generator, steps, batch=1, seed=0):
    """(context, uniforms, previous, state) of a piece's first steps."""
    config = generator.config
    context = None
    if config.source:
        source = random_source(config, -(-steps // config.ratio), batch, seed)
        context = generator.context({"source": source})[:, :steps]
    uniforms = np.stack([
        np.stack([sampling.uniforms(seed, b, config.level, 0, steps, book)
                  for book in range(config.books)], axis=-1)
        for b in range(batch)])
    previous = np.full((batch, config.books), config.start_token, np.int32)
    return context, uniforms, previous, generator.initial_state(batch)


def played_as(found, given, expected, played):
    """What `played.sample` gives where its codes are `expected`, ties aside.

    A boundary between codes may lie so near to u that rounding decides, which over thousands of
    steps adds up in the cells. Such a code is checked to be one, given the reference's codes before
    it, and the rest goes on from there.
    """
    context, uniforms, previous, _ = given
    order, start, reached = np.arange(expected[0].size).reshape(expected.shape), 0, None
    for _ in range(10):
        result = played.sample(*given, forced=np.where(order < start, expected, -1))
        differ = np.flatnonzero(result[0] != expected)
        if not len(differ):
            return result
        if reached is None:
            before = np.concatenate([previous[:, None], expected[:, :-1]], axis=1)
            core = reference_models.load_generator(found).core
            logits = np.asarray(core(before, context, expected), np.float64)[0]
            reached = np.cumsum(np.exp(logits - logits.max(-1, keepdims=True)), -1)
        step, book = np.divmod(differ[0], expected.shape[2])
        ours, theirs = result[0][0, step, book], expected[0, step, book]
        assert abs(ours - theirs) == 1
        sums = reached[step, book]
        assert abs(sums[min(ours, theirs)] / sums[-1] - uniforms[0, step, book]) < 1e-5
        start = differ[0] + 1
    raise AssertionError("ten ties are no ties")


@pytest.mark.parametrize("which", [*LEVELS, BOOKS, TOGETHER, BOOKS_TOP])
def test_float32_codes_are_the_references_step_by_step(lively, load, which):
    reference, played = load(which, "keras"), load(which, "onnx-float32")
    given = arguments(reference, 5000)
    expected, log_probs, state = reference.sample(*given)
    assert expected.shape == log_probs.shape == given[1].shape
    codes, again, after = played_as(weights.find(lively, reference.config.name), given, expected,
                                    played)
    # Rounding adds up in the cells over so many steps.
    np.testing.assert_allclose(again, log_probs, atol=2e-3)
    for a, b in zip(after, state, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    for book in range(codes.shape[2]):
        assert len(np.unique(codes[..., book])) > 20


@pytest.mark.parametrize("which", [128, BOOKS, TOGETHER, BOOKS_TOP])
def test_teacher_forced_logits_are_those_of_step_after_step(lively, load, rng, which):
    config, steps = load(which, "keras").config, 24
    model = reference_models.load_generator(weights.find(lively, config.name))
    codes = rng.integers(0, config.num_codes, (2, steps, config.books)).astype(np.int32)
    previous = np.concatenate([np.full((2, 1, config.books), config.start_token, np.int32),
                               codes[:, :-1]], axis=1)
    given, context = {"previous": previous, "current": codes}, None
    if config.source:
        given["source"] = random_source(config, steps // config.ratio, 2)
        context = np.asarray(model.context(given))
    whole = np.asarray(model(given))
    assert whole.shape == (2, steps, config.books, config.num_codes)
    state, seen = model.initial_state(2), []
    for t in range(steps):
        logits = {}

        def draw(book, scaled, t=t, logits=logits):
            assert book == len(logits)
            logits[book] = np.asarray(scaled)
            return codes[:, t, book]

        made, state = model.core.step(previous[:, t], None if context is None else context[:, t],
                                      state, draw)
        np.testing.assert_array_equal(made, codes[:, t])
        seen.append(np.stack(list(logits.values()), axis=1))
    np.testing.assert_allclose(np.stack(seen, axis=1), whole, atol=1e-4)
    # Drawn in order, a book knows those before it in its frame, and none after it.
    other = given | {"current": np.concatenate([codes[..., :1],
                                                (codes[..., 1:] + 1) % config.num_codes], axis=-1)}
    changed = np.abs(np.asarray(model(other)) - whole).max((0, 1, 3))
    knowing = 2 if config.core.drawing == "in_order" else config.books
    assert (changed[:knowing] < 1e-6).all() and (changed[knowing:] > 1e-3).all()


@pytest.mark.large
@pytest.mark.parametrize("name", [*(f"generator_{level}" for level in LEVELS), BOOKS, TOGETHER])
def test_float32_codes_are_the_references_at_full_size(tmp_path, name):
    found = weights.find(random_generators(tmp_path, "compact", spread=1.5), name)
    reference, played = (engine.load_generator(found, kind) for kind in ("keras", "onnx-float32"))
    given = arguments(reference, 5000)
    played_as(found, given, reference.sample(*given)[0], played)


@pytest.mark.parametrize("which", [128, BOOKS])
@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_do_the_same_in_every_engine(load, which, settings):
    reference = load(which, "keras")
    given = arguments(reference, 400, batch=3)
    expected, log_probs, _ = reference.sample(*given, settings)
    codes, again, _ = load(which, "onnx-float32").sample(*given, settings)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_allclose(again, log_probs, atol=1e-4)
    # int8 leaves the reference once a code differs, so it scores the reference's codes.
    tempered = Sampling(temperature=settings.temperature)
    _, exact, _ = reference.sample(*given, tempered, forced=expected)
    _, near, _ = load(which, "onnx").sample(*given, tempered, forced=expected)
    assert abs(near - exact).mean() < 0.1


@pytest.mark.parametrize("which", [128, BOOKS_TOP])
def test_a_generator_s_own_sampling_holds_where_none_is_given(lively, load, tmp_path, which):
    config = load(which, "onnx-float32").config
    own = Sampling(temperature=0.6, top_k=9, top_p=0.9)
    found = weights.find(lively, config.name)
    parts = {part: found.load(part) for part in found.files}
    weights.save(tmp_path, config.name, "", parts, configs.replace(config, sampling=own))
    played = engine.load_generator(weights.find(tmp_path, config.name), "onnx-float32")
    given = arguments(played, 200)
    codes, log_probs, _ = played.sample(*given)
    expected, scored, _ = load(which, "onnx-float32").sample(*given, own)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(log_probs, scored)
    assert not np.array_equal(played.sample(*given, Sampling())[0], codes)


@pytest.mark.parametrize("which", [32, BOOKS, TOGETHER, BOOKS_TOP])
@pytest.mark.parametrize("name", engine.ENGINES)
def test_forced_codes_are_scored_as_teacher_forcing_scores_them(load, lively, which, name):
    played = load(which, name)
    score_forced(played, weights.find(lively, played.config.name), name)


def score_forced(played, found, name):
    config = played.config
    rng = np.random.default_rng(3)
    codes = rng.integers(0, config.num_codes, (2, 120, config.books)).astype(np.int32)
    previous = np.concatenate([np.full((2, 1, config.books), config.start_token), codes[:, :-1]],
                              axis=1)
    given, context = {"previous": previous.astype(np.int32), "current": codes}, None
    if config.source:
        given["source"] = random_source(config, 120 // config.ratio, 2, seed=3)
        context = played.context({"source": given["source"]})
    logits = np.asarray(reference_models.load_generator(found)(given)) / 0.9
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.take_along_axis(expected, codes[..., None], -1)[..., 0]
    drawn, log_probs, _ = played.sample(context, np.zeros(codes.shape), previous[:, 0],
                                        played.initial_state(2), Sampling(temperature=0.9),
                                        forced=codes)
    np.testing.assert_array_equal(drawn, codes)
    most, mean = (0.6, 0.06) if name == "onnx" else (1e-4, 1e-5)
    np.testing.assert_allclose(log_probs, expected, atol=most)
    assert abs(log_probs - expected).mean() < mean


@pytest.mark.parametrize("which", [512, BOOKS_TOP])
@pytest.mark.parametrize("name", engine.ENGINES)
def test_a_prompt_is_kept_and_continued(load, which, name):
    played = load(which, name)
    given = arguments(played, 60)
    free, _, _ = played.sample(*given)
    early = np.arange(60)[:, None] < 20
    prompt = np.where(early, free, -1).astype(np.int32)
    np.testing.assert_array_equal(played.sample(*given, forced=prompt)[0], free)
    other = np.where(prompt >= 0, 5, -1).astype(np.int32)
    continued = played.sample(*given, forced=other)[0]
    assert (continued[:, :20] == 5).all() and (continued[:, 20:] != free[:, 20:]).any()


@pytest.mark.parametrize("name", engine.ENGINES)
def test_one_book_of_a_frame_can_be_given_and_the_others_drawn(load, name):
    """What is drawn before it stays; what is drawn after it knows it."""
    played = load(BOOKS, name)
    given = arguments(played, 1, batch=40)
    free, scored, _ = played.sample(*given)
    forced = np.full(free.shape, -1, np.int32)
    forced[..., 1] = (free[..., 1] + 17) % played.config.num_codes
    codes, log_probs, _ = played.sample(*given, forced=forced)
    np.testing.assert_array_equal(codes[..., 0], free[..., 0])
    np.testing.assert_array_equal(codes[..., 1], forced[..., 1])
    assert (codes[..., 2] != free[..., 2]).any()
    # Its score in 8 bits depends on the range that a batch's activations have, which it has no part
    # in yet.
    np.testing.assert_allclose(log_probs[..., 0], scored[..., 0], atol=1e-6)


@pytest.mark.parametrize("which", [128, BOOKS, TOGETHER])
@pytest.mark.parametrize("name", engine.ENGINES)
@pytest.mark.parametrize("settings", SETTINGS[:2])
def test_chunks_make_what_one_call_makes_bit_for_bit(load, which, name, settings):
    played = load(which, name)
    context, uniforms, previous, state = arguments(played, 96, batch=2)
    whole, scored, last = played.sample(context, uniforms, previous, state, settings)
    codes, log_probs, begin = [], [], 0
    for stop in (1, 2, 5, 33, 96):
        part = slice(begin, stop)
        made, chosen, state = played.sample(context[:, part], uniforms[:, part], previous, state,
                                            settings)
        codes.append(made)
        log_probs.append(chosen)
        previous, begin = made[:, -1], stop
    np.testing.assert_array_equal(np.concatenate(codes, axis=1), whole)
    np.testing.assert_array_equal(np.concatenate(log_probs, axis=1), scored)
    for a, b in zip(state, last, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("which", [32, BOOKS, TOGETHER])
@pytest.mark.parametrize("name", ["onnx", "onnx-float32"])
@pytest.mark.parametrize("batch, loop", [(2, "loop"), (loops.MANY_STREAMS, "loop_many"),
                                         (2 * loops.MANY_STREAMS + 1, "loop_many")])
def test_the_loops_of_codes_alone_make_what_the_full_one_makes(load, which, name, batch, loop):
    played = load(which, name)
    given = arguments(played, 500, batch)
    codes, log_probs, state = played.sample(*given, Sampling(temperature=0.8), log_probs=False)
    assert f"{loop}_{played.precision}" in played._graphs.sessions
    full, _, after = played.sample(*given, Sampling(temperature=0.8))
    assert log_probs is None
    np.testing.assert_array_equal(codes, full)
    for a, b in zip(state, after, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("which", [128, BOOKS])
def test_in_float32_a_row_of_a_batch_is_the_row_alone(load, which):
    played = load(which, "onnx-float32")
    context, uniforms, previous, state = arguments(played, 200, batch=3)
    together, _, _ = played.sample(context, uniforms, previous, state)
    for i in range(3):
        row = slice(i, i + 1)
        alone, _, _ = played.sample(context[row], uniforms[row], previous[row],
                                    played.initial_state(1))
        np.testing.assert_array_equal(alone, together[row])


@pytest.mark.parametrize("which", [512, BOOKS_TOP])
@pytest.mark.parametrize("name", engine.ENGINES)
def test_greedy_is_the_likeliest_code_at_every_step(load, which, name):
    played = load(which, name)
    given = arguments(played, 100, batch=2)
    greedy = Sampling(temperature=0)
    codes, log_probs, _ = played.sample(*given, greedy)
    assert (log_probs == 0).all()
    np.testing.assert_array_equal(played.sample(*given, Sampling(top_k=1))[0], codes)
    np.testing.assert_array_equal(played.sample(*given, greedy, log_probs=False)[0], codes)
    # No code in a code's place would have been likelier.
    _, chosen, _ = played.sample(*given, forced=codes)
    for book in range(codes.shape[2]):
        for other in range(0, played.config.num_codes, 7):
            for step in (0, 1, 50, 99):
                at, instead = np.s_[:, step, book], codes.copy()
                instead[at] = other
                assert (played.sample(*given, forced=instead)[1][at] <= chosen[at] + 1e-6).all()


LOGITS = np.array([0.5, 2.0, -1.0, 1.0, 1.0, 0.0, -3.0, 1.5, 0.2, 2.0, -0.5, -8.0], np.float32)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Generators of one and of three books whose every code has the same distribution, whatever
    came before.

    The set by its books; the logits of book k are `LOGITS`, turned by k.
    """
    made = {}
    for books in (1, 3):
        config = GeneratorConfig(name="generator_512", level=512, num_codes=12, books=books,
                                 core={"kind": "lstm", "embedding_dim": 2, "units": 4,
                                       "head_dim": 5})
        shapes = {"embedding/embeddings": (13 * books, 2), "logits/kernel": (4, 12)}
        for i, given in enumerate((2 * books, 4)):
            shapes |= {f"lstm_{i}/lstm_cell/kernel": (given, 16),
                       f"lstm_{i}/lstm_cell/recurrent_kernel": (4, 16),
                       f"lstm_{i}/lstm_cell/bias": (16,)}
        for k in range(1, books):
            shapes |= {f"state_{k}/kernel": (4, 5), f"state_{k}/bias": (5,),
                       f"before_{k}/embeddings": (12, 5),
                       f"logits_{k}/kernel": (5, 12)}
        arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        arrays |= {"logits/bias": LOGITS}
        arrays |= {f"logits_{k}/bias": np.roll(LOGITS, k) for k in range(1, books)}
        folder = tmp_path_factory.mktemp("known")
        weights.save(folder, config.name, "", {"generator": arrays}, config)
        made[books] = weights.find(folder, config.name)
    return made


CLOSED = [Sampling(), Sampling(temperature=1.4, top_k=7, top_p=0.9), Sampling(temperature=0)]


@pytest.mark.parametrize("name", engine.ENGINES)
@pytest.mark.parametrize("books, settings", [
    *((1, one) for one in CLOSED), *((3, one) for one in CLOSED), (1, Sampling(temperature=0.6)),
    (1, Sampling(temperature=1.7)), (1, Sampling(top_k=4)), (1, Sampling(top_k=1)),
    (1, Sampling(top_p=0.75)),
    (1, Sampling(top_p=0.05)),
])
def test_a_hundred_thousand_draws_follow_the_closed_form(known, name, books, settings):
    played = engine.load_generator(known[books], name)
    codes, log_probs, _ = played.sample(*arguments(played, 1000, batch=100, seed=8), settings)
    for book in range(books):
        logits = np.roll(LOGITS, book)
        # By hand, from the definition: scale, rank (the lower code first), keep k, keep until p is
        # reached.
        temperature = settings.temperature
        ranked = sorted(range(12), key=lambda i: -logits[i])  # noqa: B023
        kept = ranked[: 1 if temperature == 0 else settings.top_k or 12]
        share = np.exp(logits[kept].astype(float) / (temperature or 1))
        reached = np.cumsum(share / share.sum())
        count = int(np.sum(reached < settings.top_p - 1e-6)) + 1
        expected = np.zeros(12)
        expected[kept[:count]] = share[:count] / share[:count].sum()
        counts = np.bincount(codes[..., book].ravel(), minlength=12)
        there = expected > 0
        assert counts[~there].sum() == 0
        if there.sum() > 1:
            assert stats.chisquare(counts[there], 100_000 * expected[there]).pvalue > 1e-3
        scores = np.log(np.maximum(expected, 1e-30))[codes[..., book]]
        np.testing.assert_allclose(log_probs[..., book], scores, atol=1e-4)
    if books > 1 and settings.temperature:
        pairs = np.corrcoef(codes.reshape(-1, books).T) - np.eye(books)
        assert np.abs(pairs).max() < 0.02  # each book draws for itself


@pytest.mark.parametrize("name", ["onnx", "keras"])
@pytest.mark.parametrize("which", [8, BOOKS, TOGETHER])
def test_contexts_of_windows_are_those_of_the_whole(load, which, name):
    played = load(which, name)
    config = played.config
    source = random_source(config, 40, 2)
    whole = played.context({"source": source})
    assert whole.shape == (2, 40 * config.ratio, config.context_channels)
    assert whole.dtype == np.float32
    part = played.context({"source": source[:, 10 : 25 + 2 * config.halo]})
    np.testing.assert_allclose(part, whole[:, 10 * config.ratio : 25 * config.ratio], atol=1e-5)
    np.testing.assert_allclose(load(which, "keras").context({"source": source}), whole, atol=1e-5)
    with pytest.raises(UserError, match="reads 'source', which is not given"):
        played.context({})


@pytest.mark.parametrize("level", LEVELS)
def test_codecs_are_the_same_in_every_engine(tiny_weights, rng, level):
    found = weights.find(tiny_weights.codecs, f"vqvae_{level}")
    played, reference = (engine.load_codec(found, name) for name in ("onnx", "keras"))
    audio = rng.normal(0, 0.1, (2, 5001)).astype(np.float32)
    codes = played.encode(audio)
    assert codes.shape == (2, -(-5001 // level), 1) and codes.dtype == np.int32
    # A latent between two codes may fall to either, by the last bit.
    assert (codes == reference.encode(audio)).mean() > 0.99
    made = played.decode(codes)
    assert made.shape == (2, codes.shape[1] * level) and made.dtype == np.float32
    np.testing.assert_allclose(made, reference.decode(codes), atol=1e-5)
    assert (played.encode_halo, played.decode_halo) == (reference.encode_halo,
                                                        reference.decode_halo)


QUANTIZERS = {
    "residual": {"kind": "residual", "books": 3, "num_codes": 64, "code_dim": 8},
    "som": {"kind": "som", "num_codes": 64, "code_dim": 8},
}


@pytest.fixture(scope="module")
def other_codecs(tmp_path_factory):
    """Tiny codecs of 128x with each quantizer but the usual one, in one folder."""
    folder = tmp_path_factory.mktemp("codecs")
    keras.utils.set_random_seed(2)
    for kind, quantizer in QUANTIZERS.items():
        tiny = configs.preset("tiny").codec(128)
        save_codec(folder, configs.replace(tiny, name=f"vqvae_{kind}", quantizer=quantizer))
    return folder


def test_rows_decoded_apart_are_the_rows_decoded_together(tiny_weights, other_codecs, rng):
    """Bit for bit: a stream of several pieces decodes a few of them at a time."""
    for folder, name in [*((tiny_weights.codecs, f"vqvae_{level}") for level in LEVELS),
                         (other_codecs, "vqvae_residual")]:
        played = engine.load_codec(weights.find(folder, name))
        codes = played.encode(rng.normal(0, 0.1, (7, 8192)).astype(np.float32))
        together = played.decode_window(codes, 3)
        for rows in (1, played.rows, 3):
            apart = [played.decode_window(codes[i : i + rows], 3) for i in range(0, 7, rows)]
            np.testing.assert_array_equal(np.concatenate(apart), together)


@pytest.mark.parametrize("first, count", [(0, 1), (0, 9), (30, 2), (63, 1), (60, 9), (0, 64)])
def test_a_part_of_a_window_is_what_the_whole_has_there(tiny_weights, other_codecs, rng, first,
                                                        count):
    """At the edges of what the decoder is given too: there, zeros stand around it."""
    for folder, name in [*((tiny_weights.codecs, f"vqvae_{level}") for level in LEVELS),
                         (other_codecs, "vqvae_residual")]:
        played = engine.load_codec(weights.find(folder, name))
        level, books = played.config.level, played.config.books
        codes = rng.integers(0, played.config.num_codes, (2, 64, books)).astype(np.int32)
        assert played.config.can_decode_part
        part = played.decode_part(codes, 5, first, count)
        whole = played.decode_window(codes, 5)[:, first * level : (first + count) * level]
        assert part.shape == whole.shape == (2, min(count, 64 - first) * level)
        np.testing.assert_allclose(part, whole, atol=1e-6)


@pytest.mark.parametrize("kind, books", [("residual", 3), ("som", 1)])
def test_codecs_of_every_quantizer_are_the_same_in_every_engine(other_codecs, rng, kind, books):
    found = weights.find(other_codecs, f"vqvae_{kind}")
    played, reference = (engine.load_codec(found, name) for name in ("onnx", "keras"))
    audio = rng.normal(0, 0.1, (2, 40_001)).astype(np.float32)
    codes = played.encode(audio)
    assert codes.shape == (2, -(-40_001 // 128), books) and codes.dtype == np.int32
    # Where a latent between two codes falls to the other, the books after it quantize another
    # remainder.
    assert (codes == reference.encode(audio)).all(-1).mean() > 0.97
    for book in range(books):
        assert len(np.unique(codes[..., book])) > 20
    for n in range(1, books + 1):
        np.testing.assert_allclose(played.decode(codes[..., :n]), reference.decode(codes[..., :n]),
                                   atol=1e-5)
    # In windows as in one run, with tones and noise where they belong.
    step, halo = 40, played.decode_halo
    whole = played.decode_window(codes)
    for start in range(0, codes.shape[1], step):
        left = max(0, start - halo)
        part = played.decode_window(codes[:, left : start + step + halo],
                                    left)[:, (start - left) * 128 :]
        expected = whole[:, start * 128 : (start + step) * 128]
        np.testing.assert_allclose(part[:, : expected.shape[1]], expected, atol=1e-5)


def test_each_book_of_a_residual_codec_adds_to_the_ones_before_it(other_codecs, rng):
    played = engine.load_codec(weights.find(other_codecs, "vqvae_residual"))
    codes = played.encode(rng.normal(0, 0.1, (1, 20_000)).astype(np.float32))
    full, fewer = played.decode(codes), [played.decode(codes[..., :n]) for n in (1, 2)]
    for made in fewer:
        assert made.shape == full.shape and np.abs(made - full).max() > 1e-3
    other = codes.copy()
    other[..., 2] = (other[..., 2] + 1) % 64
    assert np.abs(played.decode(other) - full).max() > 1e-4
    np.testing.assert_array_equal(played.decode(other[..., :2]), fewer[1])


WARM = """
import sys
import numpy as np
from vqwave.io import weights
from vqwave.config import Sampling
from vqwave.play import engine
name, codecs, generators = sys.argv[1:]
codec = engine.load_codec(weights.find(codecs, "vqvae_32"), name)
codec.decode(codec.encode(np.zeros((1, 4096), np.float32)))
played = engine.load_generator(weights.find(generators, "generator_128"), name)
config = played.config
context = played.context({"source": np.zeros((1, 4 + 2 * config.halo, 1), np.int32)})
for settings in ({}, {"sampling": Sampling(top_k=3)}, {"log_probs": False}):
    start, state = np.array([[config.start_token]]), played.initial_state(1)
    played.sample(context, np.zeros((1, 16, 1)), start, state, **settings)
heavy = {"tensorflow", "keras", "onnx", "tf2onnx", "jax", "librosa", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("name", ["onnx", "onnx-float32"])
def test_a_warm_start_loads_no_tensorflow(tiny_weights, name):
    for one in weights.find(tiny_weights.codecs, "vqvae_32"), weights.find(tiny_weights.generators,
                                                                           "generator_128"):
        for kind in export.kinds(one, name):
            export.cached_graph(one, kind)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", WARM, name, tiny_weights.codecs,
         tiny_weights.generators],
        capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(Path(vqwave.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_playing_tells_nobody(tiny_weights, tmp_path):
    """ONNX Runtime would leave a device's number and what it means to send in the user's home."""
    program = "import sys, numpy as np\nfrom vqwave.io import weights\nfrom vqwave.play import engine\n"
    program += "codec = engine.load_codec(weights.find(sys.argv[1], 'vqvae_8'))\n"
    program += "codec.decode(np.zeros((1, 8, 1), np.int32))"
    export.cached_graph(weights.find(tiny_weights.codecs, "vqvae_8"), "decode")
    kept = {key: value for key, value in os.environ.items()
            if key not in ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")}
    kept |= {"HOME": str(tmp_path), "VQWAVE_CACHE": str(export.cache_folder()),
             "PYTHONPATH": str(Path(vqwave.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program, tiny_weights.codecs], env=kept,
                   check=True)  # noqa: S603
    assert list(tmp_path.iterdir()) == []


def test_a_chain_that_does_not_fit_together_prints_both_sides(load):
    class Model:
        def __init__(self, config):
            self.config = config

    chain = [Model(load(level, "onnx").config) for level in LEVELS]
    codec = Model(configs.preset("tiny").codec("vqvae_8"))
    engine.check_chain(codec, chain)
    books, top = (Model(load(name, "onnx").config) for name in (BOOKS, BOOKS_TOP))
    fewer = Model(configs.replace(top.config, books=2))
    residual = Model(configs.replace(configs.preset("tiny").codec(128),
                                     quantizer=QUANTIZERS["residual"]))
    engine.check_chain(residual, [fewer, books])
    for last, bad, message in (
        (codec, [], "at least one"),
        (codec, chain[1:], "generator_128 reads level 512, but the chain begins with it"),
        (codec, [chain[0], chain[2]], "generator_32 reads level 128, but generator_512 makes 512"),
        (codec, chain[:3],
         "vqvae_8 decodes 64 codes of level 8, but generator_32 makes 64 codes of level 32"),
        (codec, [Model(configs.replace(chain[0].config, num_codes=99)), *chain[1:]],
         "generator_128 reads 64 codes, but generator_512 makes 99 codes"),
        (residual, [top, books],
         f"{BOOKS} reads 2 books of 64 codes, but {BOOKS_TOP} makes 3 books of 64 codes"),
        (residual, chain[:2],
         "vqvae_128 decodes 3 books of 64 codes of level 128, but generator_128 makes 64 codes"),
    ):
        with pytest.raises(UserError, match=message):
            engine.check_chain(last, bad)


def test_what_cannot_be_is_refused(load, lively):
    with pytest.raises(UserError,
                       match="no engine is called 'onx'; there are onnx, onnx-float32, keras"):
        engine.load_generator(weights.find(lively, "generator_512"), "onx")
    played = load(512, "onnx")
    with pytest.raises(ValueError, match="forced holds 64; codes are less than 64"):
        played.sample(*arguments(played, 4), forced=np.full((1, 4, 1), 64))


@pytest.mark.parametrize("engine", ["onnx-float32", "keras"])
def test_a_bias_on_the_logits_decides_where_it_is_strong(load, lively, engine):
    played = load(128, engine)
    given = arguments(played, 12)
    shape = played.config.books, played.config.num_codes
    wanted = np.arange(shape[0]) + 5
    bias = np.zeros(shape, np.float32)
    bias[np.arange(shape[0]), wanted] = 60.0
    codes, log_probs, _ = played.sample(*given, bias=bias)
    assert (codes == wanted).all() and (log_probs > -1e-3).all()
    free = played.sample(*given)[0]
    np.testing.assert_array_equal(played.sample(*given, bias=np.zeros(shape))[0], free)
    with pytest.raises(ValueError, match="bias is"):
        played.sample(*given, bias=np.zeros((9, 9)))


# ------------------------------------------------------------------------------- codecs in blocks


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A residual codec that is causal, with random weights."""
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("causal")
    save_codec(folder, configs.replace(
        configs.preset("tiny").codec(32), padding="causal",
        quantizer={"kind": "residual", "books": 3, "num_codes": 16, "code_dim": 8}))
    return weights.find(folder, "vqvae_32")


@pytest.mark.parametrize("name", ["onnx", "keras"])
def test_a_causal_codec_makes_of_blocks_what_it_makes_of_the_whole(causal, name, rng):
    codec = engine.load_codec(causal, name)
    sound = rng.normal(0, 0.1, (2, 32 * 50 + 7)).astype("float32")
    blocks, codes, audio = codec.in_blocks(2), [], []
    for begin, end in ((0, 5), (5, 40), (40, 1000), (1000, 1607)):
        codes.append(blocks.encode(sound[:, begin:end]))
    whole = codec.encode(sound[:, : 32 * 50])
    np.testing.assert_array_equal(np.concatenate(codes, axis=1), whole)
    assert [part.shape[1] for part in codes] == [0, 1, 30, 19] and blocks.held.shape == (2, 7)
    for begin, end in ((0, 1), (1, 2), (2, 20)):
        audio.append(blocks.decode(whole[:, begin:end]))
    again = codec.in_blocks(2)
    again.held, again.encoding, again.decoding = (x.copy() for x in (blocks.held, blocks.encoding,
                                                                     blocks.decoding))
    audio.append(blocks.decode(whole[:, 20:]))
    np.testing.assert_array_equal(again.decode(whole[:, 20:]), audio[-1])
    np.testing.assert_allclose(np.concatenate(audio, axis=1), codec.decode(whole), atol=1e-5)
    assert codec.latency == 32 / codec.config.sample_rate
    # Fewer books, as a residual codec allows.
    fewer = codec.in_blocks(2)
    np.testing.assert_allclose(fewer.decode(whole[..., :1]), codec.decode(whole[..., :1]),
                               atol=1e-5)


def test_a_codec_of_spectrograms_is_the_same_in_every_engine(tmp_path, rng):
    save_codec(tmp_path, configs.replace(
        configs.preset("tiny").codec(32), front_end={"kind": "spectrogram", "hop": 8, "n_fft": 64,
                                                     "mels": 12},
        head={"kind": "spectrogram", "n_fft": 32}))
    made = {name: engine.load_codec(weights.find(tmp_path, "vqvae_32"), name)
            for name in ("onnx", "keras")}
    sound = rng.normal(0, 0.1, (1, 32 * 80)).astype("float32")
    codes = made["keras"].encode(sound)
    np.testing.assert_array_equal(made["onnx"].encode(sound), codes)
    np.testing.assert_allclose(made["onnx"].decode(codes), made["keras"].decode(codes), atol=1e-4)
    assert len(np.unique(codes)) > 8


def test_a_codec_that_sees_both_sides_does_not_go_block_by_block(tiny_weights):
    codec = engine.load_codec(weights.find(tiny_weights.codecs, "vqvae_32"), "keras")
    with pytest.raises(UserError, match="vqvae_32 has a padding of same .* padding is causal"):
        codec.in_blocks()
