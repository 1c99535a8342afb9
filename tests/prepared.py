"""Data folders as prepare_audio.py leaves them; reporters and results of trainings."""

import hashlib
import math

import numpy as np

from vqwave.io import audio, manifest, weights
from vqwave.progress import SilentReporter


class RecordingReporter(SilentReporter):
    def __init__(self, at_step=None):
        super().__init__()
        self.lines, self.steps, self.at_step = [], [], at_step

    def __call__(self, line):
        self.lines.append(line)

    def advance(self, done, loss=None):
        super().advance(done, loss)
        if loss is not None:
            self.steps.append(done)
            if self.at_step:
                self.at_step(done)

    @property
    def text(self):
        return "\n".join(self.lines)


def data_folder(folder, sounds, sample_rate=22050):
    """Write float [samples] in `sounds`, by track name, as tracks of `folder`; returns its tracks. The
    music was at /music/NAME.ogg, where a name may begin with a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tracks = []
    for name, sound in sounds.items():
        values, file = audio.to_u16(sound), f"{name.replace('/', ' ')}.ogg.u16"
        (folder / file).write_bytes(values.astype("<u2").tobytes())
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        tags = dict.fromkeys(manifest.TAGS)
        tracks.append(manifest.Track(file, f"/music/{name}.ogg", sample_rate, len(values), digest, tags))
    manifest.write(folder, tracks)
    return tracks


def save_numbers(folder, model, tag="", number=1.0, record=None, **more):
    """A weights set of a model, of which nothing plays: each file holds one number."""
    folder.mkdir(exist_ok=True)
    parts = {part: {"a": np.full(3, number, np.float32)} for part in weights.parts_of(model)}
    weights.save(folder, model.name, tag, parts, model, record, **more)


def music(seconds, seed=0, sample_rate=22050):
    """float32 [samples]: notes with overtones and a little noise, so that a model can learn them."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = 0.01 * random.normal(size=t.size)
    for begin in np.arange(0, seconds, 0.25):
        here = (t >= begin) & (t < begin + 0.4)
        pitch = 220 * 2 ** (random.integers(0, 24) / 12)
        tail = np.exp(-8 * (t[here] - begin))
        for overtone in (1, 2, 3):
            sound[here] += 0.2 / overtone * tail * np.sin(2 * math.pi * overtone * pitch * t[here])
    return np.clip(sound, -1, 1).astype(np.float32)


def assert_same_sets(folder, other, name):
    """Two trainings of three epochs saved the same weights."""
    tags = ["00001", "00002", "00003", "best"]
    assert weights.tags(folder, name) == weights.tags(other, name) == tags
    for tag in tags:
        a, b = weights.find(folder, name, tag), weights.find(other, name, tag)
        for part in a.files:
            for key, array in a.load(part).items():
                np.testing.assert_allclose(array, b.load(part)[key], 1e-6, 1e-6, err_msg=key)
