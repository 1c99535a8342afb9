"""What the studio makes and remembers: recordings, takes and comparisons of codecs, without a word
of any web.

A `Studio` holds the loaded models, which everyone shares, and what each browser makes with them. A
take is one piece: its stream is pulled by one reader, a block at a time, and everything that was
pulled stands on its tape, a file of 16 bit samples in a folder that is removed with the studio.
Memory does not grow with time; all that is kept is bounded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import os
import secrets
import shlex
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import plots
from ..config import GeneratorConfig
from ..dsp import notes
from ..errors import UserError
from ..io import audio, files, weights
from ..play import api, controls, mastering
from ..play.performance import replay
from ..play.prompt import Variation
from ..play.render import Finish
from ..play.sampling import draw_seed
from ..play.stream import Stream
from ..report import judge
from .pictures import BANDS, Roll, Spectrum, frame
from .settings import (
    LETTING_GO,
    LONGEST,
    LONGEST_LABEL,
    LONGEST_RECORDING,
    MOST_CHANGES,
    NO_RECORDING,
    Settings,
    as_typed,
    lets_go,
    read_number,
    role,
)

FOLDER = "vqwave-studio-"
"""How the names of studios' folders begin, in the system's temporary one."""
STREAMS = 8
"""Takes made at one time; each costs a share of the processor."""
IDLE_SECONDS = 120.0
"""A stream that nobody has read from for so long makes room when all are in use."""
TAPES_BYTES = 2 * 2**30
"""On the disk, of all takes with their wav and flac copies."""
TAKES_KEPT = 200
PAST = 8.0
"""Seconds that *hold* can repeat."""
TURNED = ("transpose", "mutate", "pull")
"""Numbers of `controls.CONTROLS` that have a slider, beside those with one of their own."""
REPLACED = {"sampling", "loudness", "transpose", "mutate", "pull", "notes"}
"""Of `controls.NAMES`, what is as it was set last, whatever it was set to before."""
PASSAGE = 10.0
"""Seconds before the playhead that "continue from here" begins with, at most."""
LONGEST_FINISH = 20 * 60.0
"""Seconds of a take whose loudness is set, or whose end is joined to its beginning: it is held in
memory.
"""
UPLOAD_BYTES = 200 * 2**20
UPLOADS_BYTES = 2 * 2**30
RECORDINGS_KEPT = 200
LONGEST_COMPARISON = 60.0
COMPARISONS_KEPT = 8
COMPARISONS_AT_ONCE = 2
UPLOADS_AT_ONCE = 4
LEAST_COLUMN = 256
"""Samples: a picture with more columns costs more than it shows."""
OUTLINE = 600
"""Points of the picture of a recording."""
CLIPS = {
    "love_theme": ("docs/results/wesnoth/original.ogg", "Love Theme (Ryan Reilly)"),
    "generated_1": ("docs/results/wesnoth/generated_1.ogg", "Made by VQWave, 1"),
    "generated_2": ("docs/results/wesnoth/generated_2.ogg", "Made by VQWave, 2"),
}
"""Recordings of the checkout that can be tried; NOTICE has their terms."""
MODELS_KEPT = 3
FORMATS = ("wav", "flac")
WILDER = 1.5
"""By so much the wildest end of the slider multiplies the temperatures, and the calmest divides
them.
"""


@dataclass(frozen=True)
class Recording:
    """A file that someone dropped in: `path` in the studio's folder, `name` as it was called,
    `seconds` long; `outline` are its loudest samples in up to `OUTLINE` parts, 0 … 255.
    """

    id: str
    path: Path
    name: str
    seconds: float
    outline: tuple[int, ...] = ()

    @property
    def about(self) -> dict:
        """What a page must know of it."""
        return {"id": self.id, "name": self.name, "seconds": self.seconds, "outline": self.outline}


class Studio:
    """The models, recordings and takes of one running studio. Every method may be called from any
    thread.

    codecs: folder of codecs; generators: folders of generators; each of their subfolders that holds
    some is offered too. A folder that holds codecs of its own is used with those; where it holds
    codecs alone, they are heard and nothing of it plays. Codecs of a chain without generators are
    such a folder too, and what plays has those that ship. follow: a folder in which a training
    runs: it is offered first, and its best sets by validation are what plays, as they come. Raises
    `UserError` where there are neither generators nor codecs.

    folders: all of them by what they are called, those that play first; playing: the names of
    these.
    """

    def __init__(self, codecs=weights.CODECS, generators=(weights.GENERATORS,),
                 engine: str = "onnx",
                 streams: int = STREAMS, follow=None):
        self.following = None if follow is None else str(follow)
        generators = [*([self.following] if self.following else []), *generators]
        if not weights.chain(codecs).plays:
            codecs, generators = weights.CODECS, [*generators, codecs]
        self.codecs, self.engine, self.streams = codecs, engine, streams
        playing, alone = _folders(generators)
        self.folders, self.playing = playing | alone, tuple(playing)
        if self.following and self.following not in self.playing:
            raise UserError(f"{files.printable(self.following)}: no generators in there to follow "
                            f"yet")
        self.chains = {label: weights.chain(path) for label, path in self.folders.items()}
        if not self.folders:
            asked = ", ".join(files.printable(g) for g in generators)
            raise UserError(f"{asked}: no generators in there (nor in its folders), and no codecs; "
                            f"train some, or name another folder with --generator-weights-dir")
        sweep_folders()
        self._temporary = tempfile.TemporaryDirectory(prefix=FOLDER)
        self.folder = Path(self._temporary.name)
        # While this process lives the folder is in use, see `sweep_folders`.
        self._held = open(self.folder / "lock", "wb")  # noqa: SIM115
        files.try_lock(self._held)
        self._lock = threading.Lock()
        self._models: OrderedDict[tuple, _Model] = OrderedDict()
        self._takes: OrderedDict[str, Take] = OrderedDict()
        self._recordings: OrderedDict[str, Recording] = OrderedDict()
        self._comparisons: OrderedDict[str, Comparison] = OrderedDict()
        self._comparing = 0
        self._open = True

    def close(self):
        """End every stream and remove what is on the disk."""
        with self._lock:
            self._open = False
            takes = list(self._takes.values())
        for take in takes:
            take.end()
        self._held.close()
        self._temporary.cleanup()

    def settings(self, given: dict) -> Settings:
        """`Settings.parse`, with a folder that is here and plays. Raises `UserError`."""
        folder = str(given.get("weights") or next(iter(self.folders)))
        self._folder(folder)
        if folder not in self.playing:
            raise UserError(f"There are no generators in {folder}; its codecs can be heard on the "
                            f"other page.")
        settings = Settings.parse(given | {"weights": folder}, self.chains[folder], {
            level: model.sampling.temperature for level, model in self._generators(folder).items()})
        if settings.mode == "continue" and (there := self._recordings.get(settings.recording)):
            # As much as there is: what is said of the take then holds.
            left = round(there.seconds - settings.prompt_start, 5)
            seconds = min(settings.prompt_seconds, max(left, 0.1))
            settings = dataclasses.replace(settings, prompt_seconds=seconds)
        return settings

    def form(self, given: dict) -> dict:
        """`settings` as a page fills its form with them, and the recording that they name. Raises
        `UserError` where a piece cannot begin with them.
        """
        settings = self.settings(given)
        found = None
        if settings.mode != "new":
            found = (self.recording(settings.recording, settings.name).about
                     | {"name": settings.name})
        return {"settings": dataclasses.asdict(settings), "recording": found,
                "title": settings.title}

    def about(self) -> dict:
        """What a page offers: the folders that play with their levels and epochs, those whose
        codecs can be heard, clips, limits.
        """
        return {
            "rate": self.rate, "formats": [suffix[1:] for suffix in audio.AUDIO_SUFFIXES],
            "clips": self.clips(),
            "upload_bytes": UPLOAD_BYTES, "longest": LONGEST,
            "longest_recording": LONGEST_RECORDING,
            "longest_comparison": LONGEST_COMPARISON, "past": PAST, "newest": self.newest(),
            "controls": [dataclasses.asdict(one) for one in controls.CONTROLS.values()
                         if one.sampled or one.name in TURNED],
            "folders": [self._describe(name) for name in self.playing],
            "codecs": list(self.folders),
        }

    def _describe(self, folder: str) -> dict:
        """What a page offers of a folder that plays."""
        chain, there = self.chains[folder], self._generators(folder)
        return {"name": folder, "epochs": self.epochs(folder), "ending": chain.ending,
                "levels": list(chain.sizes),
                "temperatures": [there[x].sampling.temperature if x in there else 1.0
                                 for x in chain.sizes],
                "labels": next((list(model.labels.names) for model in there.values()
                                if model.labels), [])}

    @property
    def rate(self) -> int:
        """The sample rate of the first folder's chain."""
        return next(iter(self.chains.values())).sample_rate

    # --------------------------------------------------------------------------------------- models

    def newest(self) -> str | None:
        """What tells the sets of the followed folder from those before; None where none is
        followed.
        """
        if self.following is None:
            return None
        path, said = self.folders[self.following], []
        for name in self.chains[self.following].names:
            try:
                said.append(str(weights.config_path(path, name, "best").stat().st_mtime_ns))
            except OSError:
                said.append("")  # not trained yet
        return ",".join(said)

    def epochs(self, folder: str) -> list[str]:
        """The sets of generators that a folder has: "" where one ships, "best", then epochs, the
        latest first.
        """
        path = self._folder(folder)
        tags = {tag for name in self.chains[folder].generators.values()
                for tag in weights.tags(path, name)}
        return sorted(tags, key=lambda t: (t.isdigit(), -int(t) if t.isdigit() else len(t)))

    def _generators(self, folder: str) -> dict[int, GeneratorConfig]:
        return weights.generators(self.folders[folder], self.chains[folder])

    def _folder(self, folder: str) -> Path:
        if folder not in self.folders:
            raise UserError(f"There is no folder of weights called {folder[:80]!r} here; there are "
                            f"{', '.join(self.folders)}.")
        return self.folders[folder]

    def codecs_of(self, folder: str):
        """The folder of codecs that goes with a folder of generators."""
        path = self._folder(folder)
        return path if weights.holds(path, self.chains[folder].codecs.values()) else self.codecs

    def model(self, folder: str, epoch: str = "") -> _Model:
        """The models of a folder and epoch, loaded once for all; anew when training has replaced
        them meanwhile.
        """
        path, codecs = self._folder(folder), self.codecs_of(folder)
        if epoch and epoch not in self.epochs(folder):
            raise UserError(f"{folder} has no epoch {epoch[:20]}.")
        wanted = epoch.lstrip("0") or ("best" if folder == self.following else None)
        music = api.load(codecs, path, self.engine, wanted)
        key = [folder, epoch]
        for name in music.chain.names:
            try:
                key.append(music.weight_set(name).checksum)
            except UserError:
                # A take that needs it will say so.
                key.append(None)
        key = tuple(key)
        with self._lock:
            if key not in self._models:
                self._models[key] = _Model(music)
            self._models.move_to_end(key)
            while len(self._models) > MODELS_KEPT:
                self._models.popitem(last=False)
            return self._models[key]

    # ----------------------------------------------------------------------------------- recordings

    def receive(self, path, name: str | None = None) -> Recording:
        """Keep a file that was dropped in. The same file twice is one recording.

        Raises `UserError` where it holds no sound that can be decoded, too much of it, or silence.
        """
        path = Path(path)
        name = files.printable(Path(name or path.name).name)[:200]
        if path.stat().st_size > UPLOAD_BYTES:
            raise UserError(f"{name}: larger than {UPLOAD_BYTES >> 20} MB; cut it, or give it as "
                            f"mp3 or flac.")
        with open(path, "rb") as file:
            identity = hashlib.file_digest(file, "sha256").hexdigest()[:24]
        with self._lock:
            known = self._recordings.get(identity)
        if known:
            return dataclasses.replace(known, name=name)
        samples, peaks = 0, []
        try:
            for block in audio.Decoder(path, self.rate):
                samples += block.size
                parts = np.split(block, range(2048, len(block), 2048))
                peaks += [float(np.abs(part).max()) for part in parts if part.size]
                if samples > LONGEST_RECORDING * self.rate:
                    raise UserError(f"{name}: longer than {LONGEST_RECORDING / 60:g} minutes; cut "
                                    f"it first.")
        except UserError as e:
            # The file's name here is not the one that its owner knows.
            raise UserError(str(e).replace(files.printable(path), name)) from e
        least = min(chain.top for chain in self.chains.values())
        if samples < least:
            raise UserError(f"{name}: too short: {samples} samples, {least} needed.")
        if max(peaks) < api.SILENT:
            raise UserError(f"{name}: is silent.")
        kept = self.folder / f"recording-{identity}{files.printable(path.suffix)[:8]}"
        shutil.copyfile(path, kept)
        recording = Recording(identity, kept, name, samples / self.rate, _shrink(peaks))
        with self._lock:
            self._recordings[identity] = recording
            sizes = {key: r.path.stat().st_size for key, r in self._recordings.items()}
            while len(sizes) > 1 and (sum(sizes.values()) > UPLOADS_BYTES
                                      or len(sizes) > RECORDINGS_KEPT):
                oldest = self._recordings.popitem(last=False)[1]
                sizes.pop(oldest.id)
                oldest.path.unlink()
        return recording

    def recording(self, identity: str, name: str = "") -> Recording:
        """A recording that was received. Raises `UserError` where it was not, or is no longer
        here.
        """
        with self._lock:
            if identity not in self._recordings:
                if not identity:
                    raise UserError(NO_RECORDING)
                raise UserError(f"{name or 'The recording'} is not in this studio (any more): drop "
                                f"it in again.")
            self._recordings.move_to_end(identity)
            return self._recordings[identity]

    def _own_names(self, error: UserError) -> str:
        """An error in words, in which a recording has the name that its owner knows, not the file's
        here.
        """
        words = str(error)
        with self._lock:
            for one in self._recordings.values():
                words = words.replace(files.printable(one.path), one.name)
        return words

    def clips(self) -> dict[str, str]:
        """What can be tried without a recording of one's own: names by id."""
        return {key: name for key, (path, name) in CLIPS.items()
                if (weights.CHECKOUT / path).is_file()}

    def clip(self, key: str) -> Recording:
        """One of `clips`, as if it had been dropped in. Raises `UserError` where it is not here.
        """
        if key not in self.clips():
            raise UserError("There is no such clip here.")
        path, name = CLIPS[key]
        return self.receive(weights.CHECKOUT / path, name)

    def part(self, identity: str, given: dict) -> bytes:
        """Part of a recording as a wav file: from second `start` on, `seconds` of it."""
        recording = self.recording(identity)
        start = read_number(given, "start", 0, LONGEST_RECORDING, 0, "The second to start at")
        seconds = read_number(given, "seconds", 0.01, LONGEST_RECORDING, 60, "The seconds to hear")
        own, _ = audio.part(recording.path, self.rate, round(start * self.rate),
                            max(1, round(seconds * self.rate)))
        if not own.size:
            raise UserError(f"{recording.name} lasts {recording.seconds:.1f} s.")
        path = self.folder / f"part-{secrets.token_hex(8)}.wav"
        try:
            audio.write(path, own, self.rate)
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    # ---------------------------------------------------------------------------------------- takes

    def perform(self, given: dict) -> Iterator[bytes]:
        """Make a take: the frames that a player reads (see `frame`), until it ends or the iterator
        is closed.

        Frames are {"progress": words, "share": 0 … 1 or null}, then one {"take": ...}, then a block
        each, then one {"end": record}; an {"error": words} ends it at any time.
        """
        take = None
        try:
            take = self._admit(self.settings(given))
            take.allow(given.get("until"))
            yield from self._waiting(lambda report: take.prepare(self, report))
            yield frame({"take": take.header()})
            for one in take.frames():
                yield one
                self._trim()
                if self.bytes_in_use() > TAPES_BYTES:
                    raise UserError(f"The studio's room for takes is full ({TAPES_BYTES >> 20} "
                                    f"MB), so this one ends here: download it, or wait until "
                                    f"others end.")
            yield frame({"end": self.record(take)})
        except UserError as e:
            yield frame({"error": self._own_names(e)})
        except OSError as e:
            yield frame({"error": f"The studio's disk failed: {files.reason(e)}."})
        finally:
            if take:
                take.end()
                self._trim()

    def _waiting(self, work: Callable) -> Iterator[bytes]:
        """Do `work(report)` in a thread of its own; frames that say how far it is, until it is
        done.
        """
        said: list = [None]
        left = threading.Event()

        def report(words, share=None):
            if left.is_set():
                raise UserError("nobody waits for this any more")
            said[0] = {"progress": words, "share": share}

        with ThreadPoolExecutor(1, thread_name_prefix="vqwave-prepare") as pool:
            done = pool.submit(work, report)
            shown = None
            try:
                while not wait([done], 0.15).done:
                    if said[0] is not shown:
                        shown = said[0]
                        yield frame(shown)
            finally:
                left.set()
            done.result()

    def _admit(self, settings: Settings) -> Take:
        with self._lock:
            if not self._open:
                raise UserError("The studio is closing.")
            busy = [t for t in self._takes.values() if t.busy]
            idle = [t for t in busy if time.monotonic() - t.touched > IDLE_SECONDS]
            if len(busy) - bool(idle) >= self.streams:
                raise UserError(f"{len(busy)} takes are being made here at this moment, which is "
                                f"all that this studio does at once: wait until one ends, then try "
                                f"again.")
            take = Take(secrets.token_urlsafe(12), settings, self.folder)
            self._takes[take.id] = take
        if len(busy) >= self.streams:
            min(idle, key=lambda t: t.touched).end()
        return take

    def take(self, identity: str) -> Take:
        """A take by its id. Raises `UserError` where there is none."""
        with self._lock:
            if identity not in self._takes:
                raise UserError("That take is not in this studio any more. Its settings make it "
                                "again, the same.")
            return self._takes[identity]

    def records(self, identities) -> dict[str, dict]:
        """What is to be remembered of those takes that are here, whole, by their ids."""
        with self._lock:
            there = [self._takes[x] for x in identities if x in self._takes
                     and not self._takes[x].busy]
        return {take.id: self.record(take) for take in there if take.samples}

    def replay(self, identity: str) -> Iterator[bytes]:
        """A take that is over once more, as `perform` sent it but for its codes."""
        take = self.take(identity)
        if take.busy or not take.samples:
            raise UserError("The take is still being made: stop it, or wait for its end.")
        yield frame({"take": take.header() | {"levels": [], "samples": take.samples}})
        yield from take.play_tape()
        yield frame({"end": self.record(take)})

    def passage(self, identity: str, end: int) -> Recording:
        """What a take played before sample `end`, as a recording that a new take can continue."""
        take = self.take(identity)
        end = min(end, take.samples)
        begin = max(0, end - round(PASSAGE * take.rate))
        if end - begin < take.column:
            raise UserError("There is nothing to continue yet: let it play for a moment.")
        path = self.folder / f"part-{secrets.token_hex(8)}.wav"
        try:
            audio.write(path, take.read(begin, end), take.rate)
            name = f"{take.file_stem}-{begin / take.rate:.1f}-{end / take.rate:.1f}s.wav"
            return self.receive(path, name)
        finally:
            path.unlink(missing_ok=True)

    def stop(self, identity: str, heard: int) -> dict | None:
        """Stop a take after `heard` samples; its record, or None where nothing of it is left."""
        take = self.take(identity)
        take.end(heard)
        return self.record(take) if take.samples else None

    def busy(self) -> int:
        """Takes that are being made."""
        with self._lock:
            return sum(t.busy for t in self._takes.values())

    def record(self, take: Take) -> dict:
        """What a history shows of a take."""
        settings = take.settings
        return {
            "id": take.id, "title": settings.title, "seed": settings.seed, "level": settings.level,
            "seconds": take.samples / take.rate, "link": settings.link,
            "command": self.command(settings),
            "changes": len(settings.score), "score": score_name(settings),
        }

    def command(self, settings: Settings) -> str:
        """The command line that writes the same piece. A recording has the name that its owner
        knows; what was changed while it played is in a file as `score_name` calls it.
        """
        words = ["python", "scripts/generate_audio.py"]
        codecs, folder = str(self.codecs_of(settings.weights)), str(self.folders[settings.weights])
        for flag, value, default in (
            ("--vqvae-weights-dir", codecs, weights.CODECS),
            ("--generator-weights-dir", folder, weights.GENERATORS),
            ("--epoch", settings.epoch.lstrip("0"), ""), ("--engine", self.engine, "onnx"),
        ):
            if value != default:
                words += [flag, value]
        # Also where the chain ends by itself: a `chain.yml` may say otherwise where the command is
        # run.
        words += ["--generators", self.chains[settings.weights].generator(settings.level)]
        if settings.mode == "continue":
            words += ["--prompt", settings.name, "--prompt-seconds",
                      as_typed(settings.prompt_seconds)]
            words += (["--prompt-start", as_typed(settings.prompt_start)] if settings.prompt_start
                      else [])
            words += ["--keep-original"] * settings.keep_original
        if settings.mode == "vary":
            words += ["--variation-of", settings.name, "--keep", str(settings.keep)]
        if settings.seconds is not None:
            words += ["--seconds", as_typed(settings.seconds)]
        used = [as_typed(t) for t in settings.temperatures.values()]
        words += ["--temperature", *(used if len(set(used)) > 1 else used[:1])]
        words += ["--label", settings.label] if settings.label else []
        words += (["--replay", score_name(settings)] if settings.score
                  else ["--seed", str(settings.seed)])
        return shlex.join([*words, "--output", "take.wav"])

    def file(self, identity: str, kind: str, finish: Finish = Finish(),  # noqa: B008
             heard: int | None = None) -> Path:
        """A take as a wav or flac file, finished as asked; of one that is being made what was
        `heard`. Raises `UserError` where it is not here, or there is no room for a copy.
        """
        take = self.take(identity)
        self._trim(keep=take, room=2 * take.samples)
        there = take.copy_path(kind, finish).name in take.copies
        if self.bytes_in_use() + 2 * take.samples > TAPES_BYTES and not there:
            raise UserError(
                f"The studio's room for takes is full ({TAPES_BYTES >> 20} MB): wait until others "
                f"end, then download this one again.")
        return take.file(kind, finish, heard)

    def bytes_in_use(self) -> int:
        """Bytes of all takes and their copies."""
        with self._lock:
            return sum(t.bytes for t in self._takes.values())

    def _trim(self, keep: Take | None = None, room: int = 0):
        """Forget the oldest takes, but for `keep`, until `room` more bytes may be kept."""
        with self._lock:
            ended = [t for t in self._takes.values() if not t.busy and t is not keep]
            total = sum(t.bytes for t in self._takes.values()) + room
            for take in ended:
                if total <= TAPES_BYTES and len(self._takes) <= TAKES_KEPT and take.samples:
                    continue
                total -= take.bytes
                del self._takes[take.id]
                take.remove()

    # --------------------------------------------------------------------------------------- codecs

    def compare(self, given: dict) -> Iterator[bytes]:
        """Put part of a recording through every codec: frames {"progress"}, {"comparison"}, then a
        {"sound"} each.

        A sound's payload is its samples, then its spectrogram, then its codes, frame by frame (the
        original has none, nor has a codec whose frames are vectors).
        """
        counted, made = False, None
        try:
            with self._lock:
                if self._comparing >= COMPARISONS_AT_ONCE:
                    raise UserError(
                        f"{self._comparing} recordings are going through the codecs here at this "
                        f"moment, which is all that this studio does at once: wait a little, then "
                        f"try again.")
                self._comparing += 1
                counted = True
            recording = self.recording(str(given.get("recording", "")),
                                       str(given.get("name", ""))[:200])
            start = read_number(given, "start", 0, LONGEST_RECORDING, 0, "The second to start at")
            seconds = read_number(given, "seconds", 0.1, LONGEST_COMPARISON,
                                  20, "The seconds to hear")
            folder = str(given.get("weights") or next(iter(self.folders)))
            loaded = self.model(folder)
            made = Comparison(secrets.token_urlsafe(12), self.folder, loaded.music.sample_rate)
            yield from self._waiting(
                lambda report: made.prepare(loaded, recording, start, seconds, report))
            with self._lock:
                self._comparisons[made.id] = made
                while len(self._comparisons) > COMPARISONS_KEPT:
                    self._comparisons.popitem(last=False)[1].remove()
            yield frame({"comparison": {"id": made.id, "rate": made.rate,
                                        "samples": len(made.sounds[0]["audio"]),
                                        "name": str(given.get("name") or recording.name)[:200],
                                        "start": start, "weights": folder}})
            for sound in made.sounds:
                yield made.frame(sound)
            made.sounds = []  # what is left is on the disk
            yield frame({"end": {"id": made.id}})
        except UserError as e:
            yield frame({"error": self._own_names(e)})
        except OSError as e:
            yield frame({"error": f"The studio's disk failed: {files.reason(e)}."})
        finally:
            if counted:
                with self._lock:
                    self._comparing -= 1
            if made and made.id not in self._comparisons:
                made.remove()  # nobody waited for it

    def sound_path(self, identity: str, name: str) -> Path:
        """The wav of a sound of the codec page. Raises `UserError` where it is not here any more.
        """
        with self._lock:
            if identity not in self._comparisons or name not in self._comparisons[identity].files:
                raise UserError("That sound is not in this studio any more: listen to the codecs "
                                "again.")
            return self._comparisons[identity].files[name]


