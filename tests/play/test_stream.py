"""A stream is a function of its seed alone: not of threads, stops or batches."""

import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from vqwave.codecs import CodecConfig
from vqwave.errors import UserError
from vqwave.generators import GeneratorConfig
from vqwave.io.weights import WeightSet
from vqwave.play import prompt as prompts
from vqwave.play.chain import Engines
from vqwave.play.engine import CodecEngine
from vqwave.play.prompt import Prompt, Variation
from vqwave.play.sampling import uniforms
from vqwave.play.stream import AS_COMPOSED, Stream
from vqwave.presets import load_preset

LEVELS = load_preset("tiny").chain.sizes
BLOCK = 8192
CODES = 64
HALO_DILATIONS = (1, 2, 4, 8, 16, 32)
PLAIN = dict.fromkeys(LEVELS, 1)
"""A layout: how many books a frame of each level has, from the top down."""
LAYOUTS = {
    "plain": PLAIN, "books": {512: 1, 128: 3, 32: 2, 8: 1},
    "books at both ends": {512: 3, 128: 1, 32: 2},
    "other levels": {2048: 2, 512: 3, 128: 1}, "other ratios": {1024: 1, 64: 2, 32: 1},
    "one level": {256: 3},
}


def origin(config):
    return WeightSet(Path("nowhere"), config.name, "", config, {}, "checksum", {})


class IntegerGenerator:
    """Codes by whole-number arithmetic: right only where all that they depend on lines up."""

    def __init__(self, level, dilations=HALO_DILATIONS, layout=PLAIN):
        levels = list(layout)
        above = levels[levels.index(level) - 1] if level != levels[0] else None
        source = [{"kind": "codes", "level": above, "num_codes": CODES, "books": layout[above],
                   "channels": 3 * layout[above], "dilations": dilations}] if above else []
        self.config = GeneratorConfig(name=f"generator_{level}", level=level, num_codes=CODES,
                                      books=layout[level],
                                      core={"kind": "lstm", "units": 2}, conditions=source)
        self.weight_set, self.engine = origin(self.config), "integers"

    def context(self, inputs):
        """The source frame at the position, and at both ends of what a context sees."""
        source = inputs["source"]
        halo, count = self.config.halo, source.shape[1] - 2 * self.config.halo
        assert source.shape[2] == self.config.source.books
        seen = np.concatenate([source[:, halo : halo + count], source[:, :count],
                               source[:, 2 * halo :]], axis=-1)
        return np.repeat(seen, self.config.ratio, axis=1).astype(np.float32)

    def initial_state(self, batch):
        return [np.zeros((batch, 2), np.float32)]

    def sample(self, context, uniforms, previous, state, sampling=None, forced=None,
               log_probs=True):
        """The log-probability is minus the uniform number, so that it tells position and book."""
        batch, count, books = uniforms.shape
        assert previous.shape == (batch, books) == (batch, self.config.books)
        sampling = sampling or self.config.sampling
        codes = np.empty((batch, count, books), np.int32)
        position = state[0][:, 0].copy()
        for t in range(count):
            seen = None if context is None else context[:, t]
            given = None if forced is None else forced[:, t]
            codes[:, t] = previous = frame(seen, uniforms[:, t], previous, position,
                                           sampling.temperature, given)
            position += 1
        return codes, -uniforms if log_probs else None, [np.stack([position, position], axis=1)]


def frame(seen, uniform, previous, position, temperature, given=None):
    """The codes of one step, int32 [batch, books], book by book; `given` where not negative."""
    mixed = 11 * position + np.floor(100 * temperature)
    mixed = mixed + previous @ (1 + 2 * np.arange(previous.shape[1]))
    if seen is not None:
        mixed = mixed + seen @ (3 + 2 * np.arange(seen.shape[1]))
    codes = []
    for book in range(uniform.shape[1]):
        code = ((mixed + 17 * book + np.floor(uniform[:, book] * 1000)) % CODES).astype(np.int32)
        codes.append(code if given is None else np.where(given[:, book] < 0, code, given[:, book]))
        mixed = mixed + (13 + 2 * book) * codes[-1]
    return np.stack(codes, axis=1)


