import numpy as np
import pytest
from prepared import data_folder

from vqwave.data import scores
from vqwave.data.scores import LOWEST_PITCH, Score
from vqwave.dsp import beats, transcription
from vqwave.dsp.metrics import loudness_around
from vqwave.generators import ScoreAbove
from vqwave.generators.composer import BANDS, SILENT, SOUNDING, STRUCK
from vqwave.generators.score_above_layer import ScoreFeatures

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
    for name in ("starts", "ends", "pitches", "loudness", "attacks", "bands"):
        np.testing.assert_array_equal(getattr(part, name), getattr(alone, name))
    np.testing.assert_allclose(part.beats + 9 + 3000 / RATE, whole.beats[-len(part.beats) :])
    assert part.beats[0] < 0 <= part.beats[1]


def test_a_long_track_is_transcribed_in_parts_of_bounded_length(tmp_path, monkeypatch):
    sound = clicks(0.5, 40.0)
    [track] = data_folder(tmp_path, {"long": sound})
    whole, lengths, of = Score.of(sound, RATE), [], Score.of
    monkeypatch.setattr(scores, "LONGEST_PART", 11.0)
    monkeypatch.setattr(scores, "OVERLAP", 3.0)
    monkeypatch.setattr(Score, "of", lambda part, rate: lengths.append(len(part) / rate) or of(part, rate))
    score = scores.of_track(tmp_path, track)
    assert len(lengths) == 4 and max(lengths) <= 16
    for name in ("starts", "attacks"):
        times, expected = getattr(score, name), getattr(whole, name)
        assert (np.diff(times) >= 0).all() and len(times) == pytest.approx(len(expected), abs=2)
        assert np.abs(times[:, None] - expected).min(axis=1).max() < 0.06
    assert len(score.starts) == len(score.ends) == len(score.pitches) == len(score.loudness)
    assert len(score.attacks) == len(score.bands) and (score.ends > score.starts).all()
    # One steady row of beats, also where the parts meet.
    assert score.beats[0] < 0 and score.beats[-1] > 40
    assert np.abs(np.diff(score.beats) - np.median(np.diff(whole.beats))).max() < 0.1


def test_each_note_is_struck_once_in_steps_and_in_frames(score):
    steps, frames = score.in_steps(64), score.in_frames(0.0, 512 / RATE, 12 * RATE // 512, 64)
    for struck in (steps >= STRUCK, frames[:, :64] % ScoreAbove.AGES == 1):
        notes = struck[:, : 64 - BANDS]
        assert abs(notes[:, 64 - LOWEST_PITCH].sum() - 24) <= 2
        assert notes.sum() - notes[:, 64 - LOWEST_PITCH].sum() <= 3
    before = np.pad(steps, ((1, 0), (0, 0)))[:-1]
    assert (before[steps == SOUNDING] != SILENT).all()
    assert set(np.unique(frames[:, 64])) == set(range(scores.PHASES))


def test_rows_hold_the_loudness_of_bands_around_each_beat():
    time = np.arange(4 * RATE) / RATE
    sound = np.where(time < 2, 0.5, 0.05) * np.sin(2 * np.pi * 500 * time)
    times = np.arange(5.0)
    loudness = loudness_around(sound, RATE, times, ScoreAbove.EDGES)
    assert loudness.shape == (5, ScoreAbove.LOUDNESS_BANDS)
    np.testing.assert_allclose(loudness[[1, 3], 1], [-9.03, -29.03], atol=0.1)
    assert (loudness[:, [0, 2, 3]] < loudness[:, [1]] - 20).all()
    nothing = np.zeros(0)
    score = Score(nothing, nothing, np.zeros(0, int), np.zeros(0, int), nothing, np.zeros(0, int), times, loudness)
    rows = score.in_frames(1.0, 0.25, 10, 64)[:, 64 + 1 + 1]
    assert rows[0] == 91 and rows[-1] == 71 and (np.diff(rows) <= 0).all()
    assert (score.transposed(2).earlier(1.0).band_loudness == loudness).all()


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


def test_a_changed_track_is_transcribed_again(tmp_path):
    [track] = data_folder(tmp_path, {"a": clicks(seconds=2.0)}, RATE)
    assert len(scores.of_track(tmp_path, track).starts) == 4
    [changed] = data_folder(tmp_path, {"a": clicks(seconds=2.0, midi=76)}, RATE)
    assert (changed.file, changed.samples) == (track.file, track.samples)
    assert set(scores.of_track(tmp_path, changed).pitches) == {76}


def test_the_loudness_of_a_note_is_its_level_below_the_recording():
    """Also of low notes, and of notes within a chord."""
    decibels = [0, 0, -7.5, -12.5, -17.5, -30]
    for midi in (40, 64, 76):
        chord = clicks(0.5, 0.5, 91)
        sound = np.concatenate([0.3 * chord + 10 ** (level / 20) * clicks(0.5, 0.5, midi) for level in decibels])
        starts = np.rint(0.5 * np.arange(len(decibels)) * transcription.timing.FRAMES_PER_SECOND).astype(int)
        notes = transcription.Notes(starts, starts + 20, np.full(len(starts), midi))
        assert transcription.loudness_of(sound, RATE, notes).tolist() == [3, 3, 2, 1, 0, 0], midi
    silence = transcription.loudness_of(np.zeros(RATE, np.float32), RATE, transcription.Notes(*np.zeros((3, 0), int)))
    assert silence.shape == (0,)


def test_the_performer_hears_the_loudness_of_each_note():
    features = ScoreFeatures(ScoreAbove(books=20))
    rows = np.zeros((1, 4, 21), np.int32)
    rows[0, :, 3] = 1 + np.array([0, 0, 7, 0]) + ScoreAbove.AGES * np.array([0, 3, 3, 0])
    rows[0, 3] = 0
    softest, loudest, later, silent = np.array(features(rows))[0, :, :200].reshape(4, 10, 20)[:, :, 3]
    np.testing.assert_array_equal(softest, [1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(loudest, 1)
    assert later[0] == later[5] == 0 and later[1] == later[6] == 1
    np.testing.assert_allclose(later[2:5], np.exp(-7 / np.array(ScoreFeatures.DECAYS)), rtol=1e-6)
    np.testing.assert_array_equal(later[2:5], later[7:])
    np.testing.assert_array_equal(silent, 0)
