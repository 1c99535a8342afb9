"""A piece begins where its music sounds, long rests are skipped, and pieces are leveled."""

import io

import numpy as np
import pytest

import vqwave
from vqwave.config import GeneratorConfig
from vqwave.data.scores import Score
from vqwave.dsp import metrics
from vqwave.play.blocks import LEVELED_TO, Leveler
from vqwave.play.opening import AS_COMPOSED, LONGEST_REST
from vqwave.play.prompt import Prompt
from vqwave.play.sampling import is_greedy
from vqwave.play.stream import Stream

RATE, BLOCK, LEVEL, CODES = 22050, 8192, 512, 64
INTRO, MUSIC, PAUSE = 700, 500, 300
"""Frames: of the quiet opening, and of music and pauses, which then alternate."""


class Alternating:
    """Code 0, which is quiet, in its opening and pauses, delayed at random by up to 60 frames."""

    def __init__(self, weight_set):
        self.config = GeneratorConfig(name="generator_512", level=LEVEL, num_codes=CODES)
        self.weight_set, self.engine = weight_set, "alternating"
        self.quietness = np.array([[10.0, *[0.0] * (CODES - 1)]], np.float32)

    def initial_state(self, batch):
        return [np.full((batch, 1), -1.0, np.float32)]

    def sample(self, context, uniforms, previous, state, sampling=None, forced=None,
               log_probs=True):
        position = np.where(state[0] < 0, -np.floor(60 * uniforms[:, 0]), state[0])
        steps = position + np.arange(uniforms.shape[1])
        sounds = (steps >= INTRO) & ((steps - INTRO) % (MUSIC + PAUSE) < MUSIC)
        codes = np.where(sounds, 1 + np.floor(uniforms[:, :, 0] * (CODES - 1)), 0)
        state = [(position + uniforms.shape[1]).astype(np.float32)]
        return codes.astype(np.int32)[:, :, None], None, state


class Reluctant(Alternating):
    """Music while codes are drawn. The likeliest code is the one before."""

    def sample(self, context, uniforms, previous, state, sampling=None, forced=None,
               log_probs=True):
        codes, _, state = super().sample(context, uniforms, previous, state)
        if is_greedy(sampling):
            codes = np.broadcast_to(previous % CODES, codes.shape[1:])[None]
        return codes, None, state


class Constant:
    """A codec that plays code c at c / 64."""

    decoder_batch, splits, decode_halo, decode_past = 1, False, 0, 0

    def __init__(self, codec):
        self.config, self.weight_set, self.engine = codec.config, codec.weight_set, "constant"

    def decode_part(self, codes, start, first, count, memory=None, kept=None):
        first -= start
        return np.repeat(codes[:, first : first + count, 0] / CODES, LEVEL, axis=1), None


@pytest.fixture(scope="module")
def parts(tiny_weights):
    codec, [generator, *_], _ = vqwave.load(tiny_weights.codecs,
                                            tiny_weights.generators).chain_engines(512)
    return Constant(codec), [Alternating(generator.weight_set)]


def codes_of(parts, blocks, **options):
    with Stream(*parts, **AS_COMPOSED | {"block": BLOCK} | options) as stream:
        rows = []
        for _ in range(blocks):
            next(stream)
            rows.append(stream.codes[LEVEL])
    return np.concatenate(rows, axis=-1)


def test_a_piece_begins_where_its_music_sounds(parts):
    composed = codes_of(parts, 60, seed=3)
    assert (composed[: INTRO - 60] == 0).all() and composed[INTRO : INTRO + 100].all()
    opened = codes_of(parts, 4, seed=3, intro=False)
    assert opened.all()


def test_long_rests_are_skipped_and_short_ones_kept(parts):
    edges = np.flatnonzero(np.diff(codes_of(parts, 200, seed=3, intro=False) == 0))
    rests, block = np.diff(edges)[::2], BLOCK / LEVEL
    assert len(rests) >= 2 and rests.max() <= LONGEST_REST * RATE / LEVEL + 2 * block
    assert rests.min() > LONGEST_REST * RATE / LEVEL - block


def test_each_piece_of_a_batch_opens_for_itself(parts):
    together = codes_of(parts, 30, seed=3, intro=False, batch=3)
    np.testing.assert_array_equal(together[0], codes_of(parts, 30, seed=3, intro=False))
    assert together[:, 0].all() and (together[1] != together[2]).any()


def test_a_stream_resumes_within_a_rest(parts):
    options = {"seed": 3, "intro": False, "leveling": True}
    with Stream(*parts, block=BLOCK, **options) as stream:
        whole = [next(stream) for _ in range(60)]
    for stop in (1, 34, 37):
        with Stream(*parts, block=BLOCK, **options) as stream:
            for _ in range(stop):
                next(stream)
            file = io.BytesIO()
            np.savez(file, **stream.state())
        file.seek(0)
        with Stream.resume(np.load(file), *parts) as stream:
            for expected in whole[stop:]:
                np.testing.assert_array_equal(next(stream), expected)


