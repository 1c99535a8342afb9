import numpy as np
import pytest

from vqwave.codecs import Labels
from vqwave.errors import UserError
from vqwave.io import audio, labels
from vqwave.io.manifest import TAGS, Track


def track(source, **tags):
    return Track("x.u16", source, 22050, 1, "", dict.fromkeys(TAGS) | tags)


CALM, BATTLE, ALONE = track("/m/calm/a.ogg", genre=" Slow\tair "), track("/m/battle/b.ogg"), track("/c.ogg")


@pytest.mark.parametrize("track, of, label", [
    (CALM, "folder", "calm"), (BATTLE, "folder", "battle"), (ALONE, "folder", None),
    (CALM, "genre", "Slow air"), (BATTLE, "genre", None),
    (track("", artist="  "), "artist", None),
])
def test_labels_come_from_the_folder_or_the_tag(track, of, label):
    assert labels.label_of(track, of) == label


def test_labels_that_tell_nothing_apart_are_refused():
    with pytest.raises(UserError, match="no training track has a label by album"):
        labels.vocabulary([CALM, BATTLE], "album")
    with pytest.raises(UserError, match="every training track has the folder 'calm'"):
        labels.vocabulary([CALM, CALM], "folder")


def test_labels_outside_the_vocabulary_are_unknown_or_none():
    other = track("/m/dance/d.ogg")
    for names, numbers in ((("battle", "calm"), (1, 0, 2, 2)),
                           (("battle", "calm", "unknown"), (1, 0, 2, 2)),
                           (("battle", "unknown", "waltz"), (1, 0, 1, 1))):
        vocabulary = Labels(names=names)
        assert tuple(labels.index_of(x, vocabulary) for x in (CALM, BATTLE, ALONE, other)) == numbers
        assert vocabulary.unlabelled_index == len(names)


def test_parts_of_a_track_are_equally_long():
    song, jingle = (Track("x.u16", f"/m/{name}.ogg", 100, samples, "", dict.fromkeys(TAGS))
                    for name, samples in (("My  song", 6900), ("jingle", 300)))
    names = labels.vocabulary([song, jingle], "part")
    assert names == ("My song/01", "My song/02", "My song/03", "jingle/01")
    vocabulary = Labels(of="part", names=names[1:])
    seconds = np.array([0, 22.9, 23.1, 45.9, 46.1, 68.9, 69.5])
    assert labels.indices_of(song, vocabulary, seconds).tolist() == [3, 3, 0, 0, 1, 1, 1]
    assert labels.index_of(song, vocabulary) == vocabulary.unlabelled_index == 3
    assert labels.indices_of(jingle, vocabulary, seconds[:2]).tolist() == [2, 2]
    assert vocabulary.groups == {"My song": [0, 1], "jingle": [2]} and vocabulary.tracks == [0, 0, 1]
    assert Labels(names=("a/b", "a/c")).groups == {"a/b": [0], "a/c": [1]}
    nested = Labels(of="part", names=("a/x/01", "b/x/01", "b/y/01"), moods={"loud": (1,)})
    assert nested.groups == {"loud": [1], "a": [0], "a/x": [0], "b": [1, 2], "b/x": [1], "b/y": [2]}


def test_loud_and_soft_parts_are_measured(tmp_path):
    sound = np.repeat([0.1, 0.4, 0.01, 0.2, 0.3, 0.02], 20 * 100) * np.resize([1, -1], 12000)
    (tmp_path / "folder").mkdir()
    audio.to_u16(sound).tofile(tmp_path / "folder" / "song.u16")
    song = Track("folder/song.u16", "/m/song.ogg", 100, len(sound), "", dict.fromkeys(TAGS))
    names = labels.vocabulary([song], "part")
    assert names[0] == "folder/song/01" and len(names) == 6
    assert labels.moods_of(tmp_path, [song], names) == {"loud": (1, 4), "soft": (2, 5)}


def test_a_model_receives_labels_by_name_and_no_unknown_label():
    vocabulary = Labels(names=("battle", "calm"))
    assert [labels.known_label(t, vocabulary) for t in (CALM, BATTLE, ALONE)] == ["calm", "battle", None]
    assert labels.known_label(CALM, None) is None and labels.known_label(CALM, Labels(names=("x", "y"))) is None
