"""Converts a folder of music to a data folder: decode, resample, write `.u16` and manifest."""

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
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from .. import machine, progress
from ..dsp import fingerprints
from ..errors import UserError, begin_helper, first_names
from ..io import audio, cluster, manifest, silence, splits
from ..io.audio import AUDIO_SUFFIXES, Decoder, to_u16
from ..io.files import atomic_write, lock_folder, make_folder, printable, reason, sha256, sweep
from ..io.manifest import Track

_SAVE_EVERY = 5.0
_BLOCK = 1 << 20  # samples
# Spawned, because the threads of FFmpeg and of the progress bar do not survive a fork.
CONTEXT = multiprocessing.get_context("spawn")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_ENDED_ITS_PROCESS = "failed", "decoding it ended the process (a crash, or out of memory)"


@dataclass
class PrepareReport:
    """The result of `prepare`. failed: (source path, reason). notes: lines about tracks that the
    user may want to check. damaged: the names of converted tracks of which parts were left out.
    """

    converted: list[Track] = field(default_factory=list)
    up_to_date: list[Track] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: all files are converted; 1: some files failed; 2: all files failed."""
        if not self.failed:
            return 0
        return 1 if self.converted or self.up_to_date else 2


@dataclass(frozen=True)
class _Source:
    """An audio file: absolute path, path in the folder of music, size in bytes, time."""

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
        """Whether the track is complete, and its source has the same size and time."""
        track, source = self.track, self.source
        return (track is not None and None not in (track.sound, track.fingerprint)
                and track.sample_rate == self.sample_rate
                and (track.source_size, track.source_mtime_ns) == (source.size, source.mtime_ns))


def prepare(src, dst, sample_rate: int, workers=None, overwrite=False,
            scheduler: str | None = None) -> PrepareReport:
    """Convert every audio file under `src` to mono u16 under `dst`, in the same folders
    (`a/song.mp3` becomes `a/song.mp3.u16`), and update the manifest. An interrupted run leaves
    whole tracks only, and the next run continues. A file that is removed, or renamed within its
    folder, keeps its track.

    workers: processes; None: one per core. overwrite: also convert unchanged sources. scheduler: of
    a Dask cluster whose workers see `src` and `dst` under the same names.
    """
    src, dst = Path(os.path.abspath(src)), Path(os.path.abspath(dst))
    if os.path.realpath(src) == os.path.realpath(dst):
        raise UserError(f"{printable(src)}: is the folder of the music; name another folder "
                        f"for the data")
    sources, failed, others = _scan(src, dst)
    if not sources and not failed:
        there = f"; there are {_describe_endings(others)}" if others else ""
        raise UserError(f"{printable(src)}: contains no audio ({' '.join(AUDIO_SUFFIXES)}){there}")
    report = PrepareReport(failed=failed)
    with _claim(dst):
        recorded = {t.file: t for t in _read_manifest(dst, sample_rate, overwrite)}
        tracks = {file: t for file, t in recorded.items() if t.is_intact(dst)}
        jobs = _plan(dst, sources, tracks, sample_rate)
        if overwrite:
            jobs = [replace(job, track=None) for job in jobs]

        def save():
            nonlocal recorded
            if tracks != recorded:
                manifest.write(dst, tracks.values())
                recorded = dict(tracks)

        results = _convert_all(jobs, workers or machine.cores(), scheduler)
        # Progress is counted in bytes, because files differ in length.
        bar = progress.bar(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
                           transient=False)
        task, due = bar.add_task("preparing", total=sum(job.source.size for job in jobs)), 0.0
        try:
            with bar, contextlib.closing(results):
                for job, result in results:
                    _add(report, tracks, job, *result)
                    bar.advance(task, job.source.size)
                    if (start := time.monotonic()) > due:
                        save()  # which takes long with a million tracks
                        due = time.monotonic() + max(_SAVE_EVERY, 20 * (time.monotonic() - start))
        finally:
            # Killed workers leave unfinished tracks, also after Ctrl-C or with a full disk.
            _sweep(dst)
            save()
    failed.sort()
    report.notes += _notes(report, list(tracks.values()), others)
    return report


def _notes(report: PrepareReport, tracks: list[Track], others: Counter) -> list[str]:
    """The notes of a report on all tracks. others: the number of other files with each ending."""
    notes = []
    if report.damaged:
        notes.append(f"parts of {_count(report.damaged)} cannot be decoded (damage, or other data "
                     f"behind the music), and are left out")
    if high_passed := [_name(track) for track in report.converted if track.high_passed]:
        notes.append(f"inaudible sound below {audio.HEARING:g} Hz is strong in "
                     f"{_count(high_passed)}, and taken out")
    if same := [group for group in splits.recordings(tracks) if len(group) > 1]:
        files = first_names([" = ".join(map(_name, group)) for group in same])
        notes.append(f"the same recording is in several files, and training holds out all of them "
                     f"or none: {files}")
    if others:
        notes.append(f"other files are left out: {_describe_endings(others)}")
    return notes


def _name(track: Track) -> str:
    return printable(track.file.removesuffix(".u16"))


def _describe_endings(others: Counter) -> str:
    """The most frequent endings: "3 .jpg, 1 .cue"."""
    return first_names([f"{count} {printable(ending)}" for ending, count in sorted(
        others.items(), key=lambda item: (-item[1], item[0]))])


def _count(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} files (for instance {names[0]})"


def _scan(src, dst) -> tuple[list[_Source], list[tuple[str, str]], Counter]:
    """The audio files under `src`, sorted, (path, reason) of failures, and the number of other
    files with each ending, without hidden files. Follows links, but not into `dst`.
    """
    if not src.is_dir():
        raise UserError(f"{printable(src)}: " + ("is not a folder" if src.exists()
                                                 else "there is no such folder"))
    sources, failed, seen, others = [], [], set(), Counter()
    with contextlib.suppress(OSError):
        seen.add((os.stat(dst).st_dev, os.stat(dst).st_ino))
    # Links come after all real folders, so that a folder with two names gets its real name.
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
            others.update(os.path.splitext(name)[1].lower() or "without ending" for name in names
                          if not (_is_audio(name) or name.startswith(".")))
            for path in (os.path.join(folder, name) for name in names if _is_audio(name)):
                try:
                    status = os.stat(path)
                except OSError as e:
                    failed.append((path, reason(e)))
                    continue
                if stat.S_ISREG(status.st_mode):
                    sources.append(_Source(path, os.path.relpath(path, src), status.st_size,
                                           status.st_mtime_ns))
    return sorted(sources, key=lambda source: source.relative), failed, others


def _is_audio(name):
    # On foreign disks macOS writes "._song.mp3" beside song.mp3; these files hold no sound.
    return os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES and not name.startswith("._")


@contextlib.contextmanager
def _claim(dst):
    """Create `dst`, lock it, and remove the unfinished tracks of a killed run."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock_folder(make_folder(dst), "data", "being prepared"))
        except OSError as e:
            raise UserError(f"{printable(dst)}: cannot be written to: {reason(e)}") from e
        _sweep(dst)
        yield


