"""Quantizers: latents <-> codes, one class for each kind of `quantizer` in the config.

`codebooks.Quantizer` is their interface, `codebooks.Quantized` their result.
"""

import keras
import numpy as np
from keras import ops

from ..levels.fields import LOUDNESS_RANGE
from ..levels.kinds import layer_for, layer_of
from .codebooks_layer import MultiBookQuantizer, Quantized, Quantizer, VectorQuantizer, distances
from .quantizers import (
    BandedQuantizer,
    EMAQuantizer,
    GainShapeQuantizer,
    GaussianQuantizer,
    ResidualQuantizer,
    SOMQuantizer,
)


@layer_for(ResidualQuantizer)
class ResidualVectorQuantizer(MultiBookQuantizer):
    """latents float32 [batch, N, code_dim] -> `Quantized` with codes int32 [batch, N, books].

    Each book quantizes the residual of the books before, and the vectors of all books are added
    (SoundStream, Zeghidour et al. 2021, section III.C). `lookup` takes the codes of the first n
    books. In training, a share `dropout` of the windows uses n books, n uniform in 1 … books.
    """

    def encode(self, latents):
        """latents [batch, N, code_dim] -> codes int32 [batch, N, books]."""
        residual, codes = ops.cast(latents, "float32"), []
        for book in self.books:
            codes.append(book.encode(residual))
            residual = residual - book.lookup(codes[-1])
        return ops.concatenate(codes, axis=-1)

    def lookup(self, codes):
        """codes int32 [batch, N, n], n up to all books -> vectors [batch, N, code_dim]."""
        table = ops.concatenate([book.codebook for book in self.books], axis=0)
        book = ops.cumsum(ops.ones_like(codes), axis=-1) - 1
        return ops.sum(ops.take(table, codes + book * self.config.num_codes, axis=0), axis=-2)

    def call(self, latents, training=False):
        config, latents = self.config, ops.cast(latents, "float32")
        books_used = ops.full_like(latents[:, 0, 0], config.books, dtype="int32")
        if training and config.dropout:
            windows = ops.shape(latents)[0]
            cut = keras.random.uniform((windows,), seed=self.seed_generator) < config.dropout
            count = keras.random.randint((windows,), 1, config.books + 1, seed=self.seed_generator)
            books_used = ops.where(cut, count, config.books)
        residual, vectors, parts = latents, ops.zeros_like(latents), []
        for k, book in enumerate(self.books):
            mask = ops.cast(books_used > k, "float32")
            parts.append(book(residual, training=training, window_mask=mask))
            quantized = ops.stop_gradient(parts[-1].vectors) * mask[:, None, None]
            residual, vectors = residual - quantized, vectors + quantized
        return Quantized(latents + ops.stop_gradient(vectors - latents),
                         ops.concatenate([part.codes for part in parts], axis=-1),
                         *self.combine(parts))


