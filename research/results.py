"""Bounds of a recipe, and the page of tables that a measurement becomes."""

import argparse
import math
import operator
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from vqwave import machine
from vqwave.commands import arguments
from vqwave.errors import UserError
from vqwave.io import splits
from vqwave.io.files import CHECKOUT, atomic_write, make_folder, printable
from vqwave.levels import load_yaml
from vqwave.play import engine
from vqwave.report import tables

PRIVATE_OPTION = r" --(musicnn|cache-dir|output-dir)[ =]('[^']*'|\S+)"
"""In a command line, an option whose value is a place on one machine."""
SIGNS = {"≤": operator.le, "<": operator.lt, "≥": operator.ge}
"""Comparison operators of a bound, such as `≤ 0.32`."""
_BOUND = r"[≤<≥] -?[0-9.]+|-?[0-9.]+ to -?[0-9.]+"
BOUND = re.compile(rf"({_BOUND})(?: \(fresh ({_BOUND})\))?")
"""The text of a bound: `≤ 0.32`, a range `0.3 to 0.5`, or `≤ 15 (fresh ≤ 19)`."""


def read_targets(path) -> dict[str, dict[str, str]]:
    """{figure: {"must": bound, "aim": bound}} of lines like `mel, 8x: {must: ≤ 0.32}`."""
    targets = load_yaml(path)
    for name, bounds in targets.items():
        texts = bounds.items() if isinstance(bounds, dict) else ()
        if not texts or not all(kind in ("must", "aim") and BOUND.fullmatch(str(text))
                                for kind, text in texts):
            raise UserError(f"{printable(path)}: {name!r} takes must, aim or both, each with a "
                            f"sign and a number or with a range, such as must: ≤ 0.32")
    return targets


def bounds_on(side: str, name: str, bounds: Mapping[str, str]) -> dict[str, str]:
    """The bounds of a figure on the tracks of a side. Bounds of distances hold for the amount of
    sound of the test tracks.
    """
    kept = {}
    for kind, text in bounds.items():
        bound, fresh = BOUND.fullmatch(text).groups()
        if side == "fresh" and fresh:
            kept[kind] = fresh
        elif side == "test" or not name.startswith("Fréchet distance"):
            kept[kind] = bound
    return kept


def is_met(value: float, bound: str) -> bool:
    """Whether a value keeps to a bound, such as `≤ 0.32` or `0.3 to 0.5`."""
    if " to " in bound:
        least, most = map(float, bound.split(" to "))
        return least <= value <= most
    sign, limit = bound.split()
    return math.isfinite(value) and SIGNS[sign](value, float(limit))


def verdict(value: float | None, bounds: Mapping[str, str]) -> str:
    """`aim met`, `must met`, `aim missed`, `missed` or `not measured`."""
    if not bounds or value is None:
        return "not measured" if bounds else ""
    for kind in ("aim", "must"):
        if kind in bounds and is_met(value, bounds[kind]):
            return f"{kind} met"
    return "missed" if "must" in bounds else "aim missed"


