"""Decoders: vectors -> audio, one function for each kind of the config's `encoder`, which the
decoder mirrors.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers, ops

from ..config import CodecConfig
from .blocks import Conv, ReceptiveField, gelu, stage_blocks, upsampling
from .bottlenecks import BOTTLENECKS
from .conditions import add_condition, label_vector_input
from .gains import Gains, SetLevels
from .heads import HEADS, Head
from .planes import plane_decoder


def mirror_decoder(config: CodecConfig) -> tuple[keras.Model, Head]:
    """(vectors float32 [batch, N, vector_width] -> audio float32 [batch, N·level, 1], the head with
    its receptive fields in codes).

    A head with an auxiliary output adds a second output. A head that needs its position adds the
    input start, int32 [batch], the number of the first code in the piece modulo PERIOD / level.
    Labels add a last input, the piece's label vector float32 [batch, 1, channels], for each stage.
    """
    vectors = keras.Input((None, config.quantizer.vector_width), name="vectors")
    inputs, start, label = [vectors], None, label_vector_input(config)
    if config.needs_position:
        start = keras.Input((), dtype="int32", name="start")
        inputs.append(start)
    if label is not None:
        inputs.append(label)
    field = ReceptiveField()
    expand = Conv(config.stages[-1].channels, 3, padding=config.padding, name="expand")
    x = add_condition(expand(vectors), label, "add_label")
    field.add(expand)
    for layer in BOTTLENECKS[config.bottleneck.kind](config.bottleneck):
        x = layer(x)
        field.add(layer)
    head = HEADS[config.head.kind](config)
    for i in reversed(range(len(config.stages))):
        for block in stage_blocks(config, i):
            x = block(x)
            field.add(block)
        x = layers.Activation(gelu, name=f"activation_{i}")(x)
        head.first_stage = head.first_stage or field.copy()
        head.tap(i, x, start, field)
        if i:
            ratio = config.stages[i].stride
            up = upsampling(config, config.stages[i - 1].channels, ratio, 3, f"up_{i}")
            x = add_condition(up(x), label, f"add_label_{i}")
            field.add(up, ratio=ratio)
    audio = head.synthesise(x, start, field)
    if edges := config.quantizer.gain_edges:
        levels = SetLevels(edges, config.level, config.sample_rate, name="levels")
        audio = levels(audio, Gains(config.quantizer.gains, name="gains")(vectors))
        for seen in head.receptive_fields:
            seen.left += levels.receptive_field[0]
            seen.right += levels.receptive_field[1]
    inputs = inputs if len(inputs) > 1 else vectors
    return keras.Model(inputs, head.outputs(audio), name="decoder"), head


DECODERS: dict[str, Callable] = {
    "mirror": mirror_decoder, "banded": mirror_decoder, "plane": plane_decoder,
}
"""The decoder for each kind of encoder: (codec config) -> (model, head)."""


def with_averages(decoder: keras.Model, config: CodecConfig) -> keras.Model:
    """The decoder with one more output for each up-sampled stage: the mean over its channels before
    the activation, [batch, samples / hop].
    """
    stages = [decoder.get_layer(f"activation_{i}").input for i in range(len(config.stages) - 1)]
    return keras.Model(decoder.inputs, [*decoder.outputs, *(ops.mean(x, axis=-1) for x in stages)])


def with_state(model: keras.Model) -> keras.Model:
    """A chain of causal layers as [x, state] -> [y, the next state], for a piece in blocks. state:
    float32 [batch, s], the past steps of each layer's input.
    """
    first, *chain = model.layers
    counts = [getattr(layer, "past_steps", 0) for layer in chain]
    widths = [layer.input.shape[-1] for layer in chain]
    x = inputs = keras.Input(first.output.shape[1:])
    state = keras.Input((sum(n * width for n, width in zip(counts, widths, strict=True)),))
    begin, new_state = 0, []
    for layer, count, width in zip(chain, counts, widths, strict=True):
        if not count:
            x = layer(x)
            continue
        past = ops.reshape(state[:, begin : begin + count * width], (-1, count, width))
        begin += count * width
        last = ops.concatenate([past, ops.cast(x, "float32")], axis=1)[:, -count:]
        new_state.append(ops.reshape(last, (-1, count * width)))
        x = layer(x, past=past)
    return keras.Model([inputs, state], [x, ops.concatenate(new_state, axis=-1)])
