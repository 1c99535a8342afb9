"""notes.py: known notes are found, the figures are those of an independent implementation, and long
signals are taken in blocks.
"""

import tracemalloc

import numpy as np
import pytest

from vqwave import plots
from vqwave.dsp import notes
from vqwave.errors import UserError

RATE = notes.SAMPLE_RATE
C_MAJOR = np.array([60, 62, 64, 65, 67, 69, 71, 72])

# What another program of the same definitions gave (librosa 0.11) for `song(0)` and `worn` of it:
# F1, precision, recall and chroma; and for the portraits of `song(0)` and `song(1)`.
KEPT = {"notes": 0.708223, "notes_precision": 0.707253, "notes_recall": 0.709195,
        "chroma": 0.783254}
APART = {"durations": 0.567409, "intervals": 0.082730, "harmony": 0.048477,
         "key": 0.077429, "line": 2.0}


def tone(midi, seconds, amplitude=0.2, rate=RATE):
    """float32 [samples] of a sine with soft ends."""
    t = np.arange(round(seconds * rate)) / rate
    ends = np.clip(np.minimum(t, seconds - t) / 0.02, 0, 1)
    return (amplitude * ends * np.sin(2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * t)).astype(np.float32)


def scale(seconds=0.5, rate=RATE):
    return np.concatenate([tone(midi, seconds, rate=rate) for midi in C_MAJOR])


def song(seed, seconds=66):
    """A tune over chords of three notes, with overtones and noise: drawn by `seed` alone."""
    random = np.random.Generator(np.random.Philox(key=seed))
    sound = 0.003 * random.standard_normal(seconds * RATE)
    for begin in range(0, seconds, 2):
        chord = 48 + random.integers(0, 12) + np.array([0, 4 - seed, 7])
        for midi in chord:
            sound[begin * RATE : (begin + 2) * RATE] += tone(midi, 2.0, 0.08)
        for step in range(4 if seed else 2):
            midi, length = (chord[random.integers(0, 3)] + 12 + random.integers(0, 3), 0.5 if seed
                            else 1.0)
            at = begin * RATE + round(step * length * RATE)
            for overtone in (1, 2, 3):
                part = tone(midi + 12 * np.log2(overtone), length, 0.15 / overtone)
                sound[at : at + len(part)] += part
    return np.clip(sound, -1, 1).astype(np.float32)


def worn(sound):
    """What a poor codec may make of it: every third second a fourth too high, and noise."""
    made = sound + 0.02 * np.random.Generator(np.random.Philox(key=9)).standard_normal(len(sound))
    high = np.interp(np.arange(len(sound)) * 4 / 3 % len(sound), np.arange(len(sound)), sound)
    away = np.arange(len(sound)) // RATE % 3 == 0
    return np.where(away, high, made).astype(np.float32)


def test_figures_are_those_of_an_independent_implementation():
    x, other = song(0), song(1)
    assert notes.compare(x, worn(x), RATE) == pytest.approx(KEPT, abs=2e-3)
    first = notes.portrait(x, RATE)
    found = notes.divergences(first, notes.portrait(other, RATE))
    assert {key: found[key] for key in APART} == pytest.approx(APART, abs=2e-3)
    assert first["line"] == pytest.approx(1.0, abs=2e-3)


