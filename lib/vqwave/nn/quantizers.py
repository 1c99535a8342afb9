"""Quantizers: latents <-> codes, one class for each kind of the config's `quantizer`."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from ..config import (
    BandedQuantizer,
    CodebookConfig,
    Config,
    EMAQuantizer,
    GaussianQuantizer,
    ResidualQuantizer,
    SOMQuantizer,
)
from .layers import register


class CodeCounts(keras.metrics.Metric):
    """A histogram of the codes seen since the last reset; what is reported of it is the subclass's
    matter.
    """

    def __init__(self, num_codes: int, name: str, **kwargs):
        super().__init__(name=name, **kwargs)
        self.counts = self.add_weight(shape=(num_codes,), initializer="zeros", name="counts")

    def update_state(self, counts, sample_weight=None):
        self.counts.assign_add(ops.cast(counts, self.counts.dtype))


class Usage(CodeCounts):
    """Share of the codes that were used at all, in [0, 1]."""

    def result(self):
        return ops.mean(ops.cast(self.counts > 0, "float32"))


class Perplexity(CodeCounts):
    """2 to the entropy of the code histogram: how many codes would do as much if all were used
    alike.
    """

    def result(self):
        p = self.counts / ops.maximum(ops.sum(self.counts), 1.0)
        return ops.exp(-ops.sum(p * ops.log(ops.maximum(p, 1e-10))))


def distances(latents, codebook):
    """|x - e|² less |x|², which is the same for all codes: [..., code_dim], [codes, code_dim] ->
    [..., codes].
    """
    return ops.sum(codebook**2, axis=1) - 2.0 * ops.matmul(latents, ops.transpose(codebook))


@register
class VectorQuantizer(layers.Layer):
    """latents float32 [batch, N, code_dim] -> (quantized float32 [batch, N, code_dim], codes int32
    [batch, N, 1]).

    VQ-VAE with an EMA codebook (van den Oord et al. 2017, appendix A.1). With n_i latents x given
        code i in a batch: count_i <- γ·count_i + (1−γ)·n_i      total_i <- γ·total_i + (1−γ)·Σ x
        e_i = total_i / smoothed(count_i)
    In training the first batch gives the initial codes, and a code whose count falls under
    `revival_threshold` of a fair share is moved onto a random latent of the batch, its vector,
    count and total at once (as in Jukebox); a batch of which no window counts changes nothing.
    Gradients pass straight through. In inference nothing moves. Stays in float32 under mixed
    precision.

    What every quantizer offers: `call`; `encode` and `lookup` by operations that ONNX has;
    `codebooks`, the variables that a file of weights holds; `set_codebooks`; `update_metrics`, of
    each book's usage, perplexity and closeness: 1 less the latents' mean square distance from their
    codes over that from their mean, 1 where every latent is its code.
    """

    def __init__(self, num_codes, code_dim, decay, revival_threshold, commitment,
                 seed=0, suffix="", **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.num_codes, self.code_dim, self.decay = num_codes, code_dim, decay
        self.revival_threshold, self.commitment = revival_threshold, commitment
        self.seed_generator = keras.random.SeedGenerator(seed)
        # Fed by the model's `compute_loss` with `batch_count` of the last call: in a call JAX
        # updates no metric.
        self.usage = Usage(num_codes, name=f"usage{suffix}")
        self.perplexity = Perplexity(num_codes, name=f"perplexity{suffix}")
        self.closeness = keras.metrics.Mean(name=f"closeness{suffix}")

    def build(self, shape):
        def weight(name, *size, initializer="zeros"):
            return self.add_weight(shape=size, initializer=initializer, trainable=False, name=name)

        self.codebook = weight("codebook", self.num_codes, self.code_dim,
                               initializer="random_normal")
        self.count = weight("count", self.num_codes)
        self.total = weight("total", self.num_codes, self.code_dim)
        # 0 until codes have come from data or from a file; also the switch of the data-driven
        # start.
        self.started = weight("started")

    @property
    def codebooks(self) -> list:
        return [self.codebook]

    def set_codebooks(self):
        """Take the codebook as it is for a start, each code with the weight of a fair share of one
        batch.
        """
        self.count.assign(ops.ones(self.num_codes))
        self.total.assign(self.codebook.value)
        self.started.assign(1.0)

    def encode(self, latents):
        """latents [batch, N, code_dim] -> codes int32 [batch, N, 1]. A top-1, since ONNX lacks
        Keras's argmin.
        """
        return ops.cast(ops.top_k(-distances(ops.cast(latents, "float32"), self.codebook), 1)[1],
                        "int32")

    def lookup(self, codes):
        """codes int32 [batch, N, 1] -> vectors float32 [batch, N, code_dim]."""
        return ops.take(self.codebook, codes[..., 0], axis=0)

    def call(self, latents, training=False, counts=None, codes=None):
        """counts: float32 [batch], 1 for the windows that count, 0 for others; None counts all.
        codes: int32 [batch, N], to be used in place of the nearest ones once the codebook has
        started.
        """
        latents, wanted = ops.cast(latents, "float32"), codes
        flat = ops.stop_gradient(ops.reshape(latents, (-1, self.code_dim)))
        codebook = ops.convert_to_tensor(self.codebook)
        if training:
            rows = self._draw_rows(*ops.shape(latents)[:2], counts)
            candidates = ops.take(flat, rows, axis=0)
            started = self.started > 0
            codebook = ops.where(started, codebook, candidates)
        if wanted is None or training:
            codes = ops.cast(ops.argmin(distances(flat, codebook), axis=1), "int32")
        if wanted is not None:
            wanted = ops.reshape(wanted, (-1,))
            codes = ops.where(started, wanted, codes) if training else wanted
        counted = ops.ones_like(codes, dtype="float32")
        if counts is not None:
            counted = ops.reshape(ops.broadcast_to(counts[:, None], ops.shape(latents)[:2]), (-1,))
        batch_count = ops.segment_sum(counted, codes, num_segments=self.num_codes)
        quantized = ops.reshape(ops.take(codebook, codes, axis=0), ops.shape(latents))
        if training:
            summed = flat if counts is None else flat * counted[:, None]
            batch_total = ops.segment_sum(summed, codes, num_segments=self.num_codes)
            self._follow(codebook, started, candidates, *self._spread(batch_count, batch_total))
        self.batch_count = batch_count
        error = (latents - ops.stop_gradient(quantized)) ** 2
        spread = ops.mean((flat - ops.mean(flat, axis=0)) ** 2)
        self.batch_closeness = 1.0 - ops.mean(ops.stop_gradient(error)) / (spread + 1e-9)
        self.add_loss(self.commitment * ops.mean(error if counts is None
                                                 else error * counts[:, None, None]))
        codes = ops.reshape(codes, (*ops.shape(latents)[:2], 1))
        return latents + ops.stop_gradient(quantized - latents), codes

    def _draw_rows(self, windows, frames, counts):
        """For each code a latent of the batch, drawn evenly among the windows that count: int32
        [num_codes].
        """
        if counts is None:
            return keras.random.randint((self.num_codes,), 0, windows * frames,
                                        seed=self.seed_generator)
        served = ops.cast(ops.sum(counts), "int32")
        # Where none counts there is still something to draw, which nothing is made of.
        drawn = keras.random.randint((self.num_codes,), 0, ops.maximum(served, 1) * frames,
                                     seed=self.seed_generator)
        window = ops.take(ops.argsort(-counts), drawn // frames)
        return ops.cast(window, "int32") * frames + drawn % frames

    def _spread(self, count, total):
        """What each code learns from the batch: its own share."""
        return count, total

    def _follow(self, codebook, started, candidates, batch_count, batch_total):
        """One EMA step towards the batch, then revival of the codes that fell out of use."""
        # Before the start there is no past: the first batch's own counts stand for it.
        keep = ops.where(started, self.decay, 0.0)
        count = keep * self.count + (1.0 - keep) * batch_count
        total = keep * self.total + (1.0 - keep) * batch_total
        size = ops.sum(count)
        # Laplace smoothing keeps a count of nearly nothing from dividing by nearly nothing.
        smoothed = (count + 1e-5) / (size + self.num_codes * 1e-5) * size
        vectors = total / smoothed[:, None]
        fair = size / self.num_codes
        dead = count < self.revival_threshold * fair
        served = ops.sum(batch_count) > 0

        def learn(variable, value):
            # A batch of which the book serves nothing says nothing about it.
            variable.assign(ops.where(served, value, ops.convert_to_tensor(variable)))

        learn(self.count, ops.where(dead, fair, count))
        learn(self.total, ops.where(dead[:, None], candidates * fair, total))
        learn(self.codebook, ops.where(dead[:, None], candidates, vectors))
        learn(self.started, 1.0)

    def update_metrics(self):
        """Count the codes of the last call."""
        self.usage.update_state(self.batch_count)
        self.perplexity.update_state(self.batch_count)
        self.closeness.update_state(self.batch_closeness)

    def get_config(self):
        return super().get_config() | _book_values(self)


class MultiBookQuantizer(layers.Layer):
    """What quantizers of several codebooks have in common. books: a `VectorQuantizer` each.

    Stays in float32 under mixed precision.
    """

    def __init__(self, count: int, seed: int, values: dict, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.books = [VectorQuantizer(**values, seed=seed + 1 + k, suffix=f"_{k}", name=f"book_{k}")
                      for k in range(count)]

    def build(self, shape):
        for book in self.books:
            book.build((*shape[:-1], book.code_dim))

    @property
    def codebooks(self) -> list:
        return [book.codebook for book in self.books]

    def set_codebooks(self):
        for book in self.books:
            book.set_codebooks()

    def update_metrics(self):
        for book in self.books:
            book.update_metrics()


@register
class ResidualVectorQuantizer(MultiBookQuantizer):
    """latents float32 [batch, N, code_dim] -> (quantized float32 [batch, N, code_dim], codes int32
    [batch, N, books]).

    Each book quantizes what the ones before it leave, and their vectors add up (SoundStream,
    Zeghidour et al. 2021, section III.C). The first n books of a frame's codes are what n books
    alone would give, so the bitrate is chosen by cutting codes when encoding; `lookup` takes any
    number of books. In training, a share `dropout` of the windows uses the first n books only, n
    drawn evenly from 1 … books.
    """

    def __init__(self, books, dropout, num_codes, code_dim, decay, revival_threshold,
                 commitment, seed=0, **kwargs):
        super().__init__(books, seed, {"num_codes": num_codes, "code_dim": code_dim, "decay": decay,
                                       "revival_threshold": revival_threshold,
                                       "commitment": commitment}, **kwargs)
        self.num_books, self.dropout, self.num_codes = books, dropout, num_codes

    def encode(self, latents):
        """latents [batch, N, code_dim] -> codes int32 [batch, N, books]."""
        left, codes = ops.cast(latents, "float32"), []
        for book in self.books:
            codes.append(book.encode(left))
            left = left - book.lookup(codes[-1])
        return ops.concatenate(codes, axis=-1)

    def lookup(self, codes):
        """codes int32 [batch, N, n], n up to the number of books -> vectors float32 [batch, N,
        code_dim].
        """
        table = ops.concatenate([book.codebook for book in self.books], axis=0)
        first = ops.cumsum(ops.ones_like(codes), axis=-1) - 1
        return ops.sum(ops.take(table, codes + first * self.num_codes, axis=0), axis=-2)

    def call(self, latents, training=False):
        latents = ops.cast(latents, "float32")
        kept = None
        if training and self.dropout:
            rows = ops.shape(latents)[0]
            cut = keras.random.uniform((rows,), seed=self.seed_generator) < self.dropout
            count = keras.random.randint((rows,), 1, self.num_books + 1, seed=self.seed_generator)
            kept = ops.where(cut, count, self.num_books)
        left, quantized, codes = latents, ops.zeros_like(latents), []
        for k, book in enumerate(self.books):
            counts = None if kept is None else ops.cast(kept > k, "float32")
            made, chosen = book(left, training=training, counts=counts)
            vectors = ops.stop_gradient(made)
            if counts is not None:
                vectors = vectors * counts[:, None, None]
            left, quantized = left - vectors, quantized + vectors
            codes.append(chosen)
        return latents + ops.stop_gradient(quantized - latents), ops.concatenate(codes, axis=-1)

    def get_config(self):
        return (super().get_config() | _book_values(self.books[0])
                | {"books": self.num_books, "dropout": self.dropout})


@register
class SelfOrganizingMap(VectorQuantizer):
    """A `VectorQuantizer` whose codes lie on a grid and learn from their neighbours' latents too
    (Kohonen 1982).

    The batch's counts and sums are spread by h_ij = exp(−d_ij² / 2σ²), d the distance on the grid,
    before the EMA follows them, so that codes side by side come to sound alike. σ falls from
    `radius` of the longest side to `final_radius` steps of the grid, by the same factor in each of
    `shrink_steps` steps, and stays there: an encoder that goes on learning takes its latents from
    the codes, and only a neighbourhood keeps them in order. `topographic_error`: the share of
    latents whose two nearest codes are not neighbours on the grid (Kiviluoto 1996).
    """

    def __init__(self, rows, columns, radius, final_radius, shrink_steps, **kwargs):
        super().__init__(rows * columns, **kwargs)
        self.rows, self.columns = rows, columns
        self.radius, self.final_radius, self.shrink_steps = radius, final_radius, shrink_steps
        place = np.stack(np.divmod(np.arange(rows * columns), columns), axis=1).astype("float32")
        self.squared = ((place[:, None] - place[None]) ** 2).sum(-1)
        self.topographic_error = keras.metrics.Mean(name="topographic_error")

    def build(self, shape):
        super().build(shape)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def set_codebooks(self):
        super().set_codebooks()
        self.steps.assign(float(self.shrink_steps))

    def _spread(self, count, total):
        first = self.radius * max(self.rows, self.columns)
        done = ops.minimum(self.steps / self.shrink_steps, 1.0)
        width = first * (min(self.final_radius, first) / first) ** done
        self.steps.assign(self.steps + 1.0)
        share = ops.exp(-self.squared / (2.0 * width**2))
        return ops.matmul(share, count[:, None])[:, 0], ops.matmul(share, total)

    def error_of(self, latents):
        """The share of latents [batch, N, code_dim] whose two nearest codes are not neighbours."""
        flat = ops.reshape(ops.cast(latents, "float32"), (-1, self.code_dim))
        nearest = ops.top_k(-distances(flat, ops.convert_to_tensor(self.codebook)), 2)[1]
        between = ops.take(ops.reshape(ops.convert_to_tensor(self.squared), (-1,)),
                           nearest[:, 0] * self.num_codes + nearest[:, 1])
        # Neighbours lie at most one step away along each axis: a squared distance of 1, or 2 across
        # a corner.
        return ops.mean(ops.cast(between > 2.5, "float32"))

    def call(self, latents, training=False, counts=None, codes=None):
        self.batch_error = self.error_of(latents)
        return super().call(latents, training, counts, codes)

    def update_metrics(self):
        super().update_metrics()
        self.topographic_error.update_state(self.batch_error)

    def get_config(self):
        own = {k: getattr(self, k) for k in ("rows", "columns", "radius", "final_radius",
                                               "shrink_steps")}
        config = super().get_config() | own
        del config["num_codes"]
        return config


def cheapest_path(costs, change, segment: int, overlap: int):
    """The codes of the least total cost, where a change of code costs too (Viterbi 1967).

    The frames are taken in segments, each with `overlap` frames to either side, of which its own
    codes are
    kept: what a frame gets depends on no more than those. The last segment may be shorter.

    Args:
        costs: float32 [batch, N, books, codes], of each code in each frame.
        change: float32 [batch] or [batch, books], what a change costs.

    Returns:
        int32 [batch, N, books].
    """
    batch, frames = ops.shape(costs)[:2]
    books, num_codes = costs.shape[2:]
    segments = (frames + segment - 1) // segment
    # Frames of no cost outside leave the path as it is. A segment more on either side lends its
    # edge.
    costs = ops.pad(costs, [[0, 0], [segment, (segments + 1) * segment - frames], [0, 0], [0, 0]])
    costs = ops.reshape(costs, (batch, segments + 2, segment, books, num_codes))
    costs = ops.concatenate(
        [costs[:, :-2, segment - overlap :], costs[:, 1:-1], costs[:, 2:, :overlap]], axis=2)
    change = ops.reshape(change, (batch, 1, -1, 1))
    total, back = costs[:, :, 0], []
    for t in range(1, segment + 2 * overlap):
        # Top-1s, since ONNX lacks Keras's argmin.
        best, least = ops.top_k(-total, 1)
        # Over the best so far: small numbers, so that rounding decides next to nothing.
        total = total + best
        back.append((least[..., 0], total > change))
        total = ops.minimum(total, change) + costs[:, :, t]
    code = ops.top_k(-total, 1)[1][..., 0]
    path = [code]
    for least, moves in reversed(back):
        here = ops.cast(ops.one_hot(code, num_codes), "bool")
        code = ops.where(ops.any(here & moves, axis=-1), least, code)
        path.append(code)
    path = ops.stack(path[::-1][overlap : overlap + segment], axis=2)
    path = ops.reshape(path, (batch, segments * segment, books))
    return ops.cast(path[:, :frames], "int32")


@register
class BandedVectorQuantizer(MultiBookQuantizer):
    """latents float32 [batch, N, books·code_dim] -> (quantized, the same shape; codes int32 [batch,
    N, books]).

    A codebook for each band of the latents, as BSCodec (2025) splits a spectrum. What a piece costs
    to predict is how often its codes change, so the codes are not each frame's nearest but the path
    of the least distance + change_cost·changes around each `segment` of frames: rate-distortion
    optimal for codes that stay.
    """

    def __init__(self, config: BandedQuantizer | dict, seed=0, **kwargs):
        config = config if isinstance(config, Config) else BandedQuantizer(**config)
        super().__init__(config.books, seed, _book_values(config), **kwargs)
        self.config = config
        self.changes = keras.metrics.Mean(name="changes")

    def _bands(self, latents):
        """Latents of each band, float32 [batch, N, code_dim]."""
        dim = self.config.code_dim
        return [latents[..., k * dim : (k + 1) * dim] for k in range(len(self.books))]

    def _cheapest(self, bands, change):
        """The codes int32 [batch, N, books] of bands at this cost of a change [batch]."""
        costs = [distances(x, ops.convert_to_tensor(book.codebook)) / self.config.code_dim
                 for x, book in zip(bands, self.books, strict=True)]
        return cheapest_path(ops.stack(costs, axis=2), change, self.config.segment,
                             self.config.overlap)

    def _spread(self, bands):
        """The variance of each band's latents, float32 [books]; 1 where they lie all around the
        unit sphere.

        Latents that are all alike yet, at first, would never be worth a change.
        """
        found = []
        for x in bands:
            centre = ops.mean(ops.reshape(x, (-1, self.config.code_dim)), axis=0)
            found.append(ops.mean((x - centre) ** 2))
        return ops.stack(found)

    def encode(self, latents):
        """latents [batch, N, books·code_dim] -> codes int32 [batch, N, books]."""
        bands = self._bands(ops.cast(latents, "float32"))
        if self.config.change_cost:
            return self._cheapest(bands, ops.full_like(latents[:, 0, 0],
                                                       self.config.change_cost, dtype="float32"))
        return ops.concatenate([book.encode(x) for x, book in zip(bands, self.books, strict=True)],
                               axis=-1)

    def lookup(self, codes):
        """codes int32 [batch, N, books] -> vectors float32 [batch, N, books·code_dim]."""
        return ops.concatenate([book.lookup(codes[..., k : k + 1])
                                for k, book in enumerate(self.books)], axis=-1)

    def call(self, latents, training=False):
        latents = ops.cast(latents, "float32")
        bands, path, cost = self._bands(latents), None, self.config.change_cost
        if training and self.config.training_cost is not None:
            cost = self.config.training_cost
        if cost:
            change = ops.full_like(latents[:, 0, 0], cost)
            if training:
                drawn = keras.random.uniform(ops.shape(latents)[:1], 0.0, 2.0,
                                             seed=self.seed_generator)
                change = change * drawn
                change = change[:, None] * ops.stop_gradient(self._spread(bands))
            path = self._cheapest([ops.stop_gradient(x) for x in bands], change)
        made = [book(x, training=training, codes=None if path is None else path[..., k])
                for k, (x, book) in enumerate(zip(bands, self.books, strict=True))]
        codes = ops.concatenate([chosen for _, chosen in made], axis=-1)
        self.batch_changes = ops.mean(ops.cast(codes[:, 1:] != codes[:, :-1], "float32"))
        if self.config.slow:
            moved = ops.mean((latents[:, 1:] - latents[:, :-1]) ** 2)
            self.add_loss(self.config.slow * 0.5 * moved)
        return ops.concatenate([vectors for vectors, _ in made], axis=-1), codes

    def update_metrics(self):
        super().update_metrics()
        self.changes.update_state(self.batch_changes)

    def get_config(self):
        return super().get_config() | {"config": self.config.model_dump()}


@register
class GaussianLatents(layers.Layer):
    """latents float32 [batch, N, 2·dim], the mean and the log variance of each number -> (vectors
    float32 [batch, N, dim], their means, of that shape).

    The latents of a VAE (Kingma and Welling 2014). In training z = μ + σ·ε, ε drawn from N(0, 1)
    (eq. 10, the reparameterisation), in inference z = μ. The divergence from N(0, 1) is
        KL = ½ Σ (μ² + σ² − 1 − ln σ²)      nats a frame (appendix B)
    and its share of the loss β·KL / dim, β growing evenly from 0 to `beta` over the first
    `warmup_steps` training steps; in inference it is `beta`, so that epochs compare.

    It has no codes: `encode` gives the means, `lookup` takes vectors as they are. Stays in float32
    under mixed precision.
    """

    LOG_VARIANCE = (-14.0, 8.0)
    """Beyond these it would overflow, or the gradient of σ vanish."""

    def __init__(self, dim, beta, warmup_steps, seed=0, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.dim, self.beta, self.warmup_steps = dim, beta, warmup_steps
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.codebooks: list = []
        # Fed by the model's `compute_loss`: in a call JAX updates no metric.
        self.divergence = keras.metrics.Mean(name="kl")
        self.weight = keras.metrics.Mean(name="beta")

    def build(self, shape):
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def set_codebooks(self):
        """A trained set has left the warm-up behind it."""
        self.steps.assign(float(self.warmup_steps))

    def _moments(self, latents):
        """Mean and log variance, float32 [batch, N, dim] each."""
        latents = ops.cast(latents, "float32")
        return latents[..., : self.dim], ops.clip(latents[..., self.dim :], *self.LOG_VARIANCE)

    def encode(self, latents):
        """latents [batch, N, 2·dim] -> means float32 [batch, N, dim]."""
        return self._moments(latents)[0]

    def lookup(self, vectors):
        """vectors [batch, N, dim] -> the same, float32."""
        return ops.cast(vectors, "float32")

    def call(self, latents, training=False):
        mean, log_variance = self._moments(latents)
        vectors, beta = mean, ops.convert_to_tensor(self.beta, "float32")
        if training:
            drawn = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
            vectors = mean + ops.exp(0.5 * log_variance) * drawn
            if self.warmup_steps:
                beta = beta * ops.minimum(self.steps / self.warmup_steps, 1.0)
            self.steps.assign(self.steps + 1.0)
        each = 0.5 * (mean**2 + ops.exp(log_variance) - 1.0 - log_variance)
        self.batch_divergence = self.dim * ops.mean(ops.stop_gradient(each))
        self.batch_weight = beta
        self.add_loss(beta * ops.mean(each))
        return vectors, mean

    def update_metrics(self):
        """Note down the divergence of the last call, and its weight."""
        self.divergence.update_state(self.batch_divergence)
        self.weight.update_state(self.batch_weight)

    def get_config(self):
        own = {"dim": self.dim, "beta": self.beta, "warmup_steps": self.warmup_steps}
        return super().get_config() | own


def _book_values(codebook) -> dict:
    """What a `CodebookConfig`, or a layer, says of each of its books, by the layers' arguments."""
    return {key: getattr(codebook, key) for key in CodebookConfig.model_fields if key != "kind"}


