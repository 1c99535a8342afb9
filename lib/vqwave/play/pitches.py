"""What pitches a codec's codes sound: each code is decoded alone, and its spectrum measured.

Held notes then make the codes likelier that sound them, by a bias on the logits; so do the pitches
of a recording that is continued.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
from dataclasses import dataclass

import numpy as np

from ..config import LEVEL_RANGE
from ..io.files import atomic_write
from ..onnx.export import cache_folder

WINDOW = 0.3715
"""Seconds of a code that are listened to."""

LOWEST, HIGHEST = 100.0, 1500.0
"""Hertz between which a pitch is heard. What sounds above are overtones, whose pitch classes are
often others than their notes'.
"""

FLOOR = 1e-6
"""Power, of a full-scale sine, that is as good as none: a code that is softer has no pitch."""

GAIN = 0.725
"""The level, in units of 80 dB, at which codes of a shape are listened to: -30 dB."""

_VERSION = "2"
_AROUND = 8  # frames to either side of those that are listened to
_BATCH = 32


def of_codec(codec) -> np.ndarray | None:
    """The power of each pitch class, C first, in each code: float32 [books, codes, 12], from the
    cache or measured and put there.

    Where a frame's books lie side by side, each is heard against a frame of silence; where they
    refine each other, the first is heard alone and the others count as nothing. None for a codec
    without oscillators: a code that repeats hums there at the rate of its frames.
    """
    config = codec.config
    if not config.head.needs_position:
        return None
    key = "\n".join((codec.weight_set.checksum, codec.engine, _VERSION))
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    path = cache_folder() / f"{config.name}_pitches_{digest}.npy"
    shape = config.books, config.num_codes, 12
    with contextlib.suppress(OSError, ValueError, EOFError):
        found = np.load(path, allow_pickle=False)
        if found.shape == shape and np.isfinite(found).all():
            return found.astype(np.float32)
    print(f"measuring what each code of {config.name} sounds, once", file=sys.stderr, flush=True)
    measured = measure(codec)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = io.BytesIO()
        np.save(kept, measured, allow_pickle=False)
        with atomic_write(path) as file:
            file.write(kept.getvalue())
    return measured


def measure(codec) -> np.ndarray:
    """`of_codec`, measured: float32 [books, codes, 12]."""
    config = codec.config
    samples = round(WINDOW * config.sample_rate)
    frames = -(-samples // config.level) + 2 * _AROUND
    nested = config.quantizer.nested or config.books == 1
    silent = None if nested else codec.encode(
        np.zeros((1, frames * config.level), np.float32))[0, frames // 2]
    powers = np.zeros((config.books, config.num_codes, 12), np.float32)

    def listen(values):
        """int32 [n, books] -> the powers of each frame, repeated: [n, 12]."""
        heard = []
        for i in range(0, len(values), _BATCH):
            repeated = np.repeat(values[i : i + _BATCH, None], frames, axis=1)
            audio = codec.decode_window(repeated.astype(np.int32))
            first = _AROUND * config.level
            heard.append(classes(audio[:, first : first + samples], config.sample_rate))
        return np.concatenate(heard)

    every = np.arange(config.num_codes)
    if nested:
        powers[0] = listen(every[:, None])
        return powers
    quantizer, books = config.quantizer, config.books
    if quantizer.gain_edges:  # shapes sound at a level, and a level has no pitch
        books = quantizer.bands
        silent[books:] = round(GAIN * LEVEL_RANGE / quantizer.step)
    nothing = listen(silent[None])
    for book in range(books):
        values = np.tile(silent, (config.num_codes, 1))
        values[:, book] = every
        powers[book] = np.maximum(listen(values) - nothing, 0.0)
    return powers


def classes(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """The power of each pitch class, C first: float [n, samples] -> float64 [n, 12]. A sine of
    amplitude a has a².
    """
    count = audio.shape[-1]
    window = np.hanning(count)
    power = np.abs(np.fft.rfft(audio * window)) ** 2 / (count * (window**2).sum() / 4)
    hertz = np.fft.rfftfreq(count, 1 / sample_rate)
    near = (hertz >= LOWEST) & (hertz <= min(HIGHEST, sample_rate / 2))
    pitch = np.round(69 + 12 * np.log2(hertz[near] / 440)).astype(int) % 12
    return power[..., near] @ np.eye(12)[pitch]


def bias(powers: np.ndarray, notes, pull: float) -> np.ndarray | None:
    """What held notes add to the logits: [books, codes, 12] -> float32 [books, codes]; None where
    that is nothing.

    notes: MIDI numbers; a note counts in every octave. A code that sounds nothing but held notes
    gains `pull`; one that sounds all twelve alike, or nothing, gains nothing; what sounds no held
    note loses in proportion, so that the whole is no louder for it.
    """
    held = sorted({note % 12 for note in notes})
    if not held or not pull or len(held) == 12:
        return None
    even = len(held) / 12
    share = (powers[..., held].sum(-1) + FLOOR * even) / (powers.sum(-1) + FLOOR) - even
    return (pull * share / (1 - even)).astype(np.float32)


EVEN = 0.2
"""The share of a recording's pitches that is thought to be spread over all twelve alike."""

FADES = 60.0
"""Seconds in which what draws a continuation to its recording's pitches becomes half of it."""

LEAST_STAY = 1e-3
"""Nats; less is not worth the slower graph that takes a bias."""


@dataclass(frozen=True)
class Home:
    """What draws a continuation to the pitches of the recording that it goes on from.

    Attributes:
        scores: float32 [books, codes]: Σ_k q_k ln(12 p_k) over the pitch classes k, where q is what
            a code sounds and p what the recording's codes do, of which `EVEN` is spread evenly; 0
            where a code sounds nothing. So a code of one pitch class is as much likelier as the
            recording has more of that than an even twelfth (a product of experts, Hinton 2002).
        begin: the position after the recording's last code.
        half: codes in which the pull becomes half.
    """

    scores: np.ndarray
    begin: int
    half: float

    @classmethod
    def of(cls, powers: np.ndarray, codes: np.ndarray, half: float) -> Home:
        """powers: of `of_codec`; codes: the recording's, int32 [n, books]."""
        sounded = sum(book[column] for book, column in zip(powers, codes.T, strict=True)).sum(0)
        wanted = (1 - EVEN) * (sounded + FLOOR / 12) / (sounded.sum() + FLOOR) + EVEN / 12
        loud = powers.sum(-1, keepdims=True)
        shares = np.where(loud > FLOOR, powers / np.maximum(loud, FLOOR), 0.0)
        return cls((shares @ np.log(12 * wanted)).astype(np.float32), len(codes), half)

    def bias(self, position: int, stay: float) -> np.ndarray | None:
        """What is added to the logits of the codes from `position` on: float32 [books, codes]; None
        where that is as good as nothing.
        """
        faded = stay * 0.5 ** (max(0, position - self.begin) / self.half)
        return (faded * self.scores).astype(np.float32) if faded > LEAST_STAY else None