def test_a_tune_is_found_note_by_note():
    found = notes.roll(scale(), RATE)
    np.testing.assert_allclose(found.midi, C_MAJOR, atol=0.05)
    np.testing.assert_allclose(found.frequency, 440 * 2 ** ((C_MAJOR - 69) / 12), rtol=0.003)
    np.testing.assert_allclose(found.time, np.arange(8) * 0.5, atol=0.1)
    np.testing.assert_allclose(found.time + found.seconds, np.arange(1, 9) * 0.5, atol=0.1)
    np.testing.assert_allclose(found.strength, 20 * np.log10(0.2), atol=0.5)
    assert found.length == pytest.approx(4.0) and found.spectrum.shape == (notes.BINS,
                                                                           1
                                                                           + 4 * RATE // notes.HOP)
    row = notes.portrait(scale(), RATE)
    steps = np.zeros(27)
    steps[13 + 1], steps[13 + 2] = 2 / 7, 5 / 7
    np.testing.assert_allclose(row["intervals"], steps)
    assert row["line"] == pytest.approx(2.0)
    # All eight last about half a second.
    assert row["durations"].max() == 1.0
    assert notes.portrait(np.concatenate([scale(), np.zeros(4 * RATE, np.float32)]),
                          RATE)["line"] == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_the_notes_do_not_depend_on_the_rate(rate):
    found = notes.roll(scale(rate=rate), rate)
    np.testing.assert_allclose(found.midi, C_MAJOR, atol=0.05)
    np.testing.assert_allclose(found.time, np.arange(8) * 0.5, atol=0.1)
    assert found.length == pytest.approx(4.0)


def test_a_chord_is_its_pitch_classes_and_its_key():
    chord = sum(tone(midi, 12.0) for midi in (48, 64, 67))  # C, E, G in two octaves
    sounds = notes.profile(chord, RATE)
    assert sorted(np.argsort(sounds)[-3:]) == [0, 4, 7] and sounds @ sounds == pytest.approx(1.0)
    assert np.delete(sounds, [0, 4, 7]).max() < 0.05
    row = notes.portrait(chord, RATE)
    assert row["harmony"][-1] > 0.95 and row["alike"] > 0.95
    # A major triad fits its key with 0.9, by the profiles' own figures.
    triad = np.isin(np.arange(12), [0, 4, 7])
    fit = np.corrcoef(triad, notes.KEY_PROFILES[0])[0, 1]
    assert row["key"][int(fit * 10)] == 1.0


def test_what_is_kept_is_a_matter_of_pitch_alone():
    tune = np.concatenate([tone(midi, 0.5) for midi in (60, 67, 63, 70, 66, 61)])
    assert notes.compare(tune, tune, RATE) == pytest.approx(
        {"notes": 1.0, "notes_precision": 1.0, "notes_recall": 1.0, "chroma": 1.0})
    quieter = notes.compare(tune, 0.1 * tune, RATE)
    assert quieter["notes"] == pytest.approx(1.0) and quieter["chroma"] == pytest.approx(1.0)

    def moved(semitones):
        return np.concatenate([tone(midi + semitones, 0.5) for midi in (60, 67, 63, 70, 66, 61)])

    assert notes.compare(tune, moved(0.4), RATE)["notes"] > 0.95  # within a quarter tone
    far = notes.compare(tune, moved(2), RATE)
    assert far["notes"] < 0.15 and far["chroma"] < 0.1
    octave = notes.compare(tune, moved(12), RATE)
    assert octave["notes"] < 0.15 and octave["chroma"] > 0.9
    # Half of two voices: all that is offered is right, half of what is wanted is there.
    half = notes.compare(tune + moved(7), tune, RATE)
    assert half["notes_precision"] > 0.9 and 0.4 < half["notes_recall"] < 0.6
    silent = notes.compare(tune, np.zeros_like(tune), RATE)
    assert set(silent.values()) == {0.0}
    with pytest.raises(ValueError, match="equal lengths"):
        notes.compare(tune, tune[:-1], RATE)


def test_divergence_is_none_for_the_same_music_and_grows_with_what_differs():
    still, lively = np.concatenate([tone(60, 2.0),
                                    tone(67, 2.0)] * 6), np.concatenate([scale(0.25)] * 12)
    same = notes.divergences(*[notes.portrait(still, RATE)] * 2)
    assert [same[key] for key in notes.STATISTICS] == [0.0] * 4
    apart = notes.divergences(notes.portrait(still, RATE), notes.portrait(lively, RATE))
    assert apart["intervals"] == 1.0 and apart["durations"] == 1.0
    assert apart["line"] == pytest.approx(4.0, abs=0.1) and apart["alike"] < same["alike"]
    nothing = notes.portrait(np.zeros(15 * RATE, np.float32), RATE)
    assert nothing["line"] == 0.0 and all(nothing[key].sum() == 0
                                          for key in ("durations", "intervals", "key"))


def test_portraits_are_of_whole_pieces_and_have_a_mean():
    assert len(notes.portraits(scale(), RATE, 1.3)) == 3
    assert notes.portraits(scale(), RATE) == []
    a, b = notes.portrait(scale(), RATE), notes.portrait(tone(60, 4.0), RATE)
    mean = notes.average([a, b])
    assert mean["line"] == (a["line"] + b["line"]) / 2
    np.testing.assert_allclose(mean["durations"], (a["durations"] + b["durations"]) / 2)


def test_the_bass_is_lifted_in_the_transform_and_not_in_a_strength():
    low, high = (np.concatenate(list(notes.constant_q(tone(midi, 3.0), RATE))).max()
                 for midi in (48, 84))
    assert 20 * np.log10(low / high) == pytest.approx(9.0, abs=0.3)  # three octaves
    found = notes.roll(tone(48, 3.0) + tone(84, 3.0), RATE, shortest=2.5)
    np.testing.assert_allclose(found.midi, [48, 84], atol=0.05)
    np.testing.assert_allclose(found.strength, 20 * np.log10(0.2), atol=0.5)


def test_blocks_join_without_a_seam_and_memory_does_not_grow(monkeypatch):
    x = song(1, 20)
    whole, drawn = np.concatenate(list(notes.constant_q(x, RATE))), notes.roll(x, RATE, columns=100)
    monkeypatch.setattr(notes, "_BLOCK", 100)
    parts = list(notes.constant_q(x, RATE))
    assert len(parts) == 9
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4 * whole.max())
    again = notes.roll(x, RATE, columns=100)
    np.testing.assert_allclose(again.spectrum, drawn.spectrum, atol=0.05)
    assert drawn.spectrum.shape == (notes.BINS, 96) and len(again.time) == len(drawn.time)
    monkeypatch.undo()

    def most(minutes):
        sound = np.tile(x, 3 * minutes)
        tracemalloc.start()
        notes.compare(sound, sound, RATE)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert most(6) < 1.1 * most(2)


