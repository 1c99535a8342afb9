"""Plots of sound, codes, notes and training, as PNG or SVG files.

Every function that draws raises `UserError` if the file is neither .png nor .svg, or if the folder
is missing. Signals are float [samples] in [-1, 1]; `start` is the first second of the time axis.

Colour is never the only difference. Curves also differ in line and marker, maps in lightness.
"""

import math
from bisect import bisect_left
from pathlib import Path

import numpy as np

from . import figures
from .dsp import metrics
from .dsp.notes import BINS, BINS_A_SEMITONE, LOWEST_MIDI
from .dsp.spectrum import MOST_COLUMNS, ROWS_A_SEMITONE, log_spectrogram, pitch, pitches
from .figures import BLACK, BLUE, GREY, RED, check_output
from .io.training_log import read_log

RANGE_DB = 80.0
MOST_EDGED = 60.0
"""Seconds of the longest piano roll whose notes have edges; in a longer one edges hide notes."""
TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
CURVES = {"training": {"color": BLUE, "linestyle": "-", "marker": "o"},
          "validation": {"color": RED, "linestyle": "--", "marker": "s"}}


def spectrograms(signals: dict, path, sample_rate: int, title: str = "", start: float = 0.0):
    """Waveform and spectrogram of each of {name: audio}, on the same axes. 0 dB is the loudest
    point of the first spectrogram.
    """
    signals, count = _finite(signals), len(signals)
    across = min(count, (3, 4, 6)[bisect_left((9, 16), count)])
    down = -(-count // across)
    width = 10.0 if across < 3 else 13.0
    height = 0.7 + min(3.9, max(1.9, 0.8 * width / across)) * down
    figure, axes = figures.create(width, height, title, 2 * down, across, sharex=True,
                                  height_ratios=[1, 2.6] * down)
    spectra = [log_spectrogram(s, sample_rate) for s in signals.values()]
    top, limits = float(spectra[0].max()), _limits(signals.values())
    for i, (name, audio) in enumerate(signals.items()):
        wave, spectrum = axes[2 * (i // across) : 2 * (i // across) + 2, i % across]
        _waveform(wave, audio, sample_rate, start)
        wave.set_ylim(*limits)
        figures.name_panel(wave, name, across)
        image = _spectrogram(spectrum, spectra[i], len(audio), sample_rate, top, start,
                             hertz=i % across == across - 1 or i == count - 1)
        for axis, label in ((wave, "Amplitude"), (spectrum, "Pitch")):
            axis.set_ylabel("" if i % across else label)
            axis.tick_params(labelleft=not i % across)
    pairs = axes.reshape(down, 2, across)
    for wave in pairs[:, 0].ravel()[count:]:
        wave.set_visible(False)
    figures.time_axis(figures.hide_unused(pairs[:, 1], count), start,
                      _end(signals, start, sample_rate))
    figures.colorbar(figure, image, list(axes.ravel()), "Level (dB)")
    figure.align_ylabels(axes[:, 0])
    figures.save(figure, path)


def notes(rolls: dict, path, title: str = ""):
    """Piano rolls on top of log-frequency spectrograms, {name: `dsp.notes.PianoRoll`}, on the same
    axes. Louder notes are more opaque, those of scores fully. Levels are relative to full scale.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    figure, axes = figures.create(10.0, 0.9 + 2.4 * len(rolls), title, len(rolls), sharex=True,
                                  sharey=True, grid=False)
    loudest = max(float(roll.spectrum.max()) for roll in rolls.values())
    top = max(loudest, -RANGE_DB)
    midi = np.concatenate([roll.midi for roll in rolls.values()])  # scores may leave the spectrum
    lowest = midi.min(initial=LOWEST_MIDI)
    highest = midi.max(initial=LOWEST_MIDI + BINS // BINS_A_SEMITONE)
    octaves = range(int(lowest) // 12 * 12, int(highest) + 1, 12)
    first = min(roll.start for roll in rolls.values())
    last = max(roll.start + roll.length for roll in rolls.values())
    for axis, (name, roll) in zip(axes[:, 0], rolls.items(), strict=True):
        end = roll.start + roll.length
        image = axis.imshow(
            roll.spectrum, origin="lower", aspect="auto", cmap="Greys", vmin=top - RANGE_DB / 2,
            vmax=top, interpolation="nearest",
            extent=(roll.start, end, *(LOWEST_MIDI + (row - 0.5) / BINS_A_SEMITONE
                                       for row in (0, BINS))))
        bars = [[(a, m - 0.5), (b, m - 0.5), (b, m + 0.5), (a, m + 0.5)]
                for a, b, m in zip(roll.time, roll.time + roll.seconds, roll.midi, strict=True)]
        opacity = np.clip(1.0 + (roll.strength - top) / (RANGE_DB / 2), 0.15, 1.0)
        axis.add_collection(PolyCollection(
            bars, facecolors=[(*to_rgb(RED), float(a)) for a in opacity], edgecolors="white",
            linewidths=0.4 if last - first <= MOST_EDGED else 0.0), autolim=False)
        axis.set_yticks(octaves, [f"C{note // 12 - 1}" for note in octaves])
        axis.set_yticks([note + step for note in octaves[:-1] for step in (4, 7)], minor=True,
                        labels=[f"{letter}{note // 12 - 1}" for note in octaves[:-1]
                                for letter in "EG"])
        axis.tick_params(axis="y", which="minor", labelsize=5)
        axis.grid(axis="y", linewidth=0.6, color="black", alpha=0.5)
        figures.name_panel(axis, name, 1)
        axis.set_ylabel("Note")
    axes[0, 0].set_ylim(lowest - 0.5, highest + 0.5)
    figures.time_axis(list(axes[:, 0]), first, last)
    if np.isfinite(loudest):  # scores alone have no levels
        figures.colorbar(figure, image, list(axes[:, 0]), "Level (dBFS)")
    figures.save(figure, path)


def code_shades(codebook, silence_code: int | None = None) -> np.ndarray:
    """A shade for each code, similar for similar vectors: float32 [num_codes], evenly spread over
    0 … 1.

    The codes are sorted by the first principal component of the codebook, float [num_codes, dim].
    `silence_code` is on the dark side.
    """
    codebook = np.asarray(codebook, np.float64)
    component = np.linalg.svd(codebook - codebook.mean(axis=0), full_matrices=False)[0][:, 0]
    shades = np.argsort(np.argsort(component, kind="stable")) / max(len(component) - 1, 1)
    if silence_code is not None and shades[silence_code] > 0.5:
        shades = 1.0 - shades
    return shades.astype(np.float32)


def codec_shades(codec_engine) -> list[np.ndarray]:
    """The `code_shades` of each book of a codec; without codebooks, in the order of the codes."""
    silence = codec_engine.encode(np.zeros((1, 64 * codec_engine.config.level), np.float32))[0]
    silent_codes = silence[len(silence) // 2]
    in_order = np.arange(codec_engine.config.num_codes)[:, None]
    books = codec_engine.weight_set.codebook_per_code() or [in_order] * len(silent_codes)
    return [code_shades(book, int(code)) for book, code in zip(books, silent_codes, strict=True)]


def logs(folder, names=()) -> dict[str, Path]:
    """The training logs in a folder, {model: path of its CSV}: first those of `names`."""
    paths = {path.stem: path for path in sorted(Path(folder).glob("*.csv")) if path.is_file()}
    return {name: paths[name] for name in dict.fromkeys([*names, *paths]) if name in paths}


def loss_curves(csv_path, path, title: str = "") -> bool:
    """A panel for each metric of one log (the loss first), with training and validation curves.
    Returns False, and draws nothing, if the log has no complete row.
    """
    epochs, columns = read_log(csv_path)
    names = sorted((n for n in columns if not n.startswith("val_")), key=lambda n: n != "loss")
    names += [n for n in columns if n.startswith("val_") and n.removeprefix("val_") not in columns]
    return _training(path, title, [(name.replace("_", " ").capitalize(), epochs, columns, name)
                                   for name in names], most=3)


def training_curves(logs: dict, path, title: str = "") -> bool:
    """A panel for each of {model: path of its log}: the bits per frame of a generator, or the loss
    of a codec. A ring marks the best epoch by validation. False if no log has a complete row.
    """
    runs = {model: read_log(log) for model, log in logs.items()}
    return _training(path, title, [
        (model, epochs, columns, next((n for n in ("bits", "loss") if n in columns),
                                      next(iter(columns))))
        for model, (epochs, columns) in runs.items() if columns], most=4, best=True)


def _training(path, title: str, panels: list[tuple], most: int, best: bool = False) -> bool:
    """Draw panels (title, epochs, columns, name of a column), at most `most` in a row; False if
    there are none.
    """
    check_output(path)
    if not panels:
        return False
    across = min(most, len(panels))
    down = -(-len(panels) // across)
    figure, grid = figures.create(max(3.2 * across, 5.0), 2.7 * down + 0.4, title, down, across)
    figure.align_ylabels()
    axes = figures.hide_unused(grid, len(panels))
    for axis, (name, epochs, columns, column) in zip(axes, panels, strict=True):
        _curves(axis, epochs, columns, column)
        axis.set_title(name, fontsize="medium", parse_math=False)
        if best:
            _mark_best(axis, epochs, columns.get(f"val_{column}", columns[column]))
            axis.set_ylabel("Bits a frame" if column == "bits"
                            else column.capitalize().replace("_", " "))
    max(axes, key=lambda axis: len(axis.lines)).legend(frameon=False, fontsize="small",
                                                       labelcolor=GREY)
    figures.save(figure, path)
    return True


def _mark_best(axis, epochs, values):
    if any(map(math.isfinite, values)):
        best = int(np.nanargmin(values))
        place = epochs[best], values[best]
        axis.plot(*place, "o", markersize=9, markerfacecolor="none", markeredgecolor=BLACK,
                  markeredgewidth=1.1)
        axis.annotate(f"{values[best]:.4g}", place, textcoords="offset points", color=GREY,
                      xytext=(0, 9) if best else (9, -4), ha="right" if best else "left",
                      fontsize="small")


def _curves(axis, epochs, columns, name):
    """A metric's training and validation curves."""
    from matplotlib.ticker import MaxNLocator

    for label, column in (("training", name), ("validation", f"val_{name}")):
        if column in columns:
            style = CURVES[label] | ({"marker": ""} if len(epochs) > 40 else {})
            axis.plot(epochs, columns[column], markersize=3.2, linewidth=1.4, label=label, **style)
    axis.set_xlabel("Epoch")
    axis.ticklabel_format(axis="y", useOffset=False)
    if len(epochs) <= 8:
        axis.set_xticks(epochs)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if len(epochs) == 1:
        axis.set_xlim(epochs[0] - 1, epochs[0] + 1)


def _spectrogram(axis, spectrum, samples, sample_rate, top, start, hertz=True):
    """Draw a `log_spectrogram` with 0 dB at `top` and a line at each C; hertz: a second scale."""
    from matplotlib import colormaps

    rows, top = pitches(sample_rate), max(top, metrics.MEL_FLOOR)
    decibels = 20 * np.log10(np.maximum(spectrum, top * 10 ** (-RANGE_DB / 20)) / top)
    half = 0.5 / ROWS_A_SEMITONE
    image = axis.imshow(decibels, origin="lower", aspect="auto",
                        cmap=colormaps["magma"].resampled(round(RANGE_DB)),
                        vmin=-RANGE_DB, vmax=0.0, interpolation="nearest",
                        extent=(start, start + samples / sample_rate, rows[0] - half,
                                rows[-1] + half))
    octaves = [note for note in range(12, 144, 12) if rows[0] <= note <= rows[-1]]
    axis.set_yticks(octaves, [f"C{note // 12 - 1}" for note in octaves])
    axis.grid(False)
    axis.grid(axis="y", color="white", alpha=0.28, linewidth=0.6)
    axis.set_axisbelow(False)
    if hertz:
        ticks = [hz for hz in TICKS_HZ if rows[0] <= pitch(hz) <= rows[-1]]
        right = axis.secondary_yaxis("right")
        right.set_yticks(pitch(ticks), [f"{hz}" if hz < 1000 else f"{hz // 1000}k" for hz in ticks])
        right.tick_params(colors=GREY, labelsize="small", length=2)
        right.set_ylabel("Frequency (Hz)", color=GREY, fontsize="small")
        right.spines["right"].set_visible(False)
    return image


def _waveform(axis, audio, sample_rate, start):
    """The range of the samples in each column, and their RMS if a column has many samples."""
    each = -(-len(audio) // MOST_COLUMNS)
    starts = np.arange(0, len(audio), each)
    time = start + np.append(starts, len(audio)) / sample_rate
    ranges = [(np.minimum.reduceat(audio, starts), np.maximum.reduceat(audio, starts))]
    if each > 8:
        rms = np.sqrt(np.add.reduceat(np.square(audio, dtype=np.float64), starts)
                      / np.diff(np.append(starts, len(audio))))
        ranges.append((-rms, rms))
    for (low, high), alpha in zip(ranges, (0.5, 1.0), strict=False):
        axis.fill_between(time, np.append(low, low[-1]), np.append(high, high[-1]), step="post",
                          linewidth=0.3, color=BLUE, alpha=alpha)


def _finite(signals: dict) -> dict[str, np.ndarray]:
    return {name: np.nan_to_num(np.asarray(audio, np.float32), posinf=1.0, neginf=-1.0)
            for name, audio in signals.items()}


def _limits(signals):
    peak = max(float(np.abs(s).max()) for s in signals) * 1.05
    return (-peak, peak) if peak > 1e-4 else (-1.0, 1.0)


def _end(signals, start, sample_rate):
    return start + max(map(len, signals.values())) / sample_rate
