"""Windows are functions of (seed, index), and codes stand where their source says."""

import math
from itertools import pairwise

import numpy as np
import pytest
from prepared import data_folder, music

from vqwave.data.windows import (
    AudioWindows,
    Batches,
    CodeTrack,
    CodeWindows,
    PerformedWindows,
    Span,
    Window,
)
from vqwave.errors import UserError
from vqwave.generators import CodesAbove, GeneratorConfig, SoundAbove
from vqwave.io import audio, manifest
from vqwave.levels import TrainingConfig

LENGTH = 2048


@pytest.fixture
def folder(tmp_path):
    data_folder(tmp_path / "data", {"a": music(0.3, 1), "b": music(1.2, 2), "c": music(0.1, 3)})
    return tmp_path / "data"


def test_tracks_are_drawn_by_duration_and_places_uniformly():
    batches = Batches([100, 700, 200], batch_size=1, seed=0)
    drawn = [batches.position(i) for i in range(4000)]
    shares = np.bincount([item for item, _ in drawn], minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, [0.1, 0.7, 0.2], atol=0.03)
    places = np.array([place for item, place in drawn if item == 1])
    assert places.min() >= 0
    assert places.max() < 700
    np.testing.assert_allclose(np.histogram(places, 7, (0, 700))[0] / len(places), 1 / 7, atol=0.03)


def positions(dataset, batch):
    """(item, place) of each row of a batch."""
    return [dataset.position(number) for number in dataset.numbers(batch)]


def windows(folder, kind=AudioWindows, **more):
    tracks = [track for track in manifest.read(folder) if track.samples >= LENGTH + 1000]
    return kind(folder, tracks, LENGTH, **({"batch_size": 4, "seed": 7} | more))


def test_windows_are_audio_of_the_tracks_where_they_say(folder):
    dataset = windows(folder)
    assert dataset.num_batches is None
    sounds = [audio.from_u16(np.fromfile(p, "<u2")) for p in (dataset.folder / f for f in dataset.files)]
    for batch in (0, 5):
        x, y = dataset[batch]
        # TensorFlow computes in their memory.
        assert np.array_equal(x, y) and not np.shares_memory(x, y)
        assert x.shape == (4, LENGTH)
        assert x.dtype == np.float32
        for row, (item, start) in zip(x, positions(dataset, batch), strict=True):
            np.testing.assert_array_equal(row, sounds[item][start : start + LENGTH])


def test_validation_windows_are_fixed_and_spread_over_all(folder):
    dataset = windows(folder, fixed=10)
    assert dataset.num_batches == 3
    batches = [positions(dataset, i) for i in range(3)]
    assert [len(b) for b in batches] == [4, 4, 2]
    flat = sum(batches, [])
    assert len(set(flat)) == 10
    assert flat == sorted(flat)
    assert {item for item, _ in flat} == {0, 1}
    assert positions(windows(folder, fixed=10, seed=99), 0) == batches[0]


RATE = 22050


def tones(tmp_path, samples=4 * LENGTH, **changes):
    """Windows of a track of one tone of 1 kHz and full scale, changed."""
    sound = np.sin(2 * np.pi * 1000 * np.arange(samples) / RATE)
    tracks = data_folder(tmp_path / "tones", {"a": sound})
    return AudioWindows(tmp_path / "tones", tracks, LENGTH, 8, 5, augmentation=TrainingConfig(**changes))


def semitones(window):
    """How far a window's strongest frequency is from 1 kHz, in semitones."""
    spectrum = np.abs(np.fft.rfft(window * np.hanning(LENGTH), 8 * LENGTH))
    return 12 * np.log2(spectrum.argmax() * RATE / (8 * LENGTH) / 1000)


def test_windows_are_transposed_by_whole_semitones(tmp_path):
    dataset = tones(tmp_path, transpose=2)
    shifts = [semitones(row) for batch in range(5) for row in dataset[batch][0]]
    assert dataset[0][0].shape == (8, LENGTH) and dataset[0][0].dtype == np.float32
    np.testing.assert_allclose(shifts, np.round(shifts), atol=0.1)
    assert set(np.round(shifts)) == {-2, -1, 0, 1, 2}
    # A track of just the length is not transposed up.
    short = tones(tmp_path / "short", samples=LENGTH, transpose=2)
    assert {round(semitones(row)) for batch in range(5) for row in short[batch][0]} == {-2, -1, 0}


