"""Whether a codec serves music that it was not trained on: how much comes back of held-out tracks,
and a verdict.

What a codec should reach is what it reaches at home, on held-out tracks of the music that it was
trained on, where its set's YAML has that (`test-codec --note` writes it); else `BOUNDS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..config import CodecConfig
from ..dsp import metrics, notes
from ..errors import UserError
from ..io import audio, manifest, splits, weights
from ..io.files import printable
from ..play.engine import CodecEngine
from . import fad

EXCERPT, MOST = 20.0, 120.0
"""Seconds of a track at least, from a third of its length, and of all tracks together at most."""

BOUNDS = {"notes": 0.6, "mel": 0.7, "distance": 40.0}
"""What a codec must reach where it is not known what it does at home. Chance keeps 0.24 of the
notes.
"""
OF_HOME = {"notes": 0.9, "mel": 1.25, "distance": 1.5}
"""Or so many times what it does at home."""
HIGHER = ("notes",)
"""The figures of which more is better."""
LEAST_SECONDS = 60.0
"""Distances of less sound read too high, and are in no verdict."""
NAMED = 3
"""Tracks that a line names at most."""
KEY = "held_out"
"""Of a set's record: what the codec does at home."""


@dataclass(frozen=True)
class Verdict:
    """Whether a codec serves, and in words what it lacks (empty where it serves)."""

    serves: bool
    lacks: str = ""


def excerpts(data_dir, tracks: Sequence[manifest.Track], spans: dict[str, tuple[int, int]]
             ) -> list[np.ndarray]:
    """The sounds of `excerpts_of`."""
    return [sound for _, sound in excerpts_of(data_dir, tracks, spans)]


