"""A performer: all frames of a level at once, from its conditions and noise; and its critic."""

import keras
import numpy as np
import scipy.signal
from keras import layers, ops

from ..codecs.adversary_layer import GAMES, losses_of_one
from ..codecs.blocks_layer import Conv, dense
from ..levels.kinds import layer_for
from .cores_layer import Core
from .generator import GeneratorConfig
from .losses_layer import vector_compile_options
from .performer import GAIN_WEIGHT, VECTOR_SCALE, PerformerCore


class NearestCodes(layers.Layer):
    """Vectors [..., books, dim] -> logits float32 [..., books, codes]: −weight·|vector − code|².

    codebook: float32 [books, codes, dim], of the codec. weight: float32 [books].
    """

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.codebook = self.add_weight(
            shape=(config.books, config.num_codes, config.core.code_dim), initializer="zeros",
            trainable=False, name="codebook")
        self.weight = self.add_weight(shape=(config.books,), initializer="ones", trainable=False,
                                      name="weight")
        self.built = True

    def start_from(self, codebooks: list[np.ndarray]):
        """codebooks: of each book, standardised float32 [codes, dim or less]."""
        width = self.codebook.shape[-1]
        self.codebook.assign(np.stack([np.pad(book, ((0, 0), (0, width - book.shape[1])))
                                       for book in codebooks]))
        self.weight.assign([max(1.0, GAIN_WEIGHT / book.shape[1]) for book in codebooks])

    def call(self, vectors):
        vectors, weight = ops.cast(vectors, "float32"), self.weight[:, None]
        products = ops.einsum("...kd,kcd->...kc", vectors, self.codebook)
        squares = ops.sum(vectors**2, axis=-1, keepdims=True)
        return weight * (2 * products - squares - ops.sum(self.codebook**2, axis=-1))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.codebook.shape[1])


@layer_for(PerformerCore)
class Performer(Core):
    """The performer: the core of kind `frames`."""

    compile_options = staticmethod(vector_compile_options)

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(config, **kwargs)
        core = config.core
        self.hidden = dense(config.context_channels + config.books, core.head_dim, "hidden")
        self.dropout = layers.Dropout(core.dropout)
        self.vectors = dense(core.head_dim, config.books * core.code_dim, "vectors")
        self.nearest = NearestCodes(config, name="nearest")
        self.kept, self.draw_scale = core.kept(config.books), core.draw_scale(config.books)
        self.seeds = keras.random.SeedGenerator()
        self.built = True

    def start_outputs(self, codebooks: list[np.ndarray],
                      random: np.random.Generator | None = None):
        """Take the codebooks."""
        self.nearest.start_from(codebooks)

    def call(self, previous, context, current=None, training=False):
        """Logits float32 [batch, T, books, codes], from the context and, in training, noise; see
        `Core.call`.
        """
        shape = (*ops.shape(context)[:2], self.config.books)
        draws = (keras.random.uniform(shape, -0.5, 0.5, seed=self.seeds) if training
                 else ops.zeros(shape))
        vectors = self.perform(context, self.noise(draws), training)
        self.last_vectors = ops.cast(vectors, "float32")
        return self.nearest(self.last_vectors)

    def vectors_of(self, codes):
        """The codes' vectors: int32 [batch, T, books] -> float32 [batch, T, books, dim]."""
        book = ops.arange(self.config.books) * self.config.num_codes
        table = ops.reshape(ops.cast(self.nearest.codebook, "float32"),
                            (-1, self.config.core.code_dim))
        return ops.take(table, codes + ops.cast(book, codes.dtype), axis=0)

    def perform(self, context, noise, training=False):
        """context [batch, T, C], noise float32 [batch, T, books] -> vectors [batch, T, books, dim].
        """
        features = ops.concatenate([context, ops.cast(noise, context.dtype)], axis=-1)
        features = self.dropout(ops.gelu(self.hidden(features)), training=training)
        vectors = VECTOR_SCALE * self.vectors(features)
        shape = (*ops.shape(vectors)[:-1], self.config.books, self.config.core.code_dim)
        return ops.reshape(vectors, shape)

    def noise(self, draws):
        """Uniform draws in [−0.5, 0.5), float32 [batch, T, books] -> noise of the same shape, as
        `step` makes it frame by frame in its state.
        """
        steps = ops.shape(draws)[1]
        ages = ops.arange(steps)[:, None] - ops.arange(steps)  # [to, from]
        kernel = ops.where(ages[..., None] < 0, 0.0, ops.exp(
            ops.cast(ops.maximum(ages, 0), "float32")[..., None] * np.log(self.kept)))
        return ops.einsum("btk,utk->buk", draws * self.draw_scale, kernel)

    def step(self, previous, context, state, draw, uniforms=None):
        """One frame, for sampling; see `Core.step`. uniforms: float32 [batch, books], the draws."""
        noise = state[0] * self.kept + (uniforms - 0.5) * self.draw_scale
        vectors = self.perform(context[:, None], noise[:, None])
        logits = self.nearest(vectors)[:, 0]
        frame = [draw(k, logits[:, k]) for k in range(self.config.books)]
        return ops.stack(frame, axis=-1), [noise]

    def noise_of(self, draws: np.ndarray) -> np.ndarray:
        """`noise` of a whole track in NumPy: draws float32 [T, books] -> float32 [T, books]."""
        draws = draws * self.draw_scale
        return np.stack([scipy.signal.lfilter([1.0], [1.0, -kept], draws[:, k])
                         for k, kept in enumerate(self.kept)], axis=-1).astype(np.float32)

    def played(self, context, noise: np.ndarray) -> np.ndarray:
        """context [1, T, C], noise float32 [T, books] -> the nearest codes int16 [T, books]."""
        codes = ops.argmax(self.nearest(self.perform(context, noise[None])), axis=-1)
        return np.asarray(codes[0], np.int16)


