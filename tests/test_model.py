"""The library as a user meets it: `vqwave.load` on tiny weights, through the real engines."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vqwave
from vqwave import engine, model, weights
from vqwave.config import LEVELS
from vqwave.errors import UserError
from vqwave.streaming import BLOCK, Stream


@pytest.fixture(scope="module")
def music(tiny_weights):
    return vqwave.load(tiny_weights.codecs, tiny_weights.generators)


@pytest.fixture(scope="module")
def exact(tiny_weights):
    return vqwave.load(tiny_weights.codecs, tiny_weights.generators, engine="onnx-float32")


def python(program, *arguments):
    """Run a program in a fresh interpreter that warns as the tests do."""
    path = str(Path(vqwave.__file__).parents[1])
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'numpy', 'keras', 'tensorflow', 'onnxruntime', 'librosa'} & set(sys.modules)"
    assert python(f"import sys, vqwave; print({heavy} or 'nothing')") == "nothing\n"


def test_the_package_names_what_it_holds():
    assert vqwave.Stream is Stream
    assert vqwave.VQWave is model.VQWave
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        vqwave.lode  # noqa: B018


@pytest.mark.parametrize("level", LEVELS)
def test_codes_and_audio_have_the_level_s_lengths(music, rng, level):
    audio = rng.normal(0, 0.1, 2000)
    codes = music.encode(audio, level)
    assert codes.shape == (-(-2000 // level),) and codes.dtype == np.int32
    made = music.decode(codes, level)
    assert made.shape == (len(codes) * level,) and made.dtype == np.float32
    both = music.encode(np.stack([audio, -audio]), level)
    np.testing.assert_array_equal(both[0], codes)
    assert music.decode(both, level).shape == (2, len(codes) * level)


def test_a_piece_is_the_collected_stream(music):
    piece = music.generate(samples=2 * BLOCK + 77, seed=1)
    assert piece.shape == (2 * BLOCK + 77,) and piece.dtype == np.float32 and piece.std() > 0
    with music.stream(seed=1) as stream:
        blocks = np.concatenate([next(stream) for _ in range(3)])
    np.testing.assert_array_equal(piece, blocks[: len(piece)])
    np.testing.assert_array_equal(piece, music.generate(samples=len(piece), seed=1, chunk=100))
    assert not np.array_equal(piece, music.generate(samples=len(piece), seed=2))


def test_without_a_seed_one_is_drawn_and_told(music):
    first, second = music.stream(level=512), music.stream(level=512)
    assert first.seed != second.seed
    np.testing.assert_array_equal(next(first), next(music.stream(level=512, seed=first.seed)))
    for stream in (first, second):
        stream.close()


def test_seconds_are_the_nearest_number_of_samples(music):
    assert len(music.generate(seconds=0.1, level=512)) == 2205
    assert music.generate(seconds=1 / 22050, level=512, batch=2).shape == (2, 1)


def test_float32_rows_of_a_batch_are_the_pieces_alone(exact):
    both = exact.generate(samples=BLOCK, level=128, seed=3, batch=2)
    np.testing.assert_allclose(both[0], exact.generate(samples=BLOCK, level=128, seed=3), atol=1e-6)


class Recorder:
    """An engine that keeps what it sampled."""

    def __init__(self, generator):
        self.generator, self.codes, self.log_probs = generator, [], []

    def __getattr__(self, name):
        return getattr(self.generator, name)

    def sample(self, *arguments, **settings):
        codes, log_probs, state = self.generator.sample(*arguments, **settings | {"log_probs": True})
        self.codes.append(codes)
        self.log_probs.append(log_probs)
        return codes, log_probs, state


def test_the_stream_s_windows_see_what_the_whole_piece_sees(exact):
    """Every level's codes are as likely in one run over the whole piece as they were when they were drawn."""
    recorders = [Recorder(exact.generator(level)) for level in LEVELS]
    with Stream(exact.codec(8), recorders, seed=5) as stream:
        audio = np.concatenate([next(stream) for _ in range(3)])
    codes = {level: np.concatenate(r.codes, axis=1) for level, r in zip(LEVELS, recorders, strict=True)}
    for level, recorder in zip(LEVELS, recorders, strict=True):
        config, context = recorder.config, None
        count = codes[level].shape[1]
        if config.source_level:
            wanted = count // config.ratio + config.halo
            source = np.pad(codes[config.source_level][:, :wanted], ((0, 0), (config.halo, 0)),
                            constant_values=config.pad_token)
            context = exact.generator(level).context(source)
            assert context.shape[1] == count
        _, log_probs, _ = exact.generator(level).sample(
            context, np.zeros((1, count)), [config.start_token], recorder.initial_state(1), forced=codes[level]
        )
        np.testing.assert_allclose(log_probs, np.concatenate(recorder.log_probs, axis=1), atol=1e-4)
    whole = exact.decode(codes[8][0], 8)
    np.testing.assert_allclose(audio, whole[: len(audio)], atol=1e-5)


