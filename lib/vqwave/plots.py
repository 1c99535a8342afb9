"""Pictures of sound, codes, notes and training. PNG or SVG by the file's ending, written
atomically.

Each function that draws raises `UserError` where the ending is neither .png nor .svg or the folder
is not there, and `ValueError` where there is nothing to draw. Signals are float [samples] in
[-1, 1] and may be long; a picture never holds more than a few thousand columns of them.

Figures are made through matplotlib's objects, never `pyplot`: no window system, no global state,
safe in any thread. Colours are those of Okabe and Ito (2008), which colour-blind people tell apart,
and nothing is told by colour alone: curves differ by line and marker, and maps of colours grow
lighter all the way.
"""

from __future__ import annotations

import csv
import io
import math
import warnings
from pathlib import Path

import numpy as np

from .dsp import metrics
from .errors import UserError
from .io.files import atomic_write, printable, reason

SUFFIXES = (".png", ".svg")
COLUMNS = 1200
RANGE_DB = 80.0
LOWEST_NOTE = 36
"""The note number of the lowest row of a piano roll, C2."""

LOWEST_PITCH, ROWS_A_SEMITONE = 24, 3
"""Spectrograms begin with C1, 32.7 Hz, and have so many rows a semitone."""

WINDOWS = (2048, 4096, 8192)
"""Samples of a spectrogram's windows: short ones for high notes, long ones for low ones."""

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
GREY, LIGHT = "#4D4D4D", "#D9D9D9"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


def waveform_and_spectrogram(original, reconstruction, path, sample_rate: int,
                             title: str = "", start: float = 0.0):
    """Both signals side by side, waveform over spectrogram, with the same axes and one dB scale.

    0 dB is the loudest point of the original. The two may differ in length. start: seconds, where
    the time axis begins.
    """
    named = {"Original": original, "Reconstruction": reconstruction}
    spectrograms(named, path, sample_rate, title, across=2, start=start)


def loss_curves(csv_path, png_path, title: str = "") -> bool:
    """The curves of a Keras `CSVLogger` file: the loss first, a panel for each metric, training and
    validation.

    The file may be one that is being written or was continued: rows that are not whole are left
    out, of an epoch logged twice the later one counts, and cells without a finite number are gaps.

    Returns:
        False where the file has no whole row, so that nothing was drawn.

    Raises:
        UserError: also where the file cannot be read.
    """
    check_output(png_path)
    epochs, columns = read_log(csv_path)
    if not columns:
        return False
    names = sorted((n for n in columns if not n.startswith("val_")), key=lambda n: n != "loss")
    names += [n for n in columns if n.startswith("val_") and n.removeprefix("val_") not in columns]
    figure, axes = _panels(len(names), title, across=min(3, len(names)))
    for axis, name in zip(axes, names, strict=True):
        _curves(axis, epochs, columns, name)
        axis.set_title(name.replace("_", " ").capitalize(), fontsize="medium", parse_math=False)
    for axis in axes:
        if axis.get_legend_handles_labels()[1] == list(CURVES):
            _legend(axis)
            break
    _save(figure, png_path)
    return True


CURVES = {"training": {"color": BLUE, "linestyle": "-", "marker": "o"},
          "validation": {"color": RED, "linestyle": "--", "marker": "s"}}


def _curves(axis, epochs, columns, name):
    """A metric's training curve and, where there is one, its validation curve."""
    crowded = len(epochs) > 40
    for label, column in (("training", name), ("validation", f"val_{name}")):
        if column in columns:
            look = CURVES[label] | ({"marker": ""} if crowded else {})
            axis.plot(epochs, columns[column], markersize=3.2, linewidth=1.4, label=label, **look)
    axis.set_xlabel("Epoch")
    axis.ticklabel_format(axis="y", useOffset=False)
    if len(epochs) <= 8:
        axis.set_xticks(epochs)
    else:
        from matplotlib.ticker import MaxNLocator

        axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if len(set(epochs)) == 1:
        axis.set_xlim(epochs[0] - 1, epochs[0] + 1)


