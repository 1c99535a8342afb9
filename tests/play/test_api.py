"""The library as a user meets it: `vqwave.load` on tiny weights, through the real engines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import prepared
import pytest
from encoded import encode

import vqwave
from vqwave import weights
from vqwave.config import LEVELS
from vqwave.data import audio, chunking
from vqwave.errors import UserError
from vqwave.files import CHECKOUT
from vqwave.play import api, engine
from vqwave.play.stream import BLOCK, Stream


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
    assert vqwave.VQWave is api.VQWave
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


@pytest.mark.parametrize("how", ["nothing", "prompt", "variation"])
def test_the_stream_s_windows_see_what_the_whole_piece_sees(exact, how):
    """Every level's codes are as likely in one run over the whole piece as they were when they were drawn, or given."""
    song = prepared.music(1.5)
    levels, options = LEVELS, {}
    if how == "prompt":
        options = {"prompt": exact.prompt(song[:12000]).codes}
    elif how == "variation":
        levels, options = LEVELS[1:], {"source_codes": exact.encode(song, 512)}
    recorders = [Recorder(exact.generator(level)) for level in levels]
    with Stream(exact.codec(8), recorders, seed=5, **options) as stream:
        blocks = 99 if how == "variation" else 3
        sound = np.concatenate([block for _, block in zip(range(blocks), stream, strict=False)])
    codes = {level: np.concatenate(r.codes, axis=1) for level, r in zip(levels, recorders, strict=True)}
    if how == "variation":
        # The last block is sampled whole; the piece ends where what is kept ends.
        codes = {level: codes[level][:, : len(options["source_codes"]) * 512 // level] for level in levels}
        codes[512] = options["source_codes"][None]
    for level, recorder in zip(levels, recorders, strict=True):
        config, context = recorder.config, None
        count = codes[level].shape[1]
        if config.source_level:
            wanted = count // config.ratio + config.halo
            source = codes[config.source_level][:, :wanted]
            source = np.pad(source, ((0, 0), (config.halo, wanted - source.shape[1])), constant_values=config.pad_token)
            context = exact.generator(level).context(source)
            assert context.shape[1] == count
        _, log_probs, _ = exact.generator(level).sample(
            context, np.zeros((1, count)), [config.start_token], recorder.initial_state(1), forced=codes[level]
        )
        np.testing.assert_allclose(log_probs, np.concatenate(recorder.log_probs, axis=1)[:, :count], atol=1e-4)
    whole = exact.decode(codes[8][0], 8)
    assert how != "variation" or len(sound) == len(whole)
    np.testing.assert_allclose(sound, whole[: len(sound)], atol=1e-5)


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


@pytest.mark.parametrize("how", ["prompt", "original", "variation"])
def test_another_process_goes_on_with_what_was_steered(music, recordings, tmp_path, how):
    options = {"log_probs": True, "seed": 6}
    if how == "variation":
        options |= {"variation_of": recordings / "song.mp3", "keep": 128}
    else:
        options |= {"prompt": recordings / "song.mp3", "prompt_seconds": 0.9, "keep_original": how == "original"}
    with music.stream(**options) as stream:
        whole = np.concatenate([next(stream) for _ in range(5)])
    with music.stream(**options) as stream:
        head = [next(stream), next(stream)]
        np.savez(tmp_path / "state.npz", **stream.state())
    python(RESUME, tmp_path / "state.npz", tmp_path / "tail.npy")
    np.testing.assert_array_equal(np.concatenate([*head, np.load(tmp_path / "tail.npy")]), whole)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with one song of 3 s in several formats, rates and channels; and one file that is silent."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, rate, channels in (("song.mp3", 44100, 2), ("song.flac", 22050, 1), ("song.wav", 48000, 2)):
        encode(folder / name, np.stack([prepared.music(3.0, 3, rate)] * channels, axis=1), rate)
    encode(folder / "silent.wav", np.zeros(30000), 22050)
    return folder


def test_a_file_is_encoded_as_the_sound_in_it(music, recordings):
    for level in LEVELS:
        shares = []
        codes = music.encode(recordings / "song.mp3", level, report=shares.append)
        np.testing.assert_array_equal(codes, music.encode(audio.decode(recordings / "song.mp3"), level))
        assert shares == sorted(shares) and 0 < shares[-1] <= 1


@pytest.mark.parametrize("start, seconds, samples", [
    (0, None, 129 * 512), (0, 1, 43 * 512), (0.5, 1.5, 64 * 512), (1.00002, 10, 86 * 512), (2.97, None, 512),
])
def test_a_prompt_s_levels_cover_the_same_samples_and_are_the_recording_s_codes(music, recordings, start, seconds,
                                                                                samples):
    """The grid begins a multiple of 512 samples before the prompt; the codes are those of the recording from there."""
    for name in ("song.mp3", "song.flac", "song.wav"):
        prompt = music.prompt(recordings / name, start=start, seconds=seconds)
        whole, begin = audio.decode(recordings / name), round(start * 22050)
        np.testing.assert_array_equal(prompt.audio, whole[begin : begin + samples])
        for level in LEVELS:
            assert prompt.codes[level].size * level == samples
            first = begin // 512 * 512 // level
            there = music.encode(whole[begin % 512 :], level)[first : first + samples // level]
            np.testing.assert_array_equal(prompt.codes[level], there)
        if name == "song.flac":
            of_samples = music.prompt(whole, start=start, seconds=seconds)
            np.testing.assert_array_equal(of_samples.codes[8], prompt.codes[8])


@pytest.mark.parametrize("level", LEVELS)
def test_a_piece_begins_with_its_prompt_code_by_code(music, recordings, level):
    prompt = music.prompt(recordings / "song.mp3", seconds=0.8)
    options = {"seconds": 2, "level": level, "seed": 1}
    with music.stream(prompt=prompt, **options) as stream:
        codes = [stream.codes for _ in stream]
    assert stream.prompt_samples == len(prompt.audio) == 17408
    for at in LEVELS[: LEVELS.index(level) + 1]:
        made = np.concatenate([one[at] for one in codes])
        assert len(made) == -(-44100 // at)
        np.testing.assert_array_equal(made[: 17408 // at], prompt.codes[at])
    piece = music.generate(prompt=recordings / "song.mp3", prompt_seconds=0.8, **options)
    np.testing.assert_array_equal(piece, music.generate(prompt=prompt, **options))
    made = np.concatenate([one[level] for one in codes])
    # The prompt too is decoded among what follows it; what follows the piece's own end is not known here.
    end = (len(made) - chunking.decode_halo(music.codec(level).config)) * level
    np.testing.assert_allclose(piece[:end], music.decode(made, level)[: len(piece)][:end], atol=1e-5)
    kept = music.generate(prompt=prompt, keep_original=True, **options)
    np.testing.assert_array_equal(kept[:16384], prompt.audio[:16384])
    np.testing.assert_array_equal(kept[17408:], piece[17408:])


@pytest.mark.parametrize("keep", [512, 128, 32])
def test_a_variation_keeps_its_level_and_needs_no_generator_from_there_up(music, tiny_weights, recordings, tmp_path,
                                                                           keep):
    for path in tiny_weights.generators.iterdir():
        if int(path.name.split("_")[1].split(".")[0]) < keep:
            shutil.copy(path, tmp_path)
    fewer = vqwave.load(tiny_weights.codecs, tmp_path)
    song = recordings / "song.mp3"
    source = fewer.source(song, keep)
    assert source.samples == len(audio.decode(song)) and source.level == keep
    with fewer.stream(variation_of=source, seed=1) as stream:
        blocks, codes = zip(*((block, stream.codes) for block in stream), strict=True)
    made = np.concatenate(blocks)
    assert len(made) == source.samples == stream.samples
    np.testing.assert_array_equal(np.concatenate([one[keep] for one in codes]), source.codes)
    assert list(codes[0]) == [level for level in LEVELS if level <= keep]
    np.testing.assert_array_equal(made, music.generate(variation_of=song, keep=keep, seed=1))
    np.testing.assert_array_equal(made, music.generate(variation_of=audio.decode(song), keep=keep, seed=1))
    by_codes = music.generate(source_codes=source.codes, keep=keep, seed=1)
    assert len(by_codes) == len(source.codes) * keep
    np.testing.assert_array_equal(by_codes[: len(made)], made)
    assert not np.array_equal(made, music.generate(variation_of=source, seed=2))
    np.testing.assert_array_equal(made[:15435], music.generate(variation_of=source, seed=1, seconds=0.7))


def test_noting_log_probabilities_changes_no_music(music):
    with music.stream(seed=1, samples=2 * BLOCK, log_probs=True) as stream:
        made = np.concatenate(list(stream))
    np.testing.assert_array_equal(made, music.generate(seed=1, samples=2 * BLOCK))
    # What was never trained knows next to nothing of 64 codes.
    assert all(5 < bits < 7 for bits in stream.bits.values())
    assert list(stream.bits) == [*LEVELS, "all"]


@pytest.mark.parametrize("options, message", [
    ({"prompt": "no.mp3"}, "no.mp3: no such file"),
    ({"prompt": "silent.wav"}, "silent.wav: the 1.35 s from 0 s on are silent; there is nothing to go on from"),
    ({"prompt": "song.flac", "prompt_start": 3}, "song.flac: ends after 3.00 s, before the prompt starts .3 s."),
    ({"prompt": "song.flac", "prompt_start": 2.99}, "has 220 samples from 2.99 s on; a prompt needs 512"),
    ({"prompt": "song.flac", "prompt_start": -1}, "prompt_start is -1; it must be a number of at least 0"),
    ({"prompt": "song.flac", "prompt_seconds": 0.02}, "a prompt of 0.02 s is too short: one code of the top level is"),
    ({"prompt": "song.flac", "prompt_seconds": float("nan")}, "seconds is nan"),
    ({"prompt": "song.flac", "seconds": 2}, "the piece is to last 2.00 s, but the prompt alone lasts 3.00 s"),
    ({"prompt": np.zeros(511) + 0.1}, "the recording: has 511 samples from 0 s on; a prompt needs 512"),
    ({"prompt": "song.flac", "windows": 2}, "windows make a piece from nothing"),
    ({"prompt": "song.flac", "variation_of": "song.flac"}, "give one of prompt, variation_of and source_codes"),
    ({"keep_original": True}, "keep_original needs a prompt"),
    ({"variation_of": "silent.wav"}, "silent.wav: is silent"),
    ({"variation_of": np.zeros(5000)}, "the recording is silent"),
    ({"variation_of": "song.flac", "keep": 8}, "keep is 8; it must be one of 512, 128, 32"),
    ({"variation_of": "song.flac", "keep": 128, "level": 128}, "level 128 is kept and the chain ends at 128"),
    ({"variation_of": "song.flac", "seconds": 3.5}, "3.50 s are asked for, but what is varied lasts 3.00 s"),
    ({"source_codes": [1, 2], "seconds": 3.5}, "77175 samples are asked for, but the piece that is varied has 1024"),
])
def test_what_cannot_steer_is_refused(music, recordings, options, message):
    for key in ("prompt", "variation_of"):
        if isinstance(options.get(key), str):
            options = options | {key: recordings / options[key]}
    with pytest.raises(UserError, match=message):
        music.generate(**{"samples": None if "seconds" in options else 10**6} | options)


LONG = """
import os, sys
import numpy as np
from vqwave import load

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

music = load(sys.argv[1], sys.argv[2])
for path in sys.argv[3:]:
    with music.stream(variation_of=path, keep=128, level=32, seed=1) as stream:
        made = sum(len(block) for block in stream)
    print(made, resident())
"""


@pytest.mark.large
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_song_of_minutes_is_varied_in_the_memory_of_a_short_one(music, tiny_weights, tmp_path):
    sound = prepared.music(30.0)
    for name, times in (("short.flac", 1), ("long.flac", 20)):
        audio.write(tmp_path / name, np.tile(sound, times))
    music.generate(variation_of=tmp_path / "short.flac", keep=128, level=32)  # exports what is missing
    said = python(LONG, tiny_weights.codecs, tiny_weights.generators, tmp_path / "short.flac", tmp_path / "long.flac")
    (short, before), (long, after) = (map(int, line.split()) for line in said.splitlines())
    assert (short, long) == (len(sound), 20 * len(sound))
    # Ten minutes of samples would be 53 MB.
    assert after - before < 20_000_000


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


def test_a_chain_ends_where_its_folder_says_unless_told_otherwise(music, tiny_weights, tmp_path):
    folder = tmp_path / "generators"
    shutil.copytree(tiny_weights.generators, folder)
    (folder / "chain.yml").write_text("level: 128\n")
    short = vqwave.load(tiny_weights.codecs, folder)
    assert (music.level, short.level) == (8, 128)
    np.testing.assert_array_equal(short.generate(samples=3000, seed=1), music.generate(samples=3000, seed=1, level=128))
    np.testing.assert_array_equal(short.generate(samples=3000, seed=1, level=8), music.generate(samples=3000, seed=1))
    # What keeps the level it would end at goes on to the finest.
    assert [short.ending(None, keep) for keep in (None, 512, 128, 32)] == [128, 128, 8, 8]
    assert set(short.prompt(prepared.music(1.0)).codes) == {512, 128}


def test_the_default_folders_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkout = CHECKOUT
    assert api._folder("weights", api.GENERATORS) in (checkout / "weights", Path("weights"))
    (tmp_path / "weights").mkdir()
    assert api._folder("weights", api.GENERATORS) == Path("weights")
    assert api._folder("elsewhere", api.GENERATORS) == Path("elsewhere")


def test_every_engine_is_offered():
    assert {vqwave.load(engine=e).engine for e in engine.ENGINES} == set(engine.ENGINES)
