"""Bounds of a recipe, and the page of tables that a measurement becomes."""

import argparse
import math
import operator
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from vqwave import config, machine
from vqwave.errors import UserError
from vqwave.io import splits
from vqwave.io.files import CHECKOUT, atomic_write, make_folder, printable
from vqwave.report import media, tables

PRIVATE_OPTIONS = ("--musicnn", "--cache-dir", "--output-dir")
"""Options whose values are places on one machine."""
SIGNS = {"≤": operator.le, "<": operator.lt, "≥": operator.ge}
"""Comparison operators of a bound, such as `≤ 0.32`."""


def holds(bound: str, value: float) -> bool:
    sign, limit = bound.split()
    return math.isfinite(value) and SIGNS[sign](value, float(limit))


def read_targets(path) -> dict[str, dict[str, str]]:
    """{figure: {"must": bound, "aim": bound}} of lines like `mel, 8x: {must: ≤ 0.32}`."""
    targets = config.load_yaml(path)
    for name, bounds in targets.items():
        texts = bounds.items() if isinstance(bounds, dict) else ()
        if not texts or not all(kind in ("must", "aim")
                                and re.fullmatch(r"[≤<≥] -?[0-9.]+", str(text))
                                for kind, text in texts):
            raise UserError(f"{printable(path)}: {name!r} takes must, aim or both, each with a "
                            f"sign and a number, such as must: ≤ 0.32")
    return targets


def verdict(value: float | None, bounds: Mapping[str, str]) -> str:
    """`aim met`, `must met`, `aim missed`, `missed` or `not measured`."""
    if not bounds or value is None:
        return "not measured" if bounds else ""
    if "aim" in bounds and holds(bounds["aim"], value):
        return "aim met"
    if "must" not in bounds:
        return "aim missed"
    return "must met" if holds(bounds["must"], value) else "missed"


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
            # Bounds of distances hold for the amount of sound of the test tracks.
            comparable = side == "test" or not name.startswith("Fréchet distance")
            cells |= {side: value, f"{side} verdict": verdict(value, bounds) if comparable else ""}
        return cells | bounds

    topics: dict[str, dict[str, float]] = {}
    for values in sides.values():
        for topic, figures in values.items():
            topics.setdefault(topic, {}).update(figures)
    if missing := targets.keys() - {name for figures in topics.values() for name in figures}:
        topics["not measured"] = {name: math.nan for name in targets if name in missing}
    return {topic: tables.render([row(name, topic) for name in figures], columns)
            for topic, figures in topics.items()}


def choices(tracks, recipes=CHECKOUT / "recipes") -> list[str]:
    """What was chosen by looking at any of these tracks, according to the splits of all recipes."""
    read = map(splits.read_split, sorted(Path(recipes).glob("*/split.yml")))
    return list(dict.fromkeys(
        split.chosen_by_test for split in read
        if split.chosen_by_test and any(splits.is_named(t, split.test) for t in tracks)))


def published(side: str, tracks, folder=CHECKOUT / "research/results") -> list[str]:
    """The pages in `folder` with figures of any of these tracks, as a side."""
    beginning, names = f"{side.capitalize()} tracks: ", set(map(splits.track_name, tracks))
    return [path.stem for path in sorted(Path(folder).glob("*.md"))
            for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(beginning)
            and names & set(line.removeprefix(beginning).partition(" (")[0].split(", "))]


def describe_side(side: str, tracks, leaked: Mapping[str, list[str] | None],
                  root=CHECKOUT) -> str:
    """What training, and choices of settings, had to do with the tracks of a side.

    root: a checkout with recipes and published results.
    """
    lines = [f"{side.capitalize()} tracks: {', '.join(map(splits.track_name, tracks))} "
             f"({sum(t.seconds for t in tracks) / 60:.0f} min)."]
    chosen = choices(tracks, Path(root) / "recipes")
    pages = published(side, tracks, Path(root) / "research/results")
    if side == "validation":
        lines.append("Epochs and settings were chosen on these tracks.")
    elif chosen:
        lines.append(f"Chosen by looking at some of these tracks: {'; '.join(chosen)}.")
    elif pages:
        lines.append(f"No recipe records a choice by these tracks. Their figures were published "
                     f"({', '.join(pages)}) and seen before later choices: they are not untouched.")
    else:
        lines.append("No recipe records a choice by these tracks.")
    for name, trained_on in leaked.items():
        if trained_on:
            lines.append(f"**{name} was trained on {', '.join(trained_on)}.**")
    if unknown := [name for name, trained_on in leaked.items() if trained_on is None]:
        lines.append(f"It is not recorded what {', '.join(unknown)} were trained on.")
    return " ".join(lines)


def command_line(module: str, arguments) -> str:
    """The command that wrote a page, without places on one machine."""
    shown, rest = [], iter(map(str, arguments))
    for argument in rest:
        flag, _, value = argument.partition("=")
        if flag not in PRIVATE_OPTIONS:
            shown.append(argument)
        elif not value:
            next(rest, None)
    return shlex.join(["python", "-m", f"research.{module}", *shown])


def page(title: str, command: str, *blocks: str) -> str:
    """A Markdown page: what was measured, with which command, on which machine."""
    about = machine.describe()
    return "\n\n".join([f"# {title}", f"```bash\n{command}\n```", *filter(None, blocks),
                        f"Measured on {about['cpu']}, {about['cores']} cores, with vqwave "
                        f"{about['versions'].get('vqwave', '')}."]) + "\n"


def write(folder, name: str, text: str) -> Path:
    """Write `folder`/research/results/`name`.md; returns its path."""
    path = make_folder(Path(folder) / "research" / "results") / f"{name}.md"
    with atomic_write(path) as f:
        f.write(text.encode())
    return path


def write_example(path: Path, sound, sample_rate: int) -> Path:
    """Write float32 [samples] as Ogg/Opus; returns the path."""
    with atomic_write(path) as f:
        f.write(media.encode_file(sound, sample_rate, "libopus", 32000, frame_duration=20,
                                  vbr="on"))
    return path


def add_results(parser):
    """--output-dir and --json."""
    parser.add_argument("--output-dir", default=str(CHECKOUT), metavar="DIR",
                        help="where research/results is")
    parser.add_argument("--json", action="store_true",
                        help="print the figures as JSON, write nothing")


def named(text: str) -> tuple[str, str]:
    """An argparse type: NAME=PATH."""
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, path
