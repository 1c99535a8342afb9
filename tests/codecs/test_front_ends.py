import numpy as np
import pytest
from encoded import tone

from vqwave.codecs import LogFrequencyFrontEnd
from vqwave.codecs.family.spectrogram import SpectrogramFrontEnd
from vqwave.codecs.spectrum_layer import ConstantQ, amplitude_of
from vqwave.levels.kinds import layer_of

RATE = 22050


def sine(hertz):
    return tone(512 * 80 / RATE, RATE, hertz)


@pytest.fixture(scope="module")
def transform():
    return ConstantQ(LogFrequencyFrontEnd(), RATE)


@pytest.mark.parametrize("bin_", [0, 24, 71, 72, 100, 167])
def test_a_sine_has_its_amplitude_at_its_quarter_tone_and_is_a_peak_there(transform, bin_):
    amplitudes = np.asarray(transform(sine(55 * 2 ** (bin_ / 24))[None]))[0]
    assert amplitudes.shape == (80, 168)
    np.testing.assert_allclose(amplitudes[30:50, bin_], 0.5, rtol=0.01)
    assert (amplitudes[30:50].argmax(1) == bin_).all()
    peaks = np.asarray(transform.peaks(amplitudes[None]))[0, 30:50] > 0.5
    if 0 < bin_ < 167:
        assert (np.flatnonzero(peaks.sum(0)) == bin_).all()


@pytest.mark.parametrize("config, least", [
    (LogFrequencyFrontEnd(hop=128), 0.7), (LogFrequencyFrontEnd(), 0.7),
    (SpectrogramFrontEnd(hop=128, n_fft=512), 0.2)])
def test_a_frame_sees_as_far_as_the_receptive_field_says(config, least, rng):
    layer = layer_of(config)(config, RATE)
    audio = rng.normal(0, 0.1, (1, 512 * 60)).astype("float32")
    changed, at = audio.copy(), 512 * 30 + 100
    changed[0, at] += 1.0
    moved = np.abs(np.asarray(layer(changed)) - np.asarray(layer(audio))).max((0, 2)) > 1e-6
    (left, right), moved = layer.receptive_field, np.flatnonzero(moved) * config.hop
    assert at - right <= moved.min() < at - least * right
    assert at + least * left < moved.max() <= at + left
    assert layer.compute_output_shape((2, 4096)) == (2, 4096 // config.hop, layer.channels)


def test_a_sine_has_its_loudness_at_its_bin():
    config, bin_ = SpectrogramFrontEnd(hop=128, n_fft=512, mels=0), 40
    layer = layer_of(config)(config, RATE)
    levels = np.asarray(layer(sine(bin_ * RATE / 512)[None]))[0]
    assert levels.shape == (320, 256) and layer.channels == 256
    np.testing.assert_allclose(amplitude_of(levels[5:-5, bin_]), 0.5, rtol=1e-3)
    assert (levels[5:-5].argmax(1) == bin_).all() and levels[5:-5, 100:].max() < 0.1
