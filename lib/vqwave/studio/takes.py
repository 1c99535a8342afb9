"""What the studio makes and remembers: settings, recordings, takes and codecs heard, without a word
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
import json
import math
import os
import secrets
import shlex
import shutil
import struct
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np

from .. import files, metrics, plots, weights
from ..config import ChainConfig, Sampling, override
from ..data import audio
from ..errors import UserError
from ..play import api
from ..play.stream import Stream, Variation, draw_seed

FOLDER = "vqwave-studio-"
"""How the names of studios' folders begin, in the system's temporary one."""
BANDS = 96
N_FFT = 2048
LOUDEST_DB, RANGE_DB = 15.0, 65.0
"""A spectrogram that grows cannot wait for its loudest point: these fit music at full scale."""

STREAMS = 8
"""Takes made at one time; each costs a share of the processor."""
IDLE_SECONDS = 120.0
"""A stream that nobody has read from for so long makes room when all are in use."""
LONGEST = 4 * 3600.0
"""Seconds of a take that has no end of its own."""
TAPES_BYTES = 2 * 2**30
"""On the disk, of all takes with their wav and flac copies."""
TAKES_KEPT = 200
UPLOAD_BYTES = 200 * 2**20
UPLOADS_BYTES = 2 * 2**30
RECORDINGS_KEPT = 200
LONGEST_RECORDING = 30 * 60.0
LONGEST_COMPARISON = 60.0
COMPARISONS_KEPT = 8
COMPARISONS_AT_ONCE = 2
MODELS_KEPT = 3
LARGEST_SEED = 2**53 - 1
"""What a browser can count to."""

NO_RECORDING = "There is no recording yet: drop one in, or choose to make a new piece."
MODES = ("new", "continue", "vary")
FORMATS = ("wav", "flac")
ROLES = ("the course of the piece", "its phrases", "its texture", "its grain")
"""What levels say, from the top of a chain to its bottom."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides a piece. `weights`: a folder that the studio offers, "" its first;
    `epoch` "": the set that ships, else the best; `seconds` None: without an end.

    `chain` are the levels that the folder's chain has, `temperature` a number for each; the levels
    that are not at work have theirs for nothing. `recording` is the id that `Studio.receive` gave,
    `name` the file's name; both are empty in mode "new". `level` is where the music stops, `keep`
    the level that mode "vary" keeps.
    """

    chain: tuple[int, ...]
    level: int
    temperature: tuple[float, ...]
    weights: str = ""
    epoch: str = ""
    seed: int = 0
    seconds: float | None = 30.0
    mode: str = "new"
    recording: str = ""
    name: str = ""
    prompt_start: float = 0.0
    prompt_seconds: float = 5.0
    keep_original: bool = True
    keep: int = 0

    @classmethod
    def parse(cls, given: dict, chain: ChainConfig) -> Settings:
        """Settings from what a form or a link says; what is left out has its default, no seed draws
        one.

        Args:
            given: temperature is a mapping from level to number (a level that it leaves out has 1),
                or a number for each level from the top down, in a list or with commas between.
            chain: that of the folder of weights; the default of `level` is where it ends.

        Raises:
            UserError: names the field and what it may be.
        """
        given = {key: value for key, value in given.items() if value is not None and value != ""}
        mode = given.get("mode", "new")
        if mode not in MODES:
            raise UserError(f"There is no way of making music called {mode!r}; there are {', '.join(MODES)}.")
        level = _one_of(given, "level", chain.sizes, chain.ending, "The level to stop at")
        temperature = given.get("temperature", {})
        if isinstance(temperature, dict):
            temperature = [temperature.get(str(x), 1.0) for x in chain.sizes]
        if isinstance(temperature, str):
            temperature = temperature.split(",")
        if not isinstance(temperature, list | tuple) or len(temperature) != len(chain.sizes):
            raise UserError(f"There must be {len(chain.sizes)} temperatures, one for each level.")
        endless = str(given.get("seconds", "")) == "endless"
        settings = cls(
            chain=chain.sizes,
            weights=str(given.get("weights", cls.weights)),
            epoch=str(given.get("epoch", "")),
            level=level,
            seed=int(_number(given, "seed", 0, LARGEST_SEED, draw_seed(None), "The seed", whole=True)),
            seconds=None if endless else round(_number(given, "seconds", 0.1, LONGEST, cls.seconds, "The length"), 5),
            temperature=tuple(
                round(_temperature(t, x), 4)
                for x, t in zip(chain.sizes, temperature, strict=True)
            ),
            mode=mode,
            keep=chain.top,
        )
        if mode == "new":
            return settings
        recording, name = str(given.get("recording", "")), files.printable(str(given.get("name", "")))[:200]
        if not recording:
            raise UserError(NO_RECORDING)
        settings = dataclasses.replace(settings, recording=recording, name=name)
        if mode == "continue":
            return dataclasses.replace(
                settings,
                prompt_start=round(_number(given, "prompt_start", 0, LONGEST_RECORDING, cls.prompt_start,
                                           "Where in the recording to begin"), 5),
                prompt_seconds=round(_number(given, "prompt_seconds", 0.1, LONGEST_RECORDING, cls.prompt_seconds,
                                             "The part of the recording to begin with"), 5),
                keep_original=str(given.get("keep_original", True)).lower() in ("true", "1"),
            )
        if len(chain.sizes) == 1:
            raise UserError("This chain has one level, so a variation would keep nothing or everything.")
        keep = _one_of(given, "keep", chain.sizes[:-1], chain.top, "The level to keep")
        if keep <= level:
            raise UserError(f"Level {keep} is kept and the music stops at level {level}, so nothing would be left to "
                            "make: stop at a finer level, or keep a coarser one.")
        return dataclasses.replace(settings, keep=keep)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels whose codes are seen, from the top or the level kept down."""
        return tuple(x for x in self.chain if self.level <= x <= (self.keep if self.mode == "vary" else self.chain[0]))

    @property
    def new_levels(self) -> tuple[int, ...]:
        """The levels whose codes are made."""
        return self.levels[self.mode == "vary":]

    @property
    def temperatures(self) -> dict[int, float]:
        """Those of the levels whose codes are made."""
        return {x: t for x, t in zip(self.chain, self.temperature, strict=True) if x in self.new_levels}

    @property
    def link(self) -> str:
        """The query that fills the form with these settings."""
        unused = {"chain"} | ({"recording", "name"} if self.mode == "new" else set())
        unused |= {"prompt_start", "prompt_seconds", "keep_original"} if self.mode != "continue" else set()
        unused |= {"keep"} if self.mode != "vary" else set()
        values = {key: value for key, value in dataclasses.asdict(self).items() if key not in unused and value != ""}
        values["seconds"] = "endless" if self.seconds is None else _plain(self.seconds)
        values["temperature"] = ",".join(map(_plain, self.temperature))
        return urlencode(values)

    @property
    def title(self) -> str:
        """What it is, in words."""
        if self.mode == "continue":
            begins = f" from {_plain(self.prompt_start)} s" if self.prompt_start else ""
            return f"{self.name}{begins}, continued after {_plain(self.prompt_seconds)} s"
        return f"{self.name}, played anew below {self.keep}x" if self.mode == "vary" else "New piece"


