"""The latents of a VAE."""

import keras
from keras import ops

from ...levels.kinds import layer_for
from ..codebooks_layer import Quantized, Quantizer
from .gaussian import GaussianQuantizer


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
