"""The decoder's adversary: convolutions over spectrograms and waveforms that learn to tell
recordings from reconstructions.

Spectral distances punish a wrong guess more than a dull one, so a decoder trained on them alone
makes hiss of what it does not know and a hum of phases that the codes do not hold. A discriminator
has no such preference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from ..config import (
    AdversaryConfig,
    ComplexSTFTConfig,
    Config,
    STFTConfig,
    WaveformConfig,
)
from .layers import register

CHANNELS = (16, 32, 64)


@register
class FreezableConv2D(layers.Layer):
    """2-D convolution [batch, time, frequency, c] -> [batch, ⌈time/s⌉, ⌈frequency/f⌉, filters],
    strides (s, f), 'same'.

    With `frozen` its weights pass no gradient to themselves, only to its input: one loss, one
    optimizer and plain `fit` then serve both players, the discriminator's own terms unfrozen and
    the decoder's frozen.
    """

    def __init__(self, filters: int, kernel_size: tuple[int, int], strides: tuple[int, int],
                 **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.strides = filters, tuple(kernel_size), tuple(strides)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(*self.kernel_size, shape[-1], self.filters),
                                      name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x, frozen=False):
        kernel, bias = ops.convert_to_tensor(self.kernel), ops.convert_to_tensor(self.bias)
        if frozen:
            kernel, bias = ops.stop_gradient(kernel), ops.stop_gradient(bias)
        return ops.conv(x, kernel, self.strides, "same") + bias

    def get_config(self):
        own = {"filters": self.filters, "kernel_size": self.kernel_size, "strides": self.strides}
        return super().get_config() | own


class Discriminator(layers.Layer):
    """audio float32 [batch, samples] -> [features of the layers, the last of them the verdict
    [batch, t, f, 1]].

    Three strided convolutions and a verdict over what a subclass looks at.
    """

    SEEN: int
    """Channels of what it looks at."""
    KERNEL: tuple[int, int]
    STRIDES: tuple[tuple[int, int], ...]
    VERDICT: tuple[int, int]
    """The kernel of the verdict."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolutions = [
            FreezableConv2D(c, self.KERNEL, strides, name=f"conv_{i}", dtype=self.dtype_policy)
            for i, (c, strides) in enumerate(zip(CHANNELS, self.STRIDES, strict=True))
        ]
        self.verdict = FreezableConv2D(1, self.VERDICT, (1, 1), name="verdict",
                                       dtype=self.dtype_policy)

    def build(self, shape):
        seen = self.SEEN
        for conv in self.convolutions:
            conv.build((None, None, None, seen))
            seen = conv.filters
        self.verdict.build((None, None, None, seen))

    def look(self, audio):
        """What it sees of audio float32 [batch, samples]: [batch, t, f, SEEN]."""
        raise NotImplementedError

    def call(self, audio, frozen=False):
        x = ops.cast(self.look(ops.cast(audio, "float32")), self.compute_dtype)
        features = []
        for conv in self.convolutions:
            x = ops.leaky_relu(conv(x, frozen=frozen), 0.2)
            features.append(ops.cast(x, "float32"))
        return [*features, ops.cast(self.verdict(x, frozen=frozen), "float32")]


@register
class STFTDiscriminator(Discriminator):
    """It sees real and imaginary part, compressed to the 0.3th power of the magnitude so that quiet
    partials count, and the log of the magnitude.

    Complex spectra at several resolutions as in EnCodec (Défossez et al. 2022, section 3.4), far
    narrower and with strides along frequency, which is what two CPU cores can bear.
    """

    SEEN, KERNEL, STRIDES, VERDICT = 3, (3, 9), ((1, 4), (2, 4), (2, 2)), (3, 3)

    def __init__(self, n_fft: int, hop: int, **kwargs):
        super().__init__(**kwargs)
        self.n_fft, self.hop = n_fft, hop

    def look(self, audio):
        real, imag = ops.stft(audio, self.n_fft, self.hop, self.n_fft)
        power = real**2 + imag**2 + 1e-8
        shrink = power**-0.35
        return ops.stack([real * shrink, imag * shrink, ops.log(power) / 8.0], axis=-1)

    def get_config(self):
        return super().get_config() | {"n_fft": self.n_fft, "hop": self.hop}


