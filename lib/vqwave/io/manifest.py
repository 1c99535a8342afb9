"""Data folders: `.u16` files, and `manifest.jsonl` with a line for each track. A last line that is
cut off, for instance by an interrupted copy, is ignored.
"""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import pydantic
from pydantic import Field

from .. import cli
from ..errors import UserError
from ..levels import Flag, Text, first_error
from .files import atomic_write, printable, reason

NAME = "manifest.jsonl"
TAGS = ("artist", "title", "album", "genre", "year")
_Count = Annotated[int, Field(strict=True, ge=1)]
_Size = Annotated[int, Field(strict=True, ge=0)]
_Fingerprint = Annotated[str, Field(strict=True, pattern=r"^([0-9a-f]{8})*$")]


@dataclass(frozen=True)
class Track:
    """One line of a manifest.

    file: of `samples` uint16, relative to the folder, with slashes. source: the absolute path of
    the music file, which sha256, source_size (bytes) and source_mtime_ns describe. tags: by `TAGS`;
    None for a missing tag. high_passed: strong sound below the range of hearing was removed. sound:
    of a `silence.Sound`, or None. fingerprint: of `dsp.fingerprints`, or None.
    """

    file: Text
    source: Text
    sample_rate: _Count
    samples: _Count
    sha256: Text
    tags: dict[Text, Text | None]
    source_size: Annotated[int, Field(strict=True)] = -1
    source_mtime_ns: Annotated[int, Field(strict=True)] = -1
    high_passed: Flag = False
    sound: tuple[_Size, _Size, _Size] | None = None
    fingerprint: _Fingerprint | None = None

    @property
    def content(self) -> str:
        """Identifies the samples among tracks of the same sample rate."""
        return self.sha256 + "+high-pass" * self.high_passed

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def path(self, folder) -> Path:
        return Path(folder, self.file)

    def is_intact(self, folder) -> bool:
        """Whether the file exists and has the recorded length."""
        try:
            return self.path(folder).stat().st_size == 2 * self.samples
        except (OSError, ValueError):
            return False


def read(folder) -> list[Track]:
    """The tracks of a data folder, sorted by name. Raises `UserError` as `load` does, for a folder
    without tracks, for a file that is missing or has another length, and for mixed sample rates.
    """
    folder, prepare = Path(folder), cli.command("prepare")
    tracks = load(folder)
    if not tracks:
        raise UserError(f"{printable(folder)}: the manifest names no track; add music with "
                        f"{prepare}")
    first = tracks[0]
    for track in tracks:
        if not track.is_intact(folder):
            raise UserError(f"{printable(folder)}: {printable(track.file)} is missing or not "
                            f"{2 * track.samples} bytes long as {NAME} says; run {prepare} again")
        if track.sample_rate != first.sample_rate:
            raise UserError(f"{printable(folder)}: mixed sample rates: {printable(first.file)} has "
                            f"{first.sample_rate} Hz, {printable(track.file)} {track.sample_rate} "
                            f"Hz; run {prepare} again for all")
    return tracks


def write(folder, tracks):
    """Write the manifest of `tracks`, sorted by file, atomically."""
    with atomic_write(Path(folder, NAME)) as out:
        for track in sorted(tracks, key=lambda t: t.file):
            out.write(json.dumps(vars(track)).encode("ascii") + b"\n")


def load(folder: Path) -> list[Track]:
    """The tracks of a data folder. Files may be missing and sample rates mixed. Raises `UserError`
    for a broken line, and for a file whose name or link leads out of the folder.
    """
    path = folder / NAME
    try:
        # newline: JSON allows other line breaks inside a string.
        with open(path, encoding="utf-8", newline="\n") as lines:
            tracks = _tracks(path, lines)
    except FileNotFoundError as e:
        problem = f"there is no {NAME} in it" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{printable(folder)}: {problem}; create it with "
                        f"{cli.command('prepare')}") from e
    except OSError as e:
        raise UserError(f"{printable(path)}: cannot be read: {reason(e)}") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{printable(path)}: is not a manifest; remove it and run "
                        f"{cli.command('prepare')} again") from e
    _check_links(folder, tracks)
    return [tracks[file] for file in sorted(tracks)]


def _tracks(path, lines) -> dict[str, Track]:
    """The tracks of a manifest's lines, by file."""
    tracks: dict[str, Track] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            track = _parse(line)
            if track.file in tracks:
                raise ValueError(f"{track.file!r} is there twice")
        except (ValueError, RecursionError) as e:
            is_json = not isinstance(e, json.JSONDecodeError)
            if not is_json and not line.endswith("\n"):
                break  # cut off
            problem = printable(str(e)) if is_json else f"not JSON ({e})"
            raise UserError(f"{printable(path)}, line {number}: {problem}; remove it and run "
                            f"{cli.command('prepare')} again") from e
        tracks[track.file] = track
    return tracks


def _check_links(folder, files):
    """Raises `UserError` if links lead from a file out of the folder."""
    # Each folder is resolved once, because a million tracks are in few folders.
    real = functools.cache(os.path.realpath)
    for file in files:
        parent, name = os.path.split(os.path.join(folder, file))
        path = os.path.join(real(parent), name)
        path = os.path.realpath(path) if os.path.islink(path) else path
        if not path.startswith(os.path.join(real(folder), "")):
            raise UserError(f"{printable(folder)}: {printable(file)} lies outside the folder, "
                            f"through a link")


_TRACK = pydantic.TypeAdapter(Track)


def _parse(line: str) -> Track:
    """The track of a line; unknown keys are ignored."""
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    try:
        track = _TRACK.validate_python(values)
    except pydantic.ValidationError as e:
        raise ValueError(first_error(e)) from e
    path = PurePosixPath(track.file)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in track.file:
        raise ValueError(f"{track.file!r} lies outside the folder")
    return track
