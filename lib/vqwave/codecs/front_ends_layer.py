"""Front ends: the encoder's view of the audio, a class for each kind of `front_end`."""

from keras import layers, ops

from ..levels.kinds import layer_for
from .front_ends import LogFrequencyFrontEnd, WaveformFrontEnd
from .spectrum_layer import ConstantQ, loudness_of


@layer_for(WaveformFrontEnd)
class WaveformInput(layers.Reshape):
    """audio float32 [batch, T] -> [batch, T, 1]: the samples themselves, as one channel.

    Every front end offers `call`, `hop` (samples per step), `channels` and `receptive_field`
    (left, right) in samples.
    """

    hop, channels, receptive_field = 1, 1, (0, 0)

    def __init__(self, config: WaveformFrontEnd, sample_rate: int, **kwargs):
        super().__init__((-1, 1), name="channel", **kwargs)


@layer_for(LogFrequencyFrontEnd)
class LogFrequencySpectrum(layers.Layer):
    """audio float32 [batch, T] -> float32 [batch, T / hop, 2·bins]: loudness of the quarter tones,
    then the same at peaks only.
    """

    def __init__(self, config: LogFrequencyFrontEnd, sample_rate: int, **kwargs):
        super().__init__(dtype="float32", name="log_frequency", **kwargs)
        self.transform = ConstantQ(config, sample_rate)
        self.hop, self.channels = config.hop, 2 * config.bins
        self.receptive_field = self.transform.receptive_field

    def call(self, audio):
        amplitudes = self.transform(audio)
        loudness = loudness_of(amplitudes)
        return ops.concatenate([loudness, loudness * self.transform.peaks(amplitudes)], axis=-1)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] // self.hop, self.channels)
