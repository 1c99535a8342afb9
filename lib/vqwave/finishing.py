"""What is done to sound that is made: cross-fades."""

from __future__ import annotations

import numpy as np


def cross_fade(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """From `old` to `new`, float32 [n] both, at constant loudness however alike the two are."""
    up = (0.5 - 0.5 * np.cos(np.pi * (np.arange(len(old)) + 0.5) / len(old))).astype(np.float32)
    power = float(np.sqrt(np.dot(old, old) * np.dot(new, new)))
    alike = max(0.0, float(np.dot(old, new)) / power) if power > 0 else 1.0
    loudness = np.sqrt(up**2 + (1 - up) ** 2 + 2 * alike * up * (1 - up))
    return ((old * (1 - up) + new * up) / loudness).astype(np.float32)
