"""What the folders and tags of a prepared folder call its tracks: nothing is invented, only spaces
are tidied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from ..config import Labels
from ..errors import UserError
from .manifest import Track

UNLABELLED = "unknown"
"""What tracks are called that are called nothing, where some of those that are trained on are."""


def label_of(track: Track, of: str) -> str | None:
    """What a track is called; None where nothing is said.

    Args:
        of: "folder", the one that its recording lies in, of folders inside folders the outermost
            below the one that was prepared; or a tag of `manifest.TAGS`.
    """
    if of == "folder":
        *folders, _ = PurePosixPath(track.file).parts
        said = folders[0] if folders else PurePosixPath(track.source).parent.name
    else:
        said = track.tags.get(of)
    return " ".join((said or "").split()) or None


def vocabulary(tracks: Iterable[Track], of: str) -> tuple[str, ...]:
    """Every label of the tracks that are trained on, sorted; `UNLABELLED` among them where a track
    has none.

    Raises:
        UserError: they are all called the same, or nothing.
    """
    said = {label_of(track, of) for track in tracks}
    if said == {None}:
        raise UserError(f"no track that trains says its {of}: there is nothing to label them by")
    names = tuple(sorted({name or UNLABELLED for name in said}))
    if len(names) == 1:
        raise UserError(f"every track that trains has the {of} {names[0]!r}: labels must tell "
                        f"tracks apart")
    return names


def index_of(track: Track, labels: Labels) -> int:
    """The number of a track's label in the vocabulary: that of `UNLABELLED` where the track has
    none, or one that is not in there; `labels.none` where that is not in there either.
    """
    known = {name: i for i, name in enumerate(labels.names)}
    return known.get(label_of(track, labels.of) or UNLABELLED,
                     known.get(UNLABELLED, labels.none))


def known_label(track: Track, labels: Labels | None) -> str | None:
    """What a model is told of a track: its label, by name; None where it has none of the vocabulary
    or the model has no labels.
    """
    if labels is None:
        return None
    number = index_of(track, labels)
    return None if number == labels.none else labels.names[number]


def count(tracks: Iterable[Track], labels: Labels) -> dict[str, int]:
    """How many tracks there are of each label, in the vocabulary's order; under "" those of none
    of them, where there are some.
    """
    found = Counter(index_of(track, labels) for track in tracks)
    counts = {name: found[i] for i, name in enumerate(labels.names)}
    return counts | ({"": found[labels.none]} if found[labels.none] else {})