def speeds(results: dict, path) -> bool:
    """What `benchmark.run` measured: sampling one stream, each engine beside the eager loop, and
    the chain's RTF.

    Returns:
        False where the results have neither, so that nothing was drawn.
    """
    check_output(path)
    steps = [r for r in results.get("steps", ()) if r["streams"] == 1]
    chain = results.get("chain", ())
    if not steps and not chain:
        return False
    sampled = list(dict.fromkeys(r["size"] for r in steps))
    chained = list(dict.fromkeys((r["size"], r["level"]) for r in chain))
    figure = _figure(4.6 * len(sampled) + 4.2 * bool(chained), 4.2, "")
    axes = list(figure.subplots(1, len(sampled) + bool(chained), squeeze=False)[0])
    for axis in axes:
        _style(axis)
    looks = [dict(color=color, hatch=hatch, edgecolor="white", linewidth=0.5)
             for color, hatch in ((LIGHT, ""), (SKY, "//"), (BLUE, ""), (ORANGE, "\\\\\\\\"))]
    for size in sampled:
        axis = axes.pop(0)
        rows = [r for r in steps if r["size"] == size]
        levels = sorted({r["level"] for r in rows}, reverse=True)
        engines = list(dict.fromkeys(r["engine"]
                                     for r in sorted(rows, key=lambda r: r["codes_per_s"])))
        for i, (name, look) in enumerate(zip(engines, looks, strict=False)):
            rates = [r["real_time"] for level in levels for r in rows
                     if (r["engine"], r["level"]) == (name, level)]
            axis.bar(np.arange(len(levels)) + 0.2 * (i - (len(engines) - 1) / 2),
                     rates, 0.2, label=name, **look)
        axis.set_yscale("log")
        axis.set_xticks(range(len(levels)), [f"{level}x" for level in levels])
        axis.set_title(f"Sampling one stream, {size}")
        axis.set_ylabel("Times its level's real time")
        _legend(axis)
    if chain:
        axis = axes.pop(0)
        width = min(0.3, 0.9 / len(chained))
        for i, (size, level) in enumerate(chained):
            rows = [r for r in chain if (r["size"], r["level"]) == (size, level)]
            where = np.arange(len(rows)) + width * (i - (len(chained) - 1) / 2)
            bars = axis.bar(where, [r["rtf"] for r in rows], width, label=f"{size}, to {level}x",
                            **looks[(i + 1) % len(looks)])
            axis.bar_label(bars, fmt="{:.1f}", fontsize="small")
            axis.set_xticks(range(len(rows)), [str(r["streams"]) for r in rows])
        axis.set_title("The chain")
        axis.set_xlabel("Streams side by side")
        axis.set_ylabel("Total real-time factor")
        _legend(axis)
    for axis in figure.axes:
        axis.axhline(1.0, color=GREY, linewidth=1.0, linestyle=":")
    _save(figure, path)
    return True


