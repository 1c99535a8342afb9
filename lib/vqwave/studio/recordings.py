"""The recordings of a studio: uploads, clips of the checkout, and passages of takes."""

import hashlib
import io
import shutil
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import soundfile

from ..errors import UserError
from ..io import audio, files, weights
from ..play import api, midi_files
from . import limits
from .requests import NO_RECORDING, Recording

CLIPS = {
    "love_theme": ("docs/results/wesnoth/original.ogg", "Love Theme (Ryan Reilly)"),
    "seed_1": ("docs/results/vqwave/seed_1.ogg", "Made by VQWave, 1"),
    "seed_2": ("docs/results/vqwave/seed_2.ogg", "Made by VQWave, 2"),
}
"""Recordings of the checkout; NOTICE has their terms."""
TOO_LONG = f"longer than {limits.LONGEST_RECORDING / 60:g} minutes; cut it first."
OUTLINE = 600
"""The number of points in the picture of a recording."""


class Recordings:
    """Recordings by id, a hash of their content. Any thread may call every method.

    rate: the sample rate of decoding. shortest: the least samples of a recording.
    """

    def __init__(self, folder: Path, rate: int, shortest: int):
        self.folder, self.rate, self.shortest = folder, rate, shortest
        self._lock = threading.Lock()
        self._recordings: OrderedDict[str, Recording] = OrderedDict()

    def receive(self, path, name: str | None = None) -> Recording:
        """Keep a copy of a file. Raises `UserError` unless it is audio of an accepted length, or a
        MIDI file.
        """
        path = Path(path)
        name = files.printable(Path(name or path.name).name)[:200]
        with open(path, "rb") as file:
            identity = hashlib.file_digest(file, "sha256").hexdigest()[:24]
        if identity not in self._recordings:
            try:
                measure = self._measure_midi if midi_files.is_midi(name) else self._measure
                seconds, outline = measure(path, name)
            except UserError as e:
                # The user knows the file by another name.
                raise UserError(str(e).replace(files.printable(path), name)) from e
            copy = self.folder / f"recording-{identity}{Path(name).suffix[:8]}"
            shutil.copyfile(path, copy)
            with self._lock:
                self._recordings[identity] = Recording(id=identity, name=name, seconds=seconds,
                                                       outline=outline, path=copy)
                self._evict()
        return self.get(identity, name)

    def _measure(self, path: Path, name: str) -> tuple[float, tuple[int, ...]]:
        """The length in seconds and the outline of an audio file."""
        samples, peaks = 0, []
        for block in audio.Decoder(path, self.rate):
            samples += block.size
            peaks += [float(np.abs(part).max()) for part in
                      np.split(block, range(2048, len(block), 2048)) if part.size]
            if samples > limits.LONGEST_RECORDING * self.rate:
                raise UserError(f"{name}: {TOO_LONG}")
        if samples < self.shortest:
            raise UserError(f"{name}: too short: {samples} samples, {self.shortest} needed.")
        if max(peaks) < api.SILENT:
            raise UserError(f"{name}: is silent.")
        # The peaks in at most `OUTLINE` equal parts, 0 … 255.
        parts = np.array_split(np.minimum(peaks, 1), min(OUTLINE, len(peaks)))
        return samples / self.rate, tuple(round(255 * float(part.max())) for part in parts)

    def _measure_midi(self, path: Path, name: str) -> tuple[float, tuple[int, ...]]:
        """The length in seconds of a MIDI file, and how many notes sound over time."""
        score = midi_files.read(path)
        seconds = float(score.ends.max())
        if seconds > limits.LONGEST_RECORDING:
            raise UserError(f"{name}: {TOO_LONG}")
        times = np.linspace(0, seconds, OUTLINE)[:, None]
        notes = np.sum((score.starts <= times) & (times < score.ends), axis=1)
        return seconds, tuple(np.rint(255 * notes / max(1, notes.max())).astype(int).tolist())

    def _evict(self):
        """Remove the oldest recordings and their files until the limits hold."""
        sizes = {key: r.path.stat().st_size for key, r in self._recordings.items()}
        while len(sizes) > 1 and (sum(sizes.values()) > limits.UPLOADS_BYTES
                                  or len(sizes) > limits.RECORDINGS_KEPT):
            oldest = self._recordings.popitem(last=False)[1]
            del sizes[oldest.id]
            oldest.path.unlink()

    def get(self, identity: str, name: str = "") -> Recording:
        """A recording, with the user's name for it. Raises `UserError` if it is missing."""
        if not identity:
            raise UserError(NO_RECORDING)
        with self._lock:
            if identity not in self._recordings:
                raise UserError(f"{name or 'The recording'} is not in this studio (any more): drop "
                                f"it in again.")
            self._recordings.move_to_end(identity)
            recording = self._recordings[identity]
        return recording.model_copy(update={"name": name or recording.name})

    def rename_files(self, text: str) -> str:
        """`text` with the users' names of recordings instead of the paths of their copies."""
        with self._lock:
            for recording in self._recordings.values():
                text = text.replace(files.printable(recording.path), recording.name)
        return text

    def clips(self) -> dict[str, str]:
        """{id: name} of the clips that exist."""
        return {key: name for key, (path, name) in CLIPS.items()
                if (weights.CHECKOUT / path).is_file()}

    def clip(self, key: str) -> Recording:
        if key not in self.clips():
            raise UserError("There is no such clip here.")
        path, name = CLIPS[key]
        return self.receive(weights.CHECKOUT / path, name)

    def excerpt(self, identity: str, start: float, seconds: float) -> bytes:
        """Part of a recording as a wav file."""
        samples = audio.read_excerpt(self.get(identity).path, self.rate, start, seconds)
        wav = io.BytesIO()
        soundfile.write(wav, audio.to_int16(samples), self.rate, format="WAV")
        return wav.getvalue()
