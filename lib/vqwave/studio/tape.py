"""The samples of a take on the disk, and their copies as wav and flac files."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..io import audio
from ..play import mastering
from ..play.render import Finish
from . import limits
from .models import as_typed


class Tape:
    """A file of 16-bit samples that grows while a take is generated. The take sets `rate`."""

    def __init__(self, folder: Path):
        self.path = folder / f"take-{secrets.token_hex(8)}.pcm"
        self.rate = self.samples = 0
        self.copies: dict[Path, int] = {}  # bytes by path
        self._writing = threading.Lock()

    def append(self, samples: np.ndarray):
        """int16 [n]."""
        with open(self.path, "ab") as file:
            file.write(samples.tobytes())
        self.samples += samples.size

    def truncate(self, samples: int):
        self.samples = samples
        os.truncate(self.path, 2 * samples)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Samples begin … end − 1: float32 [end − begin]."""
        with open(self.path, "rb") as file:
            file.seek(2 * begin)
            return audio.from_int16(np.frombuffer(file.read(2 * (end - begin)), "<i2"))

    def copy_path(self, kind: str, finish: Finish, growing: bool) -> Path:
        words = [self.path.stem]
        words += [f"fade {as_typed(finish.fade)}"] if finish.fade else []
        words += ["loop"] * finish.loop + ["loud"] * finish.normalize + ["so far"] * growing
        return self.path.with_name(" ".join(words) + f".{kind}")

    def copy(self, kind: str, finish: Finish, samples: int, growing: bool) -> Path:
        """The first samples as a wav or flac file; growing: the take is still being generated.

        Raises `UserError` if there are no samples yet, or too many or too few to be finished.
        """
        if not samples:
            raise UserError("Nothing of the take was heard yet: let it play for a moment.")
        if finish.whole and samples > limits.LONGEST_FINISH * self.rate:
            raise UserError(f"Takes of up to {limits.LONGEST_FINISH / 60:g} minutes can be "
                            f"finished; this take is longer.")
        if finish.fade and 2 * finish.fade * self.rate > samples:
            raise UserError(f"Fades of {finish.fade:g} s at both ends need {2 * finish.fade:g} s; "
                            f"the take is shorter.")
        path = self.copy_path(kind, finish, growing)
        with self._writing:
            if growing or not path.exists():
                with audio.Writer(path, self.rate) as out:
                    for block in self._finished_blocks(samples, finish):
                        out.write(block)
                self.copies[path] = path.stat().st_size
        return path

    def _finished_blocks(self, samples: int, finish: Finish) -> Iterator[np.ndarray]:
        """float32 blocks; a single one if the finish needs the whole take."""
        step = samples if finish.whole else 1 << 20
        for start in range(0, samples, step):
            block = self.read(start, min(start + step, samples))
            if finish.fade:
                block = mastering.fade(block, start, round(finish.fade * self.rate), samples)
            yield finish.master(block, self.rate) if finish.whole else block

    @property
    def bytes(self) -> int:
        """Disk space of the samples and all copies."""
        return 2 * self.samples + sum(self.copies.values())

    def remove(self):
        for path in (self.path, *self.copies):
            path.unlink(missing_ok=True)
