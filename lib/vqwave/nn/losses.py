"""What a codec is trained to keep: spectra at several resolutions, mel bands, and the waveform
itself.

All terms compare audio float32 [batch, samples] with audio float32 [batch, samples] and are
dimensionless.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from keras import ops

from ..config import CodecConfig, LogFrequencyFrontEnd, LossConfig
from ..dsp.metrics import BESIDE, LINE, MEL_FLOOR, mel_filters
from ..dsp.metrics import MEL_BANDS as MEL_SCALES
from .frontends import ConstantQ, level_of

# (n_fft, hop, window): the windows of the SC metric at twice its hop, which trains as well for half
# the cost.
STFT_SCALES = ((2048, 480, 1200), (1024, 240, 600), (512, 100, 240))
# Samples: spectra are padded by reflection, which needs more than half a window to reflect.
SHORTEST = max(scale[0] for scale in STFT_SCALES + MEL_SCALES) // 2 + 1


# Between two lines at the codes' rate: room for each and for what lies beside it.
LINE_BINS = 16


def magnitude(audio, n_fft: int, hop: int, window: int):
    """|STFT| with a Hann window: [batch, samples] -> [batch, frames, n_fft / 2 + 1]."""
    real, imag = ops.stft(audio, window, hop, n_fft)
    # The floor keeps the root's gradient finite in silence.
    return ops.sqrt(real**2 + imag**2 + 1e-9)


def reconstruction_terms(x, y, sample_rate: int) -> dict:
    """Original x and reconstruction y, float32 [batch, samples] -> each term by its name in
    `LossConfig`.

    spectral_convergence: ‖|S(x)|−|S(y)|‖_F / ‖|S(x)|‖_F; log_magnitude: mean |ln|S(x)| − ln|S(y)||,
    both averaged over the scales (Arık et al. 2019, Yamamoto et al. 2020). mel: mean |log10 M(x) −
    log10 M(y)| summed over its scales, of magnitudes and with the floor of `metrics.mel_distance`:
    a higher one leaves hiss in quiet bands unpunished.
    waveform: mean (x−y)² / mean x².
    """
    convergence, log_magnitude, mel = [], [], []
    for scale in STFT_SCALES:
        a, b = magnitude(x, *scale), magnitude(y, *scale)
        error, power = ops.sum((a - b) ** 2), ops.sum(a**2)
        convergence.append(ops.sqrt(error + 1e-9) / (ops.sqrt(power) + 1e-3))
        log_magnitude.append(ops.mean(ops.abs(ops.log(a + 1e-3) - ops.log(b + 1e-3))))
    for n_fft, mels in MEL_SCALES:
        filters = mel_filters(sample_rate, n_fft, mels).T
        a, b = (ops.matmul(magnitude(s, n_fft, n_fft // 4, n_fft), filters) for s in (x, y))
        mel.append(ops.mean(ops.abs(ops.log10(a + MEL_FLOOR) - ops.log10(b + MEL_FLOOR))))
    waveform = ops.mean((x - y) ** 2) / (ops.mean(x**2) + 1e-6)
    return {
        "spectral_convergence": sum(convergence) / len(convergence),
        "log_magnitude": sum(log_magnitude) / len(log_magnitude),
        "mel": sum(mel),
        "waveform": waveform,
    }


def hum(x, y, level: int):
    """How much further, or less, lines at the rate of the codes stand out of y than of x, float32
    [batch, samples].

    With P the batch's power spectrum over all samples, e_k = ln of P at k/level of the sample rate
    over P beside it: mean over k of (e_k(y) - e_k(x))^2, for lines are heard as a hum and notches
    are missed. What is 80 dB under x's loudest counts as silence. samples: a multiple of level, at
    least `LINE_BINS` times it.
    """
    samples = x.shape[-1]
    window = np.hanning(samples).astype("float32")
    lines = np.arange(samples // level, samples // 2 - LINE_BINS // 2, samples // level)

    def power(audio):
        real, imag = ops.rfft(audio * window)
        return ops.sum(real**2 + imag**2, axis=0)

    def excess(p):
        at, beside = (ops.mean(ops.take(p, lines[:, None] + bins), axis=1)
                      for bins in (LINE, BESIDE))
        return ops.log(at) - ops.log(beside)

    original = power(x)
    floor = 1e-8 * ops.max(original) + 1e-9
    return ops.mean((excess(power(y) + floor) - excess(original + floor)) ** 2)


MULTI_MEL = (64, 128, 256, 512, 1024, 2048)
"""Windows of the term `multi_mel`, samples."""


def multi_mel(x, y, sample_rate: int):
    """Mean |log10 M(x) − log10 M(y)| averaged over the windows of `MULTI_MEL`: float32 [batch,
    samples].

    The scales of SoundStream (Zeghidour et al. 2021, section III.E), a hop a quarter of the window,
    up to 64 bands and fewer where a window has no more bins for them.
    """
    found = []
    for n_fft in MULTI_MEL:
        filters = mel_filters(sample_rate, n_fft, min(64, n_fft // 8)).T
        a, b = (ops.matmul(magnitude(s, n_fft, n_fft // 4, n_fft), filters) for s in (x, y))
        found.append(ops.mean(ops.abs(ops.log10(a + MEL_FLOOR) - ops.log10(b + MEL_FLOOR))))
    return sum(found) / len(found)


CONSTANT_Q = LogFrequencyFrontEnd()
"""The hop of the term `constant_q`, and its grid for a codec that does not see quarter tones."""


@functools.lru_cache
def _transform(sample_rate: int, lowest: float, octaves: int) -> ConstantQ:
    octaves = min(octaves, int(np.log2(sample_rate / 2 / lowest)))
    return ConstantQ(LogFrequencyFrontEnd(lowest=lowest, octaves=octaves), sample_rate)


def constant_q(x, y, sample_rate: int, grid: LogFrequencyFrontEnd = CONSTANT_Q):
    """Mean |difference| of the levels of quarter tones, in units of 80 dB: float32 [batch,
    samples], a multiple of 512.

    Windows of up to 16,384 samples, for A1, tell semitones apart, which the other terms cannot
    below 500 Hz. grid: which tones, less the octaves that the sample rate does not hold.
    """
    transform = _transform(sample_rate, grid.lowest, grid.octaves)
    return ops.mean(ops.abs(level_of(transform(x)) - level_of(transform(y))))


def _seen_by(codec: CodecConfig) -> LogFrequencyFrontEnd:
    """The quarter tones that a codec sees; those of `CONSTANT_Q` where it sees none."""
    seen = codec.front_end
    return seen if isinstance(seen, LogFrequencyFrontEnd) else CONSTANT_Q


def channel_average(x, averages):
    """How near the channels of up-sampling stages come, on average, to the recording at their rate.

    x: float32 [batch, samples]; averages: of each stage, the mean of its channels float32 [batch,
    samples / hop]. The mean over stages of mean (m − d)² / mean d², d the mean of x over each step
    of m.
    """
    found = []
    for made in averages:
        batch, steps = ops.shape(made)[:2]
        wanted = ops.mean(ops.reshape(x, (batch, steps, -1)), axis=-1)
        made = ops.cast(made, "float32")
        found.append(ops.mean((made - wanted) ** 2) / (ops.mean(wanted**2) + 1e-6))
    return sum(found) / len(found)


TERMS: dict[tuple[str, ...], Callable] = {
    ("spectral_convergence", "log_magnitude", "mel", "waveform"):
        lambda x, y, config: reconstruction_terms(x, y, config.sample_rate),
    ("multi_mel",): lambda x, y, config: {"multi_mel": multi_mel(x, y, config.sample_rate)},
    ("hum",): lambda x, y, config: {"hum": hum(x, y, config.level)},
    ("constant_q",): lambda x, y, config: {
        "constant_q": constant_q(x, y, config.sample_rate, _seen_by(config))},
}
"""What computes the terms of these names in `LossConfig`: (original, reconstruction, codec config)
-> each by its name.

The first are always computed, because every log has them; the others where they have a weight.
"""


def terms_of(loss: LossConfig) -> dict[tuple[str, ...], Callable]:
    """The part of `TERMS` that a loss has."""
    first = next(iter(TERMS))
    return {names: compute for names, compute in TERMS.items()
            if names == first or any(getattr(loss, name) for name in names)}
