"""How much survives where the codes of one level are real and those below it are generated."""

from __future__ import annotations

import numpy as np

from .part import DistanceTarget, Part, by_size


class Variations(Part):
    """{"setting", "depth", "keep", "fad", …}: real codes at level `keep`, all below generated (keep
    = depth: none).
    """

    name = "variations"
    fresh = True

    def measure(self, evaluation):
        rows, plan, chain = [], evaluation.plan, evaluation.music.chain
        for setting in plan.settings:
            keeps = chain.sizes if plan.keeps is None else plan.keeps
            for keep in (*(k for k in keeps if k > setting.depth), setting.depth):
                key = {"figure": "variation", **evaluation.variation_key(keep, setting)}
                rows.append({"setting": str(setting), "depth": setting.depth, "keep": keep}
                            | evaluation.figure(
                    key, lambda k=keep, s=setting: _distance(evaluation, k, s),
                    f"{keep}x kept, {setting}"))
        return rows

    def figures(self, chain):
        return (DistanceTarget.of(f"Fréchet distance of variations, {chain.top}x "
                                  f"kept", lambda results: next(
            (row for row in results.get("variations") or ()
             if row["keep"] == chain.top > row["depth"]), None)),)

    def write(self, page, sides, evaluation):
        page.heading("Variations")
        page.add("How much survives when a level's codes are real and those below it are "
                 f"generated: the distance of such variations of the tracks (the middle of each, "
                 f"{evaluation.plan.minutes:g} minutes in all) to the tracks. The last row of each "
                 f"is real codes, decoded.")
        rows = {side: found[self.name] for side, found in sides.items()}
        page.tables(*by_size(rows, ("chain", "real codes"), lambda row: (
            row["setting"], f"{row['keep']}x" + (", decoded" if row["keep"] == row["depth"]
                                                 else ""))))


def _distance(evaluation, keep, setting):
    made, samples = [], 0
    for _, sound in evaluation.variation(keep, setting):
        made.append(evaluation.embed(sound, evaluation.rate))
        samples += len(sound)
    return evaluation.distance(np.concatenate(made), samples / evaluation.rate)
