"""The corpus as codes: each track is encoded once for each codec and variant, and cached as uint16
[frames, books] in data/.codes/<checksum>/<track file>.<variant>.u16.

<checksum> is the checksum of front end, encoder and codebook. `index.jsonl` holds the checksum of
the track and of the bytes for each file. A file that differs is encoded again.
"""

import contextlib
import functools
import itertools
import json
import math
import os
import threading
import time
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..dsp import metrics
from ..errors import UserError
from ..io import audio, cluster, files, manifest, weights
from ..io.files import atomic_write
from . import chunking
from .scores import Score

OFFSET_STEP = 165
"""Samples between successive alignments, if this number and the level are coprime."""
BLOCK_SAMPLES = 1 << 20  # read at once
# A worker of a cluster may have several threads, but Keras models are not thread-safe.
_ENCODING = threading.Lock()


class Variant(NamedTuple):
    """A track with a gain of `gain` dB, transposed by `shift` semitones, and without its first
    `offset` · `step` samples.
    """

    offset: int
    shift: int = 0
    step: int = OFFSET_STEP
    gain: float = 0.0

    def __str__(self):
        shift = f"{self.shift:+d}" if self.shift else ""
        step = f"@{self.step}" if self.offset and self.step != OFFSET_STEP else ""
        gain = f"{self.gain:+g}dB" if self.gain else ""
        return f"{self.offset}{shift}{step}{gain}"

    @property
    def start(self) -> int:
        """The number of samples removed from the start, after the transposition."""
        return self.offset * self.step

    def samples(self, track: manifest.Track) -> int:
        """The number of encoded samples of a track."""
        return audio.transposed_length(track.samples, self.shift) - self.start


def alignment_step(level: int) -> int:
    """Samples between successive alignments: coprime with the level, so there are as many different
    alignments as samples in a frame.
    """
    return next(step for step in itertools.count(OFFSET_STEP) if math.gcd(step, level) == 1)


class CodeTrack(NamedTuple):
    """The codes of a variant of a track, from which windows are cut.

    codes: the file of cached codes, or codes int [frames, books] in memory. first, frames: the
    first frame that is used, and their number. above, first_above, frames_above: the same for the
    level above, or its sound as u16 samples; None at the top of a chain. shift, start: of the
    `Variant`.
    """

    codes: Path | np.ndarray
    frames: int
    above: Path | np.ndarray | None = None
    frames_above: int = 0
    track: manifest.Track | None = None
    shift: int = 0
    start: int = 0
    first: int = 0
    first_above: int = 0
    score: Score | None = None


