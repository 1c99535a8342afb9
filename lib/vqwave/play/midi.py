"""MIDI in and out: held notes draw the music to them, knobs turn its numbers, and the notes that
are heard are told to synthesizers and written for scores.

Ports and files are mido's, over python-rtmidi; without them nothing else changes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..io.files import atomic_write, printable, reason
from . import controls

INSTALL = "pip install mido python-rtmidi"

SILENCE = (120, 123)
"""Controllers that end all notes."""

_EVERY = 0.005
_LOOK = 1.0
"""Seconds between two looks into a port, and between two looks whether it is still there."""


# --- in -------------------------------------------------------------------------------------------


class Listener:
    """What comes out of a MIDI port, told to a stream's `Keys` from a thread of its own.

    port: has `iter_pending` and `close`, as mido's have. present: whether it is still there. Where
    it vanishes, the notes that were held are released, `say` is told in a line, and that is all.
    """

    def __init__(self, port, keys, present: Callable[[], bool] = lambda: True,
                 say: Callable[[str], None] = lambda line: None):
        self.port, self.keys, self.present, self.say = port, keys, present, say
        self.held: set[int] = set()
        self._knobs = {one.knob.controller: name for name, one in controls.CONTROLS.items()
                       if one.knob is not None}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="vqwave-midi", daemon=True)
        self._thread.start()

    def close(self):
        """End the thread, and close the port."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # it may be gone
            self.port.close()

    def take(self, messages: Iterable):
        """Do what some messages ask for; notes that are struck together are held together."""
        before, knobs = set(self.held), {}
        for message in messages:
            if message.type == "note_on" and message.velocity:
                self.held.add(message.note)
            elif message.type in ("note_on", "note_off"):
                self.held.discard(message.note)
            elif message.type == "control_change":
                if message.control in SILENCE:
                    self.held.clear()
                elif message.control in self._knobs:
                    knobs[self._knobs[message.control]] = message.value / 127
        for name, share in knobs.items():
            self.keys.put(name, share)
        if self.held != before:
            self.keys.hold_notes(sorted(self.held)[: controls.MOST_NOTES])

    def _listen(self):
        looked = time.monotonic()
        try:
            while not self._ended.wait(_EVERY):
                self.take(self.port.iter_pending())
                if time.monotonic() - looked > _LOOK:
                    looked = time.monotonic()
                    if not self.present():
                        raise OSError("it is no longer there")
        except Exception as e:  # a driver's own: the sound goes on
            self.say(f"the MIDI port is lost: {' '.join(str(e).split()) or type(e).__name__}")
            if self.held:
                self.held.clear()
                self.keys.hold_notes(())


def listen(name: str, keys, say) -> Listener:
    """A `Listener` on the input port of that name. Raises `UserError` where there is none."""
    mido = _mido()
    with _ports():
        found = _choose(mido.get_input_names(), name, "to listen to")
        return Listener(mido.open_input(found), keys, lambda: found in mido.get_input_names(), say)


# --- out ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Note:
    """A note begins to be heard, or (velocity 0) no longer is, at a sample of the music."""

    sample: int
    note: int
    velocity: int


class Heard:
    """Hears notes in sound that comes in blocks: the peaks of its spectrum that last.

    What sounds in two frames in a row begins there, and ends when three have gone without it. A
    note is heard at its own pitch; loud overtones of it are notes too.
    """

    LOWEST, HIGHEST = 55.0, 2000.0
    """Hertz."""
    SOFTEST, RANGE, PROMINENCE = -50.0, 25.0, 10.0
    """dB under full scale, under the loudest, and over the median of the spectrum around."""
    MOST = 8

    def __init__(self, sample_rate: int):
        self.sample_rate = sample_rate
        self._size = 1 << round(np.log2(0.186 * sample_rate))
        self._hop = self._size // 4
        self._rest, self._frame = np.zeros(0, np.float32), 0
        self._seen: dict[int, int] = {}  # notes that may begin, and their velocity
        self._sounding: dict[int, int] = {}  # notes, and the frames that went without them

    def push(self, audio: np.ndarray) -> list[Note]:
        """The notes that begin and end in what came up to here; audio float [n]."""
        self._rest, made = np.concatenate([self._rest, audio]), []
        while len(self._rest) >= self._size:
            made += self._step(self._peaks(self._rest[: self._size]))
            self._rest = self._rest[self._hop :]
        return made

    def end(self) -> list[Note]:
        """The ends of the notes that still sound."""
        return [Note(self._sample, note, 0) for note in self._sounding]

    @property
    def _sample(self) -> int:
        return self._frame * self._hop + self._size // 2

    def _step(self, peaks: dict[int, int]) -> list[Note]:
        made, self._frame = [], self._frame + 1
        for note, velocity in peaks.items():
            if note in self._sounding:
                self._sounding[note] = 0
            elif note in self._seen:
                made.append(Note(self._sample - self._hop, note, velocity))
                self._sounding[note] = 0
        for note in [note for note in self._sounding if note not in peaks]:
            self._sounding[note] += 1
            if self._sounding[note] == 3:
                made.append(Note(self._sample, note, 0))
                del self._sounding[note]
        self._seen = peaks
        return made

    def _peaks(self, audio: np.ndarray) -> dict[int, int]:
        """Notes and velocities of a frame."""
        from scipy.ndimage import median_filter

        window = np.hanning(self._size)
        level = 20 * np.log10(np.abs(np.fft.rfft(audio * window)) * 2 / window.sum() + 1e-9)
        step = self.sample_rate / self._size
        inner = np.arange(max(1, int(self.LOWEST / step)), int(self.HIGHEST / step))
        around = median_filter(level, 41, mode="nearest")
        here = level[inner]
        found = inner[(here > level[inner - 1]) & (here >= level[inner + 1])
                      & (here > max(self.SOFTEST, level.max() - self.RANGE))
                      & (here > around[inner] + self.PROMINENCE)]
        found = found[np.argsort(-level[found], kind="stable")][: self.MOST]
        before, at, after = level[found - 1], level[found], level[found + 1]
        hertz = step * (found + 0.5 * (before - after) / (before - 2 * at + after - 1e-9))
        notes = np.round(69 + 12 * np.log2(hertz / 440)).astype(int)
        velocities = np.clip(np.round(127 + 2 * at), 1, 127).astype(int)
        return {int(n): int(v) for n, v in zip(notes[::-1], velocities[::-1], strict=True)}


