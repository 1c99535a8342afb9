"""Windows of audio and of codes for training, each a pure function of (seed, index), served by `keras.utils.PyDataset`.

Tracks are split by track, never by window, and drawn by duration. A window is read straight from its file: none stays
open, so a folder of a hundred thousand tracks needs no more descriptors or memory than one of ten.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import keras
import numpy as np

from .. import config
from ..errors import UserError
from ..train import replicas
from . import audio, manifest

# Which random stream a generator of numbers belongs to; one key a purpose, so that no two share their draws.
_WINDOW, START = 2, 3


def rng(seed: int, purpose: int, index: int = 0) -> np.random.Generator:
    """Random numbers that depend on what is named here and nothing else."""
    return np.random.Generator(np.random.Philox(key=[seed & 0xFFFFFFFFFFFFFFFF, (purpose << 56) | index]))


def read_split(path) -> dict[str, list[str]]:
    """`split.yml`: track names (file name without folders and endings) by the side they are on; the rest trains.

    Keys: `validation`; `test`, for the final report alone; `excluded`, on no side (a test track's other version).
    """
    sides = ("validation", "test", "excluded")
    values = config.load_yaml(path)
    for key, names in values.items():
        if key not in sides:
            raise config.ConfigError(f"{path}: unknown key {key!r}; known: {', '.join(sides)}")
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise config.ConfigError(f"{path}: {key} must be a list of track names")
    return {side: [] for side in sides} | values


def track_name(track: manifest.Track) -> str:
    """`music/love_theme.ogg.u16` -> `love_theme`."""
    return Path(Path(track.source).name).stem


def split(tracks: list[manifest.Track], val_split, seed: int) -> tuple[list, list]:
    """(training tracks, validation tracks).

    val_split: a share in [0, 1) of the hours, or the path of a `split.yml`. At least one track trains; where there are
    two or more and the share is not 0, at least one validates.
    """
    try:
        share = float(val_split)
    except (TypeError, ValueError):
        named = read_split(val_split)
        known = {track_name(t) for t in tracks}
        held = [n for names in named.values() for n in names]
        missing = [n for n in held if n not in known]
        if missing:
            raise UserError(f"{val_split}: names a track {missing[0]!r} that the data folder does not hold") from None
        train = [t for t in tracks if track_name(t) not in held]
        if not train:
            raise UserError(f"{val_split}: leaves no track to train on") from None
        return train, [t for t in tracks if track_name(t) in named["validation"]]
    if not 0.0 <= share < 1.0:
        raise UserError(f"--val-split is {val_split}; it must be a share from 0 to below 1, or the path of a split.yml")
    # Drawn by name, so that a track keeps its place in the draw when others come and go around it.
    order = sorted(range(len(tracks)), key=lambda i: hashlib.sha256(f"{seed} {tracks[i].file}".encode()).digest())
    wanted = share * sum(t.samples for t in tracks)
    chosen, taken = set(), 0
    for i in order:
        if len(chosen) >= len(tracks) - 1 or taken >= wanted:
            break
        chosen.add(i)
        taken += tracks[i].samples
    return [t for i, t in enumerate(tracks) if i not in chosen], [tracks[i] for i in sorted(chosen)]


def long_enough(tracks: list, samples: int, what="training") -> list:
    """The tracks of at least `samples`; `UserError` where that leaves none says how long they would need to be."""
    kept = [t for t in tracks if t.samples >= samples]
    if tracks and not kept:
        rate = tracks[0].sample_rate
        longest = max(t.samples for t in tracks)
        raise UserError(
            f"no {what} track is as long as --input-length, {samples} samples ({samples / rate:.2f} s); the longest "
            f"has {longest} ({longest / rate:.2f} s): use a shorter --input-length or longer music"
        )
    return kept


def read_window(path, start: int, count: int, dtype="<u2") -> np.ndarray:
    """`count` uint16 from position `start` of a file; `UserError` where the file is shorter than that."""
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
    """Batches of windows: endless from batch `start` on, or (evenly spread) a fixed number of them for validation.

    Endless batch i holds windows i·batch_size … of the sequence named by the seed, so training resumes at any step.
    In a `group` of several processes `batch_size` is that of all together, and each serves its share of the rows.
    """

    def __init__(self, sizes, batch_size: int, seed: int, start: int = 0, fixed: int | None = None,
                 group: replicas.Group = replicas.ALONE):
        super().__init__(workers=1)
        self.batch_size, self.start, self.fixed, self.group = batch_size, start, fixed, group
        self.sampler = Sampler(sizes, seed)
        self.places = int(self.sampler.ends[-1])
        if fixed is not None:
            # Every batch, the last one too, can be shared out alike.
            self.fixed = max(1, min(fixed, self.places) // group.devices) * group.devices

    @property
    def num_batches(self):
        return None if self.fixed is None else math.ceil(self.fixed / self.batch_size)

    def positions(self, batch: int) -> list[tuple[int, int]]:
        if self.fixed is None:
            first = (self.start + batch) * self.batch_size
            return [self.sampler(first + i) for i in self.group.rows(self.batch_size)]
        first = batch * self.batch_size
        chosen = [first + i for i in self.group.rows(min(self.batch_size, self.fixed - first))]
        spread = [int((i + 0.5) * self.places / self.fixed) for i in chosen]
        items = [int(np.searchsorted(self.sampler.ends, p, side="right")) for p in spread]
        return [(i, p - int(self.sampler.ends[i - 1] if i else 0)) for i, p in zip(items, spread, strict=True)]


class AudioWindows(_Batches):
    """Batches (x, x) of audio float32 [batch, length] in [-1, 1] from the prepared tracks of a data folder."""

    def __init__(self, folder, tracks, length: int, batch_size: int, seed: int, start=0, fixed=None,
                 group=replicas.ALONE):
        super().__init__([t.samples - length + 1 for t in tracks], batch_size, seed, start, fixed, group)
        self.folder, self.files, self.length = Path(folder), [t.file for t in tracks], length

    def __getitem__(self, batch: int):
        x = np.stack([audio.from_u16(read_window(self.folder / self.files[i], s, self.length))
                      for i, s in self.positions(batch)])
        # A second array: TensorFlow takes over an array's memory, and its replicas compute in what they are given.
        return x, x.copy()


class CodeWindows(_Batches):
    """Batches ({"previous", "source"}, codes) for a `Generator`, from cached codes.

    tracks: `(codes file, codes, source file or None, source codes)` each; length: codes a window, a multiple of the
    ratio. previous int32 [batch, length]: the code before each, the start token at a track's begin; source int32
    [batch, length / ratio + 2·halo]: the level above with what the context model sees around the window, the pad token
    where there is no track; target int32 [batch, length].
    """

    def __init__(self, tracks, generator: config.GeneratorConfig, length: int, batch_size: int, seed: int, start=0,
                 fixed=None, group=replicas.ALONE):
        self.tracks, self.generator, self.length = tracks, generator, length
        self.unit = generator.ratio or 1
        # A place is one source code. Half a window of extra places before the track all mean its very beginning, so
        # that starting a piece is practised more often than one place in thousands.
        self.lead = length // self.unit // 2 if fixed is None else 0
        sizes = [(count - length) // self.unit + 1 + self.lead for _, count, _, _ in tracks]
        super().__init__(sizes, batch_size, seed, start, fixed, group)

    def __getitem__(self, batch: int):
        previous, source, target = [], [], []
        for item, place in self.positions(batch):
            path, _, source_path, source_count = self.tracks[item]
            start = max(0, place - self.lead) * self.unit
            codes = read_window(path, max(0, start - 1), self.length + (start > 0)).astype(np.int32)
            target.append(codes[-self.length :])
            previous.append(codes[:-1] if start else np.concatenate([[self.generator.start_token], codes[:-1]]))
            if source_path:
                source.append(self._source(source_path, source_count, start // self.unit))
        inputs = {"previous": np.stack(previous).astype(np.int32)}
        if source:
            inputs["source"] = np.stack(source)
        return inputs, np.stack(target)

    def _source(self, path, count: int, start: int) -> np.ndarray:
        halo, pad = self.generator.halo, self.generator.pad_token
        first, last = start - halo, start + self.length // self.unit + halo
        inside = read_window(path, max(0, first), min(count, last) - max(0, first))
        return np.pad(inside.astype(np.int32), (max(0, -first), max(0, last - count)), constant_values=pad)
