"""Matplotlib figures in one style, and their files.

They do not use `pyplot`, so any thread may draw. The colours are those of Okabe and Ito (2008), for
colour-blind readers.
"""

import io
import warnings
from pathlib import Path

from .errors import UserError
from .io.files import atomic_write, check_place, printable

SUFFIXES = (".png", ".svg")
BLACK, BLUE, RED = "#000000", "#0072B2", "#D55E00"
GREY, LIGHT = "#4D4D4D", "#D9D9D9"


def create(width, height, title, rows=1, columns=1, grid=True, **options):
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


def hide_unused(axes, count: int) -> list:
    """The first `count` axes of a grid. The others are hidden."""
    used, unused = axes.ravel()[:count], axes.ravel()[count:]
    for axis in unused:
        axis.set_visible(False)
    for axis in used[max(0, count - axes.shape[1]) :]:
        axis.tick_params(labelbottom=True)
    return list(used)


def time_axis(axes, start, end):
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


def colorbar(figure, image, axes: list, label: str):
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=30,
                          shrink=0.6 if len(axes) > 2 else 0.9)
    bar.set_label(label, color=GREY, fontsize="small")
    bar.ax.tick_params(which="both", colors=GREY, labelsize="small", length=2)
    bar.outline.set_visible(False)


def name_panel(axis, name, across: int):
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


def save(figure, path):
    """Write a figure without a date, so that the same data give the same PNG."""
    kind = check_output(path)
    with warnings.catch_warnings(), atomic_write(path) as file:
        warnings.filterwarnings("ignore", message="Glyph .* missing from font",
                                category=UserWarning)
        if kind == "svg":
            figure.savefig(file, format=kind, metadata={"Date": None})
            return
        from PIL import Image

        # 256 colours look the same, and need a third of the bytes.
        full = io.BytesIO()
        figure.savefig(full, format=kind, metadata={"Software": None})
        few = Image.open(full).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE,
                                                       dither=Image.Dither.NONE)
        few.save(file, "PNG", optimize=True)
