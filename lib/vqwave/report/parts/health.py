"""How a long piece holds up: loudness, the longest pause, the longest exact repeat."""

from __future__ import annotations

from ... import plots
from ...io import audio
from ...io.silence import SILENT_DB
from ...io.silence import WINDOW as PAUSE_WINDOW
from ..benchmark import Target
from ..health import ailments, vitals
from .part import Part, table


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