def _plain(number: float) -> str:
    """The number as one would type it."""
    return f"{number:.5f}".rstrip("0").rstrip(".")


def _number(given, key, least, most, default, what, whole=False) -> float:
    value = given.get(key, default)
    try:
        if isinstance(value, bool):
            raise ValueError
        number = int(value) if whole and isinstance(value, str) else float(value)
        if not math.isfinite(number) or whole and number != int(number) or not least <= number <= most:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if whole else "a number"
        raise UserError(f"{what} must be {kind} from {least:g} to {most:.16g}, not {str(value)[:40]!r}.") from None
    return number


def _temperature(value, level: int) -> float:
    """A temperature that `Sampling` takes; text is a number, as a link has it."""
    if isinstance(value, str):
        value = _number({"t": value}, "t", -math.inf, math.inf, 1.0, f"The temperature of level {level}")
    return override(Sampling(), {"temperature": value}, f"The temperature of level {level}").temperature


def role(chain: tuple[int, ...], level: int) -> str:
    """What a level of a chain decides, in words."""
    place = chain.index(level) / max(len(chain) - 1, 1)
    return ROLES[round(place * (len(ROLES) - 1))]


def _one_of(given, key, allowed, default, what) -> int:
    value = given.get(key, default)
    if str(value) not in map(str, allowed):
        raise UserError(f"{what} must be one of {', '.join(map(str, allowed))}, not {str(value)[:40]!r}.")
    return int(value)