class Critic(layers.Layer):
    """A discriminator of performances (least squares): vectors of the codes, float32 [batch, T,
    books·dim], beside the context -> the features of each layer; the last are scores.
    """

    WIDTH, STRIDES = 160, (1, 2, 2)
    """Channels, and the strides of the convolutions."""

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(name="critic", **kwargs)
        self.config = config
        width = config.books * config.core.code_dim + config.context_channels
        self.convolutions = [Conv(self.WIDTH, 5, strides=stride, name=f"conv_{i}")
                             for i, stride in enumerate(self.STRIDES)]
        self.score = Conv(1, 3, name="score", dtype="float32")
        for conv, channels in zip((*self.convolutions, self.score),
                                  (width, *[self.WIDTH] * len(self.STRIDES)), strict=True):
            conv.build((None, None, channels))
        self.built = True

    def call(self, x):
        features = []
        for conv in self.convolutions:
            x = ops.leaky_relu(conv(x), 0.2)
            features.append(ops.cast(x, "float32"))
        return [*features, self.score(x)]

    def losses_of(self, core: Performer, codes, logits, context):
        """The terms of `adversary_layer.losses_of_one` by name. codes int32 [batch, T, books]: of
        the recording. logits: of the core's last performance, which is judged.
        """
        context = ops.stop_gradient(ops.cast(context, "float32"))
        flat = (*ops.shape(codes)[:2], self.config.books * self.config.core.code_dim)

        def beside(vectors):
            return ops.concatenate([ops.reshape(vectors, flat), context], axis=-1)

        vectors = core.last_vectors
        # What plays are codes, so the critic sees codes, and its gradient passes to the vectors.
        played = core.vectors_of(ops.argmax(logits, axis=-1))
        performed = vectors + ops.stop_gradient(played - vectors)
        return losses_of_one(self, GAMES["least_squares"], beside(core.vectors_of(codes)),
                             beside(performed))
