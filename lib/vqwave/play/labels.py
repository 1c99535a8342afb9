"""The labels of a stream: parsing what a caller chooses, mixtures, and cross-fades of labels."""

import contextlib
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..codecs import WHOLE_SHARE, Labels
from ..errors import UserError, check_number, first_names
from ..generators import GeneratorConfig
from .sampling import PART_DRAW, TRACK_DRAW, uniforms

CROSS_FADE = 0.4
"""Seconds of the cross-fade from one label to another."""
BEATS_OF_FADE = 4
"""Beats of the cross-fade from the part of one section to that of the next: a bar."""
SECTIONS = 4
"""How many sections with new music have labels of the same track."""


def find_labels(configs: Sequence) -> Labels:
    """`known_labels`. Raises `UserError` if there are none."""
    if not (labels := known_labels(configs)).names:
        raise UserError(f"{configs[-1].name} was trained without labels, so it takes no label")
    return labels


def known_labels(configs: Sequence) -> Labels:
    """The labels of a chain or a codec; without names if it was trained without labels."""
    return next((config.labels for config in configs if config.labels), Labels())


def read_labels(label, labels: Labels, batch: int) -> np.ndarray:
    """The shares of the labels in each piece: float64 [batch, labels + 1], rows that sum to 1. The
    last column is the share of "no label".

    label: a label, or a mixture as text ("calm:0.7,battle:0.3") or as {label: share}. None means no
    label; "" means all parts, or no label if labels are no parts. A list has one of these for each
    piece. An array that this function returned stays as it is. The name of a track, a folder or a
    mood stands for its parts. Raises `UserError` for an unknown label or a share not above 0.
    """
    width = len(labels.names) + 1
    if isinstance(label, np.ndarray):
        if label.shape not in ((1, width), (batch, width)):
            raise UserError(f"the shares of labels are {list(label.shape)}; they must be "
                            f"{[batch, width]}")
        return np.broadcast_to(np.asarray(label, np.float64), (batch, width)).copy()
    pieces = label if isinstance(label, list | tuple) else [label]
    if len(pieces) not in (1, batch):
        raise UserError(f"{len(pieces)} labels are given for {batch} pieces; give one, or one for "
                        f"each piece")
    rows = [_read_piece(piece, labels) for piece in pieces]
    return np.stack(rows * (batch if len(rows) == 1 else 1))


def _read_piece(label, labels: Labels) -> np.ndarray:
    """The shares of one piece: float64 [labels + 1]."""
    shares, known = np.zeros(len(labels.names) + 1), list(labels.groups)
    if label == "" and labels.are_parts:
        shares[:-1] = _spread(labels, range(len(labels.names)))
        return shares
    if label is None or label == "" or label == {}:
        shares[labels.unlabelled_index] = 1
        return shares
    if not isinstance(label, str | Mapping):
        raise UserError(f"label is {label!r}; it must be one of {first_names(known)}, or a "
                        f"mapping from label to share")
    for name, share in label.items() if isinstance(label, Mapping) else _split(label, labels):
        numbers = [labels.names.index(name)] if name in labels.names else labels.groups.get(name)
        if not numbers:
            near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
            hint = (f"did you mean {' or '.join(map(repr, near))}?" if near
                    else f"the labels are {first_names(known)}")
            raise UserError(f"no label is called {name!r}; {hint}")
        share = check_number(f"the share of label {name!r}", share, above=0)
        shares[numbers] += share * _spread(labels, numbers)
    shares /= shares.max()  # so that the sum does not overflow
    return shares / shares.sum()


def name_of(shares: np.ndarray, labels: Labels) -> str:
    """The name that stands for a piece's shares, float64 [labels + 1]; of a part, its track. "" if
    there is none, as for a mixture.
    """
    for name in ("", *labels.groups):
        if np.allclose(shares, read_labels(name, labels, 1)[0]):
            return name
    number = int(shares.argmax())
    is_part = number != labels.unlabelled_index and np.isclose(shares[number], 1)
    return labels.names[number].rpartition("/")[0] if is_part else ""


