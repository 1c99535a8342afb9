"""How a long piece holds up, and how loud generated music is beside real music."""

from collections.abc import Iterable

import numpy as np

from vqwave.dsp import metrics
from vqwave.io import audio, silence
from vqwave.progress import SilentReporter
from vqwave.report.copying import WindowHashes, longest_run
from vqwave.report.health import find_faults, measure

from ..corpus import cached

MOMENT_SECONDS = 0.4  # the loudness of a piece is the median rms of so long parts
LONGEST_REPEAT = 20.0  # seconds of an exact repeat of a healthy piece


def run(corpus) -> Iterable[tuple[str, float]]:
    """Pauses, repeats and loudness of the pieces; the loudness of real music for comparison."""
    rows = [examine_piece(corpus, seed) for seed in corpus.plan.seeds]
    yield "longest pause inside", max(row["pause_inside"] for row in rows)
    yield "longest pause", max(row["pause"] for row in rows)
    yield "last ten seconds, quietest piece", min(row["end_db"] for row in rows)
    repeats = {level: [row["repeats"][level] for row in rows] for level in rows[0]["repeats"]}
    yield from ((f"longest exact repeat, {level}x", max(x)) for level, x in repeats.items())
    yield "pieces with a fault", sum(map(is_faulty, rows))
    yield "median loudness, generated", loudness_of_pieces(corpus)
    yield f"median loudness, {corpus.side} tracks", loudness_of_tracks(corpus, corpus.tracks)
    yield "median loudness, training tracks", loudness_of_tracks(corpus, corpus.train)


@cached("music", "plan")
def examine_piece(corpus, seed: int) -> dict:
    """`report.health.measure` of a piece, and "repeats": see `find_repeats`."""
    piece = corpus.piece(seed, corpus.plan.minutes)
    codes = {level: piece[f"codes_{level}"] for level in corpus.levels}
    return {**measure(audio.from_u16(piece["audio"]), corpus.rate),
            "repeats": find_repeats(codes, corpus.rate)}


def find_repeats(codes: dict[int, np.ndarray], rate: int) -> dict[str, float]:
    """The seconds of the longest exact repeat by level. codes: int [n], or [n, books], by level."""
    return {str(level): longest_repeat(frames) * level / rate
            for level, frames in codes.items()}


def longest_repeat(codes) -> int:
    """The length of the longest run of `codes` (int [n] or [n, books]) that occurs twice, exactly.
    The two may overlap, as in a loop.
    """
    hashes = WindowHashes(codes)

    def occurs(length: int) -> bool:
        windows = hashes(length)
        return len(np.unique(windows)) < len(windows)

    return longest_run(occurs, len(codes) - 1)


def is_faulty(row: dict) -> bool:
    """Whether a piece has a fault or a long repeat. row: of `examine_piece`."""
    return bool(find_faults(row)) or max(row["repeats"].values()) > LONGEST_REPEAT


@cached("music", "plan")
def loudness_of_pieces(corpus) -> float:
    return median_loudness((corpus.sound(seed) for seed in corpus.plan.seeds), corpus.rate)


@cached()
def loudness_of_tracks(corpus, tracks) -> float:
    """The loudness of tracks without the silence at their ends."""
    spans, sounds = silence.measure(corpus.data_dir, tracks, SilentReporter()), []
    for track in tracks:
        first, last, _ = spans[track.file]
        sounds.append(corpus.samples(track, first, last - first if last > first else None))
    return median_loudness(sounds, corpus.rate)


def median_loudness(sounds: Iterable[np.ndarray], rate: int) -> float:
    """dBFS, at least -120. sounds: float [samples]; a rest shorter than a part does not count."""
    powers = []
    for sound in sounds:
        count = max(1, min(len(sound), round(MOMENT_SECONDS * rate)))
        parts = sound[: len(sound) // count * count].reshape(-1, count)
        powers.append(np.square(parts, dtype=np.float64).mean(axis=1))
    return float(np.median(metrics.power_db(np.concatenate(powers))))
