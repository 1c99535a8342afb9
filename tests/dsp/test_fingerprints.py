import numpy as np
import pytest
from encoded import encode, tone
from prepared import music

from vqwave.dsp.fingerprints import FRAMES, fingerprint, groups
from vqwave.io import audio

RATE = 22050


def same(*sounds, rate=RATE):
    """Whether all sounds are the same recording; None if only some are."""
    numbers = groups(tuple(fingerprint(sound, rate) for sound in sounds))
    return {1: True, len(sounds): False}.get(len(set(numbers)))


@pytest.fixture(scope="module")
def recording():
    return music(20, 5)


@pytest.mark.parametrize("suffix", (".mp3", ".m4a", ".ogg", ".opus", ".wma"))
def test_a_recording_is_the_same_in_every_coding(tmp_path, recording, suffix):
    rate = 48000 if suffix == ".opus" else RATE
    sound = audio.decode(encode(tmp_path / "a.flac", recording, RATE), rate)
    coded = audio.decode(encode(tmp_path / f"a{suffix}", sound, rate), RATE)
    assert same(recording, coded)
    assert same(music(20, 6), coded) is False


@pytest.mark.parametrize("change", (lambda x: 0.1 * x, lambda x: -x, lambda x: x[1105:],
                                    lambda x: np.pad(x, (1105, 0)), lambda x: x[: 8 * RATE],
                                    lambda x: np.pad(x, (3 * RATE - 500, 9 * RATE)),
                                    lambda x: np.concatenate([x, music(9, 9)])))
def test_gain_a_shift_silence_and_another_end_make_no_other_recording(recording, change):
    assert same(recording, change(recording))
    assert same(change(recording), recording)


def test_other_music_tones_noise_and_silence_are_never_the_same(rng):
    assert same(*(music(12, seed) for seed in range(12))) is False
    for sounds in ([tone(20, RATE, 440 + i) for i in range(4)],
                   [0.1 * rng.standard_normal(20 * RATE) for _ in range(4)],
                   [np.zeros(20 * RATE)] * 3, [music(1, 0)] * 2, [np.zeros(0)] * 2):
        assert same(*sounds) is False


def test_short_recordings_are_the_same_only_if_they_are_as_long(recording):
    short = music(5, 3)
    assert same(short, 0.5 * short)
    assert same(short, np.concatenate([short, recording])) is False


def test_of_many_recordings_each_copy_is_with_its_original(rng):
    """A hundred and more are not compared pair by pair."""
    prints = rng.integers(0, 15, (600, FRAMES, 8), np.uint8)
    prints[..., 0] = 0
    copies = prints[::20].copy()
    where = rng.random(copies.shape) < 0.1
    copies[where] += 1
    copies[1, 5:] = 15  # too short
    texts = ["".join(f"{level:x}" for level in levels.ravel()) for levels in (*prints, *copies)]
    texts += 3 * [texts[1]]  # equal in every frame
    numbers = groups(tuple(texts))
    assert [number == numbers[1] for number in numbers[630:]] == 3 * [True]
    same = [numbers[20 * i] == numbers[600 + i] for i in range(30)]
    assert same == [i != 1 for i in range(30)] and len(set(numbers)) == 601


def test_what_is_the_same_as_one_recording_is_all_the_same(rng):
    """Two copies may be too far from each other, but not from the original between them."""
    copy = rng.integers(0, 13, (FRAMES, 8))
    original = copy + [1, 0] * 4
    other = original + [0, 1] * 4
    copy, original, other = ("".join(f"{level:x}" for level in levels.ravel()) for levels in (copy, original, other))
    assert len(set(groups((copy, other)))) == 2
    for order in ((copy, original, other), (copy, other, original), (original, other, copy)):
        assert len(set(groups(order))) == 1
