"""What a part of the evaluation is, and the Markdown and the files that parts make.

Figures of several sides (the test tracks, the fresh ones) stand in the same cells, one behind the
other: `side_by_side`. Fréchet distances do not: those of other amounts of sound do not compare, and
have columns of their own.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import tables
from ..benchmark import Target
from ..media import Gallery

if TYPE_CHECKING:
    from ...config import ChainConfig
    from ..evaluation import Evaluation

Rows = list[Sequence[str]]
"""A table: its head, then its rows."""


@dataclass(frozen=True)
class DistanceTarget(Target):
    """A Fréchet distance. size: a function of the results: the seconds of sound on its two sides,
    None where it was not measured. The same bound does not hold for a distance of other sizes.
    """

    size: Callable[[dict], tuple[float, float] | None] = lambda results: None

    @classmethod
    def of(cls, what: str, find_row: Callable[[dict], dict | None]) -> DistanceTarget:
        """find_row: a function of the results: the row that holds the distance, or None."""
        def measured(results):
            return (find_row(results) or {}).get("fad")

        def size(results):
            row = find_row(results)
            return None if row is None else distance_size(row)

        return cls(what, "≤", None, None, "", measured, size)


class Part(abc.ABC):
    """What is measured together and stands in one subsection of RESULTS.md.

    name: what `--only` and the results call it; fresh: whether it is measured on the fresh tracks
    too, beside the test tracks.
    """

    name = ""
    fresh = False

    def why_not(self, evaluation: Evaluation) -> str:
        """Why there is nothing to measure on the side that `evaluation` measures; "" where there
        is.
        """
        return ""

    @abc.abstractmethod
    def measure(self, evaluation: Evaluation):
        """The part's figures, as JSON has them, of the side that `evaluation` measures."""

    def figures(self, chain: ChainConfig) -> tuple[Target, ...]:
        """The figures that stand first in RESULTS.md, without bounds."""
        return ()

    # Many parts draw nothing.
    def draw(self, results: dict, evaluation: Evaluation, gallery: Gallery):  # noqa: B027
        """Make pictures and examples. results: of all parts of one side."""

    @abc.abstractmethod
    def write(self, page: Page, sides: dict[str, dict], evaluation: Evaluation):
        """Write the subsection. sides: {side: the results of all parts}, of each side on which this
        part was measured.
        """


class Page:
    """The lines of a corpus's section of RESULTS.md.

    folder: where its pictures are, as Markdown finds them; files: their names.
    """

    def __init__(self, folder: str, files: Sequence[str]):
        self.folder, self.files, self.lines = folder, files, []

    def add(self, *lines: str):
        """A block of lines, and an empty one before it."""
        self.lines += ["", *lines]

    def begin(self, section: str, about: str, command: str = ""):
        """The title of a section, what it is about, and the command that wrote it, if there was
        one.
        """
        self.add(f"## {section[0].upper()}{section[1:]}")
        self.add(about)
        self.command(command)

    def command(self, command: str):
        if command:
            self.add("```bash", command, "```")

    @property
    def text(self) -> str:
        """All of it, without empty lines around."""
        return "\n".join(self.lines).strip()

    def heading(self, words: str):
        self.add(f"### {words}")

    def tables(self, *tables: Rows):
        for rows in tables:
            self.add(*table(rows[0], rows[1:]))

    def picture(self, file: str, what: str):
        """A picture, if it was drawn."""
        if file in self.files:
            self.add(f"![{what}]({self.folder}/{file})")

    def listen(self, examples: Sequence[tuple[str, str]]):
        """Links to those of (file, what it is) that were made."""
        links = [f"[{what}]({self.folder}/{file})" for file, what in examples if file in self.files]
        if links:
            self.add("Listen: " + " · ".join(links))


def table(head: Sequence[str], rows: Rows) -> list[str]:
    return tables.render(rows, head).split("\n")


def side_by_side(tables: Sequence[Rows], labels: int = 1) -> Rows:
    """The tables of several sides as one: "test / fresh" in each cell in which they differ.

    A column that has another name on each side, such as one that says how much sound a distance is
    of, is one of each side's own, and empty in the rows that this side lacks.

    Args:
        labels: how many columns at first name a row; a row that a side lacks has a dash there.
    """
    by_label = [{tuple(row[:labels]): dict(zip(rows[0][labels:], row[labels:], strict=True))
                 for row in rows[1:]}
                for rows in tables]
    names = list(dict.fromkeys(name for rows in by_label for name in rows))
    columns = _merge_orders([rows[0][labels:] for rows in tables])

    def join(name, column):
        cells = [rows.get(name, {}).get(column, "")
                 for rows, table in zip(by_label, tables, strict=True)
                 if column in table[0][labels:]]
        return cells[0] if len(set(cells)) == 1 else " / ".join(cell or "–" for cell in cells)

    return [(*tables[0][0][:labels], *columns),
            *((*name, *(join(name, column) for column in columns))
              for name in names)]


def _merge_orders(sequences: Sequence[Sequence[str]]) -> list[str]:
    """Each thing once; what only a later sequence has stands before what follows it there."""
    merged: list[str] = []
    for sequence in sequences:
        known = [one for one in sequence if one in merged]
        for one in sequence:
            if one in known:
                known.remove(one)
            else:
                merged.insert(merged.index(known[0]) if known else len(merged), one)
    return merged


def distance_size(row: dict) -> tuple[float, float]:
    """The seconds of sound on both sides of a row's distance; they are alike where the row says one
    number.
    """
    return row["seconds"], row.get("reference_seconds", row["seconds"])


def distance_title(size: tuple[float, float], side: str = "") -> str:
    """The name of a column of distances. side: whose they are, where the table has several."""
    return f"distance{f', {side} tracks' if side else ''}, {size[0]:.0f} s to {size[1]:.0f} s"


def by_size(sides: dict[str, list[dict]], head: Sequence[str],
            cells: Callable[[dict], Sequence[str]]) -> list[Rows]:
    """Tables of Fréchet distances, with a column for each side: one table for each amount of sound,
    for distances of several do not compare.

    Args:
        sides: {side: rows}.
        head, cells: of the columns at first, which name a row; cells takes a row.
    """
    named = {side: {tuple(cells(row)): row for row in rows} for side, rows in sides.items()}
    names = dict.fromkeys(name for rows in named.values() for name in rows)

    def sizes(name):
        return tuple(distance_size(rows[name]) if name in rows else None for rows in named.values())

    made = []
    for size in dict.fromkeys(map(sizes, names)):
        there = [(side, one) for side, one in zip(sides, size, strict=True) if one]
        made.append([(*head, *(distance_title(one, side if len(sides) > 1 else "")
                               for side, one in there)), *(
            (*name, *(spread(named[side][name]["fad"], named[side][name].get("each", ()), ".1f")
                      for side, _ in there))
            for name in names if sizes(name) == size)])
    return made


def spread(mean: float, each: Sequence[float], form: str) -> str:
    """A mean, and what it is of where that is several."""
    return f"{mean:{form}}" + (f" ({', '.join(f'{x:{form}}' for x in each)})"
                               if len(each) > 1 else "")