class _Model:
    """Models that many takes share. Each graph is opened under a lock, before several threads use
    it.
    """

    def __init__(self, music):
        self.music = music
        self._lock = threading.Lock()
        self._ready: set = set()
        self._shades: dict[int, list[list[int]]] = {}

    def prepare(self, new: tuple[int, ...], encode: tuple[int, ...], report):
        """Load the generators of the levels `new` and the codecs of the levels `encode`, from
        the top down.
        """
        report("Loading the models (the first time they are converted, which takes a minute or "
               "two)")
        with self._lock:
            if new and new not in self._ready:
                # The least that runs every graph.
                chain, begin = self.music.chain, None
                if new[0] != chain.top:
                    kept = chain.sizes[chain.sizes.index(new[0]) - 1]
                    books = self.music.generator(new[0]).config.source.books
                    begin = Variation(kept,
                                      np.zeros((1, books) if books > 1 else 1, np.int32), kept)
                for _ in self.music.stream(level=new[-1], samples=1, seed=0,
                                           log_probs=True, begin=begin):
                    pass
                self._ready.add(new)
            for level in encode:
                if level not in self._ready:
                    codec = self.music.codec(level)
                    codec.decode(codec.encode(np.zeros((1, level), np.float32)))
                    self._ready.add(level)

    def shades(self, level: int) -> list[list[int]]:
        """0 … 255 for each code of each book, see `plots.code_shades`."""
        with self._lock:
            if level not in self._shades:
                self._shades[level] = [np.rint(255 * one).astype(int).tolist()
                                       for one in plots.shades_of_books(self.music.codec(level))]
            return self._shades[level]


