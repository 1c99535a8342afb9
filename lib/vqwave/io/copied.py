"""Default sets whose files were copied by hand from a numbered set:

    cp weights/vqvae_512_encoder_00010.weights.h5 final_weights/vqvae_512_encoder.weights.h5

Such files have no YAML file, or that of another set. The numbered set's YAML file describes them.
"""

import contextlib
import functools
import re
from pathlib import Path

from ..errors import UserError
from ..levels import load_yaml
from .files import sha256

TRAINED = "weights"
"""The folder in which trainings write by default."""


def tagged(folder, name: str) -> list[str]:
    """The tags of the YAML files of `name` in a folder: epochs in order, then `best`, then ""."""
    pattern = re.compile(rf"{re.escape(name)}(?:_(\d{{5,}}|best))?\.yml")
    paths = Path(folder).iterdir() if Path(folder).is_dir() else ()
    return sorted((match[1] or "" for path in paths if (match := pattern.fullmatch(path.name))),
                  key=lambda tag: (not tag.isdigit(), tag == "", tag))


def origin(folder, name: str) -> Path | None:
    """The YAML file of the numbered (or best) set whose files the default set in `folder` consists
    of, or None. It is searched in `folder`, in the folder `weights` beside it, and in `weights`.
    """
    folder = Path(folder)
    pattern = re.compile(rf"{re.escape(name)}_([^_]+)\.weights\.h5")
    files = {match[1]: folder / match[0] for path in folder.glob(f"{name}_*.weights.h5")
             if (match := pattern.fullmatch(path.name))}
    if not files:
        return None
    for place in dict.fromkeys((folder, folder.parent / TRAINED, Path(TRAINED))):
        for tag in filter(None, reversed(tagged(place, name))):
            if _describes(path := place / f"{name}_{tag}.yml", files):
                return path
    return None


def _describes(path: Path, files: dict[str, Path]) -> bool:
    """Whether a YAML file has the checksums of these files, and of no others."""
    with contextlib.suppress(OSError, UserError):
        sums = {part: _checksum(file) for part, file in files.items()}
        text = path.read_text(encoding="utf-8", errors="replace")
        # Parsing takes longer, and most sets are others.
        return all(x in text for x in sums.values()) and load_yaml(path)["sha256"] == sums
    return False


def _checksum(path: Path) -> str:
    """The SHA-256 of a file, computed again only if the file has changed."""
    stat = path.stat()
    return _checksum_of(path.absolute(), stat.st_mtime_ns, stat.st_size, stat.st_ino)


@functools.cache
def _checksum_of(path: Path, *version: int) -> str:
    return sha256(path)
