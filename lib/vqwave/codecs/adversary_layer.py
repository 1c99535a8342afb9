"""The decoder's adversary: convolutions over spectrograms that learn to distinguish recordings from
reconstructions. A decoder trained on spectral distances alone makes hiss and hum where it cannot
predict the sound.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import layers, ops

from . import spectrum_layer as spectrum
from .adversary import AdversaryConfig, DiscriminatorConfig


class Convolution(NamedTuple):
    """channels, the width along frequency, and strides along time and frequency."""

    channels: int
    width: int
    strides: tuple[int, int]


class STFTDiscriminator(layers.Layer):
    """audio float32 [batch, samples] -> the features of each layer; the last are the scores [batch,
    t, f, 1]. Strided convolutions and a layer of scores read the `view` of the audio's spectra.

    Spectra at several resolutions as in EnCodec (Défossez et al. 2022, section 3.4), but far
    narrower and with strides along frequency, for two CPU cores.
    """

    VIEW_CHANNELS: int
    CONVOLUTIONS: tuple[Convolution, ...]

    def __init__(self, config: DiscriminatorConfig, **kwargs):
        super().__init__(name=f"{config.kind}_{config.n_fft}_{config.hop}", **kwargs)
        self.config = config
        same = {"padding": "same", "dtype": self.dtype_policy}
        self.convolutions = [layers.Conv2D(c.channels, (3, c.width), c.strides, name=f"conv_{i}",
                                           **same) for i, c in enumerate(self.CONVOLUTIONS)]
        self.score = layers.Conv2D(1, (3, 3), name="score", **same)

    def build(self, shape):
        inputs = (self.VIEW_CHANNELS, *(c.channels for c in self.CONVOLUTIONS))
        for conv, channels in zip((*self.convolutions, self.score), inputs, strict=True):
            conv.build((None, None, None, channels))

    def view(self, audio):
        """audio float32 [batch, samples] -> [batch, t, f, VIEW_CHANNELS]."""
        raise NotImplementedError

    def call(self, audio):
        x = ops.cast(self.view(ops.cast(audio, "float32")), self.compute_dtype)
        features = []
        for conv in self.convolutions:
            x = ops.leaky_relu(conv(x), 0.2)
            features.append(ops.cast(x, "float32"))
        return [*features, ops.cast(self.score(x), "float32")]


class ComplexSTFTDiscriminator(STFTDiscriminator):
    """A discriminator of the real and imaginary parts as two channels, as in SoundStream (Zeghidour
    et al. 2021, section III.D). They are scaled so that noise has the same size in every window.
    """

    VIEW_CHANNELS = 2
    CONVOLUTIONS = (Convolution(16, 9, (1, 4)), Convolution(32, 9, (2, 4)),
                    Convolution(64, 9, (2, 2)))

    def view(self, audio):
        n_fft = self.config.n_fft
        return ops.stack(ops.stft(audio, n_fft, self.config.hop, n_fft), axis=-1) * n_fft**-0.5


class MagnitudeDiscriminator(STFTDiscriminator):
    """A discriminator of log magnitudes, for decoders whose phases are their own. It sees valleys
    between partials, as far as 100 dB down, so it has narrow strides along frequency.
    """

    VIEW_CHANNELS = 1
    CONVOLUTIONS = (Convolution(16, 9, (1, 2)), Convolution(32, 7, (1, 2)),
                    Convolution(48, 5, (2, 2)), Convolution(64, 5, (1, 2)))

    def view(self, audio):
        n_fft = self.config.n_fft
        magnitude = spectrum.magnitude(audio, n_fft, self.config.hop) * (4.0 / n_fft)
        return (ops.log(magnitude + 1e-5)[..., None] + 6.0) / 3.0


DISCRIMINATORS: dict[str, type[STFTDiscriminator]] = {
    "complex_stft": ComplexSTFTDiscriminator, "magnitude": MagnitudeDiscriminator,
}
"""The layer of each kind of discriminator: (config, dtype=) -> layer."""


class Game(NamedTuple):
    """The losses of a score D: the discriminator's loss for a recording and for a reconstruction,
    and the decoder's loss for a reconstruction.
    """

    recording: Callable
    reconstruction: Callable
    decoder: Callable


GAMES: dict[str, Game] = {
    # LSGAN (Mao et al. 2017): the targets of the scores are 1 and 0.
    "least_squares": Game(lambda d: (d - 1.0) ** 2, lambda d: d**2, lambda d: (d - 1.0) ** 2),
    # Scores beyond 1 and −1 have no loss (Lim & Ye 2017).
    "hinge": Game(lambda d: ops.relu(1.0 - d), lambda d: ops.relu(1.0 + d), lambda d: -d),
}


class Adversary(layers.Layer):
    """All discriminators, with their losses and those of the decoder. The constructor builds the
    weights. Each training step uses one discriminator, which `seed` draws.
    """

    def __init__(self, config: AdversaryConfig, seed: int = 0):
        super().__init__(name="adversary")
        self.game, self.seed_generator = GAMES[config.game], keras.random.SeedGenerator(seed)
        self.term_weights = {"discriminator": 1.0, "adversarial": config.weight,
                             "feature_matching": config.feature_matching,
                             "repulsion": config.repulsion}
        """The weight of each of `losses_of` in the codec's loss."""
        self.discriminators = [DISCRIMINATORS[d.kind](d, dtype=self.dtype_policy)
                               for d in config.discriminators]
        self.won = [keras.metrics.Mean(name=f"won_{d.name}") for d in self.discriminators]
        self.build((None, None))

    def build(self, shape):
        for d in self.discriminators:
            d.build(shape)

    def losses_of(self, recording, reconstruction) -> dict:
        """recording x, reconstruction y: float32 [batch, samples] -> each term of `term_weights` by
        name. Call it in the codec's `compute_loss`, because JAX updates no metric in `call`.

        discriminator: the game's loss of the discriminators, without gradient to the decoder.
        adversarial: the game's loss of the decoder; feature_matching: mean over layers of
            ‖f(x) − f(y)‖₁ / ‖f(x)‖₁ (Larsen et al. 2016); both without gradient to the
            discriminators.
        repulsion: mean softplus(D(y) − D(x)) of scores at the same place, without gradient to the
            decoder (Jolicoeur-Martineau 2019). Unlike hinge, it moves a discriminator whose score
            is constant.

        The metrics `won` are the share of positions with D(x) > D(y), over the steps that use the
        discriminator: 1 if it always wins, 0.5 if it guesses.
        """
        count = len(self.discriminators)
        # The other discriminators get a gradient of zero: only momentum and weight decay move them.
        drawn = keras.random.randint((), 0, count, seed=self.seed_generator)
        terms = ops.switch(drawn, [functools.partial(
            losses_of_one, d, self.game, recording, reconstruction) for d in self.discriminators])
        won, played = terms.pop("won"), ops.one_hot(drawn, count, dtype="float32")
        for number, metric in enumerate(self.won):
            metric.update_state(won, sample_weight=played[number])
        return terms

    @property
    def training_metrics(self) -> set[str]:
        """The names of all terms and metrics of the adversary, which validation does not have."""
        return {*self.term_weights, *(metric.name for metric in self.won)}


def losses_of_one(discriminator, game: Game, recording, reconstruction) -> dict:
    """The terms of `Adversary.losses_of` for one discriminator."""
    real = discriminator(recording)
    fake = discriminator(ops.stop_gradient(reconstruction))
    # The gradient reaches the reconstruction, but not the weights. So one loss, one optimizer
    # and plain `fit` train decoder and discriminators.
    weights = [(v, ops.stop_gradient(v.value)) for v in discriminator.variables]
    with keras.StatelessScope(weights):
        frozen = discriminator(reconstruction)
    pairs = [(ops.stop_gradient(a), b) for a, b in zip(real[:-1], frozen[:-1], strict=True)]
    matching = [ops.mean(ops.abs(a - b)) / (ops.mean(ops.abs(a)) + 1e-6) for a, b in pairs]
    return {"discriminator": (ops.mean(game.recording(real[-1]))
                              + ops.mean(game.reconstruction(fake[-1]))),
            "adversarial": ops.mean(game.decoder(frozen[-1])),
            "feature_matching": sum(matching) / len(matching),
            "repulsion": ops.mean(ops.softplus(fake[-1] - real[-1])),
            "won": ops.mean(ops.cast(real[-1] > fake[-1], "float32"))}
