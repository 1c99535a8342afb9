"""The recordings that steer a stream: a prompt that a piece begins with, a variation's source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

JOIN = 0.0929
"""Seconds over which a recording passes into the music that continues it, at most."""


@dataclass(frozen=True)
class Prompt:
    """A recording that a piece begins with.

    codes: int32 [samples / level] (or [.., books]) by level, all of one length in samples; audio:
        float32 [samples].
    keep_original: the recording itself is heard in place of its decoded codes; it passes into them
    over the last `JOIN` seconds (fewer where a block begins in between).
    pitches: by level what each code sounds, see `pitches.of_codec`, of levels at which what goes on
    keeps to the recording's pitches. stay: how strongly, see `Stream.set`; None: as the stream has
    it.
    """

    codes: Mapping[int, np.ndarray]
    audio: np.ndarray
    keep_original: bool = False
    pitches: Mapping[int, np.ndarray] = field(default_factory=dict)
    stay: float | None = None


@dataclass(frozen=True)
class Variation:
    """A recording that is varied: its `codes` int32 [N] (or [N, books]) at `level`, which are kept,
    its `samples`.
    """

    level: int
    codes: np.ndarray
    samples: int


def check_codes(what: str, codes, num_codes: int, books: int) -> np.ndarray:
    """Codes that a caller gives, [n, books] (or [n] where there is one book), as int32 [n, books].

    Raises:
        ValueError: they are not that.
    """
    given = codes = np.asarray(codes)
    if codes.ndim == 1 and books == 1:
        codes = codes[:, None]
    if codes.ndim != 2 or codes.shape[1] != books or codes.dtype.kind not in "iu":
        wanted = "[n]" if books == 1 else f"[n, {books}]"
        raise ValueError(f"{what} are whole numbers, {wanted}, not {given.dtype} "
                         f"{list(given.shape)}")
    if codes.size and not 0 <= codes.min() <= codes.max() < num_codes:
        raise ValueError(f"{what} are {codes.min()} … {codes.max()}; there are 0 … {num_codes - 1}")
    return codes.astype(np.int32)


def check_prompt(prompt: Mapping, configs) -> dict[int, np.ndarray]:
    """A prompt's codes by level, checked to be there at every level and to end at the same sample.
    """
    levels, there = [c.level for c in configs], sorted(prompt, reverse=True)
    if there != levels:
        has = list_levels(there) if there else "no codes"
        raise ValueError(f"the prompt has {has}; the chain has {list_levels(levels)}")
    checked = {c.level: check_codes(f"the prompt's codes of level "
                                    f"{c.level}", prompt[c.level], c.num_codes, c.books)
               for c in configs}
    lengths = {level: len(codes) * level for level, codes in checked.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError("the prompt's levels end at different samples: " + ", ".join(
            f"{level} at {length}" for level, length in lengths.items()))
    return checked


def list_levels(levels):
    return "levels " + ", ".join(map(str, levels))
