"""What a VAE makes: reconstructions, samples of its prior, walks between two recordings. Its frames
are vectors, not codes, so no generator plays them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import UserError, check_number
from .labels import find_labels, read_labels
from .sampling import uniforms
from .stream import draw_seed

WIDEST = 10.0
"""The highest temperature: the standard deviation that a prior is drawn with."""


def check_latents(config):
    """Raises `UserError` where a codec's frames are codes."""
    if config.has_codes:
        raise UserError(f"{config.name} has a quantizer of {config.quantizer.kind}, which makes "
                        f"codes; only one of gaussian has latents to sample and walk between")


def sample_prior(config, frames: int, seed: int, temperature: float = 1.0) -> np.ndarray:
    """Vectors of N(0, temperature²), float32 [frames, width].

    Each number is a function of (seed, level, frame, place in the vector) and nothing else, so a
    longer sample begins with a shorter one.
    """
    check_latents(config)
    from scipy.special import ndtri

    drawn = np.stack([uniforms(seed, 0, config.level, 0, frames, k)
                      for k in range(config.frame_width)], axis=1)
    # In the middle of the steps of 2^-24 that the draws have, so that none is 0.
    return (temperature * ndtri(drawn.astype(np.float64) + 2.0**-25)).astype(np.float32)


def walk(begin, end) -> np.ndarray:
    """From one recording to another: float32 [frames, width] each -> [frames, width], as long as
    the shorter one, beginning as the first and ending as the second.

    z_t = (1 − s)·a_t + s·b_t, s rising evenly from 0 to 1.
    """
    frames = min(len(begin), len(end))
    if not frames:
        raise UserError("there is nothing to walk between: a recording is shorter than a frame")
    share = np.linspace(0.0, 1.0, frames, dtype=np.float32)[:, None]
    return (1.0 - share) * begin[:frames] + share * end[:frames]


def encode(codec, audio, label=None) -> np.ndarray:
    """The means that a codec's encoder says: float32 [samples] -> float32 [frames, width].

    label: what the recording is, see `engine.CodecEngine`.
    """
    check_latents(codec.config)
    return codec.encode(np.asarray(audio, np.float32)[None], label)[0]


def decode(codec, vectors, samples: int | None = None, label=None) -> np.ndarray:
    """Vectors [frames, width] -> audio float32, as many samples as are asked for.

    label: what it is to be, see `engine.CodecEngine`.
    """
    return codec.decode(np.asarray(vectors, np.float32)[None], label)[0, :samples]


def check_sample(config, temperature: float, label):
    """Raises `UserError` where a codec's prior cannot be sampled so, see `Sample`."""
    check_latents(config)
    check_number("temperature", temperature, above=0, most=WIDEST)
    if label:
        read_labels(label, find_labels([config]), 1)


class Sample:
    """A piece that a VAE's prior makes: an iterator of one block, float32 [samples], which says
    of itself what a `Stream` does.

    Args:
        codec: the VAE's engine. samples: how long the piece is.
        seed: decides what is drawn; None draws one, `.seed` says it.
        temperature: the standard deviation that is drawn with.
        label: what it is to be, see `engine.CodecEngine`.

    Raises:
        UserError: the codec has codes, or knows no such label.
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
        drawn = sample_prior(config, -(-self.samples // config.level), self.seed, self.temperature)
        self.position = self.samples
        yield decode(self.codec, drawn, self.samples, self.label)
