"""Splits into training tracks and held-out tracks, and the rows of a batch that a process reads."""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import config
from ..config import Split
from ..errors import UserError
from . import manifest
from .files import make_folder, printable, write_yaml


@dataclass(frozen=True)
class BatchShare:
    """The part of each joint batch that process number `rank` of `processes` reads.

    devices: the number of devices of all processes, among which a batch is divided.
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
"""All held-out tracks together have at most this share of the hours, or twice the requested share,
whichever is larger, so that enough music is left to train on. If every track is longer than that,
the shortest track is held out.
"""


def read_split(path) -> Split:
    """A split file: names of tracks (see `names`) by side; all other tracks are trained on."""
    return config.validate(Split, config.load_yaml(path), str(path))


def track_name(track: manifest.Track) -> str:
    """`music/love_theme.ogg.u16` -> `love_theme`."""
    return Path(Path(track.source).name).stem


def load(folder, tracks: list[manifest.Track]) -> tuple[Split, list[str]] | None:
    """The split that a training recorded in a folder: (split of the present tracks, names of the
    missing tracks). None without a record, or if no track was held out.
    """
    path = Path(folder) / SPLIT_FILE
    recorded = read_split(path) if path.is_file() else Split()
    if not recorded.held_out_tracks:
        return None
    gone = missing(tracks, recorded.held_out_tracks)
    return config.replace(recorded, **{
        side: tuple(name for name in getattr(recorded, side) if name not in gone)
        for side in ("validation", "test", "fresh", "excluded")}), gone


def save(folder, split: Split):
    """Record the split of a training in its folder; later tracks do not change the split."""
    path = make_folder(folder) / SPLIT_FILE
    if not (path.is_file() and read_split(path) == split):
        write_yaml(path, config.to_dict(split))


def names(track: manifest.Track) -> tuple[str, str, str]:
    """The names of a track in a split: its name, its file in the data folder without `.u16`, and
    the first digits of its sha256.
    """
    return track_name(track), track.file.removesuffix(".u16"), track.sha256[:16]


def is_named(track: manifest.Track, among: Collection[str]) -> bool:
    """Whether one side of a split names a track."""
    return any(name in among for name in names(track))


def missing(tracks: list[manifest.Track], wanted: Iterable[str]) -> list[str]:
    """The names in a split that no track has."""
    known = {name for track in tracks for name in names(track)}
    return [name for name in wanted if name not in known]


def draw(tracks: list[manifest.Track], share: float, seed: int, known: Collection[str] = ()
         ) -> Split:
    """A random split that holds out a share of the hours, by name. known: the first digits of the
    sha256 of tracks that the model was trained on before. If at least two tracks are unknown, only
    unknown tracks are held out.
    """
    new = [track for track in tracks if track.sha256[:16] not in known]
    if 1 < len(new) < len(tracks):
        samples, new_samples = (sum(track.samples for track in some) for some in (tracks, new))
        tracks, share = new, min(0.5, share * samples / new_samples)
    # The file's name, unless a YAML file cannot hold it.
    return Split(validation=tuple(file if file == printable(file) else digits
                                  for _, file, digits in map(names, split(tracks, share, seed)[1])))


def split(tracks: list[manifest.Track], sides: float | Split, seed: int) -> tuple[list, list]:
    """(training tracks, validation tracks). sides: the tracks by name (`read_split`), or a share of
    the hours in [0, 1), which skips tracks that would exceed `MOST_HELD_OUT`. At least one track
    is trained on. Of two or more tracks, at least one is held out, unless the share is 0.
    """
    if isinstance(sides, Split):
        held = sides.held_out_tracks
        if gone := missing(tracks, held):
            raise UserError(f"the split names a track {gone[0]!r} that the data folder does not "
                            f"hold")
        train = [t for t in tracks if not is_named(t, held)]
        if not train:
            raise UserError("the split leaves no track to train on")
        return train, [t for t in tracks if is_named(t, sides.validation)]
    # Ordered by a hash of the name, so that adding or removing tracks does not reorder the others.
    order = sorted(range(len(tracks)), key=lambda i: hashlib.sha256(
        f"{seed} {tracks[i].file}".encode("utf-8", "surrogateescape")).digest())
    total = sum(t.samples for t in tracks)
    target, limit = sides * total, max(MOST_HELD_OUT, 2 * sides) * total
    chosen, held_out = set(), 0
    for i in order:
        if len(chosen) >= len(tracks) - 1 or held_out >= target:
            break
        if held_out + tracks[i].samples <= limit:
            chosen.add(i)
            held_out += tracks[i].samples
    if not chosen and target and len(tracks) > 1:
        chosen = {min(order, key=lambda i: tracks[i].samples)}
    return [t for i, t in enumerate(tracks) if i not in chosen], [tracks[i] for i in sorted(chosen)]
