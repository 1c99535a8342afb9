"""Labels that a caller chooses for what plays: read, mixed, and passed from one to another."""

import contextlib
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..config import WHOLE_SHARE, CodecConfig, GeneratorConfig, Labels
from ..errors import UserError, check_number, first_names
from .sampling import LABEL_DRAW, uniforms

CROSS_FADE = 1.0
"""Seconds over which one label passes into another."""



def find_labels(configs: Sequence[CodecConfig | GeneratorConfig]) -> Labels:
    """The labels of a chain or a codec. Raises `UserError` where it was trained without labels."""
    for config in configs:
        if config.labels:
            return config.labels
    raise UserError(f"{configs[0].name} was trained without labels: there is none to choose")


def read_labels(label, labels: Labels, batch: int) -> np.ndarray:
    """Which labels each piece has: float64 [batch, labels + 1] of shares that add up to 1, the last
    that of no label.

    label: a label; several, as text with commas between and a colon before the share of each
    ("calm:0.7,battle:0.3"), or as {label: share}; "" or None for no label; a list of these, one for
    each piece; or what this function returned. Raises `UserError` for an unknown label or share.
    """
    width = len(labels.names) + 1
    if isinstance(label, np.ndarray):
        if label.shape not in ((1, width), (batch, width)):
            raise UserError(f"the shares of labels are {list(label.shape)}; they must be "
                            f"{[batch, width]}")
        return np.broadcast_to(np.asarray(label, np.float64), (batch, width)).copy()
    pieces = label if isinstance(label, list | tuple) else [label]
    if len(pieces) not in (1, batch):
        raise UserError(f"{len(pieces)} labels are given; it must be one, or one for each of "
                        f"{batch} pieces")
    rows = [_read_piece(piece, labels) for piece in pieces]
    return np.stack(rows * (batch if len(rows) == 1 else 1))


def _read_piece(label, labels: Labels) -> np.ndarray:
    """The shares of one piece: float64 [labels + 1]."""
    shares = np.zeros(len(labels.names) + 1)
    if label is None or label == "" or label == {}:
        shares[labels.none] = 1
        return shares
    if not isinstance(label, str | Mapping):
        raise UserError(f"label is {label!r}; it must be one of {first_names(labels.names)}, or a "
                        f"mapping from label to share")
    for name, share in label.items() if isinstance(label, Mapping) else _split(label, labels):
        if name not in labels.names:
            near = difflib.get_close_matches(str(name), labels.names, n=3, cutoff=0.5)
            hint = (f"did you mean {' or '.join(map(repr, near))}?" if near
                    else f"there are {first_names(labels.names)}")
            raise UserError(f"no label is called {name!r}; {hint}")
        shares[labels.names.index(name)] += check_number(f"the share of label {name!r}", share,
                                                         above=0)
    shares /= shares.max()  # however large they are
    return shares / shares.sum()


def _split(text: str, labels: Labels) -> Iterator[tuple[str, float | str]]:
    """The labels in a text, and their shares; a share that is no number stays text."""
    if text in labels.names:  # whatever it is written with
        yield text, 1.0
        return
    for part in text.split(","):
        name, colon, share = part.rpartition(":")
        if not colon or part.strip() in labels.names:
            yield part.strip(), 1.0
        else:
            with contextlib.suppress(ValueError):
                share = float(share)
            yield name.strip(), share


def choose_labels(configs: Sequence[GeneratorConfig], label, batch: int = 1,
                  seed: int | None = None) -> np.ndarray | None:
    """The labels of a chain's pieces as `read_labels` returns them; None of a chain without labels.
    Raises `UserError` for a label that the chain does not know.

    seed: draws the tracks that new pieces sound like, where labels are tracks and none is chosen.
    """
    if label is None and not any(config.labels for config in configs):
        return None
    labels = find_labels(configs)
    if label is None and seed is not None and labels.are_tracks:
        draws = [uniforms(seed, piece, 0, 0, 1, LABEL_DRAW)[0] for piece in range(batch)]
        label = [labels.names[int(len(labels.names) * draw)] for draw in draws]
    return read_labels(label, labels, batch)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The labels of a level's frames: `before` up to frame `begin`, `after` from frame `end` on,
    and in between `before` passes evenly into `after`. Both are shares as of `read_labels`.
    """

    before: np.ndarray
    after: np.ndarray
    begin: int = 0
    end: int = 0

    def shares(self, start: int, count: int) -> np.ndarray:
        """Of the frames from `start` on: float64 [batch, count, labels + 1]."""
        frames = np.arange(start, start + count)
        passed = np.clip((frames - self.begin + 1) / max(1, self.end - self.begin), 0, 1)
        passed = np.where(frames >= self.end, 1.0, passed)[:, None]
        return self.before[:, None] * (1 - passed) + self.after[:, None] * passed

    def pairs(self, start: int, count: int) -> np.ndarray:
        """The shares as generators take them: int32 [batch, count, n, 2] of (number of the label,
        share in `WHOLE_SHARE`ths) for the n labels that occur.
        """
        shares = self.shares(start, count)
        numbers = np.flatnonzero(shares.any(axis=(0, 1)))
        parts = np.rint(shares[..., numbers] * WHOLE_SHARE).astype(np.int32)
        return np.stack([np.broadcast_to(numbers.astype(np.int32), parts.shape), parts], axis=-1)

    def turn(self, after: np.ndarray, start: int, frames: int) -> Self:
        """This mixture up to frame `start`, then passing into `after` over so many frames."""
        return Mixture(self.shares(start - 1, 1)[:, 0], after, start, start + frames)


def without(pairs: np.ndarray, labels: Labels) -> np.ndarray:
    """The pairs of `Mixture.pairs`, with no label in place of all."""
    none = np.zeros_like(pairs)
    none[..., 0], none[..., 0, 1] = labels.none, WHOLE_SHARE
    return none