def test_a_part_with_a_margin_has_the_notes_of_the_whole():
    """How a piece is drawn as it grows."""
    x, margin = scale(), round(notes.MARGIN * RATE / notes.HOP + 1) * notes.HOP
    begin, end = 43 * notes.HOP, 129 * notes.HOP
    whole = notes.roll(x, RATE)
    part = notes.roll(x[begin - margin : end + margin], RATE, start=(begin - margin) / RATE)
    np.testing.assert_allclose([t for t in part.time if begin <= t * RATE < end],
                               [t for t in whole.time if begin <= t * RATE < end], atol=1e-4)


def test_each_peak_is_kept_where_that_is_wanted():
    x = song(0, 6)
    joined, single = notes.roll(x, RATE), notes.roll(x, RATE, shortest=0)
    assert joined.seconds.min() >= 0.09 and len(single.time) > len(joined.time)
    assert (np.diff(single.time) >= 0).all() and single.strength.max() <= 0
    silent = notes.roll(np.zeros(RATE, np.float32), RATE)
    assert silent.time.shape == silent.midi.shape == (0,) and silent.spectrum.max() < -100


@pytest.mark.parametrize("shape", [(0,), (2, 100)])
def test_what_is_no_signal_is_refused(shape):
    with pytest.raises(ValueError, match="one signal"):
        notes.roll(np.zeros(shape, np.float32), RATE)


def test_a_piano_roll_names_notes_and_pieces(tmp_path):
    rolls = {"a $tune": notes.roll(scale(), RATE),
             "silence": notes.roll(np.zeros(300, np.float32), RATE)}
    plots.notes(rolls, tmp_path / "a.svg", "Both")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    for words in ("a $tune", "silence", "Both", "C2", "C4", "C8", "E4",
                  "Note", "Time (s)", "Level (dBFS)"):
        assert f"<!-- {words} -->" in text, words
    plots.notes(rolls, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no notes"):
        plots.notes({}, tmp_path / "b.png")
    with pytest.raises(UserError, match="must end in"):
        plots.notes(rolls, tmp_path / "b.jpg")


def test_chroma_is_averaged_over_frames_with_notes_alone():
    music = scale()
    silence = np.zeros(2 * len(music), np.float32)
    assert notes.compare(music, music, RATE)["chroma"] == pytest.approx(1, abs=1e-3)
    with_silence = np.concatenate([music, silence])
    assert notes.compare(with_silence, with_silence, RATE)["chroma"] == pytest.approx(1, abs=1e-3)
