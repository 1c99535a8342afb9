"""The source of a decoder: banks of tones and of noise, the choice of tones, and the inverse STFT.

A decoder of convolutions alone hums at multiples of the code rate while its codes stay the same. In
a bank, the phases of oscillators and the noise depend only on the position in the piece. The codes
set the loudness, as in DDSP (Engel et al. 2020). Tones repeat after `PERIOD` samples, and
noise more often, so positions are counted modulo this period.
"""

import math

import keras
import numpy as np
from keras import layers, ops

from ..levels.fields import LOUDNESS_RANGE
from .blocks_layer import Conv, prepend_past
from .codec import PERIOD
from .front_ends import LOWEST_TONE, PER_OCTAVE
from .spectrum_layer import amplitude_of, larger_neighbour, neighbourhoods


def quarter_tones(count: int, first: int = 0) -> np.ndarray:
    """Hz of successive quarter tones, from the `first` above A0 on: float64 [count]."""
    return LOWEST_TONE * 2.0 ** ((first + np.arange(count)) / PER_OCTAVE)


def tone_cycles(count: int, sample_rate: int, first: int = 0) -> np.ndarray:
    """Whole cycles in `PERIOD` samples of the `quarter_tones`, limited to 0.49 times the
    sample rate: int64 [count].
    """
    hertz = quarter_tones(count, first)
    return np.round(np.minimum(hertz, 0.49 * sample_rate) * PERIOD / sample_rate).astype(np.int64)


def scattered_phases(count: int) -> np.ndarray:
    """Phases in golden-ratio steps, float64 [count]. Equal phases would add up to a click."""
    return 2 * math.pi * ((np.arange(count) * 0.6180339887) % 1.0)


def frame_numbers(x, start):
    """The positions of the frames of x [batch, frames, …], from `start` [batch] on: int32 [batch,
    frames].
    """
    ones = ops.ones_like(x[..., 0], dtype="int32")
    return ops.cumsum(ones, axis=1) - 1 + ops.cast(start, "int32")[:, None]


def b_spline_shares(time):
    """The shares of the points at −1, 0, 1 and 2 in a uniform cubic B-spline at `time` in [0, 1],
    four arrays. Modulation at the rate of the points is suppressed fourfold (sinc⁴).
    """
    square, cube = time**2, time**3
    return ((1 - time) ** 3 / 6, (4 - 6 * square + 3 * cube) / 6,
            (1 + 3 * time + 3 * square - 3 * cube) / 6, cube / 6)


def b_spline(x, steps: int):
    """x [batch, frames, c] -> its cubic B-spline, `steps` times each frame: [batch, frames·steps,
    c]. The outermost frames are repeated beyond the ends.
    """
    curves = np.stack(b_spline_shares(np.arange(steps) / steps), axis=-1).astype("float32")
    padded = ops.concatenate([x[:, :1], x, x[:, -1:], x[:, -1:]], axis=1)
    around = ops.stack([padded[:, :-3], padded[:, 1:-2], padded[:, 2:-1], padded[:, 3:]], axis=2)
    return ops.reshape(ops.matmul(curves, around), (ops.shape(x)[0], -1, x.shape[-1]))


class Bank(layers.Layer):
    """Frames [batch, frames, c], start int32 [batch] -> audio [batch, frames·hop, 1]."""

    hop: int

    def compute_output_shape(self, x_shape, start_shape):
        batch, frames, _ = x_shape
        return (batch, None if frames is None else frames * self.hop, 1)