def _split(text: str, labels: Labels) -> Iterator[tuple[str, float | str]]:
    """(label, share) for each label in a text; a share that is no number stays text."""
    known = {*labels.names, *labels.groups}
    if text in known:  # even if the name contains a comma or a colon
        yield text, 1.0
        return
    for part in text.split(","):
        name, colon, share = part.rpartition(":")
        if not colon or part.strip() in known:
            yield part.strip(), 1.0
        else:
            with contextlib.suppress(ValueError):
                share = float(share)
            yield name.strip(), share


def _spread(labels: Labels, numbers: Sequence[int]) -> np.ndarray:
    """The shares of labels that stand for one name, float64 [n]: each track has the same share, and
    each of its parts.
    """
    tracks = np.array(labels.tracks)[numbers]
    counts = np.bincount(tracks)
    return 1 / (np.count_nonzero(counts) * counts[tracks])


def choose_labels(configs: Sequence[GeneratorConfig], label, batch: int = 1
                  ) -> np.ndarray | None:
    """The labels of a chain's pieces, as `read_labels` returns them; None for a chain without
    labels. Raises `UserError` for a label that the chain does not know.
    """
    if isinstance(label, str | None) and not label and not any(x.labels for x in configs):
        return None
    return read_labels(label, find_labels(configs), batch)


def labels_of_section(labels: Labels, shares: np.ndarray | None, seed: int, section: int
                      ) -> np.ndarray | None:
    """The labels that sound in a section of a piece, by the shares of all its labels. Of parts, one
    is drawn: a track for every `SECTIONS` sections, and one of its parts. Other labels sound
    together. Takes and returns shares as of `read_labels`; None for a chain without labels.
    section: see `ScoreState.section`.
    """
    if shares is None or not labels.are_parts:
        return shares
    tracks = np.array([*labels.tracks, max(labels.tracks) + 1])

    def draw(chances, piece: int, number: int, stream: int) -> int:
        u = float(uniforms(seed, piece, 0, number, 1, stream)[0])
        limits = np.cumsum(chances)
        return int(np.searchsorted(limits, u * limits[-1], side="right"))

    drawn = np.zeros_like(shares)
    for piece, chances in enumerate(shares):
        track = draw(np.bincount(tracks, chances), piece, section // SECTIONS, TRACK_DRAW)
        drawn[piece, draw(chances * (tracks == track), piece, section, PART_DRAW)] = 1
    return drawn


@dataclass(frozen=True, eq=False)
class Mixture:
    """The labels of a level's frames: `before` up to frame `begin`, `after` from frame `end` on,
    and a linear cross-fade between. Both are shares as `read_labels` returns them.
    """

    before: np.ndarray
    after: np.ndarray
    begin: int = 0
    end: int = 0

    def shares(self, start: int, count: int) -> np.ndarray:
        """The shares of `count` frames from `start` on: float64 [batch, count, labels + 1]."""
        frames = np.arange(start, start + count)
        passed = np.clip((frames - self.begin + 1) / max(1, self.end - self.begin), 0, 1)
        passed = np.where(frames >= self.end, 1.0, passed)[:, None]
        return self.before[:, None] * (1 - passed) + self.after[:, None] * passed

    def pairs(self, start: int, count: int) -> np.ndarray:
        """The shares in the form of the generators' input: int32 [batch, count, n, 2], which holds
        (index of the label, share · `WHOLE_SHARE`) for the n labels with a share.
        """
        shares = self.shares(start, count)
        numbers = np.flatnonzero(shares.any(axis=(0, 1)))
        parts = np.rint(shares[..., numbers] * WHOLE_SHARE).astype(np.int32)
        return np.stack([np.broadcast_to(numbers.astype(np.int32), parts.shape), parts], axis=-1)

    def fade_to(self, after: np.ndarray, start: int, frames: int) -> Self:
        """This mixture up to frame `start`, then a cross-fade to `after` over `frames` frames."""
        return Mixture(self.shares(start - 1, 1)[:, 0], after, start, start + frames)


def without(pairs: np.ndarray, labels: Labels) -> np.ndarray:
    """The same pairs (see `Mixture.pairs`) with "no label" as the only label."""
    none = np.zeros_like(pairs)
    none[..., 0], none[..., 0, 1] = labels.unlabelled_index, WHOLE_SHARE
    return none
