"""What every core offers: P(frame_t | frame_<t, conditions). The shapes of the states are in the
config. `export/step.py` turns `step` into a graph of ONNX.
"""

from typing import ClassVar

import keras
import numpy as np
from keras import layers, ops

from .code_heads_layer import SequentialHeads
from .embedding_layer import FrameEmbedding
from .generator import GeneratorConfig
from .losses_layer import code_compile_options


class Core(keras.Model):
    """The interface of a core, made with the generator's config.

    `step` is exported as it stands. So it uses the layers and operations that `export/step.py`
    converts: `ops.equal` instead of ==, and `ops.shape` only for a `reshape`. If it draws
    `logits[:, k]` of one tensor for each book k, all books are drawn together.
    """

    jacobi: ClassVar[bool] = False
    """Whether the books of a frame are drawn in passes (`LoopBuilder._passes`), with the methods
    advance(previous, state) -> (features, the new state) and frame_logits(features, codes).
    """
    compile_options = staticmethod(code_compile_options)

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(name="generator", **kwargs)
        self.config = config

    def start_inputs(self, codebooks: list[np.ndarray], random: np.random.Generator):
        """Initialise the embedding of the previous frame, if the core has one."""

    def start_outputs(self, codebooks: list[np.ndarray], random: np.random.Generator):
        """Initialise the output layers from the codebooks, if there are codebooks."""

    def call(self, previous, context=None, current=None, training=False):
        """Teacher-forced logits float32 [batch, T, books, num_codes].

        Args:
            previous: int32 [batch, T, books], the previous frames; `start_token` before the first.
            context: float32 [batch, T, context_channels], or None without conditions.
            current: int32 [batch, T, books], the frames themselves, for the later books of a frame.
        """
        raise NotImplementedError

    def step(self, previous, context, state, draw):
        """One frame, for sampling.

        Args:
            previous: int32 [batch, books]; context: float32 [batch, context_channels] or None;
                state: a list of float32 [batch, …] in the order of the config's `states`.
            draw: (book, logits float32 [batch, num_codes]) -> code int32 [batch], called for each
                book in order.

        The `step` of a performer takes the argument `uniforms` as well, float32 [batch, books]: the
        draws of its noise.

        Returns:
            The frame int32 [batch, books] and the new state.
        """
        raise NotImplementedError


class StackCore(Core):
    """The base class of most cores: embedded frames and context -> a stack of layers -> the books
    of a frame, see `code_heads_layer.py`.

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
        if training and self.config.core.input_dropout:
            books = ops.reshape(x, (*ops.shape(x)[:-1], self.config.books, -1))
            x = ops.reshape(self.input_dropout(books, training=training), ops.shape(x))
        return x if context is None else ops.concatenate([x, ops.cast(context, x.dtype)], axis=-1)

    def call(self, previous, context=None, current=None, training=False):
        x = self.stack(self._join(previous, context, training), training)
        logits = self.codebook_heads.logits(x, lambda k, logits: current[..., k])
        return ops.stack(list(logits), axis=-2)

    def step(self, previous, context, state, draw):
        x, state = self.advance(self._join(previous, context), state)
        codes: list = []
        heads = self.codebook_heads.logits(x, lambda k, logits: codes[k])
        for k, logits in enumerate(heads):
            codes.append(draw(k, logits))
        return ops.stack(codes, axis=-1), state


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


def shifted(x, count: int, dilation: int):
    """[batch, T, …, c] -> [batch, T, …, count·c]: the concatenated values at t − (count − 1) ·
    dilation, …, t, with zeros before the first step.
    """
    taps = [x]
    for _ in range(count - 1):
        before = [[0, 0], [dilation, 0], *[[0, 0]] * (len(x.shape) - 2)]
        taps.insert(0, ops.pad(taps[0], before)[:, : ops.shape(x)[1]])
    return ops.concatenate(taps, axis=-1)
