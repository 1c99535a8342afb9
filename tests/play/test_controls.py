"""A change holds from the sample that `set` names, and replays and resumes bit for bit."""

import dataclasses
import threading

import numpy as np
import pytest
from test_stream import (
    BLOCK,
    CODES,
    LAYOUTS,
    IntegerGenerator,
    blocks_of,
    chain,
    collect,
    start,
)

from vqwave.errors import UserError
from vqwave.play import blocks, controls, session
from vqwave.play.chain import Engines
from vqwave.play.prompt import Prompt, Variation

RAMP, SEAM, PASSAGE = (round(seconds * 22050)
                       for seconds in (blocks.RAMP, blocks.SEAM, blocks.PASSAGE))
PAST = 4 * BLOCK / 22050
WILD = {512: {"temperature": 0.5}, 128: {"temperature": 0.25, "top_p": 0.5}}


def perform(stream, changes, blocks):
    """The stream's next blocks, [..., samples], with each change made before the block it names."""
    parts = []
    for i in range(stream.position // BLOCK, stream.position // BLOCK + blocks):
        for at, change in changes:
            if at == i:
                assert stream.set(**change) == i * BLOCK
        parts.append(next(stream))
    return np.concatenate(parts, axis=-1)


def codes_of(stream, blocks):
    """(audio, codes by level) of the next blocks, of a stream that stays open."""
    sounds, codes = zip(*((next(stream), stream.codes) for _ in range(blocks)), strict=True)
    return np.concatenate(sounds), {x: np.concatenate([c[x] for c in codes]) for x in codes[0]}


def block(audio, i):
    return audio[..., i * BLOCK : (i + 1) * BLOCK]


def test_loudness_changes_in_a_ramp_from_the_named_block():
    whole = collect(start(chain(128), seed=3), 6)
    heard = perform(start(chain(128), seed=3), [(2, {"loudness": -6.0}), (4, {"loudness": -80})], 6)
    gain = np.divide(heard, whole, out=np.ones_like(whole), where=whole != 0)
    assert (gain[: 2 * BLOCK] == 1).all()
    ramp = gain[2 * BLOCK : 2 * BLOCK + RAMP]
    assert np.abs(np.diff(ramp)).max() < 0.01
    np.testing.assert_allclose(gain[2 * BLOCK + RAMP : 4 * BLOCK], 10 ** -0.3, rtol=1e-5)
    assert not heard[4 * BLOCK + RAMP :].any()


def test_sampling_holds_for_each_level_from_its_next_block():
    parts, begin = chain(32), 3 * BLOCK // 512
    plain, codes, _ = blocks_of(start(parts, seed=3), 16)
    stream = start(parts, seed=3)
    head, _ = codes_of(stream, 3)
    first = stream._chain.levels[0].stop
    assert stream.set(sampling={512: {"temperature": 0.5}}) == 3 * BLOCK
    tail, changed, _ = blocks_of(stream, 13)
    np.testing.assert_array_equal(changed[512][: first - begin], codes[512][begin:first])
    assert (changed[512][first - begin :][:4] != codes[512][first : first + 4]).any()
    assert stream.sampling["512x"].temperature == 0.5 and stream.sampling["128x"].temperature == 1.0
    np.testing.assert_array_equal(head, plain[: 3 * BLOCK])
    assert not np.array_equal(tail, plain[3 * BLOCK :])


def test_a_jump_passes_to_the_piece_of_the_other_seed():
    whole, other = (collect(start(chain(128), seed=seed), 8) for seed in (3, 77))
    stream = start(chain(128), seed=3)
    heard = perform(stream, [(3, {"jump": 77})], 8)
    np.testing.assert_array_equal(heard[: 3 * BLOCK], whole[: 3 * BLOCK])
    begins = 3 * BLOCK + PASSAGE
    np.testing.assert_array_equal(heard[begins:], other[PASSAGE : 5 * BLOCK])
    mixed = blocks.cross_fade(whole[3 * BLOCK : begins], other[: PASSAGE])
    np.testing.assert_array_equal(heard[3 * BLOCK : begins], mixed)
    assert stream.seed == 77


class Music:
    """What stands for a `VQWave`: folders of weights by name, and a recording's codes."""

    def __init__(self, parts, **others):
        self.parts, self.others = parts, others

    def open(self, name):
        if name not in self.others:
            raise UserError(f"{name}: no weights here")
        return self.others[name]

    def chain_engines(self):
        return Engines(*self.parts, music=self)

    def prompt(self, file, seconds=5.0, start=0.0, level=None):
        assert file == "song.mp3" and level == self.parts[1][-1].config.level
        rng, count = np.random.default_rng(round(start)), round(seconds) * BLOCK
        configs = [g.config for g in self.parts[1]]
        return Prompt({c.level: rng.integers(0, CODES, (count // c.level, c.books), np.int32)
                       for c in configs}, np.zeros(count, np.float32))


OTHER = chain(128, LAYOUTS["other levels"])
MUSIC = Music(chain(128), other=Music(OTHER))


def test_a_jump_to_other_weights_fades_to_their_music():
    whole, other = collect(start(chain(128), seed=3), 3), collect(start(OTHER, seed=77), 6)
    stream = start(chain(128), seed=3, music=MUSIC, past=PAST)
    heard = perform(stream, [(2, {"jump": 77, "weights": "other"})], 6)
    np.testing.assert_array_equal(heard[: 2 * BLOCK], whole[: 2 * BLOCK])
    begins = 2 * BLOCK + PASSAGE
    np.testing.assert_array_equal(heard[begins:], other[PASSAGE : 4 * BLOCK])
    assert sorted(stream.codes) == [128, 512, 2048]
    with pytest.raises(UserError, match="sampling: no level is called '8'; there are 2048x, 512x, 128x"):
        stream.set(sampling={8: {"temperature": 0.5}})


class Leaning(IntegerGenerator):
    """Draws the code that a bias favours most, where there is one."""

    def sample(self, *given, bias=None, **more):
        if bias is None:
            return super().sample(*given, **more)
        assert bias.shape == (self.config.books, CODES)
        forced = np.broadcast_to(bias.argmax(-1), given[1].shape).astype(np.int32)
        return super().sample(*given[:5], forced, *given[6:], **more)


class Sounding(Music):
    """Code c of level 512 sounds pitch class c, up to 11; level 128 sounds nothing that is known."""

    def prompt(self, *given, **more):
        prompt = super().prompt(*given, **more)
        return dataclasses.replace(prompt, pitches={512: self.pitches(512)})

    def pitches(self, level):
        return None if level == 128 else np.eye(CODES, 12, dtype=np.float32)[None]


def leaning():
    codec, generators = chain(128)
    generators[0] = Leaning(512)
    return codec, generators


def test_held_notes_draw_the_levels_that_sound_until_they_are_released():
    parts = leaning()
    stream = start(parts, seed=3, music=Sounding(parts))
    codes_of(stream, 2)
    ahead = stream._chain.levels[0].stop - 2 * BLOCK // 512
    stream.set(notes=[67], pull=3)
    _, codes = codes_of(stream, 12)
    assert (codes[512][ahead:] == 7).all() and (codes[512][:ahead] != 7).any()
    ahead = stream._chain.levels[0].stop - 14 * BLOCK // 512
    stream.set(notes=[])
    assert (codes_of(stream, 12)[1][512][ahead:] != 7).any()


def test_a_continuation_keeps_to_its_recordings_pitches():
    recording = {512: np.full(BLOCK // 512, 5, np.int32), 128: np.zeros(BLOCK // 128, np.int32)}
    sounded = {512: np.eye(CODES, 12, dtype=np.float32)[None]}

    def codes_with(stay=None, **options):
        begin = Prompt(recording, np.zeros(BLOCK, np.float32), **options)
        stream = start(leaning(), seed=3, begin=begin)
        stream.set(stay=stay)
        return codes_of(stream, 8)[1][512]

    free = codes_with()
    assert (free[BLOCK // 512 :] != 5).any()
    assert (codes_with(pitches=sounded) == 5).all()
    np.testing.assert_array_equal(codes_with(0, pitches=sounded), free)
    begin = Prompt(recording, np.zeros(BLOCK, np.float32), pitches=sounded, stay=0)
    np.testing.assert_array_equal(codes_of(start(leaning(), seed=3, begin=begin), 8)[1][512], free)


def steered():
    """A stream in which every field of the state has a value, and its engines."""
    parts = leaning()
    given = {512: np.full(6 * BLOCK // 512, 5, np.int32), 128: np.zeros(6 * BLOCK // 128, np.int32)}
    begin = Prompt(given, np.full(6 * BLOCK, 0.1, np.float32), keep_original=True,
                   pitches={512: np.eye(CODES, 12, dtype=np.float32)[None]}, stay=0.75)
    stream = start(parts, begin=begin, music=Sounding(parts), **STEERED)
    changes = [(1, {"loudness": -6.0, "transpose": 3, "sampling": WILD}),
               (2, {"notes": [60, 64], "pull": 4.0, "stay": 0.5}),
               (3, {"freeze": BLOCK / 22050, "mutate": 0.3}), (4, {"hold": 2 * BLOCK / 22050})]
    perform(stream, changes, 5)
    stream.set(hold=BLOCK / 22050)  # asked for and not yet made
    return stream, parts


STEERED = {"seed": 3, "batch": 2, "log_probs": True, "past": PAST, "ahead": 0.02, "samples": 40 * BLOCK,
           "leveling": True}


def test_held_blocks_repeat_and_the_music_then_continues():
    whole = collect(start(chain(128), seed=3), 8)
    stream = start(chain(128), seed=3, past=PAST)
    heard = perform(stream, [(4, {"hold": 2 * BLOCK / 22050}), (8, {"hold": 0})], 12)
    np.testing.assert_array_equal(heard[: 4 * BLOCK], whole[: 4 * BLOCK])
    seam = blocks.cross_fade(block(whole, 4)[:SEAM], block(whole, 2)[:SEAM])
    for again in (4, 6):
        held = heard[again * BLOCK : (again + 2) * BLOCK]
        np.testing.assert_array_equal(held[:SEAM], seam)
        np.testing.assert_array_equal(held[SEAM:], whole[2 * BLOCK + SEAM : 4 * BLOCK])
    np.testing.assert_array_equal(heard[8 * BLOCK :], whole[4 * BLOCK :])


@pytest.mark.parametrize("name, top, bottom", [("plain", 512, 32), ("one level", 256, 256)])
def test_a_frozen_level_repeats_its_codes_and_finer_levels_go_on(name, top, bottom):
    frames, stream = 2 * BLOCK // top, start(chain(bottom, LAYOUTS[name]), seed=3, past=PAST)
    _, before = codes_of(stream, 4)
    stop = stream._chain.levels[0].stop
    stream.set(freeze=2 * BLOCK / 22050)
    _, after = codes_of(stream, 16)
    codes = {level: np.concatenate([before[level], after[level]]) for level in after}
    frozen = codes[top][stop - frames :]
    np.testing.assert_array_equal(frozen[frames:], frozen[:-frames])
    if bottom < top:  # it reads what is repeated, and draws other codes
        fine, length = codes[bottom][stop * top // bottom :], 2 * BLOCK // bottom
        assert (fine[length:] != fine[:-length]).mean() > 0.5
    first = stream._chain.levels[0].stop - 20 * BLOCK // top
    stream.set(freeze=0)
    free = codes_of(stream, 16)[1][top]
    assert (free[first + frames :] != free[first:-frames]).mean() > 0.5


def test_frozen_codes_mutate_by_the_share_and_keep_their_mutations():
    frames, stream = BLOCK // 512, start(chain(128), seed=3, past=PAST)
    codes_of(stream, 4)
    stream.set(freeze=BLOCK / 22050, mutate=0.25)
    codes_of(stream, 8)
    rounds = codes_of(stream, 60)[1][512].reshape(60, frames)
    changed = (rounds[1:] != rounds[:-1]).mean()
    assert 0.15 < changed < 0.35
    stream.set(mutate=0)
    codes_of(stream, 8)
    still = codes_of(stream, 8)[1][512].reshape(8, frames)
    np.testing.assert_array_equal(still[1:], still[:-1])
    assert (still[0] != rounds[0]).any(), "what mutated is kept"


def test_every_control_describes_itself_to_a_player():
    stream = start(chain(128), seed=3, past=PAST)
    next(stream)
    for name, control in controls.CONTROLS.items():
        least, most = control.least, control.most
        assert control.name == name and control.about and control.step > 0
        assert least <= control.default <= most
        assert (control.clip(least - 1), control.clip(most + 1)) == (least, most)
        if stream.sampled.get(name):
            for value in (least, most):
                stream.set(sampling={512: {name: value}})
        elif not control.score and name not in ("guidance", "hold", "freeze"):  # up to what the stream keeps
            for value in (least, most, control.default):
                stream.set(**{name: value})
            for value in (least - 0.1, most + 0.1):
                with pytest.raises(UserError, match=f"{name} is"):
                    stream.set(**{name: value})


LEANING = leaning()


def test_any_thread_may_set_and_the_returned_samples_replay_the_music():
    stream = start(chain(128), seed=3, past=PAST)
    first, score = next(stream), []

    def turn():
        for i in range(30):
            change = [{"loudness": -i / 2}, {"jump": i},
                      {"sampling": {512: {"temperature": i / 30}}},
                      {"hold": PAST * (i % 2)}][i % 4]
            score.append((stream.set(**change), change))

    thread = threading.Thread(target=turn)
    thread.start()
    rest = [next(stream) for _ in range(5)]
    thread.join()
    rest += [next(stream) for _ in range(5)]
    again = session.replay(start(chain(128), seed=3, past=PAST), score)
    for was, now in zip([first, *rest], again, strict=False):
        np.testing.assert_array_equal(was, now)


SLOW = chain(128)
SLOW[0].config = SLOW[0].config.model_copy(update={"sample_rate": 8000})
DEAF = Sounding(LEANING)
DEAF.pitches = lambda level: None
SHORT = Prompt({512: np.zeros(BLOCK // 512 - 1, np.int32), 128: np.zeros(BLOCK // 128 - 4, np.int32)}, np.zeros(9))


@pytest.mark.parametrize("change, words", [
    ({"loudness": 13}, "loudness is 13"), ({"loudness": float("nan")}, "loudness is nan"),
    ({"loudness": True}, "loudness is True"), ({"pull": 13}, "pull is 13"),
    ({"hold": -1}, "hold is -1"), ({"hold": 60}, "hold is 60"),
    ({"jump": -1}, "jump is -1"), ({"jump": 2**128}, "it must be less than 2"),
    ({"jump": 1e300}, "it must be less than 2"),
    ({"begin": "song.mp3", "jump": 1}, "begin must be a Prompt"), ({"begin": {"song": 1}, "jump": 1}, "begin must be {file"),
    ({"begin": SHORT, "jump": 1}, "must last a block"),
    ({"freeze": {64: 1}}, "freeze: no level is called '64'"), ({"freeze": 60}, "freeze is 60"),
    ({"freeze": "all"}, "freeze is 'all'"), ({"echo": 1}, "no control is called 'echo'"),
    ({"sampling": {8: {"temperature": 1}}}, "sampling: no level is called '8'"),
    ({"sampling": {512: {"temperature": -1}}}, "sampling of 512x: temperature is -1"),
    ({"sampling": {512: {"warmth": 1}}}, "warmth"),
    ({"weights": "other"}, "give jump"), ({"weights": "nowhere", "jump": 1}, "no weights here"),
    ({"weights": "slow", "jump": 1}, "8000 Hz, but this stream plays at 22050 Hz"),
    ({"notes": [128]}, "a note is 128"), ({"notes": "C"}, "notes is 'C'"), ({"notes": [60] * 17}, "17 notes are held"),
])
def test_invalid_changes_raise_user_error_and_change_nothing(change, words):
    music = Sounding(LEANING, other=Music(OTHER), slow=Music(SLOW))
    stream = start(chain(128), seed=3, past=PAST, music=music)
    next(stream)
    with pytest.raises(UserError, match=words):
        stream.set(**{"loudness": -3} | change)
    np.testing.assert_array_equal(next(stream), collect(start(chain(128), seed=3), 2)[BLOCK:])


@pytest.mark.parametrize("options, change, words", [
    ({"past": PAST}, {"hold": PAST}, "nothing was played"), ({}, {"hold": 1}, "make it with past"),
    ({}, {"freeze": 1}, "no music to freeze: make it with past"),
    ({}, {"weights": "other", "jump": 1}, "without music"), ({}, {"notes": [60]}, "without music"),
    ({"music": DEAF}, {"notes": [60]}, "cannot follow notes"),
    ({"music": MUSIC, "block": 512}, {"weights": "other", "jump": 1}, "multiple of the top level, 2048"),
    ({"begin": Variation(512, np.zeros(64, np.int32), 64 * 512)}, {"jump": 1}, "so it cannot jump"),
])
def test_a_stream_refuses_what_it_was_not_made_for(options, change, words):
    codec, generators = chain(128)
    with pytest.raises(UserError, match=words):
        start((codec, generators["begin" in options :]), **options).set(**change)