class Teller:
    """Hears the blocks of a stream on their way to the speakers, and tells a port each note when it
    is heard there. A port that fails is told nothing more; `say` is told why, in a line.
    """

    def __init__(self, port, sample_rate: int, say: Callable[[str], None] = lambda line: None):
        self.port, self.say = port, say
        self._heard, self._coming = Heard(sample_rate), deque()
        self._sounding: dict[int, int] = {}  # notes, and their velocity
        self._paused = False

    def listen(self, blocks):
        """The same blocks."""
        for block in blocks:
            self._coming.extend(self._heard.push(block))
            yield block

    def tell(self, sample: float, paused: bool = False):
        """The sound is at this sample. Notes are silent while it is paused, and struck again then.
        """
        if paused != self._paused:
            self._paused = paused
            for note, velocity in sorted(self._sounding.items()):
                self._send(note, 0 if paused else velocity)
        while not paused and self._coming and self._coming[0].sample <= sample:
            one = self._coming.popleft()
            self._send(one.note, one.velocity)
            if one.velocity:
                self._sounding[one.note] = one.velocity
            else:
                self._sounding.pop(one.note, None)

    def close(self):
        """End what sounds."""
        self.tell(0, paused=True)
        if self.port is not None:
            with contextlib.suppress(Exception):
                self.port.close()

    def _send(self, note: int, velocity: int):
        if self.port is None:
            return
        try:
            kind = "note_on" if velocity else "note_off"
            self.port.send(_mido().Message(kind, note=note, velocity=velocity))
        except Exception as e:  # a driver's own: the sound goes on
            self.port = None
            self.say(f"the MIDI port is lost: {' '.join(str(e).split()) or type(e).__name__}")


def tell(name: str, sample_rate: int, say) -> Teller:
    """A `Teller` of the output port of that name. Raises `UserError` where there is none."""
    mido = _mido()
    with _ports():
        found = _choose(mido.get_output_names(), name, "to play on")
        return Teller(mido.open_output(found), sample_rate, say)


def write(path, blocks: Iterable[np.ndarray], sample_rate: int) -> int:
    """The notes heard in blocks of sound as a MIDI file; how many there are.

    Raises `UserError` where mido is missing, or the file cannot be written.
    """
    mido = _mido()
    heard, notes = Heard(sample_rate), []
    for block in blocks:
        notes += heard.push(block)
    notes += heard.end()
    track, now = mido.MidiTrack(), 0
    for one in sorted(notes, key=lambda one: one.sample):
        ticks = round(one.sample / sample_rate * 960)  # 480 a beat, two beats a second
        track.append(mido.Message("note_on" if one.velocity else "note_off", note=one.note,
                                  velocity=one.velocity, time=ticks - now))
        now = ticks
    file = mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track])
    try:
        with atomic_write(path) as out:
            file.save(file=out)
    except OSError as e:
        raise UserError(f"{printable(path)}: cannot be written: {reason(e)}") from e
    return sum(one.velocity > 0 for one in notes)


def check():
    """mido is there. Raises `UserError` where it is not."""
    _mido()


def _mido():
    try:
        import mido
    except ImportError as e:
        raise UserError(f"MIDI needs mido: {INSTALL}") from e
    return mido


@contextlib.contextmanager
def _ports():
    """What a MIDI driver raises, as one line."""
    try:
        yield
    except UserError:
        raise
    except ImportError as e:  # mido takes it where it first asks for ports
        raise UserError(f"MIDI ports need python-rtmidi: {INSTALL}") from e
    except Exception as e:
        raise UserError(f"the MIDI port cannot be opened: {' '.join(str(e).split())}") from e


def _choose(names, name: str, what: str) -> str:
    """The port of that name, or the only one that has it in its own."""
    names = list(dict.fromkeys(names))
    near = [one for one in names if name.casefold() in one.casefold()]
    if name in names:
        return name
    if len(near) == 1:
        return near[0]
    there = f"there are: {', '.join(names)}" if names else "there is none at all"
    problem = f"could be several: {', '.join(near)}" if near else f"is not there; {there}"
    raise UserError(f"MIDI port {name!r} {what} {problem}")
