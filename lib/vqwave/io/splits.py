"""Splits into training tracks and held-out tracks, and the rows of a batch that a process reads.
Tracks of the same recording are on the same side.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..dsp import fingerprints
from ..errors import UserError
from ..levels import Split, load_yaml, replace, to_dict, validate
from . import manifest
from .files import make_folder, printable, write_yaml


@dataclass(frozen=True)
class BatchShare:
    """The part of each joint batch that process number `rank` of `processes` reads. devices: of all
    processes, among which a batch is divided.
    """

    devices: int = 1
    processes: int = 1
    rank: int = 0

    def rows(self, count: int) -> range:
        """The rows of a joint batch of `count` rows that this process reads."""
        row_count = count // self.processes
        return range(self.rank * row_count, (self.rank + 1) * row_count)


WHOLE = BatchShare()
SPLIT_FILE = "split.yml"
"""In a folder of weights: the tracks that their training holds out."""
MOST_HELD_OUT = 0.4
"""All held-out tracks together have at most this share of the hours, or twice the requested share
if that is larger. If every track is longer, the shortest track is held out.
"""


def read_split(path) -> Split:
    """A split file: names of tracks (see `names`) by side; all other tracks are trained on."""
    return validate(Split, load_yaml(path), str(path))


def track_name(track: manifest.Track) -> str:
    """`music/love_theme.ogg.u16` -> `love_theme`."""
    return Path(Path(track.source).name).stem


def load(folder, tracks: list[manifest.Track]) -> tuple[Split, list[str]] | None:
    """The split that a training recorded in a folder: (split of the present tracks, names of the
    missing ones). None without a record, or if no track was held out.
    """
    path = Path(folder) / SPLIT_FILE
    recorded = read_split(path) if path.is_file() else Split()
    if not recorded.held_out_tracks:
        return None
    gone = missing(tracks, recorded.held_out_tracks)
    return replace(recorded, **{
        side: tuple(name for name in getattr(recorded, side) if name not in gone)
        for side in ("validation", "test", "fresh", "excluded")}), gone


def save(folder, split: Split):
    """Record the split of a training in its folder; later tracks do not change the split."""
    path = make_folder(folder) / SPLIT_FILE
    if not (path.is_file() and read_split(path) == split):
        write_yaml(path, to_dict(split))


def names(track: manifest.Track) -> tuple[str, str, str]:
    """The names of a track in a split: its name, its file without `.u16`, and its sha256's first
    digits.
    """
    return track_name(track), track.file.removesuffix(".u16"), track.sha256[:16]


def is_named(track: manifest.Track, among: Collection[str]) -> bool:
    """Whether one side of a split names a track."""
    return any(name in among for name in names(track))


def recordings(tracks: list[manifest.Track]) -> list[list[manifest.Track]]:
    """The tracks in groups of the same recording, by their fingerprints, in order."""
    groups: dict[int, list[manifest.Track]] = {}
    numbers = fingerprints.groups(tuple(track.fingerprint or "" for track in tracks))
    for number, track in zip(numbers, tracks, strict=True):
        groups.setdefault(number, []).append(track)
    return list(groups.values())


def _files(tracks: list[manifest.Track], among: Collection[str]) -> set[str]:
    """The files of the tracks that `among` names, and of others of the same recordings."""
    return {track.file for group in recordings(tracks)
            if any(is_named(track, among) for track in group) for track in group}


def missing(tracks: list[manifest.Track], wanted: Iterable[str]) -> list[str]:
    """The names in a split that no track has."""
    known = {name for track in tracks for name in names(track)}
    return [name for name in wanted if name not in known]


def draw(tracks: list[manifest.Track], share: float, seed: int, known: Collection[str] = ()
         ) -> Split:
    """A random split that holds out a share of the hours, by name. known: the first digits of the
    sha256 of tracks that the model was trained on before; if at least two tracks are of other
    recordings, only those are held out.
    """
    heard = _files(tracks, known)
    new = [track for track in tracks if track.file not in heard]
    if 1 < len(new) < len(tracks):
        samples, new_samples = (sum(track.samples for track in some) for some in (tracks, new))
        tracks, share = new, min(0.5, share * samples / new_samples)
    # The file's name, unless a YAML file cannot hold it.
    return Split(validation=tuple(file if file == printable(file) else digits
                                  for _, file, digits in map(names, split(tracks, share, seed)[1])))


def split(tracks: list[manifest.Track], sides: float | Split, seed: int) -> tuple[list, list]:
    """(training tracks, validation tracks). sides: the tracks by name, or a share of the hours in
    [0, 1), see `MOST_HELD_OUT`. At least one recording is trained on. Of two or more, at least one
    is held out, unless the share is 0.
    """
    if isinstance(sides, Split):
        held = sides.held_out_tracks
        if gone := missing(tracks, held):
            raise UserError(f"the split names a track {gone[0]!r} that the data folder does not "
                            f"hold")
        files = _files(tracks, held)
        train = [t for t in tracks if t.file not in files]
        if not train:
            raise UserError("the split leaves no track to train on")
        files, others = _files(tracks, sides.validation), set(held) - set(sides.validation)
        return train, [t for t in tracks if t.file in files and not is_named(t, others)]
    # Ordered by a hash of the name, so that adding or removing tracks does not reorder the others.
    groups = sorted(recordings(tracks), key=lambda group: hashlib.sha256(
        f"{seed} {min(t.file for t in group)}".encode("utf-8", "surrogateescape")).digest())
    lengths = [sum(t.samples for t in group) for group in groups]
    total = sum(lengths)
    target, limit = sides * total, max(MOST_HELD_OUT, 2 * sides) * total
    chosen, held_out = [], 0
    for group, length in zip(groups, lengths, strict=True):
        if len(chosen) >= len(groups) - 1 or held_out >= target:
            break
        if held_out + length <= limit:
            chosen.append(group)
            held_out += length
    if not chosen and target and len(groups) > 1:
        chosen = [groups[lengths.index(min(lengths))]]
    files = {t.file for group in chosen for t in group}
    return [t for t in tracks if t.file not in files], [t for t in tracks if t.file in files]
