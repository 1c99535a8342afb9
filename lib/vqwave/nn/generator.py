"""The generator of one level: P(code_t | code_<t, context), a context model and a stack of LSTMs.

Two parts, because they are run differently: `context` sees whole windows of source codes at once, `core` is run step by
step when music is made. Context model after WaveNet's dilated stack (van den Oord et al. 2016), chain of levels after
Jukebox (Dhariwal et al. 2020).
"""

from __future__ import annotations

import keras
from keras import layers, ops

from ..config import GeneratorConfig
from .layers import CroppedResidual, SubPixelUpsampling


def build_context(config: GeneratorConfig) -> keras.Model:
    """source codes int32 [batch, N + 2·halo] -> context float32 [batch, N·ratio, context_channels].

    Convolutions are unpadded: what lies outside the piece is not zeros that only some positions meet, but the token
    `config.pad_token`, so that a window anywhere in a piece gives exactly what the whole piece gives there.
    """
    codes = keras.Input((None,), dtype="int32", name="source")
    x = layers.Embedding(config.source_codes + 1, config.context_channels, name="embedding")(codes)
    for dilation in config.context_dilations:
        x = CroppedResidual(config.context_channels, dilation, name=f"dilated_{dilation}")(x)
    x = SubPixelUpsampling(config.context_channels, config.ratio, kernel_size=1, name="upsample")(x)
    x = layers.Activation("gelu", name="activation")(x)
    return keras.Model(codes, x, name="context")


def build_core(config: GeneratorConfig) -> keras.Model:
    """(previous int32 [batch, T], context float32 [batch, T, channels]) -> logits float32 [batch, T, num_codes].

    The previous code of a piece's first step is `config.start_token`. Without a source level there is no context input.
    """
    codes = keras.Input((None,), dtype="int32", name="previous")
    inputs = [codes]
    x = layers.Embedding(config.num_codes + 1, config.embedding_dim, name="embedding")(codes)
    if config.source_level:
        inputs.append(keras.Input((None, config.context_channels), name="context"))
        x = layers.Concatenate(name="join")([x, inputs[1]])
    for i in range(config.lstm_layers):
        x = layers.LSTM(config.units, return_sequences=True, name=f"lstm_{i}")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name=f"dropout_{i}")(x)
    # Logits and the softmax over them stay in float32 under mixed precision.
    logits = layers.Dense(config.num_codes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="generator")


@keras.saving.register_keras_serializable("vqwave")
class Generator(keras.Model):
    """Teacher-forced model of one level, trained by plain `fit`.

    call({"previous": int32 [batch, T], "source": int32 [batch, T / ratio + 2·halo]}) -> logits float32
    [batch, T, num_codes]; at the top of the chain there is no "source".
    """

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(name=config.name, **kwargs)
        self.config = config
        self.core = build_core(config)
        self.context = build_context(config) if config.source_level else None

    @property
    def parts(self) -> dict[str, list]:
        """The variables that each file of a weights set holds, by part name."""
        return {"generator": self.core.weights} | ({"context": self.context.weights} if self.context else {})

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=False):
        previous = inputs["previous"]
        if self.context is None:
            return self.core(previous, training=training)
        return self.core([previous, self.context(inputs["source"], training=training)], training=training)

    def initial_state(self, batch: int) -> list:
        """Zeros: h and c of each LSTM layer in turn, each [batch, units]."""
        return [ops.zeros((batch, self.config.units)) for _ in range(2 * self.config.lstm_layers)]

    def step(self, previous, context, state):
        """One step of the core, for sampling: the same numbers as a teacher-forced call, one position at a time.

        previous: int32 [batch]; context: float32 [batch, context_channels] or None; state: as `initial_state`
        -> (logits float32 [batch, num_codes], new state)
        """
        x = self.core.get_layer("embedding")(previous)
        if context is not None:
            x = ops.concatenate([x, context], axis=-1)
        new = []
        for i in range(self.config.lstm_layers):
            x, hc = self.core.get_layer(f"lstm_{i}").cell(x, state[2 * i : 2 * i + 2])
            new += list(hc)
        return self.core.get_layer("logits")(x), new
