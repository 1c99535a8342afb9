"""Front ends: the encoder's view of the audio, a class for each kind of `front_end`."""

from keras import layers, ops

from ..config import LogFrequencyFrontEnd, SpectrogramFrontEnd, WaveformFrontEnd
from ..dsp.spectrum import mean_filters
from . import spectrum


class WaveformInput(layers.Reshape):
    """audio float32 [batch, T] -> [batch, T, 1]: the samples themselves, as one channel.

    Every front end offers `call`, `hop` (samples per step), `channels` and `receptive_field`
    (left, right) in samples.
    """

    hop, channels, receptive_field = 1, 1, (0, 0)

    def __init__(self, config: WaveformFrontEnd, sample_rate: int, **kwargs):
        super().__init__((-1, 1), name="channel", **kwargs)


class LogFrequencySpectrum(layers.Layer):
    """audio float32 [batch, T] -> float32 [batch, T / hop, 2·bins]: loudness of the quarter tones,
    then the same at peaks only.
    """

    def __init__(self, config: LogFrequencyFrontEnd, sample_rate: int, **kwargs):
        super().__init__(dtype="float32", name="log_frequency", **kwargs)
        self.transform = spectrum.ConstantQ(config, sample_rate)
        self.hop, self.channels = config.hop, 2 * config.bins
        self.receptive_field = self.transform.receptive_field

    def call(self, audio):
        amplitudes = self.transform(audio)
        loudness = spectrum.loudness_of(amplitudes)
        return ops.concatenate([loudness, loudness * self.transform.peaks(amplitudes)], axis=-1)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] // self.hop, self.channels)


class Spectrogram(layers.Layer):
    """audio float32 [batch, T] -> loudness float32 [batch, T / hop, channels], see
    `spectrum.loudness_of`. A Hann window is centred on a frame's first sample. The channels are its
    bins, without the bin at half the sample rate, or mel bands: weighted means of the bins.
    """

    def __init__(self, config: SpectrogramFrontEnd, sample_rate: int, **kwargs):
        super().__init__(dtype="float32", name="spectrogram", **kwargs)
        n_fft, mels = config.n_fft, config.mels
        self.hop, self.channels = config.hop, config.channels
        self.receptive_field = (n_fft // 2, n_fft // 2)
        self.kernel = spectrum.hann_kernel(n_fft, config.hop,
                                           n_fft // 2 + 1 if mels else config.channels)
        self.filters = mean_filters(sample_rate, n_fft, mels).T if mels else None

    def call(self, audio):
        amplitudes = spectrum.windowed_amplitudes(spectrum.to_blocks(audio, self.hop), self.kernel)
        if self.filters is not None:
            amplitudes = ops.matmul(amplitudes, self.filters)
        return spectrum.loudness_of(amplitudes)

    def compute_output_shape(self, shape):
        return (shape[0], None if shape[1] is None else shape[1] // self.hop, self.channels)


FRONT_ENDS: dict[str, type[layers.Layer]] = {
    "waveform": WaveformInput, "log_frequency": LogFrequencySpectrum, "spectrogram": Spectrogram,
}
"""The layer of each kind of front end: (config, sample_rate) -> layer."""
