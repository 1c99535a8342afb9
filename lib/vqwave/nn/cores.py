"""Cores: P(frame_t | frame_<t, conditions), one class for each kind of the config's `core`.

What every core offers: `call`, teacher-forced over whole windows; `step`, the same numbers one
position at a time; `start_inputs` and `start_outputs`, which take over what codebooks know before
training. `Core` has them for a stack of layers. A core's config says the shapes of its states; its
step in ONNX is in `onnx/bodies.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ..config import (
    FAR,
    NORM_EPSILON,
    QUIETNESS,
    Config,
    GeneratorConfig,
    LSTMCore,
    PixelCNNCore,
    TransformerCore,
    WaveNetCore,
)
from .attention import Sinks, attend_to_ring, attend_to_window
from .conditions import FrameEmbedding
from .layers import gelu
from .recurrence import LSTM

REPEAT = 6.0
"""What stands for the code before at first: among 256 codes, that it stays in two frames of three.
"""


class BooksInOrder:
    """The books of a frame, each from the state h and the books before it.

    Book 0 has its logits from h. Book k knows the books before it in its frame:
        logits_k = W_k·gelu(P_k·h + Σ_{j<k} V_j[code_j]) + b_k

    With `repeats` the later books know which of those before them changed: the sum has u_j besides
    where code_j is another than in the frame before.

    What a class in `DRAWINGS` offers:
        CLASS(config): config is the generator's. layers: every layer it has, built by
            `build(width)` for h of that width. outputs: the `Outputs` of its books, in order.
        logits(h, previous, code): see `BooksInOrder.logits`.
    """

    def __init__(self, config: GeneratorConfig):
        core, self.config = config.core, config
        later = range(1, config.books)
        self.first, *self.later = [Outputs(config, 1, f"logits_{k}" if k else "logits")
                                   for k in range(config.books)]
        self.outputs = [self.first, *self.later]
        self.from_state = [layers.Dense(core.head_dim, name=f"state_{k}") for k in later]
        self.from_books = [layers.Embedding(config.num_codes, core.head_dim, name=f"before_{k}")
                           for k in later]
        self.from_changes = [layers.Embedding(2, core.head_dim, name=f"changed_{k}")
                             for k in later if core.repeats]
        self.layers = [*self.outputs, *self.from_state, *self.from_books, *self.from_changes]

    def build(self, width: int):
        self.first.build((None, None, width))
        for state, before, logits in zip(self.from_state, self.from_books, self.later, strict=True):
            state.build((None, None, width))
            before.build((None, None))
            logits.build((None, None, self.config.core.head_dim))
        for changed in self.from_changes:
            changed.build((None, None))

    def logits(self, h, previous, code):
        """The logits of each book in order, float32 [..., num_codes].

        Args:
            h: the core's features, [..., width]; previous: int32 [..., books].
            code: (book, its logits) -> the code int32 [...] that those after it see.
        """
        before, last = 0.0, self.config.books - 1
        for k, layer in enumerate(self.outputs):
            features = gelu(self.from_state[k - 1](h) + before) if k else h
            logits = point(self.config, layer(features), previous[..., k])
            yield logits
            if k == last:
                return
            chosen = code(k, logits)
            before = before + self.from_books[k](chosen)
            if self.from_changes:
                before = (before
                          + self.from_changes[k](ops.cast(chosen != previous[..., k], "int32")))


class BooksTogether:
    """The books of a frame, all from the state h: logits = W·h + b."""

    def __init__(self, config: GeneratorConfig):
        self.config = config
        self.all = Outputs(config, config.books, "logits")
        self.layers = self.outputs = [self.all]

    def build(self, width: int):
        self.all.build((None, None, width))

    def logits(self, h, previous, code):
        """As `BooksInOrder.logits`; `code` is not asked."""
        outputs = self.all(h)
        outputs = ops.reshape(outputs, (*ops.shape(h)[:-1], self.config.books, -1))
        logits = point(self.config, outputs, previous)
        for k in range(self.config.books):
            yield logits[..., k, :]


class BooksOnGrid:
    """The horizontal stack of a gated PixelCNN, whose vertical one is `PixelCNNStack`: the books of
    a frame in order. Of layer i and book k, with v_i the vertical stack's features:

        z = gated(A_i·[g_i,k−n … g_i,k] + v_i,k)        g_{i+1},k = g_i,k + M_i·z

    where g_0,k is an embedding of the code of book k − 1, zeros for the first book, and n half of
    kernel_books. The logits of book k come from gelu(H·g_last,k). As each book knows what all
    before it in its frame know, there is no blind spot.
    """

    def __init__(self, config: GeneratorConfig):
        core, self.config = config.core, config
        count, later = len(core.dilations), range(1, config.books)
        self.from_books = [layers.Embedding(config.num_codes, core.channels, name=f"before_{k}")
                           for k in later]
        self.from_changes = [layers.Embedding(2, core.channels, name=f"changed_{k}")
                             for k in later if core.repeats]
        self.across = [layers.Dense(2 * core.channels, name=f"across_{i}") for i in range(count)]
        self.mixes = [layers.Dense(core.channels, name=f"mix_{i}") for i in range(count)]
        self.hidden = layers.Dense(core.head_dim, name="hidden")
        self.outputs = [Outputs(config, 1, f"logits_{k}" if k else "logits")
                        for k in range(config.books)]
        self.layers = [*self.from_books, *self.from_changes, *self.across, *self.mixes, self.hidden,
                       *self.outputs]

    def build(self, width: int):
        core = self.config.core
        for table in (*self.from_books, *self.from_changes):
            table.build((None, None))
        seen = (core.kernel_books // 2 + 1) * core.channels
        for across, mix in zip(self.across, self.mixes, strict=True):
            across.build((None, None, seen))
            mix.build((None, None, core.channels))
        self.hidden.build((None, None, core.channels))
        for layer in self.outputs:
            layer.build((None, None, core.head_dim))

    def logits(self, h, previous, code):
        """As `BooksInOrder.logits`; h: [..., books, layers·2·channels]."""
        core, last = self.config.core, self.config.books - 1
        links = ops.split(h, len(self.across), axis=-1)
        x = ops.zeros_like(h[..., 0, : core.channels])
        seen = core.kernel_books // 2 + 1
        rows = [[x] * (seen - 1) for _ in self.across]
        for k, layer in enumerate(self.outputs):
            for row, link, across, mix in zip(rows, links, self.across, self.mixes, strict=True):
                row.append(x)
                z = across(ops.concatenate(row[-seen:], axis=-1))
                x = x + mix(gated(z + link[..., k, :]))
            logits = point(self.config, layer(gelu(self.hidden(x))), previous[..., k])
            yield logits
            if k == last:
                return
            chosen = code(k, logits)
            x = self.from_books[k](chosen)
            if self.from_changes:
                changed = ops.cast(chosen != previous[..., k], "int32")
                x = x + self.from_changes[k](changed)


DRAWINGS: dict[str, Any] = {"in_order": BooksInOrder, "together": BooksTogether}
"""The class of each way of drawing the books of a frame, as a core's `drawing` names it."""