@dataclass(frozen=True)
class Recording:
    """A file that someone dropped in: `path` in the studio's folder, `name` as it was called,
    `seconds` long.
    """

    id: str
    path: Path
    name: str
    seconds: float


class Studio:
    """The models, recordings and takes of one running studio. Every method may be called from any
    thread.

    codecs: folder of codecs; generators: folders of generators; each of their subfolders that holds
    some is offered too. A folder that holds codecs of its own is used with those. Errors:
    `UserError` where there are no generators.
    """

    def __init__(self, codecs=weights.CODECS, generators=(weights.GENERATORS,), engine: str = "onnx",
                 streams: int = STREAMS):
        self.codecs, self.engine, self.streams = codecs, engine, streams
        self.folders = _folders(generators)
        self.chains = {label: weights.chain(path) for label, path in self.folders.items()}
        if not self.folders:
            asked = ", ".join(files.printable(g) for g in generators)
            raise UserError(f"{asked}: no generators in there (nor in its folders); train some, or name another folder "
                            "with --generator-weights-dir")
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
        """`Settings.parse`, with a folder that is here. Errors: `UserError`."""
        folder = str(given.get("weights") or next(iter(self.folders)))
        self._folder(folder)
        settings = Settings.parse(given | {"weights": folder}, self.chains[folder])
        if settings.mode == "continue" and (there := self._recordings.get(settings.recording)):
            # As much as there is: what is said of the take then holds.
            left = round(there.seconds - settings.prompt_start, 5)
            settings = dataclasses.replace(settings, prompt_seconds=min(settings.prompt_seconds, max(left, 0.1)))
        return settings

    @property
    def rate(self) -> int:
        """The sample rate of the first folder's chain."""
        return next(iter(self.chains.values())).sample_rate

    # ------------------------------------------------------------------------------------------------- models

    def epochs(self, folder: str) -> list[str]:
        """The sets of generators that a folder has: "" where one ships, "best", then epochs, the
        latest first.
        """
        path = self._folder(folder)
        tags = {tag for name in self.chains[folder].generators.values() for tag in weights.tags(path, name)}
        return sorted(tags, key=lambda t: (t.isdigit(), -int(t) if t.isdigit() else len(t)))

    def _folder(self, folder: str) -> Path:
        if folder not in self.folders:
            raise UserError(f"There is no folder of weights called {folder[:80]!r} here; there are "
                            f"{', '.join(self.folders)}.")
        return self.folders[folder]

    def codecs_of(self, folder: str):
        """The folder of codecs that goes with a folder of generators."""
        path = self._folder(folder)
        return path if any(weights.tags(path, name) for name in self.chains[folder].codecs.values()) else self.codecs

    def model(self, folder: str, epoch: str = "") -> _Model:
        """The models of a folder and epoch, loaded once for all; anew when training has replaced
        them meanwhile.
        """
        path, codecs = self._folder(folder), self.codecs_of(folder)
        if epoch and epoch not in self.epochs(folder):
            raise UserError(f"{folder} has no epoch {epoch[:20]}.")
        music = api.load(codecs, path, self.engine, epoch.lstrip("0") or None)
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

    # --------------------------------------------------------------------------------------------- recordings

    def receive(self, path, name: str | None = None) -> Recording:
        """Keep a file that was dropped in. The same file twice is one recording.

        Errors: `UserError` where it holds no sound that can be decoded, too much of it, or silence.
        """
        path = Path(path)
        name = files.printable(Path(name or path.name).name)[:200]
        if path.stat().st_size > UPLOAD_BYTES:
            raise UserError(f"{name}: larger than {UPLOAD_BYTES >> 20} MB; cut it, or give it as mp3 or flac.")
        identity = hashlib.sha256(path.read_bytes()).hexdigest()[:24]
        with self._lock:
            known = self._recordings.get(identity)
        if known:
            return dataclasses.replace(known, name=name)
        samples, peak = 0, 0.0
        try:
            for block in audio.Decoder(path, self.rate):
                samples += block.size
                peak = max(peak, float(np.abs(block).max(initial=0.0)))
                if samples > LONGEST_RECORDING * self.rate:
                    raise UserError(f"{name}: longer than {LONGEST_RECORDING / 60:g} minutes; cut it first.")
        except UserError as e:
            # The file's name here is not the one that its owner knows.
            raise UserError(str(e).replace(files.printable(path), name)) from e
        least = min(chain.top for chain in self.chains.values())
        if samples < least:
            raise UserError(f"{name}: has {samples} samples; {least} are one code of the top level, the least.")
        if peak < api.SILENT:
            raise UserError(f"{name}: is silent.")
        kept = self.folder / f"recording-{identity}{path.suffix[:8]}"
        shutil.copyfile(path, kept)
        recording = Recording(identity, kept, name, samples / self.rate)
        with self._lock:
            self._recordings[identity] = recording
            sizes = {key: r.path.stat().st_size for key, r in self._recordings.items()}
            while len(sizes) > 1 and (sum(sizes.values()) > UPLOADS_BYTES or len(sizes) > RECORDINGS_KEPT):
                oldest = self._recordings.popitem(last=False)[1]
                sizes.pop(oldest.id)
                oldest.path.unlink()
        return recording

    def recording(self, identity: str, name: str = "") -> Recording:
        """A recording that was received. Errors: `UserError` where it was not, or is no longer
        here.
        """
        with self._lock:
            if identity not in self._recordings:
                if not identity:
                    raise UserError(NO_RECORDING)
                raise UserError(f"{name or 'The recording'} is not in this studio (any more): drop it in again.")
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

    # -------------------------------------------------------------------------------------------------- takes

    def perform(self, given: dict) -> Iterator[bytes]:
        """Make a take: the frames that a player reads (see `frame`), until it ends or the iterator
        is closed.

        Frames are {"progress": words, "share": 0 … 1 or null}, then one {"take": ...}, then a block
        each, then one {"end": record}; an {"error": words} ends it at any time.
        """
        take = None
        try:
            take = self._admit(self.settings(given))
            yield from self._waiting(lambda report: take.prepare(self, report))
            yield frame({"take": take.header()})
            for one in take.frames():
                yield one
                self._trim()
                if self.bytes_in_use() > TAPES_BYTES:
                    raise UserError(f"The studio's room for takes is full ({TAPES_BYTES >> 20} MB), so this one ends "
                                    "here: download it, or wait until others end.")
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
                raise UserError(f"{len(busy)} takes are being made here at this moment, which is all that this studio "
                                "does at once: wait until one ends, then try again.")
            take = Take(secrets.token_urlsafe(12), settings, self.folder)
            self._takes[take.id] = take
        if len(busy) >= self.streams:
            min(idle, key=lambda t: t.touched).end()
        return take

    def take(self, identity: str) -> Take:
        """A take by its id. Errors: `UserError` where there is none."""
        with self._lock:
            if identity not in self._takes:
                raise UserError("That take is not in this studio any more. Its settings make it again, the same.")
            return self._takes[identity]

    def records(self, identities) -> dict[str, dict]:
        """What is to be remembered of those takes that are here, whole, by their ids."""
        with self._lock:
            there = [self._takes[x] for x in identities if x in self._takes and not self._takes[x].busy]
        return {take.id: self.record(take) for take in there if take.samples}

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
            "seconds": take.samples / take.rate, "link": settings.link, "command": self.command(settings),
            "ended": not take.busy,
        }

    def command(self, settings: Settings) -> str:
        """The command line that writes the same piece. A recording has the name that its owner
        knows.
        """
        words = ["python", "scripts/generate_audio.py"]
        codecs, folder = str(self.codecs_of(settings.weights)), str(self.folders[settings.weights])
        for flag, value, default in (
            ("--vqvae-weights-dir", codecs, weights.CODECS), ("--generator-weights-dir", folder, weights.GENERATORS),
            ("--epoch", settings.epoch.lstrip("0"), ""), ("--engine", self.engine, "onnx"),
        ):
            if value != default:
                words += [flag, value]
        # Also where the chain ends by itself: a `chain.yml` may say otherwise where the command is
        # run.
        words += ["--generators", self.chains[settings.weights].generators[settings.level]]
        if settings.mode == "continue":
            words += ["--prompt", settings.name, "--prompt-seconds", _plain(settings.prompt_seconds)]
            words += ["--prompt-start", _plain(settings.prompt_start)] if settings.prompt_start else []
            words += ["--keep-original"] * settings.keep_original
        if settings.mode == "vary":
            words += ["--variation-of", settings.name, "--keep", str(settings.keep)]
        if settings.seconds is not None:
            words += ["--seconds", _plain(settings.seconds)]
        used = [_plain(t) for t in settings.temperatures.values()]
        words += ["--temperature", *(used if len(set(used)) > 1 else used[:1])]
        return shlex.join([*words, "--seed", str(settings.seed), "--output", "take.wav"])

    def file(self, identity: str, kind: str) -> Path:
        """A take as a wav or flac file. Errors: `UserError` where it is not here, or there is no
        room for a copy.
        """
        take = self.take(identity)
        self._trim(keep=take, room=2 * take.samples)
        if self.bytes_in_use() + 2 * take.samples > TAPES_BYTES and kind not in take.copies:
            raise UserError(
                f"The studio's room for takes is full ({TAPES_BYTES >> 20} MB): wait until others end, then "
                "download this one again.")
        return take.file(kind)

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

    # ------------------------------------------------------------------------------------------------- codecs

    def compare(self, given: dict) -> Iterator[bytes]:
        """Put part of a recording through every codec: frames {"progress"}, {"comparison"}, then a
        {"sound"} each.

        A sound's payload is its samples, then its spectrogram, then its codes of the first book
        (the original has none).
        """
        counted, made = False, None
        try:
            with self._lock:
                if self._comparing >= COMPARISONS_AT_ONCE:
                    raise UserError(
                        f"{self._comparing} recordings are going through the codecs here at this moment, which "
                        "is all that this studio does at once: wait a little, then try again.")
                self._comparing += 1
                counted = True
            recording = self.recording(str(given.get("recording", "")), str(given.get("name", ""))[:200])
            start = _number(given, "start", 0, LONGEST_RECORDING, 0, "The second to start at")
            seconds = _number(given, "seconds", 0.1, LONGEST_COMPARISON, 20, "The seconds to hear")
            music = self.model(str(given.get("weights") or next(iter(self.folders))))
            made = Comparison(secrets.token_urlsafe(12), self.folder, music.music.sample_rate)
            yield from self._waiting(lambda report: made.prepare(music, recording, start, seconds, report))
            with self._lock:
                self._comparisons[made.id] = made
                while len(self._comparisons) > COMPARISONS_KEPT:
                    self._comparisons.popitem(last=False)[1].remove()
            yield frame({"comparison": {"id": made.id, "rate": made.rate, "samples": len(made.sounds[0]["audio"]),
                                   "name": str(given.get("name") or recording.name)[:200], "start": start}})
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
        """The wav of a sound of the codec page. Errors: `UserError` where it is not here any more.
        """
        with self._lock:
            if identity not in self._comparisons or name not in self._comparisons[identity].files:
                raise UserError("That sound is not in this studio any more: listen to the codecs again.")
            return self._comparisons[identity].files[name]


