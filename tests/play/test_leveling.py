"""Pieces are leveled, and begin where their music sounds."""

import numpy as np
import pytest

import vqwave
from vqwave.data.scores import Score
from vqwave.dsp import metrics
from vqwave.play.blocks import LEVELED_TO, Leveler
from vqwave.play.prompt import Prompt

RATE, BLOCK = 22050, 8192


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
