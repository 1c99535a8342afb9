"""Renders rows of values as a Markdown table, an HTML table or a table of rich."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

EMPTY = "–"


@dataclass(frozen=True)
class Column:
    """A column: its title, the key of its values in each row, and their format specification."""

    title: str
    key: str
    form: str = ""

    def cell(self, row: Mapping) -> str:
        """The formatted value of a row; `EMPTY` if the row has no value. A list becomes its mean
        and, in brackets, its values.
        """
        value = row.get(self.key)
        if value is None or value == []:
            return EMPTY
        if not isinstance(value, list | tuple):
            return format(value, self.form)
        texts = [format(x, self.form) for x in value]
        mean = format(sum(value) / len(value), self.form)
        return mean if len(set(texts)) == 1 else f"{mean} ({', '.join(texts)})"


def render(rows: Iterable, columns: Sequence[Column | str], kind: str = "md"):
    """A table with the first column left-aligned and the others right-aligned: text for "md" or
    "html", a `rich.table.Table` for "rich". rows: mappings for columns of `Column`; sequences of
    texts for columns that are titles.
    """
    titles = [x if isinstance(x, str) else x.title for x in columns]
    cells = [[str(x) for x in row] if isinstance(columns[0], str)
             else [column.cell(row) for column in columns] for row in rows]
    if kind == "md":
        escaped = [[x.replace("|", "\\|") for x in row] for row in cells]
        head, *body = [f"| {' | '.join(line)} |" for line in (titles, *escaped)]
        return "\n".join([head, "|---|" + "---:|" * (len(titles) - 1), *body])
    if kind == "html":
        tags = ["th", *["td"] * len(cells)]
        return "<table>" + "".join(
            "<tr>" + "".join(f"<{tag}>{html.escape(x)}</{tag}>" for x in line) + "</tr>"
            for tag, line in zip(tags, (titles, *cells), strict=True)) + "</table>"
    from rich.table import Table

    table = Table()
    for i, title in enumerate(titles):
        table.add_column(title, justify="right" if i else "left")
    for row in cells:
        table.add_row(*row)
    return table
