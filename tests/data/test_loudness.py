import numpy as np
import pytest
from prepared import data_folder

from vqwave.data import loudness
from vqwave.data.codes import CodeTrack

LEVEL = 512
PART = 20 * LEVEL


def steady(decibels, samples=PART):
    """float32 [samples] whose every sample is so many dB below full scale."""
    return np.full(samples, 10 ** (decibels / 20), np.float32)


@pytest.fixture
def track(tmp_path):
    """20 frames at -20 dBFS, 20 at -41 (the median), 20 of silence, and half of a frame more."""
    sound = np.concatenate([steady(-20), steady(-41), np.zeros(PART + LEVEL // 2, np.float32)])
    return data_folder(tmp_path, {"a": sound})[0]


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_loudness_is_measured_around_a_frame(tmp_path, track, monkeypatch, block):
    monkeypatch.setattr(loudness, "LOUDNESS_FRAMES", block)
    row = CodeTrack(np.zeros((61, 1), int), 61, track=track)
    levels = loudness.loudness(tmp_path, row, LEVEL)
    # Four frames to either side: 0.21 s in all.
    assert levels[4:16] == pytest.approx(-20, abs=0.01)
    assert levels[24:36] == pytest.approx(-41, abs=0.05)
    assert levels[44:] == pytest.approx(-120)
    power = (4 * 10**-2 + 5 * 10**-4.1) / 9
    assert levels[20] == pytest.approx(10 * np.log10(power), abs=0.01)
    # Before its beginning is nothing.
    assert levels[0] == pytest.approx(-20 + 10 * np.log10(5 / 9), abs=0.01)


def test_a_part_of_a_track_is_that_part(tmp_path, track):
    row = CodeTrack(np.zeros((5, 1), int), 5, track=track, start=30 * LEVEL)
    assert loudness.loudness(tmp_path, row, LEVEL)[2] == pytest.approx(-41 + 10 * np.log10(5 / 9), abs=0.05)


def test_a_code_of_quiet_music_is_as_quiet_as_that(tmp_path, track):
    """The median is -20 dBFS: quiet is what lies under -35. Of two books the second has one code
    for loud, one for quiet and one for a frame of silence.
    """
    loud, = data_folder(tmp_path / "loud", {"b": steady(-20, 200 * LEVEL)})
    frames = np.zeros((61, 2), np.uint16)
    frames[24:36, 1] = 3
    frames[50, 1] = 2
    row = CodeTrack(frames, 61, track=track)
    other = CodeTrack(np.ones((200, 2), np.uint16), 200, track=loud)
    (tmp_path / track.file).rename(tmp_path / "loud" / track.file)
    folder = tmp_path / "loud"
    quietness = loudness.quietness(folder, [row, other], LEVEL, 5, 2)
    assert quietness.shape == (2, 5) and quietness.dtype == np.float32
    assert quietness[1, 3] == pytest.approx(12 * 6 / (12 + 20), abs=0.05)
    # A code in a single frame of silence counts little: 25 dB over 1 + 20 frames.
    assert quietness[1, 2] == pytest.approx(25 / 21, abs=0.01)
    assert not quietness[0, 2:].any() and not quietness[:, 1].any() and not quietness[1, 4]
    quiet = np.clip(-35 - loudness.loudness(folder, row, LEVEL), 0, 25)
    assert quietness[0, 0] == pytest.approx(quiet.sum() / (61 + 20), rel=1e-3)


def test_frames_before_the_first_that_counts_do_not(tmp_path, track):
    frames = np.repeat([1, 2, 3], [20, 25, 16])[:, None].astype(np.uint16)
    path = tmp_path / "codes.u16"
    frames.tofile(path)
    row = CodeTrack(path, 40, track=track, first=20, start=20 * LEVEL)
    quietness = loudness.quietness(tmp_path, [row], LEVEL, 4, 1)
    assert not quietness[0, 1] and quietness[0, 3] > 8


def test_of_many_tracks_some_are_enough(tmp_path, monkeypatch):
    tracks = data_folder(tmp_path, {f"{i}": steady(-20 - 25 * (i == 4), 40 * LEVEL) for i in range(5)})
    rows = [CodeTrack(np.full((40, 1), i), 40, track=track) for i, track in enumerate(tracks)]
    every = loudness.quietness(tmp_path, rows, LEVEL, 5, 1)
    monkeypatch.setattr(loudness, "MOST_TRACKS", 3)  # the first, the third and the fifth
    np.testing.assert_allclose(loudness.quietness(tmp_path, rows, LEVEL, 5, 1), every, rtol=1e-6)
    monkeypatch.setattr(loudness, "MOST_TRACKS", 2)
    assert every.max() > 5 and not loudness.quietness(tmp_path, rows, LEVEL, 5, 1).any()


def test_silence_does_not_make_quiet_music_loud(tmp_path):
    """The median is of what sounds, also where most of a track is silent."""
    sound = np.concatenate([steady(-20), steady(-41, PART // 2), np.zeros(5 * PART, np.float32)])
    [track] = data_folder(tmp_path, {"a": sound})
    row = CodeTrack(np.repeat([0, 1, 2], [20, 10, 100])[:, None].astype(np.uint16), 130, track=track)
    [quietness] = loudness.quietness(tmp_path, [row], LEVEL, 3, 1)
    assert quietness[0] == 0 and quietness[1] > 1 and quietness[2] > 15