def excerpts_of(data_dir, tracks: Sequence[manifest.Track], spans: dict[str, tuple[int, int]],
                each: float | None = None) -> list[tuple[manifest.Track, np.ndarray]]:
    """As many seconds of what sounds of each track, until there are `MOST` in all: each with its
    track, float32 [samples].

    Args:
        spans: (first sample, end) of what sounds, by track file.
        each: seconds of a track; None: `EXCERPT`, or of few tracks more, for two excerpts say
            little.

    Raises:
        UserError: nothing sounds in them.
    """
    each = each or max(EXCERPT, MOST / max(1, len(tracks)))
    made: list[tuple[manifest.Track, np.ndarray]] = []
    # In an order of their own, so that an alphabet's first albums do not speak for all.
    for track in sorted(tracks, key=lambda t: hashlib.sha256(t.sha256.encode()).digest()):
        rate, (first, end) = track.sample_rate, spans[track.file]
        left = round(MOST * rate) - sum(len(one) for _, one in made)
        count = min(round(each * rate), end - first, left)
        if count <= 0:
            continue
        start = min(first + (end - first) // 3, end - count)
        sound = audio.from_u16(audio.read_window(track.path(data_dir), start, count))
        if np.var(sound) > metrics.SILENCE_POWER:
            made.append((track, sound))
    if not made:
        raise UserError(f"{data_dir}: the tracks that codecs would be judged by are silent")
    return made


def measure(codec: CodecEngine, sounds: Sequence[np.ndarray], embed: fad.Embedder | None = None,
            report: Callable[[float], None] = lambda share: None,
            labels: Sequence[str | None] | None = None) -> dict:
    """What comes back of some music from a codec: see `compare`.

    Args:
        sounds: float32 [samples] each, at the codec's rate.
        labels: what each is, for a codec that was trained with labels.
    """
    def pairs():
        for done, sound in enumerate(sounds):
            report(done / len(sounds))
            yield sound, copy(codec, sound, labels[done] if labels else None)

    return compare(pairs(), codec.config.sample_rate, embed)


def copy(codec: CodecEngine, sound: np.ndarray, label: str | None = None) -> np.ndarray:
    """What comes back of a sound: float32 [samples] -> [samples]. label: what it is, see
    `CodecEngine`.
    """
    return codec.decode(codec.encode(sound[None], label), label)[0, : len(sound)]


def compare(pairs: Iterable[tuple[np.ndarray, np.ndarray]], sample_rate: int,
            embed: fad.Embedder | None = None) -> dict:
    """How near copies come to their originals: {"notes", "chroma", "sc_db", "mel", "si_sdr_db",
    "distance", "seconds"}; means over the sounds, each as long as it counts.

    Args:
        pairs: (original, copy), float32 [samples] each.
        embed: None leaves out the Fréchet distance: it is None then, as where there are fewer than
            two patches of sound.
    """
    rows, patches, lengths = [], [], []
    for sound, made in pairs:
        rows.append(notes.compare(sound, made, sample_rate)
                    | metrics.distances(sound, made, sample_rate))
        lengths.append(len(sound))
        if embed:
            patches.append((embed(sound, sample_rate), embed(made, sample_rate)))
    found: dict = {key: float(np.average([row[key] for row in rows], weights=lengths))
                   for key in rows[0]}
    found |= {"distance": None, "seconds": sum(lengths) / sample_rate}
    if sum(len(original) for original, _ in patches) >= 2:
        originals, copies = (np.concatenate(side) for side in zip(*patches, strict=True))
        found["distance"] = fad.frechet(copies, originals)
    return found


def judge(figures: dict, home: dict | None = None) -> Verdict:
    """Whether `figures` of `measure` are good enough; home: the same of the codec at home."""
    lacks = []
    for key, bound in BOUNDS.items():
        value, at_home = figures[key], (home or {}).get(key)
        if key == "distance" and min(figures["seconds"],
                                     (home or figures)["seconds"]) < LEAST_SECONDS:
            continue
        if value is None:
            continue
        wanted = bound if at_home is None else OF_HOME[key] * at_home
        if value < wanted if key in HIGHER else value > wanted:
            lacks.append(f"{key} {value:.3g}, wanted {wanted:.3g}")
    return Verdict(not lacks, "; ".join(lacks))


def judged(found: weights.WeightSet, figures: dict, home: dict | None = None) -> dict:
    """A codec's row: `figures` of `measure` with "model", "serves" and "lacks". home: what it is
    held to, None for what its set says.
    """
    verdict = judge(figures, home or home_of(found))
    return {"model": found.name} | figures | {"serves": verdict.serves, "lacks": verdict.lacks}


def home_of(found: weights.WeightSet) -> dict | None:
    """What a codec does at home, as its set says; None where it does not."""
    home = found.record.get(KEY)
    if not isinstance(home, dict) or not {"notes", "mel", "distance", "seconds"} <= set(home):
        return None
    return home


def known(found: weights.WeightSet, tracks: Iterable[manifest.Track]) -> list[str] | None:
    """The names of those of `tracks` that a model, or the codecs it learnt from, were trained on;
    None where its record names no tracks.
    """
    met = found.met
    return None if met is None else [splits.track_name(t) for t in tracks if t.sha256[:16] in met]


def overlaps(sets: Iterable[weights.WeightSet], held_out: Sequence[manifest.Track]) -> list[str]:
    """A line for each model that knows some of the tracks that are held out; see `known`."""
    return [f"{found.name}{'' if isinstance(found.config, CodecConfig) else ', or its codec,'} was "
            f"trained on {len(met)} of the {len(held_out)} held-out tracks "
            f"({', '.join(map(printable, met[:NAMED]))}{', …' * (len(met) > NAMED)}): of music "
            f"that it knows, its figures say little"
            for found in sets if (met := known(found, held_out))]


def load_embedder(musicnn=None, say: Callable[[str], None] = print) -> fad.Embedder | None:
    """What hears how alike recordings are; None, and a line, where it cannot be had. musicnn: see
    `fad.checkpoint`; what is named must be there.
    """
    try:
        return fad.load(musicnn)
    except UserError as e:
        if musicnn is not None:
            raise
        say(f"distances are left out: {e}")
        return None


HEAD = ("codec", "notes kept", "mel", "distance", "verdict")


def cells(row: dict) -> tuple[str, ...]:
    """A row of `judged` as a table under `HEAD` has it."""
    return (row["model"], f"{row['notes']:.2f}", f"{row['mel']:.2f}",
            "–" if row["distance"] is None else f"{row['distance']:.1f}",
            "serves" if row["serves"] else f"does not serve: {row['lacks']}")


def table(rows: Sequence[dict]) -> list[str]:
    """Lines of a table of `judged` codecs."""
    lines = [HEAD, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join([f"{name:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in
                                                 zip(figures, widths[1:], strict=False)), said])
            for name, *figures, said in lines]
