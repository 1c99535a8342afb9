"""Faults of a piece: silence, overload and clipping."""

import numpy as np

from ..dsp import metrics
from ..io.silence import SILENT_DB
from ..io.silence import WINDOW as PAUSE_WINDOW
from .copying import runs_of_true

# The limits of a healthy piece.
LOUD_DB = -3.0  # the rms of ten seconds
LONGEST_PAUSE = 20.0  # seconds
MOST_CLIPPED = 0.01  # the share of samples at full scale


def measure(sound, rate: int) -> dict:
    """The measurements of a piece, float32 [samples] at `rate`.

    loudness_db: rms of every ten seconds. end_db: rms of the last ten. clipped: share of samples at
    full scale. pause: seconds of the longest pause, in which every `PAUSE_WINDOW` has an rms below
    `SILENT_DB`. pause_peak_db: its loudest sample, None without a pause. pause_inside: seconds of
    the longest pause that neither begins nor ends the piece.
    """
    window = 10 * rate
    parts = [sound[i : i + window] for i in range(0, max(1, len(sound) - window // 2), window)]
    rms = [metrics.rms_db(p) for p in parts]
    hop = max(1, round(PAUSE_WINDOW * rate))
    quiet_windows = [metrics.rms_db(sound[i : i + hop]) < SILENT_DB
                     for i in range(0, len(sound), hop)]
    pauses = runs_of_true(quiet_windows)
    first, count = max(pauses, key=lambda run: run[1], default=(0, 0))
    pause = sound[first * hop : (first + count) * hop]
    inside = [n for at, n in pauses if at and at + n < len(quiet_windows)]
    return {"loudness_db": rms, "clipped": float(np.mean(np.abs(sound) >= 32767 / 32768)),
            "end_db": rms[-1], "pause": len(pause) / rate,
            "pause_peak_db": metrics.peak_db(pause) if count else None,
            "pause_inside": max(inside, default=0) * hop / rate}


def find_faults(figures: dict) -> list[str]:
    """The faults of a piece as texts, from the values of `measure`."""
    faults = []
    if figures["pause"] > LONGEST_PAUSE:
        faults.append(f"silent for {figures['pause']:.0f} s (peaks of "
                     f"{figures['pause_peak_db']:.0f} dBFS)")
    if figures["end_db"] < SILENT_DB:
        faults.append("ends in silence")
    if max(figures["loudness_db"]) > LOUD_DB:
        faults.append(f"as loud as {max(figures['loudness_db']):.1f} dBFS over ten seconds")
    if figures["clipped"] > MOST_CLIPPED:
        faults.append(f"{figures['clipped']:.1%} of its samples at full scale")
    return faults
