"""The latents of a VAE."""

from typing import Literal

from ...levels.fields import Positive, Weight, Whole
from ..quantizers import QuantizerConfig


class GaussianQuantizer(QuantizerConfig):
    """No codes: a frame is a vector. In training the vector is drawn from a Gaussian, whose mean
    and variance the encoder predicts (VAE, Kingma and Welling 2014).

    dim: width of the vector. beta: weight of the divergence from N(0, 1) in the loss, in nats per
    dimension. The weight grows linearly from 0 over the first `warmup_steps` training steps.
    """

    kind: Literal["gaussian"] = "gaussian"
    has_codes = False
    dim: Positive = 32
    beta: Weight = 0.01
    warmup_steps: Whole = 1000
    training_only = ("beta", "warmup_steps")

    @property
    def width(self) -> int:
        return 2 * self.dim

    @property
    def vector_width(self) -> int:
        return self.dim
