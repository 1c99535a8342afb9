"""Cores: P(frame_t | frame_<t, conditions), one class for each kind of the config's `core`.

What every core offers: `call`, teacher-forced over whole windows; `step`, the same numbers one
position at a time; `start_inputs` and `start_outputs`, which take over what codebooks know before
training. Its config says the shapes of its states; its loop in ONNX is in `play/loops.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from ..config import Config, GeneratorConfig, LSTMCore
from .conditions import FrameEmbedding
from .layers import gelu
from .recurrence import LSTM


class LSTMStack(keras.Model):
    """Embedded frames and context through a stack of LSTMs; the books of a frame are drawn in
    order.

    Book 0 has its logits from the last LSTM's output h. Book k knows the books before it in its
        frame: logits_k = W_k·gelu(P_k·h + Σ_{j<k} V_j[code_j]) + b_k
    """

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(name="generator", **kwargs)
        core, self.config = config.core, config
        self.embedding = FrameEmbedding(config.books, config.num_codes, core.embedding_dim, "concatenate",
                                        name="embedding")
        self.lstms, self.dropouts = [], []
        for i in range(core.layers):
            self.lstms.append(LSTM(core.units, return_sequences=True, name=f"lstm_{i}"))
            if core.dropout:
                self.dropouts.append(layers.Dropout(core.dropout, name=f"dropout_{i}"))
        # Logits and the softmax over them stay in float32 under mixed precision.
        self.logits = layers.Dense(config.num_codes, dtype="float32", name="logits")
        later = range(1, config.books)
        self.from_state = [layers.Dense(core.head_dim, name=f"state_{k}") for k in later]
        self.from_books = [layers.Embedding(config.num_codes, core.head_dim, name=f"before_{k}") for k in later]
        self.later_logits = [layers.Dense(config.num_codes, dtype="float32", name=f"logits_{k}") for k in later]
        self._build()

    def _build(self):
        config, core = self.config, self.config.core
        self.embedding.build((None, None, config.books))
        width = config.books * core.embedding_dim + config.context_channels
        for lstm in self.lstms:
            lstm.build((None, None, width))
            width = core.units
        self.logits.build((None, None, width))
        for state, before, logits in zip(self.from_state, self.from_books, self.later_logits, strict=True):
            state.build((None, None, width))
            before.build((None, None))
            logits.build((None, None, core.head_dim))
        self.built = True

    def start_inputs(self, codebooks: list[np.ndarray], random: np.random.Generator):
        """Before training: embed each book's codes as their vectors, standardised float32
        [num_codes, code_dim], so that codes near each other are heard alike.
        """
        self.embedding.start_from(codebooks, random)

    def start_outputs(self, codebooks: list[np.ndarray], random: np.random.Generator):
        """Before training: make each book's logits its vectors' products with a random projection
        of the state, at the scale of Glorot's initialiser, so that codes near each other are
        predicted alike.
        """
        for layer, book in zip([self.logits, *self.later_logits], codebooks, strict=True):
            scale = (2.0 / sum(layer.kernel.shape)) ** 0.5
            unit = book / (np.linalg.norm(book, axis=1, keepdims=True) + 1e-6)
            layer.kernel.assign(random.normal(0, scale, (layer.kernel.shape[0], unit.shape[1])) @ unit.T)

    def _join(self, previous, context):
        x = self.embedding(previous)
        return x if context is None else ops.concatenate([x, ops.cast(context, x.dtype)], axis=-1)

    def call(self, previous, context=None, current=None, training=False):
        """Teacher-forced logits float32 [batch, T, books, num_codes].

        Args:
            previous: int32 [batch, T, books], the frame before each; `start_token` before a piece's
                first.
            context: float32 [batch, T, context_channels], or None without conditions.
            current: int32 [batch, T, books], the frames themselves, of which each book sees those
                before it; not used where there is one book.
        """
        x = self._join(previous, context)
        for i, lstm in enumerate(self.lstms):
            x = lstm(x, training=training)
            if self.dropouts:
                x = self.dropouts[i](x, training=training)
        logits, before = [self.logits(x)], 0.0
        for k in range(self.config.books - 1):
            before = before + self.from_books[k](current[..., k])
            logits.append(self.later_logits[k](gelu(self.from_state[k](x) + before)))
        return ops.stack(logits, axis=-2)

    def step(self, previous, context, state, draw):
        """One frame, for sampling.

        Args:
            previous: int32 [batch, books]; context: float32 [batch, context_channels] or None;
                state: a list of float32 [batch, …] as the config's `states` names them.
            draw: (book, logits float32 [batch, num_codes]) -> code int32 [batch], called for each
                book in order.

        Returns:
            The frame int32 [batch, books] and the new state.
        """
        x = self._join(previous[:, None], None if context is None else context[:, None])[:, 0]
        new = []
        for i, lstm in enumerate(self.lstms):
            x, hc = lstm.cell(x, state[2 * i : 2 * i + 2])
            new += list(hc)
        codes, before = [draw(0, self.logits(x))], 0.0
        for k in range(self.config.books - 1):
            before = before + self.from_books[k](codes[-1])
            codes.append(draw(k + 1, self.later_logits[k](gelu(self.from_state[k](x) + before))))
        return ops.stack(codes, axis=-1), new


CORES: dict[type[Config], Callable] = {LSTMCore: LSTMStack}
"""The class of each kind of core, made with the generator's config."""