def test_windows_are_quieter_by_no_more_than_the_gain_and_never_louder(folder):
    plain, quieter = windows(folder), windows(folder, augmentation=TrainingConfig(gain=6.0))
    ratios = []
    for batch in range(5):
        for a, b in zip(plain[batch][0], quieter[batch][0], strict=True):
            ratios.append(20 * np.log10(np.abs(b).max() / np.abs(a).max()))
            np.testing.assert_allclose(b, a * 10 ** (ratios[-1] / 20), atol=1e-6)
    assert -6.01 < min(ratios) < -4 and -2 < max(ratios) < 0.01


def test_a_share_of_the_windows_is_mixed_and_none_clips(tmp_path):
    tracks = data_folder(tmp_path, {"a": np.full(9 * LENGTH, 0.25), "b": np.full(9 * LENGTH, 0.8)})
    dataset = AudioWindows(tmp_path, tracks, LENGTH, 8, 5, augmentation=TrainingConfig(mix=0.5))
    levels = np.array([row for batch in range(20) for row in dataset[batch][0]]).mean(axis=1)
    alone = np.isclose(levels, 0.25, atol=1e-4) | np.isclose(levels, 0.8, atol=1e-4)
    assert 0.4 < alone.mean() < 0.6
    # 0.25 + 0.8 and 0.8 + 0.8 would clip, and are scaled down to full scale.
    assert set(np.round(levels[~alone], 2)) == {0.5, 1.0}


def test_a_changed_window_is_a_function_of_seed_and_number(folder):
    augmentation = TrainingConfig(transpose=3, gain=6.0, mix=0.5)
    whole, later = windows(folder, augmentation=augmentation), windows(folder, augmentation=augmentation, start=2)
    np.testing.assert_array_equal(whole[2][0], later[0][0])
    np.testing.assert_array_equal(whole[2][0][1], whole.window(whole.numbers(2)[1]))
    assert positions(whole, 0) == positions(windows(folder), 0)
    assert not np.array_equal(whole[0][0], windows(folder, augmentation=augmentation, seed=8)[0][0])


def test_a_file_that_shrank_or_vanished_is_named(folder):
    dataset = windows(folder)
    for harm, message in ((lambda path: path.write_bytes(b"\0\0"), "shorter than the manifest"),
                          (lambda path: path.unlink(), "ogg.u16")):
        for name in dataset.files:
            harm(dataset.folder / name)
        with pytest.raises(UserError, match=message):
            dataset[0]


def test_windows_come_only_from_the_spans_of_the_tracks(folder):
    tracks = [t for t in manifest.read(folder) if t.samples > 2 * LENGTH]
    spans = {t.file: (1000, t.samples - 500) for t in tracks}
    dataset = AudioWindows(folder, tracks, LENGTH, 4, 7, spans=spans)
    assert dataset.places == sum(t.samples - 1500 - LENGTH + 1 for t in tracks)
    for row, (item, start) in zip(dataset[0][0], positions(dataset, 0), strict=True):
        sound = audio.from_u16(np.fromfile(folder / tracks[item].file, "<u2"))[1000:-500]
        np.testing.assert_array_equal(row, sound[start : start + LENGTH])


