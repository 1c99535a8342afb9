"""The CSV logs of trainings."""

import csv
import io
import math
from pathlib import Path

from ..errors import UserError
from .files import printable, reason


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