def cut(track: manifest.Track, variant: Variant, span: tuple[int, int],
        own: tuple[Path, int], level: int,
        above: tuple[Path, int] | None = None, level_above: int = 0) -> CodeTrack:
    """The frames of a variant inside a span (first sample, end) of its track. The first one begins
    with a frame of the level above. own, above: (codes file, frames) of the variant at each level.
    """
    begin, end = (audio.transposed_length(n, variant.shift) - variant.start for n in span)
    unit = level_above or level
    first = max(0, begin) // unit

    def count(frames, size):
        return min(frames, -(-end // size)) - first * unit // size

    upper = {} if above is None else {"above": above[0], "first_above": first,
                                      "frames_above": count(above[1], level_above)}
    return CodeTrack(own[0], count(own[1], level), track=track, shift=variant.shift,
                     start=variant.start + first * unit, first=first * unit // level, **upper)


def variants(offsets: int, transpose: int = 0, level: int = 1, gain: float = 0.0) -> list[Variant]:
    """The variants of a training track: `offsets` alignments; one `gain` dB quieter; then each
    transposition within ±`transpose` semitones, at one alignment and one gain. level: the coarsest
    encoded level; finer levels have the same alignments.
    """
    step = alignment_step(level)
    shifts = [shift for size in range(1, transpose + 1) for shift in (size, -size)]
    return [*(Variant(offset, 0, step) for offset in range(offsets)),
            *([Variant(0, 0, step, -gain)] if gain else []),
            *(Variant(number, shift, step, -gain * (number % 3) / 2 or 0.0)
              for number, shift in enumerate(shifts, 1))]


def encode_corpus(data_dir, copies, codec_weights: weights.WeightSet, say, load, here: bool = True,
                  scheduler: str | None = None, sounds: bool = False) -> list[tuple[Path, int]]:
    """[(codes file, frames)] of all `copies`, each (track, variant). Missing ones are encoded.

    load: `codec_layer.load_encoder`; or, with `sounds`, `load_echo`, which makes sounds. here:
    False waits until another process has encoded the tracks. scheduler: the address of a Dask
    cluster whose workers encode; they need data and codec under the same paths.
    """
    data_dir = Path(os.path.abspath(data_dir))
    checksum = codec_weights.checksum if sounds else codec_weights.encoding_checksum
    folder = files.make_folder(data_dir / ".codes" / checksum[:16])
    level = codec_weights.config.level
    copies = [(track, variant, folder / f"{track.file}.{variant}.u16",
               -(-variant.samples(track) // level)) for track, variant in copies]
    missing = _find_missing(folder, copies)
    while missing and not here:
        time.sleep(5)
        missing = _find_missing(folder, missing)
    if missing:
        say.start(len(missing), 0, f"encoding at {level}x")
        say(f"encoding {len(missing)} of {len(copies)} copies of tracks at {level}x, once")
        _encode_missing(data_dir, folder, missing, codec_weights, say, load, scheduler)
        say.stop()
    return [(path, count) for _, _, path, count in copies]


def _encode_missing(data_dir: Path, folder: Path, missing: list, codec_weights, say, load,
                    scheduler: str | None):
    """Encode copies of tracks, and add each to the index when its file is written."""
    parents = {path.parent for _, _, path, _ in missing}
    for parent in parents:
        files.sweep(parent)
    epoch = int(codec_weights.tag) if codec_weights.tag.isdigit() else codec_weights.tag or None
    source = (load, os.path.abspath(codec_weights.folder), codec_weights.name, epoch,
              codec_weights.checksum)
    tracks = {path: track for track, _, path, _ in missing}
    jobs = ((source, data_dir / track.file, track.samples, variant, path)
            for track, variant, path, _ in missing)
    results = (cluster.run(scheduler, _encode, jobs, say) if scheduler else
               ((job, _encode(*job)) for job in jobs))
    with files.open_own(folder / "index.jsonl") as log:
        for done, (job, result) in enumerate(results, 1):
            path, track = job[-1], tracks[job[-1]]
            if isinstance(result, cluster.WorkerDied):
                raise UserError(f"{track.file}: encoding it ended the worker (a crash, or out of "
                                f"memory)") from result
            if scheduler and not path.exists():
                raise UserError(f"{path}: a worker wrote this file, but this machine does not see "
                                f"it; all workers need the same folders under the same paths")
            entry = {"file": path.relative_to(folder).as_posix(), "track": track.content, **result}
            # The line break comes first, because a killed run may have left half a line.
            log.write("\n" + json.dumps(entry))
            log.flush()
            say.advance(done)
    if scheduler:
        # Remove the unfinished files of dead workers. Files that are being written are locked.
        for parent in parents:
            files.sweep(parent, seconds=1)
    _encoder.cache_clear()


@functools.lru_cache(1)
def _encoder(load, *source):
    """The encoder that `load` returns, cached for the next track."""
    return load(*source)


def _encode(source, track: Path, count: int, variant: Variant, path: Path) -> dict:
    """Write the codes of a track's variant to `path`. Returns their number and checksum."""
    first, factor = 0 if variant.shift else variant.start, np.float32(10 ** (variant.gain / 20))
    blocks = (factor * audio.from_u16(
        audio.read_window(track, start, min(BLOCK_SAMPLES, count - start)))
        for start in range(first, count, BLOCK_SAMPLES))
    if variant.shift:
        blocks = _drop(audio.transpose(blocks, count, variant.shift), variant.start)
    with _ENCODING:
        codec_config, halo, encode = _encoder(*source)
        pieces = chunking.encode_blocks(encode, (block[None] for block in blocks),
                                        codec_config.level, halo)
        codes = np.concatenate([piece[0].astype("<u2") for piece in pieces])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as f:
        f.write(codes.tobytes())
    return {"codes": len(codes), "crc": zlib.crc32(codes.tobytes())}


def _drop(blocks, count: int):
    """The blocks [n] of a signal without its first `count` samples."""
    for block in blocks:
        yield block[count:]
        count = max(0, count - block.size)


def _find_missing(folder: Path, copies: list) -> list:
    """The copies, (track, variant, path, frames), whose files are missing or have changed."""
    index = _read_index(folder)

    def is_cached(track, path, count):
        entry = index.get(path.relative_to(folder).as_posix(), {})
        with contextlib.suppress(OSError, KeyError):
            return (entry["track"] == track.content and entry["codes"] == count
                    and entry["crc"] == zlib.crc32(path.read_bytes()))
        return False

    return [copy for copy in copies if not is_cached(copy[0], *copy[2:])]


def _read_index(folder: Path) -> dict[str, dict]:
    """The last entry for each file; broken lines are ignored."""
    entries = {}
    with contextlib.suppress(FileNotFoundError):
        text = (folder / "index.jsonl").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                entries[entry["file"]] = entry
    return entries


def read_frames(codes: Path | np.ndarray, start: int, count: int, books: int) -> np.ndarray:
    """int32 [count, books]: frames from `start` on, of a file of cached codes or of an array."""
    if isinstance(codes, np.ndarray):
        return codes[start : start + count].astype(np.int32)
    return audio.read_window(codes, start * books,
                             count * books).astype(np.int32).reshape(count, books)


def unigram_bits(train, held_out, num_codes: int, books: int = 1) -> float:
    """Bits per held-out frame, by each code's add-one smoothed frequency in the training tracks;
    `CodeTrack`s.
    """
    in_training, in_held_out = (
        sum((metrics.histogram(read_frames(t.codes, t.first, t.frames, books), num_codes)
             for t in tracks), np.zeros((books, num_codes), np.int64))
        for tracks in (train, held_out))
    if not (frames := in_held_out[0].sum()):
        return books * float(np.log2(num_codes))
    shares = (in_training + 1) / (in_training.sum(axis=1, keepdims=True) + num_codes)
    return float(-(in_held_out * np.log2(shares)).sum() / frames)
