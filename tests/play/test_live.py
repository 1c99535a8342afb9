"""What `vqwave play` does between the stream and the speakers: what it records, shows and tells."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from test_controls import Sounding, leaning
from test_stream import BLOCK, chain, start

from vqwave.commands import play as command
from vqwave.errors import UserError
from vqwave.play import midi, playback, session
from vqwave.play.render import Finish
from vqwave.play.session import Session

PAST = 4 * BLOCK / 22050


@pytest.fixture
def play(monkeypatch):
    """`play(stream, perform, …)`; `perform(blocks, press, show)` stands for speakers and keys."""
    def play(stream, perform, changes=(), **options):
        def speakers(blocks, rate, latency, *, show, press, **_):
            perform(blocks, press, show)

        monkeypatch.setattr(playback, "play", speakers)
        args = {"latency": "normal", "device": None, "record": None, "recordings": None,
                "other_weights": None, "midi_in": None, "midi_out": None}
        return command.play(stream, SimpleNamespace(**args | options), Finish(), changes)

    return play


def test_pressed_keys_are_recorded_only_if_music_played(play, tmp_path):
    path = tmp_path / "score.json"
    path.write_text("a good session")

    def fail(blocks, keys, status):
        raise UserError("there is no device to play on")

    def perform(blocks, keys, status):
        next(blocks)
        keys("-")

    with pytest.raises(UserError, match="no device"):
        play(start(chain(128), seed=3), fail, record=path)
    assert path.read_text() == "a good session"
    play(start(chain(128), seed=3), perform, record=path)
    assert json.loads(path.read_text()) == {"seed": 3, "changes": [[BLOCK, {"loudness": -2.0}]]}


def test_all_keys_are_explained_on_a_terminal_of_80_columns(play, monkeypatch, capsys):
    monkeypatch.setattr(command, "Console", lambda stderr: SimpleNamespace(is_terminal=True, width=80))

    def perform(blocks, keys, status):
        keys("?")
        status(playback.Status(1.0, 2.0, 0.5, 0, False))

    play(start(chain(128), seed=3), perform)
    *lines, last = capsys.readouterr().err.replace("\r\x1b[K", "").split("\n")
    assert all(len(line) < 80 for line in lines) and "-/+ loudness" in lines[0]
    assert lines[-1].endswith("1–2 level  0 all") and last.startswith("\r? keys")


def test_a_session_recorded_over_a_replay_replays_bit_for_bit(play, tmp_path):
    path, heard = tmp_path / "score.json", []
    changes = [(BLOCK, {"loudness": -6}), (2 * BLOCK + 1, {"jump": 8}), (9 * BLOCK, {"hold": 0})]

    def perform(blocks, keys, status):
        for key in "- - T":
            heard.append(next(blocks))
            keys(key)

    play(start(chain(128), seed=3), perform, changes, record=path)
    score = Session.read(path)
    assert [change for _, change in score.changes[:2]] == [{"loudness": -2.0}, {"loudness": -6}]
    assert score.changes[-1] == (9 * BLOCK, {"hold": 0}), "what the score had yet to change"
    again = session.replay(start(chain(128), seed=score.seed), score.changes)
    np.testing.assert_array_equal([next(again) for _ in heard], heard)


def test_the_last_changes_of_a_midi_port_are_recorded(play, monkeypatch, tmp_path):
    class Port:
        def __init__(self, keys):
            self.close = lambda: keys.put("mutate", 1.0)

    monkeypatch.setattr(midi, "open_input", lambda name, keys, say: Port(keys))
    path = tmp_path / "score.json"
    play(start(chain(128), seed=3), lambda blocks, keys, status: next(blocks),
         [(BLOCK, {"loudness": -6})], record=path, midi_in="keys")
    assert Session.read(path).changes == ((BLOCK, {"mutate": 1.0}), (BLOCK, {"loudness": -6}))


def test_pitches_are_measured_before_the_music_if_a_midi_port_is_open(play, monkeypatch):
    parts, events = leaning(), []

    class Heard(Sounding):
        def pitches(self, level):
            events.append(level)
            return super().pitches(level)

    monkeypatch.setattr(midi, "open_input", lambda name, keys, say: events.append("notes")
                        or SimpleNamespace(close=lambda: None))
    for more, expected in (({"midi_in": "keys"}, [512, 128, "notes"]), ({}, [])):
        events.clear()
        play(start(parts, seed=3, music=Heard(parts)), lambda blocks, *_: next(blocks), **more)
        assert events == expected


def test_notes_cannot_be_sent_without_a_score(play):
    with pytest.raises(UserError, match="--midi-out sends the notes of a score; these weights have none"):
        play(start(chain(128), seed=3), lambda blocks, *_: next(blocks), midi_out="synth")
