"""The building blocks: residual dilated convolutions, sub-pixel upsampling, the vector quantizer."""

from __future__ import annotations

import keras
from keras import layers, ops

from ..train import replicas


def register(cls):
    return keras.saving.register_keras_serializable("vqwave")(cls)


@register
class ResidualBlock(layers.Layer):
    """x + 1x1(act(dilated conv(act(x)))): [batch, time, channels] -> the same shape ('same' padding).

    Dilated residual units as in SEANet / SoundStream (Zeghidour et al. 2021); GELU in its tanh form costs a CPU less
    than Snake and trains as well at these sizes.
    """

    def __init__(self, channels: int, dilation: int, kernel_size: int = 3, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.dilation, self.kernel_size = channels, dilation, kernel_size
        self.dilated = layers.Conv1D(channels, kernel_size, dilation_rate=dilation, padding="same", name="dilated",
                                     dtype=self.dtype_policy)
        # Zeros at first: every block begins as the identity, which lets deep stacks learn from the first step.
        self.mix = layers.Conv1D(channels, 1, kernel_initializer="zeros", name="mix", dtype=self.dtype_policy)

    def build(self, shape):
        self.dilated.build(shape)
        self.mix.build((*shape[:-1], self.channels))

    def call(self, x):
        return x + self.mix(gelu(self.dilated(gelu(x))))

    def get_config(self):
        own = {"channels": self.channels, "dilation": self.dilation, "kernel_size": self.kernel_size}
        return super().get_config() | own


@register
class CroppedResidual(layers.Layer):
    """x[d:-d] + conv of kernel 3 and dilation d, unpadded: [batch, time, channels] -> [batch, time − 2·d, channels]."""

    def __init__(self, channels: int, dilation: int, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.dilation = channels, dilation
        self.conv = layers.Conv1D(channels, 3, dilation_rate=dilation, padding="valid", name="conv",
                                  dtype=self.dtype_policy)

    def build(self, shape):
        self.conv.build(shape)

    def call(self, x):
        return x[:, self.dilation : -self.dilation] + gelu(self.conv(x))

    def compute_output_shape(self, shape):
        """Said, because JAX cannot tell that both sides of the sum have the same unknown length."""
        return (shape[0], None if shape[1] is None else shape[1] - 2 * self.dilation, self.channels)

    def get_config(self):
        return super().get_config() | {"channels": self.channels, "dilation": self.dilation}


@register
class SubPixelUpsampling(layers.Layer):
    """A convolution folded into time: [batch, N, c] -> [batch, N·ratio, channels] (Shi et al. 2016).

    What is constant is answered with a constant at first (Aitken et al. 2017). Then each of the `ratio` phases may
    learn to answer a constant in its own way: too much of it is heard as lines at the multiples of the input's rate
    (the checkerboard of Odena et al. 2016), none of it as notches there. even: the share of it that is taken away, in
    [0, 1].
    """

    def __init__(self, channels: int, ratio: int, kernel_size: int = 3, even: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.channels, self.ratio, self.kernel_size, self.even = channels, ratio, kernel_size, even
        self.conv = layers.Conv1D(channels * ratio, kernel_size, padding="same", name="conv", dtype=self.dtype_policy)

    def build(self, shape):
        self.conv.build(shape)
        self.conv.kernel.assign(self._evened(self.conv.kernel, 1.0))

    def call(self, x):
        if self.even:
            x = ops.conv(x, self._evened(self.conv.kernel, self.even), 1, "same") + self._evened(
                ops.reshape(self.conv.bias, (1, 1, -1)), self.even)
        else:
            x = self.conv(x)
        return ops.reshape(x, (ops.shape(x)[0], -1, self.channels))

    def _evened(self, kernel, share: float):
        """[taps, c, ratio·channels], of whose sums over the taps only 1 - share of what is each phase's own is left."""
        kernel = ops.convert_to_tensor(kernel)
        phases = ops.reshape(kernel, (*kernel.shape[:2], self.ratio, self.channels))
        mean = ops.mean(phases, axis=0, keepdims=True)
        return ops.reshape(phases - share * (mean - ops.mean(mean, axis=2, keepdims=True)), kernel.shape)

    def get_config(self):
        own = {"channels": self.channels, "ratio": self.ratio, "kernel_size": self.kernel_size, "even": self.even}
        return super().get_config() | own


def gelu(x):
    return ops.gelu(x, approximate=True)


class CodeCounts(keras.metrics.Metric):
    """A histogram of the codes seen since the last reset; what is reported of it is the subclass's matter."""

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
    """2 to the entropy of the code histogram: how many codes would do as much if all were used alike."""

    def result(self):
        p = self.counts / ops.maximum(ops.sum(self.counts), 1.0)
        return ops.exp(-ops.sum(p * ops.log(ops.maximum(p, 1e-10))))


@register
class VectorQuantizer(layers.Layer):
    """latents float32 [batch, N, code_dim] -> (quantized float32 [batch, N, code_dim], codes int32 [batch, N]).

    VQ-VAE with an EMA codebook (van den Oord et al. 2017, appendix A.1). With n_i latents x given code i in a batch:
        count_i <- γ·count_i + (1−γ)·n_i      total_i <- γ·total_i + (1−γ)·Σ x      e_i = total_i / smoothed(count_i)
    In training the first batch gives the initial codes, and a code whose count falls under `revival_threshold` of a
    fair share is moved onto a random latent of the batch, its vector, count and total at once (as in Jukebox).
    Gradients pass straight through. In inference nothing moves. Stays in float32 under mixed precision.
    """

    def __init__(self, num_codes, code_dim, decay=0.96, revival_threshold=0.3, commitment=0.25, seed=0, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.num_codes, self.code_dim, self.decay = num_codes, code_dim, decay
        self.revival_threshold, self.commitment = revival_threshold, commitment
        self.seed_generator = keras.random.SeedGenerator(seed)
        # Fed by the model's `compute_loss` with `batch_count` of the last call: in a call JAX updates no metric.
        self.usage = Usage(num_codes, name="usage")
        self.perplexity = Perplexity(num_codes, name="perplexity")

    def build(self, shape):
        def weight(name, *size, initializer="zeros"):
            return self.add_weight(shape=size, initializer=initializer, trainable=False, name=name)

        self.codebook = weight("codebook", self.num_codes, self.code_dim, initializer="random_normal")
        self.count = weight("count", self.num_codes)
        self.total = weight("total", self.num_codes, self.code_dim)
        # 0 until codes have come from data or from a file; also the switch of the data-driven start.
        self.started = weight("started")

    def set_codebook(self, vectors):
        """Start from known codes [num_codes, code_dim], each with the weight of a fair share of one batch."""
        self.codebook.assign(vectors)
        self.count.assign(ops.ones(self.num_codes))
        self.total.assign(vectors)
        self.started.assign(1.0)

    def nearest(self, flat, codebook):
        """flat [n, code_dim] -> index of the nearest code [n]: argmin |x − e|² without |x|², equal for all codes."""
        distance = ops.sum(codebook**2, axis=1) - 2.0 * ops.matmul(flat, ops.transpose(codebook))
        return ops.cast(ops.argmin(distance, axis=1), "int32")

    def encode(self, latents):
        """latents [batch, N, code_dim] -> codes int32 [batch, N]."""
        flat = ops.reshape(ops.cast(latents, "float32"), (-1, self.code_dim))
        return ops.reshape(self.nearest(flat, self.codebook), (ops.shape(latents)[0], -1))

    def lookup(self, codes):
        """codes int32 [batch, N] -> vectors float32 [batch, N, code_dim]."""
        return ops.take(self.codebook, codes, axis=0)

    def call(self, latents, training=False):
        latents = ops.cast(latents, "float32")
        flat = ops.stop_gradient(ops.reshape(latents, (-1, self.code_dim)))
        codebook = ops.convert_to_tensor(self.codebook)
        if training:
            latent_count = replicas.joint(ops.shape(flat)[0])
            rows = keras.random.randint((self.num_codes,), 0, latent_count, seed=self.seed_generator)
            candidates = replicas.take(flat, rows)
            started = self.started > 0
            codebook = ops.where(started, codebook, candidates)
        codes = self.nearest(flat, codebook)
        # The codebook follows, and its figures tell of, the batch of all devices.
        batch_count = replicas.total(
            ops.segment_sum(ops.ones_like(codes, dtype="float32"), codes, num_segments=self.num_codes))
        quantized = ops.reshape(ops.take(codebook, codes, axis=0), ops.shape(latents))
        if training:
            batch_total = replicas.total(ops.segment_sum(flat, codes, num_segments=self.num_codes))
            self._follow(codebook, started, candidates, batch_count, batch_total)
        self.batch_count = batch_count
        self.add_loss(self.commitment * ops.mean((latents - ops.stop_gradient(quantized)) ** 2))
        return latents + ops.stop_gradient(quantized - latents), ops.reshape(codes, ops.shape(latents)[:2])

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
        self.count.assign(ops.where(dead, fair, count))
        self.total.assign(ops.where(dead[:, None], candidates * fair, total))
        self.codebook.assign(ops.where(dead[:, None], candidates, vectors))
        self.started.assign(1.0)

    def get_config(self):
        own = {k: getattr(self, k) for k in ("num_codes", "code_dim", "decay", "revival_threshold", "commitment")}
        return super().get_config() | own
