import tracemalloc

import numpy as np
import pytest
from prepared import music
from research.evaluators.notes import profile

from vqwave.dsp import notes

RATE = notes.SAMPLE_RATE
C_MAJOR = np.array([60, 62, 64, 65, 67, 69, 71, 72])
TUNE = (60, 67, 63, 70, 66, 61)


def tone(midi, seconds, amplitude=0.2, rate=RATE):
    t = np.arange(round(seconds * rate)) / rate
    ends = np.clip(np.minimum(t, seconds - t) / 0.02, 0, 1)
    sine = np.sin(2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * t)
    return (amplitude * ends * sine).astype(np.float32)


def melody(pitches, seconds=0.5, rate=RATE):
    return np.concatenate([tone(midi, seconds, rate=rate) for midi in pitches])


@pytest.mark.parametrize("rate", [8000, RATE, 48000])
def test_a_scale_is_found_note_by_note_at_any_rate(rate):
    roll = notes.roll(melody(C_MAJOR, rate=rate), rate)
    np.testing.assert_allclose(roll.midi, C_MAJOR, atol=0.05)
    np.testing.assert_allclose(roll.time, np.arange(8) * 0.5, atol=0.1)
    np.testing.assert_allclose(roll.time + roll.seconds, np.arange(1, 9) * 0.5, atol=0.1)
    np.testing.assert_allclose(roll.strength, 20 * np.log10(0.2), atol=0.5)
    assert roll.length == pytest.approx(4.0)
    assert roll.spectrum.shape == (notes.BINS, 1 + 4 * RATE // notes.HOP)


def test_a_chord_has_its_pitch_classes():
    chord = sum(tone(midi, 12.0) for midi in (48, 64, 67))  # C, E, G in two octaves
    classes = profile(chord, RATE)
    assert sorted(np.argsort(classes)[-3:]) == [0, 4, 7] and classes @ classes == pytest.approx(1.0)
    assert np.delete(classes, [0, 4, 7]).max() < 0.05


def test_notes_kept_depend_only_on_pitch():
    def kept(semitones, amplitude=1.0):
        moved = amplitude * melody(np.add(TUNE, semitones))
        return tuple(notes.compare(melody(TUNE), moved, RATE).values())

    assert kept(0) == pytest.approx((1.0, 1.0)) and kept(0, 0.1) == pytest.approx((1.0, 1.0))
    assert kept(0.4)[0] > 0.95  # within a quarter tone
    assert kept(2)[0] < 0.15 and kept(2)[1] < 0.1
    assert kept(12)[0] < 0.15 and kept(12)[1] > 0.9
    assert kept(0, 0.0) == (0.0, 0.0)
    # One of two voices: all of its peaks match half of the original's.
    two = melody(TUNE) + melody(np.add(TUNE, 7))
    assert notes.compare(two, melody(TUNE), RATE)["notes"] == pytest.approx(2 / 3, abs=0.07)


def test_chroma_is_averaged_only_over_frames_with_notes():
    scale = melody(C_MAJOR)
    with_silence = np.concatenate([scale, np.zeros(2 * len(scale), np.float32)])
    for sound in (scale, with_silence):
        assert notes.compare(sound, sound, RATE)["chroma"] == pytest.approx(1, abs=1e-3)


def test_blocks_join_without_a_seam_and_memory_does_not_grow(monkeypatch):
    x = music(20.0, 1)
    whole, roll = np.concatenate(list(notes.constant_q(x, RATE))), notes.roll(x, RATE, columns=100)
    monkeypatch.setattr(notes, "_BLOCK", 100)
    parts = list(notes.constant_q(x, RATE))
    assert len(parts) == 9
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4 * whole.max())
    in_blocks = notes.roll(x, RATE, columns=100)
    np.testing.assert_allclose(in_blocks.spectrum, roll.spectrum, atol=0.05)
    assert roll.spectrum.shape == (notes.BINS, 96) and len(in_blocks.time) == len(roll.time)
    monkeypatch.undo()

    def peak_memory(repeats):
        sound = np.tile(x, repeats)
        tracemalloc.start()
        notes.compare(sound, sound, RATE)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return memory

    assert peak_memory(12) < 1.1 * peak_memory(5)


def test_a_part_with_a_margin_has_the_notes_of_the_whole():
    x, margin = melody(C_MAJOR), round(notes.MARGIN * RATE / notes.HOP + 1) * notes.HOP
    begin, end = 43 * notes.HOP, 129 * notes.HOP
    whole = notes.roll(x, RATE)
    part = notes.roll(x[begin - margin : end + margin], RATE, start=(begin - margin) / RATE)
    np.testing.assert_allclose([t for t in part.time if begin <= t * RATE < end],
                               [t for t in whole.time if begin <= t * RATE < end], atol=1e-4)
