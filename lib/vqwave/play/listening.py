"""What a training has learnt so far, to be heard: a piece by a seed that stays the same, and a
held-out track continued.
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
"""Of each sound, and of the track that a continuation begins with."""

MOST_LABELS = 4
"""Labels that have a piece of their own, at most."""


def playable_level(music: VQWave) -> int:
    """Where the chain can end: its own ending or, where generators are still missing, the last
    level before them.

    Raises:
        UserError: there is nothing to hear yet.
    """
    chain, found, missing = music.chain, None, None
    for level in chain.sizes:
        if level < chain.ending or missing:
            break
        try:
            music.weight_set(chain.codecs[level])
            music.weight_set(chain.generator(level))
            found = level
        except UserError as e:
            missing = e
    if found is None:
        raise UserError(f"there is nothing to hear yet: {missing}")
    return found


def hear(music: VQWave, data_dir, held_out: list[manifest.Track], seed: int = 1,
         seconds: float = SECONDS) -> dict[str, np.ndarray]:
    """{"piece", "continuation"}: float32 [samples]; no continuation where no track is held out, or
    what it would begin with is silent. Of weights with labels also "piece_LABEL" of each.

    The continued track is the longest held-out one, from a third of its length.
    """
    level = playable_level(music)
    made = {"piece": music.generate(level=level, seconds=seconds, seed=seed)}
    known = music.weight_set(music.chain.generator(music.chain.top)).config.labels
    for label in known.names[:MOST_LABELS] if known else ():
        name = re.sub(r"[^\w-]+", "_", label)
        made[f"piece_{name}"] = music.generate(
            level=level, seconds=seconds, seed=seed, chosen={known.input: label})
    if not held_out:
        return made
    track = max(held_out, key=lambda t: t.samples)
    top, rate = music.chain.top, music.sample_rate
    wanted = min(PROMPT_SECONDS, seconds / 2, track.seconds / 2)
    count = round(wanted * rate) // top * top
    start = track.samples // 3 // top * top
    sound = audio.from_u16(audio.read_window(track.path(data_dir), start,
                                             min(count, track.samples - start)))
    if len(sound) < top or np.abs(sound).max() < SILENT:
        return made
    made["continuation"] = music.generate(level=level, seconds=seconds, seed=seed,
                                          begin=music.prompt(sound, level=level))
    return made


def save(sounds: dict[str, np.ndarray], sample_rate: int, folder, name: str) -> list[Path]:
    """Each sound as `folder`/name_KEY.ogg; returns the files."""
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

        # TensorBoard's writer of whole event files imports TensorFlow; this one needs none.
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        return False
    import soundfile

    values = []
    for key, sound in sounds.items():
        file = io.BytesIO()
        soundfile.write(file, audio.to_int16(sound), sample_rate, format="WAV", subtype="PCM_16")
        heard = summary_pb2.Summary.Audio(
            sample_rate=sample_rate, num_channels=1, length_frames=len(sound),
            encoded_audio_string=file.getvalue(), content_type="audio/wav")
        values.append(summary_pb2.Summary.Value(tag=key, audio=heard))
    now = time.time()
    path = make_folder(folder) / f"events.out.tfevents.{now:.0f}.{os.getpid()}.heard"
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for event in (event_pb2.Event(wall_time=now, file_version="brain.Event:2"),
                      event_pb2.Event(wall_time=now, step=step,
                                      summary=summary_pb2.Summary(value=values))):
            writer.write(event.SerializeToString())
    return True