class _Model:
    """Models that many takes share. Each graph is opened under a lock, before several threads use
    it.
    """

    def __init__(self, music):
        self.music = music
        self._lock = threading.Lock()
        self._ready: set = set()
        self._shades: dict[int, np.ndarray] = {}

    def prepare(self, new: tuple[int, ...], encode: tuple[int, ...], report):
        """Load the generators of the levels `new` and the codecs of the levels `encode`, from
        the top down.
        """
        report("Loading the models (the first time they are converted, which takes a minute or two)")
        with self._lock:
            if new and new not in self._ready:
                # The least that runs every graph.
                chain, begin = self.music.chain, None
                if new[0] != chain.top:
                    kept = chain.sizes[chain.sizes.index(new[0]) - 1]
                    books = self.music.generator(new[0]).config.source.books
                    begin = Variation(kept, np.zeros((1, books) if books > 1 else 1, np.int32), kept)
                for _ in self.music.stream(level=new[-1], samples=1, seed=0, log_probs=True, begin=begin):
                    pass
                self._ready.add(new)
            for level in encode:
                if level not in self._ready:
                    self.music.decode(self.music.encode(np.zeros(level, np.float32), level), level)
                    self._ready.add(level)

    def shades(self, level: int) -> np.ndarray:
        """uint8 [num_codes], see `plots.code_shades`."""
        with self._lock:
            if level not in self._shades:
                self._shades[level] = np.rint(plots.codec_shades(self.music.codec(level)) * 255).astype(np.uint8)
            return self._shades[level]


