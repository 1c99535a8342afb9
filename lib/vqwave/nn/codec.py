"""The codec of one level: encoder, quantizer and decoder, built from a `CodecConfig`."""

from __future__ import annotations

import keras
from keras import layers, ops

from ..config import PERIOD, CodecConfig
from ..train import replicas
from .discriminators import Adversary
from .heads import Loudness, NoiseBank, ToneBank
from .layers import ResidualBlock, SubPixelUpsampling, VectorQuantizer, gelu
from .losses import hum, reconstruction_terms


def build_encoder(config: CodecConfig) -> keras.Model:
    """audio float32 [batch, T, 1], T a multiple of the level -> latents [batch, T / level, code_dim]."""
    audio = x = keras.Input((None, 1), name="audio")
    for i, (stride, channels) in enumerate(zip(config.strides, config.channels, strict=True)):
        x = layers.Conv1D(channels, 2 * stride, strides=stride, padding="same", name=f"down_{i}")(x)
        for dilation in config.dilations[i]:
            x = ResidualBlock(channels, dilation, name=f"block_{i}_{dilation}")(x)
    x = layers.Activation(gelu, name="activation")(x)
    return keras.Model(audio, layers.Conv1D(config.code_dim, 3, padding="same", name="latents")(x), name="encoder")


