"""The figures of every release of weights, side by side: `python -m research.releases`.

Figures come from the pages that were published with each release, in the history of git. Add a line
to `RELEASES` when other weights ship.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping

from vqwave import cli
from vqwave.errors import UserError
from vqwave.io.files import CHECKOUT, printable
from vqwave.report import tables

from . import results

RELEASES = {
    "second": "e4d25fe:RESULTS.md", "third": "ea504d8:RESULTS.md", "fourth": "e17d3d0:RESULTS.md",
    "fourth, `stay`": "07257ea:RESULTS.md", "fourth, trained on": "d4aa894:RESULTS.md",
    "fifth": "research/results/wesnoth.md"}
"""{release: the page of its figures, in a commit or in the checkout}, the oldest first."""
LOUDNESS = ("median loudness", "moments under -40 dBFS", "median loudness of the first 30 s",
            "moments under -40 dBFS in the first 30 s")
NOTES = (
    "Each cell has the test tracks, then the fresh tracks. Loudness is of the generated pieces.",
    "*fourth, `stay`*: the fourth weights, when continuations began to keep the pitches of their "
    "prompt (07257ea). *fourth, trained on*: the decoders of 512x and 128x trained further, and "
    "quiet codes priced (d4aa894).",
    "The second and third weights play down to 128x, the later ones down to 512x. The second and "
    "third were trained on the fresh tracks, which flatters their figures there. The first weights "
    "(30703e7) have no page; the commit 61fc412 gives their distance as 45 to 74. Bits compare "
    "only between generators of the same codec.")


def parser():
    parser = cli.parser("Write research/results/releases.md: each figure of each release of "
                        "weights, from the pages in the history of git.")
    results.add_results(parser)
    return parser


def read_figures(text: str) -> dict[str, str]:
    """{figure: "test" or "test / fresh"} of a page of Wesnoth: bounds, and loudness of pieces."""
    if "\n## wesnoth\n" in text:
        text = text.partition("\n## wesnoth\n")[2].partition("\n## ")[0]
    figures, header = {}, []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells:
            header = []
        elif not header:
            header = cells
        elif header[1:3] == ["must", "aim"] and not cells[0].startswith("-"):
            measured = [value for value in cells[3::2] if value not in ("", "not measured")]
            if measured:
                figures[re.sub("(?<=worst level) of .*", "", cells[0])] = " / ".join(measured)
        elif "under -40 at first" in header and cells[0].startswith("down to"):
            figures |= zip(LOUDNESS, cells[1:], strict=True)
    return figures


def read_page(page: str) -> str:
    """The text of a page in a commit, or in the checkout."""
    if ":" not in page:
        return (CHECKOUT / page).read_text(encoding="utf-8")
    shown = subprocess.run(["git", "-C", str(CHECKOUT), "show", page],  # noqa: S603, S607
                           capture_output=True, text=True, check=False)
    if shown.returncode:
        raise UserError(f"{page}: not in this checkout's history: git fetch --unshallow")
    return shown.stdout


def table(releases: Mapping[str, Mapping[str, str]]) -> str:
    """releases: {release: what `read_figures` returns} -> a Markdown table, a column for each."""
    names = dict.fromkeys(name for figures in reversed(releases.values()) for name in figures
                          if not name.endswith("at most"))
    return tables.render([(name, *(figures.get(name, "") for figures in releases.values()))
                          for name in names], ("", *releases))


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    text = table({name: read_figures(read_page(page)) for name, page in RELEASES.items()})
    command = results.command_line("releases", sys.argv[1:] if argv is None else argv)
    page = "\n\n".join(["# Releases of weights", f"```bash\n{command}\n```", *NOTES, text]) + "\n"
    print(f"wrote {printable(results.write(args.output_dir, 'releases', page))}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
