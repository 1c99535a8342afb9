"""The recordings that steer a stream: a prompt that a piece begins with, a variation's source."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.scores import Score

JOIN = 0.0929
"""Seconds over which a recording passes into the music that continues it, at most."""


@dataclass(frozen=True)
class Prompt:
    """A recording that a piece begins with.

    codes: int32 [samples / level] (or [.., books]) by level, all of one length in samples. audio:
    float32 [samples]. keep_original: the recording is heard instead of its decoded codes, into
    which it passes over the last `JOIN` seconds (fewer where a block begins in between). pitches:
    what each code sounds (`pitches.of_codec`), by the levels that keep to the recording's pitches.
    stay: how strongly they do, see `Stream.set`. score: of the recording, for a chain with a score.
    """

    codes: Mapping[int, np.ndarray]
    audio: np.ndarray
    keep_original: bool = False
    pitches: Mapping[int, np.ndarray] = field(default_factory=dict)
    stay: float | None = None
    score: Score | None = None


@dataclass(frozen=True)
class Variation:
    """A recording that is varied: its kept codes at `level`, int32 [n] or [n, books]; its
    length in samples.
    """

    level: int
    codes: np.ndarray
    samples: int


def check_codes(codes, config, books: Container[int] = (), batch: bool = False) -> np.ndarray:
    """Codes that a caller gives, [n, books] (or [n] where there is one book), as int32 [n, books].

    config: what says `level`, `num_codes` and `books`. books: the numbers of books that are allowed
    instead of the config's. batch: [batch, n, books] is allowed too. Raises `ValueError` for other
    codes.
    """
    array = np.asarray(codes)
    frames = array[..., None] if config.books == 1 and array.ndim <= 1 + batch else array
    if (frames.ndim not in (2, 2 + batch) or frames.shape[-1] not in (books or (config.books,))
            or frames.dtype.kind not in "iu"):
        raise ValueError(f"codes of level {config.level} are {array.dtype} {list(array.shape)}; "
                         f"they must be whole numbers [n, {config.books}]")
    if frames.size and not 0 <= frames.min() <= frames.max() < config.num_codes:
        raise ValueError(f"codes of level {config.level} are {frames.min()} … {frames.max()}; "
                         f"there are 0 … {config.num_codes - 1}")
    return frames.astype(np.int32)


def check_prompt(prompt: Mapping, configs) -> dict[int, np.ndarray]:
    """A prompt's codes by level. Raises `ValueError` for missing levels or unequal ends."""
    levels = [c.level for c in configs]
    if sorted(prompt, reverse=True) != levels:
        raise ValueError(f"the prompt has levels {sorted(prompt, reverse=True)}; the chain has "
                         f"{levels}")
    codes = {c.level: check_codes(prompt[c.level], c) for c in configs}
    lengths = {level: len(frames) * level for level, frames in codes.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the prompt's levels end at different samples: {lengths}")
    return codes
