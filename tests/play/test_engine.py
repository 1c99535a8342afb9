"""The engines against each other, against closed forms, and what a warm start loads."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import reference
from chains import distribution, save_codec, save_generator
from scipy import stats

import vqwave
from vqwave.errors import UserError
from vqwave.export import export
from vqwave.generators import GeneratorConfig, Sampling
from vqwave.io import weights
from vqwave.io.files import cache_folder
from vqwave.levels import replace, to_dict
from vqwave.play import engine, sampling
from vqwave.presets import load_preset

LEVELS = load_preset("tiny").chain.sizes
BOOKS, BOOKS_TOP = "generator_books", "generator_books_top"


def with_books(preset):
    """Configs of three books a frame: one reads two books of the level above, one begins a chain."""
    reads, begins = preset.generator(128), preset.generator(512)
    source = to_dict(reads.source) | {"books": 2}
    return (replace(reads, name=BOOKS, books=3, conditions=[source]),
            replace(begins, name=BOOKS_TOP, books=3))


def arguments(generator, steps, batch=1, seed=0):
    """(context, uniforms, previous, state) of a piece's first steps; of a generator without conditions."""
    config = generator.config
    uniforms = [[sampling.uniforms(seed, b, config.level, 0, steps, book) for book in range(config.books)]
                for b in range(batch)]
    previous = np.full((batch, config.books), config.start_token, np.int32)
    return None, np.swapaxes(uniforms, 1, 2), previous, generator.initial_state(batch)


