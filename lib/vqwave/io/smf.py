"""Standard MIDI files (RP-001, MIDI Manufacturers Association 1996): the events of their tracks
that decide notes and time. Other events are skipped, whatever they hold.
"""

import struct
from typing import NamedTuple

MOST_BYTES = 2_000_000
MOST_NOTES, MOST_EVENTS = 100_000, 300_000
"""The largest file that is read; the most notes, seven in each second of four hours; and the most
events: the beginning, the end and a change of the pedal for each of these notes.
"""
NOTE_OFF, NOTE_ON, CONTROL = 0x80, 0x90, 0xB0
TEMPO, END_OF_TRACK = 0x51, 0x2F
PEDAL, SOUND_OFF, RESET, NOTES_OFF = 64, 120, 121, 123
"""The controllers that change which notes sound."""
_CONTROLLERS = {PEDAL, SOUND_OFF, RESET, NOTES_OFF}
_ONE_BYTE = {0xC0, 0xD0}  # channel messages with one data byte; others have two
_SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1}  # data bytes of system messages; others have none
_META, _SYSEX = 0xFF, (0xF0, 0xF7)
_NTSC = {29: 30000 / 1001}  # frames per second of SMPTE's drop-frame time code


class Event(NamedTuple):
    """An event at a tick. status: that of a channel message, with two data bytes, or `TEMPO`, with
    the microseconds per quarter note. Velocity 0 ends a note, as in the file.
    """

    tick: int
    status: int
    first: int
    second: int = 0


class Track(NamedTuple):
    """The events of a track in order, and the tick of its end."""

    events: list[Event]
    end: int


class MidiFile(NamedTuple):
    """ticks_per_quarter: 0 with SMPTE time division; then ticks_per_second is above 0."""

    tracks: list[Track]
    ticks_per_quarter: int
    ticks_per_second: float


def parse(data: bytes) -> MidiFile:
    """The tracks of a file of format 0 or 1. Raises `ValueError`, whose text goes on from the name
    of the file, unless the file is whole and within `MOST_BYTES`, `MOST_NOTES` and `MOST_EVENTS`.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES // 1_000_000} MB")
    if not data.startswith(b"MThd"):
        raise ValueError("it does not begin with MThd")
    if len(data) < 14:
        raise ValueError("it ends too early")
    length, form, count, division = struct.unpack(">IHHH", data[4:14])
    if form == 2:
        raise ValueError("it holds independent songs (format 2)")
    smpte = division >= 0x8000
    frames, ticks = 256 - (division >> 8), division & 0xFF if smpte else division
    if not ticks:
        raise ValueError("its time division is 0")
    tracks: list[Track] = []
    notes, room, place = 0, MOST_EVENTS, 8 + length
    while place + 8 <= len(data):
        kind, size = struct.unpack(">4sI", data[place : place + 8])
        place += 8 + size
        if kind == b"MTrk":
            track, notes = _parse_track(data[place - size : place], notes, room)
            room -= len(track.events)
            tracks.append(track)
    if len(tracks) < count:
        raise ValueError(f"it has {len(tracks)} of its {count} tracks")
    return MidiFile(tracks, 0 if smpte else ticks,
                    _NTSC.get(frames, frames) * ticks if smpte else 0.0)


def _parse_track(data: bytes, notes: int, room: int) -> tuple[Track, int]:
    """The track of a chunk, and the number of notes up to its end. notes: before it. room: the most
    events of the track.
    """
    events: list[Event] = []
    place = tick = running = 0
    try:
        while place < len(data):
            delta, place = _number(data, place)
            tick += delta
            status, place = data[place], place + 1
            if status == _META:
                kind = data[place]
                size, place = _number(data, place + 1)
                if kind == END_OF_TRACK:
                    break
                if kind == TEMPO and size == 3 and any(data[place : place + 3]):
                    tempo = int.from_bytes(data[place : place + 3], "big")
                    events.append(Event(tick, TEMPO, tempo))
                place += size
            elif status in _SYSEX:
                size, place = _number(data, place)
                place += size
            elif status > _SYSEX[0]:
                place += _SYSTEM_BYTES.get(status, 0)
            else:
                if status < NOTE_OFF:  # a data byte: the message has the status of the last one
                    status, place = running, place - 1
                running, kind = status, status & 0xF0
                first, second = data[place], 0 if kind in _ONE_BYTE else data[place + 1]
                place += 1 if kind in _ONE_BYTE else 2
                if not status or first > 127 or second > 127:
                    raise ValueError("a track of it is damaged")
                if kind <= NOTE_ON or kind == CONTROL and first in _CONTROLLERS:
                    events.append(Event(tick, status, first, second))
                    notes += kind == NOTE_ON and second > 0
                    if notes > MOST_NOTES:
                        raise ValueError(f"it has more than {MOST_NOTES:,} notes")
            if len(events) > room:
                raise ValueError(f"it has more than {MOST_EVENTS:,} events of notes, pedal "
                                 f"and tempo")
        if place > len(data):
            raise IndexError
    except IndexError as e:
        raise ValueError("a track of it ends too early") from e
    return Track(events, tick), notes


def _number(data: bytes, place: int) -> tuple[int, int]:
    """The number of one to four bytes at a place, and the place after it."""
    number = 0
    for count in range(4):
        byte = data[place + count]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + count + 1
    raise ValueError("a number of it has more than four bytes")
