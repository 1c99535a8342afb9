"""Sound from a VAE, whose frames are vectors instead of codes: reconstructions, samples of its
prior, walks between two recordings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import UserError, check_number
from .labels import find_labels, read_labels
from .sampling import draw_seed, uniforms

WIDEST = 10.0
"""The highest temperature, the standard deviation of a sample."""


def check_latents(config):
    """Raises `UserError` where the frames of a codec are codes."""
    if config.has_codes:
        raise UserError(f"{config.name} has a quantizer of {config.quantizer.kind}, which makes "
                        f"codes; only one of gaussian has latents to sample and walk between")


def sample_prior(config, frames: int, seed: int, temperature: float = 1.0) -> np.ndarray:
    """Vectors of N(0, temperature²), float32 [frames, width].

    Each number is a function of (seed, level, frame, index in the vector), so a longer sample
    begins with a shorter one.
    """
    check_latents(config)
    from scipy.special import ndtri

    draws = np.stack([uniforms(seed, 0, config.level, 0, frames, k)
                      for k in range(config.frame_width)], axis=1)
    # The draws are multiples of 2^-24: half a step more, so that none is 0.
    return (temperature * ndtri(draws.astype(np.float64) + 2.0**-25)).astype(np.float32)


def walk(begin, end) -> np.ndarray:
    """z_t = (1 − s)·begin_t + s·end_t, s rising evenly from 0 to 1: float32 [frames, width], as
    long as the shorter recording.
    """
    frames = min(len(begin), len(end))
    if not frames:
        raise UserError("there is nothing to walk between: a recording is shorter than a frame")
    share = np.linspace(0.0, 1.0, frames, dtype=np.float32)[:, None]
    return (1.0 - share) * begin[:frames] + share * end[:frames]


def encode(codec, audio, label=None) -> np.ndarray:
    """The encoder's means: float32 [samples] -> float32 [frames, width]. label: of the recording,
    see `engine.CodecEngine`.
    """
    check_latents(codec.config)
    return codec.encode(np.asarray(audio, np.float32)[None], label)[0]


def decode(codec, vectors, samples: int | None = None, label=None) -> np.ndarray:
    """Vectors [frames, width] -> audio float32 [samples]. label: see `engine.CodecEngine`."""
    return codec.decode(np.asarray(vectors, np.float32)[None], label)[0, :samples]


def check_sample(config, temperature: float, label):
    """Raises `UserError` where `Sample` cannot have these settings."""
    check_latents(config)
    check_number("temperature", temperature, above=0, most=WIDEST)
    if label:
        read_labels(label, find_labels([config]), 1)


class Sample:
    """A piece sampled from a VAE's prior: an iterator of one block, float32 [samples], with the
    attributes of a `Stream` that writing needs.

    Args:
        codec: the VAE's engine. samples: length of the piece.
        seed: None draws one, see `.seed`.
        temperature: standard deviation. label: see `engine.CodecEngine`.

    Raises:
        UserError: the codec has codes, or no such label.
    """

    batch = None

    def __init__(self, codec, samples: int, seed: int | None = None, temperature: float = 1.0,
                 label=None):
        check_sample(codec.config, temperature, label)
        self.codec, self.label = codec, label
        self.samples, self.sample_rate = samples, codec.config.sample_rate
        self.seed, self.position = draw_seed(seed), 0
        self.temperature = temperature

    def __iter__(self) -> Iterator[np.ndarray]:
        config = self.codec.config
        frames = -(-self.samples // config.level)
        vectors = sample_prior(config, frames, self.seed, self.temperature)
        self.position = self.samples
        yield decode(self.codec, vectors, self.samples, self.label)