def build_decoder(config: CodecConfig) -> keras.Model:
    """vectors float32 [batch, N, code_dim] -> audio float32 [batch, N·level, 1]; the encoder's mirror image.

    With tones or noise (`config.positioned`) it takes [vectors, start], start int32 [batch] the number of the first of
    these codes in the piece, modulo PERIOD / level.
    """
    vectors = keras.Input((None, config.code_dim), name="vectors")
    inputs, tones = vectors, None
    if config.positioned:
        start = keras.Input((), dtype="int32", name="start")
        inputs = [vectors, start]
    x = layers.Conv1D(config.channels[-1], 3, padding="same", name="expand")(vectors)
    for i in reversed(range(len(config.strides))):
        hop = config.hop(i)
        for dilation in config.dilations[i]:
            x = ResidualBlock(config.channels[i], dilation, name=f"block_{i}_{dilation}")(x)
        x = layers.Activation(gelu, name=f"activation_{i}")(x)
        if config.tones and i == config.tone_stage:
            loudness = Loudness(config.tones, name="loudness")(x)
            first = start * (config.level // hop)
            tones = ToneBank(config.tones, hop, config.sample_rate, name="tones")(loudness, first)
        if i:
            x = SubPixelUpsampling(config.channels[i - 1], config.strides[i], 3, config.even, name=f"up_{i}")(x)
        elif config.noise:
            x = NoiseBank(config.channels[0], hop, name="noise")(x, start * (config.level // hop))
        else:
            # The last, to the waveform, overlaps its neighbours widely: short patches would buzz at their rate.
            x = SubPixelUpsampling(1, hop, 7, config.even, name="up_0")(x)
    if tones is not None:
        x = layers.Add(name="sum", dtype="float32")([x, tones])
    return keras.Model(inputs, x, name="decoder")


@keras.saving.register_keras_serializable("vqwave")
class VQVAE(keras.Model):
    """audio float32 [batch, T] -> reconstruction float32 [batch, T]; T a multiple of the level. Trained by plain `fit`.

    `encode_model` and `decode_model` are its halves as they are used and exported: samples to codes, codes to samples.
    decoder_only: training leaves encoder and codebook, and so every code, as they are.
    """

    def __init__(self, config: CodecConfig, seed: int = 0, decoder_only: bool = False, **kwargs):
        super().__init__(name=config.name, **kwargs)
        self.config, self.decoder_only = config, decoder_only
        self.encoder = build_encoder(config)
        self.decoder = build_decoder(config)
        self.quantizer = VectorQuantizer(
            config.num_codes, config.code_dim, config.ema_decay, config.revival_threshold, config.loss.commitment,
            seed=seed, name="quantizer",
        )
        self.quantizer.build((None, None, config.code_dim))
        self.encoder.trainable = not decoder_only
        terms = ["spectral_convergence", "log_magnitude", "mel", "waveform"] + ["hum"] * (config.loss.hum > 0)
        self.seed_generator = keras.random.SeedGenerator(seed + 1) if config.positioned else None
        self.adversary = None
        if config.loss.adversarial or config.loss.feature_matching:
            self.adversary = Adversary(name="adversary")
            self.adversary.build((None, None))
            terms += ["discriminator", "adversarial", "feature_matching"]
        self.term_metrics = [keras.metrics.Mean(name=term) for term in terms]

    @property
    def parts(self) -> dict[str, list]:
        """The variables that each file of a weights set holds, by part name."""
        return {
            "encoder": self.encoder.weights, "decoder": self.decoder.weights, "codebook": [self.quantizer.codebook],
        }

    def build(self, input_shape=None):
        self.built = True

    def call(self, audio, training=False):
        latents = self.encoder(audio[..., None], training=training and not self.decoder_only)
        quantized, _ = self.quantizer(latents, training=training and not self.decoder_only)
        given = quantized
        if self.config.positioned:
            start = ops.zeros(ops.shape(audio)[:1], "int32")
            if training:
                # Anywhere, so that what is learnt holds for every phase of the tones and any noise.
                rows = replicas.joint(ops.shape(audio)[0])
                start = replicas.share(
                    keras.random.randint((rows,), 0, PERIOD // self.config.level, seed=self.seed_generator))
            given = [quantized, start]
        return ops.cast(self.decoder(given, training=training)[..., 0], "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Σ weight·term over `LossConfig`'s terms + the quantizer's commitment; each term is a metric too.

        Validation judges by the reconstruction alone: a discriminator's opinion changes from epoch to epoch.
        """
        terms = reconstruction_terms(y, y_pred, self.config.sample_rate)
        if self.config.loss.hum:
            terms["hum"] = hum(y, y_pred, self.config.level)
        total = sum(self.losses)
        if self.adversary is not None and training:
            terms |= self.adversary.losses_of(y, y_pred)
            total = total + terms["discriminator"]
        for metric in (self.quantizer.usage, self.quantizer.perplexity):
            metric.update_state(self.quantizer.batch_count)
        for metric in self.term_metrics:
            if metric.name in terms:
                metric.update_state(terms[metric.name])
                total = total + getattr(self.config.loss, metric.name, 0.0) * terms[metric.name]
        return replicas.part(total)

    def encode_model(self) -> keras.Model:
        """Functional model: audio float32 [batch, T] -> codes int32 [batch, T / level]."""
        audio = keras.Input((None,), name="samples")
        latents = self.encoder(layers.Reshape((-1, 1), name="channel")(audio))
        codes = _Call(self.quantizer.encode, name="encode")(latents)
        return keras.Model(audio, codes, name=f"{self.config.name}_encode")

    def decode_model(self) -> keras.Model:
        """Functional model: codes int32 [batch, N] -> audio float32 [batch, N·level].

        Where the config is `positioned`: [codes, start], start int32 [batch] as in `build_decoder`.
        """
        inputs = codes = keras.Input((None,), dtype="int32", name="codes")
        vectors = _Call(self.quantizer.lookup, name="lookup")(codes)
        if self.config.positioned:
            start = keras.Input((), dtype="int32", name="start")
            inputs, vectors = [codes, start], [vectors, start]
        audio = self.decoder(vectors)
        return keras.Model(inputs, layers.Reshape((-1,), name="samples")(audio), name=f"{self.config.name}_decode")


class _Call(layers.Layer):
    """A quantizer's method as a layer of a functional model."""

    def __init__(self, method, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.method = method

    def call(self, x):
        return self.method(x)
