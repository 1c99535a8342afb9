"""What survives where one level's codes are real and those of lower levels are generated."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vqwave.dsp import notes


class Variations:
    """Each level's codes kept, decoded one level below or at the end of the chain."""

    def run(self, music, corpus) -> Iterable[tuple[str, float]]:
        chain, ending = music.chain, corpus.plan.depth
        for keep in chain.sizes:
            if keep > chain.bottom:
                depth = ending if ending < keep else chain.below(keep)
                row = self._measure(corpus, keep, depth)
                yield f"notes kept of variations, {keep}x kept", row["notes"]
                yield f"chroma of variations, {keep}x kept", row["chroma"]
                if depth == ending:
                    yield f"Fréchet distance of variations, {keep}x kept", row["distance"]
            if keep == ending:
                yield (f"Fréchet distance of variations, {keep}x decoded",
                       self._measure(corpus, keep, keep)["distance"])

    def _measure(self, corpus, keep: int, depth: int) -> dict:
        def measure():
            pairs = list(corpus.variation(keep, depth))
            rows = [notes.compare(x, y, corpus.rate) for x, y in pairs]
            return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {
                "distance": corpus.distance(np.concatenate(
                    [corpus.embed(y, corpus.rate) for _, y in pairs]))}

        return corpus.figure({"figure": "variation", **corpus.variation_key(keep, depth)}, measure)
