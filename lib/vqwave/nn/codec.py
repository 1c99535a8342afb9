"""The codec of one level: front end, encoder, quantizer, decoder and head, built from a
`CodecConfig`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import keras
from keras import layers, ops

from ..config import (
    PERIOD,
    BandedEncoder,
    CodecConfig,
    Config,
    MirrorEncoder,
    PlaneEncoder,
)
from ..data import chunking
from ..errors import UserError
from ..io import weights
from .bottlenecks import BOTTLENECKS
from .conditions import LabelEmbedding
from .discriminators import build_adversary
from .encoders import ENCODERS, label_vector, stage_blocks, tell
from .frontends import FRONT_ENDS
from .heads import HEADS, Head
from .hierarchies import HIERARCHIES
from .layers import Conv, Reach, gelu, upsampling
from .losses import channel_average, terms_of
from .planes import plane_decoder


def build_decoder(config: CodecConfig) -> tuple[keras.Model, Head]:
    """(vectors float32 [batch, N, vector_width] -> audio float32 [batch, N·level, 1], the head,
    which knows how far its branches see in codes).

    A head with clues makes a second output of them. With a head that must know its position it
    takes [vectors, start], start int32 [batch] the number of the first of these codes in the piece,
    modulo PERIOD / level; with labels, last of all, the vector of the piece's, float32 [batch, 1,
    channels], which is told to every stage.
    """
    vectors = keras.Input((None, config.quantizer.vector_width), name="vectors")
    inputs, start, said = [vectors], None, label_vector(config)
    if config.needs_position:
        start = keras.Input((), dtype="int32", name="start")
        inputs.append(start)
    if said is not None:
        inputs.append(said)
    reach = Reach()
    expand = Conv(config.stages[-1].channels, 3, padding=config.padding, name="expand")
    x = tell(expand(vectors), said, "told")
    reach.add(expand)
    for layer in BOTTLENECKS[type(config.bottleneck)](config.bottleneck):
        x = layer(x)
        reach.add(layer)
    head = HEADS[type(config.head)](config)
    for i in reversed(range(len(config.stages))):
        for block in stage_blocks(config, i):
            x = block(x)
            reach.add(block)
        x = layers.Activation(gelu, name=f"activation_{i}")(x)
        head.first_stage = head.first_stage or reach.copy()
        head.tap(i, x, start, reach)
        if i:
            ratio = config.stages[i].stride
            up = upsampling(config, config.stages[i - 1].channels, ratio, 3, f"up_{i}")
            x = tell(up(x), said, f"told_{i}")
            reach.add(up, ratio=ratio)
    audio = head.synthesise(x, start, reach)
    return keras.Model(_one_or_all(inputs), head.outputs(audio), name="decoder"), head


def _one_or_all(inputs: list):
    """What Keras calls a model of one input with, and one of several."""
    return inputs if len(inputs) > 1 else inputs[0]


DECODERS: dict[type[Config], Callable] = {
    MirrorEncoder: build_decoder, BandedEncoder: build_decoder, PlaneEncoder: plane_decoder,
}
"""What builds the decoder that goes with each kind of encoder: (codec config) -> (model, head)."""


@keras.saving.register_keras_serializable("vqwave")
class VQVAE(keras.Model):
    """audio float32 [batch, T] -> reconstruction float32 [batch, T]; T a multiple of the level.
    Trained by plain `fit`.

    `encode_model` and `decode_model` are its halves as they are used and exported: samples to
    codes, codes to samples. With a head that makes no audio what a vocoder takes stands in the
    place of the samples that are made (`data/vocoders.py`).
    decoder_only: training leaves encoder and codebook, and so every code, as they are.

    One with labels is a conditional VAE (Sohn, Lee and Yan 2015): it is given {"samples": audio,
    "label": int32 [batch, 1, n, 2]}, what the piece is as `config.Labels` has it, and both halves
    are told the vectors of that. Its prior is N(0, 1) whatever they say.
    """

    def __init__(self, config: CodecConfig, seed: int = 0, decoder_only: bool = False, **kwargs):
        super().__init__(name=config.name, **kwargs)
        self.config, self.decoder_only = config, decoder_only
        self.judging = False
        self.front_end = FRONT_ENDS[type(config.front_end)](config.front_end, config.sample_rate)
        self.encoder, sees = ENCODERS[type(config.encoder)](config, self.front_end)
        before, after = self.front_end.receptive_field
        self.quantizer, sees_frames = HIERARCHIES[type(config.hierarchy)](config, seed)
        hop, level, segment = self.front_end.hop, config.level, config.quantizer.segment
        frames = (max(before + sees.left * hop, after + sees.right * hop) / level
                  + config.quantizer.overlap + sees_frames)
        self.encode_halo = _whole(frames / segment) * segment
        """Codes' worth of samples to either side that one code can see; `chunking.ALL` where that
        is the whole piece.
        """
        self.decoder, self.head = DECODERS[type(config.encoder)](config)
        self.decode_halo = _whole(max(max(r.left, r.right) for r in self.head.reaches))
        """Codes to either side that one code's samples can see; `chunking.ALL` as above."""
        self.decode_near = self._near()
        """Of those, how many the stages after the first see."""
        waited = (config.quantizer.overlap + sees_frames + segment - 1
                  + max(r.right for r in self.head.reaches))
        self.latency = _whole(level + after + sees.right * hop + waited * level)
        """Samples that are there before the first of a frame's can be played: its own, and what
        encoder and decoder see of those behind it.
        """
        self.decoder_in_training = (_with_averages(self.decoder, config)
                                    if config.loss.channel_average else self.decoder)
        self.label_embedding = None
        if labels := config.labels:
            self.label_embedding = LabelEmbedding(labels.none, labels.channels, labels.dropout,
                                                  name="labels")
            self.label_embedding.build(labels.shape)
            self.label_embedding.trainable = not decoder_only
        self.encoder.trainable = self.quantizer.trainable = not decoder_only
        self.terms = terms_of(config.loss) if config.head.makes_audio else {}
        terms = [*itertools.chain.from_iterable(self.terms), *self.head.TERMS]
        if config.loss.channel_average:
            terms.append("channel_average")
        self.seed_generator = (keras.random.SeedGenerator(seed + 1) if config.needs_position
                               else None)
        self.adversary = build_adversary(config.adversary, seed + 2)
        self.weights_of_terms = {**dict(config.loss)}
        if self.adversary is not None:
            self.weights_of_terms |= self.adversary.weights_of_terms
            terms += self.adversary.weights_of_terms
        if not config.has_codes:
            terms.append("reconstruction")
        self.term_metrics = [keras.metrics.Mean(name=term) for term in terms]

    def _near(self) -> int:
        first, halo = self.head.first_stage, self.decode_halo
        if first is None or halo == chunking.ALL:
            return halo
        return _whole(max(max(r.left - first.left, r.right - first.right)
                          for r in self.head.reaches))

    @property
    def parts(self) -> dict[str, list]:
        """The variables that each file of a weights set holds, by part name."""
        labels = self.label_embedding.weights if self.label_embedding else []
        return {
            "encoder": [*self.encoder.weights, *getattr(self.quantizer, "networks", ()), *labels],
            "decoder": self.decoder.weights, "codebook": self.quantizer.codebooks,
        }

    def build(self, input_shape=None):
        self.built = True

    def call(self, inputs, training=False):
        audio, said = inputs, []
        if self.label_embedding is not None:
            audio = inputs["samples"]
            said = [self.label_embedding(inputs["label"], training=training)]
        # What the head's own terms compare its clues with.
        self.features = self.front_end(audio)
        encoding = training and not self.decoder_only
        latents = self.encoder(_one_or_all([self.features, *said]), training=encoding)
        quantized, _ = self.quantizer(latents, training=encoding)
        given = [quantized]
        if self.config.needs_position:
            start = ops.zeros(ops.shape(audio)[:1], "int32")
            if training:
                # Anywhere, so that what is learnt holds for every phase of the tones and any noise.
                start = keras.random.randint(ops.shape(audio)[:1], 0, PERIOD // self.config.level,
                                             seed=self.seed_generator)
            given.append(start)
        made = self.decoder_in_training(_one_or_all([*given, *said]), training=training)
        audio, *rest = made if isinstance(made, list | tuple) else [made]
        # What `compute_loss` looks at besides.
        self.clues = rest.pop(0) if self.head.clues is not None else None
        self.averages = rest
        return ops.cast(audio[..., 0], "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Σ weight·term over the terms of `LossConfig` and the adversary + the quantizer's own, a
        commitment or a divergence; each term is a metric too.

        Of a VAE this is the negative evidence lower bound, but for the weights, and without the
        quantizer's part it is the metric `reconstruction`.

        Validation judges by the reconstruction alone, and logs nothing of the adversary: a
            discriminator's opinion changes from epoch to epoch.
        """
        terms = {}
        for compute in self.terms.values():
            terms |= compute(y, y_pred, self.config)
        if self.clues is not None:
            terms |= self.head.losses_of(self.features, self.clues)
        if self.averages:
            terms["channel_average"] = channel_average(y, self.averages)
        total = own = sum(self.losses)
        if self.adversary is not None and training:
            terms |= self.adversary.losses_of(y, y_pred)
            self.adversary.update_metrics()
        self.quantizer.update_metrics()
        for metric in self.term_metrics:
            if metric.name in terms:
                metric.update_state(terms[metric.name])
                total = total + self.weights_of_terms.get(metric.name, 0.0) * terms[metric.name]
            elif metric.name == "reconstruction":
                metric.update_state(total - own)
        return total

    def evaluate(self, *args, **kwargs):
        self.judging = True
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.judging = False

    def get_metrics_result(self):
        found = super().get_metrics_result()
        left_out = self.adversary.terms_of_training if self.adversary and self.judging else ()
        return {name: value for name, value in found.items() if name not in left_out}

    def encode_model(self) -> keras.Model:
        """Functional model: audio float32 [batch, T] -> codes int32 [batch, T / level, books], or
        the means of its vectors float32 [batch, T / level, dim] where it has no codes.

        With labels: [audio, label], label int32 [batch, 1, n, 2] as in `call`.
        """
        audio, (label, said) = keras.Input((None,), name="samples"), self._label()
        latents = self.encoder(_one_or_all([self.front_end(audio), *said]))
        codes = _Call(self.quantizer.encode, name="encode")(latents)
        return keras.Model(_one_or_all([audio, *label]), codes, name=f"{self.config.name}_encode")

    def _label(self) -> tuple[list, list]:
        """The input of a piece's labels and the vector that is made of it; nothing of either where
        the codec has none.
        """
        if self.label_embedding is None:
            return [], []
        label = keras.Input((1, None, 2), dtype="int32", name="label")
        return [label], [self.label_embedding(label)]

    def decode_model(self) -> keras.Model:
        """Functional model: codes int32 [batch, N, books], or vectors float32 [batch, N, dim] ->
        audio float32 [batch, N·level].

        Where the config says `needs_position`: [codes, start], start int32 [batch] as in
        `build_decoder`; with labels, last of all, label as in `encode_model`.
        """
        codes, (label, said) = self._frames(), self._label()
        vectors = _Call(self.quantizer.lookup, name="lookup")(codes)
        start = []
        if self.config.needs_position:
            start = [keras.Input((), dtype="int32", name="start")]
        made = self.decoder(_one_or_all([vectors, *start, *said]))
        audio = made if self.head.clues is None else made[0]
        return keras.Model(_one_or_all([codes, *start, *label]),
                           layers.Reshape((-1,), name="samples")(audio),
                           name=f"{self.config.name}_decode")

    def decode_part_model(self) -> keras.Model:
        """Functional model: codes int32 [batch, N, books], places int32 [batch, M] -> audio float32
        [batch, M·level] of the frames at these places among the codes, all rows having the same,
        each the one after the other; then start as in `decode_model`.

        What it makes of them is what `decode_model` makes but for the outermost `decode_near`; only
        the first stage, which is the cheapest and sees the furthest, works on all N.
        """
        codes = self._frames()
        places = keras.Input((None,), dtype="int32", name="places")
        inputs = [codes, places]
        stage = self.decoder.get_layer(f"activation_{len(self.config.stages) - 1}").output
        first = keras.Model(self.decoder.inputs[0], stage)
        rest = keras.Model([stage, *self.decoder.inputs[1:]], self.decoder.outputs[0])
        given = ops.take(first(_Call(self.quantizer.lookup, name="lookup")(codes)), places[0],
                         axis=1)
        if self.config.needs_position:
            start = keras.Input((), dtype="int32", name="start")
            inputs, given = [*inputs, start], [given, start + places[:, 0]]
        return keras.Model(inputs, layers.Reshape((-1,), name="samples")(rest(given)),
                           name=f"{self.config.name}_decode_part")

    def _frames(self):
        """The input of what decodes."""
        config = self.config
        return keras.Input((None, None if config.nested else config.frame_width),
                           dtype=config.frame_dtype, name="codes")

    def encode_block_model(self) -> keras.Model:
        """Functional model of a causal codec: [audio float32 [batch, n·level], state] -> [codes
        int32 [batch, n, books], the state after it].

        A piece's blocks one after the other give the codes of the whole. state: float32 [batch, s],
        what the layers must remember of their inputs; zeros where a piece begins.
        """
        audio = keras.Input((None,), name="samples")
        step = _chain_in_blocks(self.encoder)
        state = keras.Input(step.input[1].shape[1:], name="state")
        latents, following = step([self.front_end(audio), state])
        codes = _Call(self.quantizer.encode, name="encode")(latents)
        return keras.Model([audio, state], [codes, following],
                           name=f"{self.config.name}_encode_block")

    def decode_block_model(self) -> keras.Model:
        """Functional model of a causal codec: [codes int32 [batch, n, books], state] -> [audio
        float32 [batch, n·level], the state after it]; see `encode_block_model`.
        """
        codes = self._frames()
        step = _chain_in_blocks(self.decoder)
        state = keras.Input(step.input[1].shape[1:], name="state")
        audio, following = step([_Call(self.quantizer.lookup, name="lookup")(codes), state])
        return keras.Model([codes, state],
                           [layers.Reshape((-1,), name="samples")(audio), following],
                           name=f"{self.config.name}_decode_block")


def _whole(count: float) -> int:
    """`count`, rounded up; `chunking.ALL` where it is infinite."""
    return math.ceil(count) if math.isfinite(count) else chunking.ALL


def _with_averages(decoder: keras.Model, config: CodecConfig) -> keras.Model:
    """The decoder with more outputs: the mean of the channels [batch, samples / hop] of each stage
    that was up-sampled to, before its activation.
    """
    stages = [decoder.get_layer(f"activation_{i}").input for i in range(len(config.stages) - 1)]
    return keras.Model(decoder.inputs, [*decoder.outputs, *(ops.mean(x, axis=-1) for x in stages)])


def _chain_in_blocks(model: keras.Model) -> keras.Model:
    """A model of causal layers, each of which takes what the one before it makes, as [x, state] ->
    [y, the state after it]: the same layers, given the `past` that each of them needs.
    """
    first, *chain = model.layers
    needs = [getattr(layer, "past", 0) for layer in chain]
    widths = [layer.input.shape[-1] for layer in chain]
    x = given = keras.Input(first.output.shape[1:])
    state = keras.Input((sum(n * width for n, width in zip(needs, widths, strict=True)),))
    begin, following = 0, []
    for layer, count, width in zip(chain, needs, widths, strict=True):
        if not count:
            x = layer(x)
            continue
        past = ops.reshape(state[:, begin : begin + count * width], (-1, count, width))
        begin += count * width
        last = ops.concatenate([past, ops.cast(x, "float32")], axis=1)[:, -count:]
        following.append(ops.reshape(last, (-1, count * width)))
        x = layer(x, past=past)
    return keras.Model([given, state], [x, ops.concatenate(following, axis=-1)])


class _Call(layers.Layer):
    """A quantizer's method as a layer of a functional model."""

    def __init__(self, method, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.method = method

    def call(self, x):
        return self.method(x)


def load_codec(weight_set: weights.WeightSet) -> VQVAE:
    """The Keras `VQVAE` of a set."""
    model = VQVAE(weight_set.config)
    take_weights(model, weight_set)
    return model


def load_encoder(folder, name: str, epoch: int | str | None, checksum: str):
    """What encodes, by name, so that a process that must find the codec itself can be asked for it.

    Returns:
        Its config, its `encode_halo`, and audio float32 [batch, n·level] -> codes int32 [batch, n,
        books].

    Raises:
        UserError: the set found there has another checksum.
    """
    weight_set = weights.find(folder, name, epoch)
    if weight_set.checksum != checksum:
        raise UserError(f"{weight_set.summary}: is another here than where the encoding was begun")
    model = load_codec(weight_set)
    return weight_set.config, model.encode_halo, model.encode_model().predict_on_batch


def take_weights(model: VQVAE, weight_set: weights.WeightSet):
    """The weights of a set into a model of its shapes."""
    for part, variables in model.parts.items():
        weights.assign(variables, weight_set.load(part), weight_set.files[part])
    model.quantizer.set_codebooks()
