"""The codec page: part of a recording, and how each codec of a folder reproduces it."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..dsp import notes
from ..errors import UserError
from ..io import audio
from ..report import judge
from . import limits
from .folders import Models
from .frames import frame, while_working
from .models import CompareRequest, Recording
from .pictures import BANDS, Spectrum, column

VERDICTS = ((0.9, "All of it stays."), (0.72, "The notes stay, fine detail is lost."),
            (0.5, "Much of the melody stays, blurred."))
"""The least share of notes kept, see `notes.compare`, and its description."""


class Comparisons:
    """The wav files of the latest comparisons, by id. Any thread may call every method."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.Lock()
        self._files: OrderedDict[str, dict[str, Path]] = OrderedDict()
        self._running = 0

    def compare(self, request: CompareRequest, recording: Recording, models: Models,
                folder: str) -> Iterator[bytes]:
        """Encode and decode part of a recording with every codec of a folder.

        Messages: {"progress"}, {"comparison"}, a {"sound"} each, {"end"}. A sound's payload is its
        samples, its spectrogram, then its codes frame by frame, if it has codes.
        """
        identity, files, music = secrets.token_urlsafe(12), {}, models.music
        rate, width = music.sample_rate, column(music.chain.sizes)

        def sound(samples: np.ndarray, more: dict | None = None, codes: np.ndarray | None = None,
                  name: str = "original") -> bytes:
            files[name] = self.folder / f"comparison-{secrets.token_hex(8)}.wav"
            audio.write(files[name], samples, rate)
            picture = Spectrum(rate, width).push(samples, last=True)
            about = {"name": name, "column": width, "bands": BANDS, "lowest": notes.LOWEST_MIDI,
                     "columns": len(picture)} | (more or {})
            parts = [audio.to_int16(samples).astype("<i2"), picture]
            return frame({"sound": about}, *parts,
                         *(() if codes is None else [codes.astype("<u2")]))

        with self._admitted():
            try:
                levels = _codec_levels(models)
                original = yield from while_working(lambda report: _read(
                    models, levels, recording, request.start, request.seconds, report))
                yield frame({"comparison": {
                    "id": identity, "rate": rate, "samples": len(original), "weights": folder,
                    "name": request.name or recording.name, "start": request.start}})
                yield sound(original)
                for i, level in enumerate(levels):
                    yield frame({"progress": f"Through the codec of level {level} and back",
                                 "share": i / len(levels)})
                    yield sound(*_through(models, level, original), name=str(level))
                self._keep(identity, files)
                yield frame({"end": {"id": identity}})
            finally:
                if identity not in self._files:
                    _remove(files)  # the browser left before the end

    @contextlib.contextmanager
    def _admitted(self):
        with self._lock:
            if self._running >= limits.COMPARISONS_AT_ONCE:
                raise UserError(
                    f"{self._running} recordings are going through the codecs here at this moment, "
                    f"which is all that this studio does at once: wait a little, then try again.")
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _keep(self, identity: str, files: dict[str, Path]):
        with self._lock:
            self._files[identity] = files
            while len(self._files) > limits.COMPARISONS_KEPT:
                _remove(self._files.popitem(last=False)[1])

    def path(self, identity: str, name: str) -> Path:
        """The wav file of a sound. Raises `UserError` if it is not here any more."""
        with self._lock:
            files = self._files.get(identity, {})
            if name not in files:
                raise UserError("That sound is not in this studio any more: listen to the codecs "
                                "again.")
            return files[name]


def _remove(files: dict[str, Path]):
    for path in files.values():
        path.unlink(missing_ok=True)


def _codec_levels(models: Models) -> list[int]:
    """The levels whose codecs are here."""
    levels = []
    for level, name in models.music.chain.codecs.items():
        with contextlib.suppress(UserError):
            models.music.weight_set(name)
            levels.append(level)
    if not levels:
        raise UserError("There are no codecs here to listen to.")
    return levels


def _read(models: Models, levels: list[int], recording: Recording, start: float, seconds: float,
          report) -> np.ndarray:
    """Load the codecs, and read part of the recording: float32 [samples]."""
    models.prepare((), tuple(levels), report)
    report(f"Reading {recording.name}")
    rate = models.music.sample_rate
    samples, _ = audio.part(recording.path, rate, round(start * rate), round(seconds * rate))
    if not samples.size:
        raise UserError(f"{recording.name} lasts {recording.seconds:.1f} s, so nothing is left "
                        f"of it from second {start:g} on.")
    return samples


def _through(models: Models, level: int, original: np.ndarray
             ) -> tuple[np.ndarray, dict, np.ndarray | None]:
    """A codec's copy of the original, what the page shows of it, and its codes."""
    codec, copies = models.music.codec(level), []
    figures = judge.judge(codec, [original], copies=copies)
    [(copy, codes)] = copies
    about = {"level": level, "figures": figures, "verdict": verdict(figures)}
    if not codec.config.has_codes:
        return copy, about, None
    shades = models.shades(level)
    return copy, about | {"codes": codes.size, "books": len(shades), "shades": shades}, codes


def verdict(figures: dict) -> str:
    """How much of the music a codec keeps, in words."""
    if figures["notes"] is None:
        return "This part is silent."
    for least, text in VERDICTS:
        if figures["notes"] >= least:
            return text
    return ("Chords stay, melody is lost." if figures["chroma"] >= 0.65
            else "Mood stays, melody is lost.")
