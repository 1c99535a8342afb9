"""The scale of the Fréchet distance: how far other real music, noise and silence are."""

from __future__ import annotations

import numpy as np

from .. import fad
from .part import Part, by_size


class Controls(Part):
    """[{"what", "fad", "seconds", "reference_seconds"}], sorted."""

    name = "controls"
    fresh = True

    def measure(self, evaluation):
        seconds, rate = round(60 * evaluation.plan.minutes), evaluation.rate

        def embed_noise():
            random = np.random.Generator(np.random.Philox(key=0))
            return evaluation.embed(random.normal(0, 0.1, seconds * rate).astype(np.float32),
                                    rate), seconds

        rows = {
            "training tracks": lambda: embed_some(evaluation, "the training tracks",
                                                  evaluation.train),
            "white noise": embed_noise,
            "silence": lambda: (evaluation.embed(np.zeros(seconds * rate, np.float32), rate),
                                seconds),
        }
        if evaluation.validation and evaluation.side != "validation":
            rows["validation tracks"] = lambda: embed_some(evaluation, "the validation tracks",
                                                           evaluation.validation)
        made = []
        for what, make in rows.items():
            key = {"figure": "control", "what": what, "test": evaluation.corpus(evaluation.test),
                   "seconds": seconds,
                   "train": evaluation.corpus(evaluation.train),
                   "validation": evaluation.corpus(evaluation.validation)}
            made.append({"what": what} | evaluation.figure(
                key, lambda make=make: evaluation.distance(*make()), what))
        return sorted(made, key=lambda row: row["fad"])

    def write(self, page, sides, evaluation):
        page.heading("The scale")
        page.add("The Fréchet distance (embedding of musicnn's MSD_vgg) between held-out tracks "
                 "and other sound. It depends on how much sound each side has: only distances of "
                 "equal sizes can be compared.")
        rows = {side: found[self.name] for side, found in sides.items()}
        page.tables(*by_size(rows, ("",), lambda row: (row["what"],)))


def embed_some(evaluation, name, tracks):
    """Embeddings of as much of `tracks` as is generated, spread evenly over them, or of all there
    is.

    Returns:
        float32 [patches, 256], and the seconds of sound that they are of.
    """
    patches = evaluation.embeddings(name, tracks)
    seconds = min(60 * evaluation.plan.minutes, sum(t.seconds for t in tracks))
    return thin_out(patches, fad.patch_count(seconds)), seconds


def thin_out(patches: np.ndarray, wanted: int) -> np.ndarray:
    """So many of the embeddings [n, d], spread evenly over them; all where there are no more."""
    if len(patches) <= wanted:
        return patches
    # Whole stretches of ten keep what is near together.
    blocks = np.array_split(patches, max(1, len(patches) // 10))
    starts = np.linspace(0, len(blocks), max(1, -(-wanted // 10)), endpoint=False).astype(int)
    return np.concatenate([blocks[i] for i in starts])[:wanted]
