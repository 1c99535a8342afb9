import numpy as np
import pytest
from prepared import RecordingReporter, data_folder, music

from vqwave.io import silence
from vqwave.io.silence import Sound, measure_file, trim

RATE = 22050
WINDOW = 2205


def noise(samples, decibels, seed=0):
    """float32 [samples] of this RMS, in dB of full scale."""
    x = np.random.default_rng(seed).choice([-1.0, 1.0], samples)
    return (x * 10 ** (decibels / 20)).astype(np.float32)


def between(before, sound, after):
    return np.concatenate([np.zeros(before, np.float32), sound, np.zeros(after, np.float32)])


@pytest.mark.parametrize("block", [1, 3, 200])
@pytest.mark.parametrize("rest", [0, 1, 700])
def test_sound_begins_and_ends_at_windows(tmp_path, monkeypatch, block, rest):
    monkeypatch.setattr(silence, "WINDOWS_AT_ONCE", block)
    sound = between(3 * WINDOW + 5, noise(4 * WINDOW, -20), 6 * WINDOW - 5 + rest)
    (track,) = data_folder(tmp_path, {"a": sound})
    sound = measure_file(track.path(tmp_path), track.samples, RATE)
    assert sound == Sound(3 * WINDOW, 8 * WINDOW, 5 * WINDOW)


@pytest.mark.parametrize("decibels, silent", [(-59.5, False), (-60.5, True)])
def test_silence_is_below_60_db(tmp_path, decibels, silent):
    (track,) = data_folder(tmp_path, {"a": noise(RATE, decibels)})
    sound = measure_file(track.path(tmp_path), track.samples, RATE)
    assert sound == (Sound(0, 0, 0) if silent else Sound(0, RATE, RATE))


def test_mostly_silent_tracks_are_dropped_and_the_rest_trimmed(tmp_path):
    hush, late, song = data_folder(tmp_path, {
        "hush": between(9 * WINDOW, noise(WINDOW, -20), 30 * WINDOW),
        "late": between(RATE, music(3.0), 2 * RATE), "song": music(2.0, 1)})
    log = RecordingReporter()
    (train, held), spans = trim(tmp_path, [[hush, late], [song]], 0.5, log)
    assert (train, held) == ([late], [song])
    # The music fades out, so its exact end is not checked.
    first, last = spans[late.file]
    assert first == RATE - RATE // 2
    assert 3.9 * RATE < last <= 4.6 * RATE
    assert spans[song.file] == (0, song.samples)
    assert log.lines[0] == "left out, because they are mostly silent: hush (91 % silent)"
    assert log.lines[1].startswith("silence at the ends of 1 tracks is cut to 0.5 s each, ")
    assert len(log.lines) == 2
