"""Beat, tune and form of generated pieces beside those of held-out tracks, by the notes that the
transcriber hears. The longest loop of the top line shows whether returns are mere loops.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from vqwave.data import melody
from vqwave.dsp import timing, transcription
from vqwave.report.copying import runs_of_true

from ..corpus import cached

SECONDS = 180.0
SEEDS = range(1, 13)
STEP = 16  # frames of the transcriber that a step of a top line lasts: 0.19 s
WINDOW, APART = 43, 86
"""Steps of the windows that may return, 8 s, and steps at least until they do, 16 s."""
PERIODS = range(1, 33)
"""Notes after which a loop begins again."""
CHANCE = 0.05
"""The share of windows that come back in another track: what counts as a return follows."""


def run(corpus) -> Iterable[tuple[str, float]]:
    """Yields each measure of the tracks, "real", and of the generated pieces."""
    seconds = min(SECONDS, 60 * corpus.plan.minutes)
    sides = {"real": [of_track(corpus, track, seconds) for track in corpus.tracks],
             "generated": [of_piece(corpus, seed, seconds)
                           for seed in (corpus.plan.seeds if corpus.plan.rough else SEEDS)]}
    lines = {who: [np.array(row.pop("line")) for row in rows] for who, rows in sides.items()}
    for who, rows in sides.items():
        yield from ((f"{name}, {who}", mean([row[name] for row in rows])) for name in rows[0])
    yield from return_rates(lines)
    for who, side in lines.items():
        yield f"longest loop of the top line, notes, {who}", max(
            longest_loop(heard_moves(line)) for line in side)


def heard_moves(line: np.ndarray) -> np.ndarray:
    """`melody.moves` of a top line as `measure` gives it."""
    steps = np.flatnonzero(line >= 0)
    return melody.moves(steps, line[steps])


def longest_loop(line: np.ndarray) -> int:
    """The most notes in a row, as `melody.moves`, that repeat those a period before them."""
    return max((length for period in PERIODS
                for _, length in runs_of_true(line[period:] == line[:-period])), default=0)


@cached()
def of_track(corpus, track, seconds: float) -> dict:
    return measure(corpus.samples(track)[: round(seconds * corpus.rate)], corpus.rate)


@cached("music")
def of_piece(corpus, seed: int, seconds: float) -> dict:
    return measure(corpus.sound(seed, seconds / 60), corpus.rate)


def return_rates(lines: dict[str, list[np.ndarray]]) -> Iterable[tuple[str, float]]:
    """The share of windows that come back, of the top lines of each side; "real" must have two."""
    if sum(len(line) > WINDOW for line in lines["real"]) > 1:
        least = returning_similarity(lines["real"])
        for who, side in lines.items():
            yield f"return rate, {who}", float(np.mean([returns(line, least) for line in side]))


def measure(sound: np.ndarray, rate: int) -> dict:
    """The measures of a piece, and the highest note struck in each step, or −1."""
    envelope, notes = timing.onset_envelope(sound, rate), transcription.find_notes(sound, rate)
    steps = notes.starts // STEP
    count = 1 + len(envelope) // STEP
    struck = np.zeros((count, 128), bool)
    struck[steps, notes.pitches] = True
    line = np.full(count, -1)
    np.maximum.at(line, steps, notes.pitches)
    return {"windows with a beat": timing.find_beat(envelope),
            "notes a second": len(steps) * rate / len(sound),
            **describe(struck, line), "line": line.tolist()}


def describe(struck: np.ndarray, line: np.ndarray) -> dict[str, float]:
    """The measures of the notes struck, bool [steps, pitches], and of the highest of each step.
    Chance: the same notes in ten other orders.
    """
    tune, ten_seconds, random = line[line >= 0], 10 * WINDOW // 8, np.random.default_rng(0)
    by_chance = np.mean([recurring(random.permutation(tune)) for _ in range(10)])
    return {
        "pitch-class entropy": entropy(struck),
        "pitch-class entropy in 10 s": mean(
            [entropy(struck[i : i + ten_seconds]) for i in range(0, len(struck), ten_seconds)]),
        "recurring 3-grams over chance": recurring(tune) - float(by_chance),
        "the same note again": float(np.mean(np.diff(tune) == 0)) if len(tune) > 1 else np.nan}


def mean(values: Sequence[float]) -> float:
    """The mean of the values that are numbers, or NaN."""
    values = [value for value in values if not np.isnan(value)]
    return float(np.mean(values)) if values else np.nan


def entropy(struck: np.ndarray) -> float:
    """Bits of the pitch classes of what is struck, bool [steps, pitches]; NaN under five notes."""
    counts = np.bincount(np.nonzero(struck)[1] % 12, minlength=12)
    if counts.sum() < 5:
        return np.nan
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def recurring(tune: np.ndarray) -> float:
    """The share of a tune's groups of three intervals that occur in it more than once."""
    intervals = np.diff(tune)
    groups = Counter(zip(intervals, intervals[1:], intervals[2:], strict=False))
    total = sum(groups.values())
    return sum(n for n in groups.values() if n > 1) / total if total else 0.0


def windows(line: np.ndarray) -> np.ndarray:
    """Each window of a top line as a roll, flattened, of length 1: float [windows, …]."""
    roll = np.zeros((len(line), 129), np.float32)
    roll[np.arange(len(line)), line] = 1
    roll[:, 128] = 0  # no note
    roll += 0.5 * np.pad(roll, ((1, 0), (0, 0)))[:-1] + 0.5 * np.pad(roll, ((0, 1), (0, 0)))[1:]
    flat = np.stack([roll[i : i + WINDOW].ravel() for i in range(0, len(roll) - WINDOW + 1)])
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def returning_similarity(lines: Sequence[np.ndarray]) -> float:
    """The similarity that a share `CHANCE` of windows reach in another track."""
    cut = [windows(line)[::5] for line in lines if len(line) > WINDOW]
    best = [np.max([(ours @ theirs.T).max(1) for j, theirs in enumerate(cut) if j != i], axis=0)
            for i, ours in enumerate(cut)]
    return float(np.quantile(np.concatenate(best), 1 - CHANCE))


def returns(line: np.ndarray, least: float) -> float:
    """The share of a piece's windows that are as similar to one at least 16 s later or earlier."""
    if len(line) <= WINDOW + APART:
        return 0.0
    cut = windows(line)[::2]
    alike = cut @ cut.T
    apart = np.abs(np.subtract.outer(np.arange(len(cut)), np.arange(len(cut)))) * 2 >= APART
    return float(np.mean(np.where(apart, alike, 0).max(1) >= least))
