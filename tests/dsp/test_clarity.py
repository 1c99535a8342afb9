"""Each measure on sounds whose value is known."""

import numpy as np
import pytest

from vqwave.dsp import clarity

RATE = clarity.SAMPLE_RATE
SECONDS = 7.0
T = np.arange(round(SECONDS * RATE)) / RATE


def tones(*hertz, amplitude=0.1):
    return sum(amplitude * np.sin(2 * np.pi * f * T + f) for f in hertz)


@pytest.fixture
def noise(rng):
    return 0.1 * rng.standard_normal(len(T))


def figures(audio, rate=RATE):
    return clarity.measure(audio, rate).figures


def louder_above(audio, hertz, decibels):
    """A sound whose spectrum changes level at a frequency."""
    spectrum = np.fft.rfft(audio)
    spectrum[np.fft.rfftfreq(len(audio), 1 / RATE) > hertz] *= 10 ** (decibels / 20)
    return np.fft.irfft(spectrum, len(audio))


def test_a_tone_that_never_stops_is_a_whistle_unless_the_recording_has_it(noise):
    note = tones(4186)
    plain, whistling, shifted = (clarity.measure(x, RATE) for x in (
        noise, noise + note, noise + tones(4186 + 5)))
    share, hertz = clarity.find_whistle([plain], [whistling])
    assert share > 0.95 and hertz == pytest.approx(4186, abs=6)
    assert clarity.find_whistle([whistling], [shifted])[0] < 0.1
    half = clarity.measure(noise + note * (SECONDS / 2 < T), RATE)
    assert clarity.find_whistle([plain], [half])[0] == pytest.approx(0.5, abs=0.1)
    assert clarity.find_whistle([plain, plain], [plain, whistling])[0] == pytest.approx(0.5, abs=0.1)
    sweep = 0.1 * np.sin(2 * np.pi * (3000 + 200 * T) * T)
    assert clarity.find_whistle([plain], [clarity.measure(noise + sweep, RATE)])[0] < 0.2, "deaf"


@pytest.mark.parametrize("rate, hop", [(43, 512), (86, 256), (172, 128)])
def test_amplitudes_that_swing_at_a_frame_rate_are_rough(noise, rate, hop):
    plain = figures(noise)
    rough = figures(noise * (1 + 0.5 * np.sin(2 * np.pi * RATE / hop * T)))
    gained = {other: rough[f"roughness_{other}"] - plain[f"roughness_{other}"]
              for other in clarity.FRAME_RATES}
    assert gained.pop(rate) > 10 and all(abs(gain) < 3 for gain in gained.values())


@pytest.mark.parametrize("edge", clarity.EDGES)
def test_a_noise_floor_that_falls_at_an_edge_is_a_step_there(noise, edge):
    plain, stepped = figures(noise), figures(louder_above(noise, edge, -12))
    for other in clarity.EDGES:
        gain = stepped[f"step_{other}"] - plain[f"step_{other}"]
        assert gain == pytest.approx(12.0 if other == edge else 0.0, abs=1.0)


def test_the_share_of_partials_on_quarter_tones():
    quarter_tones = 440 * 2 ** (np.array([-12, -5.5, 0, 6, 9.5, 17]) / 12)
    assert figures(tones(*quarter_tones))["on_grid"] == 1.0
    assert figures(tones(*(quarter_tones * 2 ** (12 / 1200))))["on_grid"] == 0.0
    between = np.concatenate([quarter_tones[:3], quarter_tones[3:] * 2 ** (25 / 1200)])
    assert figures(tones(*between))["on_grid"] == pytest.approx(0.5)
    assert figures(np.zeros(RATE))["on_grid"] == clarity.BY_CHANCE_ON_GRID


def test_contrast_is_half_the_decibels_between_partials_and_noise(noise):
    music = tones(*np.arange(100, 11000, 200), amplitude=0.05)
    clean, hissing = figures(music + 0.03 * noise), figures(music + 0.3 * noise)
    for band in clarity.CONTRAST_BANDS[1:]:
        assert clean[f"contrast_{band}"] - hissing[f"contrast_{band}"] == pytest.approx(10, abs=1)


def test_figures_do_not_depend_on_level_or_sample_rate():
    audio = tones(440, 1000, 3000) + 0.01 * np.sin(2 * np.pi * 6000 * T)
    values = figures(audio)
    quieter = figures(audio / 10)
    assert values["loudness"] - quieter["loudness"] == pytest.approx(20, abs=0.01)
    assert [quieter[name] for name in ("highs", "on_grid", "contrast_800")] == pytest.approx(
        [values[name] for name in ("highs", "on_grid", "contrast_800")], abs=0.05)
    t = np.arange(round(SECONDS * 2 * RATE)) / (2 * RATE)
    twice = sum(a * np.sin(2 * np.pi * f * t) for f, a in ((440, .1), (1000, .1), (3000, .1), (6000, .01)))
    resampled = figures(twice, 2 * RATE)
    assert resampled["highs"] == pytest.approx(values["highs"], abs=0.05)
    assert resampled["loudness"] == pytest.approx(values["loudness"], abs=0.05)


def test_a_copy_differs_by_its_figures_and_by_the_worst_of_each_kind(noise):
    chord = tones(*np.arange(60, 11000, 60))
    original = clarity.measure(noise + chord, RATE)
    same = clarity.compare([original], [original])
    assert {value for name, value in same.items() if name != "whistle_hz"} == {0.0}
    faulty = clarity.measure(louder_above(noise, 2000, -9) + chord + tones(3210), RATE)
    values = clarity.compare([original, original], [original._replace(seconds=1.0), faulty._replace(seconds=3.0)])
    for name, value in original.figures.items():
        assert values[name] == pytest.approx(0.75 * (faulty.figures[name] - value)), name
    assert values["step"] == values["step_2000"] > 2
    assert values["contrast"] == max(abs(values[f"contrast_{band}"]) for band in clarity.CONTRAST_BANDS[:-1])
    assert values["roughness"] == max(values[f"roughness_{rate}"] for rate in clarity.FRAME_RATES)
    assert values["whistle"] > 0.3 and values["whistle_hz"] == pytest.approx(3210, abs=6)
