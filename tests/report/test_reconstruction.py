"""reconstruction.py: the figures of a codec are those of the whole recording."""

import numpy as np
import pytest
from encoded import tone

from vqwave.config import ConfigError, preset, replace
from vqwave.dsp import metrics
from vqwave.report.reconstruction import reconstruct

RATE = 22050


class _Rounding:
    """A codec whose every answer is known: a code is the mean of its samples in 1/32nds, decoded as
    a constant.
    """

    config = preset("tiny").codec(8)
    latency = 8 / RATE

    def encode(self, audio, label=None):
        padded = np.pad(audio, ((0, 0), (0, -audio.shape[1] % 8)))
        return np.clip(np.round(padded.reshape(len(audio), -1, 8).mean(2) * 32) + 32,
                       0, 63).astype(np.int32)[..., None]

    def decode(self, codes, label=None):
        return np.repeat((codes[..., 0] - 32) / 32, 8, axis=1).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 8, 1001, RATE + 3])
def test_codec_figures_are_of_the_whole_signal_at_its_own_length(samples):
    audio = tone(samples / RATE, RATE, 50.0) + 0.25
    made, figures = reconstruct(_Rounding(), audio)
    assert made.shape == audio.shape
    codes = _Rounding().encode(audio[None])
    assert figures["codes"] == codes.size == -(-samples // 8)
    (counts,) = metrics.histogram(codes, 64)
    assert figures["usage"] == metrics.usage(counts) and figures["perplexity"] == metrics.perplexity(counts)
    assert {k: figures[k] for k in ("sc_db", "mel", "si_sdr_db")} == metrics.distances(audio,
                                                                                       made, RATE)
    assert figures["latency_ms"] == pytest.approx(8000 / RATE)
    assert figures["encode_speed"] > 0 and figures["decode_speed"] > 0
    with pytest.raises(ValueError, match="at least one sample"):
        reconstruct(_Rounding(), audio[:0])


class _TwoBooks(_Rounding):
    """The same with a second book of codes, which add 1 where they are there and 1."""

    config = replace(_Rounding.config, quantizer={"kind": "residual", "books": 2, "num_codes": 64})

    def encode(self, audio, label=None):
        codes = super().encode(audio)
        return np.concatenate([codes, np.ones_like(codes)], axis=-1)

    def decode(self, codes, label=None):
        more = np.repeat(codes[..., 1:].sum(-1), 8, axis=1)
        return super().decode(codes) + more.astype(np.float32)


def test_fewer_books_of_a_residual_codec_take_fewer_bits():
    audio = tone(1.0, RATE, 50.0)
    (whole, both), (made, first) = (reconstruct(_TwoBooks(), audio, n) for n in (2, 1))
    np.testing.assert_allclose(whole, made + 1.0)
    assert reconstruct(_TwoBooks(), audio)[1]["codes"] == both["codes"] == 2 * first["codes"]
    assert both["bitrate_kbps"] == pytest.approx(2 * first["bitrate_kbps"])
    with pytest.raises(ConfigError, match="vqvae_8 has 2 codebooks; 3 cannot be kept"):
        reconstruct(_TwoBooks(), audio, 3)
    with pytest.raises(ConfigError, match="quantizer of ema, all of whose codes are needed"):
        reconstruct(_Rounding(), audio, 1)