class Take:
    """One piece while it is made and after. `end` may come from any thread, at any time, more than
    once.
    """

    def __init__(self, identity: str, settings: Settings, folder: Path):
        self.id, self.settings, self.folder = identity, settings, folder
        self.samples, self.rate = 0, 0  # the rate is known once the stream is open
        self.column = settings.chain[0]
        self.copies: dict[str, int] = {}  # bytes, by kind
        self.busy = True
        self.touched = time.monotonic()
        self._lock = threading.Lock()
        self._stream: Stream | None = None
        self._length, self._prompt = None, 0
        self._path = folder / f"take-{secrets.token_hex(8)}.pcm"
        self._shades: dict[int, np.ndarray] = {}

    def prepare(self, studio: Studio, report):
        """Load what it takes, encode what is continued or varied, and open the stream."""
        s = self.settings
        # Before anything that takes long.
        recording = studio.recording(s.recording, s.name) if s.mode != "new" else None
        loaded = studio.model(s.weights, s.epoch)
        loaded.prepare(s.new_levels, {"new": (), "continue": s.levels, "vary": (s.keep,)}[s.mode], report)
        self._shades = {x: loaded.shades(x) for x in s.levels}
        self._configs = {x: loaded.music.codec(x).config for x in s.levels}
        self._block = loaded.music.chain.block
        begin = None
        if s.mode == "continue":
            report(f"Encoding {s.name}")
            begin = loaded.music.prompt(recording.path, start=s.prompt_start, seconds=s.prompt_seconds, level=s.level,
                                        keep_original=s.keep_original)
        if s.mode == "vary":
            begin = loaded.music.source(recording.path, s.keep, lambda share: report(f"Encoding {s.name}", share))
        seconds = s.seconds
        if s.mode == "vary" and seconds is not None and seconds >= recording.seconds:
            # "As long as it is" is what the form means by more.
            seconds = None
        sampling = {x: {"temperature": t} for x, t in s.temperatures.items()}
        stream = loaded.music.stream(level=s.level, seed=s.seed, seconds=seconds, log_probs=True, sampling=sampling,
                                     begin=begin)
        self.rate, self._length, self._prompt = stream.sample_rate, stream.samples, stream.prompt_samples
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
            "id": self.id, "title": s.title, "seed": s.seed, "level": s.level, "rate": self.rate, "column": self.column,
            "block": self._block, "bands": BANDS, "samples": self._length, "prompt": self._prompt,
            "levels": [{
                "level": x, "made": x in s.new_levels, "role": role(s.chain, x),
                "num_codes": self._configs[x].num_codes,
                "most_bits": self._configs[x].books * math.log2(self._configs[x].num_codes),
                "shades": self._shades[x].tolist(),
            } for x in s.levels],
        }

    def frames(self) -> Iterator[bytes]:
        """A frame a block: {"samples", "columns", "codes", "bits"}, then 16 bit samples,
        spectrogram and codes.

        The codes are those of each level's first book; bits are of whole frames.
        """
        spectrum = Spectrum(self.rate, self.column)
        stream, most = self._stream, self._length or int(LONGEST * self.rate)
        with open(self._path, "ab") as tape:
            for block in stream or ():
                exact = audio.to_int16(block)
                with self._lock:
                    if not self.busy:
                        return
                    tape.write(exact.tobytes())
                    tape.flush()
                    self.samples += exact.size
                self.touched = time.monotonic()
                last = self.samples >= most
                picture = spectrum.push(audio.from_int16(exact), last)
                codes = [plots.first_book(stream.codes[x]) for x in self.settings.levels]
                bits = {}
                for x in self.settings.new_levels:
                    likely = np.asarray(stream.log_probs[x])
                    likely = likely.sum(axis=-1) if likely.ndim > 1 else likely
                    bits[x] = round(float(-likely.mean() / math.log(2)), 2)
                yield frame(
                    {"samples": exact.size, "columns": len(picture), "codes": [c.size for c in codes], "bits": bits},
                    exact.astype("<i2"), picture, *(c.astype("<u2") for c in codes),
                )
                self.touched = time.monotonic()
                if last:
                    break
        self.end()

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
                    self.settings = dataclasses.replace(self.settings, seconds=round(self.samples / self.rate, 5))
        if stream:
            stream.close()

    def file(self, kind: str) -> Path:
        """The take as a wav or flac file. Errors: `UserError` while it is being made, and for
        another kind.
        """
        if kind not in FORMATS:
            raise UserError(f"A take is written as {' or '.join(FORMATS)}, not as {kind[:20]!r}.")
        if self.busy or not self.samples:
            raise UserError("The take is still being made: stop it, or wait for its end.")
        path = self._path.with_suffix(f".{kind}")
        with self._lock:
            if not path.exists():
                tape = np.memmap(self._path, "<i2", "r", shape=(self.samples,))
                with audio.Writer(path, self.rate) as out:
                    for start in range(0, self.samples, 1 << 20):
                        out.write(audio.from_int16(tape[start : start + (1 << 20)]))
                self.copies[kind] = path.stat().st_size
        return path

    @property
    def bytes(self) -> int:
        """What it takes of the disk, its copies with it."""
        return 2 * self.samples + sum(self.copies.values())

    @property
    def file_name(self) -> str:
        """What a download is called, without its ending."""
        return f"vqwave-seed-{self.settings.seed}-{self.samples / self.rate:.1f}s"

    def remove(self):
        for kind in ("pcm", *FORMATS):
            self._path.with_suffix(f".{kind}").unlink(missing_ok=True)


