"""Samples of the prior of a VAE, whose frames are latent vectors instead of codes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .engine import CodecEngine
from .sampling import uniforms_by_book

WIDEST = 10.0
"""The highest temperature, which is the standard deviation of a sample."""


def sample_prior(config, frames: int, seed: int, temperature: float = 1.0) -> np.ndarray:
    """Vectors of N(0, temperature²), float32 [frames, width].

    Each number depends on (seed, level, frame, index in the vector) only, so a longer sample begins
    with the shorter one.
    """
    from scipy.special import ndtri

    draws = uniforms_by_book(seed, 0, config.level, 0, frames, 0, config.frame_width)
    # The draws are multiples of 2^-24. Half a step more makes all of them greater than 0.
    return (temperature * ndtri(draws.astype(np.float64) + 2.0**-25)).astype(np.float32)


@dataclass
class PriorSample:
    """A piece sampled from a VAE's prior: an iterable of one block, float32 [samples], with the
    attributes of a `Stream` that writing needs. temperature: the standard deviation. label: see
    `engine.CodecEngine`.
    """

    codec: CodecEngine
    samples: int
    seed: int
    temperature: float = 1.0
    label: str | None = None
    batch = None
    position = 0

    @property
    def sample_rate(self) -> int:
        return self.codec.config.sample_rate

    def whole_score(self, *_) -> tuple[list, tuple]:
        """No notes and no beats, because there is no score."""
        return [], ()

    def __iter__(self) -> Iterator[np.ndarray]:
        config = self.codec.config
        vectors = sample_prior(config, -(-self.samples // config.level), self.seed,
                               self.temperature)
        self.position = self.samples
        yield self.codec.decode(vectors[None], self.label)[0, : self.samples]
