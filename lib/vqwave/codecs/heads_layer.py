"""Heads: the synthesis of audio from the decoder's features, one class for each kind of `head` in
the config.
"""

from keras import ops

from ..levels.kinds import layer_for
from .blocks_layer import ReceptiveField, upsampling
from .filter_layer import SourceFilter
from .heads import SourceFilterHead, WaveformHead
from .memory_layer import Memory
from .spectrum_layer import larger_neighbour


class Head:
    """The interface of every head, made with the codec's config.

    receptive_fields: of each branch, in frames, set by `synthesise`. first_stage: the receptive
    field of the first stage, from whose features `decode_part` continues. auxiliary_output: the
    tensor that `losses_of` compares with the recording, or None. start: int32 [batch], the position
    of the first frame in the piece modulo PERIOD / level, for heads with `needs_position`.
    """

    OWN_TERMS: tuple[str, ...] = ()
    """The loss terms of `losses_of`."""
    decode_past = 0
    """The frames of which the head hears a mean, before those that the receptive fields name."""
    delay = 0
    """The frames by which a head that remembers (`stream`) is late; 0: it sees a window."""

    def __init__(self, config):
        self.config = config
        self.receptive_fields: list[ReceptiveField] = []
        self.first_stage: ReceptiveField | None = None
        self.auxiliary_output = None

    def outputs(self, audio):
        """The decoder's outputs: the audio, and the auxiliary output of heads that have one."""
        return audio if self.auxiliary_output is None else [audio, self.auxiliary_output]

    def losses_of(self, features, auxiliary) -> dict:
        """The head's own loss terms, from the recording's features and the auxiliary output."""
        raise NotImplementedError

    def tap(self, stage: int, features, start, field: ReceptiveField):
        """Called with the features of each stage, the last stage first."""

    def synthesise(self, features, start, field: ReceptiveField, gains=None):
        """The features of stage 0 -> audio float32 [batch, samples, 1], or a vocoder's input.
        gains: of a codec with codes of gain.
        """
        raise NotImplementedError


@layer_for(WaveformHead)
class WaveformOutput(Head):
    """A last up-sampling layer, whose output is the waveform."""

    def synthesise(self, features, start, field: ReceptiveField, gains=None):
        # A wide kernel, because short patches buzz at their rate.
        up = upsampling(self.config, 1, self.config.hop(0), 7, "up_0")
        self.receptive_fields = [field.add(up)]
        return up(features)


@layer_for(SourceFilterHead)
class SourceAndFilter(Head):
    """A head of `SourceFilter`, on the decoder's only stage."""

    OWN_TERMS = ("presence", "level", "spectrum")

    def synthesise(self, features, start, field, gains=None):
        self.layer = SourceFilter(self.config, name="source_filter")
        self.delay, self.decode_past = self.layer.delay, self.layer.usual.past_steps
        inputs = [features, start] if gains is None else [features, start, gains]
        audio, self.auxiliary_output = self.layer(*inputs)
        self.receptive_fields = [field.add(self.layer)]
        return audio

    def stream(self, inputs):
        """[features, gains if any, start, inside [batch, D + n, 1], kept, state] of the next n
        frames -> [audio [batch, n, level], next state]; see `Codec.decode_part_model`.
        """
        features, *gains, start, inside, kept, state = inputs
        memory, frames = Memory(state, kept), ops.shape(features)[1]
        audio, _ = self.layer.stream(
            features, start, memory,
            lambda late: inside[:, self.delay - late :][:, :frames], *gains)
        return [ops.reshape(audio, (ops.shape(audio)[0], -1, self.config.level)),
                memory.next_state]

    def losses_of(self, features, auxiliary) -> dict:
        """presence: cross-entropy of the peaks' logits (nats per frame), with less weight beside a
        peak. level, spectrum: mean |difference| of loudness at peaks and everywhere, in units of
        80 dB.
        """
        bins = self.config.front_end.bins
        loudness, peaks = ops.split(features[..., : 2 * bins], 2, axis=-1)
        logits, peak_loudness, spectrum = ops.split(auxiliary, 3, axis=-1)
        # A peak of at least 0.5, see `spectrum_layer.ConstantQ.peaks`.
        peak = ops.cast(peaks > 0.5 * loudness, "float32") * ops.cast(peaks > 0.0, "float32")
        weight = ops.where(peak > 0.0, 2.0, ops.where(larger_neighbour(peak, 0.0) > 0.0, 0.3, 1.0))
        entropy = ops.softplus(logits) - logits * peak
        return {
            "presence": ops.mean(ops.sum(weight * entropy, axis=-1)),
            "level": (ops.mean(peak * ops.abs(peak_loudness - loudness))
                      / (ops.mean(peak) + 1e-3)),
            "spectrum": ops.mean(ops.abs(spectrum - loudness)),
        }
