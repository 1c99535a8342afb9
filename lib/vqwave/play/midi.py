"""MIDI: held notes pull the music towards them, controllers set controls, and the notes of a score
go to synthesizers and files. Ports and files need the package mido.
"""

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..config.roll import BANDS, STEPS_PER_BEAT, VELOCITIES
from ..data.scores import Score
from ..dsp import timing, transcription
from ..errors import UserError
from ..io.files import atomic_write, check_place, printable, reason
from . import controls
from .playback import find_by_name

INSTALL_MIDI = "pip install mido python-rtmidi"
MIDDLE = 60
"""Notes up to this MIDI number are attacks in band 0 of the score, higher notes in band 1."""
VELOCITY_POWER = 4
"""The power of a note is proportional to this power of its velocity."""
UNKNOWN_BEAT, LONGEST_BEAT, BEAT_TICKS = 0.5, 0xFFFFFF, 480
"""Of files: the beat of notes without a score, in seconds; the longest beat, in microseconds; and
the ticks of a beat.
"""
SHORTEST_BEAT = 0.05
"""The shortest beat of a file that is read, in seconds."""
EXACT = 5e-4
"""The largest error of a beat under the tempo of a file, in seconds."""
ROUNDING = 1e-6
"""The tolerance of a time on a beat, in beats."""
MOST_SECONDS = 4 * 3600
"""The longest file that is read."""
DRUMS = 9
"""The channel of percussion in General MIDI, whose notes have no pitch."""
DRUM_BANDS = {0: (35, 36, 41, 43, 45), 1: (37, 38, 39, 40, 47, 48, 50)}
"""The bands of attacks of bass drums and low toms, and of snares and high toms; cymbals and other
percussion are attacks in the highest band.
"""
ALL_NOTES_OFF = (120, 123)
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
                if message.control in ALL_NOTES_OFF:
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
    name, port = _open("input", name)
    return Input(port, keys, lambda: name in load_mido().get_input_names(), report)


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
        try:
            self.port.send(load_mido().Message(kind, note=note, velocity=velocity))
        except Exception as e:  # drivers have their own errors; the sound continues
            self.port = None
            self.report(_lost(e))


def open_output(name: str, stream, report) -> Output:
    """An `Output` to the port of that name. Raises `UserError` if there is no such port."""
    return Output(_open("output", name)[1], stream, report)


def is_midi(path) -> bool:
    """Whether a file's name is that of a MIDI file."""
    return str(path).lower().endswith((".mid", ".midi"))


def check_output(path) -> Path:
    """The path, if a MIDI file can be written there. Raises `UserError` as `check_place` does."""
    if not is_midi(path):
        raise UserError(f"{printable(path)}: the name of a MIDI file ends in .mid or .midi")
    return check_place(path)


def read(path) -> Score:
    """The score of a MIDI file. Raises `UserError` if it is unreadable or has no notes."""
    mido = load_mido()
    try:
        file, seconds, place, beats, beat = mido.MidiFile(path), 0.0, 0.0, [], 0.5
        sounding: dict[int, tuple[float, int]] = {}  # start and velocity
        notes, attacks = [], []
        for message in file:  # mido converts times to seconds
            seconds += message.time
            place += message.time / beat
            if seconds > MOST_SECONDS:
                raise ValueError(f"it lasts longer than {MOST_SECONDS // 3600} hours")
            while len(beats) <= place + ROUNDING:
                beats.append(seconds - (place - len(beats)) * beat)
            if message.type == "set_tempo":
                beat = message.tempo / 1e6
                if beat < SHORTEST_BEAT:
                    raise ValueError(f"a beat of it lasts {beat:g} s")
                if place <= 1 + ROUNDING and _is_step(seconds, beat):  # an upbeat, see `_grid`
                    beats[0] = seconds - place * beat
            elif message.type in ("note_on", "note_off"):
                note, has_pitch = message.note, message.channel != DRUMS
                if has_pitch and (start := sounding.pop(note, (seconds, 0)))[0] < seconds:
                    notes.append((*start, seconds, note))
                if message.velocity and message.type == "note_on":
                    attacks.append((seconds, int(note > MIDDLE) if has_pitch else _band(note)))
                    if has_pitch:
                        sounding[note] = seconds, message.velocity
    except (OSError, ValueError, TypeError, EOFError, KeyError, IndexError,
            ZeroDivisionError) as e:
        if isinstance(e, OSError) and e.errno:  # mido raises others for what the file holds
            raise UserError(f"{printable(path)}: {reason(e)}") from e
        why = " ".join(str(e).split()) or "it ends too early"
        raise UserError(f"{printable(path)}: cannot be read as a MIDI file: {why}") from e
    if not notes:
        raise UserError(f"{printable(path)}: has {'only drums' if attacks else 'no notes'}")
    starts, velocities, ends, pitches = np.array(sorted(notes)).T
    levels = VELOCITY_POWER * 10 * np.log10(velocities)
    loudness = transcription.classes_of(levels, levels.max())
    times, bands = np.array(sorted(set(attacks))).T
    beats += [seconds + (len(beats) + i - place) * beat for i in range(2)]
    beats = [2 * beats[0] - beats[1], *beats]
    return Score(starts, ends, pitches.astype(int), loudness, times, bands.astype(int),
                 np.array(beats))


