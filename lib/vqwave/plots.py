"""Pictures of sound, codes, notes and training. PNG or SVG by the file's ending, written atomically.

Each function that draws raises `UserError` where the ending is neither .png nor .svg or the folder
is not there, and `ValueError` where there is nothing to draw. Signals are float [samples] in
[-1, 1] and may be long; a picture never holds more than a few thousand columns of them.

Figures are made through matplotlib's objects, never `pyplot`: no window system, no global state,
safe in any thread. Colour alone tells nothing apart: spectrograms are dark where it is loud, curves
differ by line and marker.
"""

from __future__ import annotations

import csv
import io
import math
import warnings
from pathlib import Path

import numpy as np

from . import metrics
from .errors import UserError
from .files import atomic_write, printable, reason

SUFFIXES = (".png", ".svg")
COLUMNS = 1200
N_FFT = 2048
BANDS = 128
RANGE_DB = 80.0
LOWEST_NOTE = 36
"""The note number of the lowest row of a piano roll, C2."""
TICKS_HZ = (200, 500, 1000, 2000, 4000, 8000, 16000)


def waveform_and_spectrogram(original, reconstruction, path, sample_rate: int, title: str = ""):
    """Both signals side by side, waveform over mel spectrogram, with the same axes and one dB
    scale.

    0 dB is the loudest point of the original. The two may differ in length.
    """
    signals = [_signal(s) for s in (original, reconstruction)]
    figure = _figure(10.0, 5.4, title)
    axes = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(1, 2))
    spectra = [mel_spectrogram(s, sample_rate) for s in signals]
    top = max(float(spectra[0].max()), metrics.MEL_FLOOR)
    for column, (signal, spectrum, name) in enumerate(
        zip(signals, spectra, ("Original", "Reconstruction"), strict=True)
    ):
        _waveform(axes[0, column], signal, sample_rate)
        axes[0, column].set_title(name)
        image = _spectrogram(axes[1, column], spectrum, len(signal), sample_rate, top)
        axes[1, column].set_xlabel("Time (s)")
    axes[0, 0].set_xlim(0, max(map(len, signals)) / sample_rate)
    axes[0, 0].set_ylim(*_limits(signals))
    axes[0, 0].set_ylabel("Amplitude")
    axes[1, 0].set_ylabel("Frequency (kHz, mel scale)")
    figure.colorbar(image, ax=list(axes[1, :]), label="Level (dB)", pad=0.02)
    _save(figure, path)


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
    from matplotlib.ticker import MaxNLocator

    check_output(png_path)
    epochs, columns = read_log(csv_path)
    if not columns:
        return False
    names = sorted((n for n in columns if not n.startswith("val_")), key=lambda n: n != "loss")
    names += [n for n in columns if n.startswith("val_") and n.removeprefix("val_") not in columns]
    across = min(3, len(names))
    down = math.ceil(len(names) / across)
    figure = _figure(max(4.6 * across, 6.0), 2.9 * down + 0.5, title)
    axes = figure.subplots(down, across, squeeze=False, sharex=True).ravel()
    for axis, name in zip(axes, names, strict=False):
        axis.plot(epochs, columns[name], "-o", markersize=3, linewidth=1.2, color="black", label="training")
        if f"val_{name}" in columns:
            axis.plot(epochs, columns[f"val_{name}"], "--s", markersize=3, linewidth=1.2, color="tab:orange",
                      label="validation")
            axis.legend(frameon=False, fontsize="small")
        axis.set_title(name.replace("_", " "), fontsize="medium", parse_math=False)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    for axis in axes[len(names):]:
        axis.set_visible(False)
    for i in range(len(names)):
        if i + across >= len(names):
            axes[i].set_xlabel("Epoch")
            axes[i].tick_params(labelbottom=True)
    _save(figure, png_path)
    return True


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
    looks = [dict(color=color, hatch=hatch, edgecolor="black", linewidth=0.5)
             for color, hatch in (("white", ""), ("tab:gray", "//"), ("tab:blue", "\\\\"), ("tab:orange", "xx"))]
    for size in sampled:
        axis = axes.pop(0)
        rows = [r for r in steps if r["size"] == size]
        levels = sorted({r["level"] for r in rows}, reverse=True)
        engines = list(dict.fromkeys(r["engine"] for r in sorted(rows, key=lambda r: r["codes_per_s"])))
        for i, (name, look) in enumerate(zip(engines, looks, strict=False)):
            rates = [r["real_time"] for level in levels for r in rows if (r["engine"], r["level"]) == (name, level)]
            axis.bar(np.arange(len(levels)) + 0.2 * (i - (len(engines) - 1) / 2), rates, 0.2, label=name, **look)
        axis.set_yscale("log")
        axis.set_xticks(range(len(levels)), [f"{level}x" for level in levels])
        axis.set_title(f"Sampling one stream, {size}")
        axis.set_ylabel("Times its level's real time")
        axis.legend(frameon=False, fontsize="small")
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
        axis.legend(frameon=False, fontsize="small")
    for axis in figure.axes:
        axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    _save(figure, path)
    return True


