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
from whole import whole_as_windows

import vqwave
from vqwave.errors import UserError
from vqwave.io import audio, weights
from vqwave.levels import replace, to_dict
from vqwave.play import api
from vqwave.play.prompt import Variation
from vqwave.play.stream import Stream
from vqwave.presets import load_preset

LEVELS = load_preset("tiny").chain.sizes
BLOCK = 8192


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
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_lists_its_names_and_imports_nothing_heavy():
    heavy = "{'numpy', 'keras', 'tensorflow', 'onnxruntime', 'librosa'} & set(sys.modules)"
    python(f"import sys, vqwave; assert not {heavy}")
    assert (vqwave.Stream, vqwave.VQWave) == (Stream, api.VQWave)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        vqwave.lode  # noqa: B018


@pytest.mark.parametrize("how", ["nothing", "prompt", "variation"])
def test_stream_windows_equal_the_whole_piece(exact, how):
    whole_as_windows(exact, how)


RESUME = """
import sys
import numpy as np
from vqwave import Stream
with Stream.resume(np.load(sys.argv[1])) as stream:
    np.save(sys.argv[2], np.concatenate([next(stream) for _ in range(3)]))
loaded = {"keras", "tensorflow", "librosa"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize("how", ["original", "variation"])
def test_another_process_continues_bit_for_bit_without_tensorflow(music, recordings, tmp_path, how):
    song = recordings / "song.mp3"
    options = {"seed": 6, "log_probs": True, "sampling": {8: {"top_k": 20}},
               "begin": music.source(song, 128) if how == "variation"
               else music.prompt(song, seconds=0.9, keep_original=True)}
    with music.stream(**options) as stream:
        whole = np.concatenate([next(stream) for _ in range(5)])
    with music.stream(**options) as stream:
        head = [next(stream), next(stream)]
        np.savez(tmp_path / "state.npz", **stream.state())
    python(RESUME, tmp_path / "state.npz", tmp_path / "tail.npy")
    np.testing.assert_array_equal(np.concatenate([*head, np.load(tmp_path / "tail.npy")]), whole)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with one song of 3 s in several formats, rates and channels, and a silent file."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, rate, channels in (("song.mp3", 44100, 2), ("song.flac", 22050, 1),
                                 ("song.wav", 48000, 2)):
        encode(folder / name, np.stack([prepared.music(3.0, 3, rate)] * channels, axis=1), rate)
    encode(folder / "silent.wav", np.zeros(30000), 22050)
    return folder


@pytest.mark.parametrize("start, seconds, samples", [
    (0, None, 129 * 512), (0, 1, 43 * 512), (0.5, 1.5, 64 * 512), (1.00002, 10, 86 * 512),
    (2.97, None, 512),
])
def test_a_prompt_s_levels_cover_the_same_samples_and_are_the_recording_s_codes(music, recordings,
                                                                                start, seconds,
                                                                                samples):
    """The grid begins a multiple of 512 samples before the prompt."""
    for name in ("song.mp3", "song.flac", "song.wav"):
        prompt = music.prompt(recordings / name, start=start, seconds=seconds)
        whole, begin = audio.decode(recordings / name, 22050), round(start * 22050)
        np.testing.assert_array_equal(prompt.audio, whole[begin : begin + samples])
        for level in LEVELS:
            assert prompt.codes[level].size * level == samples
            first = begin // 512 * 512 // level
            there = music.encode(whole[begin % 512 :], level)[first : first + samples // level]
            np.testing.assert_array_equal(prompt.codes[level], there)
        if name == "song.flac":
            of_samples = music.prompt(whole, start=start, seconds=seconds)
            np.testing.assert_array_equal(of_samples.codes[8], prompt.codes[8])


@pytest.mark.parametrize("keep", [512, 128, 32])
def test_a_variation_keeps_its_level_and_needs_no_generator_from_there_up(music, tiny_weights,
                                                                          recordings, tmp_path,
                                                                           keep):
    for path in tiny_weights.generators.iterdir():
        if int(path.name.split("_")[1].split(".")[0]) < keep:
            shutil.copy(path, tmp_path)
    fewer, song = vqwave.load(tiny_weights.codecs, tmp_path), recordings / "song.mp3"
    source = fewer.source(song, keep)
    assert source.samples == len(audio.decode(song, 22050)) and source.level == keep
    with fewer.stream(begin=source, seed=1) as stream:
        blocks, codes = zip(*((block, stream.codes) for block in stream), strict=True)
    made = np.concatenate(blocks)
    assert len(made) == source.samples == stream.samples
    np.testing.assert_array_equal(np.concatenate([one[keep] for one in codes]), source.codes)
    of_samples = music.source(audio.decode(song, 22050), keep)
    np.testing.assert_array_equal(made, music.generate(begin=of_samples, seed=1))
    np.testing.assert_array_equal(made[:15435], music.generate(begin=source, seed=1, seconds=0.7))


SHORT = Variation(128, np.zeros(9, int), 1152)


@pytest.mark.parametrize("call, message", [
    (lambda m, r: m.prompt(r / "no.mp3"), "no.mp3: no such file"),
    (lambda m, r: m.prompt(r / "silent.wav"), "silent.wav: is silent for 1.35 s from 0 s on"),
    (lambda m, r: m.prompt(r / "song.flac", start=3), "song.flac: lasts 3.00 s; a prompt from 3 s"),
    (lambda m, r: m.prompt(r / "song.flac", start=-1), "^start is -1"),
    (lambda m, r: m.prompt(r / "song.flac", seconds=0.02), "a prompt of 0.02 s is too short"),
    (lambda m, r: m.prompt(np.zeros(511) + 0.1), "the recording: lasts 0.02 s; a prompt from 0 s"),
    (lambda m, r: m.source(np.zeros(5000)), "the recording is silent"),
    (lambda m, r: m.source(r / "song.flac", 8), "no level is called '8'; there are 512x, 128x, 32x"),
    (lambda m, r: m.generate(begin=m.prompt(r / "song.flac"), seconds=2), "prompt alone lasts 3.00"),
    (lambda m, r: m.stream(begin=m.prompt(r / "song.flac", level=128), level=32),
     "a coarser level than 32x: it has no codes of 32x"),
    (lambda m, r: m.stream(begin=SHORT, level=128), "no level is called '128'; there are 512x"),
    (lambda m, r: m.stream(begin=SHORT, seconds=3.5), "3.50 s requested, .* lasts 0.05 s"),
    (lambda m, r: m.stream(begin=np.zeros(9)), "it must be a Prompt, a Variation or a Score"),
    (lambda m, r: m.generate(seconds=1, samples=1), "give either seconds or samples"),
    (lambda m, r: m.generate(seconds=1e-9), "less than one sample"),
    (lambda m, r: m.generate(samples=1, level=64), "no level is called '64'; there are 512x, 128x, 32x, 8x"),
    (lambda m, r: m.encode(np.zeros((1, 2, 3))), "audio is"),
    (lambda m, r: m.encode([0.0, np.nan]), "audio holds"),
    (lambda m, r: m.decode([0.5]), "codes of 8x are float64"),
    (lambda m, r: m.decode([64]), "codes of 8x are 64"),
    (lambda m, r: m.sample_prior(9), "vqvae_512 has the quantizer ema, which makes codes"),
])
def test_invalid_arguments_raise_user_error(music, recordings, call, message):
    with pytest.raises(UserError, match=message):
        call(music, recordings)


def test_a_generator_of_the_codes_of_another_run_is_refused(tiny_weights, tmp_path):
    """Of another codec than the one that is there; a later step of that one is good enough."""
    for folder in tiny_weights.codecs, tiny_weights.generators:
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    weights.add_to_record(weights.find(tmp_path, "vqvae_512"), id="new", step=9)
    for learnt, fits in (("new:5", True), ("old:9", False), ("ab12", True)):
        weights.add_to_record(weights.find(tmp_path, "generator_512"), codecs={"vqvae_512": learnt})
        music = vqwave.load(tmp_path, tmp_path)
        if fits:
            music.stream(level=512).close()
            continue
        with pytest.raises(UserError, match="generator_512 in .* was trained on codes from "
                                            "a different vqvae_512 than the one in"):
            music.stream(level=512)


def test_models_of_another_rate_or_level_than_the_chain_s_are_refused(tiny_weights, tmp_path):
    folder = tmp_path / "generators"
    shutil.copytree(tiny_weights.generators, folder)
    chain = load_preset("tiny").chain

    def refused(changed, message):
        weights.save_chain(folder, changed)
        with pytest.raises(UserError, match=message):
            vqwave.load(tiny_weights.codecs, folder).stream()

    refused(replace(chain, sample_rate=44100),
            "vqvae_8 has a sample rate of 22050 Hz, but the chain has 44100 Hz")
    levels = [dict(one) for one in to_dict(chain)["levels"]]
    levels[3]["level"] = 16
    refused(replace(chain, levels=levels),
            "vqvae_8 is of level 8x, but the chain has it at level 16x")


def test_the_folder_sets_the_default_ending_of_a_chain(music, tiny_weights, tmp_path):
    folder = tmp_path / "generators"
    shutil.copytree(tiny_weights.generators, folder)
    weights.save_chain(folder, replace(music.chain, end=128))
    short = vqwave.load(tiny_weights.codecs, folder)
    assert (music.chain.ending, short.chain.ending) == (8, 128)
    np.testing.assert_array_equal(short.generate(samples=3000, seed=1),
                                  music.generate(samples=3000, seed=1, level=128))
    np.testing.assert_array_equal(short.generate(samples=3000, seed=1, level=8),
                                  music.generate(samples=3000, seed=1))
    # What keeps the level it would end at goes on for one level.
    assert [short.ending(None, keep) for keep in (None, 512, 128, 32)] == [128, 128, 32, 8]
    assert set(short.prompt(prepared.music(1.0)).codes) == {512, 128}