def _sweep(dst):
    for folder, _, _ in os.walk(dst):
        sweep(folder, seconds=0)


def _read_manifest(dst, sample_rate, overwrite) -> list[Track]:
    """The recorded tracks. Their rates are mixed after an interrupted change of the rate."""
    try:
        tracks = manifest.load(dst) if (dst / manifest.NAME).exists() else []
    except UserError:
        if not overwrite:
            raise
        tracks = []
    if tracks and not overwrite and all(t.sample_rate != sample_rate for t in tracks):
        raise UserError(f"{printable(dst)}: its {len(tracks)} tracks are at "
                        f"{tracks[0].sample_rate} Hz, not {sample_rate} Hz; name another folder, "
                        f"or convert them again with --overwrite")
    return tracks


def _plan(dst, sources, tracks, sample_rate) -> list[_Job]:
    """The job of each source. A file that moved to another folder, which may be another label,
    becomes a new track, and the old one is removed.
    """
    by_source = {track.source: track for track in tracks.values()}
    orphans = {t.sha256: t for t in tracks.values() if not os.path.exists(t.source)}
    # Only files of equal size can have the same content.
    sizes, jobs = {track.source_size for track in orphans.values()}, []
    for source in sources:
        track = by_source.get(source.path)
        if track is None and source.size in sizes:
            with contextlib.suppress(OSError):  # converting names the error
                track = orphans.pop(sha256(source.path), None)
            if track and os.path.dirname(track.file) != os.path.dirname(source.relative):
                (dst / track.file).unlink(missing_ok=True)
                del tracks[track.file]
                track = None
        file = track.file if track else _new_file(source, tracks)
        jobs.append(_Job(source, dst, file, sample_rate, track))
    return jobs


def _new_file(source, tracks) -> str:
    """The file for a new track: its name with .u16, and a number if another track has this file. A
    name too long for file systems is cut and gets a hash.
    """
    path = PurePosixPath(Path(source.relative))
    name, raw = path.name, os.fsencode(path.name)
    if len(raw) > 240:
        raw = raw[:200] + b"~" + hashlib.sha256(raw).hexdigest()[:12].encode()
        name = raw.decode("utf-8", "ignore")
    files = (os.fspath(path.with_name(f"{name}{f'~{number}' if number > 1 else ''}.u16"))
             for number in itertools.count(1))
    return next(file for file in files if file not in tracks)


def _add(report: PrepareReport, tracks: dict, job, state: str, value, damaged: bool = False):
    """Add a result to the tracks and to the report. state, value, damaged: of `_convert`."""
    if state == "failed":
        report.failed.append((job.source.path, value))
        return
    (report.converted if state == "converted" else report.up_to_date).append(value)
    report.damaged += [_name(value)] * damaged
    tracks[value.file] = value


