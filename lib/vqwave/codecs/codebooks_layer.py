"""The interface of quantizers, vector quantization with one EMA codebook, and its metrics."""

from typing import Any, NamedTuple

import keras
from keras import layers, ops

from .quantizers import CodebookConfig


class Quantized(NamedTuple):
    """The result of a quantizer for latents float32 [batch, N, width].

    vectors: float32 [batch, N, vector_width], the decoder's input. codes: int32 [batch, N, books];
    of a VAE the means. losses: weighted terms of the training loss, float32 [] each. metrics: the
    update of each metric in the quantizer's `new_metrics`, by name.
    """

    vectors: Any
    codes: Any
    losses: list
    metrics: dict[str, Any]


class Quantizer(layers.Layer):
    """latents float32 [batch, N, width] -> `Quantized`; in float32 under mixed precision.

    A quantizer offers `call`, `encode` and `lookup` (with ONNX operations only), `codebooks` (the
    variables in weights files), `new_metrics` and `use_loaded_codebooks`. By default the last three
    combine those of its `parts`; the `suffixes` are added to the names of the parts' metrics.
    """

    def __init__(self, config, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.config = config
        self.parts: list = []
        self.suffixes: list[str] = []

    @property
    def codebooks(self) -> list:
        return [codebook for part in self.parts for codebook in part.codebooks]

    def new_metrics(self) -> dict[str, keras.metrics.Metric]:
        """The metrics that `call` returns updates for, by name."""
        metrics = {}
        for part, suffix in zip(self.parts, self.suffixes, strict=True):
            for metric in part.new_metrics().values():
                metric.name += suffix
                metrics[metric.name] = metric
        return metrics

    def use_loaded_codebooks(self):
        """Continue training from the loaded codebooks."""
        for part in self.parts:
            part.use_loaded_codebooks()

    def combine(self, quantized: list[Quantized]) -> tuple[list, dict[str, Any]]:
        """The losses and the metrics of all parts."""
        # The order of the sum, last part first, decides how the gradients round.
        return ([loss for part in reversed(quantized) for loss in part.losses],
                {name + suffix: value for part, suffix in zip(quantized, self.suffixes, strict=True)
                 for name, value in part.metrics.items()})


class CodeCounts(keras.metrics.Metric):
    """A histogram of the codes since the last reset, updated with counts float32 [num_codes]."""

    def __init__(self, num_codes: int, name: str, **kwargs):
        super().__init__(name=name, **kwargs)
        self.counts = self.add_weight(shape=(num_codes,), initializer="zeros", name="counts")

    def update_state(self, counts, sample_weight=None):
        self.counts.assign_add(ops.cast(counts, self.counts.dtype))


class Usage(CodeCounts):
    """The share of the codes that were used, in [0, 1]."""

    def result(self):
        return ops.mean(ops.cast(self.counts > 0, "float32"))


class Perplexity(CodeCounts):
    """exp(entropy of the histogram): as many equally likely codes have the same entropy."""

    def result(self):
        p = self.counts / ops.maximum(ops.sum(self.counts), 1.0)
        return ops.exp(-ops.sum(p * ops.log(ops.maximum(p, 1e-10))))


def distances(latents, codebook):
    """|x − e|² − |x|²: latents [..., code_dim] and codebook [codes, code_dim] -> [..., codes].

    |x|² is the same for all codes and is left out.
    """
    return ops.sum(codebook**2, axis=1) - 2.0 * ops.matmul(latents, ops.transpose(codebook))


class VectorQuantizer(Quantizer):
    """latents float32 [batch, N, code_dim] -> `Quantized` with codes int32 [batch, N, 1].

    VQ-VAE with an EMA codebook (van den Oord et al. 2017, appendix A.1). With the n_i latents x of
        code i in a batch: count_i <- γ·count_i + (1−γ)·n_i      total_i <- γ·total_i + (1−γ)·Σ x
        e_i = total_i / smoothed(count_i)
    The initial codes are latents of the first training batch. A code whose count falls below
    `revival_threshold` times the mean count is replaced by a random latent of the batch, with its
    vector, count and total (Jukebox). The gradient is straight-through. Inference changes nothing.

    Metrics: usage, perplexity, and explained_variance, 1 − (mean square distance of the latents
    from their codes) / (variance of the latents).
    """

    def __init__(self, config: CodebookConfig, seed: int = 0, **kwargs):
        super().__init__(config, **kwargs)
        self.num_codes, self.code_dim = config.num_codes, config.code_dim
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, shape):
        def weight(name, *size, initializer="zeros"):
            return self.add_weight(shape=size, initializer=initializer, trainable=False, name=name)

        self.codebook = weight("codebook", self.num_codes, self.code_dim,
                               initializer="random_normal")
        self.count = weight("count", self.num_codes)
        self.total = weight("total", self.num_codes, self.code_dim)
        # 1 once the codes come from data or from a file.
        self.started = weight("started")

    @property
    def codebooks(self) -> list:
        return [self.codebook]

    def new_metrics(self) -> dict[str, keras.metrics.Metric]:
        return {"usage": Usage(self.num_codes, name="usage"),
                "perplexity": Perplexity(self.num_codes, name="perplexity"),
                "explained_variance": keras.metrics.Mean(name="explained_variance")}

    def use_loaded_codebooks(self):
        """Give all codes the same count: a fair share of one batch."""
        self.count.assign(ops.ones(self.num_codes))
        # A copy: JAX would otherwise hold one buffer for both, and could not train them.
        self.total.assign(ops.copy(self.codebook))
        self.started.assign(1.0)

    def encode(self, latents):
        """latents [batch, N, code_dim] -> codes int32 [batch, N, 1]."""
        # A top-1, because ONNX lacks Keras's argmin.
        return ops.cast(ops.top_k(-distances(ops.cast(latents, "float32"), self.codebook), 1)[1],
                        "int32")

    def lookup(self, codes):
        """codes int32 [batch, N, 1] -> vectors float32 [batch, N, code_dim]."""
        return ops.take(self.codebook, codes[..., 0], axis=0)

    def call(self, latents, training=False, window_mask=None):
        """window_mask: float32 [batch], 1 for windows that use this book, 0 for others; None: all
        ones.
        """
        latents, shape = ops.cast(latents, "float32"), ops.shape(latents)
        if window_mask is None:
            window_mask = ops.ones_like(latents[:, 0, 0])
        flat = ops.stop_gradient(ops.reshape(latents, (-1, self.code_dim)))
        codebook = ops.convert_to_tensor(self.codebook)
        if training:
            candidates = ops.take(flat, self._draw_rows(shape[1], window_mask), axis=0)
            started = self.started > 0
            codebook = ops.where(started, codebook, candidates)
        codes = ops.cast(ops.argmin(distances(flat, codebook), axis=1), "int32")
        weights = ops.reshape(ops.broadcast_to(window_mask[:, None], shape[:2]), (-1,))
        count = ops.segment_sum(weights, codes, num_segments=self.num_codes)
        quantized = ops.reshape(ops.take(codebook, codes, axis=0), shape)
        if training:
            total = ops.segment_sum(flat * weights[:, None], codes, num_segments=self.num_codes)
            self._follow(started, candidates, *self._share_with_neighbours(count, total))
        error = (latents - ops.stop_gradient(quantized)) ** 2
        variance = ops.mean((flat - ops.mean(flat, axis=0)) ** 2)
        explained = 1.0 - ops.mean(ops.stop_gradient(error)) / (variance + 1e-9)
        commitment = self.config.commitment * ops.mean(error * window_mask[:, None, None])
        return Quantized(latents + ops.stop_gradient(quantized - latents),
                         ops.reshape(codes, (*shape[:2], 1)), [commitment],
                         {"usage": count, "perplexity": count, "explained_variance": explained})

    def _draw_rows(self, frames, window_mask):
        """For each code, the row of a random latent in the masked windows: int32 [num_codes]."""
        count = ops.cast(ops.sum(window_mask), "int32")
        # An empty mask draws from the first window; `_follow` then changes nothing.
        drawn = keras.random.randint((self.num_codes,), 0, ops.maximum(count, 1) * frames,
                                     seed=self.seed_generator)
        window = ops.take(ops.argsort(-window_mask), drawn // frames)
        return ops.cast(window, "int32") * frames + drawn % frames

    def _share_with_neighbours(self, count, total):
        """The counts and totals of the batch that each code learns from."""
        return count, total

    def _follow(self, started, candidates, batch_count, batch_total):
        """One EMA step towards the batch, then revival of the dead codes."""
        # In the first batch, the averages are replaced.
        decay = ops.where(started, self.config.decay, 0.0)
        count = decay * self.count + (1.0 - decay) * batch_count
        total = decay * self.total + (1.0 - decay) * batch_total
        size = ops.sum(count)
        # Laplace smoothing avoids dividing by a count near zero.
        smoothed = (count + 1e-5) / (size + self.num_codes * 1e-5) * size
        vectors = total / smoothed[:, None]
        fair = size / self.num_codes
        dead = count < self.config.revival_threshold * fair
        used = ops.sum(batch_count) > 0

        def learn(variable, value):
            # A batch without windows for this book changes nothing.
            variable.assign(ops.where(used, value, ops.convert_to_tensor(variable)))

        learn(self.count, ops.where(dead, fair, count))
        learn(self.total, ops.where(dead[:, None], candidates * fair, total))
        learn(self.codebook, ops.where(dead[:, None], candidates, vectors))
        learn(self.started, 1.0)


class MultiBookQuantizer(Quantizer):
    """A quantizer with a `VectorQuantizer` for each book."""

    def __init__(self, config, seed: int = 0, **kwargs):
        super().__init__(config, **kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.parts = self.books = [VectorQuantizer(config, seed + 1 + k, name=f"book_{k}")
                                   for k in range(config.books)]
        self.suffixes = [f"_{k}" for k in range(config.books)]

    def build(self, shape):
        for book in self.books:
            book.build((*shape[:-1], book.code_dim))
