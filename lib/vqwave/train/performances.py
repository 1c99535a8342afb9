"""A trained performer's codes for the training tracks, from which a decoder learns performances."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from ..data import scores
from ..data.codes import CodeTrack
from ..data.conditions import CONDITION_WINDOWS, Span
from ..errors import UserError
from ..io import manifest, weights
from ..nn.generator import Generator, load_generator
from ..progress import Reporter

PART = 2048
"""The number of frames in one call of the performer."""


def perform(folder, codec: weights.WeightSet, data_dir, tracks: Sequence[manifest.Track],
            say: Reporter) -> dict[str, np.ndarray]:
    """The codes that the performer in a folder makes from the score of each track, from the track's
    first sample on: {file: int16 [frames, books]}.

    Raises `UserError` if the folder has no performer of this codec's codes.
    """
    level = codec.config.level
    performer = weights.generators(folder, weights.chain(folder)).get(level)
    if performer is None or not performer.core.performs:
        raise UserError(f"{folder}: has no generator of level {level} that performs a score")
    weight_set = weights.find(folder, performer.name)
    if weight_set.record.get("codecs", {}).get(codec.name) != codec.codes_id:
        raise UserError(f"{weight_set.summary}: was trained on codes from a different codec than "
                        f"{codec.summary}; use the codec it was trained with")
    say(f"performances of {weight_set.summary}")
    model, played = load_generator(weight_set), scores.of_corpus(data_dir, tracks, say)
    return {track.file: _perform(model, track, played[track.file])
            for track in say.track(tracks, "performing")}


def _perform(model: Generator, track: manifest.Track, score: scores.Score) -> np.ndarray:
    """The codes of one track: int16 [frames, books]."""
    config = model.config
    frames = track.samples // config.level
    row = CodeTrack(np.zeros((frames, config.books), np.int16), frames, track=track, score=score)
    parts = []
    for start in range(0, frames, PART):
        spans = [Span(row, start, PART)]  # also at the end, because JAX compiles each length anew
        context = model.context({c.input: CONDITION_WINDOWS[c.kind](c, config, spans)[None]
                                 for c in config.conditions})
        codes, _ = model.core.step(None, context[0], [], lambda _, logits: ops.argmax(logits, -1))
        parts.append(np.asarray(codes, np.int16))
    return np.concatenate(parts)[:frames]
