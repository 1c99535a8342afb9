"""What survives where one level's codes are real and those of lower levels are generated."""

from collections.abc import Iterable

import numpy as np

from vqwave.dsp import notes
from vqwave.io import audio, splits

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
    pairs = [(corpus.passage(track), vary(corpus, number, keep, depth)["sound"])
             for number, track in enumerate(corpus.tracks)]
    rows = [notes.compare(x, y, corpus.rate) for x, y in pairs]
    patches = np.concatenate([corpus.embed(y, corpus.rate) for _, y in pairs])
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {
        "distance": corpus.distance(patches)}


@cached("music", "tracks", "plan")
def vary(corpus, number: int, keep: int, depth: int) -> dict[str, np.ndarray]:
    """A track's passage with real codes of level `keep` and generated ones of those below, down to
    `depth`; where both are the same level, its codes are decoded. {"sound": float32 [samples]}.
    """
    music, track = corpus.music, corpus.tracks[number]
    passage = corpus.passage(track)
    if depth == keep:
        return {"sound": music.decode(music.encode(passage, keep), keep)}
    sampling = corpus.sampling(x for x in music.chain.sizes if depth <= x < keep)
    stream = music.stream(level=depth, seed=corpus.plan.seeds[0] + number, sampling=sampling,
                          begin=music.source(passage, keep))
    piece = corpus.collect(stream, (), f"{keep}x of {splits.track_name(track)} kept")
    return {"sound": audio.from_u16(piece["audio"])}