class IntegerCodec:
    """Each sample tells its frame, its place, and the frames at both ends of what is seen."""

    splits, decode_past = False, 0
    decode_part = CodecEngine.decode_part

    def __init__(self, level, books=1):
        # The more so at the top: there more is seen than a block.
        self.decode_halo = 20 if level >= 512 else 7
        quantizer = {"kind": "residual", "books": books} if books > 1 else {"kind": "ema"}
        self.config = CodecConfig(name=f"vqvae_{level}", sample_rate=22050,
                                  stages=[{"stride": level, "channels": 4}],
                                  quantizer=quantizer | {"num_codes": CODES})
        self.weight_set, self.engine = origin(self.config), "integers"

    def decode_window(self, codes, start=0):
        level, halo = self.config.level, self.decode_halo
        assert codes.ndim == 3 and codes.shape[2] == self.config.books
        codes = codes @ (1 + 2 * np.arange(self.config.books)) % CODES
        padded = np.pad(codes, ((0, 0), (halo, halo)))
        turned = (codes + start + np.arange(codes.shape[1])) % CODES
        told = turned + 64 * padded[:, : codes.shape[1]] + 4096 * padded[:, 2 * halo :]
        audio = told[:, :, None] * 512.0 + np.arange(level)
        return (audio.reshape(len(codes), -1) / 2**28).astype(np.float32)


def chain(down_to=None, layout=PLAIN, **kwargs):
    """(codec, generators) of the levels from the top down to one."""
    down_to = down_to or min(layout)
    return (IntegerCodec(down_to, layout[down_to]),
            [IntegerGenerator(level, layout=layout, **kwargs) for level in layout if level
             >= down_to])


def start(parts, music=None, **options):
    return Stream(Engines(*parts, music=music), **AS_COMPOSED | {"block": BLOCK} | options)


