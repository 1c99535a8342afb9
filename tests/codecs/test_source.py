import keras
import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.signal import hilbert
from test_encoders import notes_config

from vqwave.codecs import PERIOD
from vqwave.codecs.codec_layer import Codec
from vqwave.codecs.family.spectrogram_layer import InverseSTFT
from vqwave.codecs.source_layer import (
    NoiseBank,
    OvertonesOf,
    PastMean,
    PickedTones,
    Prominence,
    ToneBank,
    tone_cycles,
)
from vqwave.codecs.spectrum_layer import loudness_of
from vqwave.levels import replace, to_dict
from vqwave.presets import load_preset

RATE, HOP = 22050, 128


def test_the_tones_are_quarter_tones_on_concert_pitch_below_nyquist():
    hertz = tone_cycles(300, RATE) * RATE / PERIOD
    assert np.abs(hertz - 440).min() < 0.05
    np.testing.assert_allclose(np.diff(np.log2(hertz[24:192])), 1 / 24, atol=5e-3)
    assert hertz.max() < RATE / 2
    assert len(set(tone_cycles(192, RATE))) == 192


def angles(bank, start, samples, sample_rate=RATE):
    """The angle of each tone of a bank at each sample, in radians: float64 [tones, samples]."""
    time = np.arange(samples) + start
    points = len(bank.draws)
    draws = bank.draws[np.arange(-1, points + 3) % points].astype(float)
    waver = BSpline(np.arange(-3, points + 5), draws, 3)(time % PERIOD / bank.POINT).T
    cycles = tone_cycles(len(bank.phases), sample_rate)[:, None]
    return 2 * np.pi * (cycles * time % PERIOD) / PERIOD + bank.phases[:, None] + waver


