"""What survives where one level's codes are real and those of lower levels are generated."""

from collections.abc import Iterable

import numpy as np

from vqwave.dsp import notes

from ..corpus import cached


def run(corpus) -> Iterable[tuple[str, float]]:
    """Each level's codes kept, decoded one level below or at the end of the chain."""
    chain, ending = corpus.music.chain, corpus.plan.depth
    for keep in chain.sizes:
        if keep > chain.bottom:
            depth = ending if ending < keep else chain.below(keep)
            row = measure(corpus, keep, depth)
            yield f"notes kept of variations, {keep}x kept", row["notes"]
            yield f"chroma of variations, {keep}x kept", row["chroma"]
            if depth == ending:
                yield f"Fréchet distance of variations, {keep}x kept", row["distance"]
        if keep == ending:
            yield (f"Fréchet distance of variations, {keep}x decoded",
                   measure(corpus, keep, keep)["distance"])


@cached("music", "tracks", "plan")
def measure(corpus, keep: int, depth: int) -> dict[str, float]:
    pairs = list(corpus.variation(keep, depth))
    rows = [notes.compare(x, y, corpus.rate) for x, y in pairs]
    patches = np.concatenate([corpus.embed(y, corpus.rate) for _, y in pairs])
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {
        "distance": corpus.distance(patches)}
