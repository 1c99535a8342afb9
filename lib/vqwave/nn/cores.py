"""Cores: P(frame_t | frame_<t, conditions), one class for each kind of `core` in the config, with
the interface of `Core`. The shapes of the states are in the config. The same step in ONNX is in
`onnx/bodies.py`.
"""

from typing import ClassVar

import numpy as np
from keras import layers, ops

from ..config import (
    HIDDEN_DISTANCE,
    NORM_EPSILON,
    GeneratorConfig,
)
from .attention import Sinks, attend_to_ring, attend_to_window
from .blocks import built, dense, gelu
from .code_heads import GridHeads, SequentialHeads, gated
from .conditions import FrameEmbedding
from .core_base import Core
from .lstm import LSTM
from .performer import FramesStack
from .roll import RollStack


class StackCore(Core):
    """The base class of most cores: embedded frames and context -> a stack of layers -> the books
    of a frame, see `code_heads.py`.

    A subclass implements:
        build_stack(width): make and build the layers for inputs of this width, and return the width
            of the features.
        stack(x, training): [batch, T, width in] -> causal features [batch, T, width out].
        advance(x, state): the same for one position [batch, width in], state a list of float32
            [batch, …] in the order of the config's `states` -> (features [batch, width out], the
            new state).
    """

    HEADS: ClassVar[type] = SequentialHeads
    """The class of the heads of the codebooks."""

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(config, **kwargs)
        core = config.core
        self.embedding = FrameEmbedding(config.books, config.num_codes, core.embedding_dim,
                                        "concatenate", name="embedding")
        self.input_dropout = layers.Dropout(core.input_dropout,
                                            noise_shape=(None, None, None, 1), name="input_dropout")
        self.embedding.build((None, None, config.books))
        width = self.build_stack(config.books * core.embedding_dim + config.context_channels)
        self.codebook_heads = self.HEADS(config, width)
        self.book_layers = self.codebook_heads.layers
        self.built = True

    def start_inputs(self, codebooks: list[np.ndarray], random: np.random.Generator):
        """Initialise the embedding of the previous frame, see `FrameEmbedding.start_from`."""
        self.embedding.start_from(codebooks, random)

    def start_outputs(self, codebooks: list[np.ndarray], random: np.random.Generator):
        """Initialise the output layers so that similar codes get similar logits: the product of a
        random projection of the features (Glorot's scale for one book) and the code vectors.
        """
        for layer, book in zip(self.codebook_heads.outputs, codebooks, strict=True):
            inputs, units = layer.kernel.shape
            unit = book / (np.linalg.norm(book, axis=1, keepdims=True) + 1e-6)
            scale = (2.0 / (inputs + units)) ** 0.5
            layer.kernel.assign(random.normal(0, scale, (inputs, unit.shape[1])) @ unit.T)

    def _join(self, previous, context, training=False):
        x = self.embedding(previous)
        if self.config.core.input_dropout:
            books = ops.reshape(x, (*ops.shape(x)[:-1], self.config.books, -1))
            x = ops.reshape(self.input_dropout(books, training=training), ops.shape(x))
        return x if context is None else ops.concatenate([x, ops.cast(context, x.dtype)], axis=-1)

    def call(self, previous, context=None, current=None, training=False):
        x = self.stack(self._join(previous, context, training), training)
        logits = self.codebook_heads.logits(x, lambda k, logits: current[..., k])
        return ops.stack(list(logits), axis=-2)

    def step(self, previous, context, state, draw):
        x = self._join(previous[:, None], None if context is None else context[:, None])[:, 0]
        x, state = self.advance(x, state)
        codes: list = []
        heads = self.codebook_heads.logits(x, lambda k, logits: codes[k])
        for k, logits in enumerate(heads):
            codes.append(draw(k, logits))
        return ops.stack(codes, axis=-1), state


