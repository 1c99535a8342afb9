"""Data folders: `manifest.jsonl`, a line a track, beside `.u16` files.

A manifest is replaced as a whole. Where its last line is cut off, as by an interrupted copy, that
line is left out, and `prepare` makes its track again.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .. import cli
from ..errors import UserError
from .files import atomic_write, printable, reason

NAME = "manifest.jsonl"
TAGS = ("artist", "title", "album", "genre", "year")


@dataclass(frozen=True)
class Track:
    """One line of a manifest: `samples` uint16 samples in `file` (relative to the folder, with
    slashes).

    `source` is the absolute path it was made from, `sha256`, `source_size` (bytes) and
    `source_mtime_ns` what that file was like; `tags` has every name of `TAGS`, None where the file
    does not say. `high_passed`: it held much that is below hearing, which was taken out.
    """

    file: str
    source: str
    sample_rate: int
    samples: int
    sha256: str
    tags: dict[str, str | None]
    source_size: int = -1
    source_mtime_ns: int = -1
    high_passed: bool = False

    @property
    def content(self) -> str:
        """What its samples depend on, at one sample rate."""
        return self.sha256 + "+high-pass" * self.high_passed

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def path(self, folder) -> Path:
        return Path(folder, self.file)

    def is_intact(self, folder) -> bool:
        """Its file is there and has the recorded length."""
        try:
            return self.path(folder).stat().st_size == 2 * self.samples
        except (OSError, ValueError):
            return False


def read(folder) -> list[Track]:
    """The tracks of a data folder in the order of their names, each with its file in place, all at
    one sample rate.

    Raises:
        UserError: there is no folder or no manifest; a line is broken (the message has its number);
            a file is missing, has another length or is outside the folder, by its name or by a
            link; sample rates are mixed.
    """
    folder = Path(folder)
    tracks = load(folder)
    if not tracks:
        raise UserError(f"{printable(folder)}: the manifest names no track; fill it with "
                        f"{cli.command('prepare')}")
    for track in tracks:
        if not track.is_intact(folder):
            raise UserError(
                f"{printable(folder)}: {printable(track.file)} is missing or not "
                f"{2 * track.samples} bytes long as {NAME} says; run {cli.command('prepare')} "
                f"again")
    first = tracks[0]
    for track in tracks:
        if track.sample_rate != first.sample_rate:
            raise UserError(
                f"{printable(folder)}: mixed sample rates: {printable(first.file)} has "
                f"{first.sample_rate} Hz, {printable(track.file)} {track.sample_rate} Hz; run "
                f"{cli.command('prepare')} again for all")
    return tracks


def write(folder, tracks):
    """Put the manifest of `tracks` into `folder`, sorted by file, all at once."""
    with atomic_write(Path(folder, NAME)) as out:
        for track in sorted(tracks, key=lambda t: t.file):
            out.write(json.dumps(vars(track)).encode("ascii") + b"\n")


def load(folder) -> list[Track]:
    """The tracks of a data folder; their files may be missing, their sample rates mixed."""
    path = folder / NAME
    try:
        # newline: JSON allows other line breaks inside a string.
        with open(path, encoding="utf-8", newline="\n") as lines:
            tracks = _tracks(path, lines)
    except FileNotFoundError as e:
        what = f"there is no {NAME} in it" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{printable(folder)}: {what}; make it with "
                        f"{cli.command('prepare')}") from e
    except OSError as e:
        raise UserError(f"{printable(path)}: cannot be read: {reason(e)}") from e
    except UnicodeDecodeError as e:
        raise UserError(
            f"{printable(path)}: is not a manifest; remove it and run {cli.command('prepare')} "
            f"again") from e
    tracks.sort(key=lambda t: t.file)
    for file in _find_links_outside(folder, [t.file for t in tracks]):
        raise UserError(f"{printable(folder)}: {printable(file)} lies outside the folder, where a "
                        f"link leads")
    return tracks


def _tracks(path, lines):
    tracks, seen = [], set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            track = _parse(line)
            if track.file in seen:
                raise ValueError(f"{track.file!r} is there twice")
        except (ValueError, RecursionError) as e:
            if isinstance(e.__cause__, json.JSONDecodeError) and not line.endswith("\n"):
                break  # cut off
            raise UserError(f"{printable(path)}, line {number}: {printable(str(e))}; "
                            f"remove it and run {cli.command('prepare')} again") from e
        seen.add(track.file)
        tracks.append(track)
    return tracks


def _find_links_outside(folder, files):
    """Those of `files` that links lead out of `folder`."""
    # Folders once: a million tracks lie in few of them.
    real = functools.cache(os.path.realpath)
    for file in files:
        parent, name = os.path.split(os.path.join(folder, file))
        path = os.path.join(real(parent), name)
        path = os.path.realpath(path) if os.path.islink(path) else path
        if not path.startswith(os.path.join(real(folder), "")):
            yield file


def _parse(line):
    try:
        values = json.loads(line)
    except ValueError as e:
        raise ValueError(f"not JSON ({e})") from e
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    kinds = {"file": str, "source": str, "sample_rate": int, "samples": int,
             "sha256": str, "tags": dict}
    optional = {"source_size": int, "source_mtime_ns": int, "high_passed": bool}
    for key, kind in (kinds | {k: v for k, v in optional.items() if k in values}).items():
        if key not in values:
            raise ValueError(f"{key} is missing")
        if not isinstance(values[key], kind) or isinstance(values[key], bool) != (kind is bool):
            raise ValueError(f"{key} is {values[key]!r}")
    for key in ("sample_rate", "samples"):
        if values[key] < 1:
            raise ValueError(f"{key} is {values[key]}")
    file = PurePosixPath(values["file"])
    if file.is_absolute() or ".." in file.parts or not file.parts or "\0" in values["file"]:
        raise ValueError(f"{values['file']!r} lies outside the folder")
    # Keys of other versions (an earlier one had checksums) are no reason to refuse a folder that
    # can be read.
    return Track(**{k: values[k] for k in (*kinds, *optional) if k in values})
