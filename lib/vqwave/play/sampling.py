"""How codes are sampled: random numbers that depend on positions only, and the settings of each
level.
"""

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import GeneratorConfig, Sampling, override
from ..errors import UserError, check_number

TEMPO_DRAW, PLAN_DRAW, TRACK_DRAW, PART_DRAW, KEY_DRAW, DENSITY_DRAW = range(1000, 1006)
OPENING_DRAWS = 2000
"""In place of the number of a book in `uniforms`; `OPENING_DRAWS` is added to that number."""


def uniforms(seed: int, stream: int, level: int, start: int, count: int,
             book: int = 0) -> np.ndarray:
    """The random numbers of steps `start` … `start + count - 1`: float32 [count] in [0, 1),
    multiples of 2^-24.

    Philox-4x64 (Salmon et al. 2011): the seed, 0 … 2^128 - 1, is the key, and the counter holds
    step // 8, stream, level and book (from 0). The numbers depend on nothing else.
    """
    return uniforms_by_book(seed, stream, level, start, count, book, 1)[:, 0]


def uniforms_by_book(seed: int, stream: int, level: int, start: int, count: int, book: int,
                     books: int) -> np.ndarray:
    """`uniforms` for a number of books from `book` on: float32 [count, books]."""
    # Each counter value gives four 64-bit words, which are eight numbers.
    first, skip = divmod(start, 8)
    values = -(-(skip + count) // 8)
    generator = np.random.Philox(key=seed, counter=[first, stream, level, book])
    words = []
    for _ in range(books):
        words.append(generator.random_raw(4 * values))
        # The book is the last word of the counter. A generator for each book would be slow.
        generator.advance((1 << 192) - values)
    # Little-endian on every machine, so that a seed gives the same music everywhere.
    halves = np.stack(words).astype("<u8", copy=False).view("<u4")[:, skip : skip + count]
    return (halves.T >> 8).astype(np.float32) * np.float32(2.0**-24)


def draw_seed(seed: int | None) -> int:
    """`seed`, checked; for None a random seed of 32 bits, short enough to be typed."""
    return secrets.randbits(32) if seed is None else check_seed("seed", seed)


def check_seed(what: str, seed) -> int:
    """`seed` as an int. Raises `UserError` if it is no whole number from 0 to 2^128 - 1."""
    if check_number(what, seed, 0, whole=True) >= 1 << 128:
        raise UserError(f"{what} is {seed}; it must be less than 2^128")
    return int(seed)


def loop_settings(sampling: Sampling) -> tuple[float, int, float]:
    """(1 / temperature, top_k, top_p), the inputs of the loops; temperature 0 becomes top-k 1."""
    if sampling.temperature == 0:
        return 1.0, 1, 1.0
    return 1.0 / sampling.temperature, sampling.top_k, sampling.top_p


def sampling_per_level(configs: Sequence[GeneratorConfig], chosen=None,
                       composer=None) -> dict[int, Sampling]:
    """The sampling of each level of a chain. configs: of its generators, top first. chosen: see
    `change_sampling`. Also raises `UserError` for guidance without labels.

    composer: the weights or the engine of the score, or None. A performer keeps its own
    temperature, so the sampling of its level is that of its composer.
    """
    own = {c.level: c.sampling for c in configs}
    if composer and configs[0].core.performs:
        own[configs[0].level] = composer.config.sampling
    sampling = change_sampling(own, chosen)
    if not any(c.labels for c in configs) and any(s.guidance != 1 for s in sampling.values()):
        raise UserError(f"{configs[0].name} was trained without labels, so guidance must be 1 (its "
                        f"default)")
    return sampling


def change_sampling(own: Mapping[int, Sampling], chosen) -> dict[int, Sampling]:
    """The sampling of each level: `own`, changed by `chosen`.

    chosen: None (no change), a `Sampling` for all levels, or a mapping from level to a `Sampling`
        or to a mapping of the fields that differ. Raises `UserError` for anything else, for an
        unknown level, and for a value out of range.
    """
    if chosen is None or isinstance(chosen, Sampling):
        return {level: chosen or sampling for level, sampling in own.items()}
    if not isinstance(chosen, Mapping):
        raise UserError(f"sampling is {chosen!r}; it must be a Sampling, or a mapping from level "
                        f"to Sampling")
    changed = dict(own)
    for level, fields in chosen.items():
        name = f"sampling of level {level}"
        if level not in own:
            raise UserError(f"sampling names level {level}; the chain has levels "
                            f"{', '.join(map(str, own))}")
        if not isinstance(fields, Sampling | Mapping):
            raise UserError(f"{name} is {fields!r}; it must be a mapping, or a Sampling")
        changed[level] = (fields if isinstance(fields, Sampling)
                          else override(own[level], fields, name))
    return changed
