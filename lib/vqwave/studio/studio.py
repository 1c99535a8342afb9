"""The studio without its web server: takes, recordings and codecs. All browsers share the loaded
models. Sounds are kept in a temporary folder, which is removed at the end.
"""

import contextlib
import dataclasses
import importlib.util
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import UserError
from ..io import audio, defaults, files, weights
from ..levels import level_name
from ..play import controls, midi_files
from ..play.edits import Edits
from ..play.render import Finish
from . import limits
from .compare import compare
from .folders import Folders
from .messages import pack_message, while_working, with_errors
from .recordings import Recordings
from .requests import CompareRequest, Recording, Settings, TakeRequest, as_typed
from .take import Take

PREFIX = "vqwave-studio-"
"""The prefix of the temporary folders' names."""
TAPES_FULL = f"The studio's room for takes is full ({limits.TAPES_BYTES >> 20} MB)"


class TakeList:
    """The takes of a studio, oldest first. Any thread may call every method."""

    def __init__(self, folder: Path, streams: int, partners: Sequence):
        self.folder, self.streams, self.partners = folder, streams, partners
        self._lock = threading.Lock()
        self.by_id: OrderedDict[str, Take] = OrderedDict()
        self._closed = False
        if partners:
            threading.Thread(target=self._tell_beats, daemon=True).start()

    def _tell_beats(self):
        """Tell the partners the beats of the newest take that plays, until the studio ends."""
        while not self._closed:
            time.sleep(0.01)
            any(take.tell_beats() for take in reversed(list(self.by_id.values())))

    def close(self):
        """End every take, and leave the partners."""
        with self._lock:
            self._closed, takes = True, list(self.by_id.values())
        for partner in self.partners:
            partner.close()
        for take in takes:
            take.end(why="The studio has ended.")

    def admit(self, settings: Settings, before: Take | None = None) -> Take:
        """A new take; before: see `Take`. Raises `UserError` if all streams are in use."""
        with self._lock:
            if self._closed:
                raise UserError("The studio is closing.")
            busy = [take for take in self.by_id.values()
                    if take.busy and take.id != settings.replaces]
            idle = [take for take in busy if time.monotonic() - take.touched > limits.IDLE_SECONDS]
            if len(busy) - bool(idle) >= self.streams:
                raise UserError(f"{len(busy)} takes are being made, as many as this studio makes "
                                f"at once: wait until one ends, then try again.")
            take = Take(settings, self.folder, before, self.partners)
            self.by_id[take.id] = take
            for old in list(self.by_id.values())[: -limits.TAKES_EDITED]:
                old.states.clear()
        if len(busy) >= self.streams:
            min(idle, key=lambda take: take.touched).end(
                why="Nobody read this take, so the studio ended it for another.")
        return take

    def get(self, identity: str) -> Take:
        """A take by its id. Raises `UserError` if it is not here."""
        take = self.by_id.get(identity)
        if take is None:
            raise UserError("This take is no longer in the studio. The same settings generate it "
                            "again.")
        return take

    def bytes_in_use(self) -> int:
        """The disk space of all takes, and of copies that are being downloaded."""
        total = 0
        for path in self.folder.glob("take-*"):
            with contextlib.suppress(FileNotFoundError):  # another thread has removed the file
                total += path.stat().st_size
        return total

    def trim(self, keep: Take | None = None, room: int = 0) -> bool:
        """Remove finished takes except `keep`: empty takes, and the oldest takes until `room` more
        bytes fit and at most `TAKES_KEPT` takes remain. Returns whether the bytes fit.
        """
        with self._lock:
            finished = [t for t in self.by_id.values() if not t.busy and t is not keep]
            total = self.bytes_in_use() + room
            for take in finished:
                if (total <= limits.TAPES_BYTES and len(self.by_id) <= limits.TAKES_KEPT
                        and take.tape.samples):
                    continue
                total -= 2 * take.tape.samples
                del self.by_id[take.id]
                take.tape.path.unlink(missing_ok=True)
            return total <= limits.TAPES_BYTES

    def file(self, identity: str, kind: str, finish: Finish = Finish(),  # noqa: B008
             heard: int = 0) -> Path:
        """A copy of a take as a wav or flac file, or its notes as a mid file, which the caller must
        remove. While the take is generated, the copy has its first `heard` samples. Raises
        `UserError` if the take, its samples or the room for a copy are missing.
        """
        take = self.get(identity)
        samples = min(take.tape.samples, heard) if take.busy else take.tape.samples
        if not samples:
            raise UserError("Nothing of the take was heard yet: let it play for a moment.")
        if kind == "mid":
            return take.write_notes(samples)
        if not self.trim(keep=take, room=2 * samples):
            raise UserError(f"{TAPES_FULL}: wait until others end, then download this take again.")
        return take.tape.copy(kind, finish, samples)


