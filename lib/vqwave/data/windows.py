"""Windows of audio and of codes for training, each a pure function of (seed, index), served by
`keras.utils.PyDataset`.

Tracks are drawn by duration. A window is read straight from its file and no file stays open, so a
folder of a hundred thousand tracks needs no more descriptors or memory than one of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from ..config import CodesAbove, Config, GeneratorConfig
from . import audio, codes
from .codes import CodeTrack
from .splits import WHOLE, Share

# Which random stream a generator of numbers belongs to; one key a purpose, so that no two share
# their draws.
_WINDOW, START = 2, 3


def rng(seed: int, purpose: int, index: int = 0) -> np.random.Generator:
    """Random numbers that depend on what is named here and nothing else."""
    return np.random.Generator(np.random.Philox(key=[seed & 0xFFFFFFFFFFFFFFFF, (purpose << 56) | index]))


class Sampler:
    """Draws positions: an item with the chance of its number of places, a place in it uniformly.

    sizes: how many places each item offers.
    """

    def __init__(self, sizes, seed: int):
        self.ends = np.cumsum(np.asarray(sizes, np.int64))
        self.seed = seed

    def __call__(self, index: int) -> tuple[int, int]:
        """(item, place) number `index` of the endless sequence that `seed` names."""
        return self.find(int(rng(self.seed, _WINDOW, index).integers(self.ends[-1])))

    def find(self, place: int) -> tuple[int, int]:
        """(item, place in it) of a place of all items' one after the other."""
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
        return [self.spread(first + i) for i in self.share.rows(min(self.batch_size, self.fixed - first))]

    def spread(self, number: int) -> tuple[int, int]:
        """(item, place) of that window of a fixed number of them."""
        return self.sampler.find(int((number + 0.5) * self.places / self.fixed))


class AudioWindows(_Batches):
    """Batches (x, x) of audio float32 [batch, length] in [-1, 1] from the prepared tracks of a data
    folder.

    spans: by track file, from which sample to before which one windows are taken; None: of all.
    """

    def __init__(self, folder, tracks, length: int, batch_size: int, seed: int, start=0, fixed=None, share=WHOLE,
                 spans: dict[str, tuple[int, int]] | None = None):
        spans = spans or {t.file: (0, t.samples) for t in tracks}
        self.firsts = [spans[t.file][0] for t in tracks]
        sizes = [spans[t.file][1] - first - length + 1 for t, first in zip(tracks, self.firsts, strict=True)]
        super().__init__(sizes, batch_size, seed, start, fixed, share)
        self.folder, self.files, self.length = Path(folder), [t.file for t in tracks], length

    def __getitem__(self, batch: int):
        x = np.stack([audio.from_u16(audio.read_window(self.folder / self.files[i], self.firsts[i] + s, self.length))
                      for i, s in self.positions(batch)])
        # A second array: TensorFlow takes over an array's memory, and its replicas compute in what
        # they are given.
        return x, x.copy()


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
    inside = codes.read_frames(track.above, track.first_above + begin, min(count, last) - begin, condition.books)
    return np.pad(inside, ((max(0, -first), max(0, last - count)), (0, 0)), constant_values=generator.pad_token)


SERVERS: dict[type[Config], Callable] = {CodesAbove: window_above}
"""What cuts the input of each kind of condition: (condition, generator config, track, first frame,
frames) -> int32 array as the condition's `shape` says.
"""


def count_places(frames: int, length: int, unit: int, lead: int) -> int:
    """At how many places of a track of so many frames a window may begin, `unit` frames apart; a
    track that is shorter than a window has one, its begin. `lead`: see `CodeWindows`.
    """
    return max(0, frames - length) // unit + 1 + lead


def fit_length(frames: Sequence[int], length: int, unit: int) -> int:
    """`length`, made shorter for tracks of so many `frames` as it must be for training windows to
    be at least half full, and no longer than the longest track. A multiple of `unit`.
    """
    def places(length):
        return [count_places(n, length, unit, length // unit // 2) for n in frames]

    length = min(length, -(-max(frames) // unit) * unit)
    while length > unit and _fullness(frames, places(length), length) < 0.5:
        length = -(-length // (2 * unit)) * unit
    return length


def _fullness(frames, places, length: int) -> float:
    """The share of windows that is inside tracks, which have so many `frames` and are drawn so
    often.
    """
    return float(np.dot(places, np.minimum(frames, length)) / (length * np.sum(places, dtype=float)))


class CodeWindows(_Batches):
    """Batches (inputs, frames), or (inputs, frames, weights), for a `Generator`, from cached codes.

    inputs: "previous" int32 [batch, length, books], the frame before each, the start token at a
    track's begin; the input of each of the generator's conditions by its name; "current" int32
    [batch, length, books], the frames themselves (only where there are several books, each of which
    sees those before it).
    frames: int32 [batch, length, books].
    weights: float32 [batch, length, 1], only where some track is shorter than a window: 0 for
    what is past its end, elsewhere what makes 1 the average, so that each frame counts the same
    whatever stands beside it.

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
        sizes = [count_places(track.frames, length, self.unit, self.lead) for track in tracks]
        short = [track.frames < length for track in tracks]
        if fixed is not None:
            # Without a lead a short track would have one place among thousands; so it counts by its
            # duration.
            sizes = [max(1, track.frames // self.unit) if cut else size
                     for track, cut, size in zip(tracks, short, sizes, strict=True)]
        super().__init__(sizes, batch_size, seed, start, fixed, share)
        if fixed is not None:
            # How often each is drawn is known.
            sizes = np.bincount([self.spread(i)[0] for i in range(self.fixed)], minlength=len(tracks))
        frames = [track.frames for track in tracks]
        self.weight = 1 / _fullness(frames, sizes, length) if any(short) else None

    def __getitem__(self, batch: int):
        conditions, books = self.generator.conditions, self.generator.books
        previous, target, weights, served = [], [], [], {condition.input: [] for condition in conditions}
        for item, place in self.positions(batch):
            track = self.tracks[item]
            last = max(0, track.frames - self.length) // self.unit
            start = min(max(0, place - self.lead), last) * self.unit
            inside = min(self.length, track.frames - start)
            frames = codes.read_frames(track.path, track.first + max(0, start - 1), inside + (start > 0), books)
            after = ((0, self.length - inside), (0, 0))
            target.append(np.pad(frames[-inside:], after))
            if not start:
                frames = np.concatenate([np.full((1, books), self.generator.start_token, np.int32), frames])
            previous.append(np.pad(frames[:-1], after, constant_values=self.generator.start_token))
            weights.append(np.repeat([self.weight or 0, 0], [inside, self.length - inside]))
            for condition in conditions:
                serve = SERVERS[type(condition)]
                served[condition.input].append(serve(condition, self.generator, track, start, self.length))
        inputs, target = {"previous": np.stack(previous)}, np.stack(target)
        inputs |= {name: np.stack(rows) for name, rows in served.items()}
        if books > 1:
            inputs["current"] = target.copy()
        if self.weight is None:
            return inputs, target
        return inputs, target, np.stack(weights).astype(np.float32)[..., None]
