"""How far generated music is from real music, by the Fréchet distance; and the scale of it.

The Fréchet distance is deaf to timing and to notes, and depends on how much sound each side has:
only distances of equal amounts compare.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..corpus import patch_count, thin_out


class Chain:
    """Distances to the tracks: of generated music, and of other real music."""

    def run(self, music, corpus) -> Iterable[tuple[str, float]]:
        seconds = 60 * corpus.plan.minutes
        yield "seconds generated", seconds
        yield "seconds of reference", sum(t.seconds for t in corpus.tracks)
        distances = []
        for seed in corpus.plan.seeds:
            key = {"figure": "chain", **corpus.generated_key(seed),
                   "test": corpus.checksum(corpus.tracks)}
            distances.append(corpus.figure(key, lambda seed=seed: corpus.distance(
                corpus.embed(corpus.sound(seed), corpus.rate))))
            yield f"Fréchet distance, seed {seed}", distances[-1]
        yield "Fréchet distance of the chain", float(np.mean(distances))
        for side, tracks in (("training", corpus.train), ("validation", corpus.validation)):
            if tracks and side != corpus.side:
                key = {"figure": "control", "what": f"{side} tracks", "seconds": seconds,
                       "tracks": [corpus.checksum(x) for x in (corpus.tracks, corpus.train,
                                                               corpus.validation)]}
                yield f"Fréchet distance, {side} tracks", corpus.figure(
                    key, lambda tracks=tracks: corpus.distance(thin_out(
                        corpus.embeddings(tracks), patch_count(round(seconds)))))
