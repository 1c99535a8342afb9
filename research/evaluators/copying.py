"""What is copied: the longest run of codes of the training set."""

import itertools
from collections.abc import Iterable

import numpy as np

from vqwave.data.codes import variants
from vqwave.report.copying import HELD_FRAMES, HELD_SECONDS, find_held, longest_shared

from ..corpus import cached


def run(corpus) -> Iterable[tuple[str, float]]:
    """Seconds that a generated piece, of any seed, shares with the training set; held-out music,
    which copies nothing, shows what chance gives. "melody": without held sounds.

    The training set is also searched transposed and quieter, if a generator was trained so.
    """
    if corpus.side != "test":
        return
    excess = []
    for level in corpus.levels:
        for moving, what in ((False, "run"), (True, "melody")):
            row = find_copies(corpus, level, moving)
            yield f"longest shared {what}, {level}x", row["generated"]
            yield f"longest shared {what} of held-out music, {level}x", row["held_out"]
        excess.append(row["generated"] - row["held_out"])
    yield "longest copy but for held sounds, beyond test music's own, worst level", max(excess)


def augmentation(corpus) -> dict:
    """{"transpose": semitones, "gain": dB}: the most of any generator's training."""
    music = corpus.music
    trainings = [music.weight_set(music.chain.generator(level)).training for level in corpus.levels]
    return {key: max(getattr(training, key) if training else 0 for training in trainings)
            for key in ("transpose", "gain")}


@cached("music", "plan", "tracks", "all")
def find_copies(corpus, level: int, moving: bool) -> dict:
    """Seconds of the longest runs of codes of a level that the generated pieces and the held-out
    music share with the training set.

    Memory: the codes of the training set at one pitch, and their hashes, at a time.
    """
    config = corpus.music.weight_set(corpus.music.chain.generator(level)).config
    length = max(2, round(HELD_SECONDS * corpus.rate / level))
    pieces = [*(corpus.piece(seed, corpus.plan.minutes)[f"codes_{level}"]
                for seed in corpus.plan.seeds),
              np.concatenate([corpus.music.encode(corpus.passage(track), level)
                              for track in corpus.tracks])]
    barred = [find_held(codes, length, HELD_FRAMES) if moving else None for codes in pieces]
    longest = [0] * len(pieces)
    augmented = variants(corpus.plan.offsets, level=config.source_level or level,
                         **augmentation(corpus))
    for _, same_pitch in itertools.groupby(augmented, lambda variant: variant.shift):
        corpus.progress(f"copies at {level}x", 0.0)
        training = [x for _, x in corpus.codes(level, corpus.copyable, list(same_pitch))]
        for i, codes in enumerate(pieces):
            longest[i] = max(longest[i], longest_shared(codes, training, barred[i]))
    *generated, held_out = (length * level / corpus.rate for length in longest)
    return {"generated": max(generated), "held_out": held_out}
