"""Clarity: what listeners notice at once, and what distances of spectra are deaf to.

Every figure describes one sound, so a copy is judged by its difference from the original, and
generated music by its difference from recordings. A sound longer than `PART_SECONDS` is measured in
equal parts, in constant memory. A sound shorter than `LEAST_SECONDS` is followed by silence.
Compare equal lengths: percentiles depend on the length.

| figure | what it hears | deaf to |
|---|---|---|
| contrast | noise between partials | when the noise sounds; which partials there are; loudness |
| roughness | amplitudes that buzz at the rates of frames | other rates; below 200 Hz |
| whistle | a tone that sounds more often than in recordings | tones that move; < 500, > 9,000 Hz |
| step | a noise floor that changes loudness at a fixed frequency | other frequencies; steps up |
| on grid | partials locked to quarter tones | by how far they are out of tune; their loudness |
| flicker, drift | changes of the spectrum in 23 ms, and in two seconds | what changes |
| highs | the share of energy above 5 kHz | what sounds there |
| loudness | the RMS | how loudness is felt |
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from . import metrics
from .spectrum import magnitudes, resample

SAMPLE_RATE = 22050
PART_SECONDS, LEAST_SECONDS = 60.0, 6.5
CONTRAST_BANDS = (0, 200, 400, 800, 1600, 3200)
"""The lowest frequency of each band of contrast, in Hz; the last band ends at 11,025 Hz."""
SHARE_OF_BINS = 0.02  # of a band, that are its peaks, and its valleys
FRAME_RATES = {round(SAMPLE_RATE / hop): SAMPLE_RATE / hop for hop in (512, 256, 128)}
"""Rates of roughness in Hz: of frames of 512 samples, its double, and of frames of 128."""
CARRIERS = ((200, 800), (800, 2000), (2000, 4000), (4000, 7500))
"""Bands whose envelopes are searched for roughness, in Hz."""
ENVELOPE_STEP = 25  # samples between two values of an envelope
EDGES = (200, 500, 1000, 2000, 4000)
"""Frequencies of steps, in Hz: the edges of the gains' bands."""
PARTIALS_HZ, CENTS_OF_GRID, CENTS_NEAR = (130, 4000), 50, 5
BY_CHANCE_ON_GRID = 0.2
STANDING_HZ, STANDING_DB, SURROUNDINGS = (500, 9000), 12, 41
"""A bin stands out if it is `STANDING_DB` above the median of `SURROUNDINGS` bins around it."""
WHISTLE_TOLERANCE = 2  # bins by which a tone of a copy may differ from a tone of the recordings
FLICKER_BANDS = np.geomspace(60, 10000, 25)
DRIFT_SECONDS = 2.0
HIGHS_HZ = 5000
_LINES, _PARTIALS, _FRAMES, _CONTRAST = (8192, 2048), (16384, 8192), (2048, 512), (4096, 1024)
_POWER_FLOOR = 1e-14


class Clarity(NamedTuple):
    """figures: {name: value} of a sound, see `measure`. standing: float64 [bins], the share of the
    frames in which each bin of `standing_hertz` stands out. seconds: the length of the sound.
    """

    figures: dict[str, float]
    standing: np.ndarray
    seconds: float


def measure(audio, sample_rate: int) -> Clarity:
    """The clarity of a sound, float [samples].

    - contrast_B for each of `CONTRAST_BANDS`: the loudest 2 % of a band's bins over the quietest
      2 %, in librosa's units, 10·log10 of *magnitudes*: half of dB (Jiang et al. 2002);
    - roughness_R for each of `FRAME_RATES`, dB: the spectrum of a band's amplitude envelope at this
      rate, over its median from 1 to 6 Hz beside it; the largest of the four `CARRIERS`;
    - step_E for each of `EDGES`, dB: how much louder the median bin is just below this frequency
      than just above; the 90th percentile of the frames;
    - on_grid: the share of the partials within 5 cents of a quarter tone (440 Hz; chance is 0.2);
    - flicker, drift, dB: the median change of 24 bands, from frame to frame of 23 ms, and from two
      seconds to the next two;
    - highs, dB: the energy above 5 kHz relative to all; loudness: the RMS in dBFS.
    """
    seconds = len(audio) / sample_rate
    audio = np.asarray(resample(audio, sample_rate, SAMPLE_RATE), np.float64)
    audio = np.pad(audio, (0, max(0, round(LEAST_SECONDS * SAMPLE_RATE) - len(audio))))
    parts = [_measure_part(part) for part in np.array_split(
        audio, math.ceil(len(audio) / (PART_SECONDS * SAMPLE_RATE)))]
    return mean(parts)._replace(seconds=seconds)