def figure_tables(sides: Mapping[str, Mapping[str, Mapping[str, float]]],
                  targets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """{evaluator: a Markdown table of its figures on each side}. Every bound has a row; those
    without a figure are under "not measured". sides: {side: what `evaluators.run` returns}.
    """
    columns = [tables.Column(x, x) for x in ("figure", "must", "aim")]
    for side in sides:
        columns += [tables.Column(f"{side} tracks", side, ".4g"),
                    tables.Column("verdict", f"{side} verdict")]

    def row(name, topic):
        bounds, cells = targets.get(name, {}), {"figure": name}
        for side, values in sides.items():
            value = values.get(topic, {}).get(name)
            cells |= {side: value,
                      f"{side} verdict": verdict(value, bounds_on(side, name, bounds))}
        return cells | bounds

    topics: dict[str, dict[str, None]] = {}
    for values in sides.values():
        for topic, figures in values.items():
            topics.setdefault(topic, {}).update(dict.fromkeys(figures))
    if missing := targets.keys() - {name for names in topics.values() for name in names}:
        topics["not measured"] = {name: None for name in targets if name in missing}
    return {topic: tables.render([row(name, topic) for name in names], columns)
            for topic, names in topics.items()}


def describe_side(side: str, tracks, leaked: Mapping[str, list[str] | None],
                  root=CHECKOUT) -> str:
    """What training, choices of settings (by the splits of all recipes) and published pages had to
    do with the tracks of a side. root: a checkout.
    """
    names, beginning = [*map(splits.track_name, tracks)], f"{side.capitalize()} tracks: "
    lines = [f"{beginning}{', '.join(names)} ({sum(t.seconds for t in tracks) / 60:.0f} min)."]
    sides = [(getattr(split, f"chosen_by_{side}", ""), getattr(split, side)) for split in map(
        splits.read_split, sorted(Path(root).glob("recipes/*/split.yml")))]
    chosen = dict.fromkeys(text for text, names_of_side in sides
                           if text and any(splits.is_named(t, names_of_side) for t in tracks))
    pages = [path.stem for path in sorted(Path(root).glob("research/results/*.md"))
             for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(beginning)
             and {*names} & {*line.removeprefix(beginning).partition(" (")[0].split(", ")}]
    if side == "validation":
        lines.append("Epochs and settings were chosen on these tracks.")
    else:
        choices = ". Also: ".join(chosen)
        lines.append(f"Chosen by looking at some of these tracks: {choices}." if chosen
                     else "No recipe records a choice by these tracks.")
        if pages:
            published = f"Their figures were published ({', '.join(dict.fromkeys(pages))})"
            lines.append(f"{published} and seen before later choices: they are not untouched."
                         if chosen else f"{published}.")
    for name, trained_on in leaked.items():
        if trained_on:
            lines.append(f"**{name} was trained on {', '.join(trained_on)}.**")
    if unknown := [name for name, trained_on in leaked.items() if trained_on is None]:
        lines.append(f"It is not recorded what {', '.join(unknown)} were trained on.")
    return " ".join(lines)


def page(title: str, module: str, argv, *blocks: str) -> str:
    """A Markdown page: the command, without places on one machine, the blocks, and the machine.
    argv: the arguments of the command; None: those of this process.
    """
    about, argv = machine.describe(), sys.argv[1:] if argv is None else argv
    command = re.sub(PRIVATE_OPTION, "", f"python -m research.{module} {shlex.join(argv)}")
    return "\n\n".join([f"# {title}", f"```bash\n{command}\n```", *filter(None, blocks),
                        f"Measured on {about['cpu']}, {about['cores']} core"
                        f"{'s' * (about['cores'] > 1)}, with vqwave "
                        f"{about['versions'].get('vqwave', '')}."]) + "\n"


def write(folder, name: str, text: str) -> Path:
    """Write `folder`/research/results/`name`.md; returns its path."""
    path = make_folder(Path(folder) / "research" / "results") / f"{name}.md"
    with atomic_write(path) as f:
        f.write(text.encode())
    return path


def add_arguments(parser, name: str | None = None):
    """--engine, --musicnn, and those of `add_output`."""
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0])
    arguments.add_musicnn(parser)
    add_output(parser, name)


def add_output(parser, name: str | None = None):
    """--name, by default `name`, unless that is None; --output-dir and --json."""
    if name:
        parser.add_argument("--name", default=name, help=f"of the page (default: {name})")
    parser.add_argument("--output-dir", default=str(CHECKOUT), metavar="DIR",
                        help="where research/results is")
    parser.add_argument("--json", action="store_true",
                        help="print the figures as JSON, write nothing")


def add_corpora(parser):
    """--data-dirs and --splits, see `corpora`."""
    parser.add_argument("--data-dirs", nargs="+", required=True, metavar="DIR")
    parser.add_argument("--splits", nargs="+", metavar="F.yml",
                        help="of each data folder (default: recipes/NAME/split.yml)")


def corpora(args) -> list[tuple[str, Path]]:
    """(data folder, its split) of the arguments of `add_corpora`."""
    paths = args.splits or [CHECKOUT / "recipes" / Path(x).resolve().name / "split.yml"
                            for x in args.data_dirs]
    if len(paths) != len(args.data_dirs):
        raise UserError(f"--splits names {len(paths)} files for {len(args.data_dirs)} data folders")
    return [*zip(args.data_dirs, paths, strict=True)]


def named(text: str) -> tuple[str, str]:
    """An argparse type: NAME=PATH."""
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, path
