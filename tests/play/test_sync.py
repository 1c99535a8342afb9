import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from vqwave.errors import UserError
from vqwave.play import sync

BLOCK = 1000


class Partner:
    def __init__(self):
        self.told, self.tempo = [], 0.0

    def tell(self, tempo, place):
        self.told.append((tempo, place))

    def heard(self):
        tempo, self.tempo = self.tempo, 0.0
        return tempo


def blocks(stream):
    """Blocks of a stream with a beat every 700 samples; the score runs ahead of the sound."""
    for _ in range(10):
        stream.position += BLOCK
        stream.beats = np.arange(0, stream.position + 2 * BLOCK, 700)
        stream.places = np.arange(len(stream.beats)) % 4
        yield np.zeros(BLOCK)


def test_each_beat_is_told_once_when_it_is_heard_and_a_tempo_is_followed():
    stream, partner, followed = SimpleNamespace(position=0, tempo=90.0), Partner(), []
    beats = sync.Beats(stream, [partner], followed.append)
    made = beats.follow(blocks(stream))
    for sample in range(0, 4000, 250):
        while stream.position < sample + BLOCK:
            next(made)
        beats.send(sample)
        assert len(partner.told) == sample // 700 + 1
    assert partner.told == [(90.0, place) for place in (0, 1, 2, 3, 0, 1)]
    partner.tempo = 111.0
    beats.send(4000)
    beats.send(4001)
    assert followed == [111.0]


def test_osc_tells_the_beats_and_receives_a_tempo():
    pytest.importorskip("pythonosc", reason="needs python-osc: pip install -e '.[osc]'")
    from pythonosc import dispatcher, osc_server

    received, handlers = [], dispatcher.Dispatcher()
    handlers.set_default_handler(lambda *message: received.append(message))
    with osc_server.BlockingOSCUDPServer(("127.0.0.1", 0), handlers) as server:
        port = server.server_address[1]
        partner = sync.Osc(f"127.0.0.1:{port}")
        partner.tell(96.0, 2)
        for _ in range(2):
            server.handle_request()
        assert received == [("/vqwave/tempo", 96.0), ("/vqwave/beat", 2)]
        partner._partner = "127.0.0.1", port + 1  # it hears itself
        partner.tell(132.0, 0)
        for _ in range(100):
            if tempo := partner.heard():
                break
            time.sleep(0.05)
        assert tempo == 132 and partner.heard() == 0
        partner.close()
    with pytest.raises(UserError, match="must be HOST:PORT"):
        sync.Osc("synth")


@pytest.mark.parametrize(("module", "partner", "message"), [
    ("pythonosc", lambda: sync.Osc("127.0.0.1:9000"), "OSC needs python-osc: pip install python-osc"),
    ("aalink", sync.Link, "Ableton Link needs aalink: pip install aalink")])
def test_a_missing_package_is_one_line(monkeypatch, module, partner, message):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=message):
        partner()


def test_link_has_the_tempo_of_the_score():
    pytest.importorskip("aalink", reason="needs aalink: pip install -e '.[link]'")
    partner = sync.Link()
    assert partner.heard() == 0
    partner.tell(97.0, 0)
    assert abs(partner._link.tempo - 97) < 0.1 and partner.heard() == 0
    partner._link.tempo = 80.0
    assert abs(partner.heard() - 80) < 0.1
    partner.close()
