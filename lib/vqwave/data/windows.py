"""Windows of audio and of codes for training. Each window is a pure function of (seed, index), and
is read straight from its file. Tracks are weighted by duration.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from ..codecs import WHOLE_SHARE, Labels
from ..generators import GeneratorConfig
from ..io import audio, labels
from ..io.splits import WHOLE, BatchShare
from ..levels import TrainingConfig
from . import codes
from .codes import CodeTrack

# The purposes of random numbers, as part of their keys.
FOR_WINDOW, FOR_START, FOR_NEXT, FOR_CHANGE, FOR_PERFORMANCE = range(2, 7)
PERFORMED = 0.4
"""The share of windows with a performance's codes, when a decoder learns performances."""
UNCHANGED = TrainingConfig()


def rng(seed: int, purpose: int, index: int = 0) -> np.random.Generator:
    """A random generator that depends on the arguments only."""
    return np.random.Generator(np.random.Philox(key=[seed & 0xFFFFFFFFFFFFFFFF,
                                                     (purpose << 56) | index]))


class Batches(keras.utils.PyDataset):
    """Batches of windows: an endless sequence from batch `start` on, of which batch i holds the
    seed's windows i·batch_size …; or, for validation, `fixed` evenly spread windows. Each process
    reads its `share` of the rows.

    sizes: the number of positions of each item, over which positions are drawn uniformly.
    """

    def __init__(self, sizes, batch_size: int, seed: int, start: int = 0, fixed: int | None = None,
                 share: BatchShare = WHOLE):
        super().__init__(workers=1)
        self.batch_size, self.start, self.fixed, self.share = batch_size, start, fixed, share
        self.seed, self.ends = seed, np.cumsum(np.asarray(sizes, np.int64))
        self.places = int(self.ends[-1])
        if fixed is not None:
            # The last batch must also divide among the devices.
            self.fixed = max(1, min(fixed, self.places) // share.devices) * share.devices

    @property
    def num_batches(self):
        return None if self.fixed is None else math.ceil(self.fixed / self.batch_size)

    def numbers(self, batch: int) -> list[int]:
        """The numbers of this process's windows in a batch."""
        first, count = (self.start + batch) * self.batch_size, self.batch_size
        if self.fixed is not None:
            first = batch * self.batch_size
            count = min(count, self.fixed - first)
        return [first + i for i in self.share.rows(count)]

    def position(self, number: int) -> tuple[int, int]:
        """(item, position) of a window: drawn, or evenly spread."""
        if self.fixed is None:
            return self.find(int(rng(self.seed, FOR_WINDOW, number).integers(self.places)))
        return self.find(int((number + 0.5) * self.places / self.fixed))

    def find(self, place: int) -> tuple[int, int]:
        """(item, position in it) of a position in the concatenation of all items."""
        item = int(np.searchsorted(self.ends, place, side="right"))
        return item, place - int(self.ends[item - 1] if item else 0)


class AudioWindows(Batches):
    """Batches (x, x) of audio float32 [batch, length] in [-1, 1] from the tracks of a data folder.

    spans: (first sample, end) of each track file; None: whole tracks. augmentation: a window is
    transposed by up to `transpose` semitones (by resampling), and made up to `gain` dB quieter;
    with probability `mix` another such window is added, and a sum that would clip is scaled down.
    label_config: for a codec with labels; batches are then ({"samples": x, "label": int32 [batch,
    1, 1, 2]}, x), with the label at each window's start as in `labels.Labels`.
    """

    def __init__(self, folder, tracks, length: int, batch_size: int, seed: int,
                 start=0, fixed=None, share=WHOLE,
                 spans: dict[str, tuple[int, int]] | None = None,
                 augmentation: TrainingConfig = UNCHANGED, label_config: Labels | None = None):
        self.spans = [spans[t.file] if spans else (0, t.samples) for t in tracks]
        super().__init__([end - first - length + 1 for first, end in self.spans],
                         batch_size, seed, start, fixed, share)
        self.folder, self.files, self.length = Path(folder), [t.file for t in tracks], length
        self.augmentation = augmentation
        self.tracks, self.label_config = tracks, label_config

    def __getitem__(self, batch: int):
        numbers = self.numbers(batch)
        x = np.stack([self.window(number) for number in numbers])
        y = x.copy()  # TensorFlow may reuse an array's memory
        if self.label_config is None:
            return x, y
        label = np.concatenate([self._label(*self.position(number)) for number in numbers])
        return {"samples": x, "label": _unmixed(label)[:, None, None]}, y

    def _label(self, item: int, place: int) -> np.ndarray:
        """The index of the label at a position of a track: int32 [1]."""
        seconds = np.array([self.spans[item][0] + place]) / self.tracks[item].sample_rate
        return labels.indices_of(self.tracks[item], self.label_config, seconds)

    def window(self, number: int) -> np.ndarray:
        """The window of this number, float32 [length]."""
        random = rng(self.seed, FOR_CHANGE, number)
        sound = self._change(*self.position(number), random)
        if random.random() < self.augmentation.mix:
            mixed_in = self.find(int(random.integers(self.places)))
            sound = sound + self._change(*mixed_in, random)
            sound /= max(1.0, float(np.abs(sound).max()))
        return sound

    def _change(self, item: int, place: int, random: np.random.Generator) -> np.ndarray:
        """The window at a position, transposed and quieter: float32 [length]."""
        semitones = self.augmentation.transpose
        sound = self._read(item, place, int(random.integers(-semitones, semitones + 1)))
        return sound * np.float32(10 ** (-random.uniform(0.0, self.augmentation.gain) / 20))

    def _read(self, item: int, place: int, shift: int = 0) -> np.ndarray:
        """float32 [length] from a position of a track on, or from the last that there is. A track
        too short to be transposed up is not transposed.
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


class PerformedWindows(AudioWindows):
    """Batches ({"samples": x, "codes": int32 [batch, frames, books]}, x). A share `PERFORMED` of
    the windows has the codes of a performance of the track, without augmentation; the others have
    only codes −1.

    level: samples per frame. performed: {file: codes int [frames, books]} of whole tracks.
    """

    def __init__(self, *args, level: int, performed: dict[str, np.ndarray], **options):
        super().__init__(*args, **options)
        self.level, self.performed = level, [performed[file] for file in self.files]

    def __getitem__(self, batch: int):
        sounds, performed = zip(*map(self._pair, self.numbers(batch)), strict=True)
        x = np.stack(sounds)
        return {"samples": x, "codes": np.stack(performed)}, x.copy()

    def _pair(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        item, place = self.position(number)
        performed, frames = self.performed[item], self.length // self.level
        if rng(self.seed, FOR_PERFORMANCE, number).random() >= PERFORMED:
            return self.window(number), np.full((frames, performed.shape[1]), -1, np.int32)
        first = min((self.spans[item][0] + place) // self.level, len(performed) - frames)
        sound = audio.read_window(self.folder / self.files[item], first * self.level, self.length)
        return audio.from_u16(sound), performed[first : first + frames].astype(np.int32)


def _unmixed(indices: np.ndarray) -> np.ndarray:
    """Labels by their indices, int32 [n], each with its whole share: int32 [n, 2]."""
    return np.stack([indices, np.full_like(indices, WHOLE_SHARE)], axis=-1)


class Span(NamedTuple):
    """`frames` frames of a track from frame `start` on."""

    track: CodeTrack
    start: int
    frames: int


class Window:
    """What the conditions of a generator read for a window of these spans: a
    `levels.conditions.View` with a batch of one. Beyond the window, the first and the last track go
    on.
    """

    def __init__(self, generator: GeneratorConfig, spans: Sequence[Span]):
        self.generator, self.level, self.spans = generator, generator.level, spans

    def _parts(self, begin: int, end: int, ratio: int = 1) -> Iterator[tuple[CodeTrack, int, int]]:
        """(track, first frame, end) of each part of a window's frames begin … end - 1, all in
        frames of `ratio` frames of the level.
        """
        place = 0
        for number, span in enumerate(self.spans):
            shift, after = span.start // ratio - place, place + span.frames // ratio
            first = max(begin, place) if number else begin
            last = min(end, after) if span is not self.spans[-1] else end
            if first < last:
                yield span.track, first + shift, last + shift
            place = after

    def frames(self, begin: int, end: int, pad: int) -> np.ndarray:
        """Frames of the window, with `pad` outside a track: int32 [1, end - begin, books]."""
        books = self.generator.books
        return np.concatenate([_read(x.codes, x.first, x.frames, part, pad, books)
                               for x, *part in self._parts(begin, end)])[None]

    def positions(self, start: int, count: int) -> np.ndarray:
        return np.concatenate([x.start + self.level * np.arange(first, last)
                               for x, first, last in self._parts(start, start + count)])[None]

    def codes_above(self, begin: int, end: int, pad: int) -> np.ndarray:
        return self._above(begin, end, pad, self.generator.source.books)

    def sound_above(self, begin: int, end: int) -> np.ndarray:
        ratio, level = self.generator.ratio, self.generator.source_level
        first = begin // ratio
        rows = self._above(first, -(-end // ratio), audio.SILENCE, level)
        sound = audio.from_u16(rows.astype(np.uint16)).reshape(1, -1, self.level)
        return sound[:, begin - first * ratio :][:, : end - begin]

    def _above(self, begin: int, end: int, pad: int, books: int) -> np.ndarray:
        """Frames of the level above: int32 [1, end - begin, books]."""
        return np.concatenate([_read(x.above, x.first_above, x.frames_above, part, pad, books)
                               for x, *part in self._parts(begin, end, self.generator.ratio)])[None]

    def labels(self, start: int, count: int) -> np.ndarray:
        numbers, samples = [], self.positions(start, count)[0]
        for x, first, last in self._parts(start, start + count):
            part, samples = np.split(samples, [last - first])
            seconds = part * 2 ** (x.shift / 12) / x.track.sample_rate
            numbers.append(labels.indices_of(x.track, self.generator.labels, seconds))
        return _unmixed(np.concatenate(numbers))[None, :, None]

    def score(self, start: int, count: int, books: int) -> np.ndarray:
        parts = []
        for track, first, last in self._parts(start, start + count):
            frame = self.level / track.track.sample_rate
            begin = track.start / track.track.sample_rate + first * frame
            parts.append(track.score.in_frames(begin, frame, last - first, books))
        return np.concatenate(parts)[None]


def _read(frames, start: int, count: int, part: Sequence[int], pad: int, books: int) -> np.ndarray:
    """A part (first frame, end) of the `count` frames of codes from frame `start` on, with `pad`
    outside them: int32 [n, books].
    """
    (first, last), begin = part, max(0, part[0])
    inside = codes.read_frames(frames, start + begin, min(count, last) - begin, books)
    outside = max(0, -first), max(0, last - count)
    return np.pad(inside, (outside, (0, 0)), constant_values=pad)


def count_places(frames: int, length: int, unit: int) -> int:
    """The number of positions, `unit` frames apart, of a window in a track of `frames` frames; 1
    for a track shorter than a window.
    """
    return max(0, frames - length) // unit + 1


class CodeWindows(Batches):
    """Batches (inputs, frames), or (inputs, frames, weights), for a `Generator`, from cached codes.

    inputs: "previous" int32 [batch, length, books], with the start token at the beginning of a
    track; the input of each condition by name; with several books, "current" equals `frames`.
    frames: int32 [batch, length, books]. weights: float32 [batch, length, 1], only if a validation
    track is shorter than a window: 0 after the track's end, otherwise a constant that makes the
    mean 1. length: frames in a window, a multiple of the ratio.

    A training window continues past its track's end with the beginning of another track, so that a
    model learns to leave the silence at an end. Validation windows lie inside their tracks.
    """

    def __init__(self, tracks: Sequence[CodeTrack], generator: GeneratorConfig,
                 length: int, batch_size: int,
                 seed: int, start=0, fixed=None, share=WHOLE):
        self.tracks, self.generator, self.length = tracks, generator, length
        self.unit = generator.ratio or 1
        self.weight = None
        # Positions are source frames. Half a window of extra positions stand for the beginning of a
        # track, which would otherwise be drawn once in thousands of windows.
        self.lead = length // self.unit // 2
        # A short validation track has as many positions as source frames, instead of one.
        super().__init__([self._whole(x) // self.unit + self.lead if fixed is None
                          else max(1, x.frames // self.unit) if x.frames < length
                          else count_places(x.frames, length, self.unit) for x in tracks],
                         batch_size, seed, start, fixed, share)
        if fixed is not None and min(track.frames for track in tracks) < length:
            self.weight = length / float(np.mean([
                min(length, tracks[self.position(i)[0]].frames) for i in range(self.fixed)]))

    def _whole(self, track: CodeTrack) -> int:
        """The number of a track's frames that fill whole source frames."""
        return max(self.unit, track.frames // self.unit * self.unit)

    def spans(self, number: int) -> list[Span]:
        """The spans of a window."""
        item, place = self.position(number)
        track = self.tracks[item]
        if self.fixed is not None:
            start = min(place, count_places(track.frames, self.length, self.unit) - 1) * self.unit
            return [Span(track, start, min(self.length, track.frames - start))]
        start, spans, left = max(0, place - self.lead) * self.unit, [], self.length
        random = rng(self.seed, FOR_NEXT, number)
        while left > 0:
            spans.append(Span(track, start, min(left, self._whole(track) - start)))
            left -= spans[-1].frames
            track, start = self.tracks[self.find(int(random.integers(self.places)))[0]], 0
        return spans

    def __getitem__(self, batch: int):
        generator, length = self.generator, self.length
        views = [Window(generator, self.spans(number)) for number in self.numbers(batch)]
        frames = np.concatenate([x.frames(-1, length, generator.start_token) for x in views])
        target = frames[:, 1:] % generator.num_codes  # 0 after a track's end
        inputs = {"previous": frames[:, :-1].copy()} | {
            condition.input: np.concatenate([condition.rows(x, 0, length) for x in views])
            for condition in generator.conditions}
        if generator.books > 1:
            inputs["current"] = target.copy()
        if self.weight is None:
            return inputs, target
        served = np.array([sum(span.frames for span in x.spans) for x in views])
        weights = np.where(np.arange(length) < served[:, None], self.weight, 0)
        return inputs, target, weights.astype(np.float32)[..., None]
