"""How codes are sampled: random numbers that depend on positions only, and the settings of each
level.
"""

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import UserError, check_number
from ..generators import GeneratorConfig, Sampling
from ..io.defaults import note
from ..levels import SCORE, level_name, override, read_level, validate

(TEMPO_DRAW, PLAN_DRAW, TRACK_DRAW, PART_DRAW, KEY_DRAW, DENSITY_DRAW,
 LOUDNESS_DRAW) = range(1000, 1007)
LEAST_NOTES = {"temperature": 0.4, "top_k": 2, "top_p": 1.0}
"""The least values (except 0 for top-k) at which a score has notes: 60 s of two seeds had none at a
temperature of 0.35, with top-k 1, or with top-p 0.9. Each note is less likely than silence.
"""


def uniforms(seed: int, stream: int, level: int, start: int, count: int,
             book: int = 0) -> np.ndarray:
    """`uniforms_by_book` of one book: float32 [count]."""
    return uniforms_by_book(seed, stream, level, start, count, book, 1)[:, 0]


def uniforms_by_book(seed: int, stream: int, level: int, start: int, count: int, book: int,
                     books: int) -> np.ndarray:
    """The random numbers of steps `start` … `start + count - 1`, for a number of books from `book`
    on: float32 [count, books] in [0, 1), multiples of 2^-24.

    Philox-4x64 (Salmon et al. 2011): the seed, 0 … 2^128 - 1, is the key, and the counter holds
    step // 8, stream, level and book (from 0). The numbers depend on nothing else.
    """
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


def takes(config: GeneratorConfig, field: str) -> bool:
    """Whether a value of a field of `Sampling` for all levels changes a level: guidance needs
    labels; other fields are for levels that draw one code after another, so not for performers.
    """
    return config.labels is not None if field == "guidance" else not config.core.performs


def levels_by_field(configs: Sequence[GeneratorConfig]) -> dict[str, list[str]]:
    """The names of the levels that take each field of `Sampling`."""
    return {field: [level_name(config.level) for config in configs if takes(config, field)]
            for field in Sampling.model_fields}


def choose_sampling(configs: Sequence[GeneratorConfig], chosen=None,
                    now: Mapping[str, Sampling] | None = None) -> dict[str, Sampling]:
    """The sampling of each level of a chain, by the level's name.

    configs: of the chain's generators. chosen: None (no change); or a `Sampling`, or a mapping with
    fields of `Sampling`, for all levels that take them, see `takes`. By the name of a level, the
    mapping has a `Sampling`, or the fields that differ, for this level. now: the sampling that
    `chosen` changes; None: the generators' own. Raises `UserError` for anything else, for an
    unknown level, a value out of range, and guidance without labels.
    """
    sampling = dict(now or {level_name(config.level): config.sampling for config in configs})
    if not isinstance(chosen, Sampling | Mapping | None):
        raise UserError(f"sampling is {chosen!r}; it must be a Sampling, or a mapping from level "
                        f"to Sampling")
    by_name, labelled = dict(chosen or {}), any(config.labels for config in configs)
    common = {field: by_name.pop(field) for field in Sampling.model_fields if field in by_name}
    common = {field: getattr(validate(Sampling, common, "sampling"), field) for field in common}
    levels = [config.level for config in configs]
    named = {read_level(name, levels, "sampling: "): fields for name, fields in by_name.items()}
    for config in configs:
        name, own = level_name(config.level), named.get(config.level, {})
        if not isinstance(own, Sampling | Mapping):
            raise UserError(f"sampling of {name} is {own!r}; it must be a mapping, or a Sampling")
        fields = {field: value for field, value in common.items()
                  if (takes(config, field) or field == "guidance" and not labelled)
                  and not _silences(config, field, value)} | dict(own)
        if fields.get("guidance", 1) != 1 and not config.labels:
            raise UserError(f"{config.name} was trained without labels, so guidance must be 1 (its "
                            f"default)")
        if config.core.performs and fields.keys() & {"top_k", "top_p"}:
            note(f"top_k and top_p do not change {name}: it performs, and draws no code after "
                 f"another")
            fields = {x: value for x, value in fields.items() if x not in ("top_k", "top_p")}
        sampling[name] = override(sampling[name], fields, f"sampling of {name}")
    return sampling


def _silences(config: GeneratorConfig, field: str, value: float) -> bool:
    """Whether a level is a score that would have no notes with this value. Says so, once."""
    silent = config.level == SCORE and value < LEAST_NOTES.get(field, 0) and (
        field != "top_k" or value != 0)
    if silent:
        note(f"{field} {value:g} does not change the score, which would have no notes, because a "
             f"note is less likely than silence; name the level score to set it anyway")
    return silent
