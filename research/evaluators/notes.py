"""How generated music uses notes, and whether a continuation stays with its prompt.

Note statistics are deaf to timing finer than a frame of the transform and to timbre.
"""

from collections.abc import Iterable

import numpy as np

from vqwave.dsp import notes
from vqwave.play.api import SILENT
from vqwave.play.stream import AS_COMPOSED

from .. import note_statistics
from ..corpus import cached

PIECE_SECONDS = 60.0  # length of a piece that is portrayed


def run(corpus) -> Iterable[tuple[str, float]]:
    """Divergences of note statistics, in bits; continuations nearer to their own track."""
    if own := portray_tracks(corpus, corpus.tracks):
        mean = average([note_statistics.divergences(own, portray_piece(corpus, seed))
                        for seed in corpus.plan.seeds])
        for statistic in note_statistics.STATISTICS:
            yield f"divergence of the chain's {statistic}", mean[statistic]
        # Two bounds hold for one figure: too few notes a second, and too many.
        yield "notes a second of the chain's strongest line", mean["line"]
        yield "notes a second of the chain's strongest line, at most", mean["line"]
        yield "similarity of the chain's harmony a second later", mean["alike"]
        yield f"notes a second, {corpus.side} tracks", own["line"]
        for side, tracks in (("training", corpus.train), ("validation", corpus.validation)):
            if side != corpus.side and (other := portray_tracks(corpus, tracks)):
                row = note_statistics.divergences(own, other)
                for statistic in note_statistics.STATISTICS:
                    yield f"divergence of {statistic}, {side} tracks", row[statistic]
                yield f"notes a second, {side} tracks", row["line"]
    profiles = continue_prompts(corpus)
    if len(set(profiles["tracks"])) > 1:
        for name, side in (("continuations", "generated"), ("prompts", "prompts")):
            yield (f"{name} nearer to their own track than to another, share of pairs",
                   100 * share_won(profiles[side], profiles["real"], profiles["tracks"]))


def piece_seconds(corpus) -> float:
    """The length of what is portrayed: a minute, or what tracks and pieces allow."""
    return min(PIECE_SECONDS, 60 * corpus.plan.minutes, max(t.seconds for t in corpus.tracks))


@cached("tracks", "plan")
def portray_tracks(corpus, tracks) -> dict | None:
    """The mean portrait of tracks; None where no track is long enough."""
    return average([portrait for track in tracks for portrait in portraits(
        corpus.samples(track), corpus.rate, piece_seconds(corpus))])


@cached("music", "tracks", "plan")
def portray_piece(corpus, seed: int) -> dict:
    return average(portraits(corpus.sound(seed), corpus.rate, piece_seconds(corpus)))


def portraits(audio, sample_rate: int, seconds: float) -> list[dict]:
    """A `portrait` of each whole piece of `seconds` of a signal."""
    count = round(seconds * sample_rate)
    return [note_statistics.portrait(audio[i : i + count], sample_rate)
            for i in range(0, len(audio) - count + 1, count)]


def profile(audio, sample_rate: int) -> np.ndarray:
    """How much each pitch class sounds: float64 [12] of unit length, C first; zeros for silence."""
    total = sum(notes.chroma(block).sum(axis=0, dtype=np.float64)
                for block in notes.constant_q(audio, sample_rate))
    return total / max(float(np.linalg.norm(total)), 1e-9)


def average(pieces: list[dict]) -> dict | None:
    """The mean of portraits or divergences, arrays as lists; None of none."""
    return {key: np.asarray(value).tolist()
            for key, value in note_statistics.average(pieces).items()} if pieces else None


@cached("music", "tracks", "plan")
def continue_prompts(corpus) -> dict:
    """Pitch-class profiles of prompts, of their real and of their generated continuations:
    {"prompts", "real", "generated": [[12]], "tracks": the number of each prompt's track}.
    """
    plan, music, chain = corpus.plan, corpus.music, corpus.music.chain
    length = max(1, round(plan.prompt_seconds * corpus.rate / chain.top)) * chain.top
    profiles = {"prompts": [], "real": [], "generated": [], "tracks": []}
    for number, track in enumerate(corpus.tracks):
        count = len(range(number, plan.continuations, len(corpus.tracks)))
        free = track.samples - 2 * length
        for place in range(count if free >= 0 else 0):
            x = corpus.samples(track, free * (place + 1) // (count + 1), 2 * length)
            if np.abs(x[:length]).max() < SILENT:
                continue
            done = len(profiles["tracks"])
            corpus.progress("continuations", done / plan.continuations)
            with music.stream(level=plan.depth, samples=2 * length, seed=plan.seeds[0] + done,
                              begin=music.prompt(x[:length], level=plan.depth), **AS_COMPOSED,
                              sampling=corpus.plan.sampling) as stream:
                sound = np.concatenate(list(stream))
            for name, part in (("prompts", x[:length]), ("real", x[length:]),
                               ("generated", sound[length:])):
                profiles[name].append(profile(part, corpus.rate).tolist())
            profiles["tracks"].append(number)
    return profiles


def share_won(generated, real, tracks) -> float:
    """The share of pairs of different tracks in which a profile is nearer, by cosine, to its own
    track's real profile than to the other's. A tie counts half.
    """
    similarity, tracks = np.asarray(generated) @ np.asarray(real).T, np.asarray(tracks)
    own = np.diag(similarity)[:, None]
    pairs = tracks[:, None] != tracks[None]
    return float(((own > similarity) + 0.5 * (own == similarity))[pairs].mean())
