"""How a folder of music becomes a data folder: decode, resample, write `.u16` and the manifest."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
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
from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from .. import cli, machine, progress
from ..errors import UserError
from . import audio, cluster, manifest
from .audio import AUDIO_SUFFIXES, Decoder, to_u16
from .files import atomic_write, lock_folder, printable, reason, sha256, sweep
from .manifest import Track

_SAVE_EVERY = 5.0
_BLOCK = 1 << 20  # samples
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_ENDED_ITS_PROCESS = "failed", "decoding it ended the process (a crash, or out of memory)", None


@dataclass
class PrepareReport:
    """The result of `prepare`: converted tracks, tracks that were up to date, (source path, reason)
    of each failure, and `notes`, lines about tracks that the user may want to check.
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
class _Source:
    """An audio file: its absolute path, its path in the folder of music, bytes and time."""

    path: str
    relative: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class _Job:
    """A source, its output `file` in `folder`, and the track that is already there, if any."""

    source: _Source
    folder: Path
    file: str
    sample_rate: int
    track: Track | None

    @property
    def is_up_to_date(self) -> bool:
        """The track is up to date by size and time alone."""
        t = self.track
        return t is not None and (t.sample_rate, t.source_size, t.source_mtime_ns) == (
            self.sample_rate, self.source.size, self.source.mtime_ns)


def prepare(src, dst, sample_rate: int, workers=None, overwrite=False,
            scheduler: str | None = None) -> PrepareReport:
    """Convert every audio file under `src` to mono u16 under `dst`, in the same folders, and update
    the manifest. `a/song.mp3` becomes `a/song.mp3.u16`.

    The report lists files that cannot be converted; the others are converted. An interrupted run
    leaves whole tracks only, and the next run continues. Copies of a file are left out, so that no
    recording is both held out and trained on. A moved file keeps its track. Tracks of removed files
    stay. Notes report copies and removed files.

    Args:
        workers: processes; None is one a core.
        overwrite: convert tracks again whose source has not changed (size and time, else SHA-256).
        scheduler: the address of a Dask cluster that does the converting; its workers see `src` and
            `dst` under the same names.

    Raises:
        UserError: `src` is no folder, holds no audio or is `dst`; `dst` cannot be written to, is in
            use, or has all its tracks at another sample rate (`overwrite` converts them).
    """
    src, dst = Path(os.path.abspath(src)), Path(os.path.abspath(dst))
    if os.path.realpath(src) == os.path.realpath(dst):
        raise UserError(f"{printable(src)}: is the folder of the music; name another folder "
                        f"for the data")
    sources, failed = _scan(src)
    if not sources and not failed:
        raise UserError(f"{printable(src)}: contains no audio ({' '.join(AUDIO_SUFFIXES)})")
    report = PrepareReport(failed=failed)
    with _claim(dst):
        recorded = _read_manifest(dst, sample_rate, overwrite)
        tracks = {t.file: t for t in recorded if t.is_intact(dst)}
        jobs, copies = _plan(dst, sources, tracks, sample_rate, failed)
        if overwrite:
            jobs = [replace(job, track=None) for job in jobs]
        log = _Log(dst, tracks, report, changed=len(tracks) < len(recorded))
        results = _convert_all(jobs, workers or machine.cores(), scheduler)
        # By bytes rather than files: an album in one file is not as quick as a jingle.
        bar = progress.bar(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
                           transient=False)
        task = bar.add_task("preparing", total=sum(job.source.size for job in jobs))
        try:
            with bar, contextlib.closing(results):
                for job, result in results:
                    log.add(job, result)
                    bar.advance(task, job.source.size)
        finally:
            # Also where Ctrl-C or a full disk ends the run. Killed workers leave unfinished tracks.
            _sweep(dst)
            log.save()
    # A copy of a file that cannot be converted cannot be converted either.
    reasons, kept = dict(failed), {t.source for t in tracks.values()}
    failed += [(copy, reasons[first]) for copy, first in copies.items() if first not in kept]
    failed.sort()
    present = {job.source.path for job in jobs}
    gone = [t for t in tracks.values() if t.source not in present
            and t.source.startswith(os.path.join(src, "")) and _is_gone(t.source)]
    left_out = {copy: first for copy, first in copies.items() if first in kept}
    report.notes += _notes(report, tracks.values(), left_out, gone, src, dst, sample_rate)
    return report


