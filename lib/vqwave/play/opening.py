"""Skips quiet openings of pieces, and long rests: that music is composed but not heard. The
loudness of a frame is estimated from its codes, see `data.loudness.quietness`.
"""

import numpy as np

from ..config import replace
from .sampling import OPENING_DRAWS, is_greedy, uniforms_by_book

AS_COMPOSED = {"intro": True, "leveling": False}
"""The options of a stream that skips nothing, and levels nothing."""
LONGEST = 60.0
"""The most seconds that are skipped at a time."""
SOUNDING = (1.0, 0.1), (4.0, 0.5)
"""(seconds, dB): music sounds if the mean quietness over these seconds is below this value."""
RESTING_DB = 2.0  # the least mean quietness of a block that rests
LONGEST_REST = 2.0  # seconds of a rest that are heard


def skip_rests(level, second: float):
    """Compose each piece, unheard, until its music sounds: before the first block, and after too
    long a rest. level: a `Level`. second: frames per second.
    """
    state = level.state
    if level.generator.quietness is None or len(state.prompt) or state.loop.shape[1]:
        return
    for piece in np.flatnonzero((state.rest >= LONGEST_REST * second) | (not level.stop)):
        _advance(level, piece, second)
        state.rest[piece] = 0


def count_rests(level):
    """Count the frames that each piece has rested, after a block was sampled."""
    if (quiet := level.generator.quietness) is not None:
        block = level.state.codes[:, -level.per_block :]
        rests = _quietness(quiet, block).mean(axis=1) >= RESTING_DB
        level.state.rest = np.where(rests, level.state.rest + level.per_block, 0)


def _advance(level, piece: int, second: float):
    """Compose blocks of one piece, unheard, until it sounds. The likeliest code after silence is
    silence, so a greedy generator would not sound. Here it draws with its own sampling.
    """
    state, count, context = level.state, level.per_block, level.context(level.blocks)
    sampling = state.sampling
    if is_greedy(sampling):
        sampling = replace(level.config.sampling, guidance=sampling.guidance)
    rows = [piece, *([level.batch + piece] if level.guided else [])]
    previous, memory = state.previous[[piece]], [x[rows] for x in state.memory]
    heard = np.zeros(0)
    while len(heard) < LONGEST * second:
        draws = uniforms_by_book(level.seed, piece, level.level, level.stop + len(heard), count,
                                 OPENING_DRAWS, level.books)
        frames, _, memory = level.generator.sample(
            None if context is None else context[rows], draws[None], previous,
            memory, sampling, log_probs=False)
        previous = frames[:, -1]
        heard = np.append(heard, _quietness(level.generator.quietness, frames[0]))
        if all(len(heard) >= seconds * second and heard[-round(seconds * second):].mean() < decibels
               for seconds, decibels in SOUNDING):
            break
    state.previous[piece] = previous[0]
    for whole, own in zip(state.memory, memory, strict=True):
        whole[rows] = own


def _quietness(quiet: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The mean quietness of the codes of each frame, int [..., books] -> float32 [...], dB."""
    return quiet[np.arange(len(quiet)), frames].mean(axis=-1)
