"""Metrics: the similarity of a copy to its original, loudness, and the usage of codes.

Signals are float [samples] in [-1, 1], original first, both of equal length; memory does not grow
with the length. Decibels stay within ±120, the values for equal and for unrelated signals. A signal
shorter than a window is padded with silence. Average dB, not ratios. A `ValueError` says that the
lengths differ, or that a signal is empty, has several channels or is not finite.
"""

import math
from collections.abc import Sequence

import numpy as np

from .spectrum import magnitudes, mel_filters

SC_WINDOWS = ((2048, 240, 1200), (1024, 120, 600), (512, 50, 240))
MEL_BANDS = ((2048, 80), (512, 40))
MEL_FLOOR = 1e-5
DB_LIMIT = 120.0
# Less power than -200 dBFS is a rounding error, for example of a constant minus its mean.
SILENCE_POWER = 1e-20
_BLOCK = 1 << 20


def spectral_convergence(original, copy) -> float:
    """SC in dB, lower is better: 20·log10 of the mean over `SC_WINDOWS` of ‖|S(x)| − |S(y)|‖_F /
    ‖|S(x)|‖_F (Arik et al. 2018). The Hann windows (n_fft, hop, window) are those of Jukebox
    (Dhariwal et al. 2020, section 3.2). A silent copy has 0 dB. A silent original has -120 dB if
    its copy is also silent, otherwise up to 120.
    """
    x, y = _pair(original, copy)
    ratios = []
    for n_fft, hop, window in SC_WINDOWS:
        difference = total = 0.0
        for a, b in zip(magnitudes(x, n_fft, hop, window), magnitudes(y, n_fft, hop, window),
                        strict=True):
            difference += float(np.square(a - b, dtype=np.float64).sum())
            total += float(np.square(a, dtype=np.float64).sum())
        ratios.append(0.0 if difference == 0.0
                      else math.sqrt(difference) / max(math.sqrt(total), 1e-12))
    return _decibels(float(np.mean(ratios)) ** 2)


