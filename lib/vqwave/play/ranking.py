"""The rating of candidates: real music is above silence and above noise."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..dsp.spectrum import magnitudes

MOST = 600
"""Seconds of a piece that are judged."""
WINDOW, SOUNDING = 0.4, -40.0
"""Seconds of a moment, and the dBFS above which it sounds."""
N_FFT, BINS, BANDS = 2048, 16, 15
"""Samples of a spectrum, bins of a band, and bands, from 86 Hz at 22,050 Hz on."""


def typical_bits(generators) -> dict[int, float]:
    """Bits per code of each generator's validation music, by level, from its record."""
    losses = {g.config.level: g.weight_set.record.get("validation_loss", 0.0) for g in generators
              if not g.config.is_performer}
    return {level: loss / math.log(2) for level, loss in losses.items() if loss > 0}


def rate(sound: np.ndarray, sample_rate: int, bits: Mapping, typical: Mapping) -> float:
    """The product of three shares, 0 … 1: of the moments that sound; their mean clarity; and, for
    each level, the smaller of bits / typical and its inverse.

    Clarity is 1 less the spectral flatness within bands, in which noise of any colour is flat. The
    rating is deaf to melody, harmony and rhythm.

    Args:
        sound: float [samples].
        bits: bits per code by level. typical: those of real music, see `typical_bits`.
    """
    length = min(max(N_FFT, round(WINDOW * sample_rate)), len(sound))
    moments = sound[: len(sound) // max(length, 1) * length].reshape(-1, max(length, 1))
    heard = [x for x in moments if np.square(x).mean() > 10 ** (SOUNDING / 10)]
    if not heard:
        return 0.0
    clarity = float(np.mean([1 - _flatness(x) for x in heard]))
    ratios = [bits[level] / typical[level] for level in typical if bits[level] > 0]
    usual = math.prod(min(ratio, 1 / ratio) for ratio in ratios)
    return len(heard) / len(moments) * clarity * usual


def _flatness(moment: np.ndarray) -> float:
    """The ratio of the geometric to the arithmetic mean of the power in each band, averaged with
    the fourth roots of the bands' powers as weights.
    """
    power = np.mean(np.concatenate(list(magnitudes(moment, N_FFT, N_FFT // 4))) ** 2, axis=0)
    first = BINS // 2
    bands = power[first : first + BINS * BANDS].reshape(BANDS, BINS) + 1e-12
    means = bands.mean(axis=1)
    return float(np.average(np.exp(np.log(bands).mean(axis=1)) / means, weights=means**0.25))
