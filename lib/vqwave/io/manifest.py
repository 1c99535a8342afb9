"""Data folders: `manifest.jsonl`, a line a track, beside `.u16` files; and how a folder of music
becomes one.

A manifest is replaced as a whole. Where its last line is cut off nevertheless, as by an interrupted
copy, that line is left out, and `prepare` makes its track again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import errno
import functools
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import stat
import threading
import time
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from .. import cli, machine, progress
from ..errors import UserError
from . import audio, cluster
from .audio import AUDIO_SUFFIXES, Decoder, to_u16
from .files import atomic_write, lock_folder, printable, reason, sweep

NAME = "manifest.jsonl"
TAGS = ("artist", "title", "album", "genre", "year")
_SAVE_EVERY = 5.0
_BLOCK = 1 << 20  # samples
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_ENDED_ITS_PROCESS = "decoding it ended the process (a crash, or out of memory)"


@dataclass(frozen=True)
class Track:
    """One line of a manifest: `samples` uint16 samples in `file` (relative to the folder, with
    slashes).

    `source` is the absolute path it was made from, `sha256`, `source_size` (bytes) and
    `source_mtime_ns` what that file was like; `tags` has every name of `TAGS`, None where the file
    does not say. `high_passed`: it held much that is below hearing, which was taken out.
    """

    file: str
    source: str
    sample_rate: int
    samples: int
    sha256: str
    tags: dict[str, str | None]
    source_size: int = -1
    source_mtime_ns: int = -1
    high_passed: bool = False

    @property
    def content(self) -> str:
        """What its samples depend on, at one sample rate."""
        return self.sha256 + "+high-pass" * self.high_passed

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def path(self, folder) -> Path:
        return Path(folder, self.file)

    def is_intact(self, folder) -> bool:
        """Its file is there and has the recorded length."""
        try:
            return self.path(folder).stat().st_size == 2 * self.samples
        except (OSError, ValueError):
            return False


# ------------------------------------------------------------------------------ reading and writing


def read(folder) -> list[Track]:
    """The tracks of a data folder in the order of their names, each with its file in place, all at
    one sample rate.

    Raises:
        UserError: there is no folder or no manifest; a line is broken (the message has its number);
            a file is missing, has another length or is outside the folder, by its name or by a
            link; sample rates are mixed.
    """
    folder = Path(folder)
    tracks = _load(folder)
    if not tracks:
        raise UserError(f"{printable(folder)}: the manifest names no track; fill it with "
                        f"{cli.command('prepare')}")
    for track in tracks:
        if not track.is_intact(folder):
            raise UserError(
                f"{printable(folder)}: {printable(track.file)} is missing or not "
                f"{2 * track.samples} bytes long as {NAME} says; run {cli.command('prepare')} "
                f"again")
    first = tracks[0]
    for track in tracks:
        if track.sample_rate != first.sample_rate:
            raise UserError(
                f"{printable(folder)}: mixed sample rates: {printable(first.file)} has "
                f"{first.sample_rate} Hz, {printable(track.file)} {track.sample_rate} Hz; run "
                f"{cli.command('prepare')} again for all")
    return tracks


def write(folder, tracks):
    """Put the manifest of `tracks` into `folder`, sorted by file, all at once."""
    with atomic_write(Path(folder, NAME)) as out:
        for track in sorted(tracks, key=lambda t: t.file):
            out.write(json.dumps(vars(track)).encode("ascii") + b"\n")


def _load(folder):
    path = folder / NAME
    try:
        # newline: JSON allows other line breaks inside a string.
        with open(path, encoding="utf-8", newline="\n") as lines:
            tracks = _tracks(path, lines)
    except FileNotFoundError as e:
        what = f"there is no {NAME} in it" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{printable(folder)}: {what}; make it with "
                        f"{cli.command('prepare')}") from e
    except OSError as e:
        raise UserError(f"{printable(path)}: cannot be read: {reason(e)}") from e
    except UnicodeDecodeError as e:
        raise UserError(
            f"{printable(path)}: is not a manifest; remove it and run {cli.command('prepare')} "
            f"again") from e
    tracks.sort(key=lambda t: t.file)
    for file in _find_links_outside(folder, [t.file for t in tracks]):
        raise UserError(f"{printable(folder)}: {printable(file)} lies outside the folder, where a "
                        f"link leads")
    return tracks


def _tracks(path, lines):
    tracks, seen = [], set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            track = _parse(line)
            if track.file in seen:
                raise ValueError(f"{track.file!r} is there twice")
        except (ValueError, RecursionError) as e:
            if isinstance(e.__cause__, json.JSONDecodeError) and not line.endswith("\n"):
                break  # cut off
            raise UserError(f"{printable(path)}, line {number}: {printable(str(e))}; "
                            f"remove it and run {cli.command('prepare')} again") from e
        seen.add(track.file)
        tracks.append(track)
    return tracks


def _find_links_outside(folder, files):
    """Those of `files` that links lead out of `folder`."""
    # Folders once: a million tracks lie in few of them.
    real = functools.cache(os.path.realpath)
    for file in files:
        parent, name = os.path.split(os.path.join(folder, file))
        path = os.path.join(real(parent), name)
        path = os.path.realpath(path) if os.path.islink(path) else path
        if not path.startswith(os.path.join(real(folder), "")):
            yield file


def _parse(line):
    try:
        values = json.loads(line)
    except ValueError as e:
        raise ValueError(f"not JSON ({e})") from e
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    kinds = {"file": str, "source": str, "sample_rate": int, "samples": int,
             "sha256": str, "tags": dict}
    optional = {"source_size": int, "source_mtime_ns": int, "high_passed": bool}
    for key, kind in (kinds | {k: v for k, v in optional.items() if k in values}).items():
        if key not in values:
            raise ValueError(f"{key} is missing")
        if not isinstance(values[key], kind) or isinstance(values[key], bool) != (kind is bool):
            raise ValueError(f"{key} is {values[key]!r}")
    for key in ("sample_rate", "samples"):
        if values[key] < 1:
            raise ValueError(f"{key} is {values[key]}")
    file = PurePosixPath(values["file"])
    if file.is_absolute() or ".." in file.parts or not file.parts or "\0" in values["file"]:
        raise ValueError(f"{values['file']!r} lies outside the folder")
    # Keys of other versions (an earlier one had checksums) are no reason to refuse a folder that
    # can be read.
    return Track(**{k: values[k] for k in (*kinds, *optional) if k in values})


# ---------------------------------------------------------------------------------------- preparing


@dataclass
class PrepareReport:
    """What `prepare` did: tracks made, tracks that were up to date, (source path, reason) of what
    failed, and `notes`, lines on what the user may want to look at although nothing failed.
    """

    converted: list[Track] = field(default_factory=list)
    up_to_date: list[Track] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: everything is there; 1: some failed; 2: nothing could be done."""
        if not self.failed:
            return 0
        return 1 if self.converted or self.up_to_date else 2


