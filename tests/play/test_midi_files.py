import struct

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqwave.commands import generate
from vqwave.dsp.beats import STEPS_PER_BEAT
from vqwave.errors import UserError
from vqwave.generators.composer import VELOCITIES
from vqwave.play import midi_files

RATE = 22050


def test_midi_files_are_scores_and_scores_midi_files(tmp_path):
    path = tmp_path / "tune.mid"
    notes = [(0, RATE // 2, 60, VELOCITIES[1]), (RATE, 2 * RATE, 64, VELOCITIES[-1])]
    midi_files.write(path, notes, RATE)
    score = midi_files.read(path)
    np.testing.assert_allclose(score.starts, [0, 1], atol=0.01)
    np.testing.assert_allclose(score.ends, [0.5, 2], atol=0.01)
    assert score.pitches.tolist() == [60, 64] and score.loudness.tolist() == [1, 3]
    # With beats, the grid of the score comes back.
    beats = np.rint(60 / 96 * RATE * np.arange(5))
    midi_files.write(path, notes, RATE, beats)
    np.testing.assert_allclose(midi_files.read(path).beats[1:6], beats / RATE, atol=1e-3)
    np.testing.assert_allclose(midi_files.read(path).starts, [0, 1], atol=0.01)
    midi_files.write(path, notes, RATE, [0, 16.78 * RATE])  # slower than a file can say; a tick lasts 35 ms
    np.testing.assert_allclose(midi_files.read(path).starts, [0, 1], atol=0.018)
    for wrong, why in ((tmp_path, "is a directory"), (tmp_path / "no.mid", "no such file or directory")):
        with pytest.raises(UserError, match=f"^{wrong}: {why}$"):
            midi_files.read(wrong)


def test_the_notes_of_a_file_are_on_its_grid_at_each_tempo(led_music, tmp_path):
    """Also if the tempo changes in small steps or within a beat."""
    path = tmp_path / "piece.mid"
    with led_music.stream(seed=5) as stream:
        stream.set(tempo=96)
        for number in range(60):
            if number == 30:
                stream.set(tempo=140)
            next(stream)
        notes, beats = stream.notes(0, stream.position), stream.beats
    midi_files.write(path, notes, RATE, beats)
    times = np.cumsum([message.time for message in mido.MidiFile(path).tracks[0]])
    assert not (times % (midi_files.BEAT_TICKS // STEPS_PER_BEAT)).any()
    tempi = [round(mido.tempo2bpm(message.tempo)) for message in mido.MidiFile(path) if message.type == "set_tempo"]
    assert tempi == [96, 140]
    reread = midi_files.read(path)
    rows = sorted(zip(reread.starts, reread.ends, reread.pitches, strict=True), key=lambda note: (round(note[0], 2), note[2]))
    np.testing.assert_allclose(rows, [(first / RATE, last / RATE, pitch) for first, last, pitch, _ in notes], atol=1e-3)
    seconds = beats[(beats >= 0) & (beats < notes[-1][0])] / RATE
    np.testing.assert_allclose(reread.beats[1 : len(seconds) + 1], seconds, atol=1e-3)
    slowing = np.cumsum(np.linspace(0.5, 0.51, 2000))
    midi_files.write(path, [(round(time * RATE), round((time + 0.2) * RATE), 60, 112) for time in slowing[:-1]], RATE,
               np.rint(RATE * np.append(0, slowing)))
    np.testing.assert_allclose(midi_files.read(path).beats[2:][:1999], slowing[:-1], atol=1e-3)
    track = mido.MidiTrack([mido.Message("note_on", note=60), mido.MetaMessage("set_tempo", tempo=1_000_000, time=360),
                            mido.Message("note_off", note=60, time=720)])
    mido.MidiFile(type=0, tracks=[track]).save(path)
    np.testing.assert_allclose(midi_files.read(path).beats, [-0.625, 0, 0.625, 1.625, 2.625, 3.625])


@pytest.mark.parametrize("seed", [1, 3])
def test_notes_keep_their_step_of_the_beat_from_a_file_to_a_score_and_back(led_music, led_weights, tmp_path, seed):
    """Piece 3 begins in the middle of a beat."""
    with led_music.stream(seed=seed, seconds=4) as stream:
        list(stream)
        notes, times = stream.notes(0, stream.position), stream._chain.score.state.times
    steps = [int(np.searchsorted(times, first) % STEPS_PER_BEAT) for first, *_ in notes]
    assert steps[0] == 2 * (seed == 3)
    scores = []
    for options in (["--seed", str(seed)], ["--score-from", str(tmp_path / "0.mid")]):
        path = tmp_path / f"{len(scores)}.wav"
        assert generate.main(["--vqvae-weights-dir", str(led_weights.codecs), "--generator-weights-dir",
                              str(led_weights.generators), "--engine", "onnx-float32", "--seconds", "4", *options,
                              "--midi", "--output", str(path)]) == 0
        scores.append(midi_files.read(path.with_suffix(".mid")))
    first, second = scores
    np.testing.assert_allclose(first.starts, [start / RATE for start, *_ in notes], atol=1e-3)
    count = len(notes) - 4  # the beat before the first note may delay the second piece
    assert all(in_beat(file)[:count] == steps[:count] for file in scores)
    np.testing.assert_allclose(np.diff(second.starts[:count]), np.diff(first.starts[:count]), atol=1e-3)


def in_beat(score) -> list[int]:
    """The step of its beat at which each note starts."""
    places = STEPS_PER_BEAT * np.interp(score.starts, score.beats, np.arange(len(score.beats)))
    np.testing.assert_allclose(places, np.rint(places), atol=0.02)
    return (np.rint(places) % STEPS_PER_BEAT).astype(int).tolist()


def test_the_drums_of_a_midi_file_are_attacks(tmp_path):
    track = mido.MidiTrack()
    for channel, note in ((0, 48), (9, 36), (9, 38), (9, 42)):  # a bass, a bass drum, a snare, a hi-hat
        track.append(mido.Message("note_on", channel=channel, note=note, velocity=90))
        track.append(mido.Message("note_off", channel=channel, note=note, time=240))
    mido.MidiFile(type=0, tracks=[track]).save(tmp_path / "drums.mid")
    score = midi_files.read(tmp_path / "drums.mid")
    assert score.pitches.tolist() == [48] and score.starts.tolist() == [0]
    np.testing.assert_allclose(score.attacks, [0, 0.25, 0.5, 0.75], atol=1e-6)
    assert score.bands.tolist() == [0, 0, 1, 3]
    mido.MidiFile(type=0, tracks=[track[2:]]).save(tmp_path / "drums.mid")
    with pytest.raises(UserError, match="has only drums"):
        midi_files.read(tmp_path / "drums.mid")


def note(kind, number, time=0, **more):
    return mido.Message(f"note_{kind}", note=number, time=time, **more)


def pedal(value, time=0, control=64):
    return mido.Message("control_change", control=control, value=value, time=time)


def score_of(path, *tracks, ticks=480):
    """The score of a file with these tracks; 960 ticks last a second."""
    mido.MidiFile(type=1, ticks_per_beat=ticks, tracks=[mido.MidiTrack(track) for track in tracks]).save(path)
    return midi_files.read(path)


def rows(score):
    """(pitch, start, end) of each note."""
    return [(int(pitch), round(start, 3), round(end, 3)) for pitch, start, end in
            zip(score.pitches, score.starts, score.ends, strict=True)]


def song(*bodies, form=1, division=96):
    def chunk(kind, body):
        return kind + struct.pack(">I", len(body)) + body

    return chunk(b"MThd", struct.pack(">HHH", form, len(bodies), division)) + b"".join(
        chunk(b"MTrk", body) for body in bodies)


NOTE, PEDAL = b"\0\x90\x3c\x40", b"\0\xb0\x40\x7f"


@pytest.mark.parametrize("data, words", [
    (b"", "damaged"), (b"MThd", "damaged"), (bytes(20), "damaged"), (song(NOTE)[:-1], "damaged"),
    (song(NOTE, form=2), "independent songs"), (song(NOTE, division=0), "no beats"), (song(NOTE, division=0xE728), "no beats"),
    (song(b"\0\x3c\x40"), "damaged"), (song(b"\0\x90\x3c\xff"), "damaged"), (song(b"\0\xff\x51\1\0"), "damaged"),
    (song(PEDAL), "has no notes"),
    (song(b"\0\xff\x01\0" * (midi_files.MOST_BYTES // 4)), "larger than 1 MB")])
def test_damaged_files_are_refused_and_the_size_of_all_tracks_together_is_limited(tmp_path, data, words):
    (tmp_path / "a.mid").write_bytes(data)
    with pytest.raises(UserError, match=f"^{tmp_path}/a.mid: [^\n]*{words}[^\n]*$"):
        midi_files.read(tmp_path / "a.mid")


def test_a_note_ends_by_its_own_channel_and_track(tmp_path):
    path = tmp_path / "two.mid"
    two = [note("on", 60), note("on", 60, channel=1), note("off", 60, 960), note("off", 60, 960, channel=1)]
    assert rows(score_of(path, two)) == [(60, 0, 1), (60, 0, 2)]
    # Tracks may share a channel, and one may end the other's notes.
    assert rows(score_of(path, [note("on", 60), note("off", 60, 1920)], [note("on", 60, 240), note("off", 60, 720)])) == [
        (60, 0, 2), (60, 0.25, 1)]
    assert rows(score_of(path, [note("on", 60)], [note("off", 60, 960)])) == [(60, 0, 1)]


MESSAGES = st.one_of(
    st.builds(note, st.sampled_from(["on", "off"]), st.integers(0, 127), st.integers(0, 2000), channel=st.sampled_from([0, 1, 9]),
              velocity=st.integers(0, 127)),
    st.builds(pedal, st.integers(0, 127), st.integers(0, 2000), st.sampled_from([64, 120, 121, 123])),
    st.builds(mido.UnknownMetaMessage, st.sampled_from([0x51, 0x54, 0x58, 0x59]), st.lists(st.integers(0, 255), max_size=4)),
    st.builds(mido.MetaMessage, st.just("set_tempo"), tempo=st.sampled_from([0, 1, 50_000, 500_000, 3_000_000, 0xFFFFFF]),
              time=st.sampled_from([0, 7, 2000, 0xFFFFFFF])))


@given(st.lists(st.lists(MESSAGES, max_size=20), max_size=3), st.sampled_from([1, 480, 0xE728 - 0x10000]),
       st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3))
def test_any_file_is_a_score_or_refused_in_a_line(tmp_path_factory, tracks, ticks, damage):
    path = tmp_path_factory.getbasetemp() / "any.mid"
    mido.MidiFile(type=1, ticks_per_beat=ticks, tracks=[mido.MidiTrack(track) for track in tracks]).save(path)
    data = bytearray(path.read_bytes())
    for place, byte in damage:
        data[place % len(data)] = byte
    path.write_bytes(data)
    try:
        score = midi_files.read(path)
    except UserError as e:
        assert str(e).startswith(f"{path}: ") and "\n" not in str(e)
    else:
        assert len(score.starts) and (np.diff(score.starts) >= 0).all() and (score.ends > score.starts).all()
        assert (np.diff(score.beats) > 0).all() and score.beats[0] < 0 and score.beats[-1] > score.ends.max()
        assert len(score.beats) < 5 * score.beats[-1] + 20


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(28, 87), st.integers(1, 20), st.integers(0, 3)), min_size=1, max_size=20),
       st.sampled_from([45, 72, 96, 120, 180]))
def test_notes_that_are_written_are_read_again(tmp_path_factory, notes, tempo):
    step, path = 60 / tempo / STEPS_PER_BEAT * RATE, tmp_path_factory.getbasetemp() / "again.mid"
    written, free = [], {}
    for start, pitch, length, loudness in sorted(notes):
        if start >= free.get(pitch, 0):  # one string cannot play two notes
            free[pitch] = start + length
            written.append((round(start * step), round((start + length) * step), pitch, VELOCITIES[loudness]))
    midi_files.write(path, written, RATE, np.rint(step * STEPS_PER_BEAT * np.arange(20)))
    score = midi_files.read(path)
    order = np.lexsort((score.pitches, np.rint(score.starts * 100)))
    np.testing.assert_array_equal(score.pitches[order], [pitch for *_, pitch, _ in written])
    np.testing.assert_allclose(score.starts[order], [first / RATE for first, *_ in written], atol=2e-3)
    np.testing.assert_allclose(score.ends[order], [last / RATE for _, last, *_ in written], atol=2e-3)
    if max(velocity for *_, velocity in written) == VELOCITIES[-1]:
        np.testing.assert_array_equal(np.take(VELOCITIES, score.loudness[order]), [velocity for *_, velocity in written])