class Take:
    """One piece while it is made and after. `end` may come from any thread, at any time, more than
    once.
    """

    def __init__(self, identity: str, settings: Settings, folder: Path):
        self.id, self.settings, self.folder = identity, settings, folder
        self.samples, self.rate = 0, 0  # the rate is known once the stream is open
        self.column = column(settings.chain)
        self.copies: dict[str, int] = {}  # bytes, by what a copy is called
        self.score: list = list(settings.score)
        self.allowed: int | None = None  # samples that may be made; None: all
        self.spent = 0.0  # seconds that the making took
        self.busy = True
        self.touched = time.monotonic()
        self._lock = threading.Lock()
        self._going = threading.Condition(self._lock)
        # changes are remembered in the order in which they were made
        self._steering = threading.Lock()
        self._writing = threading.Lock()
        self._stream: Stream | None = None
        self._length, self._prompt = None, 0
        self.labels: tuple[str, ...] = ()
        self._path = folder / f"take-{secrets.token_hex(8)}.pcm"
        self._shades: dict[int, list[list[int]]] = {}

    def prepare(self, studio: Studio, report):
        """Load what it takes, encode what is continued or varied, and open the stream."""
        s = self.settings
        # Before anything that takes long.
        recording = studio.recording(s.recording, s.name) if s.mode != "new" else None
        loaded = studio.model(s.weights, s.epoch)
        loaded.prepare(s.new_levels, {"new": (), "continue": s.levels,
                                      "vary": (s.keep,)}[s.mode], report)
        self._shades = {x: loaded.shades(x) for x in s.levels}
        self._configs = {x: loaded.music.codec(x).config for x in s.levels}
        self._block = loaded.music.chain.block
        begin = None
        if s.mode == "continue":
            report(f"Encoding {s.name}")
            begin = loaded.music.prompt(recording.path, start=s.prompt_start,
                                        seconds=s.prompt_seconds, level=s.level,
                                        keep_original=s.keep_original)
        if s.mode == "vary":
            begin = loaded.music.source(recording.path, s.keep,
                                        lambda share: report(f"Encoding {s.name}", share))
        seconds = s.seconds
        if s.mode == "vary" and seconds is not None and seconds >= recording.seconds:
            # "As long as it is" is what the form means by more.
            seconds = None
        sampling = {x: {"temperature": t} for x, t in s.temperatures.items()}
        stream = loaded.music.stream(level=s.level, seed=s.seed, seconds=seconds,
                                     log_probs=True, sampling=sampling,
                                     chosen={"label": s.label} if s.label else None,
                                     begin=begin, past=PAST)
        self.labels = stream.labels
        self.rate, self._length = stream.sample_rate, stream.samples
        self._prompt = stream.prompt_samples
        with self._lock:
            if self.busy:
                self._stream = stream
                return
        stream.close()
        raise UserError("The take was stopped.")

    def header(self) -> dict:
        """What a player must know before the first block."""
        s = self.settings
        return {
            "id": self.id, "title": s.title, "seed": s.seed, "level": s.level,
            "rate": self.rate, "column": self.column,
            "block": self._block, "bands": BANDS, "lowest": notes.LOWEST_MIDI,
            "samples": self._length,
            "prompt": self._prompt,
            "labels": list(self.labels), "label": s.label,
            "levels": [{
                "level": x, "made": x in s.new_levels, "role": role(s.chain, x),
                "num_codes": self._configs[x].num_codes,
                "books": self._configs[x].books,
                "most_bits": self._configs[x].books * math.log2(self._configs[x].num_codes),
                "shades": self._shades[x],
            } for x in s.levels],
        }

    def allow(self, until):
        """Make no more than the first `until` samples, for now; None: all."""
        if until is not None and not (isinstance(until, int) and 0 <= until <= 1 << 53):
            raise UserError("until counts samples.")
        with self._going:
            self.allowed = until
            self.touched = time.monotonic()
            self._going.notify_all()

    def steer(self, given: dict) -> dict:
        """Change what plays.

        Args:
            given: some of wild (-1 calm … 1 wild), loudness (dB), hold (seconds, 0: go on), jump
                (true: somewhere else), freeze (seconds of the top level, 0: go on), notes (MIDI
                numbers that are held), label (what to pass into, "" for any), levels ({level:
                {temperature, top_p, guidance}}), and the numbers of `TURNED`, in the ranges of
                `controls.CONTROLS`.

        Returns:
            {"sample": from where it holds}, and what was drawn.
        """
        changes: dict = {}
        if "wild" in given:
            wild = read_number(given, "wild", -1, 1, 0, "calm … wild")
            top_p = round(min(1.0, 1 + wild / 5), 4)
            changes["sampling"] = {x: {"temperature": round(t * WILDER**wild, 4), "top_p": top_p}
                                   for x, t in self.settings.temperatures.items()}
        if "loudness" in given:
            changes["loudness"] = read_number(given, "loudness", -40, 6, 0, "The loudness")
        if "hold" in given:
            changes["hold"] = read_number(given, "hold", 0, PAST - 1, 0, "The seconds to hold")
        if "freeze" in given:
            changes["freeze"] = read_number(given, "freeze", 0, PAST - 1, 0,
                                            "The seconds to freeze")
        for name in TURNED:
            if name in given:
                one = controls.CONTROLS[name]
                changes[name] = read_number(given, name, one.least, one.most, one.default,
                                            name.capitalize())
        if "notes" in given:
            changes["notes"] = given["notes"]
        if "label" in given:
            changes["label"] = str(given["label"])[:LONGEST_LABEL]
        if "levels" in given:
            changes["sampling"] = self._read_levels(given["levels"])
        if given.get("jump"):
            changes["jump"] = draw_seed(None)
        if not changes:
            raise UserError(f"There is nothing to change: say wild, loudness, hold, jump, freeze, "
                            f"notes, label, levels, {', '.join(TURNED)}.")
        if changes.get("notes") and (stream := self._stream):
            stream.hear_codes()  # some seconds the first time, in which other changes are made
        with self._steering:
            stream = self._stream
            if stream is None:
                raise UserError("The take has ended: there is nothing to change.")
            full = len(self.score) >= MOST_CHANGES
            if full and not lets_go(changes):
                raise UserError(f"A take remembers {MOST_CHANGES} changes: begin another. What is "
                                f"held can be let go.")
            sample = stream.set(**changes)
            if not full or self._holds(sample) & changes.keys():
                self._remember(sample, changes)
        self.touched = time.monotonic()
        return {"sample": sample, "seed": changes.get("jump")}

    def _remember(self, sample: int, changes: dict):
        """A change, which takes the place of those of the same sample that it leaves nothing of: a
        slider that is dragged is one change a block.
        """
        own = self.score[len(self.settings.score):]
        if not own or own[-1][0] != sample or not own[-1][1].keys() | changes.keys() <= REPLACED:
            self.score.append((sample, changes))
            return
        before = own[-1][1]
        sampling = dict(before.get("sampling", {}))
        for level, values in changes.get("sampling", {}).items():
            sampling[level] = sampling.get(level, {}) | values
        joined = before | changes | ({"sampling": sampling} if sampling else {})
        self.score[-1] = (sample, joined)

    def _changes(self) -> list:
        """All changes in the order in which they were made: what was asked for while a score plays
        comes before what that has for the same block.
        """
        given = len(self.settings.score)
        return sorted([*self.score[given:], *self.score[:given]], key=lambda change: change[0])

    def _holds(self, sample: int) -> set[str]:
        """What of `LETTING_GO` holds something at a sample."""
        now: dict = {}
        for at, change in self._changes():
            now |= change if at <= sample else {}
        return {name for name in LETTING_GO if now.get(name)}

    def _read_levels(self, given) -> dict[int, dict[str, float]]:
        """What levels draw with, checked."""
        if not isinstance(given, dict):
            raise UserError("levels must be {level: {temperature, top_p}}.")
        levels = {str(x): x for x in self.settings.new_levels}
        made: dict[int, dict[str, float]] = {}
        for level, values in given.items():
            if level not in levels or not isinstance(values, dict):
                raise UserError(f"Level {str(level)[:20]} is not made; there are "
                                f"{', '.join(levels)}.")
            made[levels[level]] = {
                name: read_number(values, name, one.least, one.most, one.default,
                                  f"The {name} of level {level}")
                for name, one in controls.CONTROLS.items() if one.sampled and name in values}
        return made

    def frames(self) -> Iterator[bytes]:
        """A frame a block: {"samples", "columns", "codes", "bits", "speed", "notes"}, then 16 bit
        samples, spectrogram and codes; {"wait": true} where none is allowed for a second.

        Codes are frames one after the other, each with all its books; bits are of whole frames;
        notes as `Roll` gives them.
        """
        spectrum, roll = Spectrum(self.rate, self.column), Roll(self.rate)
        stream, most = self._stream, self._length or int(LONGEST * self.rate)
        blocks = replay(stream, self.settings.score) if stream else iter(())
        with open(self._path, "ab") as tape:
            while True:
                with self._going:
                    go = self._going.wait_for(
                        lambda: not self.busy or self.allowed is None
                        or self.samples < self.allowed, 1.0)
                if not go:
                    yield frame({"wait": True})
                    continue
                began = time.monotonic()
                block = next(blocks, None)
                self.spent += time.monotonic() - began
                if block is None:
                    break
                exact = audio.to_int16(block)
                with self._lock:
                    if not self.busy:
                        return
                    tape.write(exact.tobytes())
                    tape.flush()
                    self.samples += exact.size
                self.touched = time.monotonic()
                last = self.samples >= most
                heard = audio.from_int16(exact)
                picture = spectrum.push(heard, last)
                codes = [stream.codes[x] for x in self.settings.levels]
                bits = {}
                for x in self.settings.new_levels:
                    likely = np.asarray(stream.log_probs[x])
                    likely = likely.sum(axis=-1) if likely.ndim > 1 else likely
                    bits[x] = round(float(-likely.mean() / math.log(2)), 2)
                yield frame(
                    {"samples": exact.size, "columns": len(picture),
                     "codes": [c.size for c in codes], "bits": bits,
                     "speed": round(self.samples / self.rate / max(self.spent, 1e-6), 2),
                     "notes": roll.push(heard, last)},
                    exact.astype("<i2"), picture, *(c.astype("<u2") for c in codes),
                )
                self.touched = time.monotonic()
                if last:
                    break
        self.end()

    def play_tape(self) -> Iterator[bytes]:
        """The frames of a take that is over, without codes."""
        spectrum, roll = Spectrum(self.rate, self.column), Roll(self.rate)
        for begin in range(0, self.samples, self._block):
            part = self.read(begin, min(begin + self._block, self.samples))
            last = begin + self._block >= self.samples
            picture = spectrum.push(part, last)
            yield frame({"samples": part.size, "columns": len(picture), "codes": [], "bits": {},
                         "notes": roll.push(part, last)}, audio.to_int16(part).astype("<i2"),
                        picture)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Samples begin … end − 1 of the tape: float32 [end − begin]."""
        with open(self._path, "rb") as tape:
            tape.seek(2 * begin)
            return audio.from_int16(np.frombuffer(tape.read(2 * (end - begin)), "<i2"))

    def end(self, heard: int | None = None):
        """Stop, if it is not over: the take ends after `heard` samples (None: with all that was
        made).

        Its settings then say the length it has, in whole columns, so that they make just this piece
        again.
        """
        with self._lock:
            stream, self._stream = self._stream, None
            if self.busy:
                self.busy = False
                made = self.samples
                if made and made != self._length:
                    # No piece is as short as its prompt.
                    least = self._prompt + 1
                    if heard is not None:
                        made = min(made, -(-max(heard, least) // self.column) * self.column)
                    self.samples = made if made >= least else 0
                    os.truncate(self._path, 2 * self.samples)
                if self.samples:
                    score = tuple(change for change in self._changes()
                                  if change[0] < self.samples)
                    self.settings = dataclasses.replace(self.settings,
                                                        seconds=round(self.samples / self.rate, 5),
                                                        score=score)
                self._going.notify_all()
        if stream:
            stream.close()

    def copy_path(self, kind: str, finish: Finish = Finish()) -> Path:  # noqa: B008
        """Where a copy of the take lies, finished so."""
        words = [f"fade {as_typed(finish.fade or 0)}"] * bool(finish.fade) + ["loop"] * finish.loop
        return self._path.with_name(" ".join([self._path.stem, *words,
                                              *["loud"] * finish.normalize]) + f".{kind}")

    def file(self, kind: str, finish: Finish = Finish(),  # noqa: B008
             heard: int | None = None) -> Path:
        """The take as a wav or flac file; of one that is being made the first `heard` samples.

        Raises `UserError` for another kind, where there is nothing yet, for a piece too long to be
        finished.
        """
        if kind not in FORMATS:
            raise UserError(f"A take is written as {' or '.join(FORMATS)}, not as {kind[:20]!r}.")
        with self._lock:
            busy, samples = self.busy, self.samples
        if busy:
            samples = min(samples, heard or 0)
        if not samples:
            raise UserError("Nothing of the take was heard yet: let it play for a moment.")
        if finish.whole and samples > LONGEST_FINISH * self.rate:
            raise UserError(f"Takes of up to {LONGEST_FINISH / 60:g} minutes can be finished; this "
                            f"one is longer.")
        if finish.fade and 2 * finish.fade * self.rate > samples:
            raise UserError(f"Fades of {finish.fade:g} s at both ends need {2 * finish.fade:g} s; "
                            f"the take is shorter.")
        path = self.copy_path(kind, finish)
        if busy:
            path = path.with_stem(f"{path.stem} so far")
        with self._writing:
            if busy or not path.exists():
                with audio.Writer(path, self.rate) as out:
                    for block in self._finish(samples, finish):
                        out.write(block)
                self.copies[path.name] = path.stat().st_size
        return path

    def _finish(self, samples: int, finish: Finish) -> Iterator[np.ndarray]:
        """The first samples of the tape as they go to a file: float32 blocks."""
        step = samples if finish.whole else 1 << 20
        for start in range(0, samples, step):
            block = self.read(start, min(start + step, samples))
            if finish.fade:
                block = mastering.fade(block, start, round(finish.fade * self.rate), samples)
            yield finish.master(block, self.rate, lambda words: None) if finish.whole else block

    @property
    def bytes(self) -> int:
        """What it takes of the disk, its copies with it."""
        return 2 * self.samples + sum(self.copies.values())

    @property
    def file_name(self) -> str:
        """What a download is called, without its ending."""
        return f"{self.file_stem}-{self.samples / self.rate:.1f}s"

    @property
    def file_stem(self) -> str:
        return f"vqwave-seed-{self.settings.seed}"

    def remove(self):
        for path in (self._path, *(self._path.with_name(name) for name in self.copies)):
            path.unlink(missing_ok=True)


class Comparison:
    """Part of a recording and what each codec makes of it."""

    def __init__(self, identity: str, folder: Path, rate: int):
        self.id, self.folder, self.rate = identity, folder, rate
        self.sounds: list[dict] = []
        self.files: dict[str, Path] = {}

    def prepare(self, loaded: _Model, recording: Recording, start: float, seconds: float, report):
        """Encode, decode and compare at every level that has a codec."""
        music = loaded.music
        self.column = column(music.chain.sizes)
        levels = []
        for level, name in music.chain.codecs.items():
            with contextlib.suppress(UserError):
                music.weight_set(name)
                levels.append(level)
        if not levels:
            raise UserError("There are no codecs here to listen to.")
        loaded.prepare((), tuple(levels), report)
        report(f"Reading {recording.name}")
        original, _ = audio.part(recording.path, self.rate, round(start * self.rate),
                                 round(seconds * self.rate))
        if not original.size:
            raise UserError(f"{recording.name} lasts {recording.seconds:.1f} s, so nothing is left "
                            f"of it from second {start:g} on.")
        self._add("original", original)
        for i, level in enumerate(levels):
            report(f"Through the codec of level {level} and back", i / len(levels))
            codec = music.codec(level)
            copies: list[tuple[np.ndarray, np.ndarray]] = []
            figures = judge.judge(codec, [original], copies=copies)
            made, codes = copies[0]
            seen = ({"codes": codes, "shades": loaded.shades(level)} if codec.config.has_codes
                    else {})
            self._add(str(level), made, level=level, figures=figures, **seen)

    def _add(self, name, made, **more):
        self.files[name] = self.folder / f"comparison-{secrets.token_hex(8)}.wav"
        audio.write(self.files[name], made, self.rate)
        self.sounds.append({"name": name, "audio": made} | more)

    def frame(self, sound) -> bytes:
        """A {"sound"} frame."""
        picture = Spectrum(self.rate, self.column).push(sound["audio"], last=True)
        about = {"name": sound["name"], "column": self.column, "bands": BANDS,
                 "lowest": notes.LOWEST_MIDI,
                 "columns": len(picture)}
        parts = [audio.to_int16(sound["audio"]).astype("<i2"), picture]
        if "figures" in sound:
            about |= {"level": sound["level"], "figures": sound["figures"],
                      "verdict": verdict(sound["figures"])}
        if "codes" in sound:
            parts.append(sound["codes"].astype("<u2"))
            about |= {"codes": sound["codes"].size, "books": len(sound["shades"]),
                      "shades": sound["shades"]}
        return frame({"sound": about}, *parts)

    def remove(self):
        for path in self.files.values():
            path.unlink(missing_ok=True)


def column(levels: tuple[int, ...]) -> int:
    """Samples of a column of a chain's pictures: whole frames of each level, at least
    `LEAST_COLUMN`.
    """
    return levels[0] * -(-LEAST_COLUMN // levels[0])


def score_name(settings: Settings) -> str:
    """What a download of a take's seed and changes is called; "" where nothing was changed."""
    return f"vqwave-seed-{settings.seed}-{settings.seconds:.1f}s.json" if settings.score else ""