class Comparison:
    """Part of a recording and what each codec makes of it."""

    def __init__(self, identity: str, folder: Path, rate: int):
        self.id, self.folder, self.rate = identity, folder, rate
        self.sounds: list[dict] = []
        self.files: dict[str, Path] = {}

    def prepare(self, loaded: _Model, recording: Recording, start: float, seconds: float, report):
        """Encode, decode and compare at every level that has a codec."""
        music = loaded.music
        self.column = music.chain.top
        levels = []
        for level, name in music.chain.codecs.items():
            try:
                music.weight_set(name)
                levels.append(level)
            except UserError:
                continue
        if not levels:
            raise UserError("There are no codecs here to listen to.")
        loaded.prepare((), tuple(levels), report)
        report(f"Reading {recording.name}")
        original, _ = audio.part(recording.path, self.rate, round(start * self.rate), round(seconds * self.rate))
        if not original.size:
            raise UserError(f"{recording.name} lasts {recording.seconds:.1f} s, so nothing is left of it from second "
                            f"{start:g} on.")
        self._add("original", original)
        for i, level in enumerate(levels):
            report(f"Through the codec of level {level} and back", i / len(levels))
            codec = music.codec(level)
            codes = codec.encode(original[None])
            made = codec.decode(codes)[0, : len(original)]
            figures = metrics.distances(original, made, self.rate) | metrics.codebook_figures(
                metrics.histogram(codes, codec.config.num_codes)) | {"bitrate_kbps": metrics.bitrate(codec.config)}
            self._add(str(level), made, level=level, codes=codes[0, :, 0], figures=figures,
                      shades=loaded.shades(level))

    def _add(self, name, made, **more):
        self.files[name] = self.folder / f"comparison-{secrets.token_hex(8)}.wav"
        audio.write(self.files[name], made, self.rate)
        self.sounds.append({"name": name, "audio": made} | more)

    def frame(self, sound) -> bytes:
        """A {"sound"} frame."""
        picture = Spectrum(self.rate, self.column).push(sound["audio"], last=True)
        about = {"name": sound["name"], "column": self.column, "bands": BANDS, "columns": len(picture)}
        parts = [audio.to_int16(sound["audio"]).astype("<i2"), picture]
        if "codes" in sound:
            parts.append(sound["codes"].astype("<u2"))
            about |= {"level": sound["level"], "codes": sound["codes"].size, "figures": sound["figures"],
                      "shades": sound["shades"].tolist()}
        return frame({"sound": about}, *parts)

    def remove(self):
        for path in self.files.values():
            path.unlink(missing_ok=True)


