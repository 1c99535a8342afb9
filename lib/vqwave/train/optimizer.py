"""The optimizer of all models, and its learning rate."""

import math

import keras
from keras import ops

from ..levels import TrainingConfig

NARROW = 32
"""AdamW trains kernels with at most this many input or output channels."""


class Muon(keras.optimizers.Muon):
    """Keras's Muon for the matrices between hidden features, also of one-dimensional convolutions;
    AdamW for embeddings, logits, biases and `NARROW` kernels.

    A step of Muon is the momentum with equal singular values (Jordan et al. 2024), scaled so that
    one learning rate serves both (Liu et al. 2025, §2.2). A convolution's kernel [taps, in, out]
    counts as a matrix [taps·in, out].
    """

    def __init__(self, learning_rate, weight_decay: float):
        super().__init__(learning_rate, adam_beta_2=0.99, adam_weight_decay=weight_decay,
                         weight_decay=weight_decay, global_clipnorm=1.0,
                         exclude_layers=["logits"])

    def _apply_weight_decay(self, variables):
        """Evaluates the learning rate's schedule once, not for each variable as Keras does."""
        rate = self.learning_rate
        for variable in variables:
            if self._use_weight_decay(variable):
                decay = (self.adam_weight_decay if self._should_use_adamw(variable)
                         else self.weight_decay)
                variable.assign(variable - variable * (decay * ops.cast(rate, variable.dtype)))

    def _should_use_adamw(self, variable):
        shape = variable.shape
        if len(shape) == 3 and min(shape[1:]) > NARROW:
            return False
        return min(shape, default=0) <= NARROW or super()._should_use_adamw(variable)

    def zeropower_via_newtonschulz5(self, x, steps: int):
        """In the compute dtype of the model, such as bfloat16, as the authors do."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        dtype = keras.mixed_precision.dtype_policy().compute_dtype
        orthogonal = super().zeropower_via_newtonschulz5(ops.cast(matrix, dtype), steps)
        return ops.reshape(ops.cast(orthogonal, x.dtype), x.shape)

    def lr_adjust(self, x):
        """The scale of the orthogonalised matrix [taps·in, out]."""
        return x * (self.rms_rate * max(math.prod(x.shape[:-1]), x.shape[-1]) ** 0.5)


def learning_rate(training: TrainingConfig, steps: int):
    """A warm-up, then a cosine decay to a twentieth of the peak at the last of `steps`. Always a
    schedule, because a constant would be one more variable in the saved state.
    """
    warmup, peak = min(training.warmup, steps // 2), training.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        peak / 100 if warmup else peak, max(1, steps - warmup), alpha=0.05,
        warmup_target=peak if warmup else None, warmup_steps=warmup)
