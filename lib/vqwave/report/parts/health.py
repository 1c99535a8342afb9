"""How a long piece holds up: loudness, the longest pause, the longest exact repeat."""

from __future__ import annotations

import numpy as np

from ... import plots
from ...dsp import metrics
from ...io import audio
from ...io.silence import SILENT_DB
from ...io.silence import WINDOW as PAUSE_WINDOW
from ..benchmark import Target
from ..copying import longest_repeat
from .part import Part, table

LOUD_DB = -3.0
LONGEST_PAUSE, LONGEST_REPEAT, MOST_CLIPPED = 20.0, 20.0, 0.01
"""A healthy piece has no pause and no exact repeat of more seconds, and no larger share of samples
at full scale.
"""


class Health(Part):
    """A row for each setting and seed: `vitals` of the piece, and "ailments" in words."""

    name = "health"

    def measure(self, evaluation):
        rows, plan, chain = [], evaluation.plan, evaluation.music.chain

        def examine(setting, seed):
            piece = evaluation.piece(setting, seed)
            return vitals(audio.from_u16(piece["audio"]),
                          {x: piece[f"codes_{x}"] for x in setting.levels(chain)},
                          evaluation.rate)

        for setting in plan.settings:
            for seed in plan.seeds:
                key = {"figure": "health", "seed": seed, "minutes": plan.minutes,
                       **setting.key(chain),
                       "by": evaluation.chain_key(setting.depth),
                       "pauses": ["rms", PAUSE_WINDOW, SILENT_DB, "inside"]}
                row = evaluation.figure(key, lambda s=setting, seed=seed: examine(s, seed),
                                        f"{setting}, seed {seed}")
                rows.append({"setting": str(setting), "seed": seed} | row
                            | {"ailments": ailments(row)})
        return rows

    def figures(self, chain):
        def longest(results):
            rows = results.get("health") or ()
            return max((row["pause_inside"] for row in rows
                        if row["setting"] == rows[0]["setting"]), default=None)

        return (Target("longest pause inside", "≤", None, None, "s", longest),)

    def draw(self, results, evaluation, gallery):
        curves = {f"{row['setting']}, seed "
                  f"{row['seed']}": row["loudness_db"] for row in results[self.name]}
        gallery.picture("loudness.png", plots.loudness, curves)

    def write(self, page, sides, evaluation):
        minutes = evaluation.plan.minutes
        page.heading("Ten minutes on" if minutes == 10 else f"{minutes:g} minutes on")
        page.add(f"A pause is where the rms of every {PAUSE_WINDOW:g} s is under {SILENT_DB:g} "
                 f"dBFS; beside its length stands its loudest sample. Inside: of those that "
                 f"neither begin nor end the piece.")
        rows = next(iter(sides.values()))[self.name]
        page.add(*table(("chain", "dBFS of 10 s: least … most, last", "longest pause", "inside",
                         "longest exact repeat", ""), [
            (f"{row['setting']}, seed {row['seed']}",
             f"{min(row['loudness_db']):.1f} … {max(row['loudness_db']):.1f}, {row['end_db']:.1f}",
             f"{row['pause']:.1f} s" + (f", peak {row['pause_peak_db']:.0f} "
                                        f"dBFS" if row["pause"] else ""),
             f"{row['pause_inside']:.1f} s",
             ", ".join(f"{r['seconds']:.2f} s at {x}x" for x, r in row["repeat"].items()),
             "; ".join(row["ailments"]) or "healthy") for row in rows]))
        page.picture("loudness.png", "Loudness over time")


def vitals(sound, codes: dict[int, np.ndarray], rate: int) -> dict:
    """Figures of a piece that tell whether it lives.

    Args:
        sound: float32 [samples] at `rate`.
        codes: int [n], or [n, books], by level.

    Returns:
        loudness_db: rms of every ten seconds; peak; clipped: share of samples at full scale; pause:
        seconds of the longest stretch whose every `PAUSE_WINDOW` has an rms under -60 dBFS,
        pause_at: where it begins, pause_peak_db: the loudest sample in it (None without a pause);
        pause_inside: seconds of the longest that neither begins nor ends the piece; end_db: rms of
        the last ten seconds; repeat: {level: {"seconds", "distinct", …}}, the longest run of codes
        that occurs twice.
    """
    window = 10 * rate
    parts = [sound[i : i + window] for i in range(0, max(1, len(sound) - window // 2), window)]
    rms = [metrics.rms_db(p) for p in parts]
    hop = max(1, round(PAUSE_WINDOW * rate))
    quiet_windows = [metrics.rms_db(sound[i : i + hop]) < SILENT_DB
                     for i in range(0, len(sound), hop)]
    pauses = _list_true(quiet_windows)
    first, count = max(pauses, key=lambda run: run[1], default=(0, 0))
    pause = sound[first * hop : (first + count) * hop]
    inside = [n for at, n in pauses if at and at + n < len(quiet_windows)]
    repeats = {}
    for level, values in codes.items():
        run = longest_repeat(values)
        repeats[str(level)] = {"seconds": run.length * level / rate, "distinct": run.distinct,
                               "at": run.position * level / rate, "again": run.other * level / rate}
    return {"seconds": len(sound) / rate, "loudness_db": rms, "peak": float(np.abs(sound).max()),
            "clipped": float(np.mean(np.abs(sound) >= 32767 / 32768)), "end_db": rms[-1],
            "pause": len(pause) / rate, "pause_at": first * hop / rate,
            "pause_peak_db": metrics.peak_db(pause) if count else None,
            "pause_inside": max(inside, default=0) * hop / rate, "repeat": repeats}


def ailments(figures: dict) -> list[str]:
    """What is wrong with a piece by its `vitals`, in words; nothing where it is healthy."""
    found = []
    if figures["pause"] > LONGEST_PAUSE:
        found.append(f"silent for {figures['pause']:.0f} s (peaks of "
                     f"{figures['pause_peak_db']:.0f} dBFS)")
    if figures["end_db"] < SILENT_DB:
        found.append("ends in silence")
    if max(figures["loudness_db"]) > LOUD_DB:
        found.append(f"as loud as {max(figures['loudness_db']):.1f} dBFS over ten seconds")
    if figures["clipped"] > MOST_CLIPPED:
        found.append(f"{figures['clipped']:.1%} of its samples at full scale")
    for level, repeat in figures["repeat"].items():
        if repeat["seconds"] > LONGEST_REPEAT:
            found.append(f"{repeat['seconds']:.0f} s repeated exactly at {level}x")
    return found


def _list_true(flags) -> list[tuple[int, int]]:
    """(where it begins, its length) of each run of true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
