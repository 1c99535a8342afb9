"""The codec of one level: front end, encoder, quantizer, decoder and head."""

import functools
import itertools
import math

import keras
import numpy as np
import scipy.signal
from keras import layers, ops

from ..errors import UserError
from ..io import weights
from ..io.audio import to_u16
from ..levels.kinds import layer_of
from .adversary_layer import Adversary
from .blocks_layer import ReceptiveField
from .codec import PERIOD, CodecConfig
from .encoders_layer import with_averages
from .gains_layer import FeaturesAndGains
from .labels_layer import LabelEmbedding
from .losses_layer import DISTRIBUTIONS, channel_average, terms_of
from .memory_layer import Memory, delay_of, with_state


class Codec(keras.Model):
    """audio float32 [batch, T] -> reconstruction float32 [batch, T]; T a multiple of the level.
    Trained by plain `fit`.

    `encode_model` and `decode_model` are the exported halves. If the head makes no audio, they end
    with the input of a vocoder (`data/vocoders.py`). decoder_only: training changes neither encoder
    nor codebook, and so no code. The input may then be {"samples": audio, "codes": int32 [batch,
    T / level, books]}, with given codes to decode, those of a performance; rows of negative codes
    stand for the audio's own.

    With labels this is a conditional VAE (Sohn, Lee and Yan 2015) with the prior N(0, 1) for all
    labels. The input is {"samples": audio, "label": int32 [batch, 1, n, 2]}, see `labels.Labels`.
    The labels' vectors condition encoder and decoder.
    """

    def __init__(self, config: CodecConfig, seed: int = 0, decoder_only: bool = False, **kwargs):
        super().__init__(name=config.name, **kwargs)
        self.config, self.decoder_only = config, decoder_only
        self.front_end = layer_of(config.front_end)(config.front_end, config.sample_rate)
        if edges := config.quantizer.gain_edges:
            self.front_end = FeaturesAndGains(self.front_end, edges, config.sample_rate)
        build_encoder, build_decoder = layer_of(config.encoder)
        self.encoder, field = build_encoder(config, self.front_end)
        self.quantizer = layer_of(config.hierarchy)(config, seed)
        self.quantizer.build(self.encoder.output.shape)
        self.decoder, self.head = build_decoder(config)
        self._measure(field)
        self.decoder_in_training = (with_averages(self.decoder, config)
                                    if config.loss.channel_average else self.decoder)
        self.label_embedding = None
        if labels := config.labels:
            self.label_embedding = LabelEmbedding(labels, name="labels")
            self.label_embedding.build(labels.shape)
            self.label_embedding.trainable = not decoder_only
        self.encoder.trainable = self.quantizer.trainable = not decoder_only
        self.seed_generator = (keras.random.SeedGenerator(seed + 1) if config.head.needs_position
                               else None)
        has_adversary = config.adversary is not None and (decoder_only or not config.adversary.late)
        self.adversary = Adversary(config.adversary, seed + 2) if has_adversary else None
        self._make_metrics()
        self.built = True

    def _measure(self, encoder: ReceptiveField):
        """Compute the receptive fields, in frames on either side, and the latency.

        encode_halo: of the encoder. decode_halo: of the decoder; decode_near: of its stages after
            the first; decode_past: of its `past_mean`, before the halo. latency: the input samples,
            counted from the start of a frame, that are needed before the first sample of the frame
            can be played.
        """
        config = self.config
        hop, level = self.front_end.hop, config.level
        before, after = self.front_end.receptive_field
        overlap = max(getattr(self.quantizer, "receptive_field", (0,)))
        frames = max(before + encoder.left * hop, after + encoder.right * hop) / level
        self.encode_halo = math.ceil(frames + overlap)
        fields, first = self.head.receptive_fields, self.head.first_stage
        self.decode_halo = self.decode_near = math.ceil(max(max(f.left, f.right) for f in fields))
        if first is not None:
            self.decode_near = math.ceil(max(max(f.left - first.left, f.right - first.right)
                                             for f in fields))
        self.decode_past = self.head.decode_past
        if self.head.delay:
            # The head looks back only, so a stream needs no halo before a block.
            self.decode_halo = math.ceil(max(f.right for f in fields))
            self.decode_past += math.ceil(max(f.left for f in fields)) - self.decode_halo
            self.decode_near = 0
        waiting = overlap + max(f.right for f in fields)
        self.latency = math.ceil(level + after + encoder.right * hop + waiting * level)

    def _make_metrics(self):
        config = self.config
        self.terms = terms_of(config.loss) if config.head.makes_audio else {}
        names = [*itertools.chain.from_iterable(self.terms), *self.head.OWN_TERMS]
        if config.loss.channel_average:
            names.append("channel_average")
        self.term_weights = dict(config.loss)
        if self.adversary is not None:
            self.term_weights |= self.adversary.term_weights
            names += self.adversary.term_weights
        if not config.has_codes:
            names.append("reconstruction")
        self.term_metrics = [keras.metrics.Mean(name=name) for name in names]
        self.quantizer_metrics = self.quantizer.new_metrics()

    @property
    def select_last(self) -> bool:
        """Whether the newest weights count as the best. The validation loss prefers dull decoders
        to adversarially trained decoders.
        """
        return self.adversary is not None

    @property
    def parts(self) -> dict[str, list]:
        """The variables of each file of a weights set, by part name."""
        labels = self.label_embedding.weights if self.label_embedding else []
        return {
            "encoder": [*self.encoder.weights, *getattr(self.quantizer, "encoder_weights", ()),
                        *labels],
            "decoder": self.decoder.weights, "codebook": self.quantizer.codebooks,
        }

    def call(self, inputs, training=False):
        inputs, label = inputs if isinstance(inputs, dict) else {"samples": inputs}, []
        audio = inputs["samples"]
        if self.label_embedding is not None:
            label = [self.label_embedding(inputs["label"], training=training)]
        features = self.front_end(audio)
        encoding = training and not self.decoder_only
        latents = self.encoder(_one_or_all([features, *label]), training=encoding)
        quantized = self.quantizer(latents, training=encoding)
        vectors, performed = quantized.vectors, None
        if "codes" in inputs:
            codes = inputs["codes"]
            performed = codes[:, :1, 0] >= 0
            vectors = ops.where(codes[..., :1] < 0, vectors,
                                self.quantizer.lookup(ops.maximum(codes, 0)))
        start = []
        if self.config.head.needs_position:
            # A random position in training, so that the decoder sees all phases and all noise.
            batch = ops.shape(audio)[:1]
            start = [keras.random.randint(batch, 0, PERIOD // self.config.level,
                                          seed=self.seed_generator)
                     if training else ops.zeros(batch, "int32")]
        outputs = self.decoder_in_training(_one_or_all([vectors, *start, *label]),
                                           training=training)
        audio, *rest = outputs if isinstance(outputs, list | tuple) else [outputs]
        auxiliary = rest.pop(0) if self.head.auxiliary_output is not None else None
        # What `compute_loss` needs besides the reconstruction.
        self.last_pass = features, quantized, auxiliary, rest, performed
        return ops.cast(audio[..., 0], "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The quantizer's losses + Σ weight·term, over the terms of `LossConfig` and, in training,
        of the adversary. Each term is also a metric. For a VAE, the metric `reconstruction` is the
        sum without the quantizer's losses. Performances have the adversary and `DISTRIBUTIONS`.
        """
        features, quantized, auxiliary, averages, performed = self.last_pass
        own = functools.partial(_without_gradient, rows=performed)
        terms = {}
        for names, compute in self.terms.items():
            terms |= compute(y, y_pred if names[0] in DISTRIBUTIONS else own(y_pred), self.config)
        if auxiliary is not None:
            terms |= self.head.losses_of(features, own(auxiliary))
        if averages:
            terms["channel_average"] = channel_average(y, averages)
        if self.adversary is not None and training:
            terms |= self.adversary.losses_of(y, y_pred)
        for name, update in quantized.metrics.items():
            self.quantizer_metrics[name].update_state(update)
        total = quantizer_loss = sum(quantized.losses)
        for metric in self.term_metrics:
            if metric.name in terms:
                metric.update_state(terms[metric.name])
                total = total + self.term_weights.get(metric.name, 0.0) * terms[metric.name]
            elif metric.name == "reconstruction":
                metric.update_state(total - quantizer_loss)
        return total

    def evaluate(self, *args, **kwargs) -> dict:
        """Metrics by name, without those of the adversary, which is used in training only."""
        results = super().evaluate(*args, **(kwargs | {"return_dict": True}))
        hidden = self.adversary.training_metrics if self.adversary else ()
        return {name: value for name, value in results.items() if name not in hidden}

    def encode_model(self) -> keras.Model:
        """Functional model: audio float32 [batch, T] -> codes int32 [batch, T / level, books]; of a
        VAE, the means of the vectors, float32 [batch, T / level, dim].

        With labels: [audio, label], label int32 [batch, 1, n, 2] as in `call`.
        """
        audio, (label, vector) = keras.Input((None,), name="samples"), self._label_input()
        latents = self.encoder(_one_or_all([self.front_end(audio), *vector]))
        return self._model("encode", [audio, *label], [self._encode(latents)])

    def decode_model(self) -> keras.Model:
        """Functional model: codes int32 [batch, N, books], or vectors float32 [batch, N, dim] ->
        audio float32 [batch, N·level].

        A head with `needs_position` adds the input start, int32 [batch], see
        `encoders_layer.mirror_decoder`. Labels add the last input, label, as in `encode_model`.
        """
        codes, (label, vector) = self._codes_input(), self._label_input()
        start = self._start_input()
        outputs = self.decoder(_one_or_all([self._lookup(codes), *start, *vector]))
        audio = outputs if self.head.auxiliary_output is None else outputs[0]
        return self._model("decode", [codes, *start, *label], [_samples(audio)])

    def decode_part_model(self) -> keras.Model:
        """Functional model of the next frames of a piece: [codes int32 [batch, n, books], inside
        float32 [batch, D + n, 1], kept int32 [batch], places int32 [batch, M], state, and start] ->
        [audio float32 [batch, M·level] of the frames at these places, next state].

        The first stage, with the largest receptive field, remembers its past (`with_state`), and
        makes its features D = `decode_delay` frames late. The later stages compute a window of the
        last `decode_window` + n features: `places` in this window, consecutive, and equal in all
        rows. start: as in `decode_model`, of the window's first frame. The audio equals that of
        `decode_model`, except for the outermost `decode_near` frames. kept: see `Memory`.
        """
        codes, start = self._codes_input(), self._start_input()
        inside = keras.Input((None, 1), name="inside")
        kept, places = (keras.Input(shape, dtype="int32", name=name)
                        for name, shape in (("kept", ()), ("places", (None,))))
        state = keras.Input((None,), name="state")
        memory, vectors = Memory(state, kept), self._lookup(codes)
        late = self.head.delay
        features = [with_state(self.first_stage, vectors, memory, inside[:, late:])]
        if self.config.quantizer.gain_edges:
            gains = self.decoder.get_layer("gains")
            features.append(memory.delay(gains(vectors), delay_of(self.first_stage)))
        if late:
            audio, rest = _Method(self.head.stream, name="stream")(
                [*features, *(s + late for s in start), inside, kept, state[:, memory.begin :]])
            memory.parts.append(rest)
            frames = ops.take(audio, places[0], axis=1)
            audio = layers.Reshape((-1, 1), name="frames")(frames)
            return self._model("decode_part", [codes, inside, kept, places, state, *start],
                               [_samples(audio), memory.next_state])
        x, = features
        seen = ops.take(ops.concatenate([memory.past(x, self.decode_window), x], axis=1),
                        places[0], axis=1)
        rest = keras.Model([*self.first_stage.outputs, *self.decoder.inputs[1:]],
                           self.decoder.outputs[0])
        audio = rest(_one_or_all([seen, *(s + places[:, 0] for s in start)]))
        return self._model("decode_part", [codes, inside, kept, places, state, *start],
                           [_samples(audio), memory.next_state])

    @functools.cached_property
    def first_stage(self) -> keras.Model:
        """The decoder's layers before the first up-sampling: vectors -> features."""
        last = self.decoder.get_layer(f"activation_{len(self.config.stages) - 1}")
        return keras.Model(self.decoder.inputs[0], last.output)

    @property
    def decode_delay(self) -> int:
        """The frames by which `decode_part` makes the features of the first stage late; of a head
        that remembers, also the audio.
        """
        return delay_of(self.first_stage) + self.head.delay

    @property
    def decode_window(self) -> int:
        """The features of earlier calls that the later stages of `decode_part` may see."""
        return 0 if self.head.delay else self.decode_halo - self.decode_delay + self.decode_near

    def _model(self, name: str, inputs: list, outputs: list) -> keras.Model:
        return keras.Model(_one_or_all(inputs), _one_or_all(outputs),
                           name=f"{self.config.name}_{name}")

    def _label_input(self) -> tuple[list, list]:
        """The input of a piece's labels and their vector; both empty without labels."""
        if self.label_embedding is None:
            return [], []
        label = keras.Input((1, None, 2), dtype="int32", name="label")
        return [label], [self.label_embedding(label)]

    def _start_input(self) -> list:
        """[the input of the first code's position]; [] for heads without `needs_position`."""
        needed = self.config.head.needs_position
        return [keras.Input((), dtype="int32", name="start")] if needed else []

    def _codes_input(self):
        config = self.config
        return keras.Input((None, None if config.nested else config.frame_width),
                           dtype=config.frame_dtype, name="codes")

    def _encode(self, latents):
        return _Method(self.quantizer.encode, name="encode")(latents)

    def _lookup(self, codes):
        return _Method(self.quantizer.lookup, name="lookup")(codes)


def _without_gradient(tensor, rows):
    """A tensor whose gradient does not reach some rows of the batch. rows: bool [batch, 1]; None:
    no row.
    """
    if rows is None:
        return tensor
    rows = ops.reshape(rows, (-1, *[1] * (len(tensor.shape) - 1)))
    return ops.where(rows, ops.stop_gradient(tensor), tensor)


def _one_or_all(tensors: list):
    """Inputs or outputs of a Keras model: a single tensor, or a list of several."""
    return tensors if len(tensors) > 1 else tensors[0]


def _samples(audio):
    """[batch, samples, 1] -> [batch, samples]."""
    return layers.Reshape((-1,), name="samples")(audio)


class _Method(layers.Layer):
    """A quantizer's method as a layer of a functional model."""

    def __init__(self, method, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.method = method

    def call(self, x):
        return self.method(x)


def load_codec(weight_set: weights.WeightSet) -> Codec:
    """The Keras `Codec` with trained weights."""
    model = Codec(weight_set.config)
    take_weights(model, weight_set)
    return model


def load_encoder(folder, name: str, epoch: int | str | None, checksum: str):
    """The encoder of a codec, for worker processes: its config, its `encode_halo`, and a function
    audio float32 [batch, n·level] -> codes int32 [batch, n, books].

    Raises `UserError` if the weights in that folder have another checksum.
    """
    weight_set = weights.find(folder, name, epoch)
    if weight_set.checksum != checksum:
        raise UserError(f"{weight_set.summary}: these weights differ from those on the machine "
                        f"that started the encoding")
    model = load_codec(weight_set)
    return weight_set.config, model.encode_halo, model.encode_model().predict_on_batch


def load_echo(folder, name: str, epoch: int | str | None, checksum: str):
    """Like `load_encoder`, with a function audio float32 [1, n·level] -> int32 [1, n, level], the
    sound that the codec makes of it, as u16.

    The sound has the recording's phases (the magnitudes are the codec's), because the phases of a
    source are its own, so that a level below could not learn to keep them.
    """
    weight_set = weights.find(folder, name, epoch)
    model = load_codec(weight_set)
    encode, decode = model.encode_model(), model.decode_model()
    config = weight_set.config

    def echo(audio):
        codes = np.asarray(encode(audio))
        start = [np.zeros(1, np.int32)] * config.head.needs_position
        sound = np.asarray(decode(_one_or_all([codes, *start])))
        if config.head.needs_position:
            sound = _in_phase(sound, audio)
        return to_u16(sound).reshape(1, -1, config.level).astype(np.int32)

    return config, model.encode_halo + model.decode_halo + model.decode_past, echo


def _in_phase(sound, recording):
    """float32 [1, samples] with the magnitudes of `sound` and the phases of `recording`."""
    frame = {"nperseg": 1024, "noverlap": 768}
    spectra, phases = (scipy.signal.stft(x[0], **frame)[2] for x in (sound, recording))
    turned = np.abs(spectra) * np.exp(1j * np.angle(phases))
    return scipy.signal.istft(turned, **frame)[1][None, : sound.shape[1]].astype(np.float32)


def take_weights(model: Codec, weight_set: weights.WeightSet):
    """Load trained weights into a model of the same shapes."""
    for part, variables in model.parts.items():
        weights.assign(variables, weight_set.load(part), weight_set.files[part])
    model.quantizer.use_loaded_codebooks()
