"""The generator of one level: P(frame_t | frame_<t, context), conditions and a core.

Two parts, because they are run differently: the conditions see whole windows at once, the core is
run step by step when music is made. The chain of levels is Jukebox's (Dhariwal et al. 2020).
"""

from __future__ import annotations

import keras
from keras import ops

from .. import weights
from ..config import GeneratorConfig
from .conditions import CONDITIONS
from .cores import CORES


@keras.saving.register_keras_serializable("vqwave")
class Generator(keras.Model):
    """Teacher-forced model of one level, trained by plain `fit`.

    call({"previous": int32 [batch, T, books], "source": int32 [batch, T / ratio + 2·halo, books
    above], "current": int32 [batch, T, books]}) -> logits float32 [batch, T, books, num_codes]. At
    the top of the chain there is no "source", with one book no "current".
    """

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(name=config.name, **kwargs)
        self.config = config
        self.core = CORES[type(config.core)](config)
        self.context = CONDITIONS[type(config.source)](config.source, config) if config.source else None

    @property
    def parts(self) -> dict[str, list]:
        """The variables that each file of a weights set holds, by part name."""
        return {"generator": self.core.weights} | ({"context": self.context.weights} if self.context else {})

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=False):
        context = None if self.context is None else self.context(inputs["source"], training=training)
        return self.core(inputs["previous"], context, inputs.get("current"), training=training)

    def initial_state(self, batch: int) -> list:
        """Zeros, [batch, …] for each of the core's states."""
        return [ops.zeros((batch, *shape)) for shape in self.config.core.states.values()]


def load_generator(found: weights.WeightSet) -> Generator:
    """The Keras `Generator` of a set."""
    model = Generator(found.config)
    take_weights(model, found)
    return model


def take_weights(model: Generator, found: weights.WeightSet):
    """The weights of a set into a model of its shapes."""
    for part, variables in model.parts.items():
        weights.assign(variables, found.load(part), found.files[part])
