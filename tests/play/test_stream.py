"""A stream is a function of its seed alone: not of chunks, threads, stops, batches, or of how far one listens."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from vqwave.config import LEVELS, CodecConfig, GeneratorConfig
from vqwave.data import chunking
from vqwave.errors import UserError
from vqwave.play import stream as streaming
from vqwave.play.sampling import uniforms
from vqwave.play.stream import BLOCK, JOIN, Stream, settings_per_level
from vqwave.weights import WeightSet

CODES = 64
HALO_DILATIONS = (1, 2, 4, 8, 16, 32)


def origin(config):
    return WeightSet(Path("nowhere"), config.name, "", config, {}, "checksum", {})


class IntegerGenerator:
    """Codes by whole-number arithmetic: right only where position, context, previous code and uniform all line up."""

    def __init__(self, level, dilations=HALO_DILATIONS):
        self.config = GeneratorConfig(f"generator_{level}", level, 0 if level == 512 else level * 4, num_codes=CODES,
                                      source_codes=CODES, units=2, context_channels=3, context_dilations=dilations)
        self.weight_set, self.engine = origin(self.config), "integers"

    def context(self, source):
        """The source code at the position, at the far left and at the far right of what a context sees."""
        halo, count = self.config.halo, source.shape[1] - 2 * self.config.halo
        seen = np.stack([source[:, halo : halo + count], source[:, :count], source[:, 2 * halo :]], axis=-1)
        return np.repeat(seen, self.config.ratio, axis=1).astype(np.float32)

    def initial_state(self, batch):
        return [np.zeros((batch, 2), np.float32)]

    def sample(self, context, uniforms, previous, state, *, temperature, top_k, top_p, log_probs, forced=None):
        """The log-probability of a code is that of its uniform number, so that it too tells its position."""
        batch, count = uniforms.shape
        codes = np.empty((batch, count), np.int32)
        position = state[0][:, 0].copy()
        for t in range(count):
            seen = np.zeros((batch, 3)) if context is None else context[:, t]
            previous = code(seen, uniforms[:, t], previous, position, temperature)
            if forced is not None:
                previous = np.where(forced[:, t] < 0, previous, forced[:, t])
            codes[:, t] = previous
            position += 1
        return codes, -uniforms if log_probs else None, [np.stack([position, position], axis=1)]


def code(seen, uniform, previous, position, temperature):
    mixed = seen @ [3, 5, 7] + np.floor(uniform * 1000) + 11 * position + previous
    return ((mixed + np.floor(100 * temperature)) % CODES).astype(np.int32)


class IntegerCodec:
    """Each sample tells its code, its place in code and piece, and the codes at both ends of what the decoder sees."""

    def __init__(self, level):
        strides = {512: (8, 4, 4, 4), 128: (8, 4, 4), 32: (8, 4), 8: (8,)}[level]
        self.config = CodecConfig(f"vqvae_{level}", strides, (4,) * len(strides), ((1,),) * len(strides),
                                  num_codes=CODES)
        self.weight_set, self.engine = origin(self.config), "integers"

    def decode_window(self, codes, start=0):
        level, halo = self.config.level, chunking.decode_halo(self.config)
        padded = np.pad(codes, ((0, 0), (halo, halo)))
        turned = (codes + start + np.arange(codes.shape[1])) % CODES
        told = turned + 64 * padded[:, : codes.shape[1]] + 4096 * padded[:, 2 * halo :]
        audio = told[:, :, None] * 512.0 + np.arange(level)
        return (audio.reshape(len(codes), -1) / 2**28).astype(np.float32)


def chain(down_to=8, **kwargs):
    return IntegerCodec(down_to), [IntegerGenerator(level, **kwargs) for level in LEVELS if level >= down_to]


def expected_codes(level, count, seed, stream=0, temperature=1.0, prompt=None, kept=None):
    """The first `count` codes of a level, one by one, from the definition.

    prompt: {level: codes that the piece begins with}; kept: {level: codes}, the whole piece at one level. A piece of
    which a level is kept ends where that ends.
    """
    config = IntegerGenerator(level).config
    halo = config.halo
    if kept and level in kept:
        return kept[level]
    if config.source_level:
        source = expected_codes(level * 4, -(-count // 4) + halo, seed, stream, temperature, prompt, kept)
        source = np.concatenate([np.full(halo, config.pad_token), source])
        if kept:
            count = min(count, (len(source) - halo) * 4)
            source = np.concatenate([source, np.full(halo, config.pad_token)])
    draws = uniforms(seed, stream, level, 0, count)
    given = prompt[level] if prompt else []
    codes, previous = [], config.start_token
    for t in range(count):
        at = t // 4
        seen = np.array([source[at + halo], source[at], source[at + 2 * halo]]) if config.source_level else np.zeros(3)
        previous = int(given[t] if t < len(given) else code(seen, draws[t], previous, t, temperature))
        codes.append(previous)
    return np.array(codes, np.int32)


def collect(stream, blocks=None):
    with stream:
        return np.concatenate([b for _, b in zip(range(blocks or 10**9), stream, strict=False)], axis=-1)


@pytest.mark.parametrize("level", LEVELS)
def test_codes_and_samples_line_up_at_every_level(level):
    blocks = 3
    halo = chunking.decode_halo(IntegerCodec(level).config)
    made = collect(Stream(*chain(level), seed=7), blocks)
    count = blocks * BLOCK // level
    codes = expected_codes(level, count + halo, seed=7)
    whole = IntegerCodec(level).decode_window(codes[None])[0]
    np.testing.assert_array_equal(made, whole[: count * level])


@pytest.mark.parametrize("samples", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 513])
def test_a_piece_is_the_endless_stream_cut_to_its_length(samples):
    endless = collect(Stream(*chain(), seed=3), 3)
    np.testing.assert_array_equal(collect(Stream(*chain(), seed=3, samples=samples)), endless[:samples])


def test_no_samples_is_no_block():
    assert list(Stream(*chain(), seed=3, samples=0)) == []


@pytest.mark.parametrize("chunk", [1, 7, 100, 5000])
def test_chunks_change_nothing(chunk):
    np.testing.assert_array_equal(
        collect(Stream(*chain(128), seed=1, chunk=chunk), 2), collect(Stream(*chain(128), seed=1), 2)
    )


def test_a_batch_is_its_pieces_side_by_side():
    both = collect(Stream(*chain(32), seed=5, batch=2), 3)
    assert both.shape == (2, 3 * BLOCK)
    np.testing.assert_array_equal(both[0], collect(Stream(*chain(32), seed=5), 3))
    np.testing.assert_array_equal(both[1], collect(Stream(*chain(32), seed=5, batch=3), 3)[1])
    assert not np.array_equal(both[0], both[1])


def test_seeds_differ_and_repeat():
    first, again, other = (collect(Stream(*chain(128), seed=s), 2) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("stop", [0, 1, 2, 5])
@pytest.mark.parametrize("batch", [None, 2])
def test_resumes_bit_for_bit(tmp_path, stop, batch):
    parts = chain(32)
    whole = collect(Stream(*parts, seed=9, batch=batch, temperature=0.5), 8)
    with Stream(*parts, seed=9, batch=batch, temperature=0.5) as stream:
        head = [next(stream) for _ in range(stop)]
        np.savez(tmp_path / "state.npz", **stream.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        resumed = Stream.resume(state, *parts)
    assert resumed.position == stop * BLOCK
    tail = collect(resumed, 8 - stop)
    np.testing.assert_array_equal(np.concatenate([*head, tail], axis=-1), whole)


def test_a_piece_resumes_with_what_is_left_of_it():
    parts = chain(128)
    with Stream(*parts, seed=9, samples=3 * BLOCK + 5) as stream:
        head = [next(stream), next(stream)]
    tail = collect(Stream.resume(stream.state(), *parts))
    whole = collect(Stream(*parts, seed=9, samples=3 * BLOCK + 5))
    np.testing.assert_array_equal(np.concatenate([*head, tail]), whole)


def test_resumes_in_another_process(tmp_path):
    parts = chain(32)
    whole = collect(Stream(*parts, seed=4), 5)
    with Stream(*parts, seed=4) as stream:
        head = [next(stream) for _ in range(2)]
        np.savez(tmp_path / "state.npz", **stream.state())
    program = (
        "import sys, numpy as np; from test_stream import chain, collect; from vqwave.play.stream import Stream\n"
        "state = np.load(sys.argv[1]); np.save(sys.argv[2], collect(Stream.resume(state, *chain(32)), 3))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(streaming.__file__).parents[2])])
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, tmp_path / "state.npz", tmp_path / "tail.npy"],
        check=True, env=os.environ | {"PYTHONPATH": path},
    )
    np.testing.assert_array_equal(np.concatenate([*head, np.load(tmp_path / "tail.npy")]), whole)


def test_a_state_is_only_resumed_with_what_made_it():
    codec, generators = chain(128)
    state = Stream(codec, generators, seed=1).state()
    with pytest.raises(UserError, match="levels 512, 128, not of levels 512$"):
        Stream.resume(state, *chain(512))
    with pytest.raises(UserError, match="damaged.*generator_128_codes"):
        Stream.resume({k: v for k, v in state.items() if k != "generator_128_codes"}, codec, generators)
    with pytest.raises(UserError, match="version 99"):
        Stream.resume(state | {"version": 99}, codec, generators)
    generators[1].engine = "floats"
    with pytest.raises(UserError, match="other weights, or another engine, of generator_128"):
        Stream.resume(state, codec, generators)


def test_memory_and_look_ahead_do_not_grow():
    stream = Stream(*chain(32), seed=2)
    sizes = []
    with stream:
        for _, _ in zip(range(40), stream, strict=False):
            sizes.append(sum(np.asarray(x).nbytes for x in stream.state().values()))
    # The top runs in bursts of a few blocks, so the size breathes with that period.
    assert max(sizes[8:24]) == max(sizes[24:])
    assert max(sizes) < 100_000


def test_upper_levels_run_ahead_only_as_the_look_ahead_needs():
    with Stream(*chain(), seed=2) as stream:
        for done, _ in zip(range(1, 20), stream, strict=False):
            ahead = {level.config.level: level.blocks - done for level in stream._levels}
            assert 1 <= ahead[8] <= 2
            assert ahead[32] <= 4
            assert ahead[128] <= 6
            assert ahead[512] <= 14


class Broken(IntegerGenerator):
    """Fails once its position passes a bound."""

    def sample(self, context, uniforms, previous, state, **settings):
        if state[0][0, 0] * self.config.level >= 10 * BLOCK:
            raise ValueError(f"level {self.config.level} broke")
        return super().sample(context, uniforms, previous, state, **settings)


@pytest.mark.parametrize("level", [512, 128, 32])
def test_an_error_in_any_thread_reaches_the_caller(level):
    codec, generators = chain(32)
    generators[LEVELS.index(level)] = Broken(level)
    before = threading.active_count()
    stream = Stream(codec, generators, seed=1)
    with pytest.raises(ValueError, match=f"level {level} broke"):
        for _ in stream:
            pass
    assert threading.active_count() == before
    assert list(stream) == []
    with pytest.raises(RuntimeError, match="failed"):
        stream.state()


def test_a_decoder_s_error_reaches_the_caller():
    codec, generators = chain(128)
    codec.decode_window = lambda codes, start: np.full((1, codes.shape[1] * 128), np.nan, np.float32)
    with pytest.raises(UserError, match="vqvae_128 decoded to a number that is not finite"):
        next(Stream(codec, generators))


def test_closing_ends_the_threads_and_the_iteration():
    before = threading.active_count()
    stream = Stream(*chain(128), seed=1)
    next(stream), next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before
    assert list(stream) == []


def test_a_finished_piece_ends_its_threads():
    before = threading.active_count()
    stream = Stream(*chain(128), seed=1, samples=3 * BLOCK)
    assert sum(len(block) for block in stream) == 3 * BLOCK == stream.position
    assert threading.active_count() == before


def test_each_level_has_its_own_settings():
    codec, generators = chain(128)
    made = collect(Stream(codec, generators, seed=6, temperature={128: 1.0, 512: 1.0}), 1)
    np.testing.assert_array_equal(made, collect(Stream(codec, generators, seed=6), 1))
    assert not np.array_equal(made, collect(Stream(codec, generators, seed=6, temperature=[1.0, 0.3]), 1))


def given(samples, down_to=8, seed=0):
    """Codes of a recording of so many samples, by level."""
    random = np.random.default_rng(seed)
    return {level: random.integers(0, CODES, samples // level) for level in LEVELS if level >= down_to}


def blocks_of(stream, blocks=None):
    """(audio, codes by level, log-probabilities by level) of a stream, each in one piece."""
    with stream:
        made = [(b, stream.codes, stream.log_probs) for _, b in zip(range(blocks or 10**9), stream, strict=False)]
    audio, codes, log_probs = zip(*made, strict=True)
    return (np.concatenate(audio, axis=-1), {k: np.concatenate([c[k] for c in codes], axis=-1) for k in codes[0]},
            log_probs[0] and {k: np.concatenate([x[k] for x in log_probs], axis=-1) for k in log_probs[0]})


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("samples", [512, BLOCK - 512, BLOCK, 3 * BLOCK + 1536])
def test_a_prompt_is_followed_code_by_code_at_every_level(level, samples):
    prompt, blocks = given(samples, level), 5
    audio, codes, _ = blocks_of(Stream(*chain(level), seed=7, prompt=prompt), blocks)
    assert sorted(codes, reverse=True) == [x for x in LEVELS if x >= level]
    for at, made in codes.items():
        np.testing.assert_array_equal(made[: samples // at], prompt[at])
        np.testing.assert_array_equal(made, expected_codes(at, blocks * BLOCK // at, seed=7, prompt=prompt))
    halo = chunking.decode_halo(IntegerCodec(level).config)
    whole = expected_codes(level, blocks * BLOCK // level + halo, seed=7, prompt=prompt)
    np.testing.assert_array_equal(audio, IntegerCodec(level).decode_window(whole[None])[0, : len(audio)])


@pytest.mark.parametrize("kept, level", [(512, 128), (512, 8), (128, 32), (128, 8), (32, 8)])
@pytest.mark.parametrize("count", [1, 16, 70, 161])
def test_a_variation_keeps_a_level_and_ends_where_it_ends(kept, level, count):
    source = given(count * kept, kept)[kept]
    codec, generators = chain(level)
    generators = [g for g in generators if g.config.level < kept]
    audio, codes, _ = blocks_of(Stream(codec, generators, seed=3, source_codes=source))
    assert len(audio) == count * kept
    assert sorted(codes, reverse=True) == [x for x in LEVELS if level <= x <= kept]
    for at, made in codes.items():
        np.testing.assert_array_equal(made, expected_codes(at, count * kept // at, seed=3, kept={kept: source}))
    # What the decoder sees ends there too.
    np.testing.assert_array_equal(audio, codec.decode_window(codes[level][None])[0])
    cut, cut_codes, _ = blocks_of(Stream(codec, generators, seed=3, source_codes=source, samples=len(audio) - 20))
    np.testing.assert_array_equal(cut, audio[:-20])
    assert {at: len(x) for at, x in cut_codes.items()} == {at: -(-len(cut) // at) for at in codes}


STEERED = {
    "nothing": {}, "prompt": {"prompt": given(2 * BLOCK + 512, 32)},
    "original": {"prompt": given(2 * BLOCK + 512, 32), "original": np.full(2 * BLOCK + 512, 0.1)},
    "variation": {"source_codes": given(7 * BLOCK + 512)[512]},
}


@pytest.mark.parametrize("how", STEERED)
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("batch", [None, 2])
def test_steered_streams_resume_bit_for_bit(tmp_path, how, stop, batch):
    codec, generators = chain(32)
    generators = generators[1:] if how == "variation" else generators

    def stream():
        return Stream(codec, generators, seed=9, batch=batch, log_probs=True, **STEERED[how])

    unbroken = stream()
    whole = blocks_of(unbroken, 7)
    final = unbroken.bits
    with stream() as first:
        head = [(next(first), first.codes) for _ in range(stop)]
        np.savez(tmp_path / "state.npz", **first.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        resumed = Stream.resume(state, codec, generators)
    assert (resumed.position, resumed.prompt_samples, resumed.samples) == (
        stop * BLOCK, first.prompt_samples, first.samples)
    tail = blocks_of(resumed, 7 - stop)
    assert {level: np.all(bits == final[level]) for level, bits in resumed.bits.items()} == dict.fromkeys(final, True)
    np.testing.assert_array_equal(np.concatenate([*(b for b, _ in head), tail[0]], axis=-1), whole[0])
    for level in whole[1]:
        joined = np.concatenate([*(c[level] for _, c in head), tail[1][level]], axis=-1)
        np.testing.assert_array_equal(joined, whole[1][level])
    for level in whole[2]:
        np.testing.assert_array_equal(tail[2][level], whole[2][level][..., -tail[2][level].shape[-1] :])


def test_the_recording_is_heard_as_it_is_and_then_passes_into_what_continues_it(rng):
    """Its last samples are faded, and from its end on nothing of it is left; whatever block it ends in."""
    for samples in (512, 1024, BLOCK, BLOCK + 512, 2 * BLOCK + 6144):
        recording = rng.normal(0, 0.1, samples).astype(np.float32)
        prompt = given(samples, 128)
        decoded = collect(Stream(*chain(128), seed=1, prompt=prompt), 4)
        made = collect(Stream(*chain(128), seed=1, prompt=prompt, original=recording), 4)
        clear = max(samples - JOIN, (samples - 1) // BLOCK * BLOCK)
        np.testing.assert_array_equal(made[:clear], recording[:clear])
        np.testing.assert_array_equal(made[samples:], decoded[samples:])
        assert abs(made[clear] - recording[clear]) < 0.01 and abs(made[samples - 1] - decoded[samples - 1]) < 0.01
        cut = collect(Stream(*chain(128), seed=1, prompt=prompt, original=recording, samples=samples - 100))
        np.testing.assert_array_equal(cut, made[: samples - 100])


def test_a_batch_continues_one_prompt_and_varies_one_piece():
    for options, parts in (({"prompt": given(BLOCK + 512, 128)}, chain(128)),
                           ({"source_codes": given(5 * BLOCK)[512]}, (chain(128)[0], chain(128)[1][1:]))):
        both = collect(Stream(*parts, seed=5, batch=2, **options), 3)
        np.testing.assert_array_equal(both[0], collect(Stream(*parts, seed=5, **options), 3))
        assert not np.array_equal(both[0], both[1])


def test_log_probabilities_belong_to_the_codes_of_the_block():
    _, codes, log_probs = blocks_of(Stream(*chain(32), seed=2, log_probs=True), 20)
    assert codes.keys() == log_probs.keys()
    for level, chosen in log_probs.items():
        np.testing.assert_array_equal(chosen, -uniforms(2, 0, level, 0, 20 * BLOCK // level))
    assert Stream(*chain(32)).log_probs is None


def test_bits_are_those_of_the_codes_drawn_so_far():
    prompt = given(BLOCK + 512, 128)
    with Stream(*chain(128), seed=2, batch=2, log_probs=True, prompt=prompt, samples=2 * BLOCK + 1000) as stream:
        next(stream)
        assert np.isnan(stream.bits[512]).all() and np.isnan(stream.bits["all"]).all()
        for _ in stream:
            pass
    nats = {level: np.stack([uniforms(2, row, level, 0, -(-(2 * BLOCK + 1000) // level)) for row in range(2)])
            [:, (BLOCK + 512) // level :].astype(float) for level in (512, 128)}
    for level, drawn in nats.items():
        np.testing.assert_allclose(stream.bits[level], drawn.mean(1) / np.log(2))
    np.testing.assert_allclose(stream.bits["all"], np.concatenate(list(nats.values()), axis=1).mean(1) / np.log(2))
    with pytest.raises(ValueError, match="log_probs=True"):
        Stream(*chain(128)).bits  # noqa: B018


@pytest.mark.parametrize("options, error, message", [
    ({"prompt": given(BLOCK, 128), "source_codes": [1]}, UserError, "begins the chain|reads no codes"),
    ({"source_codes": [1]}, UserError, "generator_512 reads no codes"),
    ({"prompt": given(BLOCK, 32)}, ValueError, "the prompt has levels 512, 128, 32; the chain has levels 512, 128"),
    ({"prompt": {512: [1], 128: [1, 2, 3]}}, ValueError, "end at different samples: 512 at 512, 128 at 384"),
    ({"prompt": {512: [1], 128: [1, 2, 3, CODES]}}, ValueError, "the prompt's codes of level 128 are 1 … 64"),
    ({"prompt": {512: [1.5], 128: [1, 2, 3, 4]}}, ValueError, "whole numbers"),
    ({"prompt": given(BLOCK, 128), "original": np.zeros(5)}, ValueError, "original is .5.; the prompt has 8192"),
])
def test_what_cannot_steer_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Stream(*chain(128), **options)


def test_a_variation_is_not_longer_than_what_it_varies():
    codec, generators = chain(128)
    with pytest.raises(UserError, match="1025 samples are asked for, but the piece that is varied has 1024"):
        Stream(codec, generators[1:], source_codes=[1, 2], samples=1025)
    with pytest.raises(UserError, match="give either prompt or source_codes"):
        Stream(codec, generators[1:], source_codes=[1, 2], prompt={128: [1, 2, 3, 4]})


def test_settings_come_from_config_number_list_or_mapping():
    configs = [g.config for g in chain(32)[1]]
    assert settings_per_level(configs)[128] == {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    chosen = settings_per_level(configs, temperature=0, top_k=[1, 2, 3], top_p={32: 0.5})
    assert [chosen[level]["temperature"] for level in (512, 128, 32)] == [0.0, 0.0, 0.0]
    assert [chosen[level]["top_k"] for level in (512, 128, 32)] == [1, 2, 3]
    assert [chosen[level]["top_p"] for level in (512, 128, 32)] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("settings, message", [
    ({"temperature": [1, 2]}, "temperature has 2 values; give one, or one for each of levels 512, 128, 32"),
    ({"temperature": -1}, "temperature is -1; it must be a number of at least 0"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"top_k": 1.5}, "top_k is 1.5; it must be a whole number of at least 0"),
    ({"top_p": 0}, "top_p is 0; it must be a number above 0 and at most 1"),
    ({"top_p": "much"}, "top_p is 'much'"),
    ({"top_p": {8: 0.5}}, "top_p names level 8; the chain has levels 512, 128, 32"),
])
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        settings_per_level([g.config for g in chain(32)[1]], **settings)


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"batch": 0}, {"samples": -5}, {"chunk": 0}, {"seed": 0.5}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(UserError, match=f"{next(iter(arguments))} is .*; it must be a whole number"):
        Stream(*chain(128), **arguments)
