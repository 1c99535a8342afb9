"""Writes pieces to files, block by block; or as a whole, if the piece is looped or normalised."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import TextColumn, TimeRemainingColumn

from .. import progress
from ..errors import Interrupted, UserError, signal_handlers
from ..io import audio
from . import latents, mastering, session
from .stream import Stream

Piece = Stream | latents.PriorSample
LICENCE_NOTICE = (
    "VQWave's authors claim no rights in this music, but rights in the training music, or in "
    "a recording that it continues or varies, may apply.")
"""The copyright tag of files of generated music."""


@dataclass(frozen=True)
class Finish:
    """Fade in and out over `fade` seconds, loop, normalise to `mastering.NORMALIZED_TO`."""

    fade: float | None = None
    loop: bool = False
    normalize: bool = False

    def __post_init__(self):
        if self.loop and self.fade:
            raise UserError("a loop has no end to fade: give either a loop or a fade")

    @property
    def whole(self) -> bool:
        """Whether the whole piece must be held in memory."""
        return self.loop or self.normalize

    def check(self, stream: Piece):
        """Raises `UserError` if the piece is shorter than its fades."""
        if (self.fade and stream.samples is not None
            and 2 * self.fade * stream.sample_rate > stream.samples):
            raise UserError(f"{self.fade:g} s of fade at both ends need {2 * self.fade:g} s, and "
                            f"the piece lasts {stream.samples / stream.sample_rate:.2f} s")

    def fade_blocks(self, stream: Piece, changes=()) -> Iterator[np.ndarray]:
        """The stream's blocks with fades. changes: see `session.replay`."""
        position = 0
        for block in session.replay(stream, changes) if changes else stream:
            if self.fade:
                length = round(self.fade * stream.sample_rate)
                block = mastering.fade(block, position, length, stream.samples)
            yield block
            position += block.shape[-1]

    def master(self, piece: np.ndarray, sample_rate: int) -> np.ndarray:
        """A whole piece float32 [n], looped and normalised."""
        if self.loop:
            piece = mastering.loop(piece, sample_rate)
        if self.normalize:
            piece = mastering.normalize(piece, sample_rate, looped=self.loop)
        return piece


def write_pieces(stream: Piece, paths: Sequence[Path], finish: Finish,
                 changes=()) -> tuple[list[int], float]:
    """Write every piece of a finite stream to its file, all or nothing, with a progress bar.
    changes: see `session.replay`. Returns the samples in each file, and the real-time factor
    without the first block, in which the models are loaded. Raises `Interrupted` at Ctrl-C or
    SIGTERM; then nothing is written.
    """
    rate = stream.sample_rate
    whole: list[list] | None = [[] for _ in paths] if finish.whole else None
    started, counted, speed = time.monotonic(), 0, 0.0
    columns = (TextColumn("{task.percentage:.0f} %"),
               TextColumn("{task.fields[speed]:.1f} x real time"), TimeRemainingColumn())
    with (_delayed_signals() as check_signals, progress.bar(*columns, transient=False) as bar,
          ExitStack() as stack):
        shown = bar.add_task("generating", total=stream.samples, speed=0.0)
        files = [stack.enter_context(audio.Writer(path, rate, LICENCE_NOTICE)) for path in paths]
        for block in finish.fade_blocks(stream, changes):
            for i, piece in enumerate(block if stream.batch else [block]):
                if whole:
                    whole[i].append(piece)
                else:
                    files[i].write(piece)
            check_signals()
            now, samples = time.monotonic(), stream.position
            speed = len(paths) * (samples - counted) / rate / (now - started)
            if not counted:
                started, counted = now, samples
            bar.update(shown, completed=samples, speed=speed)
        for file, blocks in zip(files, whole or [], strict=False):
            piece = np.concatenate(blocks)
            finished = finish.master(piece, rate)
            file.write(finished)
            check_signals()
            if finish.normalize:
                before, after = (mastering.loudness(audio, rate) for audio in (piece, finished))
                print(f"loudness {before:.1f} -> {after:.1f} LUFS", file=sys.stderr)
    return [file.samples for file in files], speed


@contextlib.contextmanager
def _delayed_signals():
    """Yields a function that raises `Interrupted` after Ctrl-C or SIGTERM. An exception in the
    signal handler could be lost in a callback from libsndfile. A second signal raises at once.
    """
    received: list[int] = []

    def receive(number, _):
        if received:
            raise KeyboardInterrupt
        received.append(number)

    def check():
        if received:
            raise Interrupted(received[0], "stopped; nothing was written")

    with signal_handlers(receive, signal.SIGINT, signal.SIGTERM):
        yield check


def check_outputs(output, batch: int, check=audio.check_output) -> list[Path]:
    """The files to write: one, or out_1.wav, out_2.wav, … for a batch. check: returns a path, or
    raises `UserError` if the file cannot be written there.
    """
    path = check(output)
    return [path] if batch == 1 else [
        check(path.with_name(f"{path.stem}_{i}{path.suffix}")) for i in range(1, batch + 1)]