@register
class ComplexSTFTDiscriminator(STFTDiscriminator):
    """It sees real and imaginary part as two channels, as in SoundStream (Zeghidour et al. 2021,
    section III.D), in units in which noise has the same size in every window.
    """

    SEEN = 2

    def look(self, audio):
        return ops.stack(ops.stft(audio, self.n_fft, self.hop, self.n_fft),
                         axis=-1) * self.n_fft**-0.5


@register
class WaveformDiscriminator(Discriminator):
    """It sees the waveform averaged over `factor` samples (MelGAN, Kumar et al. 2019, section 2.2).
    """

    SEEN, KERNEL, STRIDES, VERDICT = 1, (15, 1), ((4, 1),) * 3, (3, 1)

    def __init__(self, factor: int, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def look(self, audio):
        whole = ops.shape(audio)[1] // self.factor * self.factor
        steps = ops.reshape(audio[:, :whole], (ops.shape(audio)[0], -1, self.factor))
        return ops.mean(steps, axis=-1)[..., None, None]

    def get_config(self):
        return super().get_config() | {"factor": self.factor}


DISCRIMINATORS: dict[type[Config], Callable] = {
    STFTConfig: lambda one, dtype: STFTDiscriminator(
        one.n_fft, one.hop, name=f"stft_{one.n_fft}_{one.hop}", dtype=dtype),
    ComplexSTFTConfig: lambda one, dtype: ComplexSTFTDiscriminator(
        one.n_fft, one.hop, name=f"complex_stft_{one.n_fft}_{one.hop}", dtype=dtype),
    WaveformConfig: lambda one, dtype: WaveformDiscriminator(
        one.factor, name=f"waveform_{one.factor}", dtype=dtype),
}
"""The layer of each kind of discriminator: (config, dtype) -> layer, which returns its features,
its verdict last.
"""


class LeastSquares:
    """Verdicts are pulled to 1 and 0 (LSGAN, Mao et al. 2017)."""

    @staticmethod
    def discriminator(real, fake):
        """mean (D(x) − 1)² + mean D(ŷ)², from the verdicts on recordings and on what is made."""
        return ops.mean((real - 1.0) ** 2) + ops.mean(fake**2)

    @staticmethod
    def decoder(fake):
        """mean (D(y) − 1)²."""
        return ops.mean((fake - 1.0) ** 2)


class Hinge:
    """Verdicts are pushed beyond 1 and −1, and left alone there (Lim & Ye 2017)."""

    @staticmethod
    def discriminator(real, fake):
        """mean max(0, 1 − D(x)) + mean max(0, 1 + D(ŷ))."""
        return ops.mean(ops.relu(1.0 - real)) + ops.mean(ops.relu(1.0 + fake))

    @staticmethod
    def decoder(fake):
        """−mean D(y)."""
        return -ops.mean(fake)


GAMES: dict[str, Any] = {"least_squares": LeastSquares, "hinge": Hinge}
"""The losses of each game: a class whose `discriminator` takes the verdicts on both sides and whose
`decoder` those on what is made, float32 [batch, …] -> float32 [].
"""


class AllTurns:
    """Every discriminator plays."""

    @staticmethod
    def play(discriminators, losses, draw):
        """The mean of `losses(discriminator)`, each a mapping of float32 []."""
        return _mean_of([losses(d) for d in discriminators])


class OneTurn:
    """One discriminator plays, drawn evenly: a step costs what one of them costs.

    The others' weights get a gradient of nothing, so that only an optimizer's momentum moves them.
    """

    @staticmethod
    def play(discriminators, losses, draw):
        """draw: (n) -> int32 [], the number of one of n."""
        number = draw(len(discriminators))
        return ops.switch(number, [functools.partial(losses, d) for d in discriminators])


def _mean_of(found: list[dict]) -> dict:
    return {key: sum(one[key] for one in found) / len(found) for key in found[0]}


TURNS: dict[str, Any] = {"all": AllTurns, "one": OneTurn}
"""Which discriminators play in a step, by a class of `play`."""


class Adversary(layers.Layer):
    """All discriminators and the losses of both players."""

    def __init__(self, config: AdversaryConfig, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.game, self.turn = GAMES[config.game], TURNS[config.turn]
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.weights_of_terms = {"discriminator": 1.0, "adversarial": config.weight,
                                 "feature_matching": config.feature_matching,
                                 "repulsion": config.repulsion}
        """Of each of `losses_of` in the codec's loss."""
        self.discriminators = [DISCRIMINATORS[type(one)](one, self.dtype_policy)
                               for one in config.discriminators]
        # Fed by the model's `compute_loss`: in a call JAX updates no metric.
        self.won = [keras.metrics.Mean(name=f"won_{d.name}") for d in self.discriminators]

    def build(self, shape):
        for d in self.discriminators:
            d.build(shape)

    def losses_of(self, recording, made) -> dict:
        """recording, made: float32 [batch, samples] -> each of `weights_of_terms` by its name.

        discriminator: the game's loss of the discriminators, blind to the decoder. adversarial: its
            loss of the decoder; feature_matching: mean over layers of ‖f(x) − f(y)‖₁ / ‖f(x)‖₁
            (Larsen et al. 2016); both blind to the discriminators' weights. repulsion: mean
            softplus(D(y) − D(x)) of verdicts on the same place, blind to the decoder: hinge is as
            content with a D that says one value of everything as with any other, this is not
            (Jolicoeur-Martineau 2019).

        The metrics `won` are, for each discriminator, the share of places where D(x) > D(y) over
        the steps in which it plays: 1 where it wins and 0.5 where it guesses.
        """
        def losses(numbered):
            number, discriminator = numbered
            found = self._of_one(discriminator, recording, made)
            played = ops.one_hot(number, len(self.discriminators), dtype="float32")
            return found | {"won": found["won"] * played, "played": played}

        found = self.turn.play(list(enumerate(self.discriminators)), losses, self._draw)
        self.batch_won, self.batch_played = found.pop("won"), found.pop("played")
        return found

    def update_metrics(self):
        """Note down who won in the last `losses_of`, of those that played."""
        share = self.batch_won / ops.maximum(self.batch_played, 1e-6)
        for number, metric in enumerate(self.won):
            metric.update_state(share[number], sample_weight=self.batch_played[number])

    @property
    def terms_of_training(self) -> set[str]:
        """The names of all its terms and metrics, which validation has none of."""
        return {*self.weights_of_terms, *(metric.name for metric in self.won)}

    def _draw(self, count: int):
        return keras.random.randint((), 0, count, seed=self.seed_generator)

    def _of_one(self, discriminator, recording, made) -> dict:
        """Those of one discriminator."""
        real, fake = discriminator(recording), discriminator(ops.stop_gradient(made))
        seen = discriminator(made, frozen=True)
        pairs = [(ops.stop_gradient(a), b) for a, b in zip(real[:-1], seen[:-1], strict=True)]
        matched = [ops.mean(ops.abs(a - b)) / (ops.mean(ops.abs(a)) + 1e-6) for a, b in pairs]
        return {"discriminator": self.game.discriminator(real[-1], fake[-1]),
                "adversarial": self.game.decoder(seen[-1]),
                "feature_matching": sum(matched) / len(matched),
                "repulsion": ops.mean(ops.softplus(fake[-1] - real[-1])),
                "won": ops.mean(ops.cast(real[-1] > fake[-1], "float32"))}


def build_adversary(config: AdversaryConfig | None, seed: int = 0) -> Adversary | None:
    """The adversary that a config describes, built; None where there is none."""
    if config is None:
        return None
    adversary = Adversary(config, seed, name="adversary")
    adversary.build((None, None))
    return adversary