LOGITS = np.array([0.5, 2.0, -1.0, 1.0, 1.0, 0.0, -3.0, 1.5, 0.2, 2.0, -0.5, -8.0], np.float32)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Weight sets by their books, 1 or 3: the logits of book k are always `LOGITS`, turned by k."""
    sets = {}
    for books in (1, 3):
        folder = tmp_path_factory.mktemp("known")
        config = GeneratorConfig(name="generator_512", level=512, num_codes=12, books=books,
                                 core={"kind": "lstm", "embedding_dim": 2, "units": 4,
                                       "head_dim": 5})
        save_generator(folder, config, 1.0)
        arrays = weights.find(folder, config.name).load("generator")
        arrays = {name: np.zeros_like(array) for name, array in arrays.items()}
        for book in range(books):
            arrays[f"logits_{book}/bias" if book else "logits/bias"] = np.roll(LOGITS, book)
        weights.save(folder, config.name, "", {"generator": arrays}, config)
        sets[books] = weights.find(folder, config.name)
    return sets


@pytest.mark.parametrize("name", [*engine.ENGINES, "keras"])
@pytest.mark.parametrize("books, settings", [
    *((books, settings) for books in (1, 3) for settings in (
        Sampling(), Sampling(temperature=1.4, top_k=7, top_p=0.9))),
    (1, Sampling(temperature=0)), (1, Sampling(top_p=0.05)),
])
def test_a_hundred_thousand_draws_follow_the_distribution(known, name, books, settings):
    played = reference.generator(known[books], name)
    codes, log_probs, _ = played.sample(*arguments(played, 1000, batch=100, seed=8), settings)
    for book in range(books):
        expected = distribution(np.roll(LOGITS, book), settings).astype(float)
        counts, kept = np.bincount(codes[..., book].ravel(), minlength=12), expected > 0
        assert counts[~kept].sum() == 0
        if kept.sum() > 1:
            shares = expected[kept] / expected[kept].sum()
            assert stats.chisquare(counts[kept], 100_000 * shares).pvalue > 1e-3
        scores = np.log(np.maximum(expected, 1e-30))[codes[..., book]]
        np.testing.assert_allclose(log_probs[..., book], scores, atol=1e-4)
    if books > 1 and settings.temperature:
        pairs = np.corrcoef(codes.reshape(-1, books).T) - np.eye(books)
        assert np.abs(pairs).max() < 0.02  # each book draws for itself


OTHER_CODECS = {
    "residual": {"quantizer": {"kind": "residual", "books": 3, "num_codes": 64, "code_dim": 8}},
    "som": {"quantizer": {"kind": "som", "num_codes": 64, "code_dim": 8}},
    "spectrogram": {"front_end": {"kind": "spectrogram", "hop": 8, "n_fft": 64, "mels": 12},
                    "head": {"kind": "spectrogram", "n_fft": 32}},
    "causal": {"padding": "causal", "quantizer": {"kind": "residual", "books": 3, "num_codes": 16,
                                                  "code_dim": 8}},
    "energy": {"bottleneck": {"kind": "energy", "heads": 2, "back": 4, "memories": 8}},
}
"""What differs from the tiny codec of 32x."""


@pytest.fixture(scope="module")
def codecs(tiny_weights, tmp_path_factory):
    """The weight sets of the tiny codecs by level, and of `OTHER_CODECS` by name."""
    folder = tmp_path_factory.mktemp("codecs")
    keras.utils.set_random_seed(2)
    for name, changes in OTHER_CODECS.items():
        save_codec(folder, replace(load_preset("tiny").codec(32),
                                   name=f"vqvae_{name}", **changes))
    return ({level: weights.find(tiny_weights.codecs, f"vqvae_{level}") for level in LEVELS}
            | {name: weights.find(folder, f"vqvae_{name}") for name in OTHER_CODECS})


@pytest.mark.parametrize("which", [*LEVELS, "residual", "som", "spectrogram"])
def test_codecs_are_the_same_in_every_engine(codecs, rng, which):
    played, trained = engine.CodecEngine(codecs[which]), reference.KerasCodec(codecs[which])
    level, books = played.config.level, played.config.books
    audio = rng.normal(0, 0.1, (2, 10_001)).astype(np.float32)
    codes = played.encode(audio)
    assert codes.shape == (2, -(-10_001 // level), books) and codes.dtype == np.int32
    # A latent between two codes may fall to either, by the last bit; the books after it then
    # quantize another remainder.
    assert (codes == trained.encode(audio)).all(-1).mean() > 0.97
    assert (played.encode_halo, played.decode_halo) == (trained.encode_halo, trained.decode_halo)
    sounds = [played.decode(codes[..., :n]) for n in range(1, books + 1)]
    for n, sound in enumerate(sounds, 1):
        assert sound.shape == (2, codes.shape[1] * level) and sound.dtype == np.float32
        np.testing.assert_allclose(sound, trained.decode(codes[..., :n]), atol=1e-4)
    # Each book of a residual codec adds to the ones before it.
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(sounds[:-1], sounds[1:], strict=True))


@pytest.mark.parametrize("which", [*LEVELS, "residual", "energy"])
def test_a_decoded_part_equals_that_part_of_the_piece(codecs, rng, which):
    played = engine.CodecEngine(codecs[which])
    level, config = played.config.level, played.config
    codes = rng.integers(0, config.num_codes, (2, 64, config.books)).astype(np.int32)
    # Its attention makes something of the zeros outside the piece.
    assert played.splits == (which != "energy")
    for first, count in ((0, 1), (0, 9), (30, 2), (63, 1), (60, 9), (0, 64)):
        part, _ = played.decode_part(codes, 0, first, count)
        whole = played.decode_window(codes)[:, first * level : (first + count) * level]
        assert part.shape == whole.shape == (2, min(count, 64 - first) * level)
        np.testing.assert_allclose(part, whole, atol=1e-6)


@pytest.mark.parametrize("which", [*LEVELS, "residual", "causal"])
@pytest.mark.parametrize("assumed", [0, 3])
def test_parts_that_follow_each_other_are_the_piece(codecs, rng, which, assumed):
    """Also where codes beyond those that are kept were assumed, and turn out otherwise."""
    played = engine.CodecEngine(codecs[which])
    halo, config = played.decode_halo, played.config
    codes = rng.integers(0, config.num_codes, (2, 150, config.books)).astype(np.int32)
    wrong, whole = codes[:, ::-1], played.decode_window(codes)
    memory, start, parts, step = None, 0, [], halo // 3
    for first in range(0, 150, step):
        stop = min(first + step + halo, 150)
        seen = np.concatenate([codes[:, start:stop], wrong[:, :assumed]], axis=1)
        if stop == 150:
            seen = codes[:, start:]
        part, memory = played.decode_part(seen, start, first, step, memory, stop - start)
        start = stop
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)


WARM = """
import sys
import numpy as np
from vqwave.io import weights
from vqwave.generators import Sampling
from vqwave.play import engine
name, codecs, generators = sys.argv[1:]
codec = engine.CodecEngine(weights.find(codecs, "vqvae_32"), name)
codec.decode(codec.encode(np.zeros((1, 4096), np.float32)))
played = engine.GeneratorEngine(weights.find(generators, "generator_128"), name)
config = played.config
context = played.context({"source": np.zeros((1, 4 + 2 * config.halo, 1), np.int32)})
for settings in ({}, {"sampling": Sampling(top_k=3)}, {"log_probs": False}):
    start, state = np.array([[config.start_token]]), played.initial_state(1)
    played.sample(context, np.zeros((1, 16, 1)), start, state, **settings)
