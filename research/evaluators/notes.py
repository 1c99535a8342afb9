"""Whether a continuation stays with its prompt, by pitch class. Deaf to timing and to timbre."""

from collections.abc import Iterable

import numpy as np

from vqwave.dsp import notes
from vqwave.play.api import SILENT
from vqwave.play.stream import AS_COMPOSED

from ..corpus import cached


def run(corpus) -> Iterable[tuple[str, float]]:
    """The share of pairs of tracks in which a continuation is nearer to its own track."""
    profiles = continue_prompts(corpus)
    if len(set(profiles["tracks"])) > 1:
        for name, side in (("continuations", "generated"), ("prompts", "prompts")):
            yield (f"{name} nearer to their own track than to another, share of pairs",
                   100 * share_won(profiles[side], profiles["real"], profiles["tracks"]))


def profile(audio, sample_rate: int) -> np.ndarray:
    """How much each pitch class sounds: float64 [12] of unit length, C first; zeros for silence."""
    total = sum(notes.chroma(block).sum(axis=0, dtype=np.float64)
                for block in notes.constant_q(audio, sample_rate))
    return total / max(float(np.linalg.norm(total)), 1e-9)


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
