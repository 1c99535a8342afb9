"""MIDI files: as scores, and from the notes of scores and recordings."""

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from ..data.scores import Score
from ..dsp import beats as rhythm
from ..dsp import timing, transcription
from ..dsp.beats import STEPS_PER_BEAT
from ..errors import UserError
from ..generators.composer import BANDS, VELOCITIES
from ..io.files import atomic_write, check_place, printable, reason
from .midi import NOTES_OFF, SOUND_OFF

MOST_BYTES, MOST_SECONDS = 1_000_000, 4 * 3600
"""The largest and the longest file that is read."""
PEDAL, RESET = 64, 121
"""Controllers: the sustain pedal, and the end of all controllers."""
MIDDLE = 60
"""Notes up to this MIDI number are attacks in band 0 of the score, higher notes in band 1."""
VELOCITY_POWER = 4
"""The power of a note is proportional to this power of its velocity."""
UNKNOWN_BEAT, LONGEST_BEAT, BEAT_TICKS = 0.5, 0xFFFFFF, 480
"""Of files: the beat without a tempo, in seconds; the longest beat, in microseconds; and the ticks
of a beat that is written.
"""
EXACT = 5e-4
"""The largest error of a beat under the tempo of a file, in seconds."""
SHORTEST_NOTE = SHORTEST_BEAT = 0.05
"""The shortest note and beat of a file that is read, in seconds. Shorter notes last as long."""
CHANGE_BELOW, CHANGE_ABOVE = 30.0, 200.0
"""Within these tempi, in beats per minute, a beat stays the same number of quarter notes."""
ROUNDED = 1.02
"""The largest factor by which a folded tempo is beyond that of recordings."""
MOST_MERGED = 0.05
"""The share of successive notes that may begin in one step of folded beats."""
DRUMS = 9
"""The channel of percussion in General MIDI, whose notes have no pitch."""
DRUM_BANDS = {0: (35, 36, 41, 43, 45), 1: (37, 38, 39, 40, 47, 48, 50)}
"""The bands of attacks of bass drums and low toms, and of snares and high toms; cymbals and other
percussion are attacks in the highest band.
"""


def is_midi(path) -> bool:
    """Whether a file's name is that of a MIDI file."""
    return str(path).lower().endswith((".mid", ".midi"))


def check_output(path) -> Path:
    """The path, if a MIDI file can be written there. Raises `UserError` as `check_place` does."""
    if not is_midi(path):
        raise UserError(f"{printable(path)}: the name of a MIDI file ends in .mid or .midi")
    return check_place(path)


def read(path) -> Score:
    """The score of a MIDI file. Raises `UserError` if it is unreadable or has no notes.

    The tempi of the file are folded as those of recordings (`dsp.beats.SLOWEST`, `FASTEST`): a
    beat is a power of two of quarter notes.
    """
    try:
        with open(path, "rb") as opened:
            data = opened.read(MOST_BYTES + 1)
        return _score(*_parse(data))
    except (OSError, ValueError, UserError) as e:
        text = reason(e) if isinstance(e, OSError) else str(e)
        problem = "cannot be read as a MIDI file: " * isinstance(e, ValueError)
        raise UserError(f"{printable(path)}: {problem}{text}") from e


class _Event(NamedTuple):
    """A message of mido, the tick at which it comes, and the number of its track."""

    tick: int
    track: int
    message: Any


@dataclass(eq=False)
class _Note:
    """first, last: ticks. released: its key is up, and the pedal holds it."""

    first: int
    last: int
    pitch: int
    velocity: int
    track: int
    released: bool = False


def _parse(data: bytes) -> tuple[int, list[_Event], list[int]]:
    """(ticks of a quarter note, all events in order, the tick at which each track ends) of a file.
    Raises `ValueError` unless the file is whole and within `MOST_BYTES`.
    """
    import mido

    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES // 1_000_000} MB")
    try:
        file = mido.MidiFile(file=io.BytesIO(data))
    except Exception as e:  # mido raises any error for unknown bytes
        raise ValueError("it is damaged, or another kind of file") from e
    if file.type == 2:
        raise ValueError("it holds independent songs (format 2)")
    if file.ticks_per_beat <= 0:
        raise ValueError("it has no beats, only times of a film (SMPTE)")
    events, ends = [], []
    for number, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "end_of_track":
                break
            events.append(_Event(tick, number, message))
        ends.append(tick)
    return file.ticks_per_beat, sorted(events, key=lambda event: event.tick), ends