def codes(made: dict, shades: dict, path, sample_rate: int, column: int,
          audio=None, title: str = "",
          start: float = 0.0):
    """The codes of several levels as coloured rows over time, under the spectrogram of `audio`
    where it is given.

    A column is `column` samples wide, a frame of the chain's top level; in it, from top to bottom,
    stand the codes of that moment, `column` / level of them. So every code is seen, and what
    repeats in the sound is a pattern.

    Args:
        made: {level: codes int [n], or [n, books], of which the first book is drawn}.
        shades: {level: what `codec_shades` says of that codec}.
        column: a multiple of every level.
        start: seconds, where the time axis begins.
    """
    levels = sorted(made, reverse=True)
    rasters = [code_raster(made[level], level, shades[level], column) for level in levels]
    if not levels or any(not r.size for r in rasters):
        raise ValueError("a picture of codes needs a level, and a code of each")
    # A lane of many rows is taller than one of a single row, but not as many times.
    heights = [0.5 + 0.35 * math.log2(r.shape[0]) for r in rasters]
    figure = _figure(10.0, 1.4 + sum(heights) * 0.75 + (2.6 if audio is not None else 0.0), title)
    ratios = ([sum(heights) * 0.75] if audio is not None else []) + heights
    axes = list(figure.subplots(len(ratios), 1, sharex=True, squeeze=False,
                                height_ratios=ratios)[:, 0])
    for axis in axes:
        _style(axis, grid=False)
    rows, seconds = list(axes), rasters[-1].shape[1] * column / sample_rate
    if audio is not None:
        audio = _signal(audio)
        spectrum = log_spectrogram(audio, sample_rate)
        image = _spectrogram(axes[0], spectrum, len(audio), sample_rate,
                             float(spectrum.max()), start)
        axes[0].set_ylabel("Pitch")
        _level_bar(figure, image, [axes[0]])
        rows, seconds = axes[1:], min(seconds, len(audio) / sample_rate)
    for axis, level, raster in zip(rows, levels, rasters, strict=True):
        wide = raster.shape[1] * column / sample_rate
        each = -(-raster.shape[1] // (4 * COLUMNS))
        image = axis.imshow(raster[:, ::each], aspect="auto", cmap="viridis", vmin=0.0, vmax=1.0,
                            interpolation="nearest",
                            extent=(start, start + wide, raster.shape[0], 0.0))
        axis.set_yticks([])
        axis.set_ylabel(f"{level}x", rotation=0, ha="right", va="center")
    _time_axis(axes, start, start + seconds)
    bar = figure.colorbar(image, ax=rows, pad=0.015, aspect=30, ticks=[])
    bar.set_label("Codes: similar ones have similar colours", color=GREY, fontsize="small")
    bar.outline.set_visible(False)
    _save(figure, path)


def code_shades(codebook, quiet: int | None = None) -> np.ndarray:
    """A shade for each code, similar where their vectors are: float32 [num_codes], evenly spread
    over 0 … 1.

    The codes are ranked along the first principal component of the codebook, float [num_codes,
    dim]. That has no direction of its own: with `quiet`, the code of silence, that one falls into
    the dark half.
    """
    codebook = np.asarray(codebook, np.float64)
    along = np.linalg.svd(codebook - codebook.mean(axis=0), full_matrices=False)[0][:, 0]
    shades = np.argsort(np.argsort(along, kind="stable")) / max(len(along) - 1, 1)
    if quiet is not None and shades[quiet] > 0.5:
        shades = 1.0 - shades
    return shades.astype(np.float32)


def codec_shades(codec_engine) -> np.ndarray:
    """`code_shades` of a codec's first book, dark where it is quiet. A codec without codebooks has
    them in the order of its codes.

    codec_engine: what `play.engine.load_codec` returns.
    """
    return shades_of_books(codec_engine)[0]


def shades_of_books(codec_engine) -> list[np.ndarray]:
    """`codec_shades` of each of a codec's books, in their order."""
    quiet = codec_engine.encode(np.zeros((1, 64 * codec_engine.config.level), np.float32))[0]
    quiet = quiet[len(quiet) // 2]
    in_order = np.arange(codec_engine.config.num_codes)[:, None]
    books = codec_engine.weight_set.codebooks_of_frame() or [in_order] * len(quiet)
    return [code_shades(book, int(code)) for book, code in zip(books, quiet, strict=True)]


def first_book(codes) -> np.ndarray:
    """Codes int [n], or [n, books] -> int [n], those of the first book."""
    codes = np.asarray(codes)
    return codes[:, 0] if codes.ndim == 2 else codes


def code_raster(codes, level: int, shades, column: int) -> np.ndarray:
    """Codes int [n] or [n, books] as a picture: float32 [column / level, ceil(n·level / column)] of
    the first book.

    In a column of `column` samples time runs from top to bottom. NaN where the last column is not
    full.
    """
    rows = column // level
    shown = np.asarray(shades, np.float32)[first_book(codes).astype(np.int64)]
    return np.pad(shown, (0, -len(shown) % rows), constant_values=np.nan).reshape(-1, rows).T


def waveforms(signals: dict, path, sample_rate: int, title: str = "", start: float = 0.0,
              across: int | None = None):
    """A panel for each of several signals, {name: audio}, by librosa's `waveshow`, on one time axis
    and one scale.

    start: seconds, where the time axis begins. across: panels beside each other (None: as many as
    keep the picture on a page).
    """
    import librosa

    signals = _signals(signals)
    across = _across(len(signals), across, 6)
    down = -(-len(signals) // across)
    figure = _figure(10.0 if across < 3 else 13.0,
                     0.8 + (1.25 if down <= 6 else 0.85) * down, title)
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    end = start + max(map(len, signals.values())) / sample_rate
    for i, (axis, (name, audio)) in enumerate(zip(axes.ravel(), signals.items(), strict=False)):
        _style(axis)
        librosa.display.waveshow(audio, sr=sample_rate, ax=axis, max_points=COLUMNS,
                                 color=PALETTE[i % len(PALETTE)],
                                 linewidth=0.4, axis=None, offset=start)
        _name_panel(axis, name, across)
        axis.set_xlabel("")
        axis.set_ylabel("")
    _time_axis(_hide_unused(axes, len(signals)), start, end)
    axes[0, 0].set_ylim(*_limits(signals.values()))
    figure.supylabel("Amplitude", fontsize="medium", color=GREY)
    _save(figure, path)


def spectrograms(signals: dict, path, sample_rate: int, title: str = "", across: int | None = None,
                 start: float = 0.0):
    """Waveform over spectrogram of each of {name: audio}, `across` of them beside each other (None:
    as many as keep the picture on a page), on the same axes. The time axis begins with `start`.

    0 dB is the loudest point of the first.
    """
    signals = _signals(signals)
    across = _across(len(signals), across, 3)
    down = -(-len(signals) // across)
    width = 10.0 if across < 3 else 13.0
    figure = _figure(width, 0.7 + min(3.9, max(1.9, 0.8 * width / across)) * down, title)
    axes = figure.subplots(2 * down, across, sharex=True, squeeze=False,
                           height_ratios=[1, 2.6] * down)
    spectra = [log_spectrogram(s, sample_rate) for s in signals.values()]
    top, limits = float(spectra[0].max()), _limits(signals.values())
    for i, (name, audio) in enumerate(signals.items()):
        wave, below = axes[2 * (i // across) : 2 * (i // across) + 2, i % across]
        _style(wave)
        _style(below, grid=False)
        _waveform(wave, audio, sample_rate, start)
        wave.set_ylim(*limits)
        _name_panel(wave, name, across)
        last = i % across == across - 1 or i == len(signals) - 1
        image = _spectrogram(below, spectra[i], len(audio), sample_rate, top, start, hertz=last)
        if i % across:
            wave.tick_params(labelleft=False)
            below.tick_params(labelleft=False)
        else:
            wave.set_ylabel("Amplitude")
            below.set_ylabel("Pitch")
    below = axes.reshape(down, 2, across)
    for pair in below.transpose(0, 2, 1).reshape(-1, 2)[len(signals) :]:
        for axis in pair:
            axis.set_visible(False)
    _time_axis(_hide_unused(below[:, 1], len(signals)), start,
               start + max(map(len, signals.values())) / sample_rate)
    _level_bar(figure, image, list(axes.ravel()))
    figure.align_ylabels(axes[:, 0])
    _save(figure, path)


def notes(rolls: dict, path, title: str = ""):
    """Piano rolls over log-frequency spectrograms, one under the other on the same axes: {name:
    `measure.notes.PianoRoll`}.

    A note is a bar as long as it sounds and a semitone high; the stronger, the more opaque. Lines
    mark the Cs. Levels are of full scale, and reach down from the loudest point of the first.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    if not rolls:
        raise ValueError("there are no notes to draw")
    figure = _figure(10.0, 0.9 + 2.4 * len(rolls), title)
    axes = figure.subplots(len(rolls), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    top = max(float(next(iter(rolls.values())).spectrum.max()), -RANGE_DB)
    for axis, (name, roll) in zip(axes, rolls.items(), strict=True):
        _style(axis, grid=False)
        # Bins stand two to a semitone, the first on C2.
        image = axis.imshow(roll.spectrum, origin="lower", aspect="auto",
                            cmap="Greys", vmin=top - RANGE_DB / 2,
                            vmax=top, interpolation="nearest", extent=(
                                roll.start, roll.start + roll.length, LOWEST_NOTE - 0.25,
                                LOWEST_NOTE + len(roll.spectrum) / 2 - 0.25))
        ends = roll.time + roll.seconds
        bars = [[(a, m - 0.5), (b, m - 0.5), (b, m + 0.5), (a, m + 0.5)]
                for a, b, m in zip(roll.time, ends, roll.midi, strict=True)]
        clear = np.clip(1.0 + (roll.strength - top) / (RANGE_DB / 2), 0.15, 1.0)
        axis.add_collection(PolyCollection(bars,
                                           facecolors=[(*to_rgb(RED), float(c)) for c in clear],
                                           edgecolors="white", linewidths=0.4), autolim=False)
        octaves = range(LOWEST_NOTE, LOWEST_NOTE + len(roll.spectrum) // 2 + 1, 12)
        axis.set_yticks(octaves, [f"C{note // 12 - 1}" for note in octaves])
        axis.set_yticks([note + step for note in octaves[:-1] for step in (4, 7)], minor=True,
                        labels=[f"{letter}{note // 12 - 1}" for note in octaves[:-1]
                                for letter in "EG"])
        axis.tick_params(axis="y", which="minor", labelsize=5)
        axis.grid(axis="y", linewidth=0.6, color="black", alpha=0.5)
        _name_panel(axis, name, 1)
        axis.set_ylabel("Note")
    _time_axis(list(axes), min(r.start for r in rolls.values()),
               max(r.start + r.length for r in rolls.values()))
    _level_bar(figure, image, list(axes), "Level (dBFS)")
    _save(figure, path)


def logs(folder, names=()) -> dict[str, Path]:
    """The training logs in a folder, {model: path of its CSV}: those of `names` in that order, then
    all others.
    """
    there = {path.stem: path for path in sorted(Path(folder).glob("*.csv")) if path.is_file()}
    return {name: there[name] for name in (*(n for n in names if n in there),
                                           *(n for n in there if n not in names))}


def training_curves(logs: dict, path, title: str = "") -> bool:
    """A panel for each run, {model: path of its CSV log}: bits a frame of a generator, the loss of
    a codec.

    The epoch that is best by validation is ringed. Logs may be of runs that still train, see
    `loss_curves`; those without a whole row are left out.

    Returns:
        False where none has a whole row, so that nothing was drawn.

    Raises:
        UserError: also where a log cannot be read.
    """
    check_output(path)
    found = {name: read_log(log) for name, log in logs.items()}
    found = {name: (epochs, columns) for name, (epochs, columns) in found.items() if columns}
    if not found:
        return False
    figure, axes = _panels(len(found), title)
    for axis, (name, (epochs, columns)) in zip(axes, found.items(), strict=True):
        shown = ("bits" if "bits" in columns else "loss" if "loss" in columns
                 else next(iter(columns)))
        _curves(axis, epochs, columns, shown)
        judged = columns.get(f"val_{shown}", columns[shown])
        if any(map(math.isfinite, judged)):
            best = int(np.nanargmin(judged))
            axis.plot(epochs[best], judged[best], "o", markersize=9, markerfacecolor="none",
                      markeredgecolor=BLACK,
                      markeredgewidth=1.1)
            axis.annotate(f"{judged[best]:.4g}", (epochs[best], judged[best]),
                          textcoords="offset points",
                          xytext=(0, 9) if best else (9, -4), ha="right" if best else "left",
                          fontsize="small",
                          color=GREY)
        axis.set_title(name, fontsize="medium", parse_math=False)
        axis.set_ylabel("Bits a frame" if shown == "bits" else shown.capitalize().replace("_", " "))
    _legend(axes[0])
    _save(figure, path)
    return True


def code_usage(counts: dict, path, title: str = ""):
    """How often each code occurs, {name: counts int [num_codes]}, a panel each: the codes by rank,
    their share.

    The dotted line is where all would lie if all were used evenly; codes that never occur end the
    curve.
    """
    if not counts or not all(np.sum(c) for c in counts.values()):
        raise ValueError("a histogram of codes needs codes")
    figure, axes = _panels(len(counts), title)
    for i, (axis, (name, count)) in enumerate(zip(axes, counts.items(), strict=True)):
        count = np.sort(np.asarray(count, np.float64))[::-1]
        share = 100 * count / count.sum()
        used = int((count > 0).sum())
        axis.fill_between(np.arange(used + 1), np.append(share[:used], share[used - 1]),
                          1e-6, step="post",
                          facecolor=PALETTE[i % len(PALETTE)], edgecolor="none", alpha=0.85)
        axis.axhline(100 / len(count), color=BLACK, linestyle=":", linewidth=1.1)
        axis.set_title(f"{name}: {used} of {len(count)} codes\nperplexity "
                       f"{metrics.perplexity(count):.0f}",
                       fontsize="medium", parse_math=False)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
        axis.set_xlim(0, len(count))
        axis.set_ylim(bottom=share[used - 1] / 2, top=max(2 * share[0], 200 / len(count)))
        axis.set_xlabel("Code, by rank")
        axis.set_ylabel("Share of all codes (%)")
    _save(figure, path)


def code_map(spectra, counts, grid: tuple[int, int], path, title: str = ""):
    """The codes of a self-organizing map in their places: each cell holds the spectrum that its
    code sounds with, low bands to the left, over a colour that is the pitch of its middle, so that
    neighbours that sound alike look alike.

    A cell of a code that never occurs is hatched. spectra: dB, float [codes, bands]; counts: how
    often each code occurs, int [codes]; grid: rows and columns.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    spectra, (rows, columns) = np.asarray(spectra, np.float64), grid
    height = spectra - spectra.min()
    height = height / max(float(height.max()), 1e-9)
    bands = np.arange(spectra.shape[1])
    middle = (height * bands).sum(1) / np.maximum(height.sum(1), 1e-9)
    across = 10.0
    down = min(max(across * rows / columns, 2.0), 12.0)
    figure = _figure(across, 1.2 + down, title)
    axis = figure.subplots()
    image = axis.imshow(middle.reshape(rows, columns), cmap="viridis", aspect="auto", alpha=0.7,
                        extent=(0, columns, rows, 0))
    place = np.stack(np.divmod(np.arange(len(spectra)), columns), axis=1)
    x = place[:, 1:] + 0.08 + 0.84 * bands / max(len(bands) - 1, 1)
    y = place[:, :1] + 0.92 - 0.84 * height
    axis.add_collection(LineCollection(np.stack([x, y], axis=-1), colors="black", linewidths=0.6))
    for row, column in place[np.asarray(counts) == 0]:
        axis.add_patch(Rectangle((column, row), 1, 1, fill=False, hatch="//", linewidth=0,
                                 edgecolor="white"))
    axis.set_xticks([])
    axis.set_yticks([])
    used = int(np.count_nonzero(counts))
    axis.set_xlabel(f"{rows} x {columns} codes, {used} in use (others are hatched); the line is "
                    f"a code's spectrum", color=GREY, fontsize="small")
    bar = figure.colorbar(image, ax=axis, pad=0.015, aspect=35, ticks=[])
    bar.set_label("Where the middle of its spectrum lies: low to high", color=GREY,
                  fontsize="small")
    bar.outline.set_visible(False)
    _save(figure, path)


def codebook_map(codebook, counts, path, title: str = ""):
    """The vectors of a codebook, float [num_codes, dim], on the plane in which they differ most
    (principal components).

    The area and the colour of a dot are how often its code occurs, by `counts` int [num_codes]; one
    that never does is a cross.
    """
    from matplotlib.colors import LogNorm

    codebook, counts = np.asarray(codebook, np.float64), np.asarray(counts, np.float64)
    centred = codebook - codebook.mean(0)
    left, strength, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.pad(left * strength, ((0, 0), (0, max(0, 2 - len(strength)))))[:, :2]
    kept = 100 * np.pad(strength, (0, 2))[:2] ** 2 / max(float((strength**2).sum()), 1e-12)
    figure = _figure(7.4, 6.2, title)
    axis = figure.subplots()
    _style(axis)
    used = counts > 0
    share = 100 * counts[used] / max(counts.sum(), 1.0)
    if used.any():
        low, high = float(share.min()), float(share.max())
        dots = axis.scatter(*plane[used].T, s=8 + 24 * share, c=share,
                            cmap="viridis", alpha=0.85, linewidth=0.3,
                            edgecolor="white",
                            norm=LogNorm(low, high if high > low else 1.01 * low),
                            label=f"{int(used.sum())} codes in use, the larger the more often")
        bar = figure.colorbar(dots, ax=axis, pad=0.02, aspect=35)
        bar.set_label("Share of all codes (%)", color=GREY)
        bar.outline.set_visible(False)
        bar.ax.tick_params(which="both", colors=GREY, labelsize="small", length=2)
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter("")
    else:
        axis.scatter([], [], color=GREY, label="0 codes in use")
    if not used.all():
        axis.scatter(*plane[~used].T, s=12, marker="x", color=RED, linewidth=0.7,
                     alpha=0.6, zorder=1,
                     label=f"{int((~used).sum())} never used")
    for i, label in enumerate((axis.set_xlabel, axis.set_ylabel)):
        label(f"Principal component {i + 1} ({kept[i]:.0f} % of the variance)")
    for handle in _legend(axis, loc="best").legend_handles:
        handle.set_sizes([22])
    axis.set_aspect("equal", adjustable="datalim")
    _save(figure, path)


def loudness(curves: dict, path, seconds: float = 10.0, title: str = ""):
    """Loudness of several pieces over time, {name: dBFS of every `seconds`}."""
    figure = _figure(8.0, 3.2, title)
    axis = figure.subplots()
    _style(axis)
    for i, (name, values) in enumerate(curves.items()):
        axis.plot((np.arange(len(values)) + 0.5) * seconds / 60, values,
                  linestyle=LINES[i % len(LINES)],
                  color=PALETTE[i % len(PALETTE)], linewidth=1.5, label=name)
    axis.set_ylim(-70, 0)
    axis.set_xlabel("Time (min)")
    axis.set_ylabel("Loudness (dBFS, rms)")
    _legend(axis, loc="lower left")
    _save(figure, path)


def _signals(signals):
    if not signals:
        raise ValueError("there is no signal to draw")
    return {name: _signal(audio) for name, audio in signals.items()}


def read_log(csv_path) -> tuple[list[int], dict[str, list[float]]]:
    """Epochs in order and each column's numbers (NaN for a gap) of a `CSVLogger` file; see
    `loss_curves`.

    Epochs count from 1, as the names of weights files do; `CSVLogger` counts from 0.
    """
    try:
        text = Path(csv_path).read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise UserError(f"{printable(csv_path)}: cannot be read: {reason(e)}") from e
    # the last line may still be on its way to the disk
    whole = text[: text.rfind("\n") + 1].replace("\0", "")
    rows = csv.reader(io.StringIO(whole), strict=False)
    header = next(rows, [])
    if "epoch" not in header:
        return [], {}
    by_epoch = {}
    for row in rows:
        values = dict(zip(header, map(_float, row), strict=False))
        # NaN is not: a header that was written again
        if len(row) == len(header) and values["epoch"] >= 0:
            by_epoch[int(values["epoch"]) + 1] = values
    epochs = sorted(by_epoch)
    columns = {name: [by_epoch[e][name] for e in epochs] for name in header if name != "epoch"}
    return epochs, {n: v for n, v in columns.items() if n and any(map(math.isfinite, v))}


def pitch(hertz) -> np.ndarray:
    """The note number of a frequency, as MIDI counts: 69 is A4, 440 Hz, a semitone is 1."""
    return 69.0 + 12.0 * np.log2(np.asarray(hertz, np.float64) / 440.0)


def pitches(sample_rate: int) -> np.ndarray:
    """The pitch of each row of a `log_spectrogram`, from `LOWEST_PITCH` up to half the sample rate.
    """
    highest = max(math.floor(float(pitch(sample_rate / 2))), LOWEST_PITCH + 12)
    return (np.arange(LOWEST_PITCH * ROWS_A_SEMITONE, highest * ROWS_A_SEMITONE + 1)
            / ROWS_A_SEMITONE)


def log_spectrogram(audio, sample_rate: int) -> np.ndarray:
    """Magnitudes by pitch for a picture: float32 [rows, at most `COLUMNS`], see `pitches`; a sine
    of amplitude 1 has 1.

    A row is the power around its pitch, a third of a semitone or a bin wide, whichever is more, in
    windows that are longer the lower the pitch; one length passes gradually into the next. A column
    is the loudest of its time.
    """
    # A window overlaps the next by half at least, so that nothing is lost between them.
    hop = int(np.clip(len(audio) // (4 * COLUMNS), WINDOWS[0] // 8, WINDOWS[0] // 2))
    each = -(-(1 + len(audio) // hop) // COLUMNS)
    filters = _pitch_filters(sample_rate)
    at_once = each * max(1, 256 // each)
    blocks = []
    for parts in zip(*(metrics.magnitudes(audio, size, hop, frames=at_once) for size in WINDOWS),
                     strict=True):
        rows = sum(np.sqrt(part.astype(np.float32) ** 2 @ bank) * share * (4 / size)
                   for part, (bank, share), size in zip(parts, filters, WINDOWS, strict=True))
        blocks.append(np.maximum.reduceat(rows, np.arange(0, len(rows), each), axis=0))
    return np.concatenate(blocks).T


def _pitch_filters(sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of `WINDOWS`: triangles around the pitches, float32 [bins, rows], each with sum 1;
    and the share of this window in each row, float32 [rows].
    """
    hertz = 440.0 * 2.0 ** ((pitches(sample_rate) - 69.0) / 12.0)
    wanted = np.log2(np.clip(48.0 * sample_rate / hertz, WINDOWS[0], WINDOWS[-1]))
    made = []
    for size in WINDOWS:
        width = np.maximum(hertz * (2.0 ** (1 / (12 * ROWS_A_SEMITONE)) - 1), sample_rate / size)
        bins = np.arange(size // 2 + 1) * sample_rate / size
        bank = np.maximum(1.0 - np.abs(bins[:, None] - hertz) / width, 0.0)
        bank /= np.maximum(bank.sum(axis=0), 1e-9)
        share = np.maximum(1.0 - np.abs(wanted - math.log2(size)), 0.0)
        made.append((bank.astype(np.float32), share.astype(np.float32)))
    return made


def _spectrogram(axis, spectrum, samples, sample_rate, top, start=0.0, hertz=True):
    """The picture of a `log_spectrogram`, `top` being 0 dB, with a line and a name for each C; in
    hertz on the right.
    """
    from matplotlib import colormaps

    rows, top = pitches(sample_rate), max(top, metrics.MEL_FLOOR)
    shown = 20 * np.log10(np.maximum(spectrum, top * 10 ** (-RANGE_DB / 20)) / top)
    half = 0.5 / ROWS_A_SEMITONE
    image = axis.imshow(shown, origin="lower", aspect="auto",
                        cmap=colormaps["magma"].resampled(round(RANGE_DB)),
                        vmin=-RANGE_DB, vmax=0.0, interpolation="nearest",
                        extent=(start, start + samples / sample_rate, rows[0] - half,
                                rows[-1] + half))
    octaves = [note for note in range(12, 144, 12) if rows[0] <= note <= rows[-1]]
    axis.set_yticks(octaves, [f"C{note // 12 - 1}" for note in octaves])
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


def _waveform(axis, audio, sample_rate, start=0.0):
    """The range of each column's samples, and inside it their rms: no peak is lost, however many
    samples a column stands for.
    """
    each = -(-len(audio) // COLUMNS)
    starts = np.arange(0, len(audio), each)
    low, high = np.minimum.reduceat(audio, starts), np.maximum.reduceat(audio, starts)
    time = start + np.append(starts, len(audio)) / sample_rate
    power = (np.add.reduceat(np.square(audio, dtype=np.float64), starts)
             / np.diff(np.append(starts, len(audio))))
    for below, above, color in ((low, high, SKY),
                                *([(-np.sqrt(power), np.sqrt(power), BLUE)] if each > 8 else [])):
        axis.fill_between(time, np.append(below, below[-1]), np.append(above, above[-1]),
                          step="post", linewidth=0.3,
                          color=color)


def _level_bar(figure, image, axes, label: str = "Level (dB)"):
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=30,
                          shrink=0.9 if len(axes) < 3 else 0.6)
    bar.set_label(label, color=GREY, fontsize="small")
    bar.ax.tick_params(colors=GREY, labelsize="small", length=2)
    bar.outline.set_visible(False)


def _time_axis(axes, start, end):
    """Seconds, or minutes and seconds where there are many, along the axes; the lowest says which.
    """
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


def _hide_unused(axes, count: int) -> list:
    """The first `count` of a grid of axes; the others go, and what stands over them shows its time.
    """
    across = axes.shape[1]
    used, unused = axes.ravel()[:count], axes.ravel()[count:]
    for axis in unused:
        axis.set_visible(False)
    for axis in used[max(0, count - across) :]:
        axis.tick_params(labelbottom=True)
    return list(used)


def _across(count: int, wanted: int | None, most: int) -> int:
    """How many panels stand beside each other. most: how many a picture of few columns has at all.
    """
    if wanted is None:
        if most == 6:  # wide and low: one under the other while they fit
            wanted = 1 if count <= 6 else 2 if count <= 14 else 3 if count <= 30 else 4
        else:
            wanted = 3 if count <= 9 else 4 if count <= 16 else 6
    return min(wanted, count)


def _name_panel(axis, name, across: int):
    """A panel's name over it, on the left, cut where it would reach into the next one."""
    room = 150 // across
    short = name if len(name) <= room else f"{name[: room // 2 - 1]}…{name[-(room // 2) :]}"
    axis.set_title(short, loc="left", fontsize="small" if across < 4 else "x-small",
                   parse_math=False)


def _legend(axis, loc="best"):
    return axis.legend(frameon=False, fontsize="small", labelcolor=GREY, loc=loc)


def _style(axis, grid: bool = True):
    """The look of all axes: no box, quiet ticks, a light grid behind."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GREY)
        axis.spines[side].set_linewidth(0.7)
    axis.tick_params(which="both", colors=GREY, labelsize="small", width=0.7, length=3)
    axis.xaxis.label.set_color(GREY)
    axis.yaxis.label.set_color(GREY)
    axis.set_axisbelow(True)
    if grid:
        axis.grid(color=LIGHT, linewidth=0.6)


def _limits(signals):
    peak = max(float(np.abs(s).max()) for s in signals) * 1.05
    return (-peak, peak) if peak > 1e-4 else (-1.0, 1.0)


def _signal(audio):
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"a picture needs one signal [samples] of at least one sample, not of "
                         f"shape {audio.shape}")
    return np.nan_to_num(audio, posinf=1.0, neginf=-1.0)


def _float(text):
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _panels(count: int, title: str, across: int | None = None):
    """(figure, its `count` axes), four in a row."""
    across = across or min(4, count)
    down = -(-count // across)
    figure = _figure(max(3.2 * across, 5.0), 2.7 * down + 0.4, title)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes:
        _style(axis)
    for axis in axes[count:]:
        axis.set_visible(False)
    figure.align_ylabels()
    return figure, axes[:count]


def _figure(width, height, title):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=144, layout="constrained")
    if title:
        # parse_math: a file's name may hold dollars.
        figure.suptitle(title, x=0.01, ha="left", fontsize="large", fontweight="bold",
                        parse_math=False)
    return figure


def check_output(path) -> str:
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{printable(path)}: a picture's name must end in {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise UserError(f"{printable(path)}: there is no folder {printable(path.parent)}")
    return suffix[1:]


def _save(figure, path):
    kind = check_output(path)
    # A picture says nothing of when it was made: the same data give the same bytes (PNG) or nearly
    # (SVG's random ids).
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with warnings.catch_warnings(), atomic_write(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from "
                                                  "font", category=UserWarning)
        if kind == "svg":
            figure.savefig(file, format=kind, metadata=metadata)
            return
        from PIL import Image

        # 256 colours, each as near as the eye can tell, are a third of the bytes.
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, metadata=metadata)
        few = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE,
                                                        dither=Image.Dither.NONE)
        few.save(file, "PNG", optimize=True)
