import numpy as np
import pytest

from vqwave.codecs import CodecConfig
from vqwave.codecs.codec_layer import Codec
from vqwave.levels import validate

BASE = {
    "name": "vqvae_64", "sample_rate": 22050,
    "front_end": {"kind": "spectrogram", "hop": 16, "n_fft": 64, "mels": 8},
    "stages": [{"stride": 16, "channels": 4, "dilations": [1]},
               {"stride": 2, "channels": 6, "dilations": [1]},
               {"stride": 2, "channels": 8, "dilations": [1, 3]}],
    "encoder": {"kind": "plane"}, "head": {"kind": "spectrogram", "n_fft": 64},
}
BOOK = {"num_codes": 16, "code_dim": 3}
KINDS = {
    "vae": {"quantizer": {"kind": "gaussian", "dim": 3}},
    "residual": {"quantizer": {"kind": "residual", "books": 2} | BOOK},
    "vqvae2": {"quantizer": {"kind": "ema"} | BOOK, "hierarchy": {"kind": "vqvae2", "bottom": 1}},
}


@pytest.fixture(scope="module", params=KINDS)
def codec(request):
    """Each kind, with weights in which nothing is zero and codebooks from latents of noise."""
    model = Codec(validate(CodecConfig, BASE | KINDS[request.param]))
    random = np.random.default_rng(0)
    for v in model.trainable_variables:
        v.assign(v + 0.2 * random.normal(size=v.shape).astype("float32"))
    model(sound(80), training=True)
    return model


def sound(frames, seed=0):
    return np.random.default_rng(seed).normal(0.0, 0.2, (2, frames * 64)).astype("float32")


def test_a_plane_is_decoded_from_its_frames_as_in_the_whole_pass(codec):
    audio = sound(30)
    frames = codec.encode_model()(audio)
    assert frames.shape == (2, 30, codec.config.frame_width)
    assert frames.dtype == codec.config.frame_dtype
    np.testing.assert_allclose(codec.decode_model()(frames), codec(audio), atol=1e-4)
    if codec.config.has_codes:
        wanted = 1 + max(codec.config.codebook_of)
        assert len(codec.quantizer.codebooks) == wanted == 2
        assert len(np.unique(frames)) > 1


def test_the_quantized_top_conditions_the_bottom():
    model = Codec(validate(CodecConfig, BASE | KINDS["vqvae2"]))
    layer = model.quantizer
    model(sound(40), training=True)
    latents = model.encoder(model.front_end(sound(40)))
    top_codes = layer.top.encode(latents[..., : layer.top_width])
    top = layer.top.lookup(top_codes)
    bottom = layer._bottom_latents(latents, top)
    assert bottom.shape == (2, 80, 4 * 3)
    assert np.abs(np.asarray(bottom - layer._bottom_latents(latents, 2.0 * top))).max() > 1e-3
    # In a frame the top's two codes come first, then four of each of its two bottom frames.
    codes = np.asarray(layer.encode(latents))
    np.testing.assert_array_equal(codes[..., :2], top_codes)
    np.testing.assert_array_equal(codes[..., 2:].reshape(2, 80, 4), layer.bottom.encode(bottom))
    assert {"usage_top", "usage_bottom"} <= {metric.name for metric in model.metrics}
    # Every variable that encoding needs is in its part.
    paths = [v.path for v in model.parts["encoder"]]
    assert len(paths) == len(set(paths))
    assert {id(v) for v in model.trainable_variables} <= {
        id(v) for part in model.parts.values() for v in part}