def _score(quarter: int, events: list[_Event], track_ends: list[int]) -> Score:
    notes, strikes = _perform(events, track_ends)
    if not notes:
        raise UserError(f"has {'only drums' if strikes else 'no notes'}")
    clock = _Clock.of(quarter, events)
    ticks, end_ticks, pitches, velocities = np.array(sorted(
        (x.first, x.last, x.pitch, x.velocity) for x in notes)).T
    starts = clock.at(ticks)
    ends = np.maximum(clock.at(end_ticks), starts + SHORTEST_NOTE)
    strike_ticks, bands = np.array(sorted(strikes)).T
    attacks = clock.at(strike_ticks)
    end = max(ends.max(), attacks.max())
    if end > MOST_SECONDS:
        raise ValueError(f"it lasts longer than {MOST_SECONDS // 3600} hours")
    decibels = VELOCITY_POWER * 10 * np.log10(velocities)
    loudness = transcription.classes_of(decibels, decibels.max())
    return Score(starts, ends, pitches, loudness, attacks, bands,
                 _beats(clock, quarter, ticks, end))


def _perform(events: list[_Event], track_ends: list[int]
             ) -> tuple[list[_Note], set[tuple[int, int]]]:
    """The notes of a file, and the attacks of these notes and of drums: (tick, band) each. A note
    ends when its key and the pedal are up, at another strike of its key, or with its track.
    """
    notes, strikes, pedals = [], set(), set()
    channels: dict[int, list[_Note]] = defaultdict(list)  # what sounds in each
    for tick, track, message in events:
        if message.type not in ("note_on", "note_off", "control_change"):
            continue
        channel, sounding = message.channel, channels[message.channel]
        ended: list[_Note] = []
        if message.type == "control_change":
            if message.control == PEDAL and message.value >= 64:
                pedals.add(channel)
            elif message.control in (PEDAL, RESET):
                pedals.discard(channel)
            elif message.control in (SOUND_OFF, NOTES_OFF):
                for note in sounding:
                    note.released = True
                ended = sounding if message.control == SOUND_OFF else []
        elif message.type == "note_on" and message.velocity and channel == DRUMS:
            strikes.add((tick, next((band for band, drums in DRUM_BANDS.items()
                                     if message.note in drums), BANDS - 1)))
        elif message.type == "note_on" and message.velocity:
            strikes.add((tick, int(message.note > MIDDLE)))
            ended = [x for x in sounding
                     if x.pitch == message.note and (x.released or x.track == track)]
            notes.append(_Note(tick, track_ends[track], message.note, message.velocity, track))
            sounding.append(notes[-1])
        else:  # of this track, or else of another
            held = [x for x in sounding if x.pitch == message.note and not x.released]
            for note in sorted(held, key=lambda x: x.track != track)[:1]:
                note.released = True
        if channel not in pedals:
            ended = ended or [x for x in sounding if x.released]
        for note in [*ended]:
            note.last = tick
            sounding.remove(note)
    return notes, strikes


class _Clock(NamedTuple):
    """The time of ticks. ticks, seconds: float64 [tempi], where each tempo begins. lengths: float64
    [tempi], seconds per tick from there on.
    """

    ticks: np.ndarray
    seconds: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, quarter: int, events: list[_Event]) -> Self:
        tempi = {0: UNKNOWN_BEAT * 1e6}
        tempi |= {event.tick: event.message.tempo for event in events
                  if event.message.type == "set_tempo" and event.message.tempo}
        ticks = np.array(sorted(tempi), float)
        beats = np.array([tempi[tick] for tick in ticks]) / 1e6
        if beats.min() < SHORTEST_BEAT:
            raise ValueError(f"a beat of it lasts {beats.min():g} s")
        lengths = beats / quarter
        seconds = np.append(0, np.cumsum(np.diff(ticks) * lengths[:-1]))
        return cls(ticks, seconds, lengths)

    def at(self, ticks) -> np.ndarray:
        """The seconds of ticks, float64 of the same shape."""
        tempo = np.searchsorted(self.ticks, ticks, side="right") - 1
        return self.seconds[tempo] + (ticks - self.ticks[tempo]) * self.lengths[tempo]

    def with_upbeat(self, quarter: int) -> Self:
        """The clock whose first beat begins before second 0, if it is an upbeat, see `_grid`.
        quarter: in ticks.
        """
        for i in range(1, np.searchsorted(self.ticks, quarter, side="right")):
            beat = self.lengths[i] * quarter
            if abs(self.seconds[i] * STEPS_PER_BEAT / beat - 1) < 0.01:
                start = self.seconds[i] - self.ticks[i] * self.lengths[i]
                return type(self)(np.append(0, self.ticks[i + 1 :]),
                                  np.append(start, self.seconds[i + 1 :]), self.lengths[i:])
        return self


