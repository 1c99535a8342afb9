"""Which tracks train and which validate, and which rows of a batch a process reads. Keras-free.

Tracks are split by track, never by window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import config
from ..config import Split
from ..errors import UserError
from . import manifest
from .files import atomic_write, make_folder, printable


@dataclass(frozen=True)
class Share:
    """Which rows of a joint batch this process reads: those of number `rank` among `processes`.

    devices: among how many, in all processes together, a batch is divided.
    """

    devices: int = 1
    processes: int = 1
    rank: int = 0

    def rows(self, count: int) -> range:
        """Which of the `count` rows of a joint batch this process reads."""
        own = count // self.processes
        return range(self.rank * own, (self.rank + 1) * own)


WHOLE = Share()

FILE = "split.yml"
"""In a folder of weights: what its training holds out."""
LARGEST = 0.4
"""Of a share that is held out no single track makes more of the hours than this, or than twice the
share: the model would learn from what is left, a jingle say.
"""


def read_split(path) -> Split:
    """`split.yml`: tracks, see `names`, by the side they are on; the rest trains."""
    return config.validate(Split, config.load_yaml(path), str(path))


def track_name(track: manifest.Track) -> str:
    """`music/love_theme.ogg.u16` -> `love_theme`."""
    return Path(Path(track.source).name).stem


def load(folder, tracks: list[manifest.Track]) -> tuple[Split, list[str]] | None:
    """What a training into a folder holds out: as far as it is among the tracks, and what is not.
    None where it wrote nothing down, or held nothing out.
    """
    path = Path(folder) / FILE
    found = read_split(path) if path.is_file() else Split()
    if not found.held_out_tracks:
        return None
    gone = missing(tracks, found.held_out_tracks)
    return config.replace(found, **{side: tuple(name for name in getattr(found, side)
                                                if name not in gone)
                                    for side in ("validation", "test", "fresh", "excluded")}), gone


def save(folder, split: Split):
    """Write down what a training into a folder holds out: tracks that come later change nothing of
    it.
    """
    path = make_folder(folder) / FILE
    if not (path.is_file() and read_split(path) == split):
        with atomic_write(path) as f:
            f.write(config.dump_yaml(config.to_dict(split)).encode())


def names(track: manifest.Track) -> tuple[str, ...]:
    """What a split may call a track: its name, its file in the data folder without `.u16`, which no
    other has, or the first digits of its sha256.
    """
    return track_name(track), track.file.removesuffix(".u16"), track.sha256[:16]


def is_named(track: manifest.Track, among: Collection[str]) -> bool:
    """Whether a split's side names a track."""
    return any(name in among for name in names(track))


def missing(tracks: list[manifest.Track], wanted: Iterable[str]) -> list[str]:
    """What a split names and no track is called."""
    known = {name for track in tracks for name in names(track)}
    return [name for name in wanted if name not in known]


def draw(tracks: list[manifest.Track], share: float, seed: int, known: Collection[str] = ()
         ) -> Split:
    """A share of the hours by name. known: the first digits of the sha256 of tracks that a model
    which is to learn knows already: of the others are held out, where there are two or more.
    """
    new = [track for track in tracks if track.sha256[:16] not in known]
    among = new if len(new) > 1 else tracks
    wanted, there = (sum(track.samples for track in some) for some in (tracks, among))
    part = share if among == tracks else min(0.5, share * wanted / there)
    return Split(validation=tuple(_unique_name(track) for track in split(among, part, seed)[1]))


def _unique_name(track: manifest.Track) -> str:
    """The one of a track's names that no other has, in letters that a file can hold."""
    _, file, digits = names(track)
    return file if file == printable(file) else digits


def split(tracks: list[manifest.Track], sides: float | Split, seed: int) -> tuple[list, list]:
    """(training tracks, validation tracks).

    sides: a share in [0, 1) of the hours, or the tracks by name (`read_split`). At least one track
    trains; where there are two or more and the share is not 0, at least one validates. A share
    passes over a track that would take most of the music away (`LARGEST`).
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
    # Drawn by name, so that a track keeps its place in the draw when others come and go around it.
    order = sorted(range(len(tracks)), key=lambda i: hashlib.sha256(
        f"{seed} {tracks[i].file}".encode("utf-8", "surrogateescape")).digest())
    total = sum(t.samples for t in tracks)
    wanted, most = sides * total, max(LARGEST, 2 * sides) * total
    chosen, taken = set(), 0
    for i in order:
        if len(chosen) >= len(tracks) - 1 or taken >= wanted:
            break
        if taken + tracks[i].samples <= most:
            chosen.add(i)
            taken += tracks[i].samples
    if not chosen and wanted and len(tracks) > 1:
        chosen = {min(order, key=lambda i: tracks[i].samples)}
    return [t for i, t in enumerate(tracks) if i not in chosen], [tracks[i] for i in sorted(chosen)]


def keep_long(tracks: list, samples: int, what="--input-length",
              length=lambda track: track.samples) -> list:
    """The tracks of at least `samples`; `UserError` where that leaves none says how long they would
    need to be.

    what: wants so many samples. length: the samples of a track that count.
    """
    kept = [t for t in tracks if length(t) >= samples]
    if tracks and not kept:
        rate = tracks[0].sample_rate
        longest = max(map(length, tracks))
        raise UserError(
            f"no training track is as long as {what}, {samples} samples ({samples / rate:.2f} s); "
            f"the longest has {longest} ({longest / rate:.2f} s): use "
            + (f"a shorter {what} or " if what.startswith("--") else "")
            + "longer music"
        )
    return kept
