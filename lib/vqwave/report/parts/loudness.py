"""How loud generated music is, beside real music: by the moment, and where it begins."""

from __future__ import annotations

import numpy as np

from ...dsp import metrics
from ...io import audio, silence
from ...progress import QuietReporter
from .part import Part, side_by_side

MOMENT, QUIET_DB, BEGINNING = 0.4, -40.0, 30.0
"""Seconds of a moment, the rms in dBFS below which it is quiet, and seconds of a piece that are its
beginning.
"""


class Loudness(Part):
    """A row for real music of each kind and for each setting: {"what", "median_db", "quiet": the
    share of moments under `QUIET_DB`, "first_db", "first_quiet": the same of beginnings}.
    """

    name = "loudness"
    fresh = True

    def measure(self, evaluation):
        rows, plan, chain = [], evaluation.plan, evaluation.music.chain
        common = {"figure": "loudness", "moments": [MOMENT, QUIET_DB, BEGINNING]}
        sides = {"the tracks themselves": evaluation.test, "training tracks": evaluation.train}
        if evaluation.side != "validation":
            sides["validation tracks"] = evaluation.validation
        for what, tracks in sides.items():
            if tracks:
                key = common | {"tracks": evaluation.corpus(tracks)}
                rows.append({"what": what} | evaluation.figure(
                    key, lambda tracks=tracks: describe(_listen(evaluation, tracks)), what))
        for setting in plan.settings:
            key = common | {"seeds": list(plan.seeds), "minutes": plan.minutes,
                            **setting.key(chain), "by": evaluation.chain_key(setting.depth)}
            rows.append({"what": str(setting)} | evaluation.figure(
                key, lambda s=setting: describe(
                    [moments(audio.from_u16(evaluation.piece(s, seed)["audio"]), evaluation.rate)
                     for seed in plan.seeds]), f"{setting}"))
        return rows

    def write(self, page, sides, evaluation):
        page.heading("How loud it is")
        page.add(f"The median of moments of {MOMENT:g} s, and how many of them are under "
                 f"{QUIET_DB:g} dBFS; of whole pieces, and of the first {BEGINNING:g} s of each. "
                 f"Tracks without the silence at their ends.")
        page.tables(side_by_side([[
            ("", "median dBFS", f"under {QUIET_DB:g}", "at first", f"under {QUIET_DB:g} at first"),
            *((row["what"], f"{row['median_db']:.1f}", f"{row['quiet']:.1%}",
               f"{row['first_db']:.1f}", f"{row['first_quiet']:.1%}") for row in found[self.name])]
            for found in sides.values()]))


def _listen(evaluation, tracks) -> list[np.ndarray]:
    """The `moments` of each track, without the silence at its ends; those of silent ones whole."""
    spans = silence.measure(evaluation.data_dir, tracks, QuietReporter(), keep=False)
    made = []
    for track in tracks:
        first, last = spans[track.file].within(track.samples, 0)
        sound = evaluation.samples(track, first, last - first if last > first else None)
        made.append(moments(sound, evaluation.rate))
    return made


def moments(sound, rate: int) -> np.ndarray:
    """The rms of each whole moment of float [samples], dBFS, not less than -120; a sound that is
    shorter is one.
    """
    count = max(1, min(len(sound), round(MOMENT * rate)))
    parts = np.asarray(sound)[: len(sound) // count * count].reshape(-1, count)
    return metrics.power_db(np.square(parts, dtype=np.float64).mean(axis=1))


def describe(pieces: list[np.ndarray]) -> dict[str, float]:
    """A row of the table, from the `moments` of each piece."""
    every = np.concatenate(pieces)
    first = np.concatenate([piece[: round(BEGINNING / MOMENT)] for piece in pieces])
    return {"median_db": float(np.median(every)), "quiet": float((every < QUIET_DB).mean()),
            "first_db": float(np.median(first)), "first_quiet": float((first < QUIET_DB).mean())}