def codes(made: dict, shades: dict, path, sample_rate: int, column: int, audio=None, title: str = ""):
    """The codes of several levels as coloured rows over time, under the mel spectrogram of `audio`
    where it is given.

    A column is `column` samples wide, a frame of the chain's top level; in it, from top to bottom,
    stand the codes of that moment, `column` / level of them. So every code is seen, and what
    repeats in the sound is a pattern.

    Args:
        made: {level: codes int [n], or [n, books], of which the first book is drawn}.
        shades: {level: what `codec_shades` says of that codec}.
        column: a multiple of every level.
    """
    levels = sorted(made, reverse=True)
    rasters = [code_raster(made[level], level, shades[level], column) for level in levels]
    if not levels or any(not r.size for r in rasters):
        raise ValueError("a picture of codes needs a level, and a code of each")
    # A lane of many rows is taller than one of a single row, but not as many times.
    heights = [0.5 + 0.35 * math.log2(r.shape[0]) for r in rasters]
    figure = _figure(10.0, 1.6 + sum(heights) * 0.75 + (2.2 if audio is not None else 0.0), title)
    ratios = ([sum(heights) * 0.6] if audio is not None else []) + heights
    axes = list(figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0])
    rows = list(axes)
    if audio is not None:
        audio = _signal(audio)
        spectrum = mel_spectrogram(audio, sample_rate)
        top = max(float(spectrum.max()), metrics.MEL_FLOOR)
        image = _spectrogram(axes[0], spectrum, len(audio), sample_rate, top)
        axes[0].set_ylabel("Frequency (kHz)")
        figure.colorbar(image, ax=axes[0], label="Level (dB)", pad=0.02)
        rows = axes[1:]
    for axis, level, raster in zip(rows, levels, rasters, strict=True):
        seconds = raster.shape[1] * column / sample_rate
        each = -(-raster.shape[1] // (4 * COLUMNS))
        image = axis.imshow(raster[:, ::each], aspect="auto", cmap="viridis", vmin=0.0, vmax=1.0,
                            interpolation="nearest", extent=(0.0, seconds, raster.shape[0], 0.0))
        axis.set_yticks([])
        axis.set_ylabel(f"{level}x", rotation=0, ha="right", va="center")
    axes[0].set_xlim(0.0, seconds)
    axes[-1].set_xlabel("Time (s)")
    figure.colorbar(image, ax=rows, pad=0.02, ticks=[], label="Codes, like ones of like shade")
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
    """`code_shades` of a codec's first book, dark where it is quiet.

    codec_engine: what `play.engine.load_codec` returns.
    """
    quiet = codec_engine.encode(np.zeros((1, 64 * codec_engine.config.level), np.float32))[0]
    return code_shades(codec_engine.weight_set.codebooks()[0], int(quiet[len(quiet) // 2, 0]))


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


def waveforms(signals: dict, path, sample_rate: int, title: str = ""):
    """A row for each of several signals, {name: audio}, by librosa's `waveshow`, on one time axis
    and one scale.
    """
    import librosa
    from matplotlib.ticker import AutoLocator, ScalarFormatter

    signals = _signals(signals)
    figure = _figure(10.0, 0.7 + 1.1 * len(signals), title)
    axes = figure.subplots(len(signals), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (name, audio) in zip(axes, signals.items(), strict=True):
        librosa.display.waveshow(audio, sr=sample_rate, ax=axis, max_points=COLUMNS, color="black", axis=None)
        axis.set_title(name, loc="left", fontsize="small", parse_math=False)
        axis.grid(alpha=0.3)
        axis.set_xlabel("")
    axes[0].set_xlim(0, max(map(len, signals.values())) / sample_rate)
    axes[0].set_ylim(*_limits(signals.values()))
    # waveshow without its own time axis, which has no unit, leaves none.
    axes[-1].xaxis.set_major_locator(AutoLocator())
    axes[-1].xaxis.set_major_formatter(ScalarFormatter())
    axes[-1].set_xlabel("Time (s)")
    figure.supylabel("Amplitude", fontsize="medium")
    _save(figure, path)


def spectrograms(signals: dict, path, sample_rate: int, title: str = "", across: int = 3):
    """Waveform over mel spectrogram of each of {name: audio}, `across` of them beside each other,
    on the same axes.

    0 dB is the loudest point of the first.
    """
    signals = _signals(signals)
    across = min(across, len(signals))
    down = -(-len(signals) // across)
    figure = _figure(max(3.3 * across + 0.8, 6.0), 3.1 * down + 0.6, title)
    axes = figure.subplots(2 * down, across, sharex=True, squeeze=False, height_ratios=[1, 2.4] * down)
    spectra = [mel_spectrogram(s, sample_rate) for s in signals.values()]
    top, limits = max(float(spectra[0].max()), metrics.MEL_FLOOR), _limits(signals.values())
    for i, (name, audio) in enumerate(signals.items()):
        wave, image_axis = axes[2 * (i // across) : 2 * (i // across) + 2, i % across]
        _waveform(wave, audio, sample_rate)
        wave.set_ylim(*limits)
        wave.set_title(name, fontsize="medium", parse_math=False)
        image = _spectrogram(image_axis, spectra[i], len(audio), sample_rate, top)
        if i % across:
            wave.tick_params(labelleft=False)
            image_axis.tick_params(labelleft=False)
        else:
            wave.set_ylabel("Amplitude")
            image_axis.set_ylabel("Frequency (kHz, mel scale)")
        if i + across >= len(signals):
            image_axis.set_xlabel("Time (s)")
            image_axis.tick_params(labelbottom=True)
    for axis in axes.T.reshape(across, down, 2)[:, -1].reshape(-1, 2)[len(signals) - across * (down - 1) :].ravel():
        axis.set_visible(False)
    axes[0, 0].set_xlim(0, max(map(len, signals.values())) / sample_rate)
    figure.colorbar(image, ax=list(axes.ravel()), label="Level (dB)", pad=0.02, shrink=0.6)
    _save(figure, path)


def notes(rolls: dict, path, title: str = ""):
    """Piano rolls over log-frequency spectrograms, one under the other on the same axes: {name:
    `measure.notes.Roll`}.

    A note is a bar as long as it sounds and a semitone high; the stronger, the more opaque. Lines
    mark the Cs. Levels are of full scale, and reach down from the loudest point of the first.
    """
    from matplotlib.collections import PolyCollection

    if not rolls:
        raise ValueError("there are no notes to draw")
    figure = _figure(10.0, 0.9 + 2.4 * len(rolls), title)
    axes = figure.subplots(len(rolls), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    top = max(float(next(iter(rolls.values())).spectrum.max()), -RANGE_DB)
    for axis, (name, roll) in zip(axes, rolls.items(), strict=True):
        # Bins stand two to a semitone, the first on C2.
        image = axis.imshow(roll.spectrum, origin="lower", aspect="auto", cmap="Greys", vmin=top - RANGE_DB / 2,
                            vmax=top, interpolation="nearest", extent=(
                                roll.start, roll.start + roll.length, LOWEST_NOTE - 0.25,
                                LOWEST_NOTE + len(roll.spectrum) / 2 - 0.25))
        ends = roll.time + roll.seconds
        bars = [[(a, m - 0.5), (b, m - 0.5), (b, m + 0.5), (a, m + 0.5)]
                for a, b, m in zip(roll.time, ends, roll.midi, strict=True)]
        clear = np.clip(1.0 + (roll.strength - top) / (RANGE_DB / 2), 0.15, 1.0)
        axis.add_collection(PolyCollection(bars, facecolors=[(0.85, 0.3, 0.0, float(c)) for c in clear],
                                           edgecolors="white", linewidths=0.4), autolim=False)
        octaves = range(LOWEST_NOTE, LOWEST_NOTE + len(roll.spectrum) // 2 + 1, 12)
        axis.set_yticks(octaves, [f"C{note // 12 - 1}" for note in octaves])
        axis.set_yticks([note + step for note in octaves[:-1] for step in (4, 7)], minor=True,
                        labels=[f"{letter}{note // 12 - 1}" for note in octaves[:-1] for letter in "EG"])
        axis.tick_params(axis="y", which="minor", labelsize=5)
        axis.grid(axis="y", linewidth=0.6, color="black", alpha=0.5)
        axis.set_title(name, loc="left", fontsize="small", parse_math=False)
        axis.set_ylabel("Note")
    axes[0].set_xlim(min(r.start for r in rolls.values()), max(r.start + r.length for r in rolls.values()))
    axes[-1].set_xlabel("Time (s)")
    figure.colorbar(image, ax=list(axes), label="Level (dBFS)", pad=0.02, aspect=40,
                    shrink=1.0 if len(rolls) < 3 else 2 / len(rolls))
    _save(figure, path)


def logs(folder, names=()) -> dict[str, Path]:
    """The training logs in a folder, {model: path of its CSV}: those of `names` in that order, then
    all others.
    """
    there = {path.stem: path for path in sorted(Path(folder).glob("*.csv")) if path.is_file()}
    return {name: there[name] for name in (*(n for n in names if n in there), *(n for n in there if n not in names))}


def training_curves(logs: dict, path, title: str = "") -> bool:
    """A panel for each run, {model: path of its CSV log}: bits a frame of a generator, the loss of
    a codec.

    Logs may be of runs that still train, see `loss_curves`; those without a whole row are left out.

    Returns:
        False where none has a whole row, so that nothing was drawn.

    Raises:
        UserError: also where a log cannot be read.
    """
    from matplotlib.ticker import MaxNLocator

    check_output(path)
    found = {name: read_log(log) for name, log in logs.items()}
    found = {name: (epochs, columns) for name, (epochs, columns) in found.items() if columns}
    if not found:
        return False
    figure, axes = _panels(len(found), title)
    for axis, (name, (epochs, columns)) in zip(axes, found.items(), strict=True):
        shown_one = "bits" if "bits" in columns else "loss" if "loss" in columns else next(iter(columns))
        looks = {shown_one: ("-o", "black", "training"), f"val_{shown_one}": ("--s", "tab:orange", "validation")}
        for column, (line, color, label) in looks.items():
            if column in columns:
                axis.plot(epochs, columns[column], line, markersize=2.5, linewidth=1.1, color=color, label=label)
        axis.set_title(name, fontsize="medium", parse_math=False)
        axis.set_ylabel("Bits a frame" if shown_one == "bits" else shown_one.capitalize().replace("_", " "))
        axis.set_xlabel("Epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize="small")
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
    for axis, (name, count) in zip(axes, counts.items(), strict=True):
        count = np.sort(np.asarray(count, np.float64))[::-1]
        share = 100 * count / count.sum()
        used = int((count > 0).sum())
        axis.fill_between(np.arange(used + 1), np.append(share[:used], share[used - 1]), 1e-6, step="post",
                          color="0.7", edgecolor="black", linewidth=0.8)
        axis.axhline(100 / len(count), color="black", linestyle=":", linewidth=0.9)
        axis.set_title(f"{name}: {used} of {len(count)} codes\nperplexity {metrics.perplexity(count):.0f}",
                       fontsize="medium", parse_math=False)
        axis.set_yscale("log")
        axis.set_xlim(0, len(count))
        axis.set_ylim(bottom=share[used - 1] / 2, top=max(2 * share[0], 200 / len(count)))
        axis.set_xlabel("Code, by rank")
        axis.set_ylabel("Share of all codes (%)")
    _save(figure, path)


def codebook_map(codebook, counts, path, title: str = ""):
    """The vectors of a codebook, float [num_codes, dim], on the plane in which they differ most
    (principal components).

    The area of a dot is how often its code occurs, by `counts` int [num_codes]; one that never does
    is a cross.
    """
    codebook, counts = np.asarray(codebook, np.float64), np.asarray(counts, np.float64)
    centred = codebook - codebook.mean(0)
    left, strength, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.pad(left * strength, ((0, 0), (0, max(0, 2 - len(strength)))))[:, :2]
    kept = 100 * np.pad(strength, (0, 2))[:2] ** 2 / max(float((strength**2).sum()), 1e-12)
    figure = _figure(6.6, 6.0, title)
    axis = figure.subplots()
    used = counts > 0
    share = counts[used] / max(counts.sum(), 1.0)
    axis.scatter(*plane[used].T, s=4 + 3000 * share, color="0.35", alpha=0.6, linewidth=0.4, edgecolor="black",
                 label=f"{int(used.sum())} codes in use, by how often")
    if not used.all():
        axis.scatter(*plane[~used].T, s=14, marker="x", color="tab:orange", linewidth=0.9,
                     label=f"{int((~used).sum())} never used")
    for i, label in enumerate((axis.set_xlabel, axis.set_ylabel)):
        label(f"Principal component {i + 1} ({kept[i]:.0f} % of the variance)")
    legend = axis.legend(frameon=False, fontsize="small", loc="best")
    for handle in legend.legend_handles:
        handle.set_sizes([20])
    axis.set_aspect("equal", adjustable="datalim")
    axis.grid(alpha=0.3)
    _save(figure, path)


def loudness(curves: dict, path, seconds: float = 10.0, title: str = ""):
    """Loudness of several pieces over time, {name: dBFS of every `seconds`}."""
    figure = _figure(8.0, 3.0, title)
    axis = figure.subplots()
    for (name, values), line in zip(curves.items(), ("-", "--", ":", "-.") * len(curves), strict=False):
        axis.plot((np.arange(len(values)) + 0.5) * seconds / 60, values, line, linewidth=1.3, label=name)
    axis.set_ylim(-70, 0)
    axis.set_xlabel("Time (min)")
    axis.set_ylabel("Loudness (dBFS, rms)")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize="small", loc="lower left")
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
    whole = text[: text.rfind("\n") + 1].replace("\0", "")  # the last line may still be on its way to the disk
    rows = csv.reader(io.StringIO(whole), strict=False)
    header = next(rows, [])
    if "epoch" not in header:
        return [], {}
    by_epoch = {}
    for row in rows:
        values = dict(zip(header, map(_float, row), strict=False))
        if len(row) == len(header) and values["epoch"] >= 0:  # NaN is not: a header that was written again
            by_epoch[int(values["epoch"]) + 1] = values
    epochs = sorted(by_epoch)
    columns = {name: [by_epoch[e][name] for e in epochs] for name in header if name != "epoch"}
    return epochs, {n: v for n, v in columns.items() if n and any(map(math.isfinite, v))}


def mel_spectrogram(audio, sample_rate: int) -> np.ndarray:
    """Mel magnitudes float32 [`BANDS`, at most `COLUMNS`] for a picture, each the loudest of its
    column's time.
    """
    hop = N_FFT // 8
    frames = 1 + len(audio) // hop
    each = -(-frames // COLUMNS)
    filters = metrics.mel_filters(sample_rate, N_FFT, BANDS)
    blocks = []
    for block in metrics.magnitudes(audio, N_FFT, hop, frames=each * max(1, metrics.FRAMES_AT_ONCE // each)):
        mel = block.astype(np.float32) @ filters.T
        blocks.append(np.maximum.reduceat(mel, np.arange(0, len(mel), each), axis=0))
    return np.concatenate(blocks).T


def _waveform(axis, audio, sample_rate):
    """The range of each column's samples: no peak is lost, however many samples a column stands
    for.
    """
    each = -(-len(audio) // COLUMNS)
    starts = np.arange(0, len(audio), each)
    low, high = np.minimum.reduceat(audio, starts), np.maximum.reduceat(audio, starts)
    time = np.append(starts, len(audio)) / sample_rate
    axis.fill_between(time, np.append(low, low[-1]), np.append(high, high[-1]), step="post", linewidth=0.5,
                      color="black")
    axis.grid(alpha=0.3)


def _spectrogram(axis, spectrum, samples, sample_rate, top):
    import librosa

    edges = librosa.mel_frequencies(n_mels=BANDS + 2, fmax=sample_rate / 2)[1:-1]
    shown = 20 * np.log10(np.maximum(spectrum, top * 10 ** (-RANGE_DB / 20)) / top)
    image = axis.imshow(shown, origin="lower", aspect="auto", cmap="magma_r", vmin=-RANGE_DB, vmax=0.0,
                        interpolation="nearest", extent=(0.0, samples / sample_rate, -0.5, BANDS - 0.5))
    ticks = [hz for hz in TICKS_HZ if edges[0] <= hz <= edges[-1]]
    axis.set_yticks(np.interp(ticks, edges, np.arange(BANDS)), [f"{hz / 1000:g}" for hz in ticks])
    return image


def _limits(signals):
    peak = max(float(np.abs(s).max()) for s in signals) * 1.05
    return (-peak, peak) if peak > 1e-4 else (-1.0, 1.0)


def _signal(audio):
    audio = np.asarray(audio, np.float32)
    if audio.ndim != 1 or audio.size == 0:
        raise ValueError(f"a picture needs one signal [samples] of at least one sample, not of shape {audio.shape}")
    return np.nan_to_num(audio, posinf=1.0, neginf=-1.0)


def _float(text):
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _panels(count: int, title: str):
    """(figure, its `count` axes), four in a row."""
    across = min(4, count)
    down = -(-count // across)
    figure = _figure(max(2.9 * across, 5.0), 2.6 * down + 0.4, title)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _figure(width, height, title):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    if title:
        figure.suptitle(title, parse_math=False)  # a file's name may hold dollars
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        with atomic_write(path) as file:
            figure.savefig(file, format=kind, metadata=metadata)
