"""What survives where one level's codes are real and those of lower levels are generated."""

from collections.abc import Iterable

import numpy as np

from vqwave.dsp import notes
from vqwave.io import audio

from .. import note_statistics
from ..corpus import cached


def run(corpus) -> Iterable[tuple[str, float]]:
    """Each level's codes kept, decoded one level below or at the end of the chain."""
    chain, ending = corpus.music.chain, corpus.plan.depth
    for keep in chain.sizes:
        if keep > chain.bottom:
            depth = ending if ending < keep else chain.below(keep)
            if any(name not in corpus.models for level, name in chain.generators.items()
                   if depth <= level < keep):
                continue
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
    """Figures of the tracks' passages with real codes of level `keep` and generated ones of those
    below, down to `depth`; where both are the same level, the codes are decoded.
    """
    pairs = [(x, vary(corpus, x, number, keep, depth))
             for number, x in enumerate(map(corpus.passage, corpus.tracks))]
    rows = note_statistics.average([notes.compare(x, y, corpus.rate) for x, y in pairs])
    patches = np.concatenate([corpus.embed(y, corpus.rate) for _, y in pairs])
    return {key: float(mean) for key, mean in rows.items()} | {"distance": corpus.distance(patches)}


def vary(corpus, passage: np.ndarray, number: int, keep: int, depth: int) -> np.ndarray:
    """float32 [samples]; the seed follows from the number of the track."""
    music = corpus.music
    if depth == keep:
        return music.decode(music.encode(passage, keep), keep)
    stream = music.stream(level=depth, seed=corpus.plan.seeds[0] + number,
                          sampling=corpus.plan.sampling, begin=music.source(passage, keep))
    return audio.from_u16(corpus.collect(stream, (), f"variations of {keep}x")["audio"])