class ToneBank(Bank):
    """Amplitudes float32 [batch, frames, tones], start int32 [batch] in frames -> audio [batch,
    frames·hop, 1].

    y(t) = Σ_k a_k(t)·sin(2π·f_k·t + φ_k + w_k(t)). t is the time since the start of the piece, and
    φ_k are constant scattered phases. a_k is the cubic B-spline of the amplitudes, because corners
    at the frame rate buzz. w_k is the cubic B-spline of a normal draw for each point, `POINT`
    samples apart, and depends on the position alone. So a tone's frequency wavers by `WAVER` cents,
    and two tones do not beat at a fixed rate.

    a_k·exp(i·(φ_k + w_k)) is linear between steps of at most `STEP` samples. Computed as one
    product of matrices, with sin(α + β) of the phases at a step and around the step.
    """

    STEP, POINT = 32, 4096
    WAVER = 9.0
    """Root mean square of a tone's deviation, in cents."""
    # A B-spline has four frames: one before, two after.
    receptive_field = (1, 2)

    def __init__(self, count: int, hop: int, sample_rate: int, first: int = 0, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.hop, self.step = hop, min(hop, self.STEP)
        self.cycle = PERIOD // self.step
        cycles = tone_cycles(count, sample_rate, first)
        self.phases = scattered_phases(count).astype("float32")
        # A step advances the phase by m·step / PERIOD turns: (m mod cycle) / cycle turns.
        self.turns = cycles % self.cycle
        angle = 2 * math.pi * cycles[:, None] * np.arange(-self.step, self.step) / PERIOD
        turn = np.concatenate([np.cos(angle), np.sin(angle)])
        rise = np.arange(self.step) / self.step
        self.basis = np.concatenate([turn[:, self.step :] * (1 - rise),
                                     turn[:, : self.step] * rise]).astype("float32")
        self.draws = self._draws(cycles)

    def _draws(self, cycles):
        """w_k at each point, in radians: float32 [points, tones]."""
        draws = np.random.Generator(np.random.Philox(key=1)).standard_normal(
            (PERIOD // self.POINT, len(cycles)))
        # The square of a B-spline's slope integrates to 2/3.
        deviation = 2 ** (self.WAVER / 1200) - 1
        turns = cycles * (self.POINT / PERIOD) * deviation / math.sqrt(2 / 3)
        return (2 * math.pi * turns * draws).astype("float32")

    def call(self, x, start):
        frames, steps = ops.shape(x)[1], self.hop // self.step
        # One step more, for the end of the last frame.
        following = ops.concatenate([x, x[:, -1:]], axis=1)
        amplitudes = b_spline(following, steps)[:, : frames * steps + 1]
        step = ops.mod(frame_numbers(amplitudes, start * steps), self.cycle)
        # int64, because a product exceeds 32 bits where frames are short.
        turned = ops.mod(ops.cast(step, "int64")[..., None] * self.turns, self.cycle)
        angle = ops.cast(turned, "float32") * (2 * math.pi / self.cycle) + self.phases
        angle = angle + self.waver(step)
        waves = ops.concatenate([amplitudes * ops.sin(angle), amplitudes * ops.cos(angle)], axis=-1)
        audio = ops.matmul(ops.concatenate([waves[:, :-1], waves[:, 1:]], axis=-1), self.basis)
        return ops.reshape(audio, (ops.shape(audio)[0], -1, 1))

    def waver(self, step):
        """w_k at the steps int32 [batch, n]: float32 [batch, n, tones]."""
        position = step * self.step
        point, since = position // self.POINT, position % self.POINT
        shares = b_spline_shares(ops.cast(since, "float32") / self.POINT)
        draws = ops.convert_to_tensor(self.draws)
        return sum(share[..., None] * ops.take(draws, (point + k) % len(self.draws), axis=0)
                   for k, share in enumerate(shares, -1))


class Loudness(layers.Layer):
    """Features [batch, frames, c] -> amplitudes of tones: 2·sigmoid(conv(x))^2.3, as DDSP."""

    def __init__(self, count: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        # Initially quiet, because two hundred tones at once are loud.
        bias = keras.initializers.Constant(-3.0)
        self.conv = Conv(count, 3, bias_initializer=bias, name="conv", dtype="float32")
        self.receptive_field = self.conv.receptive_field

    def call(self, x):
        return 2.0 * ops.sigmoid(self.conv(x)) ** 2.3


class NoiseBank(Bank):
    """Features [batch, frames, c], start int32 [batch] in frames -> audio float32 [batch,
    frames·hop, 1].

    A learnt convolution over gate(x)·mix(noise), where the features set the loudness of bands of
    noise. The output is linear in the noise, so it has no lines at the frame rate. The noise is a
    table of `LENGTH` samples, the same in every model, read at the frame's position.
    """

    LENGTH = 1 << 18

    def __init__(self, bands: int, hop: int, **kwargs):
        super().__init__(**kwargs)
        self.bands, self.hop = bands, hop
        draws, rows = np.random.Generator(np.random.Philox(key=0)), max(1, self.LENGTH // hop)
        self.table = draws.standard_normal((rows, hop)).astype("float32")
        self.gate = layers.Dense(bands, name="gate", dtype=self.dtype_policy)
        self.mix = layers.Dense(bands, use_bias=False, name="mix", dtype=self.dtype_policy)
        self.sound = Conv(hop, 7, use_bias=False, name="sound", dtype=self.dtype_policy)
        self.receptive_field = self.sound.receptive_field

    def build(self, x_shape, start_shape):
        self.gate.build(x_shape)
        self.mix.build((*x_shape[:-1], self.hop))
        self.sound.build((*x_shape[:-1], self.bands))

    def call(self, x, start):
        frame = ops.mod(frame_numbers(x, start), self.table.shape[0])
        noise = ops.cast(ops.take(ops.convert_to_tensor(self.table), frame, axis=0),
                         self.compute_dtype)
        audio = ops.cast(self.sound(self.gate(x) * self.mix(noise)), "float32")
        return ops.reshape(audio, (ops.shape(audio)[0], -1, 1))


class PickedTones(layers.Layer):
    """Predictions float32 [batch, frames, 3·bins] -> amplitudes [batch, frames, bins] of the tones
    at predicted peaks, 0 elsewhere.

    Predictions are, for each bin, the logit of a peak, the peak's loudness and the spectrum's. A
    tone sounds if its logit is positive and no less than its neighbours'. Amplitudes fade near both
    bounds, so that they are continuous in the predictions.
    """

    SLOPE = 8.0

    def __init__(self, **kwargs):
        super().__init__(dtype="float32", **kwargs)

    def call(self, predictions):
        logits, loudness, _ = ops.split(predictions, 3, axis=-1)
        neighbour = larger_neighbour(logits, -99.0)
        gate = (ops.clip(self.SLOPE * (logits - neighbour) + 0.5, 0.0, 1.0)
                * ops.clip(self.SLOPE * logits + 0.5, 0.0, 1.0))
        return gate * amplitude_of(loudness)


class Prominence(layers.Layer):
    """Predictions float32 [batch, frames, 3·bins], as in `PickedTones` -> the height of each bin of
    the predicted spectrum above the mean of the `AROUND` bins around it: [batch, frames, bins].
    """

    AROUND = 13
    """Half an octave, about the range of one book of codes."""

    def __init__(self, **kwargs):
        super().__init__(dtype="float32", **kwargs)

    def call(self, predictions):
        loudness = ops.split(predictions, 3, axis=-1)[2]
        return loudness - ops.mean(neighbourhoods(loudness, self.AROUND), axis=-1)


class PastMean(layers.Layer):
    """Frames of `hop` samples [batch, frames, c] -> the mean of `COUNT` earlier frames, `EVERY`
    samples apart: six seconds of past. Frames before the piece are zeros.

    It is a sum of few frames at fixed distances, so any block has the bits of the whole piece.
    """

    COUNT, EVERY = 16, 8192

    def __init__(self, hop: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.spacing = max(1, self.EVERY // hop)
        self.past_steps = self.COUNT * self.spacing

    def call(self, x, past=None):
        steps, frames = prepend_past(x, self.past_steps, past), ops.shape(x)[1]
        return sum(steps[:, k * self.spacing : k * self.spacing + frames]
                   for k in range(self.COUNT)) / self.COUNT


class OvertonesOf(layers.Layer):
    """[predictions float32 [batch, frames, 3·bins], as in `PickedTones`; their `Prominence`, and
    its `PastMean`] -> amplitudes [batch, frames, bins] of a tone on each peak of the predicted
    spectrum, 0 elsewhere.

    A peak is no lower than its neighbours, above the mean m of the bins around it, and more
    prominent than it usually is. A peak that always stands would whistle. The tone's loudness is
    m + contrast·(loudness − m). Tones fade in over a quarter of an octave from `above` Hz on.
    first: the tone of the first bin, as in `quarter_tones`.
    """

    PROMINENCE = 1.0
    """The least prominence beyond the usual, in dB. Tones fade within 1 dB of a bound."""

    def __init__(self, bins: int, above: float, contrast: float, first: int, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.contrast = contrast
        octaves = np.log2(quarter_tones(bins, first) / above)
        self.fade = np.clip(4 * octaves, 0.0, 1.0).astype("float32")

    def call(self, inputs):
        predictions, prominence, usual = inputs
        loudness = ops.split(predictions, 3, axis=-1)[2]
        unusual = prominence - ops.relu(usual) - self.PROMINENCE / LOUDNESS_RANGE
        gate = (self._positive(loudness - larger_neighbour(loudness, -99.0))
                * self._positive(unusual))
        return self.fade * gate * amplitude_of(loudness + (self.contrast - 1.0) * prominence)

    @staticmethod
    def _positive(margin):
        """1 where a margin, in `LOUDNESS_RANGE` dB, is positive, 0 where it is negative."""
        return ops.clip(0.5 * LOUDNESS_RANGE * margin + 0.5, 0.0, 1.0)