def _notes(report, tracks, copies, gone, src, dst, sample_rate) -> list[str]:
    """Lines about tracks that a user may want to check although nothing failed.

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


def _scan(src) -> tuple[list[_Source], list[tuple[str, str]]]:
    """The audio files under `src`, sorted, and (path, reason) of what failed. Links are followed,
    each folder entered once.
    """
    if not src.is_dir():
        raise UserError(f"{printable(src)}: " + ("is not a folder" if src.exists()
                                                 else "there is no such folder"))
    sources, failed, seen = [], [], set()
    # Links come after all real folders: a folder with two names goes by its own.
    waiting = [os.fspath(src)]
    while waiting:
        walk = os.walk(waiting.pop(0), onerror=lambda e: failed.append((e.filename, reason(e))))
        for folder, folders, names in walk:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            paths = [os.path.join(folder, name) for name in sorted(folders)]
            waiting += filter(os.path.islink, paths)
            for path in (os.path.join(folder, name) for name in names if _is_audio(name)):
                try:
                    status = os.stat(path)
                except OSError as e:
                    failed.append((path, reason(e)))
                    continue
                if stat.S_ISREG(status.st_mode):
                    sources.append(_Source(path, os.path.relpath(path, src), status.st_size,
                                           status.st_mtime_ns))
    return sorted(sources, key=lambda source: source.relative), failed


def _is_audio(name):
    # "._song.mp3" is what macOS leaves beside song.mp3 on foreign disks; it holds no sound.
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES and not name.startswith("._")


@contextlib.contextmanager
def _claim(dst):
    """Create `dst` and lock it; unfinished tracks of a killed run are removed."""
    with contextlib.ExitStack() as held:
        try:
            dst.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock_folder(dst, "data", "being prepared"))
        except OSError as e:
            raise UserError(f"{printable(dst)}: cannot be written to: {reason(e)}") from e
        _sweep(dst)
        yield


def _sweep(dst):
    for folder, _, _ in os.walk(dst):
        sweep(folder, seconds=0)


def _read_manifest(dst, sample_rate, overwrite) -> list[Track]:
    """The recorded tracks, at mixed rates where a conversion to another rate was interrupted."""
    if not (dst / manifest.NAME).exists():
        return []
    try:
        tracks = manifest.load(dst)
    except UserError:
        if overwrite:
            return []
        raise
    if tracks and not overwrite and all(t.sample_rate != sample_rate for t in tracks):
        raise UserError(f"{printable(dst)}: its {len(tracks)} tracks are at "
                        f"{tracks[0].sample_rate} Hz, not {sample_rate} Hz; name another folder, "
                        f"or convert them again with --overwrite")
    return tracks


def _plan(dst, sources, tracks, sample_rate, failed):
    """A `_Job` for each source that is to be a track, and {copy: source that is kept} of the rest.
    What cannot be read is added to `failed`.
    """
    paths, by_source = {source.path for source in sources}, {t.source: t for t in tracks.values()}
    sizes = Counter(source.size for source in sources)
    sizes.update(t.source_size for t in tracks.values() if t.source not in paths)
    jobs, contents = [], {}
    for source in sources:
        track = by_source.get(source.path)
        job = _Job(source, dst, track.file if track else _new_file(source, tracks), sample_rate,
                   track)
        try:
            if track and replace(job, sample_rate=track.sample_rate).is_up_to_date:
                contents[source.path] = track.sha256
            elif sizes[source.size] > 1:
                contents[source.path] = sha256(source.path)
        except OSError as e:
            failed.append((source.path, reason(e)))
            continue
        jobs.append(job)
    # By content: a source that is there, and the tracks whose source is not.
    kept = {contents[job.source.path]: job.source.path for job in reversed(jobs)
            if job.track and job.source.path in contents}
    gone, taken, wanted = {}, {job.file for job in jobs}, set(contents.values())
    for track in tracks.values():
        if track.file not in taken and track.sha256 in wanted:
            if _is_gone(track.source):
                gone.setdefault(track.sha256, []).append(track)
            else:
                kept.setdefault(track.sha256, track.source)
    planned, copies = [], {}
    for job in jobs:
        content = contents.get(job.source.path)
        if content and not job.track:
            if gone.get(content):
                job = _move_track(job, gone[content].pop(0), tracks)
            elif content in kept:
                copies[job.source.path] = kept[content]
                continue
            kept[content] = job.source.path
        planned.append(job)
    return planned, copies


def _move_track(job, track, tracks) -> _Job:
    """The job with the track of a source that has moved. The track moves to the new folder of its
    source, because labels may be folders.
    """
    if os.path.dirname(track.file) != os.path.dirname(job.file):
        (job.folder / job.file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(job.folder / track.file, job.folder / job.file)
        del tracks[track.file]
        track = tracks[job.file] = replace(track, file=job.file)
    return replace(job, file=track.file, track=track)


def _is_gone(source):
    """Whether there is no such file; False if the file cannot be examined."""
    try:
        os.stat(source)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        pass
    return False


def _new_file(source, tracks) -> str:
    """The file of a source without a track: its name with .u16, numbered where a track has this
    file. A name too long for file systems is cut and gets a hash.
    """
    path = PurePosixPath(Path(source.relative))
    name, raw = path.name, os.fsencode(path.name)
    if len(raw) > 240:
        raw = raw[:200] + b"~" + hashlib.sha256(raw).hexdigest()[:12].encode()
        name = raw.decode("utf-8", "ignore")
    marks = itertools.chain([""], (f"~{number}" for number in itertools.count(2)))
    files = (os.fspath(path.with_name(f"{name}{mark}.u16")) for mark in marks)
    return next(file for file in files if file not in tracks)


class _Log:
    """Adds results to `tracks` and `report`, and saves the manifest every few seconds."""

    def __init__(self, dst, tracks, report, changed):
        self.dst, self.tracks, self.report, self.changed = dst, tracks, report, changed
        self._saved, self._pause = time.monotonic(), _SAVE_EVERY

    def add(self, job, result):
        """result: (state, `Track` or reason, note), as `_convert` returns it."""
        state, value, note = result
        if state == "failed":
            self.report.failed.append((job.source.path, value))
            return
        (self.report.converted if state == "converted" else self.report.up_to_date).append(value)
        if note:
            self.report.notes.append(note)
        self.changed = self.changed or self.tracks.get(value.file) != value
        self.tracks[value.file] = value
        if (start := time.monotonic()) - self._saved > self._pause:
            self.save()
            self._saved = time.monotonic()
            # The manifest of a million tracks takes long to write.
            self._pause = max(_SAVE_EVERY, 20 * (self._saved - start))

    def save(self):
        if self.changed:
            manifest.write(self.dst, self.tracks.values())
            self.changed = False


def _convert_all(jobs, workers, scheduler):
    """(job, result) of every job, in the order in which they finish."""
    waiting = []
    for job in jobs:
        if job.is_up_to_date:
            yield job, ("up to date", replace(job.track, source=job.source.path), None)
        else:
            waiting.append(job)
    if waiting and scheduler:
        yield from _on_cluster(waiting, scheduler)
    elif waiting:
        yield from _in_processes(waiting, min(workers, len(waiting)))


def _in_processes(jobs, workers):
    """(job, result) of each job, from worker processes.

    If a worker dies, each unfinished job runs alone, which reveals the job that kills its worker.
    """
    # Spawned, not forked: FFmpeg's and the progress bar's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    waiting, suspects = jobs[::-1], []
    while waiting or suspects:
        alone = bool(suspects)
        queue, running = [suspects.pop()] if alone else waiting, {}
        with concurrent.futures.ProcessPoolExecutor(1 if alone else workers, context,
                                                    initializer=_begin) as executor:
            try:
                while queue or running:
                    # Few are in flight, since all of them are suspects if a worker dies.
                    while queue and len(running) < 2 * workers:
                        future = _submit(executor, queue[-1])
                        running[future] = queue.pop()
                    finished, _ = concurrent.futures.wait(
                        running, return_when=concurrent.futures.FIRST_COMPLETED)
                    for future in finished:
                        result = future.result()
                        yield running.pop(future), result
            except BrokenProcessPool:
                for future, job in running.items():
                    if future.done() and future.exception() is None:
                        yield job, future.result()
                    elif alone:
                        yield job, _ENDED_ITS_PROCESS
                    else:
                        suspects.append(job)
            except BaseException:
                for worker in set(multiprocessing.active_children()) - others:
                    worker.kill()
                raise


def _on_cluster(jobs, scheduler):
    """(job, result) of each job, from the workers of a Dask cluster."""
    for (job,), result in cluster.run(scheduler, _convert, ((job,) for job in jobs)):
        if isinstance(result, cluster.WorkerDied):
            result = _ENDED_ITS_PROCESS
        elif result[0] == "converted" and not result[1].is_intact(job.folder):
            raise UserError(f"{printable(result[1].path(job.folder))}: a worker has written it, "
                            f"but it is not here: all workers must see the same folders under the "
                            f"same names")
        yield job, result


def _submit(executor, job):
    """`executor.submit` with Ctrl-C and SIGTERM blocked. New workers inherit the block, so only the
    parent handles Ctrl-C, after the submission. Without the block, SIGTERM could leave a worker
    half started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return executor.submit(_convert, job)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin():
    """In each worker: only the parent handles Ctrl-C, and no worker outlives its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Blocked by `_submit`; the executor ends the workers of a broken pool with it.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _convert(job):
    """One source -> (state, `Track` or reason, note). Raises only where the disk is full."""
    path = job.source.path
    try:
        status, checksum = os.stat(path), sha256(path)
        track = Track(job.file, path, job.sample_rate, 0, checksum, {}, status.st_size,
                      status.st_mtime_ns)
        old = job.track
        if old and (old.sha256, old.sample_rate) == (checksum, job.sample_rate):
            return "up to date", replace(track, samples=old.samples, tags=old.tags,
                                         high_passed=old.high_passed), None
        decoder = Decoder(path, job.sample_rate)
        out = job.folder / job.file
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            samples = _write(file, decoder)
            high_passed = audio.rumble(_blocks(file), job.sample_rate) > audio.RUMBLE
            if high_passed:
                _write(file, audio.high_pass(_blocks(file), job.sample_rate))
        track = replace(track, samples=samples, tags=_tags(path), high_passed=high_passed)
        return "converted", track, _note_if_cut(decoder, track)
    except UserError as e:
        return "failed", str(e).removeprefix(f"{printable(path)}: "), None
    except OSError as e:
        if e.errno in _NO_SPACE:
            raise OSError(e.errno, e.strerror, os.fspath(job.folder)) from e
        where = "" if e.filename in (None, path) else f"{printable(e.filename)}: "
        return "failed", where + reason(e), None
    except MemoryError:
        return "failed", "out of memory", None
    except Exception as e:
        # A decoder may raise anything for foreign bytes; the other files are still converted.
        return "failed", printable(f"{type(e).__name__}: {e}"), None


def _note_if_cut(decoder, track) -> str | None:
    """A line about a source that is truncated."""
    if decoder.expected and decoder.expected - track.seconds > 0.5:
        what = f"{track.seconds:.1f} s of the {decoder.expected:.1f} s that it announces"
    elif not decoder.ended:
        what = f"the mark of its end is missing after {track.seconds:.1f} s"
    else:
        return None
    return f"{printable(track.source)}: cut short: {what}; what is there was converted"


def _write(file, blocks) -> int:
    """Write blocks float32 [n] from the beginning of a track's file; returns their samples."""
    samples = 0
    for block in blocks:
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


def _tags(path):
    """artist, title, album, genre and year as TinyTag reads them; None where there is none."""
    from tinytag import TinyTag

    try:
        with open(path, "rb") as file:
            tags = TinyTag.get(os.fsdecode(path), file_obj=file)
    except Exception:
        # A track is good without tags, and a parser of foreign bytes may raise anything.
        tags = None
    return {name: str(getattr(tags, name, None) or "").strip("\0 ") or None
            for name in manifest.TAGS}
