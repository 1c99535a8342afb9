"""MIDI: messages reach the stream, notes reach a port or a file, and a broken port stops nothing."""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from vqwave.play import midi

RATE = 22050


def note(number, velocity=90, kind="note_on"):
    return SimpleNamespace(type=kind, note=number, velocity=velocity)


def knob(control, value):
    return SimpleNamespace(type="control_change", control=control, value=value)


class Keys:
    def __init__(self):
        self.calls, self.changed = [], threading.Event()

    def put(self, name, share):
        self.calls.append((name, share))
        self.changed.set()

    def follow(self, tempo):
        self.calls.append(tempo)

    def hold_notes(self, notes):
        self.calls.append(list(notes))
        self.changed.set()


class Port:
    """Gives what is put into it, raises errors that are put into it, and keeps what is sent."""

    def __init__(self):
        self.coming, self.sent, self.closed, self.broken = [], [], False, None

    def iter_pending(self):
        while self.coming:
            one = self.coming.pop(0)
            if isinstance(one, Exception):
                raise one
            yield one

    def send(self, message):
        if self.broken:
            raise self.broken
        self.sent.append((message.type, message.note))

    def close(self):
        self.closed = True


@pytest.fixture
def listener():
    listener = midi.Input(Port(), Keys())
    yield listener
    listener.close()
    assert listener.port.closed


@pytest.mark.parametrize("messages, calls", [
    ([note(60), note(64)], [[60, 64]]),
    ([note(60), note(60, 0)], []),
    ([knob(74, 127)], [("pull", 1.0)]),
    ([knob(7, 0)], [("loudness", 0.0)]),
    ([knob(99, 5), SimpleNamespace(type="clock")], []),
    ([note(n) for n in range(30, 60)], [list(range(30, 46))]),
])
def test_messages_hold_notes_and_turn_controls(listener, messages, calls):
    listener.handle(messages)
    assert listener.keys.calls == calls


def test_notes_are_released(listener):
    listener.handle([note(60), note(64), note(67)])
    listener.handle([note(64, 0, "note_off")])
    listener.handle([note(67, 0)])
    listener.handle([note(70), knob(123, 0)])
    assert listener.keys.calls == [[60, 64, 67], [60, 67], [60], []]


def test_the_tempo_follows_a_clock(listener):
    def send(beats, tempo, now=0.0):
        """Clock messages, which are read up to 5 ms late."""
        times = now + np.arange(24 * beats + 1) * 60 / tempo / 24
        for late in times + np.random.default_rng(1).uniform(0, 0.005, len(times)):
            listener.handle([SimpleNamespace(type="clock")], late)
        return times[-1]

    end = send(20, 120)
    assert 1 <= len(listener.keys.calls) <= 2 and abs(listener.keys.calls[-1] - 120) < 1
    listener.keys.calls.clear()
    end = send(20, 93.5, end)
    assert len(listener.keys.calls) <= 6 and abs(listener.keys.calls[-1] - 93.5) < 1
    listener.keys.calls.clear()
    send(1, 140, end + 5)  # a beat of another tempo after a pause is too little
    assert not listener.keys.calls


@pytest.fixture
def mido(monkeypatch):
    """What is used of mido, without a driver."""
    made = SimpleNamespace(
        Message=lambda kind, **more: SimpleNamespace(type=kind, **more),
        get_input_names=lambda: ["Keys 1", "Keys 2", "Pads"], get_output_names=lambda: [],
        open_input=lambda name: Port())
    monkeypatch.setitem(sys.modules, "mido", made)
    return made


class Scored:
    """A stream of blocks of half a second, whose score is composed half a second ahead."""

    def __init__(self, *notes):
        self.all, self.position = [(round(a * RATE), round(b * RATE), note, 73) for a, b, note in notes], 0

    def __iter__(self):
        for _ in range(10):
            self.position += RATE // 2
            yield np.zeros(RATE // 2, np.float32)

    def notes(self, begin, end):
        composed = self.position + RATE // 2
        return [(first, min(last, composed), *note) for first, last, *note in self.all if begin <= first < end]


def test_a_note_is_sent_when_it_is_heard_and_struck_again_after_a_pause(mido):
    """Also a note whose end is composed after its beginning is played."""
    port, stream = Port(), Scored((0.6, 3.2, 60))
    output = midi.Output(port, stream)
    assert sum(len(block) for block in output.follow(stream)) == 5 * RATE
    output.send(0.5 * RATE)
    assert not port.sent
    output.send(1.5 * RATE)
    assert port.sent == [("note_on", 60)]
    for _ in range(3):
        output.send(1.6 * RATE, paused=True)
    assert port.sent == [("note_on", 60), ("note_off", 60)]
    output.send(1.7 * RATE)
    output.send(3.1 * RATE)
    assert port.sent[2:] == [("note_on", 60)]
    output.send(3.1 * RATE, paused=True)
    output.close()
    assert port.sent[3:] == [("note_off", 60)] and port.closed, "ended once"


def test_a_note_that_is_struck_again_is_ended_first(mido):
    port, stream = Port(), Scored((0.0, 1.0, 60), (0.2, 3.0, 64), (1.0, 2.0, 60))
    output = midi.Output(port, stream)
    for block, _ in enumerate(output.follow(stream)):
        output.send(block * RATE / 2)
    assert port.sent == [("note_on", 60), ("note_on", 64), ("note_off", 60), ("note_on", 60), ("note_off", 60),
                         ("note_off", 64)]
