"""Keys and chords of a score: their texts, the share of each pitch class in them, and the bias of
strikes that brings a score to these shares.
"""

import re

import numpy as np

from ..dsp.notes import KEY_PROFILES
from ..errors import UserError
from .sampling import KEY_DRAW, uniforms

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
"""The pitch classes of the keys on C."""
CHORDS = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11),
          "m7": (0, 3, 7, 10), "6": (0, 4, 7, 9), "m6": (0, 3, 7, 9), "dim": (0, 3, 6),
          "aug": (0, 4, 8), "sus2": (0, 2, 7), "sus4": (0, 5, 7), "5": (0, 7)}
"""The pitch classes of the chords on C."""
MOST_CHORDS = 64
"""The most chords that repeat."""
OUTSIDE = 4.0
"""The penalty, in nats, of strikes outside the key."""
KEY_CONTRAST = 2.0
"""The exponent of a key's profile in the shares of the pitch classes: more favours the tonic."""
KEY_AWAITED = 16.0
"""The number of strikes, spread as in the key, that are added to the last strikes."""
_TONICS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ACCIDENTALS = {"": 0, "#": 1, "b": -1}
_KEY = re.compile("([a-g])([#b]?)[- ]?(major|minor|m?)")
_CHORD = re.compile("([a-gA-G])([#b]?)(.*)")


def read_key(key, seed: int = 0) -> tuple[float, ...]:
    """The share of each pitch class, C first, in the strikes of a key like "D-minor", "F#m" or
    "Bb"; of "minor" and "major" with a tonic that the seed draws; () for "". Within the scale the
    shares are in proportion to `KEY_PROFILES` to the power of `KEY_CONTRAST`. Raises `UserError`
    for any other text.
    """
    if key == "":
        return ()
    if (mode := str(key).lower()) in SCALES:
        tonic = int(12 * float(uniforms(seed, 0, 0, 0, 1, KEY_DRAW)[0]))
    else:
        parts = _KEY.fullmatch(mode)
        if parts is None:
            raise UserError(f"key is {key!r}; it must be like D-minor, Bb-major or minor")
        letter, accidental, mode = parts.groups()
        tonic = _TONICS[letter] + _ACCIDENTALS[accidental]
        mode = {"m": "minor", "": "major"}.get(mode, mode)
    scale, shares = list(SCALES[mode]), np.zeros(12)
    shares[scale] = KEY_PROFILES[list(SCALES).index(mode), scale] ** KEY_CONTRAST
    return tuple(np.roll(shares / shares.sum(), tonic).tolist())


def read_chords(text) -> tuple[float, ...]:
    """The share of each pitch class in the strikes of chords like "Am F C7 G", a bar each, joined:
    float [12 · chords]. They repeat, and each section of the score begins with the first. () for
    "". Raises `UserError` for an unknown chord.
    """
    names = str(text).replace(",", " ").replace("|", " ").split()
    if len(names) > MOST_CHORDS:
        raise UserError(f"{len(names)} chords are too many; at most {MOST_CHORDS} can be set")
    shares = np.zeros((len(names), 12))
    for name, row in zip(names, shares, strict=True):
        parts = _CHORD.fullmatch(name)
        if parts is None or parts[3] not in CHORDS:
            raise UserError(f"chords has {name!r}; a chord is a note, such as A, F# or Bb, and one "
                            f"of: {', '.join(CHORDS)[2:]}, or nothing for major")
        tones = np.array(CHORDS[parts[3]])
        row[(_TONICS[parts[1].lower()] + _ACCIDENTALS[parts[2]] + tones) % 12] = 1 / len(tones)
    return tuple(shares.ravel().tolist())


def key_bias(key: tuple[float, ...], strikes: np.ndarray) -> np.ndarray:
    """The bias on strikes, in nats, of each pitch class: float [12]. Within the scale, the bias is
    ln(p / q), with the share p of the class in the key and its share q in the last strikes. The
    mean of p / q over these strikes is 1, so the density of notes stays about the same.

    key: see `read_key` and `read_chords`. strikes: int [12], the last strikes.
    """
    shares, bias = np.array(key), np.full(12, -OUTSIDE)
    scale = shares > 0
    heard = strikes[scale] + KEY_AWAITED * shares[scale]
    bias[scale] = np.log(shares[scale] * heard.sum() / heard)
    return bias
