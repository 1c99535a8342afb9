"""Logits to codes: randomness by position, temperature, top-k, top-p, greedy; and the Keras reference loop.

One order everywhere (here in numpy, in the Keras loop, in the ONNX loop of `export.py`): logits / temperature, top-k,
top-p over what is left, then the inverse of the cumulative distribution in the codes' own order.
"""

from __future__ import annotations

import numpy as np


def uniforms(seed: int, stream: int, level: int, start: int, count: int) -> np.ndarray:
    """The random numbers of steps `start` … `start + count - 1`: float32 [count] in [0, 1), multiples of 2^-24.

    A function of (seed, stream, level, step) and nothing else: Philox-4x64 (Salmon et al. 2011) keyed by the seed, its
    counter holding step, stream and level. seed: 0 … 2^128 - 1; stream, level, start: from 0. Errors: `ValueError`.
    """
    if not 0 <= seed < 1 << 128:
        raise ValueError(f"seed is {seed}; it must be at least 0 and less than 2^128")
    if min(stream, level, start, count) < 0:
        raise ValueError(f"stream, level, start and count must not be negative: {stream}, {level}, {start}, {count}")
    # Each counter value gives four 64-bit words, that is eight numbers.
    first, skip = divmod(start, 8)
    words = np.random.Philox(key=seed, counter=[first, stream, level, 0]).random_raw(4 * (-(-(skip + count) // 8)))
    # Little-endian on every machine, so that the same seed is the same music.
    halves = words.astype("<u8", copy=False).view("<u4")[skip : skip + count]
    return (halves >> 8).astype(np.float32) * np.float32(2.0**-24)


def filtered(scaled: np.ndarray, top_k: int, top_p: float) -> np.ndarray:
    """Logits float32 [..., codes], already divided by the temperature, with -inf for what top-k and top-p leave out.

    top_k keeps exactly that many (0: all), the lower code where two tie; top_p the smallest set of the likeliest of
    those whose share of their probability reaches it (1: all).
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


def settings(temperature: float, top_k: int, top_p: float) -> tuple[float, int, float]:
    """(1 / temperature, top_k, top_p) as the loops take them; temperature 0 is top-k 1. Errors: `ValueError`."""
    if not (np.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature is {temperature}; it must be at least 0")
    if top_k < 0:
        raise ValueError(f"top_k is {top_k}; it must be at least 0")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; it must lie in (0, 1]")
    return (1.0, 1, 1.0) if temperature == 0 else (1.0 / temperature, int(top_k), float(top_p))


def distribution(logits, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> np.ndarray:
    """The probabilities that codes are drawn from: logits float32 [..., codes] -> float32 of the same shape."""
    inverse, top_k, top_p = settings(temperature, top_k, top_p)
    scaled = np.asarray(logits, np.float32) * np.float32(inverse)
    if top_k or top_p < 1:
        scaled = filtered(scaled, top_k, top_p)
    weights = np.exp(scaled - scaled.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def pick(weights, u) -> np.ndarray:
    """The first code whose cumulative sum exceeds u of the whole: float32 [..., codes], [...] in [0, 1) -> int32 [...].

    `weights` need no normalising. u times the last sum is always less than that sum in float32 (u is at most
    1 - 2^-24), so a code is always found and never one of probability 0.
    """
    reached = np.cumsum(weights, -1, dtype=np.float32)
    threshold = reached[..., -1] * np.asarray(u, np.float32)
    return (reached <= threshold[..., None]).sum(-1).astype(np.int32)


def keras_loop(generator, with_filter: bool):
    """The reference: a Keras model that samples a whole chunk in one compiled `ops.while_loop`, float32.

    Called through `predict_on_batch` with a dict: uniforms [n, B], context [n, B, C] (none at the top), previous int32
    [B], forced int32 [n, B] (-1: sample), inverse_temperature, top_k int64 and top_p (each [1]), state: list of
    [B, units]. Returns (codes int32 [n, B], log_probs [n, B], state). Without `with_filter` top_k and top_p are not
    looked at, and nothing is sorted.
    """
    import keras
    from keras import ops

    num_codes = generator.config.num_codes

    def keep_likeliest(scaled, top_k, top_p):
        ranked, order = ops.top_k(scaled, num_codes)  # the lower index first where two tie
        within_k = ops.arange(num_codes) < ops.cast(ops.where(top_k > 0, top_k, num_codes), "int32")
        weights = ops.where(within_k, ops.exp(ranked - ranked[:, :1]), 0.0)
        reached = ops.cumsum(weights, axis=-1)
        before = ops.pad(reached[:, :-1], ((0, 0), (1, 0)))
        share = ops.where(top_p < 1, top_p, 2.0)
        keep = ops.logical_and(within_k, before < share * reached[:, -1:])
        kept = ops.where(keep, ranked, -float("inf"))
        return ops.take_along_axis(kept, ops.argsort(order, axis=-1), axis=-1)

    class Loop(keras.Model):
        def __init__(self):
            super().__init__(name="sampling")
            self.generator = generator
            self.built = True

        def call(self, inputs):
            us, forced = inputs["uniforms"], inputs["forced"]
            context = inputs.get("context")
            steps, batch = ops.shape(us)[0], ops.shape(us)[1]
            rows = ops.expand_dims(ops.arange(steps), 1)

            def body(i, previous, codes, log_probs, *state):
                at = None if context is None else ops.take(context, i, axis=0)
                logits, state = generator.step(previous, at, state)
                scaled = logits * inputs["inverse_temperature"]
                if with_filter:
                    scaled = keep_likeliest(scaled, inputs["top_k"], inputs["top_p"])
                reached = ops.cumsum(ops.softmax(scaled), axis=-1)
                threshold = reached[:, -1:] * ops.expand_dims(ops.take(us, i, axis=0), 1)
                drawn = ops.sum(ops.cast(reached <= threshold, "int32"), axis=-1)
                given = ops.take(forced, i, axis=0)
                code = ops.where(given < 0, drawn, given)
                chosen = ops.take_along_axis(ops.log_softmax(scaled), ops.expand_dims(code, 1), axis=-1)
                codes = ops.where(rows == i, code, codes)
                log_probs = ops.where(rows == i, chosen[:, 0], log_probs)
                return i + 1, code, codes, log_probs, *state

            first = (0, inputs["previous"], ops.zeros((steps, batch), "int32"), ops.zeros((steps, batch)))
            _, _, codes, log_probs, *state = ops.while_loop(
                lambda i, *_: i < steps, body, (*first, *inputs["state"]), maximum_iterations=None
            )
            return codes, log_probs, state

    loop = Loop()
    loop.compile(jit_compile=False)
    return loop
