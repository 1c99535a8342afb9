"""Windows of audio and of codes for training, each a pure function of (seed, index), served by
`keras.utils.PyDataset`.

Tracks are drawn by duration. A window is read straight from its file and no file stays open, so a
folder of a hundred thousand tracks needs no more descriptors or memory than one of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ..config import SHARES, CodesAbove, GeneratorConfig, Labels, TrainingConfig
from ..io import audio, labels
from ..io.splits import WHOLE, Share
from . import codes
from .codes import CodeTrack

# Which random stream a generator of numbers belongs to; one key a purpose, so that no two share
# their draws.
_WINDOW, START, _NEXT, _CHANGE = 2, 3, 4, 5


def rng(seed: int, purpose: int, index: int = 0) -> np.random.Generator:
    """Random numbers that depend on what is named here and nothing else."""
    return np.random.Generator(np.random.Philox(key=[seed & 0xFFFFFFFFFFFFFFFF,
                                                     (purpose << 56) | index]))


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

    def numbers(self, batch: int) -> list[int]:
        """The windows of that batch which this process serves, as the sequence counts them."""
        if self.fixed is None:
            first = (self.start + batch) * self.batch_size
            return [first + i for i in self.share.rows(self.batch_size)]
        first = batch * self.batch_size
        return [first + i for i in self.share.rows(min(self.batch_size, self.fixed - first))]

    def position(self, number: int) -> tuple[int, int]:
        """(item, place) of that window: drawn, or of a fixed number of them evenly spread."""
        if self.fixed is None:
            return self.sampler(number)
        return self.sampler.find(int((number + 0.5) * self.places / self.fixed))


@dataclass(frozen=True)
class Changes:
    """What is done to windows of audio, so that a codec meets more than its music is.

    A window is transposed by up to `transpose` semitones up or down (and is as much faster or
    slower), is up to `gain` dB quieter, uniformly in dB, and in a share `mix` of the cases another
    one, changed likewise, is added; a sum that would clip is turned down.
    """

    transpose: int = 0
    gain: float = 0.0
    mix: float = 0.0

    @classmethod
    def of(cls, training: TrainingConfig) -> Changes:
        return cls(training.transpose, training.gain, training.mix)


AS_IT_IS = Changes()


class AudioWindows(_Batches):
    """Batches (x, x) of audio float32 [batch, length] in [-1, 1] from the prepared tracks of a data
    folder.

    spans: by track file, from which sample to before which one windows are taken; None: of all.
    changes: what is done to each window, by draws that the seed and its number name.
    told: the labels of a codec that is told them; then batches are ({"samples": x, "label": int32
    [batch, 1, 1, 2]}, x), each with the label of its track, as `config.Labels` has it.
    """

    def __init__(self, folder, tracks, length: int, batch_size: int, seed: int,
                 start=0, fixed=None, share=WHOLE,
                 spans: dict[str, tuple[int, int]] | None = None, changes: Changes = AS_IT_IS,
                 told: Labels | None = None):
        self.spans = [spans[t.file] if spans else (0, t.samples) for t in tracks]
        super().__init__([end - first - length + 1 for first, end in self.spans],
                         batch_size, seed, start, fixed, share)
        self.folder, self.files, self.length = Path(folder), [t.file for t in tracks], length
        self.changes = changes
        self.said = np.array([labels.index_of(t, told) for t in tracks], np.int32) if told else None

    def __getitem__(self, batch: int):
        numbers = self.numbers(batch)
        x = np.stack([self.window(number) for number in numbers])
        # A second array: TensorFlow takes over an array's memory, and its replicas compute in what
        # they are given.
        y = x.copy()
        if self.said is None:
            return x, y
        said = self.said[[self.position(number)[0] for number in numbers]]
        label = np.stack([said, np.full_like(said, SHARES)], axis=-1)[:, None, None]
        return {"samples": x, "label": label}, y

    def window(self, number: int) -> np.ndarray:
        """That window, float32 [length]."""
        position = self.position(number)
        if self.changes == AS_IT_IS:
            return self._read(*position)
        random = rng(self.sampler.seed, _CHANGE, number)
        sound = self._change(*position, random)
        if random.random() < self.changes.mix:
            other = self.sampler.find(int(random.integers(self.places)))
            sound = sound + self._change(*other, random)
            sound /= max(1.0, float(np.abs(sound).max()))
        return sound

    def _change(self, item: int, place: int, random: np.random.Generator) -> np.ndarray:
        """The window at a place, transposed and quieter: float32 [length]."""
        most = self.changes.transpose
        sound = self._read(item, place, int(random.integers(-most, most + 1)))
        return sound * np.float32(10 ** (-random.uniform(0.0, self.changes.gain) / 20))

    def _read(self, item: int, place: int, shift: int = 0) -> np.ndarray:
        """float32 [length] from a place of a track on, or as near as it is long enough for; a track
        that is too short to be heard higher is read as it is.
        """
        first, end = self.spans[item]
        count = math.ceil(self.length * 2 ** (shift / 12))
        if count > end - first:
            shift, count = 0, self.length
        sound = audio.from_u16(audio.read_window(self.folder / self.files[item],
                                                 first + min(place, end - first - count), count))
        if shift:
            sound = np.concatenate(list(audio.transpose([sound], count, shift)))
        return sound[: self.length]


@dataclass(frozen=True)
class Span:
    """So many `frames` of a track from frame `start` on."""

    track: CodeTrack
    start: int
    frames: int

    def read(self, books: int, before: int = 0) -> np.ndarray:
        """These frames, after so many that stand before them: int32 [before + frames, books]."""
        return codes.read_frames(self.track.path, self.track.first + self.start - before,
                                 before + self.frames, books)


def window_above(condition: CodesAbove, generator: GeneratorConfig,
                 spans: Sequence[Span]) -> np.ndarray:
    """The frames above a window of these spans, with what the condition sees around it: int32
    [length / ratio + 2·halo, books above]. The pad token stands where there is no track.
    """
    halo, ratio, parts = generator.halo, generator.ratio, []
    for number, span in enumerate(spans):
        track = span.track
        if track.above is None:
            raise ValueError(f"{generator.name} reads level {condition.level}, of which "
                             f"{track.path} has no codes")
        first = span.start // ratio - (0 if number else halo)
        last = (span.start + span.frames) // ratio + (halo if number == len(spans) - 1 else 0)
        begin, count = max(0, first), track.frames_above
        inside = codes.read_frames(track.above, track.first_above + begin,
                                   min(count, last) - begin, condition.books)
        outside = (max(0, -first), max(0, last - count))
        parts.append(np.pad(inside, (outside, (0, 0)), constant_values=generator.pad_token))
    return np.concatenate(parts)


def labels_of(condition: Labels, generator: GeneratorConfig, spans: Sequence[Span]) -> np.ndarray:
    """The label of the track that each frame is of, alone: int32 [length, 1, 2]."""
    numbers = [labels.index_of(span.track.track, condition) for span in spans]
    each = np.repeat(np.array(numbers, np.int32), [span.frames for span in spans])
    return np.stack([each, np.full_like(each, SHARES)], axis=-1)[:, None]


SERVERS: dict[str, Callable] = {"codes": window_above, "labels": labels_of}
"""What cuts the input of each kind of condition: (condition, generator config, spans of a window)
-> int32 array as the condition's `shape` says.
"""


def count_places(frames: int, length: int, unit: int) -> int:
    """At how many places of a track of so many frames a window may begin that lies inside it,
    `unit` frames apart; a track that is shorter than a window has one, its begin.
    """
    return max(0, frames - length) // unit + 1


class CodeWindows(_Batches):
    """Batches (inputs, frames), or (inputs, frames, weights), for a `Generator`, from cached codes.

    inputs: "previous" int32 [batch, length, books], the frame before each, the start token at a
    track's begin; the input of each of the generator's conditions by its name; "current" int32
    [batch, length, books], the frames themselves (only where there are several books, each of which
    sees those before it).
    frames: int32 [batch, length, books].
    weights: float32 [batch, length, 1], only where some validation track is shorter than a window:
    0 past the track's end, elsewhere one number that makes the mean 1, so that every frame counts
    the same.

    A window that is trained on goes on past its track's end with the beginning of another, as the
    music does that is made: a model that saw nothing after an end would stay in its silence. The
    fixed windows of validation lie inside their tracks. Where a track is shorter than such a
    window, weights say which of its frames count.

    Args:
        tracks: a `CodeTrack` each.
        length: frames a window, a multiple of the ratio.
    """

    def __init__(self, tracks: Sequence[CodeTrack], generator: GeneratorConfig,
                 length: int, batch_size: int,
                 seed: int, start=0, fixed=None, share=WHOLE):
        self.tracks, self.generator, self.length = tracks, generator, length
        self.unit = generator.ratio or 1
        self.weight = None
        if fixed is None:
            # A place is one source frame. Half a window of extra places before the track all mean
            # its very beginning, so that starting a piece is practised more often than one place in
            # thousands.
            self.lead = length // self.unit // 2
            sizes = [self._whole(track) // self.unit + self.lead for track in tracks]
            super().__init__(sizes, batch_size, seed, start, fixed, share)
            return
        self.lead = 0
        # A short track would have one place among thousands; so it counts by its duration.
        sizes = [max(1, track.frames // self.unit) if track.frames < length
                 else count_places(track.frames, length, self.unit) for track in tracks]
        super().__init__(sizes, batch_size, seed, start, fixed, share)
        served = [min(length, tracks[self.position(i)[0]].frames) for i in range(self.fixed)]
        if min(track.frames for track in tracks) < length:
            self.weight = length / float(np.mean(served))

    def _whole(self, track: CodeTrack) -> int:
        """A track's frames, without those at its end that do not fill a source frame."""
        return max(self.unit, track.frames // self.unit * self.unit)

    def spans(self, number: int) -> list[Span]:
        """What that window is made of."""
        item, place = self.position(number)
        track = self.tracks[item]
        if self.fixed is not None:
            start = min(place, count_places(track.frames, self.length, self.unit) - 1) * self.unit
            return [Span(track, start, min(self.length, track.frames - start))]
        start, spans, left = max(0, place - self.lead) * self.unit, [], self.length
        random = rng(self.sampler.seed, _NEXT, number)
        while left > 0:
            spans.append(Span(track, start, min(left, self._whole(track) - start)))
            left -= spans[-1].frames
            track, start = self.tracks[self.sampler.find(int(random.integers(self.places)))[0]], 0
        return spans

    def __getitem__(self, batch: int):
        conditions, books = self.generator.conditions, self.generator.books
        previous, target = [], []
        weights, served = [], {condition.input: [] for condition in conditions}
        for number in self.numbers(batch):
            spans = self.spans(number)
            first, *others = spans
            before = min(1, first.start)
            start = np.full((1 - before, books), self.generator.start_token, np.int32)
            frames = np.concatenate([start, first.read(books, before),
                                     *(span.read(books) for span in others)])
            frames, previous_frames = frames[1:], frames[:-1]
            after = ((0, self.length - len(frames)), (0, 0))
            target.append(np.pad(frames, after))
            previous.append(np.pad(previous_frames, after,
                                   constant_values=self.generator.start_token))
            weights.append(np.repeat([self.weight or 0, 0],
                                     [len(frames), self.length - len(frames)]))
            # what is above a short track is as long as that above a window
            if len(frames) < self.length:
                spans = [Span(first.track, first.start, self.length)]
            for condition in conditions:
                serve = SERVERS[condition.kind]
                served[condition.input].append(serve(condition, self.generator, spans))
        inputs, target = {"previous": np.stack(previous)}, np.stack(target)
        inputs |= {name: np.stack(rows) for name, rows in served.items()}
        if books > 1:
            inputs["current"] = target.copy()
        if self.weight is None:
            return inputs, target
        return inputs, target, np.stack(weights).astype(np.float32)[..., None]
