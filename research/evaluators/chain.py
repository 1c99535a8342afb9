"""How far generated music is from real music, by the Fréchet distance; and the scale of it.

The Fréchet distance is deaf to timing and to notes, and depends on how much sound each side has:
only distances of equal amounts compare.
"""

from collections.abc import Iterable

import numpy as np

from ..corpus import cached, patch_count, thin_out


def run(corpus) -> Iterable[tuple[str, float]]:
    """Distances to the tracks: of generated music, and of other real music."""
    seconds = 60 * corpus.plan.minutes
    yield "seconds generated", seconds
    yield "seconds of reference", sum(t.seconds for t in corpus.tracks)
    distances = {seed: of_piece(corpus, seed) for seed in corpus.plan.seeds}
    yield from ((f"Fréchet distance, seed {seed}", x) for seed, x in distances.items())
    yield "Fréchet distance of the chain", float(np.mean([*distances.values()]))
    for side, tracks in (("training", corpus.train), ("validation", corpus.validation)):
        if tracks and side != corpus.side:
            yield f"Fréchet distance, {side} tracks", of_tracks(corpus, tracks, round(seconds))


@cached("music", "tracks", "plan")
def of_piece(corpus, seed: int) -> float:
    return corpus.distance(corpus.embed(corpus.sound(seed), corpus.rate))


@cached("tracks")
def of_tracks(corpus, tracks, seconds: int) -> float:
    return corpus.distance(thin_out(corpus.embeddings(tracks), patch_count(seconds)))