@layer_for(SOMQuantizer)
class SelfOrganizingMap(VectorQuantizer):
    """A `VectorQuantizer` whose codes lie on a grid and also learn from their neighbours' latents
    (Kohonen 1982).

    Before the EMA, counts and totals of a batch are spread by h_ij = exp(−d_ij² / 2σ²), where d is
    the distance on the grid. So neighbouring codes sound alike. σ falls geometrically from `radius`
    times the longest side to `final_radius` grid steps over `shrink_steps` training steps. σ stays
    above 0, because otherwise the map loses its order while the latents move.
    Metric: topographic_error, the share of latents whose two nearest codes are not neighbours on
    the grid (Kiviluoto 1996).
    """

    def __init__(self, config: SOMQuantizer, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        place = np.stack(np.divmod(np.arange(self.num_codes), config.grid[1]),
                         axis=1).astype("float32")
        self.squared_distances = ((place[:, None] - place[None]) ** 2).sum(-1)

    def build(self, shape):
        super().build(shape)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def new_metrics(self) -> dict[str, keras.metrics.Metric]:
        error = keras.metrics.Mean(name="topographic_error")
        return super().new_metrics() | {error.name: error}

    def use_loaded_codebooks(self):
        super().use_loaded_codebooks()
        self.steps.assign(float(self.config.shrink_steps))

    def _share_with_neighbours(self, count, total):
        config = self.config
        first = config.radius * max(config.grid)
        done = ops.minimum(self.steps / config.shrink_steps, 1.0)
        width = first * (min(config.final_radius, first) / first) ** done
        self.steps.assign(self.steps + 1.0)
        share = ops.exp(-self.squared_distances / (2.0 * width**2))
        return ops.matmul(share, count[:, None])[:, 0], ops.matmul(share, total)

    def call(self, latents, training=False, window_mask=None):
        flat = ops.reshape(ops.cast(latents, "float32"), (-1, self.code_dim))
        nearest = ops.top_k(-distances(flat, ops.convert_to_tensor(self.codebook)), 2)[1]
        between = ops.take(ops.reshape(ops.convert_to_tensor(self.squared_distances), (-1,)),
                           nearest[:, 0] * self.num_codes + nearest[:, 1])
        # Neighbours are at most one step away along each axis: a squared distance of 1 or 2.
        error = ops.mean(ops.cast(between > 2.5, "float32"))
        quantized = super().call(latents, training, window_mask)
        return quantized._replace(metrics=quantized.metrics | {"topographic_error": error})


@layer_for(BandedQuantizer)
class BandedVectorQuantizer(MultiBookQuantizer):
    """latents float32 [batch, N, books·code_dim] -> `Quantized` with codes int32 [batch, N, books].

    A codebook for each band of the latents, as in BSCodec (2025).
    """

    def encode(self, latents):
        """latents [batch, N, books·code_dim] -> codes int32 [batch, N, books]."""
        bands = self._bands(ops.cast(latents, "float32"))
        return ops.concatenate([book.encode(x) for x, book in zip(bands, self.books, strict=True)],
                               axis=-1)

    def lookup(self, codes):
        """codes int32 [batch, N, books] -> vectors float32 [batch, N, books·code_dim]."""
        return ops.concatenate([book.lookup(codes[..., k : k + 1])
                                for k, book in enumerate(self.books)], axis=-1)

    def call(self, latents, training=False):
        latents = ops.cast(latents, "float32")
        parts = [book(x, training=training)
                 for x, book in zip(self._bands(latents), self.books, strict=True)]
        return Quantized(ops.concatenate([part.vectors for part in parts], axis=-1),
                         ops.concatenate([part.codes for part in parts], axis=-1),
                         *self.combine(parts))

    def _bands(self, latents):
        """The latents of each band, float32 [batch, N, code_dim]."""
        dim = self.config.code_dim
        return [latents[..., k * dim : (k + 1) * dim] for k in range(len(self.books))]


@layer_for(GainShapeQuantizer)
class GainShapeVectorQuantizer(Quantizer):
    """latents float32 [batch, N, shape width + gains] -> `Quantized` with codes int32 [batch, N,
    shape books + gains].

    Shape and loudness have separate codes, so a decay changes gain codes only. The shape has the
    codes of a `BandedVectorQuantizer`. A gain is the nearest of evenly spaced values.
    """

    def __init__(self, config: GainShapeQuantizer, seed: int = 0, **kwargs):
        super().__init__(config, **kwargs)
        self.shape = BandedVectorQuantizer(config.shape, seed, name="shape")
        self.parts, self.suffixes = [self.shape], [""]
        self.step = config.step / LOUDNESS_RANGE

    def build(self, shape):
        self.shape.build((*shape[:-1], self.config.shape.width))
        # Encoding never chooses codes above the last gain, but a generator may sample them.
        table = np.minimum(np.arange(self.config.num_codes), self.config.gain_steps - 1) * self.step
        self.tables = [self.add_weight(shape=(self.config.num_codes, 1), trainable=False,
                                       name=f"gain_{k}") for k in range(self.config.gains)]
        for variable in self.tables:
            variable.assign(table[:, None].astype("float32"))

    @property
    def codebooks(self) -> list:
        return [*self.shape.codebooks, *self.tables]

    def encode(self, latents):
        """latents [batch, N, width] -> codes int32 [batch, N, books]."""
        shape, gains = self._split(latents)
        return ops.concatenate([self.shape.encode(shape), self._gain_codes(gains)], axis=-1)

    def lookup(self, codes):
        """codes int32 [batch, N, books] -> vectors float32 [batch, N, width]."""
        books = self.config.shape.books
        return ops.concatenate([self.shape.lookup(codes[..., :books]),
                                self._gains(codes[..., books:])], axis=-1)

    def call(self, latents, training=False):
        shape, gains = self._split(latents)
        quantized, codes = self.shape(shape, training=training), self._gain_codes(gains)
        return Quantized(ops.concatenate([quantized.vectors, self._gains(codes)], axis=-1),
                         ops.concatenate([quantized.codes, codes], axis=-1), quantized.losses,
                         quantized.metrics)

    def _split(self, latents):
        latents = ops.cast(latents, "float32")
        width = self.config.shape.width
        return latents[..., :width], latents[..., width:]

    def _gains(self, codes):
        """Gain codes int32 [batch, N, gains] -> gains float32 of the same shape."""
        return ops.concatenate([ops.take(table, codes[..., k], axis=0)
                                for k, table in enumerate(self.tables)], axis=-1)

    def _gain_codes(self, gains):
        """Gains float32 [batch, N, gains] -> codes int32 of the same shape."""
        steps = ops.clip(gains / self.step, 0.0, self.config.gain_steps - 1.0)
        return ops.cast(ops.round(steps), "int32")


@layer_for(GaussianQuantizer)
class GaussianLatents(Quantizer):
    """latents float32 [batch, N, 2·dim], the mean and log variance of each number -> `Quantized`
    with vectors float32 [batch, N, dim] and their means as codes.

    The latents of a VAE (Kingma and Welling 2014). In training z = μ + σ·ε with ε from N(0, 1)
    (eq. 10), in inference z = μ. The divergence from N(0, 1) is
        KL = ½ Σ (μ² + σ² − 1 − ln σ²)      nats per frame (appendix B)
    and its loss β·KL / dim. β grows linearly from 0 to `beta` over the first `warmup_steps`
    training steps. Validation always uses `beta`, so that epochs compare. Metrics: kl, beta.

    `encode` returns the means instead of codes, and `lookup` returns vectors unchanged.
    """

    LOG_VARIANCE = (-14.0, 8.0)
    """Beyond these limits σ overflows or its gradient vanishes."""

    def __init__(self, config: GaussianQuantizer, seed: int = 0, **kwargs):
        super().__init__(config, **kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, shape):
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def new_metrics(self) -> dict[str, keras.metrics.Metric]:
        return {name: keras.metrics.Mean(name=name) for name in ("kl", "beta")}

    def use_loaded_codebooks(self):
        """Skip the warm-up, because the loaded weights are trained."""
        self.steps.assign(float(self.config.warmup_steps))

    def encode(self, latents):
        """latents [batch, N, 2·dim] -> means float32 [batch, N, dim]."""
        return self._moments(latents)[0]

    def lookup(self, vectors):
        """vectors [batch, N, dim] -> the same, float32."""
        return ops.cast(vectors, "float32")

    def call(self, latents, training=False):
        config = self.config
        mean, log_variance = self._moments(latents)
        vectors, beta = mean, ops.convert_to_tensor(config.beta, "float32")
        if training:
            noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
            vectors = mean + ops.exp(0.5 * log_variance) * noise
            if config.warmup_steps:
                beta = beta * ops.minimum(self.steps / config.warmup_steps, 1.0)
            self.steps.assign(self.steps + 1.0)
        divergence = 0.5 * (mean**2 + ops.exp(log_variance) - 1.0 - log_variance)
        return Quantized(vectors, mean, [beta * ops.mean(divergence)],
                         {"kl": config.dim * ops.mean(ops.stop_gradient(divergence)), "beta": beta})

    def _moments(self, latents):
        """Mean and log variance, float32 [batch, N, dim] each."""
        latents, dim = ops.cast(latents, "float32"), self.config.dim
        return latents[..., :dim], ops.clip(latents[..., dim:], *self.LOG_VARIANCE)


def new_quantizer(config, seed: int = 0):
    """A new quantizer of the kind that a config names, not yet built."""
    return layer_of(config)(config, seed, name="quantizer")


layer_for(EMAQuantizer)(VectorQuantizer)
