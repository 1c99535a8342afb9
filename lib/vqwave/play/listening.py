"""Sounds of a training's progress: a piece of a fixed seed, a continued held-out track."""

from __future__ import annotations

import io
import os
import re
import time
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..io import audio, manifest
from ..io.files import make_folder
from .api import SILENT, VQWave

SECONDS, PROMPT_SECONDS = 20.0, 8.0
"""Length of each sound, and of the part of a track that is continued."""

MOST_LABELS = 4
"""Labels with a piece each, at most."""


def playable_level(music: VQWave) -> int:
    """The level at which the chain can end now: its own, or the last level before a generator that
    is still missing. Raises `UserError` where nothing can be played yet.
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


def hear(music: VQWave, data_dir, held_out: list[manifest.Track], seed: int = 1,
         seconds: float = SECONDS) -> dict[str, np.ndarray]:
    """{"piece", "continuation"}: float32 [samples], and "piece_LABEL" of weights with labels.

    The continuation follows the longest held-out track, from a third of its length. It is missing
    if no track is held out or that part is silent.
    """
    options = {"level": playable_level(music), "seconds": seconds, "seed": seed}
    sounds = {"piece": music.generate(**options)}
    labels = music.weight_set(music.chain.generator(music.chain.top)).config.labels
    for label in labels.names[:MOST_LABELS] if labels else ():
        name = re.sub(r"[^\w-]+", "_", label)
        sounds[f"piece_{name}"] = music.generate(**options, label=label)
    if not held_out:
        return sounds
    track, top = max(held_out, key=lambda track: track.samples), music.chain.top
    length = min(PROMPT_SECONDS, seconds / 2, track.seconds / 2)
    count = round(length * music.sample_rate) // top * top
    prompt = audio.from_u16(audio.read_window(track.path(data_dir), track.samples // 3 // top * top,
                                              count))
    if count and np.abs(prompt).max() >= SILENT:
        sounds["continuation"] = music.generate(
            **options, begin=music.prompt(prompt, level=options["level"]))
    return sounds


def save(sounds: dict[str, np.ndarray], sample_rate: int, folder, name: str) -> list[Path]:
    """Write each sound as `folder`/name_KEY.ogg; returns the files."""
    folder = make_folder(folder)
    paths = [folder / f"{name}_{key}.ogg" for key in sounds]
    for path, sound in zip(paths, sounds.values(), strict=True):
        audio.write(path, sound, sample_rate)
    return paths


def show_in_tensorboard(sounds: dict[str, np.ndarray], sample_rate: int, folder, step: int):
    """Add the sounds to a TensorBoard folder, where TensorBoard is installed."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        # TensorBoard's other writers import TensorFlow.
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return
    import soundfile

    values = []
    for key, sound in sounds.items():
        file = io.BytesIO()
        soundfile.write(file, audio.to_int16(sound), sample_rate, format="WAV", subtype="PCM_16")
        values.append(summary_pb2.Summary.Value(tag=key, audio=summary_pb2.Summary.Audio(
            sample_rate=sample_rate, num_channels=1, length_frames=len(sound),
            encoded_audio_string=file.getvalue(), content_type="audio/wav")))
    now = time.time()
    with open(make_folder(folder) / f"events.out.tfevents.{now:.0f}.{os.getpid()}.heard",
              "wb") as file:
        writer = RecordWriter(file)
        for content in ({"file_version": "brain.Event:2"},
                        {"step": step, "summary": summary_pb2.Summary(value=values)}):
            writer.write(event_pb2.Event(wall_time=now, **content).SerializeToString())