class LSTMStack(StackCore):
    """A stack of LSTMs; the features are the output of the last layer."""

    def build_stack(self, width):
        core = self.config.core
        self.lstms, self.dropouts = [], []
        for i in range(core.layers):
            self.lstms.append(built(LSTM(core.units, return_sequences=True, name=f"lstm_{i}"),
                                    width))
            self.dropouts.append(layers.Dropout(core.dropout, name=f"dropout_{i}"))
            width = core.units
        return width

    def stack(self, x, training=False):
        for i, lstm in enumerate(self.lstms):
            x = self.dropouts[i](lstm(x, training=training), training=training)
        return x

    def advance(self, x, state):
        new_state = []
        for i, lstm in enumerate(self.lstms):
            x, layer_state = lstm.cell(x, state[2 * i : 2 * i + 2])
            new_state.extend(layer_state)
        return x, new_state


class QueuedStack(StackCore):
    """A stack of dilated causal layers. A step takes the earlier frames of each layer from a queue
    (Paine et al. 2016, "Fast WaveNet generation algorithm").

    A subclass has `taps`, the number of frames that a layer sees (with the current frame), and
    run_layers(x, with_past, training): the features of x. with_past: (index of a layer, its input
        [..., width]) -> the earlier frames and the input, [..., taps·width].
    """

    taps: int

    def stack(self, x, training=False):
        def with_past(i, x):
            return shifted(x, self.taps, self.config.core.dilations[i])

        return self.run_layers(x, with_past, training)

    def advance(self, x, state):
        dilations, new = self.config.core.dilations, []

        def with_past(i, x):
            queue, x = state[i], ops.cast(x, "float32")
            new.append(ops.concatenate([queue[:, 1:], x[:, None]], axis=1))
            before = [queue[:, j * dilations[i]] for j in range(self.taps - 1)]
            return ops.concatenate([*before, x], axis=-1)

        return self.run_layers(x, with_past), new


class WaveNetStack(QueuedStack):
    """Gated dilated causal convolutions (van den Oord et al. 2016, "WaveNet"). Layer i, with input
    r_i and dilation d:

        z = tanh(F·[r_i,t−(k−1)d … r_i,t]) ⊙ σ(G·[the same])
        r_{i+1} = r_i + R·z        features = gelu(Σ_i S_i·z_i / √layers)

    Frames before a piece are zero.
    """

    def build_stack(self, width):
        core = self.config.core
        last, self.taps = len(core.dilations) - 1, core.kernel_size
        self.enter = dense(width, core.channels, "enter")
        self.gates = [dense(self.taps * core.channels, 2 * core.channels, f"gates_{i}")
                      for i in range(last + 1)]
        # The last layer's residual path is not used.
        self.mixes = [dense(core.channels, core.skip_channels + core.channels * (i < last),
                            f"mix_{i}") for i in range(last + 1)]
        self.dropouts = [layers.Dropout(core.dropout, name=f"dropout_{i}") for i in range(last + 1)]
        return core.skip_channels

    def run_layers(self, x, with_past, training=False):
        core, skips = self.config.core, 0.0
        x = self.enter(x)
        for i, (gates, mix) in enumerate(zip(self.gates, self.mixes, strict=True)):
            z = mix(self.dropouts[i](gated(gates(with_past(i, x))), training=training))
            skips = skips + z[..., : core.skip_channels]
            if z.shape[-1] > core.skip_channels:
                x = x + z[..., core.skip_channels :]
        return gelu(skips * len(self.gates) ** -0.5)


