"""What `vqwave play` does between the stream and the speakers: what it records, shows and tells."""

import json
from types import SimpleNamespace

import pytest
from test_stream import BLOCK, chain, start

from vqwave.commands import play as command
from vqwave.errors import UserError
from vqwave.play import playback
from vqwave.play.render import Finish


@pytest.fixture
def play(monkeypatch):
    """`play(stream, perform, …)`; `perform(blocks, press, show)` stands for speakers and keys."""
    def play(stream, perform, changes=(), **options):
        def speakers(blocks, rate, latency, *, show, press, **_):
            perform(blocks, press, show)

        monkeypatch.setattr(playback, "play", speakers)
        args = {"latency": "normal", "device": None, "record": None, "recordings": None,
                "other_weights": None, "midi_in": None, "midi_out": None, "osc": None, "link": False}
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


def test_notes_cannot_be_sent_without_a_score(play):
    with pytest.raises(UserError, match="--midi-out, --osc and --link need weights with a score"):
        play(start(chain(128), seed=3), lambda blocks, *_: next(blocks), midi_out="synth")
