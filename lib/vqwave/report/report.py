"""What `evaluation` measured as a person reads it: RESULTS.md, pictures, and examples to listen to.

Each part writes its own subsection (`parts.part.Part.write`); here are the figures that stand
first, with their bounds, and what joins the parts to a section.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import machine, plots
from ..config import ChainConfig, load_yaml
from ..errors import UserError
from ..io.files import atomic_write, make_folder, printable
from ..io.splits import track_name
from .benchmark import Target
from .evaluation import PARTS, Evaluation
from .parts.part import DistanceTarget, Gallery, Page, distance_title, table


def figures(chain: ChainConfig) -> tuple[Target, ...]:
    """The figures of all parts for a chain's levels, without bounds: a corpus says those, see
    `read_targets`.
    """
    return tuple(target for part in PARTS.values() for target in part.figures(chain))


def read_targets(path, known: Sequence[Target],
                 others: Sequence[Target] = ()) -> tuple[Target, ...]:
    """Figures with the bounds that a `targets.yml` has for them.

    Its lines are `mel, 8x: {must: 0.32, aim: 0.25}`, or with one of the two.

    Args:
        known: the figures that there are. others: those that it may have bounds for besides.

    Raises:
        UserError: the file cannot be read, there is no such figure, or a bound is no number.
    """
    values, named = load_yaml(path), {figure.what: figure for figure in known}
    possible = {*named, *(figure.what for figure in others)}
    for what, bounds in values.items():
        if what not in possible:
            near = difflib.get_close_matches(str(what), named, n=1, cutoff=0.0)[0]
            raise UserError(f"{printable(path)}: there is no figure {str(what)!r}; did you mean "
                            f"{near!r}?")
        if (not isinstance(bounds, dict) or not bounds or not set(bounds) <= {"must", "aim"}
            or not all(type(x) in (int, float) and math.isfinite(x) for x in bounds.values())):
            raise UserError(f"{printable(path)}: {what!r} must have a number for must, for aim, or "
                            f"for both")
    return tuple(replace(figure, **values.get(what, {})) for what, figure in named.items())


def write(results: dict, evaluation: Evaluation, name: str, folder, runs_dir=None,
          command: str = "",
          targets: tuple[Target, ...] | None = None) -> list[Path]:
    """Write the section of corpus `name` in RESULTS.md of `folder`, and its pictures and examples
    in docs/results/`name`/.

    Only what was measured is drawn.

    Args:
        results: what `Evaluation.run` returned.
        runs_dir: the folder of training logs whose curves are drawn.
        targets: see `read_targets`; None: figures without bounds.

    Returns:
        The files that were written: none where a section is published already and `results` are not
        complete.

    Raises:
        UserError: a file cannot be written.
    """
    folder = Path(folder)
    if not is_complete(results, evaluation) and has_section(folder, name):
        return []
    media = make_folder(folder / "docs" / "results" / name)
    gallery = Gallery(media, evaluation.rate)
    for part in PARTS.values():
        if part.name in results:
            part.draw(results, evaluation, gallery)
    if runs_dir:
        gallery.picture("training.png", plots.training_curves,
                        plots.logs(runs_dir, evaluation.music.chain.names))
    text = section(results, evaluation, name, [p.name for p in gallery.written], command, targets)
    return [write_section(folder, name, text), *gallery.written]


def write_section(folder, name: str, text: str) -> Path:
    """Write a section of RESULTS.md in `folder`, in place of the one of that name; its path."""
    path = Path(folder) / "RESULTS.md"
    before = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    with atomic_write(path) as f:
        f.write(merge(before, name, text).encode())
    return path


def command_line(script: str, arguments) -> str:
    """The command that wrote a section as RESULTS.md shows it: without where things lie on one
    machine.
    """
    shown, left_out = [], iter(map(str, arguments))
    for argument in left_out:
        flag, _, value = argument.partition("=")
        if flag not in ("--musicnn", "--cache-dir", "--output-dir"):
            shown.append(argument)
        elif not value:
            next(left_out, None)
    return shlex.join(["python", f"scripts/{script}", *shown])


def is_complete(results: dict, evaluation: Evaluation) -> bool:
    """Whether every part that there is something to measure of was measured, on the test tracks and
    at full length: what may replace published figures.
    """
    return (not evaluation.plan.rough and evaluation.side == "test"
            and all(name in results or part.why_not(evaluation) for name, part in PARTS.items()))


def has_section(folder, name: str) -> bool:
    """Whether RESULTS.md in `folder` has a section of corpus `name`."""
    path = Path(folder) / "RESULTS.md"
    return path.exists() and _markers(name)[0] in path.read_text(encoding="utf-8")


def _markers(name):
    return f"<!-- evaluate.py: {name} -->", f"<!-- evaluate.py: end of {name} -->"


def merge(document: str, name: str, text: str) -> str:
    """`document` with `text` between the markers of `name`, in place of what stands there, or at
    the end.
    """
    begin, end = _markers(name)
    whole = f"{begin}\n{text.strip()}\n{end}"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    if re.search(pattern, document, re.DOTALL):
        return re.sub(pattern, lambda _: whole, document, count=1, flags=re.DOTALL)
    return f"{document.rstrip()}\n\n{whole}\n"


def section(results: dict, evaluation: Evaluation, name: str, files: Sequence[str], command: str,
            targets: tuple[Target, ...] | None = None) -> str:
    """The Markdown of one corpus. files: the names of the pictures and examples that there are."""
    sides = {evaluation.side: results}
    if "fresh" in results:
        sides["fresh"] = results["fresh"]
    page = Page(f"docs/results/{name}", files)
    page.add(f"## {name}")
    page.add(_describe_tracks(evaluation, sides))
    for side in sides:
        page.add(_describe_choices(evaluation.for_side(side)))
    if evaluation.plan.rough:
        page.add("These figures are rough: they are of a quick run.")
    page.command(command)
    _write_figures(page, sides, evaluation, targets or figures(evaluation.music.chain))
    for part in PARTS.values():
        if measured := {side: found for side, found in sides.items() if part.name in found}:
            part.write(page, measured, evaluation)
    if "training.png" in files:
        page.heading("Training")
        page.picture("training.png", "Training curves of all models")
    about = machine.describe()
    page.add(f"Measured on {about['cpu']}, {about['cores']} cores, with " + ", ".join(
        f"{key} {value}" for key, value in about["versions"].items()
        if key in ("vqwave", "onnxruntime", "tensorflow", "av", "numpy")) + ".")
    return page.text


def _write_figures(page, sides, evaluation, targets):
    """The figures that stand first, each with its bounds, and a verdict a side."""
    first_side = next(iter(sides))
    known = {side for side in sides if _has_trained_on(evaluation.for_side(side))}
    marks = set()

    def judge(target, side):
        one = target.judge(sides[side])
        if one["measured"] is None or not one["verdict"]:
            one["verdict"] = ""
        elif isinstance(target, DistanceTarget) and (
                first_side != "test" or target.size(sides[side]) != target.size(sides[first_side])):
            one["verdict"] = "†"  # bounds are of as much sound as the test tracks hold
        elif side in known:
            one["verdict"] += "\\*"
        marks.update(mark for mark in "*†" if one["verdict"].endswith(mark))
        return one

    def cells(one):
        value = one["measured"]
        shown = "" if value is None else f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
        return f"{shown} {one['unit']}".strip() if shown else "", one["verdict"]

    several = len(sides) > 1

    def title(side, size=None):
        if size:
            return distance_title(size, side if several else "")
        return f"{side} tracks" if several else "measured"

    def add_table(titles, rows):
        made = []
        for row in rows:
            first = next(one for one in row.values() if one["measured"] is not None)
            made.append((first["what"], bound(first, "must"), bound(first, "aim"),
                         *(cell for one in row.values() for cell in cells(one))))
        page.add(*table(("", "must", "aim", *(cell for one in titles for cell in (one, "verdict"))),
                        made))

    others, distances = [], {}  # those of each amount of sound: {(size of each side): rows}
    for target in targets:
        row = {side: judge(target, side) for side in sides}
        if any(one["measured"] is not None for one in row.values()):
            rows = others
            if isinstance(target, DistanceTarget):
                rows = distances.setdefault(tuple(map(target.size, sides.values())), [])
            rows.append(row)
    shown = [row for rows in (others, *distances.values()) for row in rows]
    if not shown:
        return

    page.heading("What was wanted" if any(one["verdict"] for row in shown for one in row.values())
                 else "Figures")
    if others:
        add_table(map(title, sides), others)
    if distances:
        page.add("Fréchet distances depend on how much sound each side has, which stands over each "
                 "column:")
    for sizes, rows in distances.items():
        add_table(map(title, sides, sizes), rows)
    choices = [f"the {side} tracks: "
               f"{_list_choices(evaluation, side)};" for side in sides if side != "validation"]
    page.add(" ".join(["Chosen by looking at", *choices,
                       "the validation tracks: epochs, and settings that are not named here.",
                       *["\\* Of music that a model was, or may have been, trained "
                         "on."] * ("*" in marks),
                       *["† A distance of less or more sound than the bound is for: no "
                         "verdict."] * ("†" in marks)]))


def _list_choices(evaluation, side) -> str:
    return (evaluation.split.chosen_by_test if side == "test" and evaluation.split.chosen_by_test
            else "nothing")


def _has_trained_on(evaluation: Evaluation) -> bool:
    """Whether a model was trained on tracks of this side; of fresh ones, whether it may have been.
    """
    overlap = evaluation.overlap().values()
    return any(overlap) or evaluation.side == "fresh" and None in overlap


def _describe_tracks(evaluation, sides) -> str:
    words = f"{_amount(evaluation.train)} train, {_amount(evaluation.validation)} validate; "
    first, *others = sides
    if not others:
        return (f"{words}every figure is of the {_amount(evaluation.test)} of the {first} split, "
                f"unless it says otherwise.")
    fresh = evaluation.for_side(others[0])
    return (f"{words}figures are of the {_amount(evaluation.test)} of the {first} split, and of "
            f"the {_amount(fresh.test)} of the {others[0]} split "
            f"({', '.join(map(track_name, fresh.test))}). Where a cell has two, the first is of "
            f"the {first} tracks, the second of the {others[0]} ones.")


def _amount(tracks) -> str:
    return f"{len(tracks)} tracks ({sum(t.seconds for t in tracks) / 3600:.2f} h)"


def _describe_choices(evaluation: Evaluation) -> str:
    """What training, and what choices, had to do with the tracks of a side."""
    chosen, side = evaluation.split.chosen_by_test, evaluation.side
    if side == "validation":
        words = ["Validation tracks: epochs were chosen on these, and settings may be."]
    elif side == "fresh":
        words = ["Fresh tracks: nothing was chosen by looking at these."]
    elif chosen:
        words = [f"Test tracks: no longer untouched; chosen by looking at them: {chosen}."]
    else:
        words = ["Test tracks: no epoch and no setting was chosen on these."]
    overlap = evaluation.overlap()
    clean = [name for name, tracks in overlap.items() if tracks == []]
    if clean:
        words.append(f"{', '.join(clean)}: trained on none of them, by their records.")
    for name, tracks in overlap.items():
        if tracks:
            words.append(f"**{name} was trained on {', '.join(tracks)}**: its figures are of music "
                         f"that it knows.")
    if unknown := [name for name, tracks in overlap.items() if tracks is None]:
        who = ", ".join(unknown)
        if side == "fresh":
            words.append(f"**{who}: no record of the tracks trained on. What was trained before "
                         f"these tracks were held out has seen them**, and its figures here are of "
                         f"music that it knows.")
        else:
            words.append(f"{who}: no record of the tracks trained on, so that the split is all "
                         f"there is to go by.")
    return " ".join(words)


def bound(row, which) -> str:
    """The bound `which`, "must" or "aim", of what `Target.judge` said, in words."""
    return "" if row[which] is None else f"{row['sign']} {row[which]:g} {row['unit']}".strip()
