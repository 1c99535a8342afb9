"""Heads: the synthesis of audio from the decoder's features, one class for each kind of the
config's `head`. The layers that they use are in `banks.py`.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from ..data.vocoders import GriffinLim
from .banks import InverseSTFT, Loudness, NoiseBank, OvertonesOf, PickedTones, ToneBank
from .blocks import Conv, ReceptiveField, upsampling
from .spectrum import larger_neighbour


class Head:
    """The interface of every head, made with the codec's config.

    receptive_fields: of each branch, in codes, after `synthesise`. first_stage: the receptive field
    of the first stage's features, from which `decode_part` continues. auxiliary_output: the tensor
    that `losses_of` compares with the recording, or None. start: int32 [batch], the number of the
    first code in the piece modulo PERIOD / level, for heads that need their position.
    """

    TERMS: tuple[str, ...] = ()
    """The loss terms of `losses_of`."""

    def __init__(self, config):
        self.config = config
        self.receptive_fields: list[ReceptiveField] = []
        self.first_stage: ReceptiveField | None = None
        self.auxiliary_output = None

    def outputs(self, audio):
        """The decoder's outputs: the audio, and the auxiliary output of heads that have one."""
        return audio if self.auxiliary_output is None else [audio, self.auxiliary_output]

    def losses_of(self, features, auxiliary) -> dict:
        """The head's own loss terms: the front end's features of the recording against the
        auxiliary output.
        """
        raise NotImplementedError

    def tap(self, stage: int, features, start, field: ReceptiveField):
        """Called with the features of each stage, the last stage first."""

    def synthesise(self, features, start, field: ReceptiveField):
        """The features of stage 0 -> audio float32 [batch, samples, 1], or a vocoder's input."""
        raise NotImplementedError


class WaveformOutput(Head):
    """A last up-sampling to the waveform."""

    def synthesise(self, features, start, field: ReceptiveField):
        # A wide kernel: short patches would buzz at their rate.
        up = upsampling(self.config, 1, self.config.hop(0), 7, "up_0")
        self.receptive_fields = [field.add(up)]
        return up(features)


class TonesAndNoise(Head):
    """A bank of tones, driven by an early stage, and a bank of noise, driven by the last stage."""

    def __init__(self, config):
        super().__init__(config)
        self.tones = None

    def _first_frame(self, start, hop: int):
        """The number of the first frame of `hop` samples."""
        return start * (self.config.level // hop)

    def tap(self, stage: int, features, start, field: ReceptiveField):
        config = self.config
        if not config.head.tones or stage != config.tone_stage:
            return
        hop = config.hop(stage)
        loudness = Loudness(config.head.tones, name="loudness")
        bank = ToneBank(config.head.tones, hop, config.sample_rate, name="tones")
        self.tones = bank(loudness(features), self._first_frame(start, hop))
        self.receptive_fields.append(field.copy().add(loudness).add(bank))

    def synthesise(self, features, start, field: ReceptiveField):
        hop = self.config.hop(0)
        bank = NoiseBank(self.config.stages[0].channels, hop, name="noise")
        noise = bank(features, self._first_frame(start, hop))
        self.receptive_fields.append(field.add(bank))
        if self.tones is None:
            return noise
        return layers.Add(name="sum", dtype="float32")([noise, self.tones])


class NotesAndNoise(TonesAndNoise):
    """Oscillators on the peaks of the spectrum that the decoder predicts, and a bank of noise.

    With tones at all quarter tones there is no melody; peaks alone keep a recording's notes.
    """

    TERMS = ("presence", "level", "spectrum")

    def tap(self, stage: int, features, start, field: ReceptiveField):
        config = self.config
        if config.hop(stage) != config.front_end.hop:
            return
        front, hop = config.front_end, config.front_end.hop
        # "clues" is the name in weights files.
        dense = Conv(3 * front.bins, 1, bias_initializer=_few_peaks, name="clues", dtype="float32")
        self.auxiliary_output = dense(features)
        bank = ToneBank(front.bins, hop, config.sample_rate, front.first_tone, name="tones")
        loudness = PickedTones(name="picked")(self.auxiliary_output)
        if more := config.head.overtones:
            overtones = OvertonesOf(front.bins, more.above, more.contrast, front.first_tone,
                                    name="overtones")
            loudness = layers.Maximum(name="loudness", dtype="float32")(
                [loudness, overtones(self.auxiliary_output)])
        self.tones = bank(loudness, self._first_frame(start, hop))
        self.receptive_fields.append(field.copy().add(dense).add(bank))

    def losses_of(self, features, auxiliary) -> dict:
        """presence: cross-entropy (nats a frame) of the peaks' logits, with less weight beside a
        peak. level: mean |difference| at peaks, spectrum: everywhere, both in units of 80 dB.
        """
        bins = self.config.front_end.bins
        levels, peaks = ops.split(features[..., : 2 * bins], 2, axis=-1)
        logits, peak_levels, spectrum = ops.split(auxiliary, 3, axis=-1)
        # A peak of at least 0.5, see `spectrum.ConstantQ.peaks`.
        peak = ops.cast(peaks > 0.5 * levels, "float32") * ops.cast(peaks > 0.0, "float32")
        weight = ops.where(peak > 0.0, 2.0, ops.where(larger_neighbour(peak, 0.0) > 0.0, 0.3, 1.0))
        entropy = ops.softplus(logits) - logits * peak
        return {
            "presence": ops.mean(ops.sum(weight * entropy, axis=-1)),
            "level": (ops.mean(peak * ops.abs(peak_levels - levels))
                      / (ops.mean(peak) + 1e-3)),
            "spectrum": ops.mean(ops.abs(spectrum - levels)),
        }


def _few_peaks(shape, dtype=None):
    """Peaks are unlikely at first, and levels in the middle."""
    bias = np.full(shape, 0.5, "float32")
    bias[: shape[0] // 3] = -3.0
    return ops.convert_to_tensor(bias, dtype)


class SpectrogramOutput(Head):
    """The inverse of a spectrogram whose magnitude and phase the last stage predicts."""

    def synthesise(self, features, start, field: ReceptiveField):
        config = self.config
        inverse = InverseSTFT(config.head.n_fft, config.hop(0), config.padding, name="inverse")
        self.receptive_fields = [field.add(inverse)]
        return inverse(features)


class GriffinLimOutput(Head):
    """Levels of the front end's spectrogram for Griffin and Lim's algorithm, all frames in one row.
    """

    TERMS = ("spectrum",)

    def synthesise(self, features, start, field: ReceptiveField):
        config = self.config
        middle = keras.initializers.Constant(0.5)
        dense = Conv(config.front_end.channels, 1, bias_initializer=middle, name="levels",
                     dtype="float32")
        self.auxiliary_output = dense(features)
        self.receptive_fields = [field.add(dense).add(GriffinLim(config))]
        return layers.Reshape((-1, 1), name="row")(self.auxiliary_output)

    def losses_of(self, features, auxiliary) -> dict:
        return {"spectrum": ops.mean(ops.abs(auxiliary - ops.cast(features, "float32")))}


HEADS: dict[str, type[Head]] = {
    "waveform": WaveformOutput, "tones": TonesAndNoise, "notes": NotesAndNoise,
    "spectrogram": SpectrogramOutput, "griffin_lim": GriffinLimOutput,
}
"""The class of each kind of head, made with the codec's config."""
