"""Sound from a folder whose training is finished or still running: continuations of tracks."""

import numpy as np

from ..errors import UserError
from ..io import audio, manifest
from .api import SILENT, VQWave

SECONDS, PROMPT_SECONDS = 20.0, 8.0
"""The length of a continuation, and of the prompt that it contains."""


def playable_level(music: VQWave) -> int:
    """The level at which the chain can end now: its default, or the last level before the first
    missing model. Raises `UserError` if the top level is missing.
    """
    chain, playable = music.chain, 0
    try:
        for level in (level for level in chain.sizes if level >= chain.ending):
            music.weight_set(chain.codecs[level])
            music.weight_set(chain.generator(level))
            playable = level
    except UserError as e:
        if not playable:
            raise UserError(f"there is nothing to hear yet: {e}") from e
    return playable


def continue_track(music: VQWave, data_dir, tracks: list[manifest.Track],
                   seed: int = 1) -> np.ndarray | None:
    """A continuation of the longest of some tracks, from a third of its length on: float32
    [samples]. None without tracks, or if the prompt is silent.
    """
    if not tracks:
        return None
    track, top = max(tracks, key=lambda track: track.samples), music.chain.top
    count = round(min(PROMPT_SECONDS, track.seconds / 2) * music.sample_rate) // top * top
    prompt = audio.from_u16(audio.read_window(track.path(data_dir), track.samples // 3 // top * top,
                                              count))
    if not count or np.abs(prompt).max() < SILENT:
        return None
    level = playable_level(music)
    return music.generate(level=level, seconds=SECONDS, seed=seed,
                          begin=music.prompt(prompt, level=level))