class Outputs(layers.Dense):
    """The last layer of so many books. Logits and the softmax over them stay in float32 under mixed
    precision.

    With `quiet_cost` codes of quiet music are less likely than they were in training:

        y = W·x + b − quiet_cost·quiet        (training: W·x + b)

    quiet, float32 [units], is a variable that is not trained, zeros at first; see
    `data.loudness.quietness`.
    """

    def __init__(self, config: GeneratorConfig, books: int, name: str):
        count, repeats = config.num_codes, config.core.repeats
        bias = np.tile(np.append(np.zeros(count, "float32"), REPEAT)[: count + repeats], books)
        super().__init__(len(bias), dtype="float32", name=name,
                         bias_initializer=lambda shape, dtype=None:
                         ops.convert_to_tensor(bias, dtype))
        self.cost, self.books = config.core.quiet_cost, books

    def build(self, input_shape):
        super().build(input_shape)
        if self.cost:
            self.quiet = self.add_weight(shape=(self.units,), initializer="zeros", trainable=False,
                                         name=QUIETNESS)

    def call(self, inputs, training=None):
        outputs = super().call(inputs, training=training)
        return outputs if training or not self.cost else outputs - self.cost * self.quiet

    def set_quiet(self, quiet: np.ndarray):
        """See `Core.set_quiet`; float32 [its books, num_codes]."""
        self.quiet.assign(np.concatenate([self.widen(book) for book in quiet]))

    def widen(self, values: np.ndarray) -> np.ndarray:
        """[..., num_codes] of a book -> [..., its outputs], zeros for that of staying."""
        extra = self.units // self.books - values.shape[-1]
        return np.pad(values, [*[(0, 0)] * (values.ndim - 1), (0, extra)])


