"""Recordings as the input of a stream: a prompt that the piece continues, a variation's source."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..data.scores import Score
from ..errors import UserError
from ..levels import SCORE, level_name

JOIN = 0.0929
"""The longest cross-fade, in seconds, from a recording to the music that continues it."""


@dataclass(frozen=True)
class Prompt:
    """A recording that a piece begins with.

    codes: by level, int32 [samples / level] (or [.., books]), all equally long in samples. audio:
    float32 [samples]. keep_original: play the recording instead of its decoded codes. Its last
    `JOIN` seconds (or its part of the last block, if shorter) are cross-faded. pitches: by level,
    the pitches of the codes (`pitches.of_codec`), for the levels that keep to the recording's
    pitches. stay: how strongly, see `Stream.set`. score: of the recording.
    """

    codes: Mapping[int, np.ndarray]
    audio: np.ndarray
    keep_original: bool = False
    pitches: Mapping[int, np.ndarray] = field(default_factory=dict)
    stay: float | None = None
    score: Score | None = None


@dataclass(frozen=True)
class Variation:
    """The source of a variation: a recording's codes at `level`, int32 [n] or [n, books], and the
    recording's length in samples.
    """

    level: int
    codes: np.ndarray
    samples: int


def check_codes(codes, config, books: Container[int] = (), batch: bool = False) -> np.ndarray:
    """A caller's codes, [n, books] (or [n] with one book), as int32 [n, books].

    config: has `level`, `num_codes` and `books`. books: the allowed numbers of books; empty: the
    config's. batch: allows [batch, n, books] too. Raises `UserError` for other codes.
    """
    array = np.asarray(codes)
    frames = array[..., None] if config.books == 1 and array.ndim <= 1 + batch else array
    if (frames.ndim not in (2, 2 + batch) or frames.shape[-1] not in (books or (config.books,))
            or frames.dtype.kind not in "iu"):
        raise UserError(f"codes of {level_name(config.level)} are {array.dtype} "
                        f"{list(array.shape)}; they must be whole numbers [n, {config.books}]")
    if frames.size and not 0 <= frames.min() <= frames.max() < config.num_codes:
        raise UserError(f"codes of {level_name(config.level)} are {frames.min()} … {frames.max()}; "
                        f"they must be in 0 … {config.num_codes - 1}")
    return frames.astype(np.int32)


def check_prompt(prompt: Mapping, configs) -> dict[int, np.ndarray]:
    """A prompt's codes by level. Raises `UserError` for missing levels or unequal ends."""
    configs = [c for c in configs if c.level != SCORE]
    levels = [c.level for c in configs]
    if sorted(prompt, reverse=True) != levels:
        raise UserError(f"the prompt has levels {', '.join(map(level_name, prompt))}; the chain "
                        f"has {', '.join(map(level_name, levels))}")
    codes = {c.level: check_codes(prompt[c.level], c) for c in configs}
    lengths = {level: len(frames) * level for level, frames in codes.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"the prompt's levels end at different samples: {lengths}")
    return codes
