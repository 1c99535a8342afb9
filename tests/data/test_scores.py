import numpy as np
import pytest
from prepared import data_folder

from vqwave.config.roll import BANDS, SILENT, SOUNDING, STRUCK
from vqwave.data import scores
from vqwave.data.scores import LOWEST_PITCH, Score
from vqwave.dsp import beats

RATE = 22050


def clicks(period=0.5, seconds=12.0, midi=64) -> np.ndarray:
    """A plucked note every `period` seconds."""
    time = np.arange(int(period * RATE)) / RATE
    note = np.exp(-6 * time) * sum(np.sin(2 * np.pi * k * 440 * 2 ** ((midi - 69) / 12) * time) / k
                                   for k in (1, 2, 3))
    return (0.3 * np.tile(note, int(seconds / period))).astype("float32")


@pytest.fixture(scope="module")
def score():
    return Score.of(clicks(), RATE)


def test_the_beats_and_attacks_of_a_steady_pulse_are_found(score):
    period = np.median(np.diff(score.beats))
    assert 60 / beats.FASTEST - 0.01 <= period <= 60 / beats.SLOWEST + 0.01
    assert abs((period + 0.25) % 0.5 - 0.25) < 0.02
    assert score.beats[0] < 0 and score.beats[-1] > 12
    inner = score.attacks[(score.attacks > 1) & (score.attacks < 11)]
    assert np.abs((inner + 0.25) % 0.5 - 0.25).max() < 0.05


def test_the_sound_before_a_part_gives_its_beats_alone():
    sound = clicks()
    part = Score.of(sound[9 * RATE + 3000 :], RATE, sound[: 9 * RATE + 3000])
    alone, whole = Score.of(sound[9 * RATE + 3000 :], RATE), Score.of(sound, RATE)
    for name in ("starts", "ends", "pitches", "attacks", "bands"):
        np.testing.assert_array_equal(getattr(part, name), getattr(alone, name))
    np.testing.assert_allclose(part.beats + 9 + 3000 / RATE, whole.beats[-len(part.beats) :])
    assert part.beats[0] < 0 <= part.beats[1]


def test_each_note_is_struck_once_in_steps_and_in_frames(score):
    steps, frames = score.in_steps(64), score.in_frames(0.0, 512 / RATE, 12 * RATE // 512, 64)
    for struck in (steps == STRUCK, frames[:, :-1] == 1):
        notes = struck[:, : 64 - BANDS]
        assert abs(notes[:, 64 - LOWEST_PITCH].sum() - 24) <= 2
        assert notes.sum() - notes[:, 64 - LOWEST_PITCH].sum() <= 3
    before = np.pad(steps, ((1, 0), (0, 0)))[:-1]
    assert (before[steps == SOUNDING] != SILENT).all()
    assert set(np.unique(frames[:, -1])) == set(range(scores.PHASES))


def test_a_row_has_the_frames_since_each_note_was_struck():
    score = Score(np.array([0.0, 0.5]), np.array([0.4, 0.7]), np.array([40, 40]),
                  np.array([0.2]), np.array([1]), np.arange(3.0))
    rows = score.in_frames(0.1, 0.1, 7, 64)
    assert rows[:, 40 - LOWEST_PITCH].tolist() == [2, 3, 4, 0, 1, 2, 0]
    assert rows[:, 64 - BANDS + 1].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert (rows[:, :-1] > 0).sum() == 11


def test_a_window_has_the_rows_of_the_whole(score):
    frame = 512 / RATE
    whole = score.in_frames(0.0, frame, 300, 64)
    np.testing.assert_array_equal(score.in_frames(100 * frame, frame, 50, 64), whole[100:150])


def test_a_transposed_score_is_higher_and_faster(score):
    higher = score.transposed(12)
    np.testing.assert_allclose(higher.starts * 2, score.starts)
    assert (higher.pitches == score.pitches + 12).all()
    np.testing.assert_array_equal(score.in_steps(64, 2)[:, -BANDS:], score.in_steps(64)[:, -BANDS:])


def test_silence_has_an_even_grid_and_no_notes():
    empty = Score.of(np.zeros(3 * RATE, "float32"), RATE)
    assert not len(empty.starts) and not len(empty.attacks)
    assert np.ptp(np.diff(empty.beats)) < 1e-9 and not empty.in_steps(64).any()


def test_scores_are_transcribed_again_only_if_their_file_is_damaged(tmp_path, monkeypatch):
    [track] = data_folder(tmp_path, {"a": clicks(seconds=4.0)}, RATE)
    first = scores.of_track(tmp_path, track)
    [path] = (tmp_path / ".scores").rglob("*.npz")
    calls = []
    monkeypatch.setattr(Score, "of", lambda *_: calls.append(1) or first)
    np.testing.assert_array_equal(scores.of_track(tmp_path, track).starts, first.starts)
    assert not calls
    path.write_bytes(path.read_bytes()[:100])
    scores.of_track(tmp_path, track)
    assert calls