def standing_hertz() -> np.ndarray:
    """The frequencies of the bins of `Clarity.standing`."""
    hertz = _hertz(_LINES)
    return hertz[(hertz > STANDING_HZ[0]) & (hertz < STANDING_HZ[1])]


def find_whistle(originals: Sequence[Clarity], copies: Sequence[Clarity]) -> tuple[float, float]:
    """The tone that stands out more often in copies than in recordings: (the excess share of the
    frames, its frequency in Hz). More than 0.05 is audible. Few seconds give too large an excess.
    """
    before, after = (mean(side).standing for side in (originals, copies))
    shifts = range(-WHISTLE_TOLERANCE, WHISTLE_TOLERANCE + 1)
    excess = after - np.max([np.roll(before, shift) for shift in shifts], axis=0)
    loudest = int(np.argmax(excess))
    return float(excess[loudest]), float(standing_hertz()[loudest])


def compare(originals: Sequence[Clarity], copies: Sequence[Clarity]) -> dict[str, float]:
    """How far copies are from their originals, or generated music is from recordings, by the means
    of both sides. Without a fault, all values are 0.

    The differences (copies - originals) of all figures, under their own names; `whistle` and
    `whistle_hz` of `find_whistle`; `contrast`, the largest absolute difference below 3,200 Hz;
    `roughness`, the largest excess; `step`, the largest absolute difference.
    """
    before, after = (mean(side).figures for side in (originals, copies))
    figures = {name: after[name] - value for name, value in before.items()}
    whistle, hertz = find_whistle(originals, copies)
    return figures | {
        "contrast": max(abs(figures[f"contrast_{band}"]) for band in CONTRAST_BANDS[:-1]),
        "roughness": max(figures[f"roughness_{rate}"] for rate in FRAME_RATES),
        "step": max(abs(figures[f"step_{edge}"]) for edge in EDGES),
        "whistle": whistle, "whistle_hz": hertz}


def mean(sounds: Sequence[Clarity]) -> Clarity:
    """Means of several sounds, weighted by length."""
    figures, standing, seconds = zip(*sounds, strict=True)
    return Clarity({name: float(np.average([x[name] for x in figures], weights=seconds))
                    for name in figures[0]},
                   np.average(standing, axis=0, weights=seconds), sum(seconds))


def _measure_part(audio: np.ndarray) -> Clarity:
    power = _power(audio, *_LINES)
    average, high = power.mean(axis=0), _hertz(_LINES) >= HIGHS_HZ
    flicker, drift = _changes(_power(audio, *_FRAMES))
    return Clarity(
        _contrasts(audio) | _roughness(audio) | _steps(power)
        | {"on_grid": _share_on_grid(_power(audio, *_PARTIALS)), "flicker": flicker, "drift": drift,
           "highs": float(metrics.power_db(average[high].sum() / average.sum())),
           "loudness": metrics.rms_db(audio)}, _standing(power), len(audio) / SAMPLE_RATE)


def _hertz(spectrum: tuple[int, int]) -> np.ndarray:
    """The frequencies of the bins of a spectrum (n_fft, hop)."""
    return np.fft.rfftfreq(spectrum[0], 1 / SAMPLE_RATE)