def test_a_leveled_piece_is_the_endless_one_cut(parts):
    options = {"seed": 3, "intro": False, "leveling": True, "block": BLOCK}
    with Stream(*parts, **options) as stream:
        endless = np.concatenate([next(stream) for _ in range(3)])
    with Stream(*parts, samples=20000, **options) as stream:
        np.testing.assert_array_equal(np.concatenate(list(stream)), endless[:20000])


@pytest.mark.parametrize("decibels", [-38, -30, -20, -8])
def test_leveling_brings_pieces_to_a_similar_loudness(decibels):
    sine = np.sin(np.arange(60 * BLOCK) * 0.1).astype(np.float32)
    sound = sine * np.float32(np.sqrt(2) * 10 ** (decibels / 20))
    leveler = Leveler.start(2)
    blocks = [leveler.apply(np.stack([block, 0 * block]), RATE)
              for block in sound.reshape(60, BLOCK)]
    leveled, silent = np.concatenate(blocks, axis=1)
    before, after = (abs(metrics.rms_db(x[-BLOCK:]) - LEVELED_TO) for x in (sound, leveled))
    assert after <= max(0.3 * before, before - 9.5) + 0.01
    assert not silent.any() and np.abs(leveled).max() <= 1
    gains = leveled[1:] / np.where(np.abs(sound[1:]) < 0.1 * np.abs(sound).max(), np.nan, sound[1:])
    assert np.nanmax(np.abs(np.diff(gains))) < 1e-3  # no steps


def test_a_sudden_peak_of_a_leveled_block_does_not_clip():
    leveler = Leveler.start(1)
    quiet = 0.02 * np.sin(np.arange(BLOCK, dtype=np.float32) * 0.1)[None]
    for _ in range(60):
        raised = leveler.apply(quiet, RATE)
    loud = quiet.copy()
    loud[0, 200:204] = 0.9
    limited = leveler.apply(loud, RATE)
    assert np.abs(raised).max() > 2 * np.abs(quiet).max() and 0.8 < np.abs(limited).max() <= 1
    assert abs(limited[0, 0] - quiet[0, 0] * raised[0, -1] / quiet[0, -1]) < 0.01


@pytest.mark.parametrize("peak", [0.9, 0.99, 2.0])
def test_only_blocks_of_a_prompt_that_would_clip_are_lowered(peak):
    sound = np.float32(peak) * np.sin(np.arange(8 * BLOCK, dtype=np.float32) * 0.1).reshape(8, 1, BLOCK)
    leveler = Leveler.start(1, Prompt({}, sound.reshape(-1)))
    played = [leveler.apply(block, RATE, prompt=True) for block in sound]
    if peak < 1:
        np.testing.assert_array_equal(played, sound)
    assert 0.5 < np.abs(played).max() <= 1 and metrics.rms_db(played[-1]) > -4


def test_new_music_gets_the_loudness_of_its_prompt_and_a_given_score_is_raised():
    tone = np.sin(np.arange(60 * BLOCK, dtype=np.float32) * 0.1)
    prompt = Prompt({}, 0.3 * tone[: 4 * BLOCK])
    quiet_score = Score(*(np.zeros(0) for _ in range(6)), np.arange(9.0))
    loudness = []
    for begin, level in ((prompt, 0.1), (quiet_score, 0.01), (None, 0.01)):
        leveler = Leveler.start(1, begin)
        sound = level * tone.reshape(60, 1, BLOCK)
        loudness.append([metrics.rms_db(leveler.apply(block, RATE)) for block in sound])
    assert leveler.begins == 0 and Leveler.start(1, prompt).begins == 4 * BLOCK
    continued, given, composed = loudness
    assert metrics.rms_db(prompt.audio) - 3 < continued[20] < metrics.rms_db(prompt.audio)
    assert given[3] > composed[3] + 8 and composed[-1] < given[-1] < LEVELED_TO


def test_the_shipped_music_begins_at_once():
    music = vqwave.load()
    for seed in (2, 10):
        sound = music.generate(seconds=1.5, seed=seed)
        assert max(metrics.rms_db(x) for x in sound.reshape(15, -1)[:, :2200]) > -30


def test_a_greedy_piece_begins_where_drawn_music_sounds(parts):
    codec, [generator] = parts
    for intro in (False, True):
        with Stream(codec, [Reluctant(generator.weight_set)], block=BLOCK, seed=1, samples=BLOCK,
                    sampling={LEVEL: {"temperature": 0}}, intro=intro, leveling=False) as stream:
            assert (next(stream).max() > 0) == (not intro)