heavy = {"tensorflow", "keras", "onnx", "tf2onnx", "jax", "librosa", "matplotlib", "scipy", "sklearn"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("name", ["onnx", "onnx-float32"])
def test_a_warm_start_loads_no_tensorflow_and_leaves_nothing_at_home(tiny_weights, tmp_path, name):
    """ONNX Runtime would leave a device's number and what it means to send in the user's home."""
    codec, generator = (weights.find(tiny_weights.codecs, "vqvae_32"),
                        weights.find(tiny_weights.generators, "generator_128"))
    for weight_set in codec, generator:
        for kind in export.kinds(weight_set, name):
            export.cached_graph(weight_set, kind)
    environment = {key: value for key, value in os.environ.items()
                   if key not in ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(tmp_path), "VQWAVE_CACHE": str(cache_folder()),
                    "PYTHONPATH": str(Path(vqwave.__file__).parents[1])}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", WARM, name, codec.folder, generator.folder],
        capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("[]\n", "") and list(tmp_path.iterdir()) == []


def test_a_chain_that_does_not_fit_together_prints_both_sides():
    def model(config):
        return SimpleNamespace(config=config)

    tiny = load_preset("tiny")
    chain = [model(tiny.generator(level)) for level in LEVELS]
    codec = model(tiny.codec("vqvae_8"))
    books, top = map(model, with_books(tiny))
    fewer = model(replace(top.config, books=2))
    residual = model(replace(tiny.codec(128), **OTHER_CODECS["residual"]))
    engine.check_chain(codec, chain)
    engine.check_chain(residual, [fewer, books])
    for last, bad, message in (
        (codec, [], "at least one"),
        (codec, chain[1:], "generator_128 reads level 512x, but no level stands above it in this chain"),
        (codec, [chain[0], chain[2]], "generator_32 reads 128x, but generator_512 makes 512x"),
        (codec, chain[:3],
         "vqvae_8 decodes 64 codes of 8x, but generator_32 makes 64 codes of 32x"),
        (codec, [model(replace(chain[0].config, num_codes=99)), *chain[1:]],
         "generator_128 reads 64 codes, but generator_512 makes 99 codes"),
        (residual, [top, books],
         f"{BOOKS} reads 2 books of 64 codes, but {BOOKS_TOP} makes 3 books of 64 codes"),
        (residual, chain[:2],
         "vqvae_128 decodes 3 books of 64 codes of 128x, but generator_128 makes 64 codes"),
    ):
        with pytest.raises(UserError, match=message):
            engine.check_chain(last, bad)


@pytest.mark.parametrize("name", ["onnx-float32", "keras"])
def test_a_strong_bias_on_the_logits_decides_the_code(known, name):
    played = reference.generator(known[1], name)
    given = arguments(played, 12)
    bias = np.zeros((1, played.config.num_codes), np.float32)
    free = played.sample(*given)[0]
    np.testing.assert_array_equal(played.sample(*given, bias=bias)[0], free)
    bias[0, 5] = 60.0
    codes, log_probs, _ = played.sample(*given, bias=bias)
    assert (codes == 5).all() and (log_probs > -1e-3).all()
