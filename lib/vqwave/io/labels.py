"""Labels of tracks: their folders or tags, with repeated spaces removed; or their parts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from ..codecs import Labels
from ..errors import UserError
from . import audio
from .manifest import Track

UNLABELLED = "unknown"
"""The label of tracks without a label, if there are such training tracks."""
PART_SECONDS = 20.0
"""The approximate length of a part."""


def parts_of(track: Track) -> list[str]:
    """The labels of a track's parts, which are equally long: "folder/song/01", …"""
    count = max(1, round(track.seconds / PART_SECONDS))
    *folders, _ = PurePosixPath(track.file).parts
    name = "/".join(" ".join(x.split()) for x in (*folders, PurePosixPath(track.source).stem))
    return [f"{name}/{number:02}" for number in range(1, count + 1)]


def label_of(track: Track, of: str) -> str | None:
    """The label of a track, or None. of: a tag of `manifest.TAGS`; or "folder", the first folder
    below the prepared folder, or the prepared folder itself.
    """
    if of == "folder":
        *folders, _ = PurePosixPath(track.file).parts
        label = folders[0] if folders else PurePosixPath(track.source).parent.name
    else:
        label = track.tags.get(of)
    return " ".join((label or "").split()) or None


def vocabulary(tracks: Iterable[Track], of: str) -> tuple[str, ...]:
    """All labels of the training tracks, sorted; with `UNLABELLED` if a track has no label. Raises
    `UserError` if no track has a label, or if all have the same label.
    """
    if of == "part":
        return tuple(sorted({name for track in tracks for name in parts_of(track)}))
    used = {label_of(track, of) for track in tracks}
    if used == {None}:
        raise UserError(f"no training track has a label by {of}: choose another --label")
    names = tuple(sorted({name or UNLABELLED for name in used}))
    if len(names) == 1:
        raise UserError(f"every training track has the {of} {names[0]!r}: labels must "
                        f"distinguish tracks")
    return names


def moods_of(data_dir, tracks: Iterable[Track], names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The indices of the third of the parts that is the loudest, by RMS, and of the softest."""
    numbers, powers = {name: i for i, name in enumerate(names)}, np.zeros(len(names))
    for track in tracks:
        parts = parts_of(track)
        edges = np.arange(len(parts) + 1) * track.samples // len(parts)
        for name, start, stop in zip(parts, edges, edges[1:], strict=False):
            sound = audio.from_u16(audio.read_window(track.path(data_dir), start, stop - start))
            powers[numbers[name]] = np.mean(np.square(sound))
    order = [int(number) for number in powers.argsort(kind="stable")]
    third = -(-len(names) // 3)
    return {"loud": tuple(sorted(order[-third:])), "soft": tuple(sorted(order[:third]))}


def indices_of(track: Track, labels: Labels, seconds: np.ndarray) -> np.ndarray:
    """The indices of a track's labels at some times, in seconds: int32 [n]. See `index_of`."""
    if not labels.are_parts:
        return np.full(len(seconds), index_of(track, labels), np.int32)
    numbers = {name: i for i, name in enumerate(labels.names)}
    parts = np.array([numbers.get(name, labels.unlabelled_index) for name in parts_of(track)],
                     np.int32)
    return parts[(seconds / track.seconds * len(parts)).astype(int).clip(0, len(parts) - 1)]


def index_of(track: Track, labels: Labels) -> int:
    """The index of a track's label in the vocabulary; of parts, the first. Without a known label:
    that of `UNLABELLED`, or `unlabelled_index` if the vocabulary does not have it.
    """
    if labels.are_parts:
        return int(indices_of(track, labels, np.zeros(1))[0])
    numbers = {name: i for i, name in enumerate(labels.names)}
    return numbers.get(label_of(track, labels.of) or UNLABELLED,
                       numbers.get(UNLABELLED, labels.unlabelled_index))


def known_label(track: Track, labels: Labels | None) -> str | None:
    """The name of the label that is a model's input for a track; None for no label."""
    number = None if labels is None else index_of(track, labels)
    return None if number is None or number == labels.unlabelled_index else labels.names[number]


def count(tracks: Iterable[Track], labels: Labels) -> dict[str, int]:
    """The number of tracks of each label; last, if any, of tracks without a label, under ""."""
    numbers = Counter(index_of(track, labels) for track in tracks)
    counts = {name: numbers[i] for i, name in enumerate(labels.names)}
    unlabelled = numbers[labels.unlabelled_index]
    return counts | ({"": unlabelled} if unlabelled else {})
