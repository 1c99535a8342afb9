"""Labels that a caller chooses for what plays: read, mixed, and passed from one to another."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..config import SHARES, CodecConfig, GeneratorConfig, Labels
from ..errors import UserError

CROSS_FADE = 1.0
"""Seconds over which one label passes into another."""

_SHOWN = 8
"""Labels that an error names, at most."""


def find_labels(configs: Sequence[CodecConfig | GeneratorConfig]) -> Labels:
    """What a chain or a codec is told of labels. Raises `UserError` where it was trained without.
    """
    for config in configs:
        if config.labels:
            return config.labels
    raise UserError(f"{configs[0].name} was trained without labels: there is none to choose")


def read_labels(given, labels: Labels, batch: int) -> np.ndarray:
    """Which labels each piece has: float64 [batch, labels + 1] of shares that add up to 1, the last
    that of no label.

    Args:
        given: a label; several, as text with commas between and a colon before the share of each
            ("calm:0.7,battle:0.3"), or as {label: share}; "" or None for no label; a list of these,
            one for each piece; or what this function made.

    Raises:
        UserError: a label is not in the vocabulary, or a share is no number above 0.
    """
    width = len(labels.names) + 1
    if isinstance(given, np.ndarray):
        if given.shape not in ((1, width), (batch, width)):
            raise UserError(f"the shares of labels are {list(given.shape)}; they must be "
                            f"{[batch, width]}")
        return np.broadcast_to(np.asarray(given, np.float64), (batch, width)).copy()
    several = given if isinstance(given, list | tuple) else [given]
    if len(several) not in (1, batch):
        raise UserError(f"{len(several)} labels are given; it must be one, or one for each of "
                        f"{batch} pieces")
    rows = [_read_one(one, labels) for one in several]
    return np.stack(rows * (batch if len(rows) == 1 else 1))


def _read_one(given, labels: Labels) -> np.ndarray:
    shares = np.zeros(len(labels.names) + 1)
    if given is None or given == "" or given == {}:
        shares[labels.none] = 1
        return shares
    if isinstance(given, str):
        given = _read_text(given, labels)
    if not isinstance(given, Mapping):
        raise UserError(f"label is {given!r}; it must be one of {_list(labels.names)}, or a "
                        f"mapping from label to share")
    for name, share in given.items():
        if name not in labels.names:
            near = difflib.get_close_matches(str(name), labels.names, n=3, cutoff=0.5)
            said = f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"
            raise UserError(f"no label is called {name!r}{said} There are "
                            f"{_list(labels.names)}".replace("; There", "; there"))
        if (isinstance(share, bool) or not isinstance(share, int | float)
            or not 0 < share < math.inf):
            raise UserError(f"the share of label {name!r} is {share!r}; it must be a number above "
                            f"0")
        shares[labels.names.index(name)] += share
    shares /= shares.max()  # however large they are
    return shares / shares.sum()


def _read_text(text: str, labels: Labels) -> dict[str, float]:
    """A label, or several with shares."""
    if text in labels.names:  # whatever it is written with
        return {text: 1.0}
    mix: dict[str, float] = {}
    for part in text.split(","):
        name, colon, share = part.rpartition(":")
        name, number = (part, 1.0) if not colon or part.strip() in labels.names else (name, share)
        name = name.strip()
        try:
            mix[name] = mix.get(name, 0.0) + float(number)
        except ValueError:
            raise UserError(f"the share of label {name!r} is {share!r}; it must be a number above "
                            f"0") from None
    return mix


def _list(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *["…"] * (len(names) > _SHOWN)])


@dataclass(frozen=True, eq=False)
class Mixture:
    """The labels of a level's frames: `before` up to frame `begin`, `after` from frame `end` on,
    and in between the one passes into the other evenly. Both as `read_labels` makes them.
    """

    before: np.ndarray
    after: np.ndarray
    begin: int = 0
    end: int = 0

    @classmethod
    def constant(cls, shares: np.ndarray) -> Mixture:
        """One for all frames."""
        return cls(shares, shares)

    def shares(self, start: int, count: int) -> np.ndarray:
        """Of the frames from `start` on: float64 [batch, count, labels + 1]."""
        frames = np.arange(start, start + count)
        passed = np.clip((frames - self.begin + 1) / max(1, self.end - self.begin), 0, 1)
        passed = np.where(frames >= self.end, 1.0, passed)[:, None]
        return self.before[:, None] * (1 - passed) + self.after[:, None] * passed

    def pairs(self, start: int, count: int) -> np.ndarray:
        """The same as generators are told it: int32 [batch, count, n, 2] of (number of the label,
        share in `SHARES`ths) for the n labels that there are.
        """
        shares = self.shares(start, count)
        numbers = np.flatnonzero(shares.any(axis=(0, 1)))
        parts = np.rint(shares[..., numbers] * SHARES).astype(np.int32)
        return np.stack([np.broadcast_to(numbers.astype(np.int32), parts.shape), parts], axis=-1)

    def turn(self, after: np.ndarray, start: int, frames: int) -> Mixture:
        """From frame `start` on it passes into `after`, over so many frames."""
        return Mixture(self.shares(start - 1, 1)[:, 0], after, start, start + frames)


def without(pairs: np.ndarray, labels: Labels) -> np.ndarray:
    """What `Mixture.pairs` made, with no label in place of all."""
    none = np.zeros_like(pairs)
    none[..., 0], none[..., 0, 1] = labels.none, SHARES
    return none