def expected_codes(level, count, seed, stream=0, temperature=1.0, prompt=None, kept=None,
                   layout=PLAIN):
    """The first `count` frames of a level, int32 [count, books], code by code from the definition.

    prompt: {level: frames that the piece begins with}; kept: {level: frames}, the whole piece at
    one level. A piece of which a level is kept ends where that ends.
    """
    if kept and level in kept:
        return kept[level]
    config = IntegerGenerator(level, layout=layout).config
    halo, books, ratio = config.halo, config.books, config.ratio
    source = None
    if config.source:
        source = expected_codes(config.source_level, -(-count // ratio) + halo, seed, stream,
                                temperature, prompt, kept,
                                layout)
        outside = np.full((halo, config.source.books), config.pad_token)
        source = np.concatenate([outside, source])
        if kept:
            count = min(count, (len(source) - halo) * ratio)
            source = np.concatenate([source, outside])
    draws = [uniforms(seed, stream, level, 0, count, book) for book in range(books)]
    given = prompt[level] if prompt else []
    frames, previous = [], [config.start_token] * books
    for t in range(count):
        seen = [] if source is None else np.concatenate([source[t // ratio + n * halo]
                                                         for n in (1, 0, 2)])
        mixed = 11 * t + sum((1 + 2 * k) * previous[k] for k in range(books)) + int(100
                                                                                    * temperature)
        mixed += sum((3 + 2 * i) * int(x) for i, x in enumerate(seen))
        codes = []
        for k in range(books):
            code = (mixed + 17 * k + int(draws[k][t] * np.float32(1000))) % CODES
            codes.append(int(given[t][k]) if t < len(given) else code)
            mixed += (13 + 2 * k) * codes[k]
        frames.append(codes)
        previous = codes
    return np.array(frames, np.int32).reshape(-1, books)


def without_book(codes):
    """Frames [..., books] as a stream shows them: codes [...] where there is one book."""
    return codes[..., 0] if codes.shape[-1] == 1 else codes


def collect(stream, blocks=None):
    with stream:
        return np.concatenate(list(islice(stream, blocks)), axis=-1)


def given(samples, down_to=0, seed=0, layout=PLAIN):
    """Frames of a recording of so many samples, by level: int32 [samples / level, books]."""
    random = np.random.default_rng(seed)
    return {level: random.integers(0, CODES, (samples // level, books))
            for level, books in layout.items()
            if level >= down_to}


def prompted(codes, audio=None, keep_original=False):
    """A `Prompt` of frames by level, as a caller has them: without an axis of one book."""
    return Prompt({level: without_book(x) for level, x in codes.items()}, audio, keep_original)


def varied(level, frames):
    return Variation(level, without_book(frames), len(frames) * level)


def blocks_of(stream, blocks=None):
    """(audio, codes by level, log-probabilities by level) of a stream, each in one piece."""
    with stream:
        parts = [(block, stream.codes, stream.log_probs) for block in islice(stream, blocks)]
    audio, *noted = zip(*parts, strict=True)
    axis = 1 if stream.batch else 0
    return (np.concatenate(audio, axis),
            *({level: np.concatenate([x[level] for x in values], axis) for level in values[0] or ()}
              for values in noted))


def check_stream(layout, level, blocks=None, prompt=None, kept=None):
    """Codes and sound of a stream are as defined; returns the sound. prompt, kept: as above."""
    codec, generators = chain(level, layout)
    top, begin = max(layout), prompt and prompted(prompt)
    if kept:
        (top, frames), = kept.items()
        begin, generators = varied(top, frames), [g for g in generators if g.config.level < top]
    audio, codes, _ = blocks_of(start((codec, generators), seed=7, begin=begin), blocks)
    assert list(codes) == [x for x in layout if level <= x <= top]

    def expected(at, more=0):
        return expected_codes(at, len(audio) // at + more, 7, prompt=prompt, kept=kept,
                              layout=layout)

    for at, frames in codes.items():
        np.testing.assert_array_equal(frames, without_book(expected(at)))
    whole = expected(level, codec.decode_halo)
    np.testing.assert_array_equal(audio, codec.decode_window(whole[None])[0, : len(audio)])
    return audio


@pytest.mark.parametrize("name, level",
                         [(name, level) for name, layout in LAYOUTS.items() for level in layout])
def test_codes_and_samples_line_up_at_every_level(name, level):
    check_stream(LAYOUTS[name], level, 3)


@pytest.mark.parametrize("block", [512, 1024, 3 * 512, 16384])
def test_the_block_size_does_not_change_the_music(block):
    whole = collect(start(chain(32), seed=3), 3)
    made = collect(start(chain(32), seed=3, block=block), -(-len(whole) // block))
    np.testing.assert_array_equal(made[: len(whole)], whole)


class LocalCodec(IntegerCodec):
    """Looks around, and hears nothing but the frame itself."""

    def decode_window(self, codes, start=0):
        told = codes @ (1 + np.arange(self.config.books)) / CODES
        return np.repeat(told, self.config.level, axis=1).astype(np.float32)


def test_a_decoder_that_looks_less_far_ahead_waits_for_fewer_codes():
    _, (generator,) = chain(512, {512: 3})
    codec, options = LocalCodec(512, 3), {"seed": 3, "block": 512, "samples": 40 * 512}
    whole = start((codec, [generator]), **options)
    early = start((codec, [generator]), ahead=0.07, **options)
    expected, made = [], []
    for stream, blocks, beyond in ((whole, expected, codec.decode_halo), (early, made, 3)):
        blocks.append(next(stream))
        assert stream._chain.bottom.stop == 1 + beyond
        blocks += stream
    np.testing.assert_allclose(np.concatenate(made), np.concatenate(expected), atol=1e-6)


class CountingCodec(IntegerCodec):
    """Sounds the number of the run that it is decoded in."""

    runs = 0

    def decode_window(self, codes, start=0):
        self.runs += 1
        return np.full((len(codes), codes.shape[1] * self.config.level), self.runs, np.float32)


def test_blocks_are_cross_faded_if_the_decoder_sees_less_than_its_halo():
    _, (generator,) = chain(512, {512: 3})
    stream = start((CountingCodec(512, 3), [generator]), ahead=0.07, block=1024,
                   samples=5 * 1024, seed=3)
    first, *others = stream
    assert set(first) == {1}
    for run, block in enumerate(others, 2):
        # A frame, 512 samples, is as long as it takes at least.
        assert abs(block[0] - (run - 1)) < 0.02 and set(block[512:]) == {run}
        assert (np.diff(block) >= 0).all()


@pytest.mark.parametrize("level", [512, 128, 8])
def test_a_look_ahead_of_the_whole_halo_changes_nothing(level):
    codec, _ = parts = chain(level)
    options = {"seed": 3, "samples": 5 * BLOCK}
    ahead = codec.decode_halo * level / codec.config.sample_rate
    expected = collect(start(parts, **options))
    np.testing.assert_array_equal(collect(start(parts, ahead=ahead, **options)), expected)


def test_a_block_is_a_multiple_of_the_top_level():
    codec, generators = chain(32)
    for options in ({}, {"begin": varied(512, given(BLOCK)[512])}):
        parts = codec, generators[len(options):]
        for bad, message in ((8448, "a multiple of the top level, 512"),
                             (0, "a whole number from 1 to 1048576"), (512.5, "a whole number"),
                             (10**9, "a whole number from 1 to")):
            with pytest.raises(UserError, match=f"block is {bad}; it must be {message}"):
                start(parts, block=bad, **options)


@pytest.mark.parametrize("samples", [0, 1, BLOCK, 2 * BLOCK + 513])
def test_a_piece_is_the_endless_stream_cut_to_its_length(samples):
    endless = collect(start(chain(), seed=3), 3)
    piece = np.concatenate([np.empty(0), *start(chain(), seed=3, samples=samples)])
    np.testing.assert_array_equal(piece, endless[:samples])


def test_a_state_resumes_only_with_its_own_weights():
    codec, generators = chain(128)
    state = start((codec, generators), seed=1).state()
    with pytest.raises(UserError, match="generator_512, generator_128, not of vqvae_512, generator_512$"):
        Stream.resume(state, Engines(*chain(512)))
    with pytest.raises(UserError, match="version 99"):
        Stream.resume(state | {"version": 99}, Engines(codec, generators))
    generators[1].engine = "floats"
    with pytest.raises(UserError, match="other weights, or another engine, of generator_128"):
        Stream.resume(state, Engines(codec, generators))


@pytest.mark.parametrize("past", [0.0, 4 * BLOCK / 22050])
def test_memory_does_not_grow(past):
    sizes = []
    with start(chain(32, LAYOUTS["books"]), seed=2, past=past) as stream:
        for _, _ in zip(range(40), stream, strict=False):
            sizes.append(sum(np.asarray(x).nbytes for x in stream.state().values()))
    # The top runs in bursts of a few blocks, so the size breathes with that period.
    assert max(sizes[8:24]) == max(sizes[24:]) < 200_000 + 4 * 22050 * past * 3


class Broken(IntegerGenerator):
    def sample(self, context, uniforms, previous, state, *settings):
        if state[0][0, 0] * self.config.level >= 10 * BLOCK:
            raise ValueError(f"level {self.config.level} broke")
        return super().sample(context, uniforms, previous, state, *settings)


@pytest.mark.parametrize("level", [512, 128, 32])
def test_an_error_in_any_thread_reaches_the_caller(level):
    codec, generators = chain(32)
    generators[LEVELS.index(level)] = Broken(level)
    before = threading.active_count()
    stream = start((codec, generators), seed=1)
    with pytest.raises(ValueError, match=f"level {level} broke"):
        for _ in stream:
            pass
    assert threading.active_count() == before
    assert list(stream) == []
    with pytest.raises(RuntimeError, match="failed"):
        stream.state()


@pytest.mark.parametrize("samples", [None, 3 * BLOCK])
def test_the_end_of_a_stream_ends_its_threads(samples):
    before = threading.active_count()
    stream = start(chain(128), seed=1, samples=samples)
    next(stream), next(stream)
    assert threading.active_count() > before
    if samples:
        assert sum(map(len, stream)) == BLOCK and stream.position == samples
    else:
        stream.close()
    assert threading.active_count() == before and list(stream) == []


@pytest.mark.parametrize("name", ["plain", "books", "other levels", "other ratios"])
def test_a_prompt_is_followed_code_by_code_at_every_level(name):
    layout = LAYOUTS[name]
    top = max(layout)
    for level, samples in zip(layout, (top, BLOCK - top, BLOCK, 3 * BLOCK + 3 * top), strict=False):
        check_stream(layout, level, 5, prompt=given(samples, level, layout=layout))


@pytest.mark.parametrize("name, kept, level, count", [
    ("plain", 512, 128, 1), ("plain", 512, 8, 16), ("plain", 32, 8, 161), ("books", 512, 8, 70),
    ("books", 128, 32, 161), ("other levels", 2048, 128, 70), ("other levels", 512, 128, 1),
    ("other ratios", 1024, 64, 16), ("other ratios", 64, 32, 161),
])
def test_a_variation_keeps_a_level_and_its_length(name, kept, level, count):
    layout = LAYOUTS[name]
    source = given(count * kept, kept, layout=layout)[kept]
    audio = check_stream(layout, level, kept={kept: source})
    assert len(audio) == count * kept
    codec, generators = chain(level, layout)
    parts = codec, [g for g in generators if g.config.level < kept]
    cut, codes, _ = blocks_of(start(parts, seed=7, begin=varied(kept, source),
                                    samples=len(audio) - 20))
    np.testing.assert_array_equal(cut, audio[:-20])
    assert {at: len(x) for at, x in codes.items()} == {at: -(-len(cut) // at) for at in codes}


def test_the_recording_plays_unchanged_and_fades_to_its_continuation(rng):
    join = round(prompts.JOIN * 22050)
    for samples in (512, 1024, BLOCK, BLOCK + 512, 2 * BLOCK + 6144):
        recording, codes = rng.normal(0, 0.1, samples).astype(np.float32), given(samples, 128)
        kept = prompted(codes, recording, keep_original=True)
        decoded = collect(start(chain(128), seed=1, begin=prompted(codes, recording)), 4)
        heard = collect(start(chain(128), seed=1, begin=kept), 4)
        clear, end = max(samples - join, (samples - 1) // BLOCK * BLOCK), samples - 1
        np.testing.assert_array_equal(heard[:clear], recording[:clear])
        np.testing.assert_array_equal(heard[samples:], decoded[samples:])
        assert abs(heard[clear] - recording[clear]) < 0.01 > abs(heard[end] - decoded[end])
        cut = collect(start(chain(128), seed=1, begin=kept, samples=samples - 100))
        np.testing.assert_array_equal(cut, heard[: samples - 100])


@pytest.mark.parametrize("begin, message", [
    (Prompt(given(BLOCK, 32), None), "the prompt has levels"),
    (Prompt({512: [1], 128: [1, 2, 3]}, None), "end at different samples"),
    (Prompt({512: [1], 128: [1, 2, 3, CODES]}, None), "codes of 128x are 1 … 64"),
    (Prompt({512: [[1, 2]], 128: [1, 2, 3, 4]}, None), "codes of 512x are int64"),
    (prompted(given(BLOCK, 128), np.zeros(5), True), r"the prompt's audio is \[5\]"),
])
def test_invalid_beginnings_raise_user_error(begin, message):
    with pytest.raises(UserError, match=message):
        start(chain(128), begin=begin)
