"""How a long piece holds up, and how loud generated music is beside real music."""

from collections.abc import Iterable

import numpy as np

from vqwave.dsp import metrics
from vqwave.io import audio, silence
from vqwave.progress import SilentReporter
from vqwave.report.health import find_faults, measure

from ..corpus import cached

MOMENT_SECONDS, QUIET_DB, BEGINNING_SECONDS = 0.4, -40.0, 30.0
"""Below this rms in dBFS a moment is quiet."""


def run(corpus) -> Iterable[tuple[str, float]]:
    """Pauses, repeats and loudness of the pieces; the loudness of real music for comparison."""
    rows = [examine(corpus, seed) for seed in corpus.plan.seeds]
    yield "longest pause inside", max(row["pause_inside"] for row in rows)
    yield "longest pause", max(row["pause"] for row in rows)
    yield "last ten seconds, quietest piece", min(row["end_db"] for row in rows)
    for level in rows[0]["repeat"]:
        yield (f"longest exact repeat, {level}x",
               max(row["repeat"][level]["seconds"] for row in rows))
    yield "pieces with a fault", sum(bool(find_faults(row)) for row in rows)
    loudness = {"generated": of_pieces(corpus)}
    for side, tracks in ((corpus.side, corpus.tracks), ("training", corpus.train)):
        loudness[f"{side} tracks"] = of_tracks(corpus, tracks)
    for what, row in loudness.items():
        yield from ((f"{name}, {what}", value) for name, value in row.items())


@cached("music", "plan")
def examine(corpus, seed: int) -> dict:
    piece = corpus.piece(seed, corpus.plan.minutes)
    return measure(audio.from_u16(piece["audio"]),
                   {x: piece[f"codes_{x}"] for x in corpus.levels}, corpus.rate)


@cached("music", "plan")
def of_pieces(corpus) -> dict[str, float]:
    return describe([moments(corpus.sound(seed), corpus.rate) for seed in corpus.plan.seeds])


@cached()
def of_tracks(corpus, tracks) -> dict[str, float]:
    """The loudness of tracks without the silence at their ends."""
    spans, pieces = silence.measure(corpus.data_dir, tracks, SilentReporter()), []
    for track in tracks:
        first, last = spans[track.file].within(track.samples, 0)
        sound = corpus.samples(track, first, last - first if last > first else None)
        pieces.append(moments(sound, corpus.rate))
    return describe(pieces)


def moments(sound, rate: int) -> np.ndarray:
    """The rms of each whole moment of float [samples] in dBFS, at least -120."""
    count = max(1, min(len(sound), round(MOMENT_SECONDS * rate)))
    parts = np.asarray(sound)[: len(sound) // count * count].reshape(-1, count)
    return metrics.power_db(np.square(parts, dtype=np.float64).mean(axis=1))


def describe(pieces: list[np.ndarray]) -> dict[str, float]:
    """Loudness figures of the `moments` of some pieces."""
    every = np.concatenate(pieces)
    first = np.concatenate([piece[: round(BEGINNING_SECONDS / MOMENT_SECONDS)]
                            for piece in pieces])
    return {"median loudness": float(np.median(every)),
            "share of quiet moments": float((every < QUIET_DB).mean()),
            "median loudness of the first 30 s": float(np.median(first)),
            "share of quiet moments in the first 30 s": float((first < QUIET_DB).mean())}
