"""Windows of audio and of codes for training, each a pure function of (seed, index), served by
`keras.utils.PyDataset`.

Tracks are drawn by duration. A window is read straight from its file: none stays
open, so a folder of a hundred thousand tracks needs no more descriptors or memory than one of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from ..config import CodesAbove, Config, GeneratorConfig
from ..errors import UserError
from . import audio
from .manifest import Track
from .splits import WHOLE, Share

# Which random stream a generator of numbers belongs to; one key a purpose, so that no two share
# their draws.
_WINDOW, START = 2, 3


def rng(seed: int, purpose: int, index: int = 0) -> np.random.Generator:
    """Random numbers that depend on what is named here and nothing else."""
    return np.random.Generator(np.random.Philox(key=[seed & 0xFFFFFFFFFFFFFFFF, (purpose << 56) | index]))


def read_window(path, start: int, count: int, dtype="<u2") -> np.ndarray:
    """`count` uint16 from position `start` of a file; `UserError` where the file is shorter than
    that.
    """
    try:
        values = np.fromfile(path, dtype, count, offset=start * np.dtype(dtype).itemsize)
    except OSError as e:
        raise UserError(f"{path}: cannot be read: {e.strerror}") from e
    if len(values) != count:
        raise UserError(f"{path}: is shorter than the manifest says; run prepare_audio again")
    return values


class Sampler:
    """Draws positions: an item with the chance of its number of places, a place in it uniformly.

    sizes: how many places each item offers.
    """

    def __init__(self, sizes, seed: int):
        self.ends = np.cumsum(np.asarray(sizes, np.int64))
        self.seed = seed

    def __call__(self, index: int) -> tuple[int, int]:
        """(item, place) number `index` of the endless sequence that `seed` names."""
        place = int(rng(self.seed, _WINDOW, index).integers(self.ends[-1]))
        item = int(np.searchsorted(self.ends, place, side="right"))
        return item, place - int(self.ends[item - 1] if item else 0)


class _Batches(keras.utils.PyDataset):
    """Batches of windows: endless from batch `start` on, or (evenly spread) a fixed number of them
    for validation.

    Endless batch i holds windows i·batch_size … of the sequence named by the seed, so training
    resumes at any step. Where several processes train together `batch_size` is that of all, and
    each serves its `share` of the rows.
    """

    def __init__(self, sizes, batch_size: int, seed: int, start: int = 0, fixed: int | None = None,
                 share: Share = WHOLE):
        super().__init__(workers=1)
        self.batch_size, self.start, self.fixed, self.share = batch_size, start, fixed, share
        self.sampler = Sampler(sizes, seed)
        self.places = int(self.sampler.ends[-1])
        if fixed is not None:
            # Every batch, the last one too, can be shared out alike.
            self.fixed = max(1, min(fixed, self.places) // share.devices) * share.devices

    @property
    def num_batches(self):
        return None if self.fixed is None else math.ceil(self.fixed / self.batch_size)

    def positions(self, batch: int) -> list[tuple[int, int]]:
        """(item, place) of each row of that batch which this process serves."""
        if self.fixed is None:
            first = (self.start + batch) * self.batch_size
            return [self.sampler(first + i) for i in self.share.rows(self.batch_size)]
        first = batch * self.batch_size
        chosen = [first + i for i in self.share.rows(min(self.batch_size, self.fixed - first))]
        spread = [int((i + 0.5) * self.places / self.fixed) for i in chosen]
        items = [int(np.searchsorted(self.sampler.ends, p, side="right")) for p in spread]
        return [(i, p - int(self.sampler.ends[i - 1] if i else 0)) for i, p in zip(items, spread, strict=True)]


class AudioWindows(_Batches):
    """Batches (x, x) of audio float32 [batch, length] in [-1, 1] from the prepared tracks of a data
    folder.
    """

    def __init__(self, folder, tracks, length: int, batch_size: int, seed: int, start=0, fixed=None, share=WHOLE):
        super().__init__([t.samples - length + 1 for t in tracks], batch_size, seed, start, fixed, share)
        self.folder, self.files, self.length = Path(folder), [t.file for t in tracks], length

    def __getitem__(self, batch: int):
        x = np.stack([audio.from_u16(read_window(self.folder / self.files[i], s, self.length))
                      for i, s in self.positions(batch)])
        # A second array: TensorFlow takes over an array's memory, and its replicas compute in what
        # they are given.
        return x, x.copy()


def read_frames(path, start: int, count: int, books: int) -> np.ndarray:
    """int32 [count, books]: frames of cached codes from number `start` on."""
    return read_window(path, start * books, count * books).astype(np.int32).reshape(count, books)


class CodeTrack(NamedTuple):
    """A track as codes, in one variant: what windows are cut from.

    path, frames: its cached codes; above, frames_above: those of the level above, None at the top
    of a chain. track: the track itself, for what its tags say. shift: semitones that it was
    transposed by; start: samples left off its start after that.
    """

    path: Path
    frames: int
    above: Path | None = None
    frames_above: int = 0
    track: Track | None = None
    shift: int = 0
    start: int = 0


def window_above(condition: CodesAbove, generator: GeneratorConfig, track: CodeTrack, start: int,
                 length: int) -> np.ndarray:
    """The frames above a window with what the condition sees around it: int32 [length / ratio +
    2·halo, books above]. The pad token stands where there is no track.
    """
    if track.above is None:
        raise ValueError(f"{generator.name} reads level {condition.level}, of which {track.path} has no codes")
    halo, count = generator.halo, track.frames_above
    first, last = start // generator.ratio - halo, (start + length) // generator.ratio + halo
    begin = max(0, first)
    inside = read_frames(track.above, begin, min(count, last) - begin, condition.books)
    return np.pad(inside, ((max(0, -first), max(0, last - count)), (0, 0)), constant_values=generator.pad_token)


SERVERS: dict[type[Config], Callable] = {CodesAbove: window_above}
"""What cuts the input of each kind of condition: (condition, generator config, track, first frame,
frames) -> int32 array as the condition's `shape` says.
"""


class CodeWindows(_Batches):
    """Batches (inputs, frames) for a `Generator`, from cached codes.

    inputs: "previous" int32 [batch, length, books], the frame before each, the start token at a
    track's begin; the input of each of the generator's conditions by its name; "current" int32
    [batch, length, books], the frames themselves (only where there are several books, each of which
    sees those before it).
    frames: int32 [batch, length, books].

    Args:
        tracks: a `CodeTrack` each.
        length: frames a window, a multiple of the ratio.
    """

    def __init__(self, tracks: Sequence[CodeTrack], generator: GeneratorConfig, length: int, batch_size: int,
                 seed: int, start=0, fixed=None, share=WHOLE):
        self.tracks, self.generator, self.length = tracks, generator, length
        self.unit = generator.ratio or 1
        # A place is one source frame. Half a window of extra places before the track all mean its
        # very beginning, so that starting a piece is practised more often than one place in
        # thousands.
        self.lead = length // self.unit // 2 if fixed is None else 0
        sizes = [(track.frames - length) // self.unit + 1 + self.lead for track in tracks]
        super().__init__(sizes, batch_size, seed, start, fixed, share)

    def __getitem__(self, batch: int):
        conditions, books = self.generator.conditions, self.generator.books
        previous, target, served = [], [], {condition.input: [] for condition in conditions}
        for item, place in self.positions(batch):
            track = self.tracks[item]
            start = max(0, place - self.lead) * self.unit
            frames = read_frames(track.path, max(0, start - 1), self.length + (start > 0), books)
            target.append(frames[-self.length :])
            if not start:
                frames = np.concatenate([np.full((1, books), self.generator.start_token, np.int32), frames])
            previous.append(frames[:-1])
            for condition in conditions:
                serve = SERVERS[type(condition)]
                served[condition.input].append(serve(condition, self.generator, track, start, self.length))
        inputs, target = {"previous": np.stack(previous)}, np.stack(target)
        inputs |= {name: np.stack(rows) for name, rows in served.items()}
        if books > 1:
            inputs["current"] = target.copy()
        return inputs, target
