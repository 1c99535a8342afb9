"""How codes are sampled: random numbers that depend on positions only, and the settings of each
level.
"""

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import GeneratorConfig, Sampling, override
from ..errors import UserError, check_number

TEMPO_DRAW, PLAN_DRAW, TRACK_DRAW, PART_DRAW, KEY_DRAW, DENSITY_DRAW = range(1000, 1006)
SCORE = "score"
"""The name of the score's level in a mapping of sampling."""
LEAST_NOTES = {"temperature": 0.4, "top_k": 2, "top_p": 1.0}
"""The least values (except 0 for top-k) at which a score has notes: 60 s of two seeds had none at a
temperature of 0.35, with top-k 1, or with top-p 0.9. Each note is less likely than silence.
"""


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


def silences_score(field: str, value: float) -> bool:
    """Whether a score that is drawn with this value of a field of `Sampling` has no notes."""
    return value < LEAST_NOTES.get(field, 0) and (field != "top_k" or value != 0)


def sampling_per_level(configs: Sequence[GeneratorConfig], chosen=None,
                       composer=None) -> dict[int, Sampling]:
    """The sampling of each level of a chain. configs: of its generators, top first. chosen: see
    `change_sampling`. Also raises `UserError` for guidance without labels.

    composer: the weights or the engine of the score, or None. A performer keeps its own
    temperature, so the sampling of its level is that of its composer.
    """
    own = {c.level: c.sampling for c in configs}
    scored = configs[0].level if composer and configs[0].core.performs else None
    if scored:
        own[scored] = composer.config.sampling
    sampling = change_sampling(own, chosen, scored)
    if not any(c.labels for c in configs) and any(s.guidance != 1 for s in sampling.values()):
        raise UserError(f"{configs[0].name} was trained without labels, so guidance must be 1 (its "
                        f"default)")
    return sampling


def change_sampling(own: Mapping[int, Sampling], chosen, scored: int | None = None
                    ) -> dict[int, Sampling]:
    """The sampling of each level: `own`, changed by `chosen`.

    chosen: None (no change), a `Sampling` for all levels, or a mapping from level to a `Sampling`
        or to a mapping of the fields that differ. Raises `UserError` for anything else, for an
        unknown level, and for a value out of range.
    scored: the level that performs a score, whose sampling `SCORE` names; None: no score.
    """
    if chosen is None or isinstance(chosen, Sampling):
        return {level: chosen or sampling for level, sampling in own.items()}
    if not isinstance(chosen, Mapping):
        raise UserError(f"sampling is {chosen!r}; it must be a Sampling, or a mapping from level "
                        f"to Sampling")
    changed = dict(own)
    for key, fields in chosen.items():
        name, level = f"sampling of level {key}", scored if key == SCORE else key
        if level not in own:
            raise UserError(f"sampling names level {key}; the chain has levels "
                            f"{', '.join(map(str, [SCORE] * bool(scored) + [*own]))}")
        if not isinstance(fields, Sampling | Mapping):
            raise UserError(f"{name} is {fields!r}; it must be a mapping, or a Sampling")
        changed[level] = (fields if isinstance(fields, Sampling)
                          else override(own[level], fields, name))
    return changed
