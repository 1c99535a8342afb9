"""MIDI ports: held notes pull the music towards them, controllers set controls, and the notes of a
score go to synthesizers. They need the package python-rtmidi.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import UserError
from . import controls
from .playback import find_by_name

INSTALL_MIDI = "pip install python-rtmidi"
SOUND_OFF, NOTES_OFF = 120, 123
"""Controllers that end all notes."""
_POLL, _CHECK = 0.005, 1.0
"""Seconds between two reads of a port, and between two checks that the port is still there."""


class Clock:
    """The tempo of a MIDI clock, in beats per minute; 0 until two beats have passed."""

    TICKS = 24
    """Clock messages per quarter note."""
    BEATS = 4
    """Beats of the average, because messages wait for the next read of the port."""
    PAUSE = 0.25
    """After a longer pause between two messages, in seconds, the clock starts again."""
    CHANGE = 0.75
    """The smallest change of tempo that is reported, in beats per minute."""

    def __init__(self):
        self.tempo, self._count = 0.0, 0
        self._times: deque[float] = deque(maxlen=self.TICKS * self.BEATS + 1)

    def tick(self, now: float) -> bool:
        """Handle a clock message at time `now`, in seconds. Returns whether the tempo changed."""
        if self._times and now - self._times[-1] > self.PAUSE:
            self._times.clear()
            self._count = 0
        self._times.append(now)
        beats, between = divmod(self._count, self.TICKS)
        self._count += 1
        if between or beats < 2:
            return False
        beat = (now - self._times[0]) * self.TICKS / (len(self._times) - 1)
        tempo = round(60 / max(beat, 1e-3), 1)
        changed = abs(tempo - self.tempo) >= self.CHANGE
        self.tempo = tempo if changed else self.tempo
        return changed


class Input:
    """Passes the messages of a MIDI port to a stream's `Keys`, in its own thread. port: has
    `iter_pending` and `close`, as mido's ports have. When the port is no longer `connected`, the
    held notes are released and `report` is called with one line.
    """

    def __init__(self, port, keys, connected: Callable[[], bool] = lambda: True,
                 report: Callable[[str], None] = lambda line: None):
        self.port, self.keys, self.connected, self.report = port, keys, connected, report
        self.held: set[int] = set()
        self.clock = Clock()
        self._knobs = {control.knob.controller: name
                       for name, control in controls.CONTROLS.items() if control.knob is not None}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vqwave-midi", daemon=True)
        self._thread.start()

    def close(self):
        """End the thread, and close the port."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # the port may be gone
            self.port.close()

    def handle(self, messages: Iterable, now: float = 0.0):
        """Apply messages in one change. now: the time, in seconds."""
        before, knobs = set(self.held), {}
        for message in messages:
            if message.type == "note_on" and message.velocity:
                self.held.add(message.note)
            elif message.type in ("note_on", "note_off"):
                self.held.discard(message.note)
            elif message.type == "control_change":
                if message.control in (SOUND_OFF, NOTES_OFF):
                    self.held.clear()
                elif message.control in self._knobs:
                    knobs[self._knobs[message.control]] = message.value / 127
            elif message.type == "clock" and self.clock.tick(now):
                self.keys.follow(self.clock.tempo)
        for name, share in knobs.items():
            self.keys.put(name, share)
        if self.held != before:
            self.keys.hold_notes(sorted(self.held)[: controls.MOST_NOTES])

    def _run(self):
        checked = time.monotonic()
        try:
            while not self._ended.wait(_POLL):
                self.handle(self.port.iter_pending(), time.monotonic())
                if time.monotonic() - checked > _CHECK:
                    checked = time.monotonic()
                    if not self.connected():
                        raise OSError("it is no longer there")
        except Exception as e:  # drivers have their own errors; the sound continues
            self.report(_lost(e))
            if self.held:
                self.held.clear()
                self.keys.hold_notes(())


def open_input(name: str, keys, report) -> Input:
    """An `Input` of the port of that name. Raises `UserError` if there is no such port."""
    import mido

    name, port = open_port("input", name)
    return Input(port, keys, lambda: name in mido.get_input_names(), report)


class Output:
    """Sends each note of a stream's score to a port when it is heard. An error ends the sending,
    and `report` is called with one line.
    """

    def __init__(self, port, stream, report: Callable[[str], None] = lambda line: None):
        self.port, self.stream, self.report = port, stream, report
        self._ends: dict[tuple[int, int, int], int] = {}
        """{(first sample, MIDI number, velocity): sample after the last}."""
        self._sounding: set[tuple[int, int, int]] = set()
        self._heard = 0

    def follow(self, blocks):
        """Yield the blocks, after reading the score's notes in each."""
        for block in blocks:
            end = self.stream.position
            begin = end - block.shape[-1]
            ends = {key: last for key, last in self._ends.items() if last > self._heard}
            still_open = [key for key, last in ends.items() if last >= begin]
            oldest = min([begin, *(first for first, *_ in still_open)])
            score = {(first, note, velocity): last
                     for first, last, note, velocity in self.stream.notes(oldest, end)}
            # The end may be composed later. A note that left the score, as by a jump, ends here.
            ends |= {key: score.get(key, begin) for key in still_open}
            self._ends = ends | {key: last for key, last in score.items() if key[0] >= begin}
            yield block

    def send(self, sample: float, paused: bool = False):
        """Send the notes up to this sample. A pause ends all notes; its end begins them again."""
        before, self._heard = self._heard, int(sample)
        sounding = {key for key, last in self._ends.items() if not paused
                    and (key[0] <= sample < last or before < key[0] <= sample)}
        for _, note, _ in sorted(self._sounding - sounding):
            self._send("note_off", note, 0)
        for _, note, velocity in sorted(sounding - self._sounding):
            self._send("note_on", note, velocity)
        self._sounding = sounding

    def close(self):
        """End all notes, and close the port."""
        self.send(0, paused=True)
        if self.port is not None:
            with contextlib.suppress(Exception):
                self.port.close()

    def _send(self, kind: str, note: int, velocity: int):
        if self.port is None:
            return
        import mido

        try:
            self.port.send(mido.Message(kind, note=note, velocity=velocity))
        except Exception as e:  # drivers have their own errors; the sound continues
            self.port = None
            self.report(_lost(e))


def _lost(error: Exception) -> str:
    return f"the MIDI port is lost: {' '.join(str(error).split()) or type(error).__name__}"


def open_port(direction: str, name: str) -> tuple[str, Any]:
    """The name of a port that matches `name`, and the port. direction: "input" or "output". Raises
    `UserError` if there is no such port.
    """
    import mido

    try:
        names = getattr(mido, f"get_{direction}_names")()
        port = find_by_name(name, {port: port for port in names}, f"MIDI {direction}")
        return port, getattr(mido, f"open_{direction}")(port)
    except UserError:
        raise
    except ImportError as e:  # mido imports rtmidi when it is first asked for ports
        raise UserError(f"MIDI ports need python-rtmidi: {INSTALL_MIDI}") from e
    except Exception as e:
        raise UserError(f"the MIDI port cannot be opened: {' '.join(str(e).split())}") from e
