"""Heads: what makes audio of the decoder's features, one class for each kind of the config's
`head`.

Codes that carry no phase are easy to predict, but a decoder of convolutions alone repeats itself at
the rate of its codes while they stay the same: it hums at every multiple of that rate. With a head
of tones the phase comes from oscillators that run with the position in the piece, and the
randomness from a table; codes only say how loud each is, as in DDSP (Engel et al. 2020). Both have
a period of `config.PERIOD` samples, so positions are needed only modulo that.
"""

from __future__ import annotations

import math

import numpy as np
from keras import layers, ops

from ..config import (
    LEVEL_RANGE,
    LOWEST,
    PER_OCTAVE,
    PERIOD,
    Config,
    GriffinLimHead,
    NotesHead,
    SpectrogramHead,
    TonesHead,
    WaveformHead,
)
from ..data.vocoders import GriffinLim
from .frontends import amplitude_of, neighbourhoods
from .layers import PADDINGS, Conv, Reach, after, register, upsampling


def quarter_tones(count: int, first: int = 0) -> np.ndarray:
    """Hz of quarter tones up from the `first` above A0: float64 [count]."""
    return LOWEST * 2.0 ** ((first + np.arange(count)) / PER_OCTAVE)


def frequencies(count: int, sample_rate: int, first: int = 0) -> np.ndarray:
    """The bank's tones as whole cycles in `PERIOD` samples, int64 [count]: quarter tones up from
    the `first` above A0, below Nyquist.
    """
    hertz = quarter_tones(count, first)
    return np.round(np.minimum(hertz, 0.49 * sample_rate) * PERIOD / sample_rate).astype(np.int64)


def _frames(x, start):
    """Numbers of the frames of x [batch, frames, …] whose first is `start` [batch]: int32 [batch,
    frames].
    """
    ones = ops.ones_like(x[..., 0], dtype="int32")
    return ops.cumsum(ones, axis=1) - 1 + ops.cast(start, "int32")[:, None]


