"""Sounds of a training's progress: a piece of a fixed seed, and the continuation of a held-out
track.
"""

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
    chain, last, missing = music.chain, None, None
    for level in chain.sizes:
        if level < chain.ending or missing:
            break
        try:
            music.weight_set(chain.codecs[level])
            music.weight_set(chain.generator(level))
            last = level
        except UserError as e:
            missing = e
    if last is None:
        raise UserError(f"there is nothing to hear yet: {missing}")
    return last


def hear(music: VQWave, data_dir, held_out: list[manifest.Track], seed: int = 1,
         seconds: float = SECONDS) -> dict[str, np.ndarray]:
    """{"piece", "continuation"}: float32 [samples], and "piece_LABEL" of weights with labels.

    Continued is the longest held-out track, from a third of its length; there is no continuation
    where no track is held out, or that part is silent.
    """
    options = {"level": playable_level(music), "seconds": seconds, "seed": seed}
    sounds = {"piece": music.generate(**options)}
    labels = music.weight_set(music.chain.generator(music.chain.top)).config.labels
    for label in labels.names[:MOST_LABELS] if labels else ():
        name = re.sub(r"[^\w-]+", "_", label)
        sounds[f"piece_{name}"] = music.generate(**options, chosen={labels.input: label})
    sound = held_out_part(music, data_dir, held_out, seconds) if held_out else np.zeros(0)
    if len(sound) >= music.chain.top and np.abs(sound).max() >= SILENT:
        sounds["continuation"] = music.generate(
            **options, begin=music.prompt(sound, level=options["level"]))
    return sounds


def held_out_part(music: VQWave, data_dir, held_out: list[manifest.Track],
                  seconds: float) -> np.ndarray:
    """The part of the longest held-out track that a piece of so many seconds continues."""
    track = max(held_out, key=lambda t: t.samples)
    top = music.chain.top
    length = min(PROMPT_SECONDS, seconds / 2, track.seconds / 2)
    count = round(length * music.sample_rate) // top * top
    start = track.samples // 3 // top * top
    return audio.from_u16(audio.read_window(track.path(data_dir), start,
                                            min(count, track.samples - start)))


def save(sounds: dict[str, np.ndarray], sample_rate: int, folder, name: str) -> list[Path]:
    """Write each sound as `folder`/name_KEY.ogg; returns the files."""
    folder = make_folder(folder)
    paths = []
    for key, sound in sounds.items():
        paths.append(folder / f"{name}_{key}.ogg")
        audio.write(paths[-1], sound, sample_rate)
    return paths


def show_in_tensorboard(sounds: dict[str, np.ndarray], sample_rate: int, folder, step: int) -> bool:
    """Add the sounds to a TensorBoard folder; False where TensorBoard is not installed."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        # TensorBoard's other writers import TensorFlow.
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return False
    import soundfile

    values = []
    for key, sound in sounds.items():
        file = io.BytesIO()
        soundfile.write(file, audio.to_int16(sound), sample_rate, format="WAV", subtype="PCM_16")
        summary = summary_pb2.Summary.Audio(
            sample_rate=sample_rate, num_channels=1, length_frames=len(sound),
            encoded_audio_string=file.getvalue(), content_type="audio/wav")
        values.append(summary_pb2.Summary.Value(tag=key, audio=summary))
    now = time.time()
    path = make_folder(folder) / f"events.out.tfevents.{now:.0f}.{os.getpid()}.heard"
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for event in (event_pb2.Event(wall_time=now, file_version="brain.Event:2"),
                      event_pb2.Event(wall_time=now, step=step,
                                      summary=summary_pb2.Summary(value=values))):
            writer.write(event.SerializeToString())
    return True
