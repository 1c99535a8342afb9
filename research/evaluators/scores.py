"""Scores by themselves, in steps: of held-out tracks and of the score model. The bits that 30 s of
past save the composer, and the runs that it copies. The note events that a performance keeps of its
score.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from vqwave.data import melody, scores
from vqwave.data.codes import CodeTrack
from vqwave.data.windows import Span
from vqwave.dsp import beats, transcription
from vqwave.dsp.beats import STEPS_PER_BEAT
from vqwave.generators.composer import BANDS, STEPS_PER_SECOND, STRUCK
from vqwave.levels import SCORE
from vqwave.play.controls import Steering
from vqwave.play.labels import choose_labels, known_labels, labels_of_section
from vqwave.play.score import ScoreLevel, ScoreState
from vqwave.play.stream import AS_COMPOSED
from vqwave.report.copying import longest_shared

from ..corpus import cached
from . import form, generators

SEEDS = range(1, 25)
STEADY = 20, 80  # notes in 10 s of music that neither runs away nor freezes
PASTS, COUNTED = (2.0, 30.0), 2 * STEPS_PER_BEAT


def run(corpus) -> Iterable[tuple[str, float]]:
    """Each measure of all held-out tracks ("real") and of the model; obedience of each side."""
    if SCORE in corpus.music.chain.generators:
        yield from obedience(corpus).items()
        if corpus.side == "test":
            figures = measure(corpus)
            yield from figures.items()
            yield from compare(figures).items()


@cached("music", "tracks")
def obedience(corpus) -> dict[str, float]:
    """Note events that performances of the tracks' own scores keep, and that the codec keeps."""
    codec, kept = corpus.music.codec(corpus.plan.depth), {"a performance": [], "the codec": []}
    for track in corpus.tracks:
        sound = corpus.samples(track, 0, corpus.cut(min(track.samples, round(60 * corpus.rate))))
        performed = corpus.music.generate(samples=len(sound), seed=1, **AS_COMPOSED,
                                          score=scores.of_track(corpus.data_dir, track))
        decoded = codec.decode(codec.encode(sound[None]))[0]
        for who, copy in zip(kept, (performed, decoded), strict=True):
            kept[who].append(transcription.compare(sound, copy, corpus.rate))
    performed, decoded = (form.mean(values) for values in kept.values())
    return {"note events kept by a performance": performed,
            "note events kept by the codec": decoded,
            "score obeyed": performed / (decoded or math.nan)}


@cached("music", "all", "plan")
def measure(corpus) -> dict[str, float]:
    """All figures by name. Bits are of the tracks that did not choose the weights."""
    generator, *lower = corpus.music.chain_engines().generators
    configs = [engine.config for engine in lower]
    train, chosen, fresh = ([read(corpus, track, generator.config.books) for track in tracks]
                            for tracks in (corpus.train, corpus.sides["validation"],
                                           [*corpus.sides["test"], *corpus.sides["fresh"]]))
    seeds = SEEDS[:1] if corpus.plan.rough else SEEDS
    lines = [moves(codes) for codes, _ in train]
    sides = {"real": [*chosen, *fresh],
             "score model": [compose(generator, configs, seed, corpus.rate) for seed in seeds]}
    held_out = [codes for codes, _ in (fresh[:1] if corpus.plan.rough else fresh)]
    return describe(sides, lines) | past_bits(generator, held_out)


def compare(figures: dict[str, float]) -> dict[str, float]:
    """How two figures of `measure` differ: bits in percent, loops in notes."""
    little, much = (figures[f"bits a step with {past:g} s of past"] for past in PASTS)
    generated, real = (figures[f"longest loop, notes, {who}"] for who in ("score model", "real"))
    return {f"bits a step with {PASTS[1]:g} s of past against {PASTS[0]:g} s":
                100 * (much / little - 1),
            "longest loop, notes, beyond real music's": generated - real}


def read(corpus, track, books: int) -> tuple[np.ndarray, np.ndarray]:
    """A track's score, int32 [steps, books], and its notes' seconds, up to `form.SECONDS`."""
    score = scores.of_track(corpus.data_dir, track)
    end = np.searchsorted(beats.steps(score.beats), form.SECONDS)
    return score.in_steps(books)[:end], score.starts[score.starts < form.SECONDS]


def compose(generator, configs, seed: int, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """As `read`, of a piece of the score model, without what is not heard. configs: of the
    generators of codes, from the top level down.
    """
    labels, shares = known_labels(configs), choose_labels(configs, "")
    state = ScoreState.start(generator, 1, generator.config.sampling, None, False)
    level = ScoreLevel(generator, state, seed, Steering(), rate, labels,
                       lambda section: labels_of_section(labels, shares, seed, section))
    end = round(form.SECONDS * rate)
    level.compose(end)
    first, last = np.searchsorted(level.state.times, [0, end])
    starts = np.array([start for start, *_ in level.notes(0, end)]) / rate
    return level.state.codes[0, first:last], starts


def moves(codes: np.ndarray) -> np.ndarray:
    return melody.moves(*melody.top_line(codes))


def describe(sides: dict[str, list], training: Sequence[np.ndarray]) -> dict[str, float]:
    """The measures of form of scores by whose they are, and what they share with training lines."""
    figures, tops = {}, {}
    for who, pieces in sides.items():
        rows, tops[who] = [], []
        for codes, starts in pieces:
            steps, books = melody.top_line(codes)
            tops[who].append(np.full(len(codes), -1))
            tops[who][-1][steps] = books
            rows.append({**form.describe(codes[:, :-BANDS] >= STRUCK, tops[who][-1]),
                         "10 s windows with 2 to 8 notes a second": steady(starts)})
        figures |= {f"{name}, {who}": form.mean([row[name] for row in rows]) for name in rows[0]}
        figures[f"pieces with 2 to 8 notes a second throughout, {who}"] = form.mean(
            [float(steady(starts) == 1) for _, starts in pieces])
        loops = [form.longest_loop(moves(codes)) for codes, _ in pieces]
        figures |= {f"longest loop, notes, {who}": max(loops),
                    f"longest loop of a piece, notes, {who}": form.mean(loops),
                    f"longest run copied, notes, {who}": max(
                        1 + longest_shared(moves(codes), training) for codes, _ in pieces)}
    return figures | dict(form.return_rates(tops))


def steady(starts: np.ndarray) -> float:
    """The share of the whole 10 s, up to the last note, with as many notes as `STEADY`."""
    counts = np.bincount((starts // 10).astype(int))[: int(starts[-1:].sum() // 10)]
    return float(np.mean((counts >= STEADY[0]) & (counts <= STEADY[1]))) if len(counts) else 0.0


def past_bits(generator, tracks: Sequence[np.ndarray]) -> dict[str, float]:
    """Bits a step of the same steps of tracks, with little past and with much."""
    lengths = [STEPS_PER_BEAT * round(past * STEPS_PER_SECOND / STEPS_PER_BEAT) for past in PASTS]
    spans = [Span(CodeTrack(codes, len(codes)), start, COUNTED) for codes in tracks
             for start in range(lengths[-1] + STEPS_PER_BEAT, len(codes) - COUNTED, COUNTED)]
    return {f"bits a step with {past:g} s of past": bits for past, bits in zip(
        PASTS, generators.bits_after(generator, spans, lengths), strict=True)}
