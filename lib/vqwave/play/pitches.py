"""The pitches of a codec's codes: each code is decoded alone, and its spectrum is measured. A bias
on the logits then favours codes that sound the held notes, or the pitches of the recording that the
music continues.
"""

import contextlib
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..io.files import atomic_write, cache_folder
from ..levels import LOUDNESS_RANGE
from ..progress import share_bar

LISTENED_SECONDS = 0.3715
"""Seconds of a repeated code whose spectrum is measured."""
LOWEST_HZ, HIGHEST_HZ = 100.0, 1500.0
"""The range of pitches in Hz. Above, overtones often have other pitch classes than their notes."""
FLOOR = 1e-6
"""Codes of less power have no pitch. A full-scale sine has power 1."""
GAIN = 0.725
"""The gain with which codes of a shape are measured: -30 dB (`spectrum_layer.loudness_of`)."""
_VERSION = "2"
_AROUND = 8  # frames on either side of the measured frames
_BATCH = 32


def of_codec(codec) -> np.ndarray | None:
    """The power of each pitch class, C first, in each code: float32 [books, codes, 12], read from
    the cache, or measured and cached.

    Parallel books are measured one by one, with the other books set to codes of silence. Of
    residual books only the first is measured; the others have power 0. None for a codec without
    oscillators, in which a repeated code hums at the rate of its frames.
    """
    config = codec.config
    if not config.head.needs_position:
        return None
    key = "\n".join((codec.weight_set.played_as, codec.engine, _VERSION))
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    path = cache_folder() / f"{config.name}_pitches_{digest}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        return np.load(path, allow_pickle=False)
    print(f"measuring the pitches of {config.name}'s codes, once", file=sys.stderr, flush=True)
    with share_bar() as update:
        powers = measure(codec, lambda share: update("listening", share))
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.save(file, powers, allow_pickle=False)
    return powers


def measure(codec, report: Callable[[float], None] = lambda share: None) -> np.ndarray:
    """Measure `of_codec`: float32 [books, codes, 12]. report: called with the share done."""
    config, quantizer = codec.config, codec.config.quantizer
    samples = round(LISTENED_SECONDS * config.sample_rate)
    frames = -(-samples // config.level) + 2 * _AROUND

    def listen(values, begin=0.0, share=1.0):
        """Frames int32 [n, books], each repeated -> powers [n, 12]. begin, share: for `report`."""
        first, powers = _AROUND * config.level, []
        for i in range(0, len(values), _BATCH):
            repeated = np.repeat(values[i : i + _BATCH, None], frames, axis=1)
            audio = codec.decode_window(repeated.astype(np.int32))[:, first : first + samples]
            powers.append(classes(audio, config.sample_rate))
            report(begin + share * len(powers) * _BATCH / len(values))
        return np.concatenate(powers)

    powers = np.zeros((config.books, config.num_codes, 12), np.float32)
    codes = np.arange(config.num_codes)
    if quantizer.nested or config.books == 1:
        powers[0] = listen(codes[:, None])
        return powers
    silent = codec.encode(np.zeros((1, frames * config.level), np.float32))[0, frames // 2]
    books = config.books
    if quantizer.gain_edges:  # shapes need a gain to sound, and gains have no pitch
        books = quantizer.bands
        silent[books:] = round(GAIN * LOUDNESS_RANGE / quantizer.step)
    nothing = listen(silent[None], share=0.0)
    for book in range(books):
        values = np.tile(silent, (config.num_codes, 1))
        values[:, book] = codes
        powers[book] = np.maximum(listen(values, book / books, 1 / books) - nothing, 0.0)
    return powers


def classes(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """The power of each pitch class: [n, samples] -> [n, 12]; a² for a sine of amplitude a."""
    count = audio.shape[-1]
    window = np.hanning(count)
    power = np.abs(np.fft.rfft(audio * window)) ** 2 / (count * (window**2).sum() / 4)
    hertz = np.fft.rfftfreq(count, 1 / sample_rate)
    near = (hertz >= LOWEST_HZ) & (hertz <= min(HIGHEST_HZ, sample_rate / 2))
    pitch = np.round(69 + 12 * np.log2(hertz[near] / 440)).astype(int) % 12
    return power[..., near] @ np.eye(12)[pitch]


def bias(powers: np.ndarray, notes, pull: float) -> np.ndarray | None:
    """The bias of held notes on the logits: [books, codes, 12] -> float32 [books, codes], or None.

    notes: MIDI numbers; a note counts in every octave. The bias is `pull` nats for a code of held
    notes only, and 0 for silence or for all twelve pitch classes alike. It is negative for a code
    without held notes, so that the music becomes no louder.
    """
    held = sorted({note % 12 for note in notes})
    if not held or not pull or len(held) == 12:
        return None
    even = len(held) / 12
    share = (powers[..., held].sum(-1) + FLOOR * even) / (powers.sum(-1) + FLOOR) - even
    return (pull * share / (1 - even)).astype(np.float32)


EVEN = 0.2
"""The weight of a uniform distribution in the distribution of a recording's pitches."""
FADES = 60.0
"""Seconds in which the pull to a recording's pitches halves."""
LEAST_STAY = 1e-3
"""A smaller factor, `stay` after its decay, adds no bias: the graph with a bias is slower."""


def distribution(sounded: np.ndarray) -> np.ndarray:
    """The distribution of a recording's pitch classes, [12], with a uniform part of `EVEN`.
    sounded: [12], how much each class sounds.
    """
    return (1 - EVEN) * (sounded + FLOOR / 12) / (sounded.sum() + FLOOR) + EVEN / 12


@dataclass(frozen=True)
class PitchAnchor:
    """The bias that pulls a continuation towards the pitches of its recording.

    Attributes:
        scores: float32 [books, codes], Σ_k q_k ln(12 p_k) over the pitch classes k; 0 for a silent
            code. q is the pitch distribution of a code; p is that of the recording, with a uniform
            part of `EVEN`. The bias multiplies the two models (product of experts, Hinton 2002).
        begin: the position after the recording's last frame.
        half: the number of frames in which the pull halves.
    """

    scores: np.ndarray
    begin: int
    half: float

    @classmethod
    def of(cls, powers: np.ndarray, codes: np.ndarray, half: float) -> Self:
        """The bias for a recording. powers: see `of_codec`; codes: its codes, int32 [n, books]."""
        sounded = sum(book[column] for book, column in zip(powers, codes.T, strict=True)).sum(0)
        target = distribution(sounded)
        loud = powers.sum(-1, keepdims=True)
        shares = np.where(loud > FLOOR, powers / np.maximum(loud, FLOOR), 0.0)
        return cls((shares @ np.log(12 * target)).astype(np.float32), len(codes), half)

    def bias(self, position: int, stay: float) -> np.ndarray | None:
        """The bias of the logits from `position` on: float32 [books, codes]; None: no bias."""
        faded = stay * 0.5 ** (max(0, position - self.begin) / self.half)
        return (faded * self.scores).astype(np.float32) if faded > LEAST_STAY else None
