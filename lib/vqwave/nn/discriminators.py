"""The decoder's adversary: convolutions over spectrograms that learn to tell recordings from
reconstructions.

Spectral distances punish a wrong guess more than a dull one, so a decoder trained on them alone
makes hiss of what it does not know and a hum of phases that the codes do not hold. A discriminator
has no such preference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers, ops

from ..config import AdversaryConfig, Config, STFTConfig
from .layers import register
from .replica_sums import mean

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


@register
class STFTDiscriminator(layers.Layer):
    """audio float32 [batch, samples] -> [features of the layers, the last of them the verdict
    [batch, t, f, 1]].

    It sees real and imaginary part, compressed to the 0.3th power of the magnitude so that quiet
    partials count, and the log of the magnitude. Complex spectra at several resolutions as in
    EnCodec (Défossez et al. 2022, section 3.4), far narrower and with strides along frequency,
    which is what two CPU cores can bear.
    """

    def __init__(self, n_fft: int, hop: int, **kwargs):
        super().__init__(**kwargs)
        self.n_fft, self.hop = n_fft, hop
        self.convolutions = [
            FreezableConv2D(c, (3, 9), (2 if i else 1, 4 if i < 2 else 2),
                            name=f"conv_{i}", dtype=self.dtype_policy)
            for i, c in enumerate(CHANNELS)
        ]
        self.verdict = FreezableConv2D(1, (3, 3), (1, 1), name="verdict", dtype=self.dtype_policy)

    def build(self, shape):
        seen = 3
        for conv in self.convolutions:
            conv.build((None, None, None, seen))
            seen = conv.filters
        self.verdict.build((None, None, None, seen))

    def call(self, audio, frozen=False):
        real, imag = ops.stft(ops.cast(audio, "float32"), self.n_fft, self.hop, self.n_fft)
        power = real**2 + imag**2 + 1e-8
        shrink = power**-0.35
        x = ops.stack([real * shrink, imag * shrink, ops.log(power) / 8.0], axis=-1)
        x = ops.cast(x, self.compute_dtype)
        features = []
        for conv in self.convolutions:
            x = ops.leaky_relu(conv(x, frozen=frozen), 0.2)
            features.append(ops.cast(x, "float32"))
        return [*features, ops.cast(self.verdict(x, frozen=frozen), "float32")]

    def get_config(self):
        return super().get_config() | {"n_fft": self.n_fft, "hop": self.hop}


DISCRIMINATORS: dict[type[Config], Callable] = {
    STFTConfig: lambda config, dtype: STFTDiscriminator(config.n_fft, config.hop,
                                                        name=f"stft_{config.n_fft}",
                                                        dtype=dtype),
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


class Adversary(layers.Layer):
    """All discriminators and the losses of both players."""

    def __init__(self, config: AdversaryConfig, **kwargs):
        super().__init__(**kwargs)
        self.game = GAMES[config.game]
        self.discriminators = [DISCRIMINATORS[type(one)](one, self.dtype_policy)
                               for one in config.discriminators]

    def build(self, shape):
        for d in self.discriminators:
            d.build(shape)

    def losses_of(self, recording, made) -> dict:
        """recording, made: float32 [batch, samples] -> {"discriminator", "adversarial",
        "feature_matching"}.

        discriminator: the game's loss of the discriminators, blind to the decoder; adversarial:
            its loss of the decoder; feature_matching: mean over layers of ‖f(x) − f(y)‖₁ / ‖f(x)‖₁
            (Larsen et al. 2016); both blind to the discriminators' weights.
        """
        totals = {"discriminator": 0.0, "adversarial": 0.0, "feature_matching": 0.0}
        for d in self.discriminators:
            real, fake = d(recording), d(ops.stop_gradient(made))
            seen = d(made, frozen=True)
            totals["discriminator"] += self.game.discriminator(real[-1], fake[-1])
            totals["adversarial"] += self.game.decoder(seen[-1])
            pairs = [(ops.stop_gradient(a), b) for a, b in zip(real[:-1], seen[:-1], strict=True)]
            matched = [mean(ops.abs(a - b)) / (mean(ops.abs(a)) + 1e-6) for a, b in pairs]
            totals["feature_matching"] += sum(matched) / len(matched)
        return {key: value / len(self.discriminators) for key, value in totals.items()}


def build_adversary(config: AdversaryConfig | None) -> Adversary | None:
    """The adversary that a config describes, built; None where there is none."""
    if config is None:
        return None
    adversary = Adversary(config, name="adversary")
    adversary.build((None, None))
    return adversary
