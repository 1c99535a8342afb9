import numpy as np
import pytest
from encoded import tone

from vqwave.codecs import LossConfig, losses_layer
from vqwave.codecs.spectrum_layer import magnitude
from vqwave.dsp.metrics import mel_distance
from vqwave.levels import replace
from vqwave.presets import load_preset

RATE, SAMPLES = 22050, 8192
TERMS = ("spectral_convergence", "log_magnitude", "mel", "waveform")


def terms(x, y):
    return {k: float(v) for k, v in losses_layer.reconstruction_terms(x, y, RATE).items()}


@pytest.fixture(scope="module")
def music():
    noise = np.random.default_rng(0).normal(0, 0.02, (2, SAMPLES))
    tones = [tone(1.0, RATE, f)[:SAMPLES] for f in (440.0, 660.0)]
    return (np.stack(tones) + noise).astype("float32")


@pytest.mark.parametrize("x", ["silence", "music"])
@pytest.mark.parametrize("y", ["silence", "music"])
def test_every_term_and_its_gradient_are_finite_in_silence(x, y, music):
    import tensorflow as tf

    signals = {"silence": np.zeros_like(music), "music": music}
    reconstruction = tf.convert_to_tensor(signals[y])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(reconstruction)
        values = (losses_layer.reconstruction_terms(signals[x], reconstruction, RATE)
                  | {"hum": losses_layer.hum(signals[x], reconstruction, 32)})
    for name in (*TERMS, "hum"):
        assert np.isfinite(values[name]), name
        assert np.isfinite(tape.gradient(values[name], reconstruction)).all(), name
    if x == y == "silence":
        assert float(sum(values.values())) < 0.1


def test_terms_follow_their_definitions(music, rng):
    y = (music + rng.normal(0, 0.05, music.shape)).astype("float32")
    assert set(terms(music, music)) == set(TERMS) and max(terms(music, music).values()) < 1e-3
    cost = terms(music, y)
    pairs = [[np.asarray(magnitude(s, *scale)) for s in (music, y)] for scale in losses_layer.STFT_SCALES]
    convergence = np.mean([np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in pairs])
    np.testing.assert_allclose(cost["spectral_convergence"], convergence, rtol=1e-3)
    log = np.mean([np.abs(np.log(a + 1e-3) - np.log(b + 1e-3)).mean() for a, b in pairs])
    np.testing.assert_allclose(cost["log_magnitude"], log, rtol=1e-3)
    np.testing.assert_allclose(cost["waveform"], ((music - y) ** 2).mean() / (music**2).mean(),
                               rtol=1e-3)


def test_hum_is_a_spectral_line_that_the_original_lacks(rng):
    x = rng.normal(0, 0.1, (4, 16384)).astype("float32")
    t = np.arange(x.shape[1])
    for level in (8, 32, 512):
        line = 0.05 * np.sin(2 * np.pi * 3 * t / level).astype("float32")
        beside = 0.05 * np.sin(2 * np.pi * 3.4 * t / level).astype("float32")
        same, louder, humming, tone = (float(losses_layer.hum(x, y, level))
                                       for y in (x, 4 * x, x + line, x + beside))
        assert same == 0 and louder < 1e-3
        # Some 26 dB, which are 6 nepers of power, at one of the multiples.
        assert 25 < humming * (level / 2 - 1) < 50 and tone < 1e-3
        assert float(losses_layer.hum(x + line, x + line, level)) == 0  # the music's own
        # a notch instead
        assert float(losses_layer.hum(x + line, x, level)) == pytest.approx(humming, rel=1e-3)


@pytest.mark.parametrize("lowest, octaves, books, hertz", [(55.0, 7, 7, 110), (27.5, 8, 16, 34.65)])
def test_the_constant_q_term_separates_semitones_as_low_as_the_codec_hears(lowest, octaves, books,
                                                                           hertz):
    time = np.arange(512 * 128) / RATE
    low, higher = (0.3 * np.sin(2 * np.pi * f * time)[None].astype("float32")
                   for f in (hertz, hertz * 2 ** (1 / 12)))
    codec = load_preset().codec("vqvae_128")
    codec = replace(codec, quantizer=replace(codec.quantizer.shape, books=books),
                    front_end=replace(codec.front_end, lowest=lowest,
                                              octaves=octaves))
    assert float(losses_layer.constant_q(low, low, codec)) == 0
    assert float(losses_layer.constant_q(low, higher, codec)) > 0.01
    # Levels are in units of 80 dB: 8 dB more, wherever there is something to hear.
    assert float(losses_layer.constant_q(low, 0.4 * low, codec)) < 0.1


def test_contrast_compares_heights_wherever_they_stand(rng):
    time, noise = np.arange(512 * 32) / RATE, rng.normal(0, 0.01, (1, 512 * 32))
    low, higher = ((0.3 * np.sin(2 * np.pi * f * time) + noise).astype("float32") for f in (1000, 1100))
    assert float(losses_layer.contrast(low, low, RATE)) == 0
    assert float(losses_layer.contrast(low, higher, RATE)) < 0.1
    assert float(losses_layer.contrast(low, (low + 3 * noise).astype("float32"), RATE)) > 0.8


def test_loss_terms_with_a_weight_are_computed(rng):
    x, y = rng.normal(0, 0.1, (2, 1, 512 * 40)).astype("float32")
    config = load_preset("tiny").codec(512)
    # Of the head of notes, and of the decoder's stages.
    own = {"presence", "level", "spectrum", "channel_average"}
    assert {name for names in losses_layer.LOSS_TERMS
            for name in names} | own == set(LossConfig.model_fields)
    loss = LossConfig(hum=0.1, constant_q=0.5, multi_mel=0.1, flux=0.1, contrast=0.1)
    for names, compute in losses_layer.terms_of(loss).items():
        assert set(compute(x, y, config)) == set(names)
    assert set(losses_layer.terms_of(loss)) == set(losses_layer.LOSS_TERMS)
    assert len(losses_layer.terms_of(LossConfig())) == 1


def test_a_channel_average_is_the_recording_at_the_rate_of_its_stage(rng):
    x = rng.normal(0, 0.1, (2, 64)).astype("float32")
    down = [x.reshape(2, -1, hop).mean(2) for hop in (8, 32)]
    assert float(losses_layer.channel_average(x, down)) < 1e-9
    assert float(losses_layer.channel_average(x, [0 * down[0]])) == pytest.approx(1.0, rel=1e-2)
    assert float(losses_layer.channel_average(x, [down[0], 2 * down[1]])) == pytest.approx(0.5, rel=1e-2)
    assert np.isfinite(float(losses_layer.channel_average(0 * x, down)))


@pytest.mark.parametrize("term, least", [("mel", 0.3), ("multi_mel", 0.05)])
def test_hiss_in_a_quiet_band_costs_as_much_as_in_metrics(term, least, rng):
    """A tone that is alone below 2 kHz, and hiss 80 dB under it above."""
    x = np.tile(tone(1.0, RATE, 440.0)[:SAMPLES], (1, 1)).astype("float32")
    hiss = np.fft.irfft(np.fft.rfft(rng.normal(0, 1.0, SAMPLES)) * (np.arange(SAMPLES // 2 + 1) > 2000))
    y = (x + 1e-4 * hiss).astype("float32")
    compute = {"mel": lambda: terms(x, y)["mel"],
               "multi_mel": lambda: float(losses_layer.multi_mel(x, y, RATE))}[term]
    assert compute() > least
    if term == "mel":
        assert compute() == pytest.approx(mel_distance(x[0], y[0], RATE), rel=0.05)
