"""vocoders.py: audio from the levels of a spectrogram, in the whole and in blocks."""

import warnings

import numpy as np
import pytest
from prepared import music

from vqwave import config as configs
from vqwave.data import vocoders
from vqwave.dsp import metrics
from vqwave.io import weights
from vqwave.nn.codec import Codec
from vqwave.nn.frontends import FRONT_ENDS
from vqwave.play import engine

UNHEARD = dict.fromkeys(configs.LossConfig.audio_terms, 0.0)


def codec(mels=8, steps=3, **more):
    """A codec of spectrograms as pictures, 64 samples a code, with a head of griffin_lim."""
    return configs.validate(configs.CodecConfig, {
        "name": "vqvae_64", "sample_rate": 22050, "loss": UNHEARD,
        "front_end": {"kind": "spectrogram", "hop": 16, "n_fft": 64, "mels": mels},
        "stages": [{"stride": 16, "channels": 4, "dilations": [1]},
                   {"stride": 2, "channels": 6, "dilations": [1]},
                   {"stride": 2, "channels": 8, "dilations": [1]}],
        "quantizer": {"num_codes": 16, "code_dim": 3}, "encoder": {"kind": "plane"},
        "head": {"kind": "griffin_lim", "steps": steps}} | more)


def sized(mels, steps, hop=256, n_fft=1024):
    """One with the front end that presets have."""
    return codec(mels, steps, encoder={"kind": "mirror"}, name="vqvae_256",
                 stages=[{"stride": hop, "channels": 4, "dilations": [1]}],
                 front_end={"kind": "spectrogram", "hop": hop, "n_fft": n_fft, "mels": mels})


def levels_of(config, audio):
    seen = FRONT_ENDS[config.front_end.kind](config.front_end, config.sample_rate)(audio)
    return np.asarray(seen).reshape(len(audio), -1)


@pytest.mark.parametrize("mels, far", [(0, 0.15), (80, 0.3)])
def test_levels_become_the_audio_that_has_them(mels, far):
    """As loud, and with the same spectrum; the phase is its own."""
    audio = np.stack([music(1.5, i)[: 256 * 120] for i in (1, 2)]).astype("float32")
    decoded = vocoders.vocoder(config := sized(mels, 32))(levels_of(config, audio))
    assert decoded.shape == audio.shape and decoded.dtype == np.float32
    for heard, wanted in zip(decoded, audio, strict=True):
        assert heard.std() == pytest.approx(wanted.std(), rel=0.2)
        ours, theirs = (np.concatenate(list(metrics.magnitudes(x, 1024, 256)))
                        for x in (heard, wanted))
        assert np.linalg.norm(ours - theirs) < far * np.linalg.norm(theirs)


@pytest.mark.parametrize("head", [
    {}, {"head": {"kind": "spectrogram", "n_fft": 64}, "loss": {"mel": 1.0}}],
    ids=["griffin_lim", "spectrogram"])
def test_a_codec_of_every_bin_trains_and_decodes(head):
    config = codec(mels=0, **head)
    assert (config.front_end.channels, config.positions) == (32, 8)
    model = Codec(config)
    model.compile(optimizer="sgd", jit_compile=False)
    audio = music(0.5)[None, :4096].astype("float32")
    before = [v.numpy() for v in model.decoder.weights]
    assert np.isfinite(model.fit(audio, audio, verbose=0).history["loss"]).all()
    assert any(np.abs(v.numpy() - b).max() > 0
               for v, b in zip(model.decoder.weights, before, strict=True))
    codes = np.asarray(model.encode_model()(audio))
    assert codes.shape == (1, 64, 8)
    heard = vocoders.vocoder(config)(np.asarray(model.decode_model()(codes)))
    assert heard.shape == audio.shape and np.isfinite(heard).all()


def test_more_steps_come_nearer():
    audio = music(1.0)[None, : 256 * 80].astype("float32")
    levels = levels_of(config := sized(0, 1), audio)

    def error(steps):
        heard = vocoders.vocoder(sized(0, steps))(levels)
        return np.abs(levels_of(config, heard) - levels).mean()

    assert error(32) < error(4) < error(1)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_frame_reaches_no_further_than_is_said(steps, rng):
    griffin_lim = vocoders.GriffinLim(sized(0, steps, 16, 64))
    levels = rng.uniform(0.5, 1.0, (1, 120, 32))
    changed = levels.copy()
    changed[0, 60] = rng.uniform(0.5, 1.0, 32)
    moved = np.abs(griffin_lim(changed) - griffin_lim(levels))[0].reshape(120, 16).max(1)
    left, right = griffin_lim.receptive_field
    at = np.flatnonzero(moved > 0)
    assert (left, right) == (3 * steps + 1, 3 * steps + 2)
    # What comes through the tails of all windows is less than a float32 can tell.
    assert 60 - right <= at[0] <= 60 - 0.7 * right and 60 + 0.7 * left <= at[-1] <= 60 + left