def point(config: GeneratorConfig, outputs, previous):
    """What an `Outputs` makes for a book, [..., num_codes or one more], and its code in the
    frame before, int32 [...] -> logits [..., num_codes].
    """
    count = config.num_codes
    if not config.core.repeats:
        return outputs
    # The start token is no code: nothing is added then.
    return outputs[..., :count] + outputs[..., count:] * ops.one_hot(previous, count,
                                                                     dtype="float32")


class Core(keras.Model):
    """What all cores share: embedded frames and context go in, and the books of a frame are drawn
    from the features that a stack of layers makes of them, see `DRAWINGS`.

    With `repeats` one more output of each book is added to the logit of the code that it had in the
    frame before, as a pointer to it (after Merity et al. 2016, "Pointer sentinel mixture models").

    A core of its own offers:
        build_stack(width): make and build its layers for inputs of this width; the width of its
            features.
        stack(x, training): [batch, T, width in] -> features [batch, T, width out], each from what
            stands up to there.
        advance(x, state): the same for one position, [batch, width in], from a list of float32
            [batch, …] as the config's `states` names them -> (features [batch, width out], the new
            list).
    """

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(name="generator", **kwargs)
        core, self.config = config.core, config
        self.embedding = FrameEmbedding(config.books, config.num_codes,
                                        core.embedding_dim, "concatenate",
                                        name="embedding")
        self.input_dropout = layers.Dropout(core.input_dropout,
                                            noise_shape=(None, None, None, 1), name="input_dropout")
        self.embedding.build((None, None, config.books))
        width = self.build_stack(config.books * core.embedding_dim + config.context_channels)
        self.books = self.make_books()
        self.book_layers = self.books.layers
        self.books.build(width)
        self.built = True

    def build_stack(self, width: int) -> int:
        raise NotImplementedError

    def make_books(self):
        """What draws the books of a frame from the features, as those in `DRAWINGS` do."""
        return DRAWINGS[self.config.core.drawing](self.config)

    def stack(self, x, training=False):
        raise NotImplementedError

    def advance(self, x, state: list):
        raise NotImplementedError

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
        left = list(codebooks)
        for layer in self.books.outputs:
            inputs, units = layer.kernel.shape
            scale, kernels = (2.0 / (inputs + units // layer.books)) ** 0.5, []
            for _ in range(layer.books):
                book = left.pop(0)
                unit = book / (np.linalg.norm(book, axis=1, keepdims=True) + 1e-6)
                kernel = random.normal(0, scale, (inputs, unit.shape[1])) @ unit.T
                kernels.append(layer.widen(kernel))
            layer.kernel.assign(np.concatenate(kernels, axis=1))

    def set_quiet(self, quiet: np.ndarray):
        """How quiet the music is that each code stands in, of a core with `quiet_cost`: dB, float32
        [books, num_codes].
        """
        left = quiet
        for layer in self.books.outputs:
            layer.set_quiet(left[: layer.books])
            left = left[layer.books :]

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
        x = self.stack(self._join(previous, context, training), training)
        known = self.books.logits(x, previous, lambda k, logits: current[..., k])
        return ops.stack(list(known), axis=-2)

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
        x, state = self.advance(x, state)
        codes = []
        for k, logits in enumerate(self.books.logits(x, previous, lambda k, logits: codes[k])):
            codes.append(draw(k, logits))
        return ops.stack(codes, axis=-1), state


class LSTMStack(Core):
    """A stack of LSTMs; the features are the output of the last layer."""

    def build_stack(self, width):
        core = self.config.core
        self.lstms, self.dropouts = [], []
        for i in range(core.layers):
            self.lstms.append(LSTM(core.units, return_sequences=True, name=f"lstm_{i}"))
            self.lstms[-1].build((None, None, width))
            if core.dropout:
                self.dropouts.append(layers.Dropout(core.dropout, name=f"dropout_{i}"))
            width = core.units
        return width

    def stack(self, x, training=False):
        for i, lstm in enumerate(self.lstms):
            x = lstm(x, training=training)
            if self.dropouts:
                x = self.dropouts[i](x, training=training)
        return x

    def advance(self, x, state):
        new_state = []
        for i, lstm in enumerate(self.lstms):
            x, layer_state = lstm.cell(x, state[2 * i : 2 * i + 2])
            new_state.extend(layer_state)
        return x, new_state


class QueuedStack(Core):
    """Layers that each see some frames before their own, at a distance of `dilations`. A step takes
    them from a queue a layer (Paine et al. 2016, "Fast WaveNet generation algorithm").

    A stack of its own offers, besides `build_stack`:
        taps: how many frames a layer sees, its own among them.
        _run_layers(x, seen, training): features of x; seen: (number of a layer, what it is given
            [..., width]) -> that and what it sees before it, [..., taps·width].
    """

    taps: int

    def stack(self, x, training=False):
        def seen(i, x):
            return shifted(x, self.taps, self.config.core.dilations[i])

        return self._run_layers(x, seen, training)

    def advance(self, x, state):
        dilations, new = self.config.core.dilations, []

        def seen(i, x):
            queue, x = state[i], ops.cast(x, "float32")
            new.append(ops.concatenate([queue[:, 1:], x[:, None]], axis=1))
            before = [queue[:, j * dilations[i]] for j in range(self.taps - 1)]
            return ops.concatenate([*before, x], axis=-1)

        return self._run_layers(x, seen), new

    def _run_layers(self, x, seen, training=False):
        raise NotImplementedError


class WaveNetStack(QueuedStack):
    """Gated dilated causal convolutions (van den Oord et al. 2016, "WaveNet"). Of layer i, which is
    given r_i and has the dilation d:

        z = tanh(F·[r_i,t−(k−1)d … r_i,t]) ⊙ σ(G·[the same])
        r_{i+1} = r_i + R·z        features = gelu(Σ_i S_i·z_i / √layers)

    Before a piece stand zeros. A step costs one product for each of the layers' matrices.
    """

    def build_stack(self, width):
        core = self.config.core
        last, self.taps = len(core.dilations) - 1, core.kernel_size
        self.enter = dense(width, core.channels, "enter")
        self.gates = [dense(self.taps * core.channels, 2 * core.channels, f"gates_{i}")
                      for i in range(last + 1)]
        # Nothing sees the last layer's residual path.
        self.mixes = [dense(core.channels, core.skip_channels + core.channels * (i < last),
                            f"mix_{i}") for i in range(last + 1)]
        self.dropouts = [layers.Dropout(core.dropout, name=f"dropout_{i}")
                         for i in range(last + 1) if core.dropout]
        return core.skip_channels

    def _run_layers(self, x, seen, training=False):
        core, skips = self.config.core, 0.0
        x = self.enter(x)
        for i, (gates, mix) in enumerate(zip(self.gates, self.mixes, strict=True)):
            z = gated(gates(seen(i, x)))
            if self.dropouts:
                z = self.dropouts[i](z, training=training)
            z = mix(z)
            skips = skips + z[..., : core.skip_channels]
            if z.shape[-1] > core.skip_channels:
                x = x + z[..., core.skip_channels :]
        return gelu(skips * len(self.gates) ** -0.5)


class TransformerStack(Core):
    """Attention and two products in each layer, both added to what they are given, which is
    normalised before them; the features are the normalised last sum.

    No frame has a number: how far back another lies is told by what is taken off its score in head
    h of H, 2^(−8h/H) a frame (Press et al. 2022, "Train short, test long", ALiBi). See
    `attention.py`.
    """

    def build_stack(self, width):
        core = self.config.core
        width, self.enter = core.width, dense(width, core.width, "enter")
        self.attentions, self.feeds = [], []
        for i in range(core.layers):
            self.attentions.append((
                layer_norm(width, f"attention_norm_{i}"), dense(width, 3 * width, f"qkv_{i}"),
                Sinks(core.heads, core.sinks, width // core.heads, name=f"sinks_{i}")
                if core.sinks else None,
                dense(width, width, f"attended_{i}")))
            self.feeds.append((
                layer_norm(width, f"feed_norm_{i}"), dense(width, core.hidden_dim, f"expand_{i}"),
                dense(core.hidden_dim, width, f"contract_{i}")))
        self.norm = layer_norm(width, "norm")
        self.dropouts = [layers.Dropout(core.dropout, name=f"dropout_{i}")
                         for i in range(2 * core.layers) if core.dropout]
        return width

    def stack(self, x, training=False):
        core = self.config.core

        def attend(i, q, k, v):
            return attend_to_window(q, k, v, self.attentions[i][2], core.window)

        return self._run_layers(x, attend, training)

    def advance(self, x, state):
        core, new = self.config.core, []
        count = ops.cast(state[0], "int32")
        place = count % core.window
        slots = ops.arange(core.window, dtype="int32")
        here = ops.cast(slots == place, "float32")[:, None, :, None]
        age = ops.where(slots <= count, (count - slots) % core.window, FAR)

        def attend(i, q, k, v):
            rings = state[1 + 2 * i], state[2 + 2 * i]
            keys, values = (ring * (1 - here) + ops.cast(one[:, :, None], "float32") * here
                            for ring, one in zip(rings, (k, v), strict=True))
            new.extend((keys, values))
            return attend_to_ring(q, keys, values, self.attentions[i][2], age)

        x = self._run_layers(x, attend)
        last = 2 * core.window - 1
        count = ops.where(count == last, core.window, count + 1)
        return x, [ops.cast(count, "float32"), *new]

    def _run_layers(self, x, attend, training=False):
        """attend: (number of a layer, queries, keys, values [..., heads, width / heads]) -> [...,
        heads, width / heads].
        """
        def drop(number, x):
            return self.dropouts[number](x, training=training) if self.dropouts else x

        core, x = self.config.core, self.enter(x)
        for i in range(core.layers):
            norm, qkv, _, attended = self.attentions[i]
            q, k, v = (ops.reshape(part, (*ops.shape(part)[:-1], core.heads,
                                          core.width // core.heads))
                       for part in ops.split(qkv(norm(x)), 3, axis=-1))
            mixed = ops.reshape(attend(i, q, k, v), ops.shape(x))
            x = x + drop(2 * i, attended(mixed))
            norm, expand, contract = self.feeds[i]
            x = x + drop(2 * i + 1, contract(gelu(expand(norm(x)))))
        return self.norm(x)


class PixelCNNStack(QueuedStack):
    """The vertical stack of a gated PixelCNN (van den Oord et al. 2016, "Conditional image
    generation with PixelCNN decoders", figure 2) on the grid of frames and books: each code's
    features know all books of the frames before its own, and no code of its own frame.

    It walks over the frame before each, so that nothing of it is masked; dilations, and the sums of
    which each layer's input is one, let it see further back than its depth. `BooksOnGrid` is the
    horizontal stack. Features: what each layer of the one gives to the same layer of the other.
    """

    def build_stack(self, width):
        core = self.config.core
        count, self.taps = len(core.dilations), core.kernel_frames
        seen = self.taps * core.kernel_books * core.channels
        self.enter = dense(core.embedding_dim, core.channels, "enter")
        self.given = [dense(self.config.context_channels, self.config.books * core.channels,
                            "given")] if self.config.context_channels else []
        self.downs = [dense(seen, 2 * core.channels, f"down_{i}") for i in range(count)]
        self.links = [dense(core.channels, 2 * core.channels, f"link_{i}") for i in range(count)]
        self.dropouts = [layers.Dropout(core.dropout, name=f"dropout_{i}")
                         for i in range(count) if core.dropout]
        return 2 * core.channels * count

    def make_books(self):
        return BooksOnGrid(self.config)

    def _run_layers(self, x, seen, training=False):
        """x: [..., books·embedding_dim + context_channels]; what layers are given and see has an
        axis of books, [..., books, channels].
        """
        core, books = self.config.core, self.config.books
        wide, around = books * core.embedding_dim, core.kernel_books // 2
        shape = (*ops.shape(x)[:-1], books, -1)
        context = [ops.reshape(layer(x[..., wide:]), shape) for layer in self.given]
        x = sum(context, self.enter(ops.reshape(x[..., :wide], shape)))
        features = []
        for i, (down, link) in enumerate(zip(self.downs, self.links, strict=True)):
            taps = seen(i, x)
            taps = ops.pad(taps, [*[[0, 0]] * (len(x.shape) - 2), [around, around], [0, 0]])
            taps = ops.concatenate([taps[..., j : j + books, :] for j in range(core.kernel_books)],
                                   axis=-1)
            z = gated(down(taps))
            if self.dropouts:
                z = self.dropouts[i](z, training=training)
            features.append(link(z))
            x = x + z
        return ops.concatenate(features, axis=-1)


def gated(x):
    """[..., 2c] -> [..., c]: the first half through tanh, times the second through σ."""
    half = x.shape[-1] // 2
    return ops.tanh(x[..., :half]) * ops.sigmoid(x[..., half:])


def shifted(x, count: int, dilation: int):
    """[batch, T, …, c] -> [batch, T, …, count·c]: what stands at t − (count − 1)·dilation, …, t
    side by side, zeros before the first.
    """
    taps = [x]
    for _ in range(count - 1):
        before = [[0, 0], [dilation, 0], *[[0, 0]] * (len(x.shape) - 2)]
        taps.insert(0, ops.pad(taps[0], before)[:, : ops.shape(x)[1]])
    return ops.concatenate(taps, axis=-1)


def dense(inputs: int, units: int, name: str) -> layers.Dense:
    """A built layer, [..., inputs] -> [..., units]."""
    made = layers.Dense(units, name=name)
    made.build((None, None, inputs))
    return made


def layer_norm(width: int, name: str) -> layers.LayerNormalization:
    """A built layer that normalises the last axis, of this width (Ba et al. 2016)."""
    made = layers.LayerNormalization(epsilon=NORM_EPSILON, name=name)
    made.build((None, None, width))
    return made


CORES: dict[type[Config], Callable] = {LSTMCore: LSTMStack, WaveNetCore: WaveNetStack,
                                            TransformerCore: TransformerStack,
                                            PixelCNNCore: PixelCNNStack}
"""The class of each kind of core, made with the generator's config."""