def test_a_performance_stands_beside_the_sound_of_its_frames(folder):
    # Each code is the number of its frame.
    performed = {track.file: np.arange(track.samples // 256, dtype=np.int16)[:, None]
                 for track in manifest.read(folder)}
    dataset = windows(folder, PerformedWindows, level=256, performed=performed,
                      augmentation=TrainingConfig(gain=6.0))
    plain, counts = windows(folder, augmentation=TrainingConfig(gain=6.0)), []
    for batch in range(40):
        inputs, y = dataset[batch]
        for row, codes, other, (item, _) in zip(y, inputs["codes"], plain[batch][1],
                                                positions(dataset, batch), strict=True):
            counts.append(codes[0, 0] >= 0)
            if counts[-1]:
                first = codes[0, 0] * 256
                assert np.diff(codes[:, 0]).tolist() == [1] * (LENGTH // 256 - 1)
                sound = np.fromfile(dataset.folder / dataset.files[item], "<u2")
                other = audio.from_u16(sound[first : first + LENGTH])
            else:
                assert (codes == -1).all()
            np.testing.assert_array_equal(row, other)
    assert 0.3 < np.mean(counts) < 0.5


RATIO = 4
CONFIG = GeneratorConfig(name="generator_128", level=128, num_codes=4096, conditions=[
    CodesAbove(level=512, num_codes=1024, dilations=(1, 2))])


@pytest.fixture
def tracks(tmp_path):
    """Codes that say where they stand: t of track k is 1000·k + t; above, 100·k + t // ratio."""
    rows = []
    for k, count in enumerate((50, 83)):
        sources = math.ceil(count / RATIO)
        (tmp_path / f"{k}.u16").write_bytes((1000 * k + np.arange(count)).astype("<u2").tobytes())
        (tmp_path / f"{k}s.u16").write_bytes((100 * k + np.arange(sources)).astype("<u2").tobytes())
        rows.append(CodeTrack(tmp_path / f"{k}.u16", count, tmp_path / f"{k}s.u16", sources))
    return rows


def rows_of(dataset, batches=None):
    """(previous, source, codes[, weights]) of each window, without the axis of books."""
    for batch in range(batches or dataset.num_batches):
        inputs, *targets = dataset[batch]
        yield from zip(*(x[..., 0] for x in (inputs["previous"], inputs["source"], *targets)), strict=True)


def source_of(track, k, start, frames):
    """The source codes from `CONFIG.halo` frames before code `start` of track k on."""
    places = start // RATIO - CONFIG.halo + np.arange(frames)
    inside = (places >= track.first_above) & (places < track.first_above + track.frames_above)
    return np.where(inside, 100 * k + places, CONFIG.pad_token)


def test_codes_stand_under_their_source_and_behind_their_predecessor(tracks):
    length, halo = 12, CONFIG.halo
    dataset = CodeWindows(tracks, CONFIG, length, batch_size=8, seed=1, fixed=1000)
    starts = set()
    for previous, source, codes in rows_of(dataset):
        assert source.shape == (length // RATIO + 2 * halo,)
        assert {x.dtype for x in (previous, source, codes)} == {np.dtype("int32")}
        k, start = divmod(int(codes[0]), 1000)
        starts.add((k, start))
        assert start % RATIO == 0
        np.testing.assert_array_equal(codes, 1000 * k + start + np.arange(length))
        np.testing.assert_array_equal(previous[1:], codes[:-1])
        assert previous[0] == (codes[0] - 1 if start else CONFIG.start_token)
        np.testing.assert_array_equal(source, source_of(tracks[k], k, start, len(source)))
        # Code by code: the source code of step t is the one above it.
        np.testing.assert_array_equal(np.repeat(source[halo:-halo], RATIO) - 100 * k,
                                      (codes - 1000 * k) // RATIO)
    # Every start there is occurs: the first, the last that fits, both tracks.
    assert starts == {(k, s) for k, track in enumerate(tracks)
                      for s in range(0, track.frames - length + 1, RATIO)}


@pytest.mark.parametrize("length, most", [(12, 2), (60, 3)])
def test_training_windows_continue_with_another_track(tracks, length, most):
    """Tracks of 50 and 83 frames, of which the last two and three have no whole source frame."""
    halo, whole = CONFIG.halo, [48, 80]
    dataset = CodeWindows(tracks, CONFIG, length, batch_size=8, seed=1)
    starts, counts, joints = set(), set(), set()
    for previous, source, codes in rows_of(dataset, 150):  # and no weights
        k, start = divmod(int(codes[0]), 1000)
        starts.add((k, start))
        assert previous[0] == (codes[0] - 1 if start else CONFIG.start_token)
        np.testing.assert_array_equal(previous[1:], codes[:-1])
        begins = [0, *(np.flatnonzero(np.diff(codes) != 1) + 1), length]
        counts.add(len(begins) - 1)
        above = []
        for number, (begin, end) in enumerate(pairwise(begins)):
            k, start = divmod(int(codes[begin]), 1000)
            np.testing.assert_array_equal(codes[begin:end], codes[begin] + np.arange(end - begin))
            if number:
                track, last_frame = divmod(int(previous[begin]), 1000)
                assert start == 0 and last_frame == whole[track] - 1
                joints.add((track, k))
            first = start // RATIO - (0 if number else halo)
            last = (start + end - begin) // RATIO + (halo if end == length else 0)
            above += [100 * k + t if 0 <= t < tracks[k].frames_above else CONFIG.pad_token
                      for t in range(first, last)]
        np.testing.assert_array_equal(source, above)
    assert starts == {(k, s) for k in range(2) for s in range(0, whole[k], RATIO)}
    assert counts == set(range(1, most + 1)) and joints == {(0, 0), (0, 1), (1, 0), (1, 1)}
    again = CodeWindows(tracks, CONFIG, length, batch_size=8, seed=1, start=3)
    np.testing.assert_array_equal(again[1][1], dataset[4][1])


def test_every_book_of_a_frame_stands_beside_the_others(tmp_path):
    """Frame t of the track is (t, 100 + t, 200 + t); its source frame (50 + t // 4, 60 + t // 4)."""
    frames = np.arange(40)[:, None] + 100 * np.arange(3)
    (tmp_path / "f").write_bytes(frames.astype("<u2").tobytes())
    (tmp_path / "s").write_bytes((np.arange(10)[:, None] + [50, 60]).astype("<u2").tobytes())
    config = GeneratorConfig(name="g", level=128, num_codes=300, books=3, conditions=[
        CodesAbove(level=512, num_codes=80, books=2, dilations=(1,))])
    dataset = CodeWindows([CodeTrack(tmp_path / "f", 40, tmp_path / "s", 10)], config, 8, 4, 0)
    for batch in range(6):
        inputs, target = dataset[batch]
        assert set(inputs) == {"previous", "source", "current"}
        np.testing.assert_array_equal(inputs["current"], target)
        assert not np.shares_memory(inputs["current"], target)
        assert target.shape == (4, 8, 3) and inputs["source"].shape == (4, 4, 2)
        np.testing.assert_array_equal(target - target[..., :1], np.broadcast_to([0, 100, 200], target.shape))
        start = target[:, 0, 0]
        before = inputs["previous"][:, 0]
        np.testing.assert_array_equal(before, np.where(start[:, None] > 0,
                                                       target[:, 0] - 1, config.start_token))
        np.testing.assert_array_equal(inputs["previous"][:, 1:], target[:, :-1])
        source = inputs["source"][:, 1:-1]
        np.testing.assert_array_equal(source[:, 0], start[:, None] // 4 + [50, 60])
        if (start == 0).any():
            assert (inputs["source"][start == 0, 0] == config.pad_token).all()


def test_short_tracks_are_validated_whole_and_padding_weighs_nothing(tracks):
    """Windows of 60 frames: the first track has 50, the second 83."""
    length, lengths = 60, set()
    dataset = CodeWindows(tracks, CONFIG, length, 8, 1, fixed=1000)
    inside, held = 0, 0
    for previous, source, codes, weights in rows_of(dataset):
        assert weights.dtype == np.float32 and weights.shape == (length,)
        k, start = divmod(int(codes[0]), 1000)
        count = min(length, tracks[k].frames - start)
        lengths.add((k, count))
        np.testing.assert_array_equal(codes[:count], 1000 * k + start + np.arange(count))
        np.testing.assert_array_equal(previous[1 : count + 1], codes[:count][: length - 1])
        assert not codes[count:].any() and (previous[count + 1 :] == CONFIG.start_token).all()
        assert (weights[:count] == np.float32(dataset.weight)).all() and not weights[count:].any()
        np.testing.assert_array_equal(source, source_of(tracks[k], k, start, len(source)))
        inside, held = inside + count, held + length
    assert lengths == {(0, 50), (1, 60)}
    # On average a place weighs 1.
    assert dataset.weight * inside / held == pytest.approx(1.0, rel=1e-6)


def test_a_window_hears_the_sound_of_the_level_above(tmp_path):
    level, count = 8, 30  # frames of 8 samples, below frames of 32
    sound = np.arange(level * count, dtype="<u2") + audio.SILENCE
    (tmp_path / "codes.u16").write_bytes(np.zeros(count, "<u2").tobytes())
    (tmp_path / "sound.u16").write_bytes(np.pad(sound, (0, 16), constant_values=audio.SILENCE).tobytes())
    heard = SoundAbove(level=32, hop=level, dilations=(1,), loudness=2)
    generator = GeneratorConfig(name="generator_8", level=level, num_codes=64, conditions=[heard])
    track = CodeTrack(tmp_path / "codes.u16", count, tmp_path / "sound.u16", 8)
    rows = heard.rows(Window(generator, [Span(track, 4, 12)]), 0, 12)
    assert rows.shape == (1, 12 + 2 * heard.halo, level) and rows.dtype == np.float32
    expected = np.zeros((8 * 32 + 2 * level * heard.halo), np.float32)
    expected[level * heard.halo :][: len(sound)] = audio.from_u16(sound)
    np.testing.assert_array_equal(rows.ravel(), expected[4 * level :][: rows.size])