@dataclass(frozen=True)
class _Job:
    """One source: its absolute path, its output `file` in `folder`, and the track that is there
    already, if any.
    """

    source: str
    folder: Path
    file: str
    sample_rate: int
    size: int
    mtime_ns: int
    known: Track | None

    @property
    def is_up_to_date(self) -> bool:
        """The track is up to date by size and time alone."""
        t = self.known
        return t is not None and (t.sample_rate, t.source_size, t.source_mtime_ns) == (
            self.sample_rate, self.size, self.mtime_ns)


def prepare(src, dst, sample_rate: int, workers=None, overwrite=False, progress=False,
            scheduler: str | None = None) -> PrepareReport:
    """Convert every audio file under `src` to mono u16 under `dst`, in the same folders, and bring
    the manifest up to date. `a/song.mp3` becomes `a/song.mp3.u16`, and `a/song.flac` another file.

    What cannot be converted is in the report and stops nothing else, not even a decoder that
    crashes its process. Interrupted at any instant, it leaves whole tracks only, and the next run
    continues.

    The same recording is one track, since one of two would be held out while the other trains: a
    file without a track takes over that of a file which is gone and was the same, byte for byte,
    and moves it where it lies in another folder now; a copy of a file that is there is left out,
    which a note says. Two tracks that are there already stay. So do tracks whose source is gone,
    which a note says too.

    Args:
        workers: processes; None is one a core.
        overwrite: convert tracks again whose source has not changed (size and time, else SHA-256).
        progress: show a bar where stderr is a terminal.
        scheduler: the address of a Dask cluster that does the converting; its workers see `src` and
            `dst` under the same names.

    Raises:
        UserError: `src` is no folder, holds no audio or is `dst`; `dst` cannot be written to, is in
            use, or has all its tracks at another sample rate (`overwrite` converts them).
    """
    src, dst = Path(os.path.abspath(src)), Path(os.path.abspath(dst))
    if os.path.realpath(src) == os.path.realpath(dst):
        raise UserError(f"{printable(src)}: is the folder of the music itself; name another one "
                        f"for the data")
    sources, failed = _scan(src)
    if not sources and not failed:
        raise UserError(f"{printable(src)}: no audio in it (looked for {' '.join(AUDIO_SUFFIXES)})")
    report = PrepareReport(failed=failed)
    with _claim(dst):
        existing = _read_existing(dst, overwrite)
        # A mixture is what a conversion left that was broken off: that one goes on.
        if existing and not overwrite and all(t.sample_rate != sample_rate for t in existing):
            raise UserError(f"{printable(dst)}: its {len(existing)} tracks are at "
                            f"{existing[0].sample_rate} Hz, not {sample_rate} Hz; name another "
                            f"folder, or convert them again with --overwrite")
        tracks = {t.file: t for t in existing if t.is_intact(dst)}
        jobs, copies = _plan(src, dst, sources, tracks, sample_rate, failed)
        if overwrite:
            jobs = [replace(job, known=None) for job in jobs]
        present = {job.source for job in jobs}
        with _bar(sum(job.size for job in jobs), len(jobs), progress) as advance:
            results = _Results(dst, tracks, report, advance, changed=len(tracks) < len(existing))
            try:
                for job in jobs:
                    if job.is_up_to_date:
                        results.add(job,
                                    ("up to date", replace(job.known, source=job.source), None))
                jobs = [job for job in jobs if not job.is_up_to_date]
                if jobs and scheduler:
                    _cluster(jobs, scheduler, results.add)
                elif jobs:
                    _pool(jobs, workers or machine.cores(), results.add)
            finally:
                # Also where Ctrl-C or a full disk ends the run: what is done is done.
                results.save()
    # Of a file that could not be converted, a copy can neither.
    why, made = dict(failed), {t.source for t in tracks.values()}
    failed += [(copy, why[kept]) for copy, kept in copies.items() if kept not in made]
    failed.sort()
    if slow := [track for track in report.converted if track.high_passed]:
        which = (printable(slow[0].file) if len(slow) == 1 else
                 f"{len(slow)} tracks (for instance {printable(slow[0].file)})")
        report.notes.append(f"what is below {audio.HEARING:g} Hz, which nobody hears, is much in "
                            f"{which}, and taken out")
    others = [t for t in tracks.values() if t.sample_rate != sample_rate]
    if others:
        report.notes.append(f"{len(others)} tracks in {printable(dst)} have another sample rate, "
                            f"for instance {printable(others[0].file)} ({others[0].sample_rate} "
                            f"Hz); training refuses such a folder")
    if left_out := [pair for pair in copies.items() if pair[1] in made]:
        copy, kept = map(printable, left_out[0])
        which = (f"{copy} is a copy of {kept}" if len(left_out) == 1 else
                 f"{len(left_out)} files are copies of others (for instance {copy} of {kept})")
        report.notes.append(f"{which}, byte for byte, and left out")
    if gone := [t for t in tracks.values() if t.source not in present
                and t.source.startswith(os.path.join(src, "")) and _is_gone(t.source)]:
        which = (printable(gone[0].file) if len(gone) == 1 else
                 f"{len(gone)} tracks (for instance {printable(gone[0].file)})")
        report.notes.append(f"the source of {which} is gone from {printable(src)}; a track stays, "
                            f"and is trained on, until its .u16 file is removed from "
                            f"{printable(dst)} and {cli.command('prepare')} runs again")
    return report