class Spectrum:
    """A mel spectrogram that grows: uint8 [columns, `BANDS`], 0 … 255 over `RANGE_DB` up to
    `LOUDEST_DB`.

    Column t is centred on sample t·`column`; it is ready `N_FFT` / 2 samples later. How the signal
    is cut into blocks changes nothing.
    """

    def __init__(self, rate: int, column: int):
        self._column = column
        self._filters = metrics.mel_filters(rate, N_FFT, BANDS).T
        self._signal = np.empty(0, np.float32)
        self._first = self._next = 0  # the column where `_signal` begins, and the next one to give

    def push(self, block, last: bool = False) -> np.ndarray:
        """Append float32 [n]; the columns that are ready now, all of them with `last`."""
        self._signal = np.concatenate([self._signal, block])
        there = self._signal.size
        column = self._column
        ready = self._first + (-(-there // column) if last else max(0, (there - N_FFT // 2) // column + 1))
        if ready <= self._next:
            return np.empty((0, BANDS), np.uint8)
        frames = np.concatenate(list(metrics.magnitudes(self._signal, N_FFT, column)))
        mel = frames[self._next - self._first : ready - self._first].astype(np.float32) @ self._filters
        self._next = ready
        # The next column looks back half a window.
        begin = max(self._first, ready - -(-N_FFT // 2 // column))
        self._signal = self._signal[(begin - self._first) * column :].copy()
        self._first = begin
        level = (20 * np.log10(np.maximum(mel, 1e-9)) - LOUDEST_DB + RANGE_DB) / RANGE_DB
        return np.rint(np.clip(level, 0.0, 1.0) * 255).astype(np.uint8)


def sweep_folders():
    """Remove the folders of studios that were killed: those whose lock nobody holds.

    A minute old at least, since a folder is not locked in the instant in which it is made.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError), open(folder / "lock", "rb") as lock:
            if time.time() - os.fstat(lock.fileno()).st_mtime >= 60 and files.try_lock(lock):
                shutil.rmtree(folder)


def frame(about: dict, *parts: np.ndarray) -> bytes:
    """One message to a player: two little-endian uint32 lengths, `about` as JSON, then the bytes of
    `parts`.
    """
    text = json.dumps(about).encode()
    payload = b"".join(np.ascontiguousarray(p).tobytes() for p in parts)
    return struct.pack("<II", len(text), len(payload)) + text + payload


def parse_frames(data: bytes) -> list[tuple[dict, bytes]]:
    """The messages in `data`, as (about, payload)."""
    found, at = [], 0
    while at < len(data):
        text, payload = struct.unpack_from("<II", data, at)
        found.append((json.loads(data[at + 8 : at + 8 + text]), data[at + 8 + text : at + 8 + text + payload]))
        at += 8 + text + payload
    return found


def _folders(named) -> dict[str, Path]:
    """Folders that hold generators of the top level, by what they are called: those named and the
    folders in them.
    """
    found = {}
    for one in named:
        root = weights.find_folder(one, weights.GENERATORS)
        inside = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        for path in [root, *inside]:
            chain = weights.chain(path)
            if weights.tags(path, chain.generators[chain.top]):
                label = str(one) if path == root else str(Path(one) / path.name)
                found[label] = path
    return found
