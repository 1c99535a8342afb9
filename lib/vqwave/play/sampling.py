"""Logits to codes: randomness by position, temperature, top-k, top-p, greedy; and the Keras
reference loop.

One order everywhere (here in numpy, in the Keras loop, in the ONNX loop of `loops.py`): logits /
temperature, top-k, top-p over what is left, then the inverse of the cumulative distribution in the
codes' own order.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import GeneratorConfig, Sampling, override
from ..errors import UserError, check_number


def uniforms(seed: int, stream: int, level: int, start: int, count: int,
             book: int = 0) -> np.ndarray:
    """The random numbers of steps `start` … `start + count - 1`: float32 [count] in [0, 1),
    multiples of 2^-24.

    A function of (seed, stream, level, step, book) and nothing else: Philox-4x64 (Salmon et al.
    2011) keyed by the seed, its counter holding step, stream, level and book. seed: 0 … 2^128 - 1;
    the others: from 0. Raises `ValueError` for what is outside that.
    """
    if not 0 <= seed < 1 << 128:
        raise ValueError(f"seed is {seed}; it must be at least 0 and less than 2^128")
    if min(stream, level, start, count, book) < 0:
        raise ValueError("stream, level, start, count and book must not be negative: "
                         f"{stream}, {level}, {start}, {count}, {book}")
    # Each counter value gives four 64-bit words, that is eight numbers.
    first, skip = divmod(start, 8)
    words = np.random.Philox(key=seed, counter=[first, stream, level,
                                                book]).random_raw(4 * (-(-(skip + count) // 8)))
    # Little-endian on every machine, so that the same seed is the same music.
    halves = words.astype("<u8", copy=False).view("<u4")[skip : skip + count]
    return (halves >> 8).astype(np.float32) * np.float32(2.0**-24)


def draw_seed(seed: int | None) -> int:
    """`seed`, or one drawn where it is None, short enough to be typed. Raises `UserError` where it
    is none.
    """
    return secrets.randbits(32) if seed is None else check_seed("seed", seed)


def check_seed(what: str, seed) -> int:
    """`seed`, where it is one. Raises `UserError` otherwise."""
    if check_number(what, seed, 0, whole=True) >= 1 << 128:
        raise UserError(f"{what} is {seed}; it must be less than 2^128")
    return int(seed)


def filter_logits(scaled: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """Logits float32 [..., codes], already divided by the temperature, with -inf for what top-k and
    top-p leave out.

    top_k keeps exactly that many (0: all), the lower code where two tie; top_p the smallest set of
    the likeliest of those whose share of their probability reaches it (1: all).
    """
    codes = scaled.shape[-1]
    k = min(top_k, codes) if top_k else codes
    order = np.argsort(-scaled, axis=-1, kind="stable")[..., :k]
    ranked = np.take_along_axis(scaled, order, -1)
    weights = np.exp(ranked - ranked[..., :1])
    reached = np.cumsum(weights, -1, dtype=np.float32)
    before = np.concatenate([np.zeros_like(reached[..., :1]), reached[..., :-1]], -1)
    keep = before < np.float32(top_p if top_p < 1 else 2) * reached[..., -1:]
    out = np.full_like(scaled, -np.inf)
    np.put_along_axis(out, order, np.where(keep, ranked, -np.inf).astype(scaled.dtype), -1)
    return out


def loop_settings(sampling: Sampling) -> tuple[float, int, float]:
    """(1 / temperature, top_k, top_p) as the loops take them; temperature 0 is top-k 1."""
    if sampling.temperature == 0:
        return 1.0, 1, 1.0
    return 1.0 / sampling.temperature, sampling.top_k, sampling.top_p


def sampling_per_level(configs: Sequence[GeneratorConfig], chosen=None) -> dict[int, Sampling]:
    """What each level of a chain samples with.

    Args:
        configs: the chain's generators, top first.
        chosen: None (each generator's own), a `Sampling` for all levels, or a mapping from level to
            a `Sampling` or to a mapping of what differs from the generator's own.

    Raises:
        UserError: `chosen` is none of these, names a level that is not in the chain, or a value is
            out of range.
    """
    own = {c.level: c.sampling for c in configs}
    if chosen is None:
        return own
    if isinstance(chosen, Sampling):
        return dict.fromkeys(own, chosen)
    if not isinstance(chosen, Mapping):
        raise UserError(f"sampling is {chosen!r}; it must be a Sampling, or a mapping from level "
                        f"to one")
    for level, one in chosen.items():
        if level not in own:
            raise UserError(f"sampling names level {level}; the chain has levels "
                            f"{', '.join(map(str, own))}")
        if not isinstance(one, Sampling | Mapping):
            raise UserError(f"sampling of level {level} is {one!r}; it must be a mapping, or a "
                            f"Sampling")
        if not isinstance(one, Sampling):
            one = override(own[level], one, f"sampling of level {level}")
        own[level] = one
    return own


def check_guidance(configs: Sequence[GeneratorConfig],
                   sampling: dict[int, Sampling]) -> dict[int, Sampling]:
    """`sampling`, of a chain by level. Raises `UserError` where it is guided by labels that none of
    its generators knows.
    """
    if (not any(c.labels for c in configs)
        and any(one.guidance != 1 for one in sampling.values())):
        raise UserError(f"{configs[0].name} was trained without labels: there is nothing for "
                        f"guidance to follow")
    return sampling


def distribution(logits, sampling: Sampling = Sampling()) -> np.ndarray:  # noqa: B008
    """The probabilities that codes are drawn from: logits float32 [..., codes] -> float32 of the
    same shape.
    """
    inverse, top_k, top_p = loop_settings(sampling)
    scaled = np.asarray(logits, np.float32) * np.float32(inverse)
    if top_k or top_p < 1:
        scaled = filter_logits(scaled, top_k, top_p)
    weights = np.exp(scaled - scaled.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def pick(weights, u) -> np.ndarray:
    """The first code whose cumulative sum exceeds u of the whole: float32 [..., codes], [...] in
    [0, 1) -> int32 [...].

    `weights` need no normalising. u times the last sum is always less than that sum in float32 (u
    is at most 1 - 2^-24), so a code is always found and never one of probability 0.
    """
    reached = np.cumsum(weights, -1, dtype=np.float32)
    threshold = reached[..., -1] * np.asarray(u, np.float32)
    return (reached <= threshold[..., None]).sum(-1).astype(np.int32)


def _keep_likeliest(scaled, top_k, top_p):
    """`filter_logits` in Keras."""
    from keras import ops

    num_codes = scaled.shape[-1]
    ranked, order = ops.top_k(scaled, num_codes)  # the lower index first where two tie
    within_k = ops.arange(num_codes) < ops.cast(ops.where(top_k > 0, top_k, num_codes), "int32")
    weights = ops.where(within_k, ops.exp(ranked - ranked[:, :1]), 0.0)
    reached = ops.cumsum(weights, axis=-1)
    before = ops.pad(reached[:, :-1], ((0, 0), (1, 0)))
    share = ops.where(top_p < 1, top_p, 2.0)
    keep = ops.logical_and(within_k, before < share * reached[:, -1:])
    kept = ops.where(keep, ranked, -float("inf"))
    return ops.take_along_axis(kept, ops.argsort(order, axis=-1), axis=-1)


def keras_loop(generator, with_filter: bool, guided: bool = False):
    """The reference: a Keras model that samples a chunk in one `ops.while_loop`, float32.

    Called through `predict_on_batch` with a dict: uniforms [n, B, books], context [n, B, C] (none
    at the top), previous int32 [B, books], forced int32 [n, B, books] (-1: sample), bias [books,
    codes], inverse_temperature, top_k int64 and top_p (each [1]), state: a list as the core's
    `states` names it. Returns (codes int32 [n, B, books], log_probs of that shape, state). Without
    `with_filter` top_k and top_p are not looked at, and nothing is sorted. guided: the context and
    the state have 2·B rows, those with labels and then those without, and guidance ([1]) is given.
    """
    import keras
    from keras import ops

    class Loop(keras.Model):
        def __init__(self):
            super().__init__(name="sampling")
            self.generator = generator
            self.built = True

        def call(self, inputs):
            us, forced = inputs["uniforms"], inputs["forced"]
            context = inputs.get("context")
            steps = ops.shape(us)[0]
            rows = ops.reshape(ops.arange(steps), (-1, 1, 1))

            def body(i, previous, codes, log_probs, *state):
                at = None if context is None else ops.take(context, i, axis=0)
                u, given, chosen = ops.take(us, i, axis=0), ops.take(forced, i, axis=0), []

                def draw(book, logits):
                    if guided:
                        with_labels, without = ops.split(logits, 2)
                        logits = without + inputs["guidance"] * (with_labels - without)
                    scaled = (logits + inputs["bias"][book]) * inputs["inverse_temperature"]
                    if with_filter:
                        scaled = _keep_likeliest(scaled, inputs["top_k"], inputs["top_p"])
                    reached = ops.cumsum(ops.softmax(scaled), axis=-1)
                    threshold = reached[:, -1:] * u[:, book, None]
                    drawn = ops.sum(ops.cast(reached <= threshold, "int32"), axis=-1)
                    code = ops.where(given[:, book] < 0, drawn, given[:, book])
                    chosen.append(ops.take_along_axis(ops.log_softmax(scaled),
                                                      code[:, None], axis=-1)[:, 0])
                    return ops.concatenate([code, code]) if guided else code

                told = ops.concatenate([previous, previous]) if guided else previous
                frame, state = generator.core.step(told, at, list(state), draw)
                if guided:
                    frame = ops.split(frame, 2)[0]
                codes = ops.where(rows == i, frame, codes)
                log_probs = ops.where(rows == i, ops.stack(chosen, axis=-1), log_probs)
                return i + 1, frame, codes, log_probs, *state

            first = (0, inputs["previous"], ops.zeros_like(us, dtype="int32"), ops.zeros_like(us))
            _, _, codes, log_probs, *state = ops.while_loop(lambda i, *_: i < steps, body,
                                                            (*first, *inputs["state"]))
            return codes, log_probs, state

    loop = Loop()
    loop.compile(jit_compile=False)
    return loop