class TransformerStack(StackCore):
    """A transformer with pre-normalisation: residual layers of attention (positions by ALiBi, see
    `attention.py`) and feed-forward networks. The features are the normalised output.
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
                         for i in range(2 * core.layers)]
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
        is_new = ops.cast(slots == place, "float32")[:, None, :, None]
        age = ops.where(slots <= count, (count - slots) % core.window, HIDDEN_DISTANCE)

        def attend(i, q, k, v):
            rings = state[1 + 2 * i], state[2 + 2 * i]
            keys, values = (ring * (1 - is_new) + ops.cast(new_row[:, :, None], "float32") * is_new
                            for ring, new_row in zip(rings, (k, v), strict=True))
            new.extend((keys, values))
            return attend_to_ring(q, keys, values, self.attentions[i][2], age)

        x = self._run_layers(x, attend)
        last = 2 * core.window - 1
        count = ops.where(count == last, core.window, count + 1)
        return x, [ops.cast(count, "float32"), *new]

    def _run_layers(self, x, attend, training=False):
        """attend: (index of a layer, queries, keys, values [..., heads, width / heads]) -> [...,
        heads, width / heads].
        """
        core, x = self.config.core, self.enter(x)
        for i in range(core.layers):
            norm, qkv, _, attended = self.attentions[i]
            q, k, v = (ops.reshape(part, (*ops.shape(part)[:-1], core.heads,
                                          core.width // core.heads))
                       for part in ops.split(qkv(norm(x)), 3, axis=-1))
            mixed = ops.reshape(attend(i, q, k, v), ops.shape(x))
            x = x + self.dropouts[2 * i](attended(mixed), training=training)
            norm, expand, contract = self.feeds[i]
            x = x + self.dropouts[2 * i + 1](contract(gelu(expand(norm(x)))), training=training)
        return self.norm(x)


class PixelCNNStack(QueuedStack):
    """The vertical stack of a gated PixelCNN (van den Oord et al. 2016, "Conditional image
    generation with PixelCNN decoders", figure 2) on the grid of frames and books. The features of a
    code depend on all books of the earlier frames, and on no code of its own frame.

    The input is the previous frame, so no mask is needed. The features go to each layer of the
    horizontal stack, `GridHeads`.
    """

    HEADS = GridHeads

    def build_stack(self, width):
        core = self.config.core
        count, self.taps = len(core.dilations), core.kernel_frames
        inputs = self.taps * core.kernel_books * core.channels
        self.enter = dense(core.embedding_dim, core.channels, "enter")
        context = self.config.context_channels
        self.context_layers = ([dense(context, self.config.books * core.channels, "given")]
                               if context else [])
        self.downs = [dense(inputs, 2 * core.channels, f"down_{i}") for i in range(count)]
        self.links = [dense(core.channels, 2 * core.channels, f"link_{i}") for i in range(count)]
        self.dropouts = [layers.Dropout(core.dropout, name=f"dropout_{i}") for i in range(count)]
        return 2 * core.channels * count

    def run_layers(self, x, with_past, training=False):
        """x: [..., books·embedding_dim + context_channels]. Inside, features are [..., books,
        channels].
        """
        core, books = self.config.core, self.config.books
        wide, around = books * core.embedding_dim, core.kernel_books // 2
        shape = (*ops.shape(x)[:-1], books, -1)
        context = [ops.reshape(layer(x[..., wide:]), shape) for layer in self.context_layers]
        x = sum(context, self.enter(ops.reshape(x[..., :wide], shape)))
        features = []
        for i, (down, link) in enumerate(zip(self.downs, self.links, strict=True)):
            taps = with_past(i, x)
            taps = ops.pad(taps, [*[[0, 0]] * (len(x.shape) - 2), [around, around], [0, 0]])
            taps = ops.concatenate([taps[..., j : j + books, :] for j in range(core.kernel_books)],
                                   axis=-1)
            z = self.dropouts[i](gated(down(taps)), training=training)
            features.append(link(z))
            x = x + z
        return ops.concatenate(features, axis=-1)


def shifted(x, count: int, dilation: int):
    """[batch, T, …, c] -> [batch, T, …, count·c]: the concatenated values at t − (count − 1) ·
    dilation, …, t, with zeros before the first step.
    """
    taps = [x]
    for _ in range(count - 1):
        before = [[0, 0], [dilation, 0], *[[0, 0]] * (len(x.shape) - 2)]
        taps.insert(0, ops.pad(taps[0], before)[:, : ops.shape(x)[1]])
    return ops.concatenate(taps, axis=-1)


def layer_norm(width: int, name: str) -> layers.LayerNormalization:
    """A built layer that normalises the last axis, of this width (Ba et al. 2016)."""
    return built(layers.LayerNormalization(epsilon=NORM_EPSILON, name=name), width)


CORES: dict[str, type[Core]] = {
    "lstm": LSTMStack, "wavenet": WaveNetStack, "transformer": TransformerStack,
    "pixelcnn": PixelCNNStack, "frames": FramesStack, "roll": RollStack,
}
"""The class of each kind of core, made with the generator's config."""