def _power(audio: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """Power of the frames inside the sound, without pauses: float64 [frames, bins]."""
    first, frames = n_fft // 2 // hop, 1 + (len(audio) - n_fft) // hop
    power = np.concatenate([*magnitudes(audio, n_fft, hop)])[first : first + frames].astype(float)
    power = np.square(power * 2 / n_fft) + _POWER_FLOOR
    loudness = power.sum(axis=1)
    return power[loudness > np.percentile(loudness, 95) * 1e-4]


def _contrasts(audio: np.ndarray) -> dict[str, float]:
    n_fft, hop = _CONTRAST
    magnitude, hertz = np.concatenate([*magnitudes(audio, n_fft, hop)]), _hertz(_CONTRAST)
    contrasts = {}
    for band, end in zip(CONTRAST_BANDS, (*CONTRAST_BANDS[1:], SAMPLE_RATE / 2), strict=True):
        first, last = np.flatnonzero((hertz >= band) & (hertz <= end))[[0, -1]]
        # As in librosa: a band takes the bin below its first, and leaves its last to the next.
        inside = magnitude[:, max(first - 1, 0) : last + (end == SAMPLE_RATE / 2)]
        count = max(1, round(SHARE_OF_BINS * (last - first + 1 + (band > 0))))
        ordered = np.sort(inside, axis=1)
        peaks, valleys = (_decibels(ordered[:, part].mean(axis=1))
                          for part in (slice(-count, None), slice(count)))
        contrasts[f"contrast_{band}"] = float((peaks - valleys).mean())
    return contrasts


def _decibels(magnitude: np.ndarray) -> np.ndarray:
    """10·log10 of the mean magnitudes of frames, at most 80 below the loudest frame."""
    decibels = 10 * np.log10(np.maximum(magnitude, 1e-10))
    return np.maximum(decibels, decibels.max() - 80)


def _roughness(audio: np.ndarray) -> dict[str, float]:
    from scipy import signal

    modulations = []
    for band in CARRIERS:
        sections = signal.butter(4, band, "bandpass", fs=SAMPLE_RATE, output="sos")
        envelope = np.abs(signal.hilbert(signal.sosfiltfilt(sections, audio)))
        envelope = signal.resample_poly(envelope, 1, ENVELOPE_STEP)
        hertz, power = signal.welch(envelope / (envelope.mean() + 1e-9),
                                    SAMPLE_RATE / ENVELOPE_STEP, nperseg=4096)
        power += 1e-30  # a silent band has no roughness
        modulations.append([power[distance < 0.5].max()
                            / np.median(power[(distance > 1) & (distance < 6)])
                            for distance in (abs(hertz - rate) for rate in FRAME_RATES.values())])
    largest = 10 * np.log10(np.max(modulations, axis=0))
    return {f"roughness_{rate}": float(x) for rate, x in zip(FRAME_RATES, largest, strict=True)}


def _steps(power: np.ndarray) -> dict[str, float]:
    hertz, steps = _hertz(_LINES), {}
    for edge in EDGES:
        below, above = (np.median(power[:, (hertz > edge * low) & (hertz < edge * high)], axis=1)
                        for low, high in ((0.92, 0.98), (1.02, 1.08)))
        decibels = 10 * np.log10((below + 1e-13) / (above + 1e-13))
        steps[f"step_{edge}"] = float(np.percentile(decibels, 90))
    return steps


def _share_on_grid(power: np.ndarray) -> float:
    from scipy.signal import find_peaks

    low, high = (hertz * _PARTIALS[0] / SAMPLE_RATE for hertz in PARTIALS_HZ)
    bins = []
    for frame in 10 * np.log10(power):
        peaks = find_peaks(frame, height=frame.max() - 45, prominence=12)[0]
        peaks = peaks[(peaks > low) & (peaks < high)]
        left, top, right = frame[peaks - 1], frame[peaks], frame[peaks + 1]
        bins.append(peaks + 0.5 * (left - right) / (left - 2 * top + right))
    hertz = np.concatenate(bins) * SAMPLE_RATE / _PARTIALS[0]
    if not len(hertz):
        return BY_CHANCE_ON_GRID
    cents, half = 1200 * np.log2(hertz / 440), CENTS_OF_GRID / 2
    return float(np.mean(np.abs((cents + half) % CENTS_OF_GRID - half) < CENTS_NEAR))


def _changes(power: np.ndarray) -> tuple[float, float]:
    """`flicker` and `drift`, in dB."""
    hertz = _hertz(_FRAMES)
    bands = np.stack([10 * np.log10(power[:, (hertz >= low) & (hertz < max(high, low + 15))]
                                    .mean(axis=1))
                      for low, high in zip(FLICKER_BANDS, FLICKER_BANDS[1:], strict=False)])
    width = int(DRIFT_SECONDS * SAMPLE_RATE / _FRAMES[1])
    drifts = [np.abs(bands[:, t : t + width].mean(1) - bands[:, t - width : t].mean(1)).mean()
              for t in range(width, bands.shape[1] - width, 4)]
    flicker = np.abs(np.diff(bands, axis=1)).mean(axis=0)
    return (float(np.median(flicker)) if len(flicker) else 0.0,
            float(np.median(drifts)) if drifts else 0.0)


def _standing(power: np.ndarray) -> np.ndarray:
    from scipy.ndimage import median_filter

    decibels = 10 * np.log10(power[::2])
    surroundings = median_filter(decibels, size=(1, SURROUNDINGS), mode="constant")
    hertz = _hertz(_LINES)
    inside = (hertz > STANDING_HZ[0]) & (hertz < STANDING_HZ[1])
    return (decibels - surroundings > STANDING_DB)[:, inside].mean(axis=0)