def mel_distance(original, copy, sample_rate: int) -> float:
    """mel, lower is better: Σ over `MEL_BANDS` (n_fft, mels) of mean |log10 max(M(x), 1e-5) − log10
    max(M(y), 1e-5)|. The floor is absolute.

    M is the *magnitude* spectrogram (not power; hop n_fft/4, periodic Hann of n_fft, full scale 1,
    frames centred) through librosa's default filters: Slaney's mel scale, each filter of unit area.
    Values of other definitions differ by 10 to 70 % and are not comparable.
    """
    x, y = _pair(original, copy)
    total = 0.0
    for n_fft, bands in MEL_BANDS:
        filters = mel_filters(sample_rate, n_fft, bands)
        distance = count = 0.0
        for a, b in zip(magnitudes(x, n_fft, n_fft // 4), magnitudes(y, n_fft, n_fft // 4),
                        strict=True):
            a, b = (np.log10(np.maximum(m @ filters.T, MEL_FLOOR)) for m in (a, b))
            distance += float(np.abs(a - b).sum(dtype=np.float64))
            count += a.size
        total += distance / count
    return total


def si_sdr(original, copy) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, higher is better (Le Roux et al. 2019,
    equation 3): 10·log10(‖αx‖² / ‖αx − y‖²) with α = ⟨y, x⟩ / ‖x‖², after subtracting the means.
    Two equal or two silent signals have 120; one silent signal has -120.
    """
    # In blocks and float64, because the error of a good copy is below float32's rounding errors.
    x, y = _pair(original, copy)
    mean_x, mean_y = x.mean(dtype=np.float64), y.mean(dtype=np.float64)

    def blocks():
        for i in range(0, len(x), _BLOCK):
            part = slice(i, i + _BLOCK)
            yield x[part].astype(np.float64) - mean_x, y[part].astype(np.float64) - mean_y

    xx = yy = xy = 0.0
    for a, b in blocks():
        xx, yy, xy = xx + float(a @ a), yy + float(b @ b), xy + float(a @ b)
    silent_x, silent_y = xx <= SILENCE_POWER * len(x), yy <= SILENCE_POWER * len(y)
    if silent_x or silent_y:
        return DB_LIMIT if silent_x and silent_y else -DB_LIMIT
    scale, noise = xy / xx, 0.0
    for a, b in blocks():
        error = scale * a - b
        noise += float(error @ error)
    return _decibels(scale * scale * xx / noise if noise > 0.0 else math.inf)


def power_db(power) -> np.ndarray:
    """10·log10 of powers, not less than -120."""
    return 10.0 * np.log10(np.maximum(power, 10.0 ** (-DB_LIMIT / 10)))


def rms_db(audio) -> float:
    """The RMS of float [samples] in dBFS, not less than -120."""
    return float(power_db(np.mean(np.square(audio, dtype=np.float64))))


def peak_db(audio) -> float:
    """The peak of float [samples] in dBFS, not less than -120."""
    return float(power_db(float(np.abs(audio).max()) ** 2))


def loudness_around(audio, sample_rate: int, times: np.ndarray, edges) -> np.ndarray:
    """The mean power of each band of audio, float [samples], from halfway to the time before to
    halfway to the next: float32 [times, bands], dBFS. times: seconds, sorted. edges: Hz.
    """
    n_fft, hop = 2048, 512
    bands = np.digitize(np.fft.rfftfreq(n_fft, 1 / sample_rate), edges)
    members = np.eye(len(edges) + 1)[bands]
    # The squared magnitudes of a Hann window's spectrum sum to N · Σ hann² · the mean square / 2.
    scale = 2 / (0.375 * n_fft**2)
    powers = np.concatenate([block**2 @ members for block in magnitudes(audio, n_fft, hop)]) * scale
    middles = (times[1:] + times[:-1]) / 2
    ends = np.concatenate([2 * times[:1] - middles[:1], middles, 2 * times[-1:] - middles[-1:]])
    total = np.concatenate([np.zeros((1, len(edges) + 1)), powers.cumsum(0)])
    frames = np.clip(np.rint(ends * sample_rate / hop), 0, len(powers)).astype(int)
    counts = np.maximum(np.diff(frames), 1)[:, None]
    return power_db((total[frames[1:]] - total[frames[:-1]]) / counts).astype(np.float32)


def histogram(codes, num_codes: int, codebook_of: Sequence[int] | None = None) -> np.ndarray:
    """The count of each code of each codebook: int64 [codebooks, num_codes]; [num_codes] for codes
    of one axis. codes: int [..., n] of a codec, or [frames] of one codebook, at least one.
    codebook_of: of `CodecConfig`; None: each code has its own codebook.
    """
    codes = np.asarray(codes)
    if codes.size == 0 or codes.min() < 0 or codes.max() >= num_codes:
        raise ValueError(f"codes must be at least one, each in [0, {num_codes})")
    if codes.ndim < 2:
        return np.bincount(codes.ravel(), minlength=num_codes)
    books = range(codes.shape[-1]) if codebook_of is None else codebook_of[: codes.shape[-1]]
    counts = np.zeros((max(books) + 1, num_codes), np.int64)
    for book, column in zip(books, codes.reshape(-1, codes.shape[-1]).T, strict=True):
        counts[book] += np.bincount(column, minlength=num_codes)
    return counts


def usage(counts) -> float:
    """The share of the codes that occur, in [0, 1], from a `histogram` [num_codes]."""
    return float(np.count_nonzero(counts) / len(counts))


def perplexity(counts) -> float:
    """exp(entropy of a `histogram` [num_codes]): as many equally used codes have this entropy."""
    counts = np.asarray(counts)
    p = counts[counts > 0] / counts.sum()
    return float(np.exp(-np.sum(p * np.log(p))))


def codebook_figures(counts) -> dict:
    """{"usage", "perplexity"} of a `histogram` int [books, num_codes], as means over the books; of
    several books also "books": both values of each.
    """
    books = [{"usage": usage(row), "perplexity": perplexity(row)} for row in np.atleast_2d(counts)]
    mean = {key: float(np.mean([row[key] for row in books])) for key in books[0]}
    return mean | ({"books": books} if len(books) > 1 else {})


def _decibels(power: float) -> float:
    return float(power_db(min(power, 10.0 ** (DB_LIMIT / 10))))


def _pair(original, copy) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(original, np.float32), np.asarray(copy, np.float32)
    if x.ndim != 1 or not x.size or x.shape != y.shape:
        raise ValueError(f"two signals [samples] of one length are compared, not of shapes "
                         f"{x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("a signal that is compared holds samples that are not finite")
    return x, y