@register
class ToneBank(layers.Layer):
    """Amplitudes float32 [batch, frames, tones], start int32 [batch] in frames -> audio [batch,
    frames·hop, 1].

    y(t) = Σ_k a_k(t)·sin(2π·f_k·t + φ_k), a_k drawn straight from frame to frame, t counted from
    the piece's begin, φ_k fixed and scattered. One product of matrices: the phase at a frame's
    begin, turned on by sin(α+β).
    """

    def __init__(self, count: int, hop: int, sample_rate: int, first: int = 0, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.count, self.hop, self.sample_rate, self.first = count, hop, sample_rate, first
        self.cycle = PERIOD // hop
        cycles = frequencies(count, sample_rate, first)
        # Golden-ratio steps scatter the phases, so that the bank has no click in common.
        self.phases = (2 * math.pi * ((np.arange(count) * 0.6180339887) % 1.0)).astype("float32")
        # A frame turns the phase by m·hop of PERIOD, which is m mod cycle of cycle.
        self.turns = (cycles % self.cycle).astype("int32")
        angle = 2 * math.pi * cycles[:, None] * np.arange(hop) / PERIOD
        rise = np.arange(hop) / hop
        turn = np.concatenate([np.cos(angle), np.sin(angle)])
        self.basis = np.concatenate([turn * (1 - rise), turn * rise]).astype("float32")

    # Loudness is drawn straight on to the next frame's.
    receptive_field = (0, 1)

    def call(self, amplitudes, start):
        frame = ops.mod(_frames(amplitudes, start), self.cycle)
        turned = ops.mod(frame[..., None] * self.turns, self.cycle)
        angle = ops.cast(turned, "float32") * (2 * math.pi / self.cycle) + self.phases
        sine, cosine = ops.sin(angle), ops.cos(angle)
        following = ops.concatenate([amplitudes[:, 1:], amplitudes[:, -1:]], axis=1)
        weights = ops.concatenate([x * y for x in (amplitudes, following) for y in (sine, cosine)],
                                  axis=-1)
        audio = ops.matmul(weights, self.basis)
        return ops.reshape(audio, (ops.shape(audio)[0], -1, 1))

    def compute_output_shape(self, amplitudes_shape, start_shape):
        batch, frames, _ = amplitudes_shape
        return (batch, None if frames is None else frames * self.hop, 1)

    def get_config(self):
        own = {"count": self.count, "hop": self.hop, "sample_rate": self.sample_rate,
               "first": self.first}
        return super().get_config() | own


@register
class Loudness(layers.Layer):
    """Features [batch, frames, c] -> amplitudes of `count` tones, float32: 2·sigmoid(conv(x))^2.3,
    DDSP's scale.
    """

    def __init__(self, count: int, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.count = count
        # Quiet at first: two hundred tones at once are loud.
        self.conv = Conv(count, 3, bias_initializer=_quiet, name="conv", dtype="float32")

    def build(self, shape):
        self.conv.build(shape)

    @property
    def receptive_field(self) -> tuple[int, int]:
        return self.conv.receptive_field

    def call(self, x):
        return 2.0 * ops.sigmoid(self.conv(x)) ** 2.3

    def get_config(self):
        return super().get_config() | {"count": self.count}


def _quiet(shape, dtype=None):
    return ops.full(shape, -3.0, dtype=dtype)


@register
class NoiseBank(layers.Layer):
    """Features [batch, frames, c], start int32 [batch] in frames -> audio float32 [batch,
    frames·hop, 1].

    Bands of noise whose loudness the features say and whose sound is learnt: a convolution over
    gate(x)·mix(noise). It is linear in the noise, so nothing in it can repeat at the rate of the
    frames. The noise of a frame, as many white bands as it has samples, depends on its position: it
    is in a table of `PERIOD` samples, the same in every model.
    """

    def __init__(self, bands: int, hop: int, kernel_size: int = 7, **kwargs):
        super().__init__(**kwargs)
        self.bands, self.hop, self.kernel_size = bands, hop, kernel_size
        draws = np.random.Generator(np.random.Philox(key=0))
        self.table = draws.standard_normal((PERIOD // hop, hop)).astype("float32")
        self.gate = layers.Dense(bands, name="gate", dtype=self.dtype_policy)
        self.mix = layers.Dense(bands, use_bias=False, name="mix", dtype=self.dtype_policy)
        self.sound = Conv(hop, kernel_size, use_bias=False, name="sound", dtype=self.dtype_policy)

    def build(self, x_shape, start_shape):
        self.gate.build(x_shape)
        self.mix.build((*x_shape[:-1], self.hop))
        self.sound.build((*x_shape[:-1], self.bands))

    @property
    def receptive_field(self) -> tuple[int, int]:
        return self.sound.receptive_field

    def call(self, x, start):
        frame = ops.mod(_frames(x, start), self.table.shape[0])
        noise = ops.cast(ops.take(ops.convert_to_tensor(self.table), frame, axis=0),
                         self.compute_dtype)
        audio = ops.cast(self.sound(self.gate(x) * self.mix(noise)), "float32")
        return ops.reshape(audio, (ops.shape(audio)[0], -1, 1))

    def compute_output_shape(self, x_shape, start_shape):
        batch, frames, _ = x_shape
        return (batch, None if frames is None else frames * self.hop, 1)

    def get_config(self):
        return (super().get_config()
                | {"bands": self.bands, "hop": self.hop, "kernel_size": self.kernel_size})


class Head:
    """What every head offers; it is made with the codec's config.

    reaches: how far each of its branches sees, once they are made; first_stage: how far what the
    first stage makes of the codes does, where the rest of the decoder can go on with a part of it.
    Whether it must know its position in the piece is said by the config (`needs_position`); start:
    int32 [batch], the number of the first code in the piece, modulo PERIOD / level.
    """

    TERMS: tuple[str, ...] = ()
    """Terms of the loss that it has of its own, as `losses_of` names them."""

    def __init__(self, config):
        self.config = config
        self.reaches: list[Reach] = []
        self.first_stage: Reach | None = None
        self.clues = None

    def outputs(self, audio):
        """What a decoder returns: what was synthesised, and the clues where there are some."""
        return audio if self.clues is None else [audio, self.clues]

    def losses_of(self, features, clues) -> dict:
        """Its own terms: what the front end makes of the recording against its clues, which are the
        decoder's second output.
        """
        raise NotImplementedError

    def tap(self, stage: int, features, start, reach: Reach):
        """Look at the features of a stage on their way down."""

    def synthesise(self, features, start, reach: Reach):
        """The last stage's features -> audio float32 [batch, samples, 1], or, of one whose config
        says that it makes no audio, what its vocoder takes.
        """
        raise NotImplementedError


class WaveformOutput(Head):
    """A last up-sampling to the waveform."""

    def synthesise(self, features, start, reach: Reach):
        # It overlaps its neighbours widely: short patches would buzz at their rate.
        up = upsampling(self.config, 1, self.config.hop(0), 7, "up_0")
        self.reaches = [reach.add(up)]
        return up(features)


class TonesAndNoise(Head):
    """A bank of tones, whose loudness an early stage says, and a bank of noise, whose colour the
    last one does.
    """

    def __init__(self, config):
        super().__init__(config)
        self.audio = None

    def _first(self, start, hop: int):
        """The number of the first step of `hop` samples."""
        return start * (self.config.level // hop)

    def tap(self, stage: int, features, start, reach: Reach):
        config = self.config
        if not config.head.tones or stage != config.tone_stage:
            return
        hop = config.hop(stage)
        loudness = Loudness(config.head.tones, name="loudness")
        tones = ToneBank(config.head.tones, hop, config.sample_rate, name="tones")
        self.audio = tones(loudness(features), self._first(start, hop))
        self.reaches.append(reach.copy().add(loudness).add(tones))

    def synthesise(self, features, start, reach: Reach):
        hop = self.config.hop(0)
        bank = NoiseBank(self.config.stages[0].channels, hop, name="noise")
        noise = bank(features, self._first(start, hop))
        self.reaches.append(reach.add(bank))
        if self.audio is None:
            return noise
        return layers.Add(name="sum", dtype="float32")([noise, self.audio])


def larger_neighbour(x, outside: float):
    """The larger of the two bins beside each: [..., bins] -> the same shape; `outside` stands
    beyond the ends.
    """
    edge = ops.full_like(x[..., :1], outside)
    return ops.maximum(ops.concatenate([edge, x[..., :-1]], axis=-1),
                       ops.concatenate([x[..., 1:], edge], axis=-1))


@register
class PickedTones(layers.Layer):
    """Clues float32 [batch, frames, 3·bins] -> amplitudes [batch, frames, bins]: of the tones that
    sound, the rest 0.

    Clues are, for each bin, the logit that a peak is here, its level and that of the spectrum. A
    tone sounds where its logit is no less than its neighbours' and positive. What lies near either
    bound is faded, so that the amplitudes are continuous in the clues.
    """

    SLOPE = 8.0

    def __init__(self, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))

    def call(self, clues):
        logits, levels, _ = ops.split(clues, 3, axis=-1)
        beside = larger_neighbour(logits, -99.0)
        gate = (ops.clip(self.SLOPE * (logits - beside) + 0.5, 0.0, 1.0)
                * ops.clip(self.SLOPE * logits + 0.5, 0.0, 1.0))
        return gate * amplitude_of(levels)

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] // 3)


@register
class OvertonesOf(layers.Layer):
    """Clues float32 [batch, frames, 3·bins], as in `PickedTones` -> amplitudes [batch, frames,
    bins]: of a tone on each peak of the expected spectrum, the rest 0.

    A peak is no lower than its neighbours and stands out of the mean of the `AROUND` bins around
    it; its level is that mean and `contrast` times how far it does. Tones fade in over a quarter
    of an octave from `above` Hz; `first` is the tone of the first bin, as in `frequencies`.
    """

    AROUND = 13
    """Half an octave: about what one book of codes tells of."""
    PROMINENCE = 1.0
    """dB that it stands out at least. Within 1 dB of either bound it is faded."""

    def __init__(self, bins: int, above: float, contrast: float, first: int, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.bins, self.above, self.contrast, self.first = bins, above, contrast, first
        octaves = np.log2(quarter_tones(bins, first) / above)
        self.fade = np.clip(4 * octaves, 0.0, 1.0).astype("float32")

    def call(self, clues):
        level = ops.split(clues, 3, axis=-1)[2]
        base = ops.mean(neighbourhoods(level, self.AROUND), axis=-1)
        gate = (self._reaches(level - larger_neighbour(level, -99.0))
                * self._reaches(level - base - self.PROMINENCE / LEVEL_RANGE))
        return self.fade * gate * amplitude_of(base + self.contrast * (level - base))

    @staticmethod
    def _reaches(margin):
        """1 where a margin, in `LEVEL_RANGE` dB, is positive, 0 where it is not."""
        return ops.clip(0.5 * LEVEL_RANGE * margin + 0.5, 0.0, 1.0)

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.bins)

    def get_config(self):
        own = {"bins": self.bins, "above": self.above, "contrast": self.contrast,
               "first": self.first}
        return super().get_config() | own


class NotesAndNoise(TonesAndNoise):
    """Oscillators on the peaks of the spectrum that the decoder believes in, and a bank of noise.

    Loudness everywhere is no melody: with the peaks picked, a bank of quarter tones keeps the notes
    of a recording.
    """

    TERMS = ("presence", "level", "spectrum")

    def tap(self, stage: int, features, start, reach: Reach):
        config = self.config
        if config.hop(stage) != config.front_end.hop:
            return
        front, hop = config.front_end, config.front_end.hop
        dense = Conv(3 * front.bins, 1, bias_initializer=_seldom, name="clues", dtype="float32")
        self.clues = dense(features)
        tones = ToneBank(front.bins, hop, config.sample_rate, front.first_tone, name="tones")
        loudness = PickedTones(name="picked")(self.clues)
        if more := config.head.overtones:
            overtones = OvertonesOf(front.bins, more.above, more.contrast, front.first_tone,
                                    name="overtones")
            loudness = layers.Maximum(name="loudness", dtype="float32")(
                [loudness, overtones(self.clues)])
        self.audio = tones(loudness, self._first(start, hop))
        self.reaches.append(reach.copy().add(dense).add(tones))

    def losses_of(self, features, clues) -> dict:
        """presence: cross-entropy (nats a frame) of the peaks' logits; a bin beside a peak is
        neither right nor wrong and counts little. level: mean |difference| at peaks, spectrum:
        everywhere, both in units of 80 dB.
        """
        levels, peaks = ops.split(features, 2, axis=-1)
        logits, peak_levels, spectrum = ops.split(clues, 3, axis=-1)
        # Half a peak at least, of its own level.
        peak = ops.cast(peaks > 0.5 * levels, "float32") * ops.cast(peaks > 0.0, "float32")
        weight = ops.where(peak > 0.0, 2.0, ops.where(larger_neighbour(peak, 0.0) > 0.0, 0.3, 1.0))
        entropy = ops.softplus(logits) - logits * peak
        return {
            "presence": ops.mean(ops.sum(weight * entropy, axis=-1)),
            "level": ops.mean(peak * ops.abs(peak_levels - levels)) / (ops.mean(peak) + 1e-3),
            "spectrum": ops.mean(ops.abs(spectrum - levels)),
        }


def _seldom(shape, dtype=None):
    """No tone at first, and levels in the middle."""
    bias = np.full(shape, 0.5, "float32")
    bias[: shape[0] // 3] = -3.0
    return ops.convert_to_tensor(bias, dtype)


@register
class InverseSTFT(layers.Layer):
    """Features [batch, frames, c] -> audio float32 [batch, frames·hop, 1] by way of a spectrogram.

    A product gives magnitude m and phase p of each bin; the audio is the overlapping sum of the
    inverse transforms of exp(m)·(cos p + i sin p) under a Hann window (Vocos, Siuzdak 2023,
    section 3). A frame's window lies around its first sample, or, padded `causal`, begins with it.
    """

    def __init__(self, n_fft: int, hop: int, padding: str = "same", **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.n_fft, self.hop, self.padding = n_fft, hop, padding
        self.bins, self.parts = n_fft // 2 + 1, n_fft // hop
        # Frames that reach into a block of `hop` samples, from before it and from behind it.
        before = self.parts - 1 if padding == "causal" else self.parts // 2 - 1
        self.receptive_field = (before, self.parts - 1 - before)
        self.past = PADDINGS[padding].past(self.parts)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
        angle = 2 * np.pi * np.outer(np.arange(self.bins), np.arange(n_fft)) / n_fft
        twice = np.full((self.bins, 1), 2.0)
        twice[[0, -1]] = 1.0  # every other bin stands for its mirror image too
        basis = np.concatenate([np.cos(angle) * twice, -np.sin(angle) * twice]) / n_fft
        # Windows that overlap add up to this.
        self.basis = (basis * window * (hop / (window**2).sum())).astype("float32")
        self.dense = layers.Dense(2 * self.bins, bias_initializer=self._quiet, name="spectrum",
                                  dtype="float32")

    @staticmethod
    def _quiet(shape, dtype=None):
        """Magnitudes of little at first, and phases that golden-ratio steps scatter: alike, they
        would be a click at the window's edge, where it lets nothing through.
        """
        bins = shape[0] // 2
        phases = 2 * math.pi * ((np.arange(bins) * 0.6180339887) % 1.0)
        bias = np.concatenate([np.full(bins, -3.0), phases]).astype("float32")
        return ops.convert_to_tensor(bias, dtype)

    def build(self, x_shape):
        self.dense.build(x_shape)

    def audio_of(self, real, imag):
        """Spectra of `frames` and those that reach in from either side, [batch, frames + parts − 1,
        bins] -> audio [batch, frames·hop, 1].
        """
        pieces = ops.matmul(ops.concatenate([real, imag], axis=-1), self.basis)
        batch, count = ops.shape(pieces)[:2]
        pieces = ops.reshape(pieces, (batch, count, self.parts, self.hop))
        last = self.parts - 1
        frames = count - last
        total = sum(pieces[:, last - k : last - k + frames, k] for k in range(self.parts))
        return ops.reshape(total, (batch, frames * self.hop, 1))

    def call(self, x, past=None):
        before, behind = self.receptive_field
        x = ops.cast(after(x, before, past), "float32")
        x = ops.pad(x, [[0, 0], [0, behind], [0, 0]]) if behind else x
        level, phase = ops.split(self.dense(x), 2, axis=-1)
        # As loud as full scale can be, so that nothing explodes.
        size = ops.exp(ops.minimum(level, math.log(self.n_fft)))
        return self.audio_of(size * ops.cos(phase), size * ops.sin(phase))

    def compute_output_shape(self, x_shape, past_shape=None):
        batch, frames, _ = x_shape
        return (batch, None if frames is None else frames * self.hop, 1)

    def get_config(self):
        own = {"n_fft": self.n_fft, "hop": self.hop, "padding": self.padding}
        return super().get_config() | own


class SpectrogramOutput(Head):
    """The inverse of a spectrogram whose magnitude and phase the last stage says."""

    def synthesise(self, features, start, reach: Reach):
        config = self.config
        inverse = InverseSTFT(config.head.n_fft, config.hop(0), config.padding, name="inverse")
        self.reaches = [reach.add(inverse)]
        return inverse(features)


class GriffinLimOutput(Head):
    """Levels of the front end's spectrogram, for Griffin and Lim's algorithm: all levels of a
    piece in one row, as samples are.
    """

    TERMS = ("spectrum",)

    def synthesise(self, features, start, reach: Reach):
        config = self.config
        dense = Conv(config.front_end.channels, 1, bias_initializer=_middle, name="levels",
                     dtype="float32")
        self.clues = dense(features)
        self.reaches = [reach.add(dense).add(GriffinLim(config))]
        return layers.Reshape((-1, 1), name="row")(self.clues)

    def losses_of(self, features, clues) -> dict:
        return {"spectrum": ops.mean(ops.abs(clues - ops.cast(features, "float32")))}


def _middle(shape, dtype=None):
    return ops.full(shape, 0.5, dtype=dtype)


HEADS: dict[type[Config], type[Head]] = {
    WaveformHead: WaveformOutput, TonesHead: TonesAndNoise, NotesHead: NotesAndNoise,
    SpectrogramHead: SpectrogramOutput, GriffinLimHead: GriffinLimOutput,
}
"""The class of each kind of head, made with the codec's config."""
