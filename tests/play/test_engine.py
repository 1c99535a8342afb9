"""The engines against each other, against closed forms, and what a warm start loads."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy import stats

import vqwave
from vqwave import config as configs
from vqwave import weights
from vqwave.config import LEVELS, GeneratorConfig
from vqwave.errors import UserError
from vqwave.nn.generator import Generator
from vqwave.play import engine, export, sampling

SETTINGS = [{}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.6}, {"temperature": 1.3, "top_k": 20, "top_p": 0.8}]


@pytest.fixture(scope="module")
def lively(tmp_path_factory):
    """Tiny generators whose weights are large enough that each code depends clearly on what came before it."""
    return random_generators(tmp_path_factory.mktemp("lively"), "tiny", spread=2.0)


def random_generators(folder, size, spread):
    keras.utils.set_random_seed(1)
    for level in LEVELS:
        config = configs.generator_preset(f"generator_{level}", size)
        model = Generator(config)
        for variables in model.parts.values():
            for v in variables:
                v.assign(v * spread)
        weights.save(folder, config.name, "", model.parts, config)
    return folder


KINDS = (*engine.ENGINES, "int4")


def load_generator(found, name):
    """An engine's generator; "int4" is `onnx` as it plays large ones."""
    made = engine.load_generator(found, "onnx" if name == "int4" else name)
    if name == "int4":
        made.numbers = ["int4"]
    return made


@pytest.fixture(scope="module")
def load(lively):
    """Each engine of each level, made once."""
    made = {}

    def load(level, name):
        if (level, name) not in made:
            made[level, name] = load_generator(weights.find(lively, f"generator_{level}"), name)
        return made[level, name]

    return load