def _scan(src):
    """Paths of audio files relative to `src`, sorted, and what failed. Links are followed, each
    folder entered once.
    """
    if not src.is_dir():
        raise UserError(f"{printable(src)}: " + ("is not a folder" if src.exists()
                                                 else "there is no such folder"))
    found, failed, seen = [], [], set()
    # Real folders first, linked ones after: a folder that has both names goes by its own.
    waiting, linked = [""], []
    while waiting or linked:
        relative = waiting.pop() if waiting else linked.pop()
        here = os.path.join(src, relative)
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda e: e.name, reverse=True)
        except OSError as e:
            failed.append((here, reason(e)))
            continue
        for entry in entries:
            name = os.path.join(relative, entry.name)
            try:
                mode = entry.stat().st_mode
            except OSError as e:
                # A dangling or circular link matters only if it looks like music.
                if _is_audio(entry.name):
                    failed.append((os.path.join(src, name), reason(e)))
                continue
            if stat.S_ISDIR(mode):
                (linked if entry.is_symlink() else waiting).append(name)
            elif stat.S_ISREG(mode) and _is_audio(entry.name):
                found.append(name)
    return sorted(found), failed


def _is_audio(name):
    # "._song.mp3" is what macOS leaves beside song.mp3 on foreign disks; it holds no sound.
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES and not name.startswith("._")


