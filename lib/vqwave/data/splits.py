"""Which tracks train and which validate, and which rows of a batch a process reads. Keras-free.

Tracks are split by track, never by window.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .. import config
from ..config import Split
from ..errors import UserError
from . import manifest


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


def read_split(path) -> Split:
    """`split.yml`: track names (file name without folders and endings) by the side they are on; the
    rest trains.
    """
    return config.validate(Split, config.load_yaml(path), str(path))


def track_name(track: manifest.Track) -> str:
    """`music/love_theme.ogg.u16` -> `love_theme`."""
    return Path(Path(track.source).name).stem


def split(tracks: list[manifest.Track], sides: float | Split, seed: int) -> tuple[list, list]:
    """(training tracks, validation tracks).

    sides: a share in [0, 1) of the hours, or the tracks by name (`read_split`). At least one track
    trains; where there are two or more and the share is not 0, at least one validates.
    """
    if isinstance(sides, Split):
        known = {track_name(t) for t in tracks}
        held = sides.held_out_tracks
        missing = [n for n in held if n not in known]
        if missing:
            raise UserError(f"the split names a track {missing[0]!r} that the data folder does not "
                            f"hold")
        train = [t for t in tracks if track_name(t) not in held]
        if not train:
            raise UserError("the split leaves no track to train on")
        return train, [t for t in tracks if track_name(t) in sides.validation]
    # Drawn by name, so that a track keeps its place in the draw when others come and go around it.
    order = sorted(range(len(tracks)),
                   key=lambda i: hashlib.sha256(f"{seed} {tracks[i].file}".encode()).digest())
    wanted = sides * sum(t.samples for t in tracks)
    chosen, taken = set(), 0
    for i in order:
        if len(chosen) >= len(tracks) - 1 or taken >= wanted:
            break
        chosen.add(i)
        taken += tracks[i].samples
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
