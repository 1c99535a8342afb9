"""The codes of trained performers for the training tracks, for a decoder to learn performances."""

import itertools
from collections.abc import Sequence

import numpy as np

from ..data import scores
from ..data.codes import CodeTrack
from ..data.windows import Span, Window
from ..errors import UserError
from ..generators.generator_layer import Generator, load_generator
from ..io import manifest, weights
from ..levels import level_name
from ..progress import Reporter

PART = 2048
"""The number of frames in one call of the performer."""


def perform(folder, codec: weights.WeightSet, data_dir, tracks: Sequence[manifest.Track],
            say: Reporter) -> dict[str, np.ndarray]:
    """The codes that the performers in a folder make from the score of each track, from the track's
    first sample on: {file: int16 [frames, books]}. The top performer reads the score, and each
    performer below reads the codes of the performer above. A track has the same noise each time.

    Raises `UserError` if the folder has no performers down to this codec's codes.
    """
    weight_sets = _find_performers(folder, codec)
    say("performances of " + ", ".join(weight_set.summary for weight_set in weight_sets))
    models = [load_generator(weight_set) for weight_set in weight_sets]
    played = scores.of_corpus(data_dir, tracks, say)
    performed = {}
    for track in say.track(tracks, "performing"):
        codes = None
        for model in models:
            random = np.random.default_rng([int(track.sha256[:8], 16), model.config.level])
            codes = _perform(model, track, played[track.file], codes, random)
        performed[track.file] = codes
    return performed


def _find_performers(folder, codec: weights.WeightSet) -> list[weights.WeightSet]:
    """The performers from the top level down to a codec's."""
    in_folder = weights.generators(folder, weights.chain(folder))
    found: list[weights.WeightSet] = []
    level = codec.config.level
    while level:
        performer = in_folder.get(level)
        if performer is None or not performer.core.performs:
            raise UserError(f"{folder}: has no generator of {level_name(level)} that performs")
        found.insert(0, weights.find(folder, performer.name))
        level = performer.source_level
    learnt = [performer.record.get("codecs", {}) for performer in found]  # {codec: id of its codes}
    if learnt[-1].get(codec.name) != codec.codes_id:
        raise UserError(f"{found[-1].summary}: was trained on codes from a different codec than "
                        f"{codec.summary}; use the codec it was trained with")
    for number, (upper, lower) in enumerate(itertools.pairwise(learnt)):
        if any(lower.get(name, codes) != codes for name, codes in upper.items()):
            raise UserError(f"{found[number].summary} and {found[number + 1].name}: were trained "
                            f"on codes from different codecs")
    return found


def _perform(model: Generator, track: manifest.Track, score: scores.Score,
             above: np.ndarray | None, random: np.random.Generator) -> np.ndarray:
    """The codes of one track: int16 [frames, books]. above: those of the level above, or None."""
    config = model.config
    frames = track.samples // config.level
    part = PART - PART % max(1, config.ratio)  # whole frames of the level above
    row = CodeTrack(np.zeros((frames, config.books), np.int16), frames, above,
                    0 if above is None else len(above), track=track, score=score)
    draws = random.random((-(-frames // part) * part, config.books), np.float32) - 0.5
    noise = model.core.noise_of(min(config.sampling.temperature, 1.0) * draws)
    parts = []
    window = Window(config, [Span(row, 0, frames)])
    for start in range(0, frames, part):  # whole parts, because JAX compiles each length anew
        context = model.context({c.input: c.rows(window, start, part) for c in config.conditions})
        parts.append(model.core.played(context, noise[start : start + part]))
    return np.concatenate(parts)[:frames]
