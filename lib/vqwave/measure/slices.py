"""The test loss of TechnoGen (Anton Lechuga 2023, ant-le/TechnoGen on GitHub), to compare with its
table: of whole songs that training never saw, in slices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import metrics
from ..data import audio
from ..errors import UserError

if TYPE_CHECKING:
    from ..weights import WeightSet
    from .crossing import Corpus

SECONDS = 8.0
FFT, HOP = 1024, 256
COMMITMENT = 0.8
SILENT = 2e-3
"""A spectrum of a slice whose norm is less counts as matched."""


def test_loss(found: WeightSet, corpus: Corpus) -> float:
    """The mean over slices of `SECONDS` of mean (x − y)² + ‖|S(x)| − |S(y)|‖ / ‖|S(x)|‖ +
    `COMMITMENT` · mean (z − e)², S a spectrum of windows of `FFT` every `HOP`, z the latents and e
    their codes, y what is decoded of these.

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
            commitment = scale * float(sum(model.losses))
            losses.append(float(np.mean((x - y) ** 2)) + _convergence(x, y) + commitment)
    if not losses:
        raise UserError(f"{corpus.data_dir}: no test track is as long as a slice of {SECONDS:g} s")
    return float(np.mean(losses))


def _convergence(x, y) -> float:
    a, b = (np.concatenate(list(metrics.magnitudes(one, FFT, HOP))) for one in (x, y))
    whole = float(np.linalg.norm(a))
    return float(np.linalg.norm(a - b)) / whole if whole > SILENT else 0.0
