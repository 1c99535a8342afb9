"""Writes the page of a blind test: `python -m research.blind`. The page plays two sounds of one
track, unlabelled, and counts which of both listeners prefer. The sounds are those to which
RESULTS.md links. The page needs a web server, such as `python -m http.server`.
"""

import json
import random
import shutil
import sys
from pathlib import Path

from vqwave import cli
from vqwave.errors import UserError
from vqwave.io.files import CHECKOUT, make_folder, printable
from vqwave.studio.web import STATIC

from .summary import SOUNDS

KINDS = "recording", "codec", "generated"
SHARED = "dom.js", "ring.js", "sound.js", "theme.js", "together.js", "studio.css", "icon.svg"
RATE = 48000


def find(sounds: Path, before: Path | None) -> dict[str, dict[str, Path]]:
    """{track: {kind: file}}. before: sounds of other weights; what they generated is a kind."""
    files = {kind: (sounds, kind) for kind in KINDS}
    files |= {"generated before": (before, KINDS[-1])} if before else {}
    rows = {track: {kind: path for kind, (folder, end) in files.items()
                    if (path := folder / f"{track}_{end}.ogg").is_file()}
            for track in (path.name.removesuffix(f"_{KINDS[0]}.ogg")
                          for path in sounds.glob(f"*_{KINDS[0]}.ogg"))}
    if not (rows := {track: row for track, row in rows.items() if len(row) > 1}):
        raise UserError(f"{printable(sounds)}: holds no sounds of research.summary")
    return rows


def main(argv=None) -> int:
    parser = cli.parser(" ".join(__doc__.split()), "--output-dir blind")
    parser.add_argument("--sounds", default=CHECKOUT / SOUNDS, type=Path, metavar="DIR")
    parser.add_argument("--before", type=Path, metavar="DIR", help="sounds of other weights")
    parser.add_argument("--output-dir", required=True, type=Path, metavar="DIR")
    args = parser.parse_args(argv)
    rows, folder = find(args.sounds, args.before), make_folder(args.output_dir)
    numbers = random.sample(range(1000), sum(map(len, rows.values())))  # names tell nothing
    names = {track: {kind: f"{numbers.pop()}.ogg" for kind in row} for track, row in rows.items()}
    copies = [(path, names[track][kind]) for track, row in rows.items()
              for kind, path in row.items()]
    copies += [(STATIC / name, name) for name in SHARED]
    copies += [(path, path.name) for path in (Path(__file__).parent / "blind_page").iterdir()]
    for path, name in copies:
        shutil.copy(path, folder / name)
    (folder / "sounds.json").write_text(json.dumps({"rate": RATE, "rows": names}))
    print(f"wrote {printable(folder / 'index.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