def test_pieces_of_any_length_and_silence_have_their_audio(rng):
    griffin_lim = vocoders.GriffinLim(codec())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for frames in (1, 2, 7):
            assert griffin_lim(np.full((2, frames, 8), 0.6)).shape == (2, frames * 16)
        assert np.abs(griffin_lim(np.zeros((1, 40, 8)))).max() < 1e-3
    apart = rng.uniform(0, 1, (2, 30, 8))
    np.testing.assert_array_equal(griffin_lim(apart)[1:], griffin_lim(apart[1:]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a codec with such a head, nothing in it zero."""
    folder, random = tmp_path_factory.mktemp("weights"), np.random.default_rng(0)
    model = Codec(codec())
    for v in model.trainable_variables:
        v.assign(v + 0.1 * random.normal(size=v.shape).astype("float32"))
    model(random.normal(0.0, 0.2, (2, 80 * 64)).astype("float32"), training=True)
    weights.save(folder, "vqvae_64", "", model.parts, model.config)
    return folder


@pytest.mark.parametrize("name", ["onnx", "keras"])
def test_an_engine_decodes_blocks_with_a_halo_to_the_whole(saved, name, rng):
    played = engine.load_codec(weights.find(saved, "vqvae_64"), name)
    codes = played.encode(rng.normal(0.0, 0.2, (2, 60 * 64)).astype("float32"))
    whole, halo = played.decode(codes), played.decode_halo
    assert whole.shape == (2, 60 * 64) and whole.std() > 0 and 2 < halo < 12
    first, last = 20, 24
    part = played.decode_window(codes[:, first - halo : last + halo], first - halo)
    np.testing.assert_allclose(part[:, halo * 64 : -halo * 64], whole[:, first * 64 : last * 64],
                               atol=1e-5)
    # What it waits for: a frame, and all that is seen ahead.
    assert played.latency * 22050 >= 64 * (1 + halo)


def test_both_engines_say_the_same(saved, rng):
    engines = [engine.load_codec(weights.find(saved, "vqvae_64"), name) for name in ("onnx", "keras")]
    codes = engines[0].encode(rng.normal(0.0, 0.2, (1, 30 * 64)).astype("float32"))
    np.testing.assert_allclose(engines[0].decode(codes), engines[1].decode(codes), atol=1e-4)


def test_it_learns_the_levels_alone():
    model = Codec(codec())
    model.compile(optimizer="adam", jit_compile=False)
    x = np.random.default_rng(0).normal(0.0, 0.2, (8, 64 * 16)).astype("float32")
    logs = model.fit(x, x, epochs=15, batch_size=4, verbose=0).history
    assert logs["spectrum"][-1] < 0.8 * logs["spectrum"][0]
    assert not {"mel", "spectral_convergence", "waveform"} & set(logs)


@pytest.mark.parametrize(("change", "said"), [
    ({"loss": UNHEARD | {"mel": 1.0}}, "griffin_lim makes no audio.*: mel"),
    ({"adversary": {}}, "griffin_lim makes no audio: set adversary"),
    ({"padding": "causal"}, "padding is causal, but the front_end, spectrogram"),
    ({"head": {"kind": "griffin_lim", "steps": 0}}, "steps is 0"),
    ({"front_end": {"kind": "waveform"}, "encoder": {"kind": "mirror"}},
     "griffin_lim, needs front_end of kind spectrogram"),
    ({"front_end": {"kind": "spectrogram", "hop": 32, "n_fft": 128, "mels": 8},
      "encoder": {"kind": "mirror"}},
     "hop, 32, is the first stage's stride, 16"),
    ({"head": {"kind": "waveform"}}, "plane, needs head of kind spectrogram or griffin_lim"),
])
def test_a_codec_that_it_does_not_fit_is_refused(change, said):
    with pytest.raises(configs.ConfigError, match=said) as caught:
        codec(**change)
    assert "\n" not in str(caught.value)


def test_the_terms_of_audio_are_those_that_hear_it():
    from vqwave.nn.losses import TERMS

    assert {name for names in TERMS for name in names} == set(configs.LossConfig.audio_terms)
