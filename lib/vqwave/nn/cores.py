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

REPEAT = 6.0
"""What stands for the code before at first: among 256 codes, that it stays in two frames of three.
"""


class LSTMStack(keras.Model):
    """Embedded frames and context through a stack of LSTMs; the books of a frame are drawn in
    order.

    Book 0 has its logits from the last LSTM's output h. Book k knows the books before it in its
        frame: logits_k = W_k·gelu(P_k·h + Σ_{j<k} V_j[code_j]) + b_k

    With `repeats` one more output s_k of each book is added to the logit of the code that it had in
    the frame before, as a pointer to it (after Merity et al. 2016, "Pointer sentinel mixture
    models"), and the later books know which of those before them changed: the sum has u_j besides
    where code_j is another than before.
    """

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(name="generator", **kwargs)
        core, self.config = config.core, config
        self.embedding = FrameEmbedding(config.books, config.num_codes,
                                        core.embedding_dim, "concatenate",
                                        name="embedding")
        self.input_dropout = layers.Dropout(core.input_dropout,
                                            noise_shape=(None, None, None, 1), name="input_dropout")
        self.lstms, self.dropouts = [], []
        for i in range(core.layers):
            self.lstms.append(LSTM(core.units, return_sequences=True, name=f"lstm_{i}"))
            if core.dropout:
                self.dropouts.append(layers.Dropout(core.dropout, name=f"dropout_{i}"))
        later = range(1, config.books)
        self.logits, *self.later_logits = [self._outputs(f"logits_{k}" if k else "logits")
                                           for k in range(config.books)]
        self.from_state = [layers.Dense(core.head_dim, name=f"state_{k}") for k in later]
        self.from_books = [layers.Embedding(config.num_codes, core.head_dim, name=f"before_{k}")
                           for k in later]
        self.from_changes = [layers.Embedding(2, core.head_dim, name=f"changed_{k}")
                             for k in later if core.repeats]
        self._build()

    def _outputs(self, name: str):
        """The last layer of a book. Logits and the softmax over them stay in float32 under mixed
        precision.
        """
        count, repeats = self.config.num_codes, self.config.core.repeats
        bias = np.append(np.zeros(count, "float32"), REPEAT)[: count + repeats]
        return layers.Dense(count + repeats, dtype="float32", name=name,
                            bias_initializer=lambda shape, dtype=None:
                            ops.convert_to_tensor(bias, dtype))

    def _build(self):
        config, core = self.config, self.config.core
        self.embedding.build((None, None, config.books))
        width = config.books * core.embedding_dim + config.context_channels
        for lstm in self.lstms:
            lstm.build((None, None, width))
            width = core.units
        self.logits.build((None, None, width))
        for state, before, logits in zip(self.from_state, self.from_books,
                                         self.later_logits, strict=True):
            state.build((None, None, width))
            before.build((None, None))
            logits.build((None, None, core.head_dim))
        for changed in self.from_changes:
            changed.build((None, None))
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
            kernel = random.normal(0, scale, (layer.kernel.shape[0], unit.shape[1])) @ unit.T
            layer.kernel.assign(np.pad(kernel, ((0, 0), (0, layer.units - len(unit)))))

    def _join(self, previous, context, training=False):
        x = self.embedding(previous)
        if self.config.core.input_dropout:
            books = ops.reshape(x, (*ops.shape(x)[:-1], self.config.books, -1))
            x = ops.reshape(self.input_dropout(books, training=training), ops.shape(x))
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
        x = self._join(previous, context, training)
        for i, lstm in enumerate(self.lstms):
            x = lstm(x, training=training)
            if self.dropouts:
                x = self.dropouts[i](x, training=training)
        return ops.stack(list(self._books(x, previous, lambda k, logits: current[..., k])), axis=-2)

    def _books(self, x, previous, code):
        """The logits of each book in order, float32 [..., num_codes].

        Args:
            x: the last LSTM's output, [..., units]; previous: int32 [..., books].
            code: (book, its logits) -> the code int32 [...] that those after it see.
        """
        before, last = 0.0, self.config.books - 1
        for k, layer in enumerate([self.logits, *self.later_logits]):
            features = gelu(self.from_state[k - 1](x) + before) if k else x
            logits = self._point(layer(features), previous[..., k])
            yield logits
            if k == last:
                return
            chosen = code(k, logits)
            before = before + self.from_books[k](chosen)
            if self.from_changes:
                before = (before
                          + self.from_changes[k](ops.cast(chosen != previous[..., k], "int32")))

    def _point(self, outputs, previous):
        """A book's outputs, and its code in the frame before, int32 [...] -> its logits."""
        count = self.config.num_codes
        if not self.config.core.repeats:
            return outputs
        # The start token is no code: nothing is added then.
        return (outputs[..., :count] + outputs[..., count:]
                * ops.one_hot(previous, count, dtype="float32"))

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
        codes = []

        def choose(k, logits):
            codes.append(draw(k, logits))
            return codes[-1]

        *_, last = self._books(x, previous, choose)
        choose(self.config.books - 1, last)
        return ops.stack(codes, axis=-1), new


CORES: dict[type[Config], Callable] = {LSTMCore: LSTMStack}
"""The class of each kind of core, made with the generator's config."""