class Studio:
    """The models, recordings and takes of a running studio. Any thread may call every method.
    streams: the most takes that are generated at the same time. partners: programs that share the
    beats of the newest take that plays, see `sync`. Other arguments: see `Folders`.
    """

    def __init__(self, codecs, generators, engine: str = "onnx", streams: int = limits.STREAMS,
                 follow=None, partners: Sequence = ()):
        self.folders, self.engine = Folders(codecs, generators, engine, follow), engine
        sweep_folders()
        self._temporary = tempfile.TemporaryDirectory(prefix=PREFIX)
        self.folder = Path(self._temporary.name)
        # The lock marks the folder as in use, see `sweep_folders`.
        self._folder_lock = open(self.folder / "lock", "wb")  # noqa: SIM115
        files.try_lock(self._folder_lock)
        shortest = min(chain.top for chain in self.folders.chains.values())
        self.recordings = Recordings(self.folder, self.folders.rate, shortest)
        self.takes = TakeList(self.folder, streams, partners)
        self._comparing = threading.Semaphore(limits.COMPARISONS_AT_ONCE)

    def close(self):
        """End every stream and remove the temporary folder."""
        self.takes.close()
        self._folder_lock.close()
        self._temporary.cleanup()

    def settings(self, request: TakeRequest) -> tuple[Settings, Recording | None]:
        """The settings of a piece, and its recording. Raises `UserError` for impossible requests.
        """
        folder = self.folders.name(request.weights)
        if folder not in self.folders.playing:
            raise UserError(f"There are no generators in {folder}; its codecs can be heard on the "
                            f"other page.")
        s = request.complete(self.folders.chains[folder], self.folders.temperatures(folder))
        recording = None if s.mode == "new" else self.recordings.get(s.recording, s.name)
        if recording and s.mode != "perform" and midi_files.is_midi(recording.path):
            raise UserError(f"{recording.name} has notes but no sound: choose \"Play a tune\".")
        update: dict = {"weights": folder}
        if s.mode == "continue":
            rest = round(recording.seconds - s.prompt_start, 5)
            update["prompt_seconds"] = min(s.prompt_seconds, max(rest, 0.1))
        return s.model_copy(update=update), recording

    def about(self) -> dict:
        """The data of the page: folders, clips, controls and limits."""
        return {
            "rate": self.folders.rate, "formats": [kind[1:] for kind in audio.AUDIO_SUFFIXES],
            "downloads": ["wav", "flac", *["mid"] * bool(importlib.util.find_spec("mido"))],
            "clips": self.recordings.clips(), "upload_bytes": limits.UPLOAD_BYTES,
            "longest": limits.LONGEST_TAKE, "longest_recording": limits.LONGEST_RECORDING,
            "longest_excerpt": limits.LONGEST_EXCERPT,
            "longest_comparison": limits.LONGEST_COMPARISON,
            "newest": self.folders.newest(),
            "moods": controls.MOODS | {"no mood": controls.NO_MOOD},
            "controls": [dataclasses.asdict(control) for control in controls.CONTROLS.values()
                         if control.sampled or control.slider],
            "folders": [self.folders.describe(name) for name in self.folders.playing],
            "codecs": list(self.folders.paths),
        }

    @with_errors
    def make_take(self, request: TakeRequest, before: Take | None = None) -> Iterator[bytes]:
        """Generate a take until the iterator is closed. Messages: {"progress", "share"}, {"take":
        header}, one for each block (see `Take.messages`), {"end": record}. An {"error": text} may
        end the take at any time. before: the take that is made again with other edits.
        """
        s, recording = self.settings(request)
        take = self.takes.admit(s, before)
        try:
            yield pack_message({"progress": "Loading the models", "share": None})
            models = self.folders.models(s.weights, s.epoch)
            yield from while_working(lambda report: take.prepare(models, recording, report))
            yield pack_message({"take": take.header})
            for message in take.messages():
                yield message
                if not self.takes.trim():
                    raise UserError(f"{TAPES_FULL}, so this take ends here: download it, or wait "
                                    f"until others end.")
            yield pack_message({"end": self.record(take)})
        finally:
            take.end()
            self.takes.trim()

    def edit(self, identity: str, edits: Edits, until: int | None = None) -> Iterator[bytes]:
        """Generate a take again with other edits of its score; see `make_take`."""
        take = self.takes.get(identity)
        changes = take.log.ordered() if take.busy else take.settings.changes
        return self.make_take(take.settings.edited(edits, changes, until=until, replaces=identity),
                              take)

    @with_errors
    def replay(self, identity: str) -> Iterator[bytes]:
        """The messages of a finished take again, without codes."""
        take = self.takes.get(identity)
        if take.busy or not take.tape.samples:
            raise UserError("The take is still being made: stop it, or wait for its end.")
        header = take.header | {"levels": [], "sampled": {}, "samples": take.tape.samples}
        yield pack_message({"take": header})
        yield from take.play_tape()
        yield pack_message({"end": self.record(take)})

    def stop(self, identity: str, heard: int) -> dict | None:
        """Stop a take after `heard` samples. Returns its record; None if the take is then empty."""
        take = self.takes.get(identity)
        take.end(heard)
        return self.record(take) if take.tape.samples else None

    def records(self, identities: Iterable[str]) -> dict[str, dict]:
        """{id: record} of the given takes that exist and are complete."""
        takes = filter(None, map(self.takes.by_id.get, identities))
        return {take.id: self.record(take) for take in takes if not take.busy and take.tape.samples}

    def record(self, take: Take) -> dict:
        """The entry of a take in the page's list."""
        s = take.settings
        return {"id": take.id, "title": s.title, "seed": s.seed, "level": s.level,
                "seconds": take.seconds, "link": s.link, "command": self.command(s),
                "changes": len(s.changes), "changes_file": s.changes_file}

    def command(self, s: Settings) -> str:
        """The command that generates the same piece, with the user's name of a recording, and with
        `Settings.changes_file` for the changes.
        """
        words = ["vqwave", "generate"]
        path = self.folders.paths[s.weights]
        for flag, value, default in (
            ("--vqvae-weights-dir", str(self.folders.codecs_of(s.weights)),
             str(defaults.folders(generators=path)[0])),
            ("--generator-weights-dir", str(path), str(defaults.folder(weights.GENERATORS))),
            ("--epoch", s.epoch.lstrip("0"), ""), ("--engine", self.engine, "onnx"),
        ):
            if value != default:
                words += [flag, value]
        # Name the level, because the default level of `chain.yml` may change.
        words += ["--generators", self.folders.chains[s.weights].generator(s.level)]
        if s.mode == "continue":
            words += ["--prompt", s.name, "--prompt-seconds", as_typed(s.prompt_seconds)]
            words += ["--prompt-start", as_typed(s.prompt_start)] if s.prompt_start else []
            words += ["--keep-original"] * s.keep_original
        if s.mode == "vary":
            words += ["--variation-of", s.name, "--keep", level_name(s.keep)]
        if s.mode == "perform":
            words += ["--score-from", s.name]
        if s.seconds is not None:
            words += ["--seconds", as_typed(s.seconds)]
        words += ["--latency", s.latency] if s.latency != "normal" else []
        if s.temperatures:
            words += ["--temperature"]
            words += [f"{name}={as_typed(t)}" for name, t in s.temperatures.items()]
        words += ["--label", s.label] if s.label else []
        for name, value in s.first_change.items():
            words += [f"--{name}", value if isinstance(value, str) else as_typed(value)]
        words += ["--replay", s.changes_file] if s.changes else ["--seed", str(s.seed)]
        return shlex.join([*words, "--output", "take.wav"])

    @with_errors
    def compare(self, request: CompareRequest) -> Iterator[bytes]:
        """A recording through every codec of a folder, see `compare.compare`."""
        if not self._comparing.acquire(blocking=False):
            raise UserError("Other recordings are going through the codecs, as many as this studio "
                            "takes at once: wait a little, then try again.")
        try:
            folder = self.folders.name(request.weights)
            recording = self.recordings.get(request.recording, request.name)
            yield from compare(request, recording, self.folders.models(folder), folder)
        finally:
            self._comparing.release()


def sweep_folders():
    """Remove the folders of killed studios: those whose locks are free, and a minute old."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), open(folder / "lock", "rb") as lock:
            if time.time() - os.fstat(lock.fileno()).st_mtime >= 60 and files.try_lock(lock):
                shutil.rmtree(folder)
