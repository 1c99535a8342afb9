"""What every core offers; `cores.py` has the kinds."""

import keras
import numpy as np

from ..config import GeneratorConfig
from . import losses


class Core(keras.Model):
    """The interface of a core, made with the generator's config."""

    compile_options = staticmethod(losses.code_compile_options)

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

        Returns:
            The frame int32 [batch, books] and the new state.
        """
        raise NotImplementedError