def _beats(clock: _Clock, quarter: int, starts: np.ndarray, end: float) -> np.ndarray:
    """The times of the beats of a file, from before its beginning to after second `end`.

    quarter: in ticks. starts: int [notes], ticks.
    """
    clock, place, times = clock.with_upbeat(quarter), 0.0, []  # places and steps in quarter notes
    step = _typical_step(clock, quarter, starts, end)
    while len(times) < 2 or times[-2] <= end:
        second = float(clock.at(place * quarter))
        if not times or second > times[-1] + SHORTEST_BEAT:
            times.append(second)
        tempo = np.searchsorted(clock.ticks, place * quarter, side="right") - 1
        beat = clock.lengths[tempo] * quarter
        if not CHANGE_BELOW <= 60 / (step * beat) <= CHANGE_ABOVE:
            step = _fold(beat)
        aligned = step
        while place % aligned:
            aligned /= 2
        place += aligned
    return np.array([2 * times[0] - times[1], *times])


def _typical_step(clock: _Clock, quarter: int, starts: np.ndarray, end: float) -> float:
    """The quarter notes of a beat at the median tempo. Fast tempi are folded only as long as notes
    that begin one after another stay apart.
    """
    spans = np.diff(np.minimum(np.append(clock.seconds, np.inf), end))
    order = np.argsort(clock.lengths)
    before = np.cumsum(spans[order])
    median = clock.lengths[order][np.searchsorted(before, before[-1] / 2)]
    step = _fold(median * quarter)
    places = np.unique(np.rint(starts * STEPS_PER_BEAT / quarter))
    while step > 1 and len(np.unique(np.rint(places / step))) < (1 - MOST_MERGED) * len(places):
        step /= 2
    return step


def _fold(beat: float) -> float:
    """The power of two by which a beat, in seconds, is multiplied to be at a tempo of recordings.
    """
    factor = 1.0
    while beat * factor > ROUNDED * 60 / rhythm.SLOWEST:
        factor /= 2
    while beat * factor * ROUNDED < 60 / rhythm.FASTEST:
        factor *= 2
    return factor


def heard_notes(sound: np.ndarray, sample_rate: int) -> list[tuple[int, int, int, int]]:
    """The notes that a transcriber finds in float32 [samples], as `write` takes them."""
    heard = transcription.find_notes(sound, sample_rate)
    velocities = np.take(VELOCITIES, transcription.loudness_of(sound, sample_rate, heard))
    starts, ends = (np.rint(frames * sample_rate / timing.FRAMES_PER_SECOND).astype(int).tolist()
                    for frames in (heard.starts, heard.ends))
    return list(zip(starts, ends, heard.pitches.tolist(), velocities.tolist(), strict=True))


def write(path, notes: Iterable[tuple[int, int, int, int]], sample_rate: int, beats=()):
    """Write notes, (first sample, sample after the last, MIDI number, velocity) each, as a MIDI
    file.

    beats: the samples of the beats, rising, from sample 0 or before to after the notes. The tempo
    of the file follows the beats. Without beats, the tempo is constant.
    """
    import mido

    notes = list(notes)
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
    """The changes of a file's tempo: (sample, microseconds per beat). A tempo lasts until a beat
    would be wrong by `EXACT`.
    """
    times, places = samples / sample_rate, ticks / BEAT_TICKS
    clock, tempo = 0.0, 0
    for i, beats in enumerate(np.diff(places)):
        if abs(clock + tempo / 1e6 * beats - times[i + 1]) > EXACT:
            tempo = min(round(1e6 * (times[i + 1] - clock) / beats), LONGEST_BEAT)
            yield samples[i], tempo
        clock += tempo / 1e6 * beats
