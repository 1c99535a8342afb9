"""MIDI files: as scores, and from the notes of scores and recordings. They need the package mido.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..config.roll import BANDS, STEPS_PER_BEAT, VELOCITIES
from ..data.scores import Score
from ..dsp import timing, transcription
from ..errors import UserError
from ..io.files import atomic_write, check_place, printable, reason
from .midi import load_mido

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