def test_the_keras_engine_makes_the_same_music(exact, tiny_weights):
    keras = vqwave.load(tiny_weights.codecs, tiny_weights.generators, engine="keras")
    np.testing.assert_allclose(keras.generate(samples=2 * BLOCK, level=128, seed=2),
                               exact.generate(samples=2 * BLOCK, level=128, seed=2), atol=1e-4)


RESUME = """
import sys
import numpy as np
from vqwave import Stream
with Stream.resume(np.load(sys.argv[1])) as stream:
    np.save(sys.argv[2], np.concatenate([next(stream) for _ in range(3)]))
loaded = {"keras", "tensorflow", "librosa"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize("settings", [{}, {"top_k": 20, "temperature": [1, 1, 0.9, 0.9]}])
def test_another_process_goes_on_bit_for_bit_and_without_tensorflow(music, tmp_path, settings):
    with music.stream(seed=6, **settings) as stream:
        whole = np.concatenate([next(stream) for _ in range(5)])
    with music.stream(seed=6, **settings) as stream:
        head = [next(stream), next(stream)]
        np.savez(tmp_path / "state.npz", **stream.state())
    python(RESUME, tmp_path / "state.npz", tmp_path / "tail.npy")
    np.testing.assert_array_equal(np.concatenate([*head, np.load(tmp_path / "tail.npy")]), whole)


MEMORY = """
import os, sys
from vqwave import load

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

minute = 60 * 22050
with load(sys.argv[1], sys.argv[2]).stream(seed=1) as stream:
    for _ in stream:
        if stream.position < minute:
            first = resident()
        if stream.position >= 10 * minute:
            break
print(resident() - first)
"""


@pytest.mark.large
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_ten_minutes_take_no_more_memory_than_one(music, tiny_weights):
    music.generate(samples=1)  # exports what is missing, so that the other process need not
    assert int(python(MEMORY, tiny_weights.codecs, tiny_weights.generators)) < 2_000_000


def test_a_state_is_not_resumed_with_another_engine(music, exact):
    state = music.stream(level=512, seed=1).state()
    with pytest.raises(UserError, match="other weights, or another engine, of vqvae_512"):
        Stream.resume(state, exact.codec(512), [exact.generator(512)])


@pytest.mark.parametrize("options, message", [
    ({}, "give either seconds or samples"),
    ({"seconds": 1, "samples": 1}, "give either seconds or samples"),
    ({"seconds": float("nan")}, "seconds is nan; it must be a number above 0"),
    ({"seconds": float("inf")}, "seconds is inf"),
    ({"seconds": 0}, "seconds is 0"),
    ({"seconds": 1e-9}, "less than one sample"),
    ({"samples": -1}, "samples is -1; it must be a whole number of at least 0"),
    ({"samples": 1, "level": 64}, "no level 64; there are 512, 128, 32, 8"),
    ({"samples": 1, "temperature": [1, 2]}, "temperature has 2 values"),
    ({"samples": 1, "seed": -1}, "seed is -1"),
])
def test_arguments_that_cannot_be_are_refused(music, options, message):
    with pytest.raises(UserError, match=message):
        music.generate(**options)


@pytest.mark.parametrize("call", [
    lambda m: m.encode(np.zeros((1, 2, 3))), lambda m: m.encode([0.0, np.nan]),
    lambda m: m.decode([0.5]), lambda m: m.decode([64]), lambda m: m.decode([-1]), lambda m: m.decode([[[1]]]),
])
def test_arrays_that_cannot_be_are_refused(music, call):
    with pytest.raises(ValueError, match="audio|codes"):
        call(music)


def test_missing_weights_and_engines_are_named(tiny_weights, tmp_path):
    with pytest.raises(UserError, match="no engine is called 'tpu'; there are onnx, onnx-float32, keras"):
        vqwave.load(engine="tpu")
    with pytest.raises(UserError, match=r"no weights of generator_512; there are none at all"):
        vqwave.load(tiny_weights.codecs, tmp_path).stream()
    with pytest.raises(UserError, match=r"no epoch 7 of generator_512"):
        vqwave.load(tiny_weights.codecs, tiny_weights.generators, epoch=7).stream()


def test_a_chain_that_does_not_fit_is_refused_before_it_is_loaded(tiny_weights, tmp_path):
    from vqwave.config import codec_preset

    found = weights.find(tiny_weights.codecs, "vqvae_512")
    config = codec_preset("vqvae_512", "compact")
    parts = {part: {"x": np.zeros(1)} for part in found.files}
    weights.save(tmp_path, "vqvae_512", "", parts, config)
    with pytest.raises(UserError, match="vqvae_512 decodes 1024 codes of level 512, but generator_512 makes 64"):
        vqwave.load(tmp_path, tiny_weights.generators).stream(level=512)


def test_the_default_folders_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkout = Path(model.__file__).parents[2]
    assert model._folder("weights", model.GENERATORS) in (checkout / "weights", Path("weights"))
    (tmp_path / "weights").mkdir()
    assert model._folder("weights", model.GENERATORS) == Path("weights")
    assert model._folder("elsewhere", model.GENERATORS) == Path("elsewhere")


def test_every_engine_is_offered():
    assert {vqwave.load(engine=e).engine for e in engine.ENGINES} == set(engine.ENGINES)