def _shrink(peaks: list[float]) -> tuple[int, ...]:
    """Up to `OUTLINE` values 0 … 255 of a recording's loudest samples, block by block."""
    values = np.asarray(peaks)
    count = min(OUTLINE, values.size)
    edges = np.linspace(0, values.size, count + 1)[:-1].astype(int)
    return tuple(np.rint(255 * np.minimum(np.maximum.reduceat(values, edges),
                                          1)).astype(int).tolist())


def verdict(figures: dict) -> str:
    """What is left of a recording, in words, by the notes and chords that are (see
    `notes.compare`).
    """
    if figures["notes"] is None:
        return "This part is silent."
    for least, words in ((0.9, "All of it stays."), (0.72, "The notes stay, fine detail is lost."),
                         (0.5, "Much of the melody stays, blurred.")):
        if figures["notes"] >= least:
            return words
    return ("Chords stay, melody is lost." if figures["chroma"] >= 0.65
            else "Mood stays, melody is lost.")


def sweep_folders():
    """Remove the folders of studios that were killed: those whose lock nobody holds.

    A minute old at least, since a folder is not locked in the instant in which it is made.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError), open(folder / "lock", "rb") as lock:
            if time.time() - os.fstat(lock.fileno()).st_mtime >= 60 and files.try_lock(lock):
                shutil.rmtree(folder)


def plays(folder) -> bool:
    """Whether a folder, which need not be there, holds the generators of all levels that play."""
    path = weights.find_folder(folder, weights.GENERATORS)
    chain = weights.chain(path)
    return chain.plays and all(weights.holds(path, [chain.generator(level)])
                               for level in chain.sizes if level >= chain.ending)


def _folders(named) -> tuple[dict[str, Path], dict[str, Path]]:
    """Folders by what they are called, of those named and the folders in them: those that hold
    generators of the top level, and those that hold codecs alone.
    """
    playing, alone = {}, {}
    for one in named:
        root = weights.find_folder(one, weights.GENERATORS)
        inside = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        for path in [root, *inside]:
            chain = weights.chain(path)
            label = str(one) if path == root else str(Path(one) / path.name)
            if chain.plays and weights.holds(path, [chain.generator(chain.top)]):
                playing[label] = path
            elif weights.holds(path, chain.codecs.values()):
                alone[label] = path
    return playing, alone
