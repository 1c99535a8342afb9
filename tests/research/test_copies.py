import re
from types import SimpleNamespace

import imported
import numpy as np
import pytest
from research import copies


def test_every_published_piece_is_searched():
    notice = (imported.ROOT / "NOTICE").read_text()
    generated = re.findall(r"\n(Made .*?:\n(?:  docs/\S+\n)+)", notice, re.DOTALL)
    listed = {path for part in generated for path in re.findall(r"docs/results/(\S+\.ogg)", part)}
    searched = {path.relative_to(imported.ROOT / "docs/results").as_posix() for pattern in copies.PIECES
                for path in (imported.ROOT / "docs/results").glob(pattern)}
    assert searched == listed and len(listed) > 10


def test_a_search_gives_seconds_with_and_without_held_sounds(rng):
    track = rng.integers(0, 256, (2000, 14))
    track[1000:1100] = track[1000]
    music = SimpleNamespace(encode=lambda sound, level: track[950:1150])
    corpus = SimpleNamespace(music=music, rate=copies.LEVEL * 10)
    found = copies.search(corpus, [track[:900], track[900:]], np.zeros(9))
    assert found["run"] == 20 and found["melody"] == pytest.approx(5, abs=0.4)


def test_pieces_are_searched_in_the_training_tracks_of_every_corpus(monkeypatch, capsys):
    """Weights of two soundtracks may have copied from either."""
    def open_corpus(music, data_dir, split, plan):
        return SimpleNamespace(train=[SimpleNamespace(seconds=99)], sides=dict.fromkeys(copies.SIDES, ()), music=music, rate=1, samples=lambda track: track,
                               codes=lambda level, tracks, variants: [("track", data_dir.name)])

    searched = []
    monkeypatch.setattr(copies, "Corpus", open_corpus)
    monkeypatch.setattr(copies, "PLANTED", 1)
    monkeypatch.setattr(copies, "PIECES", ("both/label_1.ogg",))
    monkeypatch.setattr(copies, "plant", lambda corpus, track: {"as it is": np.ones(1)})
    monkeypatch.setattr(copies.api, "load", lambda *folders: None)
    monkeypatch.setattr(copies.audio, "decode", lambda path, rate: np.zeros(1))
    monkeypatch.setattr(copies, "search", lambda corpus, training, sound: searched.append(training) or {"run": 0.0, "melody": 0.0})
    assert copies.main(["--corpora", "one", "two"]) == 0
    assert searched == 2 * [["one", "two"]] and "both/label_1.ogg" in capsys.readouterr().out
