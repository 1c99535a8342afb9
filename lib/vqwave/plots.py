"""Plots of sound, codes, notes and training, as PNG or SVG files.

Every function that draws raises `UserError` if the file is neither .png nor .svg, or if the folder
is missing. Signals are float [samples] in [-1, 1]; `start` is the first second of the time axis.
`pyplot` is not used, so any thread may draw.

Colour is never the only difference. Curves also differ in line and marker, maps in lightness. The
colours are those of Okabe and Ito (2008), for colour-blind readers.
"""

import csv
import io
import math
import warnings
from bisect import bisect_left
from pathlib import Path

import numpy as np

from .dsp import metrics
from .dsp.notes import BINS, BINS_A_SEMITONE, LOWEST_MIDI
from .dsp.spectrum import MOST_COLUMNS, ROWS_A_SEMITONE, log_spectrogram, pitch, pitches
from .errors import UserError
from .io.files import atomic_write, check_place, printable, reason

SUFFIXES = (".png", ".svg")
BLACK, BLUE, RED = "#000000", "#0072B2", "#D55E00"
GREY, LIGHT = "#4D4D4D", "#D9D9D9"
RANGE_DB = 80.0
MOST_EDGED = 60.0
"""Seconds of the longest piano roll whose notes have edges; in a longer one edges hide notes."""
TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
CURVES = {"training": {"color": BLUE, "linestyle": "-", "marker": "o"},
          "validation": {"color": RED, "linestyle": "--", "marker": "s"}}