def _is_step(seconds: float, beat: float) -> bool:
    """Whether a time is the length of a step, within a hundredth. beat: in seconds."""
    return abs(seconds * STEPS_PER_BEAT / beat - 1) < 0.01


def heard_notes(sound: np.ndarray, sample_rate: int) -> list[tuple[int, int, int, int]]:
    """The notes that a transcriber finds in float32 [samples], as `write` takes them."""
    heard = transcription.find_notes(sound, sample_rate)
    velocities = np.take(VELOCITIES, transcription.loudness_of(sound, sample_rate, heard))
    starts, ends = (np.rint(frames * sample_rate / timing.FRAMES_PER_SECOND).astype(int).tolist()
                    for frames in (heard.starts, heard.ends))
    return list(zip(starts, ends, heard.pitches.tolist(), velocities.tolist(), strict=True))


def _band(drum: int) -> int:
    """The band of attacks of a drum, a note of General MIDI's percussion."""
    return next((band for band, drums in DRUM_BANDS.items() if drum in drums), BANDS - 1)


def write(path, notes: Iterable[tuple[int, int, int, int]], sample_rate: int, beats=()):
    """Write notes, (first sample, sample after the last, MIDI number, velocity) each, as a MIDI
    file. Raises `UserError` without mido.

    beats: the samples of the beats, rising, from sample 0 or before to after the notes. The tempo
    of the file follows the beats. Without beats, the tempo is constant.
    """
    mido, notes = load_mido(), list(notes)
    if not len(beats):
        beat = UNKNOWN_BEAT * sample_rate
        beats = np.arange(0, max((last for _, last, *_ in notes), default=0) + 2 * beat, beat)
    samples, ticks = _grid(beats)
    events = [(sample, 0, 0, mido.MetaMessage("set_tempo", tempo=tempo))
              for sample, tempo in _tempi(samples, ticks, sample_rate)]
    for first, last, note, velocity in notes:
        events += [(first, velocity, note, mido.Message("note_on", note=note, velocity=velocity)),
                   (last, 0, note, mido.Message("note_off", note=note, velocity=0))]
    track, now = mido.MidiTrack(), 0
    for sample, *_, message in sorted(events, key=lambda event: event[:3]):
        tick = round(np.interp(sample, samples, ticks))
        track.append(message.copy(time=tick - now))
        now = tick
    with atomic_write(path) as file:
        mido.MidiFile(type=0, ticks_per_beat=BEAT_TICKS, tracks=[track]).save(file=file)


def _grid(beats) -> tuple[np.ndarray, np.ndarray]:
    """The samples of a file's beats from 0 on, and their ticks, for beats as in `write`.

    Sample 0 may be the second, third or fourth step of a beat. Then this beat is an upbeat: in
    the file it begins at sample 0, and its first steps last one step together.
    """
    place = round(np.interp(0, beats, np.arange(len(beats))) * STEPS_PER_BEAT)
    beat, phase = divmod(place, STEPS_PER_BEAT)
    beats = beats[beat:]
    ticks = BEAT_TICKS * np.arange(len(beats))
    if phase:
        steps = np.union1d(ticks, (phase + 1) * BEAT_TICKS // STEPS_PER_BEAT)
        beats, ticks = np.interp(steps, ticks, beats), steps
    return np.append(0, beats[1:]), ticks


def _tempi(samples, ticks, sample_rate: int) -> Iterator[tuple[int, int]]:
    """The changes of a file's tempo: (sample, microseconds per beat). Each tempo holds for as many
    beats as possible.
    """
    times, places = samples / sample_rate, ticks / BEAT_TICKS
    clock, begin, last = 0.0, 0, len(times) - 1
    while begin < last:
        least, most, end = 0.0, math.inf, begin  # of the beat's length
        while end < last:
            span = places[end + 1] - places[begin]
            shortest, longest = ((times[end + 1] - clock + error) / span
                                 for error in (-EXACT, EXACT))
            if max(least, shortest) > min(most, longest):
                break
            least, most, end = max(least, shortest), min(most, longest), end + 1
        tempo = min(round(1e6 * (least + most) / 2), LONGEST_BEAT)
        yield samples[begin], tempo
        clock += tempo / 1e6 * (places[end] - places[begin])
        begin = end


def load_mido():
    """The module mido. Raises `UserError` if it is missing."""
    try:
        import mido
    except ImportError as e:
        raise UserError(f"MIDI needs mido: {INSTALL_MIDI}") from e
    return mido


def _lost(error: Exception) -> str:
    return f"the MIDI port is lost: {' '.join(str(error).split()) or type(error).__name__}"


def _open(direction: str, name: str) -> tuple[str, Any]:
    """The name of a port that matches `name`, and the port. direction: "input" or "output"."""
    mido = load_mido()
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