def arguments(generator, steps, batch=1, seed=0):
    """(context, uniforms, previous, state) of a piece's first steps."""
    config = generator.config
    rng = np.random.default_rng(seed)
    context = None
    if config.source_level:
        source = rng.integers(0, config.source_codes + 1, (batch, -(-steps // config.ratio) + 2 * config.halo))
        context = generator.context(source.astype(np.int32))[:, :steps]
    uniforms = np.stack([sampling.uniforms(seed, b, config.level, 0, steps) for b in range(batch)])
    return context, uniforms, np.full(batch, config.start_token, np.int32), generator.initial_state(batch)


def played_as(found, given, expected, played):
    """What `played.sample` gives where its codes are `expected`, ties aside.

    A boundary between codes may lie so near to u that rounding decides, which over thousands of steps adds up in the
    cells. Such a step is checked to be one, given the reference's code, and the rest goes on from there.
    """
    context, uniforms, previous, _ = given
    before = [np.concatenate([previous[:, None], expected[:, :-1]], axis=1)] + ([] if context is None else [context])
    core = load_generator(found).core
    core.compile(jit_compile=False)
    logits = np.asarray(core.predict_on_batch(before), np.float64)[0]
    reached = np.cumsum(np.exp(logits - logits.max(-1, keepdims=True)), -1)
    steps, start = expected.shape[1], 0
    for _ in range(10):
        result = played.sample(*given, forced=np.where(np.arange(steps) < start, expected, -1))
        differ = np.flatnonzero(result[0] != expected)
        if not len(differ):
            return result
        step = differ[0]
        lower = min(result[0][0, step], expected[0, step])
        assert abs(result[0][0, step] - expected[0, step]) == 1
        assert abs(reached[step, lower] / reached[step, -1] - uniforms[0, step]) < 1e-5
        start = step + 1
    raise AssertionError("ten ties are no ties")


@pytest.mark.parametrize("level", LEVELS)
def test_float32_codes_are_the_references_step_by_step(lively, load, level):
    reference, played = load(level, "keras"), load(level, "onnx-float32")
    given = arguments(reference, 5000)
    expected, log_probs, state = reference.sample(*given)
    codes, again, after = played_as(weights.find(lively, f"generator_{level}"), given, expected, played)
    # Rounding adds up in the cells over so many steps.
    np.testing.assert_allclose(again, log_probs, atol=2e-3)
    for a, b in zip(after, state, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    assert len(np.unique(codes)) > 20


@pytest.mark.large
@pytest.mark.parametrize("level", LEVELS)
def test_float32_codes_are_the_references_at_full_size(tmp_path, level):
    found = weights.find(random_generators(tmp_path, "compact", spread=1.5), f"generator_{level}")
    reference, played = (engine.load_generator(found, name) for name in ("keras", "onnx-float32"))
    given = arguments(reference, 5000)
    played_as(found, given, reference.sample(*given)[0], played)


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_do_the_same_in_every_engine(load, settings):
    reference = load(128, "keras")
    given = arguments(reference, 400, batch=3)
    expected, log_probs, _ = reference.sample(*given, **settings)
    codes, again, _ = load(128, "onnx-float32").sample(*given, **settings)
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_allclose(again, log_probs, atol=1e-4)
    # int8 strays from the reference once a code differs, so it is held to its own account of the same codes.
    _, near, _ = load(128, "onnx").sample(*given, temperature=settings.get("temperature", 1.0), forced=expected)
    _, exact, _ = reference.sample(*given, temperature=settings.get("temperature", 1.0), forced=expected)
    assert abs(near - exact).mean() < 0.1


@pytest.mark.parametrize("name", KINDS)
def test_forced_codes_are_scored_as_teacher_forcing_scores_them(load, lively, name):
    played = load(32, name)
    config = played.config
    rng = np.random.default_rng(3)
    source = rng.integers(0, config.source_codes, (2, 30 + 2 * config.halo)).astype(np.int32)
    codes = rng.integers(0, config.num_codes, (2, 30 * config.ratio)).astype(np.int32)
    previous = np.concatenate([np.full((2, 1), config.start_token), codes[:, :-1]], axis=1)
    model = load_generator(weights.find(lively, config.name))
    logits = np.asarray(model({"previous": previous, "source": source})) / 0.9
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.take_along_axis(expected, codes[..., None], -1)[..., 0]
    made, log_probs, _ = played.sample(
        played.context(source), np.zeros(codes.shape), previous[:, 0], played.initial_state(2), temperature=0.9,
        forced=codes,
    )
    np.testing.assert_array_equal(made, codes)
    # Of rounding in 4 bits these weights, large as they are, make more with every step.
    steps, most, mean = {"onnx": (120, 0.3, 0.01), "int4": (20, 0.5, 0.05)}.get(name, (120, 1e-4, 1e-5))
    log_probs, expected = log_probs[:, :steps], expected[:, :steps]
    np.testing.assert_allclose(log_probs, expected, atol=most)
    assert abs(log_probs.mean() - expected.mean()) < mean


@pytest.mark.parametrize("name", KINDS)
def test_a_prompt_is_kept_and_continued(load, name):
    played = load(512, name)
    given = arguments(played, 60)
    free, _, _ = played.sample(*given)
    prompt = np.where(np.arange(60) < 20, free, -1).astype(np.int32)
    np.testing.assert_array_equal(played.sample(*given, forced=prompt)[0], free)
    other = np.where(prompt >= 0, 5, -1).astype(np.int32)
    continued = played.sample(*given, forced=other)[0]
    assert (continued[:, :20] == 5).all() and (continued[:, 20:] != free[:, 20:]).any()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("settings", SETTINGS[:2])
def test_chunks_make_what_one_call_makes_bit_for_bit(load, name, settings):
    played = load(128, name)
    context, uniforms, previous, state = arguments(played, 96, batch=2)
    whole, scored, last = played.sample(context, uniforms, previous, state, **settings)
    codes, log_probs, begin = [], [], 0
    for stop in (1, 2, 5, 33, 96):
        part = slice(begin, stop)
        made, chosen, state = played.sample(context[:, part], uniforms[:, part], previous, state, **settings)
        codes.append(made)
        log_probs.append(chosen)
        previous, begin = made[:, -1], stop
    np.testing.assert_array_equal(np.concatenate(codes, axis=1), whole)
    np.testing.assert_array_equal(np.concatenate(log_probs, axis=1), scored)
    for a, b in zip(state, last, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["onnx", "onnx-float32", "int4"])
def test_the_plain_loop_makes_what_the_full_one_makes(load, name):
    played = load(32, name)
    given = arguments(played, 500, batch=2)
    codes, log_probs, state = played.sample(*given, temperature=0.8, log_probs=False)
    full, _, after = played.sample(*given, temperature=0.8)
    assert log_probs is None
    np.testing.assert_array_equal(codes, full)
    for a, b in zip(state, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_in_float32_a_row_of_a_batch_is_the_row_alone(load):
    played = load(128, "onnx-float32")
    context, uniforms, previous, state = arguments(played, 200, batch=3)
    together, _, _ = played.sample(context, uniforms, previous, state)
    for i in range(3):
        row = slice(i, i + 1)
        alone, _, _ = played.sample(context[row], uniforms[row], previous[row], played.initial_state(1))
        np.testing.assert_array_equal(alone, together[row])


@pytest.mark.parametrize("name", KINDS)
def test_greedy_is_the_likeliest_code_at_every_step(load, name):
    played = load(512, name)
    given = arguments(played, 100, batch=2)
    codes, log_probs, _ = played.sample(*given, temperature=0)
    assert (log_probs == 0).all()
    np.testing.assert_array_equal(played.sample(*given, top_k=1)[0], codes)
    np.testing.assert_array_equal(played.sample(*given, temperature=0, log_probs=False)[0], codes)
    # No code in a code's place would have been likelier.
    _, chosen, _ = played.sample(*given, forced=codes)
    for other in range(0, played.config.num_codes, 7):
        for step in (0, 1, 50, 99):
            instead = codes.copy()
            instead[:, step] = other
            assert (played.sample(*given, forced=instead)[1][:, step] <= chosen[:, step] + 1e-6).all()


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A generator whose every code has the same distribution, whatever came before: its logits, and its set."""
    config = GeneratorConfig("generator_512", 512, num_codes=12, embedding_dim=2, units=4)
    logits = np.array([0.5, 2.0, -1.0, 1.0, 1.0, 0.0, -3.0, 1.5, 0.2, 2.0, -0.5, -8.0], np.float32)
    shapes = {"embedding/embeddings": (13, 2), "logits/kernel": (4, 12)}
    for i, given in enumerate((2, 4)):
        shapes |= {f"lstm_{i}/lstm_cell/kernel": (given, 16), f"lstm_{i}/lstm_cell/recurrent_kernel": (4, 16),
                   f"lstm_{i}/lstm_cell/bias": (16,)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()} | {"logits/bias": logits}
    folder = tmp_path_factory.mktemp("known")
    weights.save(folder, config.name, "", {"generator": arrays}, config)
    return logits, weights.find(folder, config.name)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("settings", [
    {}, {"temperature": 0.6}, {"temperature": 1.7}, {"top_k": 4}, {"top_k": 1}, {"top_p": 0.75}, {"top_p": 0.05},
    {"temperature": 1.4, "top_k": 7, "top_p": 0.9}, {"temperature": 0},
])
def test_a_hundred_thousand_draws_follow_the_closed_form(known, name, settings):
    logits, found = known
    played = load_generator(found, name)
    codes, log_probs, _ = played.sample(*arguments(played, 1000, batch=100, seed=8), **settings)
    # By hand, from the definition: scale, rank (the lower code first), keep k, keep until p is reached.
    temperature = settings.get("temperature", 1.0)
    kept = sorted(range(12), key=lambda i: -logits[i])[: 1 if temperature == 0 else settings.get("top_k") or 12]
    share = np.exp(logits[kept].astype(float) / (temperature or 1))
    reached = np.cumsum(share / share.sum())
    count = int(np.sum(reached < settings.get("top_p", 1.0) - 1e-6)) + 1
    expected = np.zeros(12)
    expected[kept[:count]] = share[:count] / share[:count].sum()
    counts = np.bincount(codes.ravel(), minlength=12)
    there = expected > 0
    assert counts[~there].sum() == 0
    if there.sum() > 1:
        assert stats.chisquare(counts[there], 100_000 * expected[there]).pvalue > 1e-3
    np.testing.assert_allclose(log_probs, np.log(np.maximum(expected, 1e-30))[codes], atol=1e-4)


@pytest.mark.parametrize("name", ["onnx", "keras"])
def test_contexts_of_windows_are_those_of_the_whole(load, name):
    played = load(8, name)
    config = played.config
    source = np.random.default_rng(0).integers(0, config.source_codes + 1, (2, 40 + 2 * config.halo)).astype(np.int32)
    whole = played.context(source)
    assert whole.shape == (2, 40 * config.ratio, config.context_channels) and whole.dtype == np.float32
    part = played.context(source[:, 10 : 25 + 2 * config.halo])
    np.testing.assert_allclose(part, whole[:, 10 * config.ratio : 25 * config.ratio], atol=1e-5)
    np.testing.assert_allclose(load(8, "keras").context(source), whole, atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_codecs_are_the_same_in_every_engine(tiny_weights, rng, level):
    found = weights.find(tiny_weights.codecs, f"vqvae_{level}")
    played, reference = (engine.load_codec(found, name) for name in ("onnx", "keras"))
    audio = rng.normal(0, 0.1, (2, 5001)).astype(np.float32)
    codes = played.encode(audio)
    assert codes.shape == (2, -(-5001 // level)) and codes.dtype == np.int32
    # A latent between two codes may fall to either, by the last bit.
    assert (codes == reference.encode(audio)).mean() > 0.99
    made = played.decode(codes)
    assert made.shape == (2, codes.shape[1] * level) and made.dtype == np.float32
    np.testing.assert_allclose(made, reference.decode(codes), atol=1e-5)


WARM = """
import sys
import numpy as np
from vqwave import weights\nfrom vqwave.play import engine
name, codecs, generators = sys.argv[1:]
codec = engine.load_codec(weights.find(codecs, "vqvae_32"), name)
codec.decode(codec.encode(np.zeros((1, 4096), np.float32)))
played = engine.load_generator(weights.find(generators, "generator_128"), name)
config = played.config
context = played.context(np.zeros((1, 4 + 2 * config.halo), np.int32))
for settings in ({}, {"top_k": 3}, {"log_probs": False}):
    played.sample(context, np.zeros((1, 16)), np.array([config.start_token]), played.initial_state(1), **settings)
print(sorted({"tensorflow", "keras", "onnx", "tf2onnx", "jax", "librosa", "matplotlib"} & set(sys.modules)))
"""


@pytest.mark.parametrize("name", ["onnx", "onnx-float32"])
def test_a_warm_start_loads_no_tensorflow(tiny_weights, name):
    for one in weights.find(tiny_weights.codecs, "vqvae_32"), weights.find(tiny_weights.generators, "generator_128"):
        for kind in export.kinds(one, name):
            export.cached_graph(one, kind)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", WARM, name, tiny_weights.codecs, tiny_weights.generators],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path(vqwave.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_playing_tells_nobody(tiny_weights, tmp_path):
    """ONNX Runtime would leave a device's number and what it means to send in the user's home."""
    program = "import sys, numpy as np\nfrom vqwave import weights\nfrom vqwave.play import engine\n"
    program += "engine.load_codec(weights.find(sys.argv[1], 'vqvae_8')).decode(np.zeros((1, 8), np.int32))"
    export.cached_graph(weights.find(tiny_weights.codecs, "vqvae_8"), "decode")
    kept = {key: value for key, value in os.environ.items()
            if key not in ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")}
    kept |= {"HOME": str(tmp_path), "VQWAVE_CACHE": str(export.cache_folder()),
             "PYTHONPATH": str(Path(vqwave.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program, tiny_weights.codecs], env=kept, check=True)  # noqa: S603
    assert list(tmp_path.iterdir()) == []


def test_a_chain_that_does_not_fit_together_prints_both_sides(load):
    class Model:
        def __init__(self, config):
            self.config = config

    chain = [Model(load(level, "onnx").config) for level in LEVELS]
    codec = Model(configs.preset("tiny").codec("vqvae_8"))
    engine.check_chain(codec, chain)
    for bad, message in (
        ([], "at least one"),
        (chain[1:], "generator_128 reads level 512"),
        ([chain[0], chain[2]], "generator_32 reads level 128, but generator_512 makes 512"),
        (chain[:3], "vqvae_8 decodes 64 codes of level 8, but generator_32 makes 64 of level 32"),
        ([Model(dataclasses.replace(chain[0].config, num_codes=99)), *chain[1:]], "reads 64 codes, but .* makes 99"),
    ):
        with pytest.raises(UserError, match=message):
            engine.check_chain(codec, bad)


def test_what_cannot_be_is_refused(load, lively):
    with pytest.raises(UserError, match="no engine is called 'onx'; there are onnx, onnx-float32, keras"):
        engine.load_generator(weights.find(lively, "generator_512"), "onx")
    played = load(512, "onnx")
    given = arguments(played, 4)
    for settings in ({"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"forced": np.full((1, 4), 64)}):
        with pytest.raises(ValueError, match="must|less than"):
            played.sample(*given, **settings)
