"""The test loss of TechnoGen (Anton Lechuga 2023, ant-le/TechnoGen on GitHub), to compare with its
table: of whole songs that training never saw, in slices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..dsp import metrics
from ..errors import UserError
from ..io import audio

if TYPE_CHECKING:
    from ..io.weights import WeightSet
    from .crossing import Corpus

SECONDS = 8.0
FFT, HOP = 1024, 256
COMMITMENT = 0.8
SILENT = 2e-3
"""A slice whose spectra have a smaller norm counts as matched."""


def test_losses(found: WeightSet, corpus: Corpus) -> dict[str, float]:
    """Means over slices of `SECONDS`, with x the slice, y what comes back of it, z its latents and
    e their codes.

    slice_loss: as TechnoGen has it, mean (x − y)² + ‖s(x) − s(y)‖ / ‖s(x)‖ + `COMMITMENT` ·
    mean (z − e)². s is one spectrum for the whole slice, see `slice_spectrum`, so that this
    does not ask when something sounds.
    frame_loss: the same with |S(x)| for s(x), the magnitudes of every frame of Hann windows as
    training has them; it asks for more and is higher.

    What is left of a track after its last whole slice is not counted.

    Args:
        found: a codec with codes, which Keras runs.
        corpus: whose tracks are sliced.

    Raises:
        UserError: none of them is as long as a slice.
    """
    from keras import ops

    from ..nn import codec as codecs

    model = codecs.load_codec(found)
    scale = COMMITMENT / found.config.quantizer.commitment
    size = round(SECONDS * corpus.rate) // found.config.level * found.config.level
    losses = []
    for track in corpus.tracks:
        for start in range(0, track.samples - size + 1, size):
            x = audio.from_u16(audio.read_window(track.path(corpus.data_dir), start, size))
            y = ops.convert_to_numpy(model(x[None], training=False))[0]
            rest = float(np.mean((x - y) ** 2)) + scale * float(sum(model.losses))
            losses.append([rest + _distance(spectrum(x), spectrum(y))
                           for spectrum in (slice_spectrum, _frames)])
    if not losses:
        raise UserError(f"{corpus.data_dir}: no test track is as long as a slice of {SECONDS:g} s")
    return dict(zip(("slice_loss", "frame_loss"), np.mean(losses, axis=0).tolist(), strict=True))


def slice_spectrum(sound) -> np.ndarray:
    """One spectrum of a whole slice: sqrt(Σ_t |S_t|²), float64 [FFT // 2 + 1], S_t the spectrum of
    the `FFT` samples about sample t · HOP, without a window, the ends mirrored.
    """
    mirrored = np.pad(np.asarray(sound, np.float64), FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(mirrored, FFT)[::HOP]
    return np.sqrt((np.abs(np.fft.rfft(frames, axis=1)) ** 2).sum(0))


def _frames(sound) -> np.ndarray:
    return np.concatenate(list(metrics.magnitudes(sound, FFT, HOP)))


def _distance(a, b) -> float:
    whole = float(np.linalg.norm(a))
    return float(np.linalg.norm(a - b)) / whole if whole > SILENT else 0.0
