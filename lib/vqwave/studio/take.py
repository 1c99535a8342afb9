"""A take: a piece that a browser plays while it is generated, and later again."""

import contextlib
import math
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..codecs import CodecConfig
from ..dsp import notes
from ..dsp.beats import STEPS_PER_BEAT
from ..errors import UserError
from ..io import audio
from ..play import mastering, midi_files, sync
from ..play.blocks import RAMP
from ..play.chain import Engines
from ..play.controls import CONTROLS, SCORE_CONTROLS
from ..play.render import LICENCE_NOTICE, Finish
from ..play.sampling import draw_seed
from ..play.session import replay
from ..play.stream import Stream
from . import limits
from .folders import FolderModels
from .messages import pack_message
from .pictures import PICTURE_BANDS, LateRoll, Roll, Spectrum, column
from .requests import ChangeRequest, Recording, Settings

WILDEST = 1.5
"""The factor of the temperatures at the wild end of the slider; the calm end divides by it."""


class Tape:
    """The samples of a take on the disk, in 16 bits. The take sets `rate`."""

    def __init__(self, folder: Path):
        self.path = folder / f"take-{secrets.token_hex(8)}.pcm"
        self.rate = self.samples = 0

    def append(self, samples: np.ndarray):
        """int16 [n]."""
        with open(self.path, "ab") as file:
            file.write(samples.tobytes())
        self.samples += samples.size

    def truncate(self, samples: int):
        self.samples = samples
        os.truncate(self.path, 2 * samples)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Samples begin … end − 1, up to the last: float32."""
        part = np.fromfile(self.path, "<i2", min(end, self.samples) - begin, offset=2 * begin)
        return audio.from_int16(part)

    def new_path(self, kind: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-{secrets.token_hex(4)}.{kind}")

    def copy(self, kind: str, finish: Finish, samples: int) -> Path:
        """The first samples as a new wav or flac file. Raises `UserError` if there are too many or
        too few for `finish`.
        """
        if finish.whole and samples > limits.LONGEST_FINISH * self.rate:
            raise UserError(f"Only takes of up to {limits.LONGEST_FINISH / 60:g} minutes can be "
                            f"looped or normalized.")
        if finish.fade and 2 * finish.fade * self.rate > samples:
            raise UserError(f"Two fades of {finish.fade:g} s are longer than the take.")
        path = self.new_path(kind)
        with audio.Writer(path, self.rate, LICENCE_NOTICE) as out:
            for block in self._finished_blocks(samples, finish):
                out.write(block)
        return path

    def _finished_blocks(self, samples: int, finish: Finish) -> Iterator[np.ndarray]:
        """float32 blocks; a single one if the finish needs the whole take."""
        step = samples if finish.whole else 1 << 20
        for start in range(0, samples, step):
            block = self.read(start, min(start + step, samples))
            if finish.fade:
                block = mastering.fade(block, start, round(finish.fade * self.rate), samples)
            yield finish.master(block, self.rate) if finish.whole else block


class ChangeLog:
    """The changes of a take, (sample, keywords) each: of its settings, and those made live."""

    def __init__(self, planned: tuple):
        self.planned = planned
        self.live: list[tuple[int, dict]] = []

    def ordered(self) -> list[tuple[int, dict]]:
        """All changes in the order of the stream; at the same sample, live changes come first."""
        return sorted([*self.live, *self.planned], key=lambda change: change[0])


class Saved(NamedTuple):
    """A stream after some samples of a take. step: the next that is composed. planned, live: the
    numbers of changes of a `ChangeLog` that were made.
    """

    samples: int
    step: int
    planned: int
    live: int
    state: dict
    engines: Engines


class Allowance:
    """The samples that may be generated for now. until: None allows all samples. While the take
    plays, more are allowed as time passes, for `limits.UNASKED` seconds after the last request.
    heard: the sample that was heard when it was asked for.
    """

    def __init__(self, until: int | None, rate: int = 0, heard: int = 0):
        self.until, self.rate, self.since = until, rate, time.monotonic()
        self._heard = heard

    @property
    def heard(self) -> float:
        """The sample that is heard now."""
        return self._heard + (time.monotonic() - self.since) * self.rate

    def missing(self, samples: int) -> float:
        """Seconds until a block that begins at sample `samples` may be generated; 0: now."""
        if self.until is None or samples < self.until:
            return 0.0
        if not self.rate:
            return math.inf
        wait = (samples + 1 - self.until) / self.rate
        passed = time.monotonic() - self.since
        return max(0.0, wait - passed) if wait <= limits.UNASKED else math.inf


class Take:
    """One piece. A single reader pulls its blocks; any thread may call `end`, more than once."""

    header: dict
    """The data for the page before the first block."""

    def __init__(self, settings: Settings, folder: Path, before: "Take | None" = None,
                 partners: Sequence = ()):
        self.partners = partners  # see `sync`
        self._beats: sync.Beats | None = None
        self.before = before  # the take that is made again with other edits
        self.states: deque[Saved] = deque(maxlen=limits.STATES_KEPT)
        self.id, self.settings = secrets.token_urlsafe(12), settings
        self.tape, self.log = Tape(folder), ChangeLog(settings.changes)
        self.column = column(settings.chain)
        self.allowance = Allowance(settings.until)
        self.computing = 0.0  # seconds
        self.score: tuple = np.empty((0, 4), int), ()
        """The notes and beats of an ended take, see `Stream.whole_score`."""
        self.form: dict | None = None  # see `_form`
        self.broken = ""  # why the studio ended the take
        self._replayed: Sequence = settings.changes
        self._waiting: list[dict] = []  # changes that take effect with the next bar
        self.busy, self.touched = True, time.monotonic()
        self._lock = threading.Lock()
        self._allowing = threading.Condition(self._lock)
        self._steering = threading.Lock()  # so that the log has the order of the changes
        self._stream: Stream | None = None

    @property
    def seconds(self) -> float:
        return self.tape.samples / self.tape.rate

    def prepare(self, models: FolderModels, recording: Recording | None, report):
        """Load the models, encode the recording, and open the stream."""
        s, music = self.settings, models.music
        encode = {"continue": s.levels, "vary": (s.keep,)}.get(s.mode, ())
        models.prepare(s.new_levels, encode, report)
        levels = [describe_level(music.codec(level).config, level in s.new_levels,
                                 models.shades(level)) for level in s.levels]
        begin, score, seconds = None, None, s.seconds
        if s.mode == "continue":
            report(f"Encoding {s.name}")
            begin = music.prompt(recording.path, start=s.prompt_start, seconds=s.prompt_seconds,
                                 level=s.level, keep_original=s.keep_original)
        if s.mode == "vary":
            begin = music.source(recording.path, s.keep,
                                 lambda share: report(f"Encoding {s.name}", share))
            if seconds is not None and seconds >= recording.seconds:
                seconds = None  # as long as the recording
        if s.mode == "perform":
            report(f"Writing down the notes of {s.name}")
            score = models.score(recording.path)
        stream = self._continue_take(music) or music.stream(
            level=s.level, seed=s.seed, seconds=seconds, log_probs=True, begin=begin, score=score,
            sampling={name: {"temperature": t} for name, t in s.temperatures.items()},
            label=s.label or None, past=limits.PAST, latency=s.latency)
        if not stream.position:
            stream.set(**s.first_change)
        self.tape.rate = stream.sample_rate
        self.header = {"id": self.id, "title": s.title, "seed": s.seed, "level": s.level,
                       "rate": stream.sample_rate, "column": self.column,
                       "block": stream.block, "ramp": round(RAMP * stream.sample_rate),
                       "bands": PICTURE_BANDS,
                       "lowest": notes.LOWEST_MIDI,
                       "samples": stream.samples or s.seconds and round(s.seconds * self.tape.rate),
                       "prompt": stream.prompt_samples,
                       "labels": list(stream.labels), "label": s.label, "score": stream.has_score,
                       "edits": s.edits.model_dump(), "sampled": stream.sampled,
                       "controls": s.first_change, "chain": s.chain, "levels": levels}
        with self._lock:
            if self.busy:
                self._stream = stream
                return
        stream.close()
        raise UserError("The take was stopped.")

    def _continue_take(self, music) -> Stream | None:
        """The stream of the take before the edit, continued where its score is still the same.
        Copies the sound up to there. None: there is no such state.
        """
        before, self.before = self.before, None
        if before is None:
            return None
        step = self.settings.first_edited(before.settings)
        saved = next((x for x in reversed(before.states) if x.step <= step
                      and x.samples <= before.tape.samples), None)
        if saved is None:
            return None
        stream = Stream.resume(saved.state, saved.engines, music=music)
        stream.set(edits=self.settings.edits)
        self.tape.rate = stream.sample_rate
        self.tape.append(audio.to_int16(before.tape.read(0, saved.samples)))
        self.states.extend(x for x in before.states if x.samples <= saved.samples)
        made = [*before.log.planned[: saved.planned], *before.log.live[: saved.live]]
        self._replayed = [x for x in self.settings.changes if "edits" not in x[1] and x not in made]
        return stream

    def _keep_state(self, stream: Stream):
        """Keep the state of the stream for edits, about every `limits.STATE_SECONDS`."""
        last, now = self.states[-1].samples if self.states else 0, self.tape.samples
        if not stream.has_score or now < last + limits.STATE_SECONDS * self.tape.rate:
            return
        with self._steering:
            live = self.log.live
            if not live or live[-1][0] < now:
                planned = sum(sample < now for sample, _ in self.log.planned)
                self.states.append(Saved(now, stream.steps[1], planned, len(live),
                                         stream.state(), stream.queued))

    def messages(self) -> Iterator[bytes]:
        """A message for each block: {"samples", "columns", "codes", "bits", "speed", "notes",
        "score"}, then 16-bit samples, spectrogram and codes; {"wait": true} while no block is
        allowed.

        Codes are ordered by frame, then by book. bits: per frame. notes: see `Roll`. score: see
        `_composed`.
        """
        with contextlib.closing(LateRoll(self.tape.rate)) as roll:
            yield from self._messages((Spectrum(self.tape.rate, self.column), roll))
        self.end()
        if self.broken:
            raise UserError(self.broken)

    def _messages(self, pictures: tuple) -> Iterator[bytes]:
        tape, stream, s = self.tape, self._stream, self.settings
        longest = self.header["samples"] or int(limits.LONGEST_TAKE * tape.rate)
        yield from self._tape_messages(pictures, score=_composed(stream, 0), form=_form(stream, 0))
        blocks, begun = replay(stream, self._replayed) if stream else iter(()), self.seconds
        if self.partners and stream and stream.has_score:
            self._beats = sync.Beats(stream, self.partners, self._follow_tempo)
            blocks = self._beats.follow(blocks)
        while tape.samples < longest:
            if not self._wait_until_allowed():
                yield pack_message({"wait": True})
                continue
            start = time.monotonic()
            self._make_due(stream)
            block = next(blocks, None)
            self.computing += time.monotonic() - start
            if block is None:
                break
            samples = audio.to_int16(block)[: longest - tape.samples]
            score = _composed(stream, tape.samples)
            with self._lock:
                if not self.busy:
                    break
                tape.append(samples)
            self._keep_state(stream)
            self.touched = time.monotonic()
            yield _pack_block(samples, pictures, tape.samples >= longest,
                               {x: _bits(stream.log_probs[x]) for x in s.new_levels},
                               [stream.codes[x] for x in s.levels], score=score,
                               form=_form(stream, tape.samples - samples.size),
                               speed=round((self.seconds - begun) / max(self.computing, 1e-6), 2))
            self.touched = time.monotonic()

    def _wait_until_allowed(self) -> bool:
        """Whether the next block may be generated, within a second."""
        deadline = time.monotonic() + 1.0
        with self._allowing:
            while self.busy and (missing := self.allowance.missing(self.tape.samples)):
                if (left := deadline - time.monotonic()) <= 0:
                    return False
                self._allowing.wait(min(missing, left))
        return True

    def play_tape(self) -> Iterator[bytes]:
        """The messages of a finished take, without codes."""
        yield from self._tape_messages(
            (Spectrum(self.tape.rate, self.column), Roll(self.tape.rate)), last=True,
            score=_rows(self.score[0].tolist(), self.tape.rate), form=self.form)

    def _tape_messages(self, pictures: tuple, last=False, **more) -> Iterator[bytes]:
        """The messages of the samples that are there. more: of the first of them."""
        tape, step = self.tape, 8192
        for begin in range(0, tape.samples, step):
            samples = audio.to_int16(tape.read(begin, begin + step))
            yield _pack_block(samples, pictures, last and begin + step >= tape.samples, **more)
            more = {}

    def steer(self, change: ChangeRequest) -> dict:
        """Make a change: {"sample": where the change begins}."""
        if change.until is not None:
            with self._allowing:
                self.allowance = Allowance(change.until, change.playing * self.tape.rate,
                                           change.heard)
                self.touched = time.monotonic()
                self._allowing.notify_all()
        keywords = self._keywords(change)
        if not keywords:
            return {}
        if keywords.get("notes") and (stream := self._stream):
            stream.measure_pitches()  # outside the lock, because the first call takes seconds
        with self._steering:
            stream = self._stream
            if stream is None:
                raise UserError("The take has ended: there is nothing to change.")
            if len(self.log.ordered()) + len(self._waiting) >= limits.MOST_CHANGES:
                raise UserError(f"A take remembers {limits.MOST_CHANGES} changes: begin another.")
            if change.bar and stream.has_score:
                stream.check(stream.queued, **keywords)
                self._waiting.append(keywords)
                return {}
            sample = stream.set(**keywords)
            self.log.live.append((sample, keywords))
        self.touched = time.monotonic()
        return {"sample": sample}

    def tell_beats(self) -> bool:
        """Tell the partners the beats that are heard now. Returns whether the take plays."""
        playing = self.busy and self.allowance.rate > 0
        if playing and self._beats:
            self._beats.send(self.allowance.heard)
        return playing

    def _follow_tempo(self, tempo: float):
        with contextlib.suppress(UserError):  # the take has just ended
            self.steer(ChangeRequest(tempo=CONTROLS["tempo"].clip(tempo)))

    def _make_due(self, stream: Stream | None):
        """Make the changes that have waited for a bar that begins now."""
        if not stream or not self._waiting:
            return
        with self._steering:
            waiting, self._waiting = self._waiting, []
            for keywords in waiting:
                of_score = bool(keywords.keys() & {*SCORE_CONTROLS, "sampling"})
                if stream.on_bar(of_score):
                    if of_score:
                        keywords["bar"] = True
                    self.log.live.append((stream.set(**keywords), keywords))
                else:
                    self._waiting.append(keywords)

    def _keywords(self, change: ChangeRequest) -> dict:
        """The keywords of `Stream.set`."""
        keywords = change.model_dump(exclude={"until", "heard", "playing", "bar", "wild", "levels",
                                              "jump"}, exclude_none=True)
        if change.wild is not None:
            keywords["sampling"] = {
                name: {"temperature": round(t * WILDEST**change.wild, 4)}
                for name, t in self.settings.temperatures.items()}
        if change.levels:
            keywords["sampling"] = change.levels
        if change.jump:
            keywords["jump"] = draw_seed(None)
        return keywords

    def end(self, heard: int | None = None, why: str = ""):
        """Stop a running take and keep its first `heard` samples (None: all), rounded up to whole
        columns. Its settings then reproduce exactly this piece. why: the error for its reader.
        """
        with self._lock:
            stream, self._stream = self._stream, None
            if self.busy:
                self.busy, self.broken = False, why
                self._cut(heard)
                if samples := self.tape.samples:
                    changes = tuple(c for c in self.log.ordered() if c[0] < samples)
                    self.settings = self.settings.model_copy(
                        update={"seconds": round(self.seconds, 5), "changes": changes})
                self._allowing.notify_all()
        if stream:
            stream.close()
            score, beats = stream.whole_score(self.tape.samples)
            self.score = np.array(score, int).reshape(-1, 4), beats
            self.form = _form(stream, 0) if score else None

    def write_notes(self, samples: int) -> Path:
        """The score as a new MIDI file; a transcription of the first samples if not all notes are
        known. Raises `UserError` if these samples are too many.
        """
        tape, (score, beats) = self.tape, self.score
        if not len(score) and samples > limits.LONGEST_FINISH * tape.rate:
            raise UserError(f"The notes of this take are not all known, and only takes of up to "
                            f"{limits.LONGEST_FINISH / 60:g} minutes can be transcribed.")
        path = tape.new_path("mid")
        notes = score.tolist() or midi_files.heard_notes(tape.read(0, samples), tape.rate)
        midi_files.write(path, notes, tape.rate, beats)
        return path

    def _cut(self, heard: int | None):
        samples = self.tape.samples
        if not samples or samples == self.header["samples"]:
            return
        least = self.header["prompt"] + 1  # a piece is longer than its prompt
        if heard is not None:
            samples = min(samples, -(-max(heard, least) // self.column) * self.column)
        self.tape.truncate(samples if samples >= least else 0)


def describe_level(config: CodecConfig, generated: bool, shades: list[list[int]]) -> dict:
    """The data of a level for the page. shades: see `pictures.shades`."""
    return {"level": config.level, "generated": generated, "num_codes": config.num_codes,
            "books": config.books, "most_bits": config.books * math.log2(config.num_codes),
            "shades": shades}


def _composed(stream: Stream, begin: int) -> list[list[float]]:
    """[start, length (seconds), note number] of each note of the score from sample `begin` on, also
    after the samples that are generated. A later message may change these notes.
    """
    return _rows(stream.notes(begin), stream.sample_rate)


def _rows(notes, rate: int) -> list[list[float]]:
    return [[round(first / rate, 3), round((last - first) / rate, 3), midi]
            for first, last, midi, _ in notes]


def _form(stream: Stream, begin: int) -> dict | None:
    """The tempo of the score in beats per minute; [second, place in the bar, number in the score]
    of each beat from sample `begin` on; and the section that is composed. None without a score.
    """
    if not len(stream.beats):
        return None
    rate, near = stream.sample_rate, stream.beats >= begin
    numbers = np.arange(len(near)) + stream.steps[0] // STEPS_PER_BEAT
    beats = zip(stream.beats[near], stream.places[near], numbers[near], strict=True)
    first, number, returns = stream.section
    return {"tempo": round(stream.tempo, 1),
            "beats": [[round(float(beat / rate), 3), int(place), int(number)]
                      for beat, place, number in beats],
            "section": {"second": round(first / rate, 3), "number": number, "returns": returns}}


def _bits(log_probs) -> float:
    """The mean bits of a frame; log_probs: nats of each code, [frames] or [frames, books]."""
    nats = np.asarray(log_probs)
    return round(float(-nats.sum() / len(nats) / math.log(2)), 2)


def _pack_block(samples: np.ndarray, pictures: tuple[Spectrum, LateRoll | Roll], last: bool,
                 bits: dict[int, float] | None = None, codes=(), **more) -> bytes:
    """The message of a block, int16 [n], see `Take.messages`."""
    spectrum, roll = pictures
    heard = audio.from_int16(samples)
    columns = spectrum.push(heard, last)
    about = {"samples": samples.size, "columns": len(columns), "codes": [c.size for c in codes],
             "bits": bits or {}, "notes": roll.push(heard, last)}
    return pack_message(about | more, samples.astype("<i2"), columns,
                        *(c.astype("<u2") for c in codes))
