"""Labels of tracks: their names, folders or tags, with repeated spaces removed."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from ..config import Labels
from ..errors import UserError
from .manifest import Track

UNLABELLED = "unknown"
"""The label of tracks without a label, if there are such training tracks."""


def label_of(track: Track, of: str) -> str | None:
    """The label of a track, or None. of: a tag of `manifest.TAGS`; "track", the name of the
    recording's file; or "folder", the first folder of its path below the prepared folder (or the
    prepared folder itself).
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
    """All labels of the training tracks, sorted; with `UNLABELLED` if a track has no label. Raises
    `UserError` if no track has a label, or if all have the same label (except for "track").
    """
    used = {label_of(track, of) for track in tracks}
    if used == {None}:
        raise UserError(f"no training track has a label by {of}: choose another --label")
    names = tuple(sorted({name or UNLABELLED for name in used}))
    if len(names) == 1 and of != "track":
        raise UserError(f"every training track has the {of} {names[0]!r}: labels must "
                        f"distinguish tracks")
    return names


def index_of(track: Track, labels: Labels) -> int:
    """The index of a track's label in the vocabulary. Tracks without a known label get the index of
    `UNLABELLED`, or `labels.none` if the vocabulary does not have it.
    """
    numbers = {name: i for i, name in enumerate(labels.names)}
    return numbers.get(label_of(track, labels.of) or UNLABELLED,
                       numbers.get(UNLABELLED, labels.none))


def known_label(track: Track, labels: Labels | None) -> str | None:
    """The name of the label that is a model's input for a track; None for no label."""
    number = None if labels is None else index_of(track, labels)
    return None if number is None or number == labels.none else labels.names[number]


def count(tracks: Iterable[Track], labels: Labels) -> dict[str, int]:
    """The number of tracks of each label; last, if any, of tracks without a label, under ""."""
    numbers = Counter(index_of(track, labels) for track in tracks)
    counts = {name: numbers[i] for i, name in enumerate(labels.names)}
    return counts | ({"": numbers[labels.none]} if numbers[labels.none] else {})
