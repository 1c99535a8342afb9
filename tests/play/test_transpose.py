import numpy as np
import pytest

from vqwave.play.transpose import Transposer

RATE, BLOCK = 22050, 8192


def chord(seconds=4.0, pitches=(220.0, 277.2, 329.6)):
    time = np.arange(round(seconds * RATE) // BLOCK * BLOCK) / RATE
    return sum(0.2 * np.sin(2 * np.pi * f * time) for f in pitches).astype(np.float32)


def play(audio, changes, block=BLOCK, batch=1):
    """audio [n] or [batch, n] in blocks; semitones by the number of the block that they hold from."""
    rows = np.broadcast_to(audio, (batch, audio.shape[-1]))
    transposer, blocks = Transposer.start(RATE, batch), []
    for i in range(rows.shape[1] // block):
        transposer.semitones = changes.get(i, transposer.semitones)
        blocks.append(transposer.apply(rows[:, i * block : (i + 1) * block]))
    return np.concatenate(blocks, axis=1)


def share(audio, frequencies):
    """Of the energy, within a quarter tone of these frequencies."""
    power = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    bins = np.fft.rfftfreq(len(audio), 1 / RATE)
    near = np.zeros(len(bins), bool)
    for f in frequencies:
        near |= np.abs(np.log2(np.maximum(bins, 1) / f)) < 1 / 24
    return power[near].sum() / power.sum()


def test_zero_semitones_change_nothing():
    audio = chord()
    np.testing.assert_array_equal(play(audio, {})[0], audio)


@pytest.mark.parametrize("semitones, block", [(-12, BLOCK), (0.5, BLOCK), (7, 1024), (12, BLOCK)])
def test_pitches_move_and_loudness_stays(semitones, block):
    audio = chord()
    heard = play(audio, {0: semitones}, block)[0][BLOCK:]
    ratio = 2 ** (semitones / 12)
    assert share(heard, [f * ratio for f in (220.0, 277.2, 329.6)]) > 0.85
    assert np.sqrt((heard**2).mean()) == pytest.approx(np.sqrt((audio**2).mean()), rel=0.2)


def test_the_tempo_is_kept():
    clicks = np.zeros(10 * BLOCK, np.float32)
    places = np.arange(2 * BLOCK, 9 * BLOCK, BLOCK)
    for at in places:
        clicks[at : at + 64] = np.hanning(64)
    heard = play(clicks, {0: 7})[0]
    for at in places:
        around = heard[at - 200 : at + RATE // 10]
        assert np.abs(around).max() > 0.2
