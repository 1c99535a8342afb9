"""How a folder of music becomes a data folder: decode, resample, write `.u16` and the manifest."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import errno
import functools
import hashlib
import itertools
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
from . import audio, cluster, manifest
from .audio import AUDIO_SUFFIXES, Decoder, to_u16
from .files import atomic_write, lock_folder, printable, reason, sweep
from .manifest import Track

_SAVE_EVERY = 5.0
_BLOCK = 1 << 20  # samples
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_ENDED_ITS_PROCESS = "decoding it ended the process (a crash, or out of memory)"


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
    """Convert every audio file under `src` to mono u16 under `dst`, in the same folders, and update
    the manifest. `a/song.mp3` becomes `a/song.mp3.u16`.

    Files that cannot be converted are listed in the report, and the others are converted. An
    interrupted run leaves whole tracks only, and the next run continues.

    Copies of a file are left out, so that a recording is not held out and trained on at the same
    time. A moved file keeps its track. Tracks whose source is gone stay. Notes report both.

    Args:
        workers: processes; None is one a core. progress: show a bar on a terminal.
        overwrite: convert tracks again whose source has not changed (size and time, else SHA-256).
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
        existing = _read_existing(dst, sample_rate, overwrite)
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
                        track = replace(job.known, source=job.source)
                        results.add(job, ("up to date", track, None))
                jobs = [job for job in jobs if not job.is_up_to_date]
                if jobs and scheduler:
                    _cluster(jobs, scheduler, results.add)
                elif jobs:
                    _pool(jobs, workers or machine.cores(), results.add)
            finally:
                # Also where Ctrl-C or a full disk ends the run: what is done is done.
                results.save()
    # A copy of a file that cannot be converted cannot be converted either.
    reasons, sources = dict(failed), {t.source for t in tracks.values()}
    failed += [(copy, reasons[kept]) for copy, kept in copies.items() if kept not in sources]
    failed.sort()
    gone = [t for t in tracks.values() if t.source not in present
            and t.source.startswith(os.path.join(src, "")) and _is_gone(t.source)]
    left_out = {copy: kept for copy, kept in copies.items() if kept in sources}
    report.notes += _notes(report, tracks.values(), left_out, gone, src, dst, sample_rate)
    return report


def _notes(report, tracks, copies, gone, src, dst, sample_rate) -> list[str]:
    """Lines on tracks that a user may want to look at although nothing failed.

    copies: {copy: the source that is a track}; gone: tracks whose source is gone.
    """
    def files(some):
        first = printable(some[0].file)
        return first if len(some) == 1 else f"{len(some)} tracks (for instance {first})"

    notes = []
    if high_passed := [track for track in report.converted if track.high_passed]:
        notes.append(f"inaudible sound below {audio.HEARING:g} Hz is strong in "
                     f"{files(high_passed)}, and taken out")
    if others := [t for t in tracks if t.sample_rate != sample_rate]:
        notes.append(f"{len(others)} tracks in {printable(dst)} have another sample rate, for "
                     f"instance {printable(others[0].file)} ({others[0].sample_rate} Hz); training "
                     f"refuses such a folder")
    if copies:
        copy, kept = map(printable, next(iter(copies.items())))
        which = (f"{copy} is a copy of {kept}" if len(copies) == 1 else
                 f"{len(copies)} files are copies of others (for instance {copy} of {kept})")
        notes.append(f"{which}, byte for byte, and left out")
    if gone:
        notes.append(f"the source of {files(gone)} is gone from {printable(src)}; a track stays, "
                     f"and is trained on, until its .u16 file is removed from {printable(dst)} "
                     f"and {cli.command('prepare')} runs again")
    return notes


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


def _read_existing(dst, sample_rate, overwrite):
    if not (dst / manifest.NAME).exists():
        return []
    try:
        tracks = manifest.load(dst)
    except UserError:
        if overwrite:
            return []
        raise
    # Mixed rates are left by an interrupted conversion, which continues.
    if tracks and not overwrite and all(t.sample_rate != sample_rate for t in tracks):
        raise UserError(f"{printable(dst)}: its {len(tracks)} tracks are at "
                        f"{tracks[0].sample_rate} Hz, not {sample_rate} Hz; name another folder, "
                        f"or convert them again with --overwrite")
    return tracks


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
    """`name` + `mark` + .u16; a name too long for file systems is cut and gets a hash."""
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
    """Adds results to `tracks` and `report`, and saves the manifest every few seconds."""

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
            manifest.write(self.dst, self.tracks.values())
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
    """`executor.submit` with Ctrl-C and SIGTERM blocked.

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
    """One source -> (state, `Track` or reason, note). Raises only where the disk is full."""
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
        note = (f"{printable(job.source)}: cut short: the mark of its end is missing after "
                f"{track.seconds:.1f} s; what is there was taken")
    return "converted", track, note


def _write(file, blocks) -> int:
    """Write blocks float32 [n] from the beginning of a track's file; returns their samples."""
    samples = 0
    for block in blocks:
        if _stop is not None and _stop.value:
            raise InterruptedError("stopped")
        file.seek(2 * samples)
        file.write(to_u16(block).astype("<u2").tobytes())
        samples += block.size
    return samples


def _blocks(file):
    """The samples of a track's file as blocks float32 [n]; `_write` may overwrite earlier ones."""
    for start in itertools.count(0, 2 * _BLOCK):
        file.seek(start)
        if not (raw := file.read(2 * _BLOCK)):
            return
        yield audio.from_u16(np.frombuffer(raw, "<u2"))


def _measured(blocks, meter):
    """Yield the blocks, and add each to the meter."""
    for block in blocks:
        meter.add(block)
        yield block


def _tags(path):
    """artist, title, album, genre and year as TinyTag reads them; None where there is none."""
    from tinytag import TinyTag

    try:
        with open(path, "rb") as file:
            tags = TinyTag.get(os.fsdecode(path), file_obj=file)
    except Exception:
        # A track is good without tags, and a parser of foreign bytes may raise anything.
        return dict.fromkeys(manifest.TAGS)
    return {name: str(value).strip("\0 ") or None if (value := getattr(tags, name, None))
            else None for name in manifest.TAGS}


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
