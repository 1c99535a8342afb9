
import numpy as np
import pytest
from prepared import music
from reference import KerasCodec

from vqwave.codecs import CodecConfig, LossConfig
from vqwave.codecs.codec_layer import Codec
from vqwave.data import vocoders
from vqwave.dsp import spectrum
from vqwave.io import weights
from vqwave.levels import validate
from vqwave.levels.kinds import layer_of
from vqwave.play import engine

UNHEARD = dict.fromkeys(LossConfig.audio_terms, 0.0)


def codec(mels=8, steps=3, **more):
    """A codec of spectrograms as pictures, 64 samples a code, with a head of griffin_lim."""
    return validate(CodecConfig, {
        "name": "vqvae_64", "sample_rate": 22050, "loss": UNHEARD,
        "front_end": {"kind": "spectrogram", "hop": 16, "n_fft": 64, "mels": mels},
        "stages": [{"stride": 16, "channels": 4, "dilations": [1]},
                   {"stride": 2, "channels": 6, "dilations": [1]},
                   {"stride": 2, "channels": 8, "dilations": [1]}],
        "quantizer": {"num_codes": 16, "code_dim": 3}, "encoder": {"kind": "plane"},
        "head": {"kind": "griffin_lim", "steps": steps}} | more)


def sized(mels, steps, hop=256, n_fft=1024):
    return codec(mels, steps, encoder={"kind": "mirror"}, name="vqvae_256",
                 stages=[{"stride": hop, "channels": 4, "dilations": [1]}],
                 front_end={"kind": "spectrogram", "hop": hop, "n_fft": n_fft, "mels": mels})


def levels_of(config, audio):
    seen = layer_of(config.front_end)(config.front_end, config.sample_rate)(audio)
    return np.asarray(seen).reshape(len(audio), -1)


@pytest.mark.parametrize("mels, far", [(0, 0.15), (80, 0.3)])
def test_levels_become_the_audio_that_has_them(mels, far):
    """The audio has the loudness and the spectrum of the recording; the phase differs."""
    audio = np.stack([music(1.5, i)[: 256 * 120] for i in (1, 2)]).astype("float32")
    decoded = vocoders.vocoder(config := sized(mels, 32))(levels_of(config, audio))
    assert decoded.shape == audio.shape and decoded.dtype == np.float32
    for heard, wanted in zip(decoded, audio, strict=True):
        assert heard.std() == pytest.approx(wanted.std(), rel=0.2)
        ours, theirs = (np.concatenate(list(spectrum.magnitudes(x, 1024, 256)))
                        for x in (heard, wanted))
        assert np.linalg.norm(ours - theirs) < far * np.linalg.norm(theirs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a codec whose head is griffin_lim; no weight is zero."""
    folder, random = tmp_path_factory.mktemp("weights"), np.random.default_rng(0)
    model = Codec(codec())
    for v in model.trainable_variables:
        v.assign(v + 0.1 * random.normal(size=v.shape).astype("float32"))
    model(random.normal(0.0, 0.2, (2, 80 * 64)).astype("float32"), training=True)
    weights.save(folder, "vqvae_64", "", model.parts, model.config)
    return folder


def test_both_engines_decode_blocks_with_a_halo_to_the_whole(saved, rng):
    codecs = [kind(weights.find(saved, "vqvae_64")) for kind in (engine.CodecEngine, KerasCodec)]
    codes = codecs[0].encode(rng.normal(0.0, 0.2, (2, 60 * 64)).astype("float32"))
    whole, halo = codecs[0].decode(codes), codecs[0].decode_halo
    assert whole.shape == (2, 60 * 64) and whole.std() > 0 and 2 < halo < 12
    first, last = 20, 24
    for codec in codecs:
        np.testing.assert_allclose(codec.decode(codes), whole, atol=1e-4)
        part = codec.decode_window(codes[:, first - halo : last + halo], first - halo)
        np.testing.assert_allclose(part[:, halo * 64 : -halo * 64],
                                   codec.decode(codes)[:, first * 64 : last * 64], atol=1e-5)
        # The latency is one frame and all frames ahead.
        assert codec.latency * 22050 >= 64 * (1 + halo)
