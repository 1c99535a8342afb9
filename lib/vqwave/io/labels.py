"""Labels of tracks, from the folders or the tags of a prepared folder. Only spaces are tidied."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from ..config import Labels
from ..errors import UserError
from .manifest import Track

UNLABELLED = "unknown"
"""The label of tracks without one, if some training tracks have none."""


def label_of(track: Track, of: str) -> str | None:
    """The label of a track, None if it has none. of: a tag of `manifest.TAGS`. "track": the name of
    the recording's file. "folder": the outermost folder of the recording below the prepared one, or
    the prepared one itself.
    """
    if of == "track":
        label = PurePosixPath(track.source).stem
    elif of == "folder":
        *folders, _ = PurePosixPath(track.file).parts
        label = folders[0] if folders else PurePosixPath(track.source).parent.name
    else:
        label = track.tags.get(of)
    return " ".join((label or "").split()) or None


def vocabulary(tracks: Iterable[Track], of: str) -> tuple[str, ...]:
    """Every label of the training tracks, sorted; with `UNLABELLED` if a track has none. Raises
    `UserError` where none has a label, or all have the same one, unless a track is its own label.
    """
    used = {label_of(track, of) for track in tracks}
    if used == {None}:
        raise UserError(f"no training track names its {of}: choose another label")
    names = tuple(sorted({name or UNLABELLED for name in used}))
    if len(names) == 1 and of != "track":
        raise UserError(f"every training track has the {of} {names[0]!r}: labels must "
                        f"distinguish tracks")
    return names


def index_of(track: Track, labels: Labels) -> int:
    """The number of a track's label in the vocabulary. Tracks without a label, or with an unknown
    one, have the number of `UNLABELLED`, or `labels.none` where the vocabulary lacks that too.
    """
    numbers = {name: i for i, name in enumerate(labels.names)}
    return numbers.get(label_of(track, labels.of) or UNLABELLED,
                       numbers.get(UNLABELLED, labels.none))


def known_label(track: Track, labels: Labels | None) -> str | None:
    """The name of the label that a model is given for a track; None if it is given none."""
    number = None if labels is None else index_of(track, labels)
    return None if number is None or number == labels.none else labels.names[number]


def count(tracks: Iterable[Track], labels: Labels) -> dict[str, int]:
    """The number of tracks of each label; last, under "", of those without one, if any."""
    numbers = Counter(index_of(track, labels) for track in tracks)
    counts = {name: numbers[i] for i, name in enumerate(labels.names)}
    return counts | ({"": numbers[labels.none]} if numbers[labels.none] else {})
