"""Self-organizing maps: the sound of each code, and how similar neighbours on the map sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import stderr
from ..dsp import metrics, spectrum
from ..errors import UserError
from ..play.engine import CodecEngine

FRAMES, BATCH = 16, 32
"""Each code is repeated for `FRAMES` frames, and decoded in batches of `BATCH` codes."""
BANDS, N_FFT = 24, 1024


def check_map(config):
    """Raise `UserError` for a codec without a self-organizing map."""
    if config.quantizer.kind != "som":
        raise UserError(f"{config.name} has the quantizer {config.quantizer.kind}; a map needs "
                        f"som")
    if config.books > 1:
        raise UserError(f"{config.name} has {config.books} codes a frame; a map needs one")


def sounds_of_codes(codec: CodecEngine) -> np.ndarray:
    """The spectrum of each code, repeated: dB of mel bands, float64 [codes, BANDS], clipped 60 dB
    below the loudest.
    """
    check_map(codec.config)
    rate, level = codec.config.sample_rate, codec.config.level
    frames = max(FRAMES, -(-2 * N_FFT // level))
    filters, powers = spectrum.mel_filters(rate, N_FFT, BANDS), []
    codes = np.arange(codec.config.num_codes, dtype=np.int32)
    for first in range(0, len(codes), BATCH):
        batch = codes[first : first + BATCH]
        for sound in codec.decode_window(np.repeat(batch[:, None, None], frames, axis=1)):
            power = np.mean([(block**2).mean(axis=0) for block in
                             spectrum.magnitudes(sound, N_FFT, N_FFT // 4)], axis=0)
            powers.append(filters @ power)
    decibels = metrics.power_db(powers)
    return np.maximum(decibels, decibels.max() - 60.0)


def neighbour_ratio(spectra: np.ndarray, grid: tuple[int, int]) -> float:
    """The mean distance between the spectra [codes, bands] of neighbours on the map, divided by
    that of any two codes: 1 for a random map, 0 where all neighbours sound the same.
    """
    distances = np.sqrt(((spectra[:, None] - spectra[None]) ** 2).sum(-1))
    count = len(spectra)
    mean = distances.sum() / max(count * (count - 1), 1)
    positions = np.stack(np.divmod(np.arange(count), grid[1]), axis=1)
    neighbours = np.abs(positions[:, None] - positions[None]).sum(-1) == 1
    return float(distances[neighbours].mean() / max(mean, 1e-9))


def topographic_error(weight_set, sounds: Sequence[np.ndarray]) -> float:
    """The share of frames whose two nearest codes are not neighbours on the map (Kiviluoto 1996).

    sounds: float32 [samples] each.
    """
    check_map(weight_set.config)
    stderr.import_keras()
    from ..nn.codec import load_codec

    model, level = load_codec(weight_set), weight_set.config.level
    errors, frames = 0.0, 0
    for sound in sounds:
        count = len(sound) // level
        if not count:
            continue
        x = np.asarray(sound, np.float32)[None, : count * level]
        latents = model.encoder(model.front_end(x))
        errors += count * float(model.quantizer(latents).metrics["topographic_error"])
        frames += count
    if not frames:
        raise UserError(f"{weight_set.name}: the recordings are shorter than a frame")
    return errors / frames
