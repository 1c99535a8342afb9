"""A cache of the codes that each book of a frame changed to lately, mixed into what a core says
(Kuhn and De Mori 1990, "A cache-based natural language model for speech recognition").

Of a book whose code was p in the frame before, with r the counts of the codes that it changed to,
each frame's fading by e^(−1/frames), and λ = share·s/(s + doubt), s = Σ_{c≠p} r_c:

    P'(p) = P(p)        P'(c) = (1 − λ)·P(c) + λ·(1 − P(p))·r_c/s

So when a book changes stays the core's own; what it changes to is drawn from what was heard.
"""

from __future__ import annotations

import math

from keras import ops

from ..config import LEAST, Recent


def mix(config: Recent, logits, previous, counts):
    """Logits float32 [..., num_codes] of a book, its code in the frame before, int32 [...], and its
    counts float32 [..., num_codes] -> log-probabilities [..., num_codes].
    """
    before = ops.one_hot(previous, logits.shape[-1], dtype="float32")
    others = counts * (1 - before)
    seen = ops.sum(others, axis=-1, keepdims=True)
    weight = config.share / (seen + config.doubt)
    probs = ops.softmax(logits)
    leaves = ops.sum(probs * (1 - before), axis=-1, keepdims=True)
    kept = 1 - weight * seen * (1 - before)
    return ops.log(probs * kept + others * weight * leaves + LEAST)


def update(config: Recent, counts, previous, frame):
    """Counts float32 [..., books, num_codes] after a frame int32 [..., books] that came after
    `previous`.
    """
    changed = ops.cast(frame != previous, "float32")[..., None]
    new = ops.one_hot(frame, counts.shape[-1], dtype="float32")
    return math.exp(-1 / config.frames) * counts + new * changed


def count(config: Recent, previous, num_codes: int):
    """The counts before each frame, float32 [batch, T, books, num_codes], of windows of which
    `previous`, int32 [batch, T, books], holds the frame before each. They begin at zero.
    """
    batch, total, books = ops.shape(previous)
    earlier = ops.concatenate([previous[:, :1], previous[:, :-1]], axis=1)
    changes = ops.one_hot(previous, num_codes, dtype="float32")
    changes = changes * ops.cast(previous != earlier, "float32")[..., None]
    ages = ops.expand_dims(ops.arange(total), 1) - ops.arange(total)
    ages = ops.cast(ages, "float32")
    fading = ops.where(ages < 0, 0.0, ops.exp(ages * (-1 / config.frames)))
    counts = ops.matmul(fading, ops.reshape(changes, (batch, total, books * num_codes)))
    return ops.reshape(counts, (batch, total, books, num_codes))
