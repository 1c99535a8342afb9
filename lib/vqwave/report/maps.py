"""Maps of codes: what each code of a self-organizing map sounds like, and how well neighbours on
the map are neighbours to the ear.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import quiet
from ..dsp import metrics
from ..errors import UserError
from ..play.engine import CodecEngine

FRAMES, BATCH = 16, 32
"""A code is heard repeated so many times; so many codes at once."""
BANDS, N_FFT = 24, 1024


def check_map(config):
    """Raises `UserError` where a codec's codes lie on no map."""
    if config.quantizer.kind != "som":
        raise UserError(f"{config.name} has a quantizer of {config.quantizer.kind}; codes lie on a "
                        f"map with one of som")
    if config.books > 1:
        raise UserError(f"{config.name} has {config.books} codes in a frame; a map is drawn of one")


def sounds_of_codes(codec: CodecEngine) -> np.ndarray:
    """The spectrum of each code, heard again and again: dB of mel bands, float64 [codes, BANDS], at
    least 60 dB under the loudest.
    """
    check_map(codec.config)
    rate, level = codec.config.sample_rate, codec.config.level
    frames = max(FRAMES, -(-2 * N_FFT // level))
    filters, made = metrics.mel_filters(rate, N_FFT, BANDS), []
    every = np.arange(codec.config.num_codes, dtype=np.int32)
    for first in range(0, len(every), BATCH):
        some = every[first : first + BATCH]
        frame = np.repeat(some[:, None, None], frames, axis=1)
        for sound in codec.decode_window(frame):
            power = np.mean([(block**2).mean(axis=0) for block in
                             metrics.magnitudes(sound, N_FFT, N_FFT // 4)], axis=0)
            made.append(filters @ power)
    decibels = metrics.power_db(made)
    return np.maximum(decibels, decibels.max() - 60.0)


def neighbour_ratio(spectra: np.ndarray, grid: tuple[int, int]) -> float:
    """How alike neighbours on the map sound: the mean distance of the spectra [codes, bands] of
    codes side by side over that of any two; 1 is no map, 0 all neighbours alike.
    """
    spread = np.sqrt(((spectra[:, None] - spectra[None]) ** 2).sum(-1))
    count = len(spectra)
    anywhere = spread.sum() / max(count * (count - 1), 1)
    place = np.stack(np.divmod(np.arange(count), grid[1]), axis=1)
    beside = np.abs(place[:, None] - place[None]).sum(-1) == 1
    return float(spread[beside].mean() / max(anywhere, 1e-9))


def topographic_error(weight_set, sounds: Sequence[np.ndarray]) -> float:
    """The share of the frames of some recordings, float32 [samples] each, whose two nearest codes
    are not neighbours on the map (Kiviluoto 1996).
    """
    check_map(weight_set.config)
    quiet.import_keras()
    from ..nn.codec import load_codec

    model, level, found, frames = load_codec(weight_set), weight_set.config.level, 0.0, 0
    for sound in sounds:
        count = len(sound) // level
        if not count:
            continue
        latents = model.encoder(model.front_end(np.asarray(sound, np.float32)[None,
                                                                              : count * level]))
        found += count * float(model.quantizer.error_of(latents))
        frames += count
    if not frames:
        raise UserError(f"{weight_set.name}: the recordings are shorter than a frame")
    return found / frames
