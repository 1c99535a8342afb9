"""Pieces to files: written as they are made, finished as a whole where that takes it, several made
and ranked.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import Interrupted, UserError, signal_handlers
from ..io import audio
from ..io.files import atomic_write
from . import controls, latents, mastering
from .stream import Stream

Piece = Stream | latents.Sample
"""What is written: its blocks in order, and how many samples of how many pieces they are."""


@dataclass(frozen=True)
class Finish:
    """What is done to a piece: fade in and out over `fade` seconds, join its end to its beginning,
    make it as loud as streaming services play (`mastering.LOUDNESS`).
    """

    fade: float | None = None
    loop: bool = False
    normalize: bool = False

    def __post_init__(self):
        if self.loop and self.fade:
            raise UserError("a loop has no end to fade: give either a loop or a fade")

    @property
    def whole(self) -> bool:
        """Whether the piece is needed as a whole, and so held in memory."""
        return self.loop or self.normalize

    def check(self, stream: Piece):
        """Both fades fit the piece. Raises `UserError` where they do not."""
        if (self.fade and stream.samples is not None
            and 2 * self.fade * stream.sample_rate > stream.samples):
            raise UserError(f"{self.fade:g} s of fade at both ends need {2 * self.fade:g} s, and "
                            f"the piece lasts {stream.samples / stream.sample_rate:.2f} s")

    def fade_blocks(self, stream: Piece, changes=()) -> Iterator[np.ndarray]:
        """The stream's blocks, changed as `controls.replay` says, faded in and (where there is an
        end) out.
        """
        position = 0
        for block in controls.replay(stream, changes) if changes else stream:
            if self.fade:
                length = round(self.fade * stream.sample_rate)
                block = mastering.fade(block, position, length, stream.samples)
            yield block
            position += block.shape[-1]

    def master(self, piece: np.ndarray, sample_rate: int, say: Callable[[str], None]) -> np.ndarray:
        """A whole piece float32 [n], looped and normalised as asked; `say` is told of its loudness.
        """
        if self.loop:
            piece = mastering.loop(piece, sample_rate)
        if self.normalize:
            before, piece = piece, mastering.normalize(piece, sample_rate, looped=self.loop)
            loudness = mastering.loudness(piece, sample_rate)
            if loudness == -float("inf"):
                say("the piece is silent, and left so")
            else:
                say(f"loudness {mastering.loudness(before, sample_rate):.1f} -> {loudness:.1f} "
                    f"LUFS")
        return piece


def write_pieces(stream: Piece, paths: Sequence[Path],
                 finish: Finish = Finish(),  # noqa: B008
                 report: Callable[[float, float], None] | None = None,
                 say: Callable[[str], None] = lambda line: None,
                 changes=()) -> tuple[list[int], float]:
    """Write every piece of a stream to its file, all or nothing.

    Args:
        stream: finite; `paths` has as many files as its batch, or one.
        report: called with the samples made so far and the speed, as a multiple of real time.
        say: is told in a line what finishing did.
        changes: of the stream while it plays, see `controls.replay`.

    Returns:
        The samples in each file, and the speed. The time up to the first block goes mostly into
        loading the models and does not count.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; nothing is written then.
    """
    rate = stream.sample_rate
    whole: list[list] | None = [[] for _ in paths] if finish.whole else None
    start, first, speed = time.monotonic(), None, 0.0
    caught = []

    def note(number, _):
        # Raised now it could be lost in libsndfile's calls back into Python; asked for twice, it
        # is.
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    def stop():
        if caught:
            raise Interrupted(caught[0], "stopped; nothing was written")

    def show(made: float):
        nonlocal first, speed
        stop()
        since, before = first or (start, 0)
        speed = len(paths) * (made - before) / rate / (time.monotonic() - since)
        first = first or (time.monotonic(), made)
        if report:
            report(made, speed)

    with signal_handlers(note, signal.SIGINT, signal.SIGTERM), ExitStack() as stack:
        files = [stack.enter_context(audio.Writer(path, rate)) for path in paths]
        for block in finish.fade_blocks(stream, changes):
            for i, piece in enumerate(block if stream.batch else [block]):
                if whole:
                    whole[i].append(piece)
                else:
                    files[i].write(piece)
            show(stream.position)
        for file, blocks in zip(files, whole or [], strict=False):
            file.write(finish.master(np.concatenate(blocks), rate, say))
            stop()
    return [file.samples for file in files], speed


@dataclass(frozen=True)
class Candidate:
    """One of several pieces. bits: per code under the generators that made it, by level and over
    "all".
    """

    seed: int
    bits: dict
    path: Path
    samples: int
    speed: float


def write_candidates(streams: Iterator[Stream], path: Path, finish: Finish = Finish(),  # noqa: B008
                     write=write_pieces) -> list[Candidate]:
    """Write a piece for each stream, the likeliest first: each to a file named by its rank and bits
    per code.

    The best is written to `path` too. All appear when the last is done: an interrupt, or a full
    disk, leaves nothing.

    Args:
        streams: made with `log_probs=True`, one after the other.
        write: (stream, paths, finish) -> (samples, speed), by default `write_pieces`.
    """
    made = []

    def end(number, _):
        raise Interrupted(number, "stopped; nothing was written")

    with (tempfile.TemporaryDirectory(prefix=".vqwave-", dir=path.parent) as folder,
          signal_handlers(end, signal.SIGINT, signal.SIGTERM)):
        for i, stream in enumerate(streams):
            finish.check(stream)
            file = Path(folder, f"{i}{path.suffix}")
            with stream:
                [samples], speed = write(stream, [file], finish)
            made.append(Candidate(stream.seed, stream.bits, file, samples, speed))
        made.sort(key=lambda one: (one.bits["all"], one.seed))
        digits = len(str(len(made)))
        names = [path.with_name(f"{path.stem}_{rank:0{digits}}_{one.bits['all']:.3f}bits"
                                f"{path.suffix}")
                 for rank, one in enumerate(made, 1)]
        with open(made[0].path, "rb") as best, atomic_write(path) as copy:
            shutil.copyfileobj(best, copy)
        ranked = []
        for one, name in zip(made, names, strict=True):
            os.replace(one.path, name)
            ranked.append(Candidate(one.seed, one.bits, name, one.samples, one.speed))
    return ranked


def check_outputs(output, batch: int) -> list[Path]:
    """The files to write, checked before any work: one, or out_1.wav, out_2.wav, … for a batch.

    Raises:
        UserError: audio cannot be written there.
    """
    path = audio.check_output(output)
    if batch == 1:
        return [path]
    return [audio.check_output(path.with_name(f"{path.stem}_{i}{path.suffix}"))
            for i in range(1, batch + 1)]
