import dataclasses
import hashlib

import pytest

from vqwave.errors import UserError
from vqwave.io import manifest, splits
from vqwave.levels import Split


def tracks(minutes):
    """Tracks of so many minutes each, by file."""
    return [manifest.Track(f"{file}.u16", f"/music/{file}", 100, round(6000 * length),
                           hashlib.sha256(file.encode()).hexdigest(), dict.fromkeys(manifest.TAGS))
            for file, length in minutes.items()]


def files(side):
    return [track.file.removesuffix(".u16") for track in side]


def test_a_share_holds_out_tracks_by_hours_as_a_function_of_seed_and_names():
    songs = tracks({f"{i}.mp3": 3 + i / 100 for i in range(40)})
    train, validation = splits.split(songs, 0.25, seed=1)
    assert sorted(files(train) + files(validation)) == sorted(files(songs))
    share = sum(t.samples for t in validation) / sum(t.samples for t in songs)
    assert 0.25 <= share < 0.25 + songs[-1].samples / sum(t.samples for t in songs)
    held_out = set(files(validation))
    assert set(files(splits.split(songs[::-1], 0.25, seed=1)[1])) == held_out
    assert set(files(splits.split(songs, 0.25, seed=2)[1])) != held_out
    # A track keeps its side when another comes.
    later = splits.split([*songs, *tracks({"new.mp3": 3.0})], 0.25, seed=1)[1]
    assert len(held_out ^ set(files(later))) <= 2


@pytest.mark.parametrize("count, share, held", [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (5, 0, 0),
                                                (5, 0.999, 4)])
def test_at_least_one_track_trains_and_one_validates(count, share, held):
    train, validation = splits.split(tracks({f"{i}.mp3": 1.0 for i in range(count)}), share, 0)
    assert (len(train), len(validation)) == (count - held, held)


def with_prints(songs, **prints):
    """The tracks with fingerprints, by their files without endings; others are silent."""
    return [dataclasses.replace(t, fingerprint=prints.get(splits.track_name(t), "")) for t in songs]


def test_the_same_recording_is_on_one_side_by_share_and_by_name(rng):
    prints = {name: rng.bytes(512).hex() for name in "abcdefgh"}
    songs = with_prints(tracks({f"{name}{suffix}": 3.0 for name in "abcdefgh" for suffix in (".flac", ".mp3")}),
                        **prints)
    for seed in range(8):
        train, held_out = splits.split(songs, 0.25, seed)
        assert len(held_out) == 4 and not {t.file[0] for t in train} & {t.file[0] for t in held_out}
        assert files(train) == [file for file in files(songs) if file not in files(held_out)]
        drawn = splits.draw(songs, 0.25, seed)
        assert splits.split(songs, drawn, 0) == (train, held_out)
    # One of two copies is named; the other follows, unless another side names it.
    train, held_out = splits.split(songs, Split(validation=("a.flac",), test=("b.mp3",)), 0)
    assert files(held_out) == ["a.flac", "a.mp3"] and not {t.file[0] for t in train} & {"a", "b"}
    train, held_out = splits.split(songs, Split(validation=("a.flac",), test=("a.mp3",)), 0)
    assert files(held_out) == ["a.flac"]
    # A model that was trained on a copy knows the recording.
    known = {track.sha256[:16] for track in songs if track.file.startswith(tuple("abcdef")) and ".mp3" in track.file}
    assert {name[0] for name in splits.draw(songs, 0.1, 0, known).validation} <= {"g", "h"}
    assert splits.split(songs[:2], 0.5, 0) == (songs[:2], [])


def test_held_out_tracks_stay_held_out_when_others_change(tmp_path):
    before = tracks({f"calm/{i}.mp3": 3.0 for i in range(6)} | {"battle/1.mp3": 3.0})
    splits.save(tmp_path, splits.draw(before, 0.3, 7))
    held_out = files(splits.split(before, 0.3, 7)[1])
    later = tracks({f"new/{i}.mp3": 3.0 for i in range(40)} | {"new/0.ogg": 1.0}) + before
    assert files(splits.split(later, 0.3, 7)[1]) != held_out  # without the file, the share draws other tracks
    kept, gone = splits.load(tmp_path, later)
    assert files(splits.split(later, kept, 0)[1]) == held_out and not gone
    # 1.mp3 lies in two folders: one of them is held out alone.
    splits.save(tmp_path, Split(validation=("calm/1.mp3",)))
    assert files(splits.split(before, splits.load(tmp_path, before)[0], 0)[1]) == ["calm/1.mp3"]
    # A track that is gone is no longer held out, and is named.
    splits.save(tmp_path, Split(validation=("calm/1.mp3",), test=("battle/1.mp3",)))
    assert splits.load(tmp_path, before[:-1]) == (Split(validation=("calm/1.mp3",)),
                                                      ["battle/1.mp3"])
    assert splits.load(tmp_path, tracks({"other.mp3": 1.0}))[0] == Split()
    assert splits.load(tmp_path / "nothing", before) is None
    splits.save(tmp_path, Split())
    assert splits.load(tmp_path, before) is None


@pytest.mark.parametrize("side", ["test", "fresh", "excluded"])
def test_test_and_fresh_tracks_neither_train_nor_validate(side):
    songs = tracks({f"calm/{i}.mp3": 3.0 for i in range(4)} | {"battle/x.mp3": 3.0})
    for name in splits.names(songs[-1]):
        train, validation = splits.split(songs, Split(validation=("0",), **{side: (name,)}), 0)
        assert (files(train), files(validation)) == ([f"calm/{i}.mp3" for i in (1, 2, 3)],
                                                     ["calm/0.mp3"])


def test_a_split_file_names_the_sides(tmp_path):
    path = tmp_path / "split.yml"
    songs = tracks({f"album/{name}.mp3": 1.0 for name in ("a", "b", "c", "d e", "f")})
    for text, sides in (("validation: [b]\ntest: [c, d e]\nexcluded: [f]\n", (["a"], ["b"])),
                        ("test: [c]\n", (["a", "b", "d e", "f"], []))):
        path.write_text(text)
        split = splits.split(songs, splits.read_split(path), seed=0)
        assert tuple([splits.track_name(t) for t in side] for side in split) == sides


@pytest.mark.parametrize("text, message", [
    ("test: [x]", "'x'"),
    ("valid: [a]", "'valid'.*validation"),
    ("validation: [1]", r"validation\.0 is 1"),
    ("validation: [a, b]", "no track to train"),
    (None, "split.yml"),
])
def test_a_wrong_split_file_is_one_line_that_says_what(tmp_path, text, message):
    path = tmp_path / "split.yml"
    if text:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as e:
        splits.split(tracks({"a.mp3": 1.0, "b.mp3": 1.0}), splits.read_split(path), seed=0)
    assert "split" in str(e.value) and "\n" not in str(e.value)