def spectrograms(signals: dict, path, sample_rate: int, title: str = "", start: float = 0.0):
    """Waveform and spectrogram of each of {name: audio}. 0 dB is the loudest point of the first."""
    count, signals = len(signals), {
        name: np.nan_to_num(np.asarray(audio, np.float32), posinf=1.0, neginf=-1.0)
        for name, audio in signals.items()}
    across = min(count, (3, 4, 6)[bisect_left((9, 16), count)])
    down = -(-count // across)
    width = 10.0 if across < 3 else 13.0
    height = 0.7 + min(3.9, max(1.9, 0.8 * width / across)) * down
    figure, axes = _create(width, height, title, 2 * down, across, sharex=True,
                           height_ratios=[1, 2.6] * down)
    spectra = [log_spectrogram(s, sample_rate) for s in signals.values()]
    top, peak = float(spectra[0].max()), max(float(np.abs(s).max()) for s in signals.values())
    limit = 1.05 * peak if peak > 1e-4 else 1.0
    for i, (name, audio) in enumerate(signals.items()):
        wave, spectrum = axes[2 * (i // across) : 2 * (i // across) + 2, i % across]
        _waveform(wave, audio, sample_rate, start)
        wave.set_ylim(-limit, limit)
        _name_panel(wave, name, across)
        image = _spectrogram(spectrum, spectra[i], len(audio), sample_rate, top, start,
                             hertz=i % across == across - 1 or i == count - 1)
        for axis, label in ((wave, "Amplitude"), (spectrum, "Pitch")):
            axis.set_ylabel("" if i % across else label)
            axis.tick_params(labelleft=not i % across)
    pairs = axes.reshape(down, 2, across)
    for wave in pairs[:, 0].ravel()[count:]:
        wave.set_visible(False)
    _time_axis(_hide_unused(pairs[:, 1], count), start,
               start + max(map(len, signals.values())) / sample_rate)
    _colorbar(figure, image, list(axes.ravel()), "Loudness (dB)")
    figure.align_ylabels(axes[:, 0])
    _save(figure, path)


def notes(rolls: dict, path, title: str = ""):
    """Piano rolls on top of log-frequency spectrograms, {name: `dsp.notes.PianoRoll`}. Louder notes
    are more opaque, those of scores fully. Loudness is relative to full scale.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    figure, axes = _create(10.0, 0.9 + 2.4 * len(rolls), title, len(rolls), sharex=True,
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
        _name_panel(axis, name, 1)
        axis.set_ylabel("Note")
    axes[0, 0].set_ylim(lowest - 0.5, highest + 0.5)
    _time_axis(list(axes[:, 0]), first, last)
    if np.isfinite(loudest):  # scores alone have no loudness
        _colorbar(figure, image, list(axes[:, 0]), "Loudness (dBFS)")
    _save(figure, path)


def code_shades(codebook, silence_code: int | None = None) -> np.ndarray:
    """A shade for each code, similar for similar vectors: float32 [num_codes], evenly spread over
    0 … 1, by the first principal component of the codebook, float [num_codes, dim]. `silence_code`
    is on the dark side.
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


def read_log(csv_path) -> tuple[list[int], dict[str, list[float]]]:
    """The epochs of a log, from 1, and each column's numbers (NaN for a gap). Broken rows are left
    out. If an epoch has two rows, the later row counts.
    """
    try:
        text = Path(csv_path).read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise UserError(f"{printable(csv_path)}: cannot be read: {reason(e)}") from e
    whole_lines = text[: text.rfind("\n") + 1].replace("\0", "")
    rows = csv.reader(io.StringIO(whole_lines), strict=False)
    header = next(rows, [])
    if "epoch" not in header:
        return [], {}
    by_epoch = {}
    for row in rows:
        values = dict(zip(header, map(_number, row), strict=False))
        if len(row) == len(header) and values["epoch"] >= 0:  # a repeated header is NaN
            by_epoch[int(values["epoch"]) + 1] = values
    epochs = sorted(by_epoch)
    columns = {name: [by_epoch[e][name] for e in epochs] for name in header if name != "epoch"}
    return epochs, {n: v for n, v in columns.items() if n and any(map(math.isfinite, v))}


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def logs(folder, names=()) -> dict[str, Path]:
    """The training logs in a folder, {model: path of its CSV}: first those of `names`."""
    paths = {path.stem: path for path in sorted(Path(folder).glob("*.csv")) if path.is_file()}
    return {name: paths[name] for name in dict.fromkeys([*names, *paths]) if name in paths}


def loss_curves(csv_path, path, title: str = "") -> bool:
    """A panel for each metric of one log (the loss first), with training and validation curves.
    False, without a file, if the log has no complete row.
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
    """Draw panels (title, epochs, columns, name of a column), at most `most` in a row."""
    check_output(path)
    if not panels:
        return False
    across = min(most, len(panels))
    down = -(-len(panels) // across)
    figure, grid = _create(max(3.2 * across, 5.0), 2.7 * down + 0.4, title, down, across)
    figure.align_ylabels()
    axes = _hide_unused(grid, len(panels))
    for axis, (name, epochs, columns, column) in zip(axes, panels, strict=True):
        _curves(axis, epochs, columns, column)
        axis.set_title(name, fontsize="medium", parse_math=False)
        if best:
            _mark_best(axis, epochs, columns.get(f"val_{column}", columns[column]))
            axis.set_ylabel("Bits a frame" if column == "bits"
                            else column.capitalize().replace("_", " "))
    max(axes, key=lambda axis: len(axis.lines)).legend(frameon=False, fontsize="small",
                                                       labelcolor=GREY)
    _save(figure, path)
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


def _create(width, height, title, rows=1, columns=1, grid=True, **options):
    """(figure, axes [rows, columns]), without boxes and with a light grid."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=144, layout="constrained")
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize="large", fontweight="bold",
                        parse_math=False)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for axis in axes.ravel():
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set(color=GREY, linewidth=0.7)
        axis.tick_params(which="both", colors=GREY, labelsize="small", width=0.7, length=3)
        axis.xaxis.label.set_color(GREY)
        axis.yaxis.label.set_color(GREY)
        axis.set_axisbelow(True)
        axis.grid(grid, **({"color": LIGHT, "linewidth": 0.6} if grid else {}))
    return figure, axes


def _hide_unused(axes, count: int) -> list:
    """The first `count` axes of a grid. The others are hidden."""
    used, unused = axes.ravel()[:count], axes.ravel()[count:]
    for axis in unused:
        axis.set_visible(False)
    for axis in used[max(0, count - axes.shape[1]) :]:
        axis.tick_params(labelbottom=True)
    return list(used)


def _time_axis(axes, start, end):
    """Label the time axis in seconds, or in minutes and seconds if it is long."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

    step = next((s for s in (30, 60, 120, 300, 600, 1200, 1800) if end - start <= 6 * s), 3600)
    for axis in axes:
        axis.set_xlim(start, end)
        if end > 180:
            axis.xaxis.set_major_locator(MultipleLocator(step) if end - start > 60
                                         else MaxNLocator(nbins=6))
            axis.xaxis.set_major_formatter(FuncFormatter(
                lambda s, _: f"{int(s) // 60}:{int(s) % 60:02d}"))
        else:
            axis.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
        if axis.get_subplotspec().is_last_row() or axis.xaxis.get_tick_params().get("labelbottom"):
            axis.set_xlabel("Time (min:s)" if end > 180 else "Time (s)")


def _colorbar(figure, image, axes: list, label: str):
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=30,
                          shrink=0.6 if len(axes) > 2 else 0.9)
    bar.set_label(label, color=GREY, fontsize="small")
    bar.ax.tick_params(which="both", colors=GREY, labelsize="small", length=2)
    bar.outline.set_visible(False)


def _name_panel(axis, name, across: int):
    """Show a panel's name, shortened to the panel's width."""
    most = 150 // across
    short = name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"
    axis.set_title(short, loc="left", fontsize="small" if across < 4 else "x-small",
                   parse_math=False)


def check_output(path) -> str:
    """The format of a picture. Raises `UserError` for another ending, and as `check_place` does."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{printable(path)}: a picture's name must end in {' or '.join(SUFFIXES)}")
    check_place(path)
    return suffix[1:]


def _save(figure, path):
    """Write a figure without a date, so that the same data give the same PNG."""
    kind = check_output(path)
    with warnings.catch_warnings(), atomic_write(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font",
                                category=UserWarning)
        figure.savefig(file, format=kind, metadata={"Date" if kind == "svg" else "Software": None})