def _convert_all(jobs, workers, scheduler):
    """(job, result) of every job, in the order in which they finish."""
    yield from ((job, ("up to date", replace(job.track, source=job.source.path)))
                for job in jobs if job.is_up_to_date)
    if waiting := [job for job in jobs if not job.is_up_to_date]:
        yield from (_on_cluster(waiting, scheduler) if scheduler
                    else _in_processes(waiting, min(workers, len(waiting))))


def _in_processes(jobs, workers):
    """(job, result) of each job, from worker processes, each with a thread of its own."""
    others, stopped = set(multiprocessing.active_children()), threading.Event()
    local = threading.local()

    def begin():
        # New processes inherit the block, so only this process handles Ctrl-C.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})

    def convert(job):
        for _ in range(2):  # the second time, there may be more memory
            if stopped.is_set():
                break
            try:
                if not hasattr(local, "process"):
                    local.process = ProcessPoolExecutor(1, CONTEXT, initializer=begin_helper)
                return local.process.submit(_convert, job).result()
            except BrokenProcessPool:
                del local.process
        return _ENDED_ITS_PROCESS

    with ThreadPoolExecutor(workers, initializer=begin) as threads:
        try:
            for job, future in cluster.completed(lambda job: threads.submit(convert, job), jobs,
                                                 2 * workers):
                yield job, future.result()
        except BaseException:
            stopped.set()
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
                process.join()  # it holds the lock of an unfinished track until it has ended
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


def _convert(job):
    """Convert one source: ("failed", reason), or (state, `Track`, whether the source is damaged).
    Raises only if the disk is full.
    """
    path = job.source.path
    try:
        status, checksum = os.stat(path), sha256(path)
        track = Track(job.file, path, job.sample_rate, 0, checksum, {}, status.st_size,
                      status.st_mtime_ns)
        old, out = job.track, job.folder / job.file
        if old and (old.sha256, old.sample_rate) == (checksum, job.sample_rate):
            return "up to date", _measured(out, replace(
                track, samples=old.samples, tags=old.tags, high_passed=old.high_passed,
                sound=old.sound, fingerprint=old.fingerprint))
        out.parent.mkdir(parents=True, exist_ok=True)
        decoder = Decoder(path, job.sample_rate)
        with atomic_write(out) as file:
            samples = _write(file, decoder)
            high_passed = audio.measure_rumble(_blocks(file), job.sample_rate) > audio.RUMBLE
            if high_passed:
                _write(file, audio.high_pass(_blocks(file), job.sample_rate))
        return "converted", _measured(out, replace(
            track, samples=samples, tags=_tags(path), high_passed=high_passed)), decoder.damaged
    except UserError as e:
        return "failed", str(e).removeprefix(f"{printable(path)}: ")
    except OSError as e:
        if e.errno in _NO_SPACE:
            raise OSError(e.errno, e.strerror, os.fspath(job.folder)) from e
        where = "" if e.filename in (None, path) else f"{printable(e.filename)}: "
        return "failed", where + reason(e)
    except MemoryError:
        return "failed", "out of memory"
    except Exception as e:  # a decoder may raise any error for unknown bytes
        return "failed", printable(f"{type(e).__name__}: {e}")


def _measured(path, track: Track) -> Track:
    """A track with its sound and fingerprint, measured where they are missing."""
    sound, fingerprint = track.sound, track.fingerprint
    if sound is None:
        sound = silence.measure_file(path, track.samples, track.sample_rate)
    if fingerprint is None:
        beginning = audio.read_window(path, 0, min(track.samples, round(
            fingerprints.SECONDS * track.sample_rate)))
        fingerprint = fingerprints.fingerprint(audio.from_u16(beginning), track.sample_rate)
    return replace(track, sound=sound, fingerprint=fingerprint)


def _write(file, blocks) -> int:
    """Write blocks float32 [n] to the beginning of a track's file; returns the samples written."""
    samples = 0
    for block in blocks:
        file.seek(2 * samples)
        file.write(to_u16(block).astype("<u2").tobytes())
        samples += block.size
    return samples


def _blocks(file):
    """The samples of a track's file as blocks float32 [n]. `_write` may overwrite past blocks."""
    for start in itertools.count(0, 2 * _BLOCK):
        file.seek(start)
        if not (raw := file.read(2 * _BLOCK)):
            return
        yield audio.from_u16(np.frombuffer(raw, "<u2"))


def _tags(path):
    """artist, title, album, genre and year as TinyTag reads them; None for a missing tag."""
    from tinytag import TinyTag

    try:
        with open(path, "rb") as file:
            tags = TinyTag.get(os.fsdecode(path), file_obj=file)
    except Exception:
        # Tags are optional, and a parser may raise any error for unknown bytes.
        tags = None
    return {name: str(getattr(tags, name, None) or "").strip("\0 ") or None
            for name in manifest.TAGS}