@contextlib.contextmanager
def _claim(dst):
    """Make `dst` and hold it, cleared of what a killed run left."""
    with contextlib.ExitStack() as held:
        try:
            dst.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock_folder(dst, "data", "being prepared"))
        except OSError as e:
            raise UserError(f"{printable(dst)}: cannot be written to: {reason(e)}") from e
        _sweep(dst)
        # A worker that dies leaves its unfinished track.
        held.callback(_sweep, dst)
        yield


def _sweep(dst):
    for folder, _, _ in os.walk(dst):
        sweep(folder, seconds=0)


def _read_existing(dst, overwrite):
    if not (dst / NAME).exists():
        return []
    try:
        return _load(dst)
    except UserError:
        if overwrite:
            return []
        raise


def _plan(src, dst, sources, tracks, sample_rate, failed):
    """A `_Job` for each source that is to be a track, and {copy: source that is kept} of the rest.
    What cannot be read is added to `failed`.
    """
    found = {}  # source: (relative path, size, time), in the order of names
    for relative in sources:
        source = os.path.join(src, relative)
        try:
            status = os.stat(source)
            found[source] = relative, status.st_size, status.st_mtime_ns
        except OSError as e:
            failed.append((source, reason(e)))
    by_source = {t.source: t for t in tracks.values()}
    taken = {by_source[source].file for source in found if source in by_source}
    sizes = Counter(size for _, size, _ in found.values())
    sizes.update(t.source_size for t in tracks.values() if t.source not in found)
    sha256 = functools.cache(_sha256)
    jobs, contents = [], {}
    for source, (relative, size, mtime_ns) in found.items():
        known = by_source.get(source)
        try:
            file, known = ((known.file, known) if known else
                           _output(source, relative, tracks, taken, sha256))
            if known and (known.source_size, known.source_mtime_ns) == (size, mtime_ns):
                contents[source] = known.sha256
            elif sizes[size] > 1:
                contents[source] = sha256(source)
        except OSError as e:
            failed.append((source, reason(e)))
            continue
        jobs.append(_Job(source, dst, file, sample_rate, size, mtime_ns, known))
    # By content: a source that is there, and the tracks whose source is not.
    kept = {contents[job.source]: job.source for job in reversed(jobs)
            if job.known and job.source in contents}
    gone, taken, wanted = {}, {job.file for job in jobs}, set(contents.values())
    for track in tracks.values():
        if track.file not in taken and track.sha256 in wanted:
            if _is_gone(track.source):
                gone.setdefault(track.sha256, []).append(track)
            else:
                kept.setdefault(track.sha256, track.source)
    planned, copies = [], {}
    for job in jobs:
        content = contents.get(job.source)
        if content and not job.known:
            if gone.get(content):
                track = gone[content].pop(0)
                if os.path.dirname(track.file) != os.path.dirname(job.file):
                    # Labels may be told by folders, so the track moves as its source did.
                    (dst / job.file).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(dst / track.file, dst / job.file)
                    del tracks[track.file]
                    track = tracks[job.file] = replace(track, file=job.file)
                job = replace(job, file=track.file, known=track)
            elif content in kept:
                copies[job.source] = kept[content]
                continue
            kept[content] = job.source
        planned.append(job)
    return planned, copies


def _is_gone(source):
    """There is no such file; one that cannot be looked at may be there."""
    try:
        os.stat(source)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        pass
    return False


def _output(source, relative, tracks, taken, sha256):
    """(file, its track or None) of a source without a track: what is named after it, else
    (another's) that, numbered. Tracks of the files `taken` are those of other sources.
    """
    plain = PurePosixPath(Path(relative))
    for attempt in itertools.count(1):
        file = os.fspath(plain.with_name(_short(plain.name, "" if attempt == 1 else f"~{attempt}")))
        known = tracks.get(file)
        # With the same content: the music folder has moved, or this is a copy of it.
        if known is None or (file not in taken and known.sha256 == sha256(source)):
            return file, known


