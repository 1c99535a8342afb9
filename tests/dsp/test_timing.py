
import numpy as np
import pytest

from vqwave.dsp import timing, transcription

RATE = 22050


def plucked(times, midi=(60, 64, 67, 72), seconds=14.0, decay=4.0):
    """Decaying tones that begin at these seconds, in turn at these pitches."""
    audio = np.zeros(round(seconds * RATE), np.float32)
    clock = np.arange(RATE) / RATE
    for k, time in enumerate(times):
        hz = 440.0 * 2.0 ** ((midi[k % len(midi)] - 69) / 12)
        tone = np.exp(-decay * clock) * sum(np.sin(2 * np.pi * n * hz * clock) / n for n in (1, 2, 3))
        part = audio[round(time * RATE) :][: len(tone)]
        part += 0.2 * tone[: len(part)].astype(np.float32)
    return audio


STEADY = np.arange(0.5, 13, 0.5)
UNSTEADY = 0.5 + np.cumsum(np.random.default_rng(0).uniform(0.15, 1.0, 20))


def test_a_copy_keeps_all_of_its_own_timing():
    figures = timing.compare(plucked(STEADY), plucked(STEADY), RATE)
    assert figures["contour"] == pytest.approx(1.0) and figures["attacks"] == 1.0
    assert figures["beat"] == figures["beat_of_original"] == 1.0


def test_a_peak_is_the_highest_and_above_the_mean_of_its_neighbourhood(rng):
    envelope, expected = rng.integers(0, 9, 200).astype(np.float32), []
    for n, value in enumerate(envelope):
        highest, near = envelope[max(0, n - 3) : n + 3].max(), envelope[max(0, n - 5) : n + 7]
        if value == highest and value >= near.mean() + 2 and (not expected or n - expected[-1] > 4):
            expected.append(n)
    assert len(expected) > 10
    assert timing.find_peaks(envelope, (3, 2), (5, 6), 2, wait=4).tolist() == expected


def test_a_beat_is_found_where_notes_are_evenly_spaced_only():
    assert timing.find_beat(timing.onset_envelope(plucked(STEADY), RATE)) == 1.0
    assert timing.find_beat(timing.onset_envelope(plucked(UNSTEADY), RATE)) == 0.0
    assert timing.find_beat(timing.onset_envelope(np.zeros(14 * RATE), RATE)) == 0.0


@pytest.mark.parametrize("late, kept", [(0.03, True), (0.12, False)])
def test_an_attack_may_be_50_ms_late(late, kept):
    figures = timing.compare(plucked(UNSTEADY), plucked(UNSTEADY + late), RATE)
    assert (figures["attacks"] > 0.9) == kept
    assert figures["contour"] < 0.9


def test_timing_is_deaf_to_pitch_and_note_events_are_not():
    original, transposed = plucked(STEADY), plucked(STEADY, midi=(61, 65, 68, 73))
    assert timing.compare(original, transposed, RATE)["attacks"] > 0.9
    assert transcription.compare(original, original, RATE) == 1.0
    assert transcription.compare(original, transposed, RATE) < 0.2


def test_notes_are_found_at_their_pitch_and_time_across_the_network_s_windows():
    times = np.arange(0.5, 9.5, 1.0)  # windows begin every 1.65 s
    notes = transcription.find_notes(plucked(times, midi=(60,), seconds=10), RATE)
    assert (notes.pitches == 60).all() and len(notes.starts) == len(times)
    np.testing.assert_allclose(notes.starts, times * RATE / 256, atol=2)