@pytest.mark.parametrize("start", [0, 5, PERIOD // HOP - 3])
@pytest.mark.parametrize("hop", [HOP, 8])
def test_the_bank_is_the_sum_of_its_wavering_tones(rng, start, hop):
    count, frames = 192, 12
    bank = ToneBank(count, hop, RATE)
    amplitudes = rng.uniform(0, 1 / count, (2, frames, count)).astype("float32")
    audio = np.asarray(bank(amplitudes, np.array([start, 0])))
    assert audio.shape == (2, frames * hop, 1)
    time = np.arange(frames * hop)
    for row, first in zip(range(2), (start, 0), strict=True):
        around = np.pad(amplitudes[row], ((1, 3), (0, 0)), mode="edge").astype(float)
        steps = time[:: bank.step].tolist() + [frames * hop]
        spline = BSpline(np.arange(-3, frames + 5), around, 3)(np.array(steps) / hop)
        curves = np.stack([np.interp(time, steps, values) for values in spline.T])
        expected = (curves * np.sin(angles(bank, first * hop, frames * hop))).sum(0)
        # The phases of high tones are not quite linear within a step.
        assert np.std(audio[row, :, 0] - expected) < 0.01 * expected.std()


def test_a_block_of_tones_can_be_computed_alone(rng):
    bank = ToneBank(24, 512, RATE)
    amplitudes = rng.uniform(0, 0.1, (1, 60, 24)).astype("float32")
    before, after = bank.receptive_field
    for start in (0, PERIOD // 512 - 30):
        whole = np.asarray(bank(amplitudes, np.array([start])))[0].reshape(60, 512)
        block = bank(amplitudes[:, 20 - before : 40 + after], np.array([start + 20 - before]))
        np.testing.assert_array_equal(np.asarray(block)[0].reshape(-1, 512)[before:-after],
                                      whole[20:40])


def test_a_tone_has_no_modulation_at_the_frame_rate(rng):
    """A steady tone whose codes change it a little in each frame."""
    frames, hop = 430, 512
    bank = ToneBank(1, hop, RATE, first=108)
    amplitudes = rng.uniform(0.1, 0.3, (1, frames, 1)).astype("float32")
    envelope = np.abs(hilbert(np.asarray(bank(amplitudes, np.zeros(1, "int32")))[0, :, 0]))
    power = np.abs(np.fft.rfft(envelope * np.hanning(envelope.size))) ** 2
    rate = np.fft.rfftfreq(envelope.size, 1 / RATE) * hop / RATE

    def modulation(of_frame_rate):
        return power[np.abs(rate - of_frame_rate) < 0.1].mean()

    slow = modulation(0.25)
    assert all(10 * np.log10(modulation(k) / slow) < -40 for k in (1, 2))


def test_tones_waver_by_nine_cents_slowly_and_each_on_its_own():
    count = 48
    bank = ToneBank(count, 512, RATE)
    seconds = bank.step / RATE
    waver = np.asarray(bank.waver(np.arange(bank.cycle + 1)[None]))[0].astype(float)
    np.testing.assert_array_equal(waver[0], waver[-1])
    hertz = tone_cycles(count, RATE) * RATE / PERIOD
    cents = 1200 * np.log2(1 + np.diff(waver, axis=0) / (2 * np.pi * seconds * hertz))
    np.testing.assert_allclose(cents.std(0), 9, rtol=0.2)
    assert cents.std() == pytest.approx(9, rel=0.03)
    # Five points a second: nothing changes faster than that.
    power = (np.abs(np.fft.rfft(cents, axis=0)) ** 2).sum(1)
    slow = np.fft.rfftfreq(len(cents), seconds) < 6
    assert power[slow].sum() > 0.99 * power.sum()
    others = np.corrcoef(cents.T)[~np.eye(count, dtype=bool)]
    assert np.abs(others).max() < 0.4 and np.abs(others).mean() < 0.1


def test_noise_depends_on_the_position_and_is_as_loud_as_the_features_say(rng):
    layer = NoiseBank(6, 8)
    x = rng.normal(0, 1, (1, 40, 5)).astype("float32")
    whole = np.asarray(layer(x, np.array([100])))
    assert whole.shape == (1, 320, 1)
    part = np.asarray(layer(x[:, 15:], np.array([115])))
    np.testing.assert_allclose(part[:, 24:], whole[:, 15 * 8 + 24 :], atol=1e-6)
    np.testing.assert_allclose(np.asarray(layer(x, np.array([100 + layer.LENGTH // 8]))),
                               whole, atol=1e-6)
    assert np.abs(np.asarray(layer(x, np.array([101]))) - whole).max() > 0.1
    np.testing.assert_allclose(np.asarray(layer(3 * x, np.array([100]))), 3 * whole, atol=1e-5)
    assert not np.asarray(layer(0 * x, np.array([100]))).any()


def test_a_decoder_of_noise_does_not_repeat_itself_while_its_codes_do():
    """A convolutional one hums at the rate of its codes."""
    keras.utils.set_random_seed(0)
    small = load_preset("tiny").codec("vqvae_128")
    small = replace(small,
                    stages=[to_dict(x) | {"dilations": [1]} for x in small.stages])
    codes, start = np.full((1, 60, 1), 7, "int32"), np.zeros(1, "int32")
    for head in ({"kind": "waveform"}, {"kind": "tones", "tones": 0},
                 {"kind": "tones", "tones": 24}):
        config = replace(small, head=head)
        model = Codec(config).decode_model()
        audio = np.asarray(model([codes, start] if config.head.needs_position
                                 else codes))[0].reshape(60, 128)[20:40]
        assert np.abs(audio).max() > 1e-5
        assert (np.abs(np.diff(audio, axis=0)).max() < 1e-5) == (head["kind"] == "waveform")


def test_tones_sound_only_at_peaks_at_the_predicted_level():
    logits = np.full((1, 1, 9), -4.0, "float32")
    logits[0, 0, [2, 3, 4, 7]] = [1.0, 3.0, 1.0, -0.5]
    levels = np.asarray(loudness_of(np.full((1, 1, 9), 0.2, "float32")))
    amplitudes = np.asarray(PickedTones()(np.concatenate([logits, levels, levels], axis=-1)))[0, 0]
    np.testing.assert_allclose(amplitudes, [0, 0, 0, 0.2, 0, 0, 0, 0, 0], atol=1e-5)
    # Two of a height share the tone; near the bounds there is no jump.
    logits[0, 0, 4] = 3.0
    shared = np.asarray(PickedTones()(np.concatenate([logits, levels, levels], axis=-1)))[0, 0]
    np.testing.assert_allclose(shared[3:5], 0.1, atol=1e-5)


def test_overtones_sound_at_peaks_of_the_predicted_spectrum():
    # Quarter tones up from 880 Hz; of the two peaks one lies above the bound, one below.
    levels = np.full((1, 1, 48), 0.5, "float32")
    levels[0, 0, [10, 40]] += 6 / 80

    def overtones(levels, contrast):
        predictions = np.concatenate([np.zeros_like(levels), np.zeros_like(levels), levels], -1)
        prominence, usual = Prominence()(predictions), np.zeros_like(levels)
        layer = OvertonesOf(48, 1800.0, contrast, 120)
        return np.asarray(layer([predictions, prominence, usual]))[0, 0]

    plain, contrasted = (overtones(levels, contrast) for contrast in (1.0, 2.5))
    assert set(np.flatnonzero(plain)) == set(np.flatnonzero(contrasted)) == {40}
    np.testing.assert_allclose(20 * np.log10(plain[40]), 80 * (0.5 - 1.1) + 6, atol=1e-3)
    # The half octave around the peak is 6/13 dB louder for it.
    np.testing.assert_allclose(20 * np.log10(contrasted[40] / plain[40]), 1.5 * 6 * 12 / 13,
                               atol=1e-3)
    # A low peak makes no tone, and the amplitude does not jump as the peak grows.
    amplitudes = []
    for height in np.linspace(0, 3, 61):
        flat = np.full_like(levels, 0.5)
        flat[0, 0, 40] += height / 80
        amplitudes.append(overtones(flat, 1.5)[40])
    assert amplitudes[0] == 0 < amplitudes[-1]
    assert np.max(np.diff(amplitudes)) < 0.1 * amplitudes[-1]


def test_a_peak_that_always_stands_makes_no_overtone_and_one_that_comes_does():
    frames = 400
    levels = np.full((1, frames, 48), 0.5, "float32")
    levels[..., 30] += 6 / 80
    levels[:, 360:, 40] += 6 / 80
    predictions = np.concatenate([np.zeros_like(levels), np.zeros_like(levels), levels], -1)
    prominence, past_mean = Prominence()(predictions), PastMean(512)
    layer = OvertonesOf(48, 1800.0, 1.5, 120)
    tones = np.asarray(layer([predictions, prominence, past_mean(prominence)]))[0]
    assert tones[0, 30] > 0 and not tones[256:, 30].any()
    assert not tones[:360, 40].any() and tones[360:, 40].all()


def test_the_mean_of_the_past_of_a_block_has_the_bits_of_the_whole_piece(rng):
    layer = PastMean(512)
    x = rng.normal(size=(1, 700, 3)).astype("float32")
    whole = np.asarray(layer(x))[0]
    assert layer.past_steps == 256
    np.testing.assert_allclose(whole[500], x[0, 244:500:16].mean(0), atol=1e-6)
    np.testing.assert_allclose(whole[40], x[0, [8, 24]].sum(0) / 16, atol=1e-6)
    np.testing.assert_array_equal(layer(x[:, 500:], past=x[:, 244:500])[0], whole[500:])


def test_each_loss_of_notes_is_smallest_for_the_right_prediction():
    model = Codec(notes_config())
    time = np.arange(512 * 64) / RATE
    sound = (0.3 * np.sin(2 * np.pi * 440 * time)
             + 0.1 * np.sin(2 * np.pi * 1320 * time))[None].astype("float32")
    features = np.asarray(model.front_end(sound))
    levels, peaks = np.split(features, 2, axis=-1)
    right = np.concatenate([np.where(peaks > 0.5 * levels, 9.0, -9.0), levels, levels],
                           axis=-1).astype("float32")

    def terms(predictions):
        return {k: float(v) for k, v in model.head.losses_of(features, predictions).items()}

    least = terms(right)
    assert least["level"] == 0 and least["spectrum"] == 0 and least["presence"] < 0.05
    for part, term in enumerate(model.head.OWN_TERMS):
        wrong = right.copy()
        wrong[..., part * 168 : (part + 1) * 168] += 0.5 + 3.0 * (part == 0)
        worse = terms(wrong)
        assert [name for name in least if worse[name] > least[name] + 0.01] == [term]
    # The right predictions sound as the two tones, as loud as they were.
    amplitudes = np.asarray(PickedTones()(right))[0, 32]
    assert set(np.flatnonzero(amplitudes)) == {72, 110}
    np.testing.assert_allclose(amplitudes[[72, 110]], [0.3, 0.1], rtol=0.05)


@pytest.mark.parametrize("padding", ["same", "causal"])
def test_the_inverse_of_a_spectrogram_is_its_audio(padding, rng):
    n_fft, hop, frames = 64, 8, 30
    layer = InverseSTFT(n_fft, hop, padding)
    before, behind = layer.receptive_field
    begins = 0 if padding == "causal" else -n_fft // 2
    sound = rng.normal(size=hop * frames + 2 * n_fft).astype("float32")  # n_fft more on either side
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    first = [n_fft + t * hop + begins for t in range(-before, frames + behind)]
    spectra = np.fft.rfft([window * sound[i : i + n_fft] for i in first])[None]
    audio = layer.overlap_add(spectra.real.astype("float32"), spectra.imag.astype("float32"))
    np.testing.assert_allclose(audio[0, :, 0], sound[n_fft:-n_fft], atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "causal"])
def test_a_frame_of_a_spectrogram_reaches_as_far_as_its_window(padding, rng):
    layer = InverseSTFT(32, 8, padding)
    x = rng.normal(size=(1, 30, 5)).astype("float32")
    layer(x)
    for v in layer.variables:
        v.assign(rng.normal(size=v.shape))
    changed = x.copy()
    changed[0, 12] += 1.0
    moved = np.abs(np.asarray(layer(changed)) - np.asarray(layer(x)))[0].reshape(30, 8).max(1)
    left, right = layer.receptive_field
    assert list(np.flatnonzero(moved > 1e-6)) == list(range(12 - right, 12 + left + 1))
    assert (left, right) == ((3, 0) if padding == "causal" else (1, 2))