def _short(name, mark):
    """`name` + `mark` + .u16, shortened (with a hash of the whole) where a file system would refuse
    the length.
    """
    raw = os.fsencode(name)
    if len(raw) > 240:
        raw = raw[:200] + b"~" + hashlib.sha256(raw).hexdigest()[:12].encode()
        name = raw.decode("utf-8", "ignore")
    return f"{name}{mark}.u16"


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


class _Results:
    """Fills `tracks` and `report` with what comes in, and saves the manifest now and then."""

    def __init__(self, dst, tracks, report, advance, changed):
        self.dst, self.tracks, self.report = dst, tracks, report
        self.advance, self.changed = advance, changed
        self._saved, self._pause = time.monotonic(), _SAVE_EVERY

    def add(self, job, result):
        """result: (state, `Track` or why it failed, note), as `_convert` returns it."""
        state, value, note = result
        self.advance(job.size)
        if state == "failed":
            self.report.failed.append((job.source, value))
            return
        (self.report.converted if state == "converted" else self.report.up_to_date).append(value)
        if note:
            self.report.notes.append(note)
        self.changed = self.changed or self.tracks.get(value.file) != value
        self.tracks[value.file] = value
        if (began := time.monotonic()) - self._saved > self._pause:
            self.save()
            self._saved = time.monotonic()
            # The manifest of a million tracks takes long to write.
            self._pause = max(_SAVE_EVERY, 20 * (self._saved - began))

    def save(self):
        if self.changed:
            write(self.dst, self.tracks.values())
            self.changed = False


def _pool(jobs, workers, done):
    # Spawned, not forked: FFmpeg's and the progress bar's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    # Without a lock, which a worker that is killed would keep for ever.
    stop = context.RawValue(ctypes.c_bool, False)
    count = min(workers, len(jobs))
    waiting = list(reversed(jobs))
    alone = []

    def pool(size):
        return concurrent.futures.ProcessPoolExecutor(size, context, initializer=_begin,
                                                      initargs=(stop,))

    try:
        while waiting:
            # In flight are few, since they are the suspects if a worker dies.
            flying = {}
            with pool(count) as executor:
                try:
                    while waiting or flying:
                        while waiting and len(flying) < 2 * count:
                            job = waiting.pop()
                            flying[_submit(executor, job)] = job
                        finished, _ = concurrent.futures.wait(
                            flying, return_when=concurrent.futures.FIRST_COMPLETED)
                        for future in finished:
                            result = future.result()
                            done(flying.pop(future), result)
                except BrokenProcessPool:
                    for future, job in flying.items():
                        if future.done() and future.exception() is None:
                            done(job, future.result())
                        else:
                            alone.append(job)
                except BaseException:
                    stop.value = True
                    executor.shutdown(cancel_futures=True)
                    for future, job in flying.items():
                        if (not future.cancelled() and future.exception() is None
                            and future.result()[0] != "failed"):
                            done(job, future.result())
                    raise
            # One of these took its process down: each alone, so that it is known which.
            for job in alone:
                with pool(1) as executor:
                    try:
                        result = _submit(executor, job).result()
                    except BrokenProcessPool:
                        result = "failed", _ENDED_ITS_PROCESS, None
                    except BaseException:
                        stop.value = True
                        raise
                done(job, result)
            alone.clear()
    finally:
        stop.value = True


def _cluster(jobs, scheduler, done):
    for (job,), result in cluster.run(scheduler, _convert, ((job,) for job in jobs)):
        if isinstance(result, cluster.WorkerDied):
            result = "failed", _ENDED_ITS_PROCESS, None
        elif result[0] == "converted" and not result[1].is_intact(job.folder):
            raise UserError(f"{printable(result[1].path(job.folder))}: a worker has written it, "
                            f"but it is not here: all workers must see the same folders under the "
                            f"same names")
        done(job, result)


