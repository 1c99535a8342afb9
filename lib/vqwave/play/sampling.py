"""Sampling codes from logits, and random numbers that depend on positions only. Both loops, Keras
and ONNX, divide the logits by the temperature, then apply top-k, then top-p to the rest. A code is
drawn by inverting the cumulative distribution, with the codes in their own order.
"""

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import GeneratorConfig, Sampling, override
from ..errors import UserError, check_number


def uniforms(seed: int, stream: int, level: int, start: int, count: int,
             book: int = 0) -> np.ndarray:
    """The random numbers of steps `start` … `start + count - 1`: float32 [count] in [0, 1),
    multiples of 2^-24.

    Philox-4x64 (Salmon et al. 2011): the seed, 0 … 2^128 - 1, is the key, and the counter holds
    step, stream, level and book (from 0). The numbers depend on nothing else.
    """
    # Each counter value gives four 64-bit words, which are eight numbers.
    first, skip = divmod(start, 8)
    words = np.random.Philox(key=seed, counter=[first, stream, level,
                                                book]).random_raw(4 * (-(-(skip + count) // 8)))
    # Little-endian on every machine, so that a seed gives the same music everywhere.
    halves = words.astype("<u8", copy=False).view("<u4")[skip : skip + count]
    return (halves >> 8).astype(np.float32) * np.float32(2.0**-24)


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
                       score=None) -> dict[int, Sampling]:
    """The sampling of each level of a chain. configs: of its generators, top first. chosen: see
    `change_sampling`. Also raises `UserError` for guidance without labels.

    score: the engine of the score, or None. A performer draws nothing, so the sampling of its level
    is that of the score.
    """
    own = {c.level: c.sampling for c in configs}
    if score and configs[0].is_performer:
        own[configs[0].level] = score.config.sampling
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


def keep_likeliest(scaled, top_k, top_p):
    """The logits float32 [..., codes] with -inf for each excluded code: a Keras tensor. scaled: the
    logits, divided by the temperature.

    top_k keeps exactly top_k codes (0: all); of equal logits, the lower code. top_p then keeps the
    smallest set of the likeliest remaining codes that has this share of their probability (1: all).
    """
    from keras import ops

    num_codes = scaled.shape[-1]
    ranked, order = ops.top_k(scaled, num_codes)  # of equal logits, the lower index first
    within_k = ops.arange(num_codes) < ops.cast(ops.where(top_k > 0, top_k, num_codes), "int32")
    weights = ops.where(within_k, ops.exp(ranked - ranked[..., :1]), 0.0)
    reached = ops.cumsum(weights, axis=-1)
    before = ops.concatenate([ops.zeros_like(reached[..., :1]), reached[..., :-1]], axis=-1)
    share = ops.where(top_p < 1, top_p, 2.0)
    keep = ops.logical_and(within_k, before < share * reached[..., -1:])
    kept = ops.where(keep, ranked, -float("inf"))
    return ops.take_along_axis(kept, ops.argsort(order, axis=-1), axis=-1)


def pick(weights, u):
    """The first code whose cumulative weight exceeds u · (sum of weights): float32 [..., codes], u
    float32 [...] in [0, 1) -> int32 [...], a Keras tensor.

    u is at most 1 - 2^-24, so u · sum < sum in float32. So a code is always found, and its weight
    is not 0.
    """
    from keras import ops

    reached = ops.cumsum(weights, axis=-1)
    return ops.sum(ops.cast(reached <= reached[..., -1:] * u[..., None], "int32"), axis=-1)


def keras_loop(generator, with_filter: bool, guided: bool = False):
    """The reference: a Keras model that samples a chunk in one `ops.while_loop`, float32.

    `predict_on_batch` takes a dict: uniforms [n, B, books], context [n, B, C] (only with
    conditions), previous int32 [B, books], forced int32 [n, B, books] (-1: sample), bias [books,
    codes], inverse_temperature, top_k int64 and top_p (each [1]), state: a list in the order of the
    core's `states`. It returns (codes int32 [n, B, books], log_probs of that shape, state).
    with_filter: apply top_k and top_p. guided: guidance ([1]) is an input too, and context and
    state have 2·B rows, first those with labels, then those without.
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
                frame_context = None if context is None else ops.take(context, i, axis=0)
                u, prescribed, scores = ops.take(us, i, axis=0), ops.take(forced, i, axis=0), []

                def draw(book, logits):
                    if guided:
                        with_labels, without = ops.split(logits, 2)
                        logits = without + inputs["guidance"] * (with_labels - without)
                    scaled = (logits + inputs["bias"][book]) * inputs["inverse_temperature"]
                    if with_filter:
                        scaled = keep_likeliest(scaled, inputs["top_k"], inputs["top_p"])
                    drawn = pick(ops.softmax(scaled), u[:, book])
                    code = ops.where(prescribed[:, book] < 0, drawn, prescribed[:, book])
                    scores.append(ops.take_along_axis(ops.log_softmax(scaled),
                                                      code[:, None], axis=-1)[:, 0])
                    return ops.concatenate([code, code]) if guided else code

                frames = ops.concatenate([previous, previous]) if guided else previous
                frame, state = generator.core.step(frames, frame_context, list(state), draw)
                if guided:
                    frame = ops.split(frame, 2)[0]
                codes = ops.where(rows == i, frame, codes)
                log_probs = ops.where(rows == i, ops.stack(scores, axis=-1), log_probs)
                return i + 1, frame, codes, log_probs, *state

            first = (0, inputs["previous"], ops.zeros_like(us, dtype="int32"), ops.zeros_like(us))
            _, _, codes, log_probs, *state = ops.while_loop(lambda i, *_: i < steps, body,
                                                            (*first, *inputs["state"]))
            return codes, log_probs, state

    loop = Loop()
    loop.compile(jit_compile=False)
    return loop
