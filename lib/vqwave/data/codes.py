"""The corpus as codes: each track encoded once a codec and sample offset, cached as uint16 [frames,
books].

    data/.codes/<checksum>/<track file>.<offset>.u16       data/.codes/<checksum>/index.jsonl

<checksum> is that of what encodes. A cached file counts only while the index names it with the
checksum of the track it was made from and of its own bytes; a torn or stale one is made again. An
offset drops that many samples off the track's start, so that a generator meets the same music under
several alignments of the codes. The index's first line names the codec.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
import zlib
from pathlib import Path

import numpy as np

from .. import files, weights
from ..errors import UserError
from ..files import atomic_write
from . import audio, chunking, cluster, windows

# Odd and no divisor of any level, so that successive offsets differ modulo 8, 32, 128 and 512
# alike.
OFFSET_STEP = 165
# Samples read at once.
BLOCK = 1 << 20
# A worker of a cluster may have several threads; Keras's models are made and called by one at a
# time.
_ENCODING = threading.Lock()


def encode_corpus(data_dir, tracks, codec: weights.WeightSet, offsets: int, say, load, here: bool = True,
                  scheduler: str | None = None) -> list:
    """[(track file, offset index, (codes file, frames))] of every track and offset; what is not
    cached is encoded.

    Memory: the codes of one track.

    Args:
        say: a `progress.Reporter`.
        load: (folder, name, epoch, checksum) -> (config, halo, encode), as `nn.codec.load_encoder`;
            a function that workers of a cluster can import.
        here: False waits until another process has done it.
        scheduler: the address of a Dask cluster whose workers do it; they see data and codec under
            the same names.
    """
    data_dir = Path(os.path.abspath(data_dir))
    folder = data_dir / ".codes" / codec.encoding_checksum[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{folder}: the cache of codes cannot be written: {e.strerror}") from e
    wanted, found = [], []
    for track in tracks:
        for i in range(offsets):
            count = -(-(track.samples - i * OFFSET_STEP) // codec.config.level)
            path = folder / f"{track.file}.{i}.u16"
            wanted.append((track, i, path, count))
            found.append((track.file, i, (path, count)))
    missing = _find_missing(folder, wanted)
    while missing and not here:
        time.sleep(5)
        missing = _find_missing(folder, missing)
    if not missing:
        return found
    level = codec.config.level
    say.start(len(missing), 0, f"encoding at {level}x")
    say(f"encoding {len(missing)} of {len(found)} tracks × offsets at {level}x, once")
    if earlier := _earlier(folder, codec.name):
        size = sum(p.stat().st_size for other in earlier for p in other.rglob("*.u16")) / 1e9
        say(f"codes of earlier {codec.name}s take {size:.2f} GB; where those codecs are gone: rm -r "
            + " ".join(f"'{other}'" for other in earlier))
    for parent in {entry[2].parent for entry in missing}:
        files.sweep(parent)
    with open(folder / "index.jsonl", "a", encoding="utf-8") as log:
        if not log.tell():
            log.write(json.dumps({"codec": codec.name}) + "\n")
        epoch = int(codec.tag) if codec.tag.isdigit() else codec.tag or None
        source = load, os.path.abspath(codec.folder), codec.name, epoch, codec.checksum
        known = {path: track for track, _, path, _ in missing}
        jobs = ((source, data_dir / track.file, track.samples, i, path) for track, i, path, _ in missing)
        made = cluster.run(scheduler, _encode, jobs) if scheduler else ((job, _encode(*job)) for job in jobs)
        for done, (job, result) in enumerate(made):
            path = job[-1]
            track = known[path]
            if isinstance(result, cluster.WorkerDied):
                raise UserError(f"{track.file}: encoding it ended the worker (a crash, or out of memory)") from result
            if scheduler and not path.exists():
                raise UserError(f"{path}: a worker has written it, but it is not here: all workers must see the same "
                                "folders under the same names")
            entry = {"file": path.relative_to(folder).as_posix(), "track": track.sha256, **result}
            log.write(json.dumps(entry) + "\n")
            log.flush()
            say.advance(done + 1)
    say.stop()
    _encoder.cache_clear()
    return found


@functools.lru_cache(1)
def _encoder(load, *source):
    """What `load` makes of a codec, kept for the next track."""
    return load(*source)


def _encode(source, track: Path, count: int, offset: int, path: Path) -> dict:
    """Write the codes of `count` samples of `track` less the offset to `path`; what the index holds
    of them.
    """
    starts = range(offset * OFFSET_STEP, count, BLOCK)
    blocks = (audio.from_u16(windows.read_window(track, start, min(BLOCK, count - start))) for start in starts)
    with _ENCODING:
        codec, halo, encode = _encoder(*source)
        pieces = chunking.encode_blocks(encode, blocks, codec.level, halo)
        made = np.concatenate([piece.astype("<u2") for piece in pieces])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as f:
        f.write(made.tobytes())
    return {"codes": len(made), "crc": zlib.crc32(made.tobytes())}


def _find_missing(folder: Path, wanted: list) -> list:
    """Those of `wanted`, (track, offset index, path, codes) each, that are not there whole."""
    index, missing = _read_index(folder), []
    for track, i, path, count in wanted:
        entry = index.get(path.relative_to(folder).as_posix())
        if not entry or entry["track"] != track.sha256 or entry["codes"] != count or _crc(path) != entry["crc"]:
            missing.append((track, i, path, count))
    return missing


def _earlier(folder: Path, name: str) -> list[Path]:
    """The folders beside `folder` that hold codes of other codecs called `name`."""
    first = json.dumps({"codec": name}) + "\n"
    found = []
    for index in sorted(folder.parent.glob("*/index.jsonl")):
        with open(index, encoding="utf-8", errors="replace") as file:
            if index.parent != folder and file.readline() == first:
                found.append(index.parent)
    return found


def _read_index(folder: Path) -> dict[str, dict]:
    """The last entry for each file; a line that a killed run left half written is no entry."""
    entries = {}
    try:
        lines = (folder / "index.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return entries
    for line in lines:
        try:
            entry = json.loads(line)
            entries[entry["file"]] = {key: entry[key] for key in ("track", "codes", "crc")}
        except (ValueError, KeyError, TypeError):
            continue
    # Begin with a line break, in case the last line has none.
    if lines and not (folder / "index.jsonl").read_bytes().endswith(b"\n"):
        with open(folder / "index.jsonl", "a", encoding="utf-8") as f:
            f.write("\n")
    return entries


def _crc(path: Path) -> int | None:
    try:
        return zlib.crc32(path.read_bytes())
    except OSError:
        return None


def count_codes(frames, num_codes: int, books: int = 1) -> np.ndarray:
    """How often each code stands in each book, [books, num_codes], over arrays of whole numbers
    [frames, books].
    """
    counts = np.zeros((books, num_codes), np.int64)
    for some in frames:
        for book in range(books):
            counts[book] += np.bincount(some[:, book], minlength=num_codes)
    return counts


def unigram_costs(counts: np.ndarray) -> np.ndarray:
    """Bits of each code by its frequency alone, add-one smoothed: counts and costs [books,
    num_codes].
    """
    return -np.log2((counts + 1) / (counts.sum(axis=1, keepdims=True) + counts.shape[1]))


def unigram_bits(train, held_out, num_codes: int, books: int = 1) -> float:
    """Bits a held-out frame costs when each of its codes is coded by how often it stands in
    training; books add up.

    train, held_out: `(codes file, frames)` each.
    """
    seen, asked = (
        count_codes((windows.read_frames(path, 0, count, books) for path, count in side), num_codes, books)
        for side in (train, held_out))
    frames = asked[0].sum()
    return float((asked * unigram_costs(seen)).sum() / frames) if frames else books * float(np.log2(num_codes))
