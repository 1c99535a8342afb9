"""Default sets whose files were copied by hand from a numbered set:

    cp weights/vqvae_512_encoder_00010.weights.h5 final_weights/vqvae_512_encoder.weights.h5

Such files have no YAML file, or that of another set. The numbered set's YAML file describes them.
"""

import re
from pathlib import Path

from .. import config as configs
from ..errors import UserError
from .files import sha256

TRAINED = "weights"
"""The folder in which trainings write by default. Originals are searched there, too."""

_checksums: dict[tuple, str] = {}


def tagged(folder, name: str) -> list[str]:
    """The tags of the YAML files of `name` in a folder: epochs in order, then `best`, then ""."""
    pattern = re.compile(rf"{re.escape(name)}(?:_(\d{{5,}}|best))?\.yml")
    paths = Path(folder).iterdir() if Path(folder).is_dir() else ()
    return sorted((match[1] or "" for path in paths if (match := pattern.fullmatch(path.name))),
                  key=lambda tag: (not tag.isdigit(), tag == "", tag))


def origin(folder, name: str) -> Path | None:
    """The YAML file of the numbered (or best) set whose files the default set in `folder` consists
    of; None if there is no such set. It is searched in `folder`, in the folder `weights` beside it,
    and in `weights`.
    """
    folder = Path(folder)
    files = {path.name[len(name) + 1 :].partition(".")[0]: path
             for path in folder.glob(f"{name}_*.weights.h5")}
    files = {part: path for part, path in files.items() if "_" not in part}
    if not files:
        return None
    for place in dict.fromkeys((folder, folder.parent / TRAINED, Path(TRAINED))):
        for tag in filter(None, reversed(tagged(place, name))):
            path = place / f"{name}_{tag}.yml"
            if _describes(path, files):
                return path
    return None


def _describes(path: Path, files: dict[str, Path]) -> bool:
    """Whether a YAML file has the checksums of these files, and of no others."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        if not all(_checksum(file) in text for file in files.values()):
            return False  # most sets; parsing would take longer
        sums = configs.load_yaml(path).get("sha256")
    except (OSError, UserError):
        return False
    return sums == {part: _checksum(file) for part, file in files.items()}


def _checksum(path: Path) -> str:
    """The SHA-256 of a file, computed again only if the file has changed."""
    stat = path.stat()
    key = path.absolute(), stat.st_mtime_ns, stat.st_size, stat.st_ino
    if key not in _checksums:
        _checksums[key] = sha256(path)
    return _checksums[key]
