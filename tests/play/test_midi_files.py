import mido
import numpy as np
import pytest
from chains import save_led

from vqwave.commands import generate
from vqwave.config.roll import STEPS_PER_BEAT, VELOCITIES
from vqwave.errors import UserError
from vqwave.play import api, midi_files

RATE = 22050


@pytest.fixture(scope="module")
def music(shared):
    root = shared("led by a score", save_led)
    return api.load(root / "codecs", root / "generators", engine="onnx-float32")


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
    path.write_bytes(b"MThd")
    with pytest.raises(UserError, match="cannot be read as a MIDI file: it ends too early"):
        midi_files.read(path)
    path.write_bytes(bytes(20))
    with pytest.raises(UserError, match="cannot be read as a MIDI file: MThd not found"):
        midi_files.read(path)
    for wrong, why in ((tmp_path, "is a directory"), (tmp_path / "no.mid", "no such file or directory")):
        with pytest.raises(UserError, match=f"^{wrong}: {why}$"):
            midi_files.read(wrong)


def test_the_notes_of_a_file_are_on_its_grid_at_each_tempo(music, tmp_path):
    """Also if the tempo changes in small steps or within a beat."""
    path = tmp_path / "piece.mid"
    with music.stream(seed=5) as stream:
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


@pytest.mark.parametrize("phase", range(STEPS_PER_BEAT))
def test_a_file_may_begin_with_any_step_of_a_beat(tmp_path, phase):
    """Its beats are those of the score, and its notes keep their times."""
    step = RATE // 8
    beats = step * (STEPS_PER_BEAT * np.arange(-3, 5) - phase)
    starts = step * np.arange(10)
    midi_files.write(tmp_path / "upbeat.mid", [(start, start + step, 60, 112) for start in starts], RATE, beats)
    ticks = np.cumsum([message.time for message in mido.MidiFile(tmp_path / "upbeat.mid").tracks[0]])
    assert not (ticks % (midi_files.BEAT_TICKS // STEPS_PER_BEAT)).any()
    score = midi_files.read(tmp_path / "upbeat.mid")
    np.testing.assert_allclose(score.starts, starts / RATE, atol=1e-4)
    np.testing.assert_allclose(score.beats[:6], beats[2:] / RATE, atol=1e-3)


@pytest.mark.parametrize("seed", [1, 3])
def test_notes_keep_their_step_of_the_beat_from_a_file_to_a_score_and_back(music, shared, tmp_path, seed):
    """Piece 3 begins with the second step of a beat."""
    root = shared("led by a score", save_led)
    with music.stream(seed=seed, seconds=4) as stream:
        list(stream)
        notes, times = stream.notes(0, stream.position), stream._chain.composer.state.times
    steps = [int(np.searchsorted(times, first) % STEPS_PER_BEAT) for first, *_ in notes]
    assert steps[0] == (seed == 3)
    scores = []
    for options in (["--seed", str(seed)], ["--score-from", str(tmp_path / "0.mid")]):
        path = tmp_path / f"{len(scores)}.wav"
        assert generate.main(["--vqvae-weights-dir", str(root / "codecs"), "--generator-weights-dir",
                              str(root / "generators"), "--engine", "onnx-float32", "--seconds", "4", *options,
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


@pytest.mark.parametrize("tempo, pause, ticks, words", [
    (0, 480, 480, "a beat of it lasts 0 s"), (20, 480, 480, "a beat of it lasts 2e-05 s"), (500_000, 0xFFFFFFF, 480, "it lasts longer than 4 hours"),
    (500_000, 480, 0, "division")])
def test_midi_files_that_would_never_end_are_refused(tmp_path, tempo, pause, ticks, words):
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo), mido.Message("note_on", note=60),
                            mido.Message("note_off", note=60, time=pause)])
    mido.MidiFile(type=0, ticks_per_beat=ticks, tracks=[track]).save(tmp_path / "odd.mid")
    with pytest.raises(UserError, match=f"odd.mid: cannot be read as a MIDI file: .*{words}"):
        midi_files.read(tmp_path / "odd.mid")


def test_a_midi_file_of_independent_songs_is_refused(tmp_path):
    mido.MidiFile(type=2, tracks=[mido.MidiTrack(), mido.MidiTrack()]).save(tmp_path / "songs.mid")
    with pytest.raises(UserError, match="cannot be read as a MIDI file: can't merge tracks in type 2"):
        midi_files.read(tmp_path / "songs.mid")


@pytest.mark.parametrize("tempo", [93.7, 97])
def test_a_constant_tempo_is_written_once(tmp_path, tempo):
    """Although each beat is a whole number of samples."""
    beats = np.rint(np.arange(400) * 60 / tempo * RATE)
    midi_files.write(tmp_path / "even.mid", [(int(beats[390]), int(beats[391]), 60, 112)], RATE, beats)
    changes = [message for message in mido.MidiFile(tmp_path / "even.mid") if message.type == "set_tempo"]
    assert len(changes) == 1 and mido.tempo2bpm(changes[0].tempo) == pytest.approx(tempo, abs=0.01)
    np.testing.assert_allclose(midi_files.read(tmp_path / "even.mid").beats[1:391], beats[:390] / RATE, atol=1e-3)


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