def _ema(config: EMAQuantizer, seed: int):
    return VectorQuantizer(**_book_values(config), seed=seed, name="quantizer")


def _residual(config: ResidualQuantizer, seed: int):
    return ResidualVectorQuantizer(config.books, config.dropout, **_book_values(config),
                                   seed=seed, name="quantizer")


def _som(config: SOMQuantizer, seed: int):
    values = {key: value for key, value in _book_values(config).items() if key != "num_codes"}
    return SelfOrganizingMap(*config.grid, config.radius, config.final_radius,
                             config.shrink_steps, **values, seed=seed, name="quantizer")


def _banded(config: BandedQuantizer, seed: int):
    return BandedVectorQuantizer(config, seed, name="quantizer")


def _gaussian(config: GaussianQuantizer, seed: int):
    return GaussianLatents(config.dim, config.beta, config.warmup_steps, seed, name="quantizer")


QUANTIZERS: dict[type[Config], Callable] = {
    EMAQuantizer: _ema, ResidualQuantizer: _residual, SOMQuantizer: _som, BandedQuantizer: _banded,
    GaussianQuantizer: _gaussian,
}
"""The layer of each kind of quantizer: (config, seed) -> layer."""


def build_quantizer(config, seed: int):
    """The quantizer that a config names, built."""
    layer = QUANTIZERS[type(config)](config, seed)
    layer.build((None, None, config.width))
    return layer