def _submit(executor, job):
    """`executor.submit` with Ctrl-C and SIGTERM blocked meanwhile.

    A worker that is started inherits the block, so Ctrl-C never reaches it, however early it comes:
    only the parent handles it, as soon as the submission is done. SIGTERM would otherwise leave a
    worker half started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return executor.submit(_convert, job)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_stop = None


def _begin(stop):
    """In each worker: Ctrl-C is the parent's to handle, and no worker outlives its parent."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Held back by `_submit`; the executor ends with it what is left of a broken pool.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _convert(job):
    """In a worker: one source -> (state, `Track` or reason, note). Raises only where the disk is
    full.
    """
    try:
        status = os.stat(job.source)
        sha256 = _sha256(job.source)
        old = job.known
        if old and (old.sha256, old.sample_rate) == (sha256, job.sample_rate):
            return "up to date", replace(old, source=job.source, source_size=status.st_size,
                                         source_mtime_ns=status.st_mtime_ns), None
        out = job.folder / job.file
        decoder = Decoder(job.source, job.sample_rate)
        rumble = audio.RumbleMeter(job.sample_rate)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(out) as file:
                samples = _write(file, _measured(decoder, rumble))
                if high_passed := rumble.rms > audio.RUMBLE:
                    _write(file, audio.high_pass(_blocks(file), job.sample_rate))
        except OSError as e:
            if e.errno in _NO_SPACE:
                raise OSError(e.errno, e.strerror, os.fspath(job.folder)) from e
            return "failed", f"{printable(job.file)} cannot be written: {reason(e)}", None
    except UserError as e:
        return "failed", str(e).removeprefix(f"{printable(job.source)}: "), None
    except OSError as e:
        if e.errno in _NO_SPACE:
            raise
        return "failed", reason(e), None
    except MemoryError:
        return "failed", "out of memory", None
    except Exception as e:
        # Whatever foreign bytes bring about in a decoder, the other files are converted.
        return "failed", printable(f"{type(e).__name__}: {e}"), None
    track = Track(job.file, job.source, job.sample_rate, samples, sha256, _tags(job.source),
                  status.st_size, status.st_mtime_ns, high_passed)
    note = None
    if decoder.expected and decoder.expected - track.seconds > 0.5:
        note = (f"{printable(job.source)}: cut short: {track.seconds:.1f} s of the "
                f"{decoder.expected:.1f} s that it announces; what is there was taken")
    elif not decoder.ended:
        note = (
            f"{printable(job.source)}: cut short: the mark of its end is missing after "
            f"{track.seconds:.1f} s; what is there was taken")
    return "converted", track, note


def _write(file, blocks) -> int:
    """Blocks float32 [n] as the samples of a track, from the beginning of its file on; how many
    they were.
    """
    samples = 0
    for block in blocks:
        if _stop is not None and _stop.value:
            raise InterruptedError("stopped")
        file.seek(2 * samples)
        file.write(to_u16(block).astype("<u2").tobytes())
        samples += block.size
    return samples


def _blocks(file):
    """The samples of a track's file as blocks float32 [n], wherever else in it is written
    meanwhile.
    """
    for start in itertools.count(0, 2 * _BLOCK):
        file.seek(start)
        if not (raw := file.read(2 * _BLOCK)):
            return
        yield audio.from_u16(np.frombuffer(raw, "<u2"))


def _measured(blocks, meter):
    """The blocks as they are, which the meter is told."""
    for block in blocks:
        meter.add(block)
        yield block


def _tags(path):
    """artist, title, album, genre and year as TinyTag reads them; None where there is none."""
    from tinytag import TinyTag

    try:
        with open(path, "rb") as file:
            found = TinyTag.get(os.fsdecode(path), file_obj=file)
    except Exception:
        # A track is good without tags, and a parser of foreign bytes may raise anything.
        return dict.fromkeys(TAGS)
    return {name: str(value).strip("\0 ") or None if (value := getattr(found, name, None))
            else None for name in TAGS}


@contextlib.contextmanager
def _bar(total, count, wanted):
    """Yields `advance(size)`: a bar on stderr with files, rate and time left, if wanted and stderr
    is a terminal.
    """
    from rich.progress import (
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    # By bytes rather than files: an album in one file is not as quick as a jingle.
    bar = progress.bar(TaskProgressColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
                       TextColumn("left"),
                       transient=False)
    bar.disable = bar.disable or not wanted
    with bar:
        task, files = bar.add_task(f"0/{count} files", total=max(total, 1)), 0

        def advance(size):
            nonlocal files
            files += 1
            bar.update(task, advance=size, description=f"{files}/{count} files")

        yield advance
