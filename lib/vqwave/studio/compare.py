"""The codec page: part of a recording, and how each codec of a folder reproduces it."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

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
"""The least share of notes kept, see `notes.compare`, and what to call it."""


class Comparisons:
    """The latest comparisons by id. Any thread may call every method."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.Lock()
        self._comparisons: OrderedDict[str, Comparison] = OrderedDict()
        self._running = 0

    def compare(self, request: CompareRequest, recording: Recording, models: Models,
                folder: str) -> Iterator[bytes]:
        """Put part of a recording through every codec.

        Messages: {"progress"}, {"comparison"}, a {"sound"} each, {"end"}. A sound's payload is its
        samples, its spectrogram, then its codes frame by frame, where it has codes.
        """
        comparison = None
        with self._admitted():
            try:
                comparison = Comparison(self.folder, models)
                yield from while_working(lambda report: comparison.run(
                    recording, request.start, request.seconds, report))
                self._keep(comparison)
                yield frame({"comparison": {
                    "id": comparison.id, "rate": comparison.rate,
                    "samples": len(comparison.sounds[0]["audio"]),
                    "name": request.name or recording.name, "start": request.start,
                    "weights": folder}})
                for sound in comparison.sounds:
                    yield comparison.frame(sound)
                comparison.sounds = []  # the files are enough from here on
                yield frame({"end": {"id": comparison.id}})
            finally:
                if comparison and comparison.id not in self._comparisons:
                    comparison.remove()  # the browser left before the end

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

    def _keep(self, comparison: Comparison):
        with self._lock:
            self._comparisons[comparison.id] = comparison
            while len(self._comparisons) > limits.COMPARISONS_KEPT:
                self._comparisons.popitem(last=False)[1].remove()

    def path(self, identity: str, name: str) -> Path:
        """The wav file of a sound. Raises `UserError` where it is not here any more."""
        with self._lock:
            comparison = self._comparisons.get(identity)
            if comparison is None or name not in comparison.files:
                raise UserError("That sound is not in this studio any more: listen to the codecs "
                                "again.")
            return comparison.files[name]


class Comparison:
    """Part of a recording and its reconstruction by each codec."""

    def __init__(self, folder: Path, models: Models):
        self.id, self.folder, self.models = secrets.token_urlsafe(12), folder, models
        self.rate, self.column = models.music.sample_rate, column(models.music.chain.sizes)
        self.sounds: list[dict] = []
        self.files: dict[str, Path] = {}

    def run(self, recording: Recording, start: float, seconds: float, report):
        """Encode, decode and measure at every level that has a codec."""
        levels = self._levels()
        self.models.prepare((), tuple(levels), report)
        report(f"Reading {recording.name}")
        original, _ = audio.part(recording.path, self.rate, round(start * self.rate),
                                 round(seconds * self.rate))
        if not original.size:
            raise UserError(f"{recording.name} lasts {recording.seconds:.1f} s, so nothing is left "
                            f"of it from second {start:g} on.")
        self._add("original", original)
        for i, level in enumerate(levels):
            report(f"Through the codec of level {level} and back", i / len(levels))
            codec = self.models.music.codec(level)
            copies: list = []
            figures = judge.judge(codec, [original], copies=copies)
            [(decoded, codes)] = copies
            shown = ({"codes": codes, "shades": self.models.shades(level)}
                     if codec.config.has_codes else {})
            self._add(str(level), decoded, level=level, figures=figures, **shown)

    def _levels(self) -> list[int]:
        music, levels = self.models.music, []
        for level, name in music.chain.codecs.items():
            with contextlib.suppress(UserError):
                music.weight_set(name)
                levels.append(level)
        if not levels:
            raise UserError("There are no codecs here to listen to.")
        return levels

    def _add(self, name, samples, **more):
        self.files[name] = self.folder / f"comparison-{secrets.token_hex(8)}.wav"
        audio.write(self.files[name], samples, self.rate)
        self.sounds.append({"name": name, "audio": samples} | more)

    def frame(self, sound) -> bytes:
        """A {"sound"} message."""
        picture = Spectrum(self.rate, self.column).push(sound["audio"], last=True)
        about = {"name": sound["name"], "column": self.column, "bands": BANDS,
                 "lowest": notes.LOWEST_MIDI, "columns": len(picture)}
        parts = [audio.to_int16(sound["audio"]).astype("<i2"), picture]
        if "figures" in sound:
            about |= {"level": sound["level"], "figures": sound["figures"],
                      "verdict": verdict(sound["figures"])}
        if "codes" in sound:
            parts.append(sound["codes"].astype("<u2"))
            about |= {"codes": sound["codes"].size, "books": len(sound["shades"]),
                      "shades": sound["shades"]}
        return frame({"sound": about}, *parts)

    def remove(self):
        for path in self.files.values():
            path.unlink(missing_ok=True)


def verdict(figures: dict) -> str:
    """How much of the music a codec keeps, in words."""
    if figures["notes"] is None:
        return "This part is silent."
    for least, words in VERDICTS:
        if figures["notes"] >= least:
            return words
    return ("Chords stay, melody is lost." if figures["chroma"] >= 0.65
            else "Mood stays, melody is lost.")
