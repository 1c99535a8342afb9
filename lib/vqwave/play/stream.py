"""The chain as an endless iterator of audio blocks, in constant memory.

Every level works on one grid of blocks: of 8,192 samples, say, so 16, 64, 256 and 1,024 frames at
512, 128, 32 and 8 samples per frame. A level pulls codes from the level above only as far as its
context model looks ahead; the top levels therefore run a few blocks before the sound. Context and
decoder always see the same windows of that grid, which is why neither the chunk size nor a stop and
a resume changes a bit.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .. import machine
from ..config import Labels, Sampling, override
from ..errors import UserError, check_number
from ..io import weights
from . import controls, engine, performance, pitches
from .conditions import check_chosen
from .labels import CROSS_FADE, find_labels, read_labels
from .level import LEAST_SOURCE, GivenCodes, Level
from .mastering import cross_fade
from .prompt import JOIN, Prompt, Variation, check_codes, check_prompt, list_levels
from .sampling import check_guidance, check_seed, draw_seed, sampling_per_level
from .transpose import Transposer

SMOOTH = 0.01
"""Seconds, at least, over which a block passes into the next one where the decoder knew less of
what comes when it made the first of them.
"""

_STATE_VERSION = 8
_CHOSEN, _PITCHES, _HOME = "chosen_", "pitches_", "home_"
"""What a state's keys for the values of conditions, for what codes sound, and for what draws a
continuation home, begin with.
"""


def check_block(block: int, configs) -> int:
    """Samples of a block, as an int: a multiple of the top level of these generators. Raises
    `UserError` otherwise.
    """
    top = configs[0].source_level or configs[0].level
    if check_number("block", block, 1, whole=True) % top:
        raise UserError(f"block is {block}; it must be a multiple of the top level, {top}")
    return int(block)


def decode_finite(codec, codes, start: int, first: int, count: int) -> np.ndarray:
    """One run of the decoder: of codes int32 [batch, n, books] the frames first … first + count − 1
    as sound, float32 [batch, count·level], fewer where there are fewer.

    start: which code of the piece the first of all is. Raises `UserError` where the sound is not
        finite.
    """
    audio = np.asarray(codec.decode_part(codes, start, first, count), np.float32)
    if not np.isfinite(audio).all():
        raise UserError(f"{codec.config.name} decoded to a number that is not finite: its weights "
                        f"are damaged")
    return audio


@dataclass(frozen=True)
class Engines:
    """What plays: a `CodecEngine`, and the `GeneratorEngine`s from the top of the chain down.

    music: the `VQWave` that they are of, where it is known. chosen: the values of their
    conditions. sampling: by level, of a chain that a jump goes to.
    """

    codec: Any
    generators: Sequence
    music: Any
    chosen: Mapping[str, np.ndarray]
    sampling: Mapping[int, Sampling] | None = None

    @property
    def configs(self) -> list:
        """The generators' configs."""
        return [g.config for g in self.generators]

    def after(self, change: performance.Change) -> Engines:
        """What plays once a change is made."""
        there = change.engines or self
        return (there if change.label is None else
                replace(there, chosen={**there.chosen, Labels.input: change.label}))


class BlockIterator:
    """An iterator of blocks that `codec` decodes, until `close` ends it."""

    codec: engine.CodecEngine

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.codec.config.sample_rate

    @property
    def level(self) -> int:
        """Samples per code of the level that is decoded."""
        return self.codec.config.level

    def __iter__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Stream(BlockIterator):
    """An endless iterator of float32 blocks of music; with `samples` a piece of that length.

    Args:
        codec: a `CodecEngine` at the level of the last generator.
        generators: `GeneratorEngine`s from the top of the chain down.
        seed: with it everything is decided; a whole number of at least 0. None draws one; `.seed`
            tells it.
        batch: None for one piece, blocks [block]; N for N independent pieces side by side, blocks
            [N, block]. Piece b draws from random stream b, so (in float32) it is the same piece
            whatever N is.
        samples: length of the piece; None is endless. A finite piece is the endless one cut, its
            last block shorter.
        block: samples of a block, a multiple of the top level.
        sampling: see `sampling_per_level`.
        chunk: most frames sampled in one call of a generator; changes no code, only how soon an
            interrupt is seen.
        begin: a `Prompt`, whose codes the generators hear before they go on, or a `Variation`,
            whose codes the first generator reads instead of a level above; such a piece ends where
            they end, and `samples` only cuts it.
        log_probs: note how likely each code was, see `log_probs`.
        chosen: a value for each of the generators' conditions but the level above, by its input's
            name; one for all pieces, or one for each.
        music: the `VQWave` that the engines are of, where `set` may jump to other weights, or to a
            recording's file.
        past: seconds that `set(hold=…)` and `set(freeze=…)` can repeat, at most; they are kept,
            here and in the state.
        ahead: seconds of codes behind a block that its decoder waits for; it then takes the last of
            them to go on, and a block passes into the next one. What is `set` of codes is heard the
            sooner. None: all that the decoder can see, so that the sound is that of the whole
            piece's codes.

    Attributes:
        codes: {level: int32 [n]} of the block handed out last, for every level from the top (or the
            level kept) down, [batch, n] with a batch, and [..., n, books] with several books. n =
            ceil(len(block) / level).
        log_probs: {level: float32 of the same shape} of the levels that have a generator: the
            natural log of the probability that the code had where it was drawn, or given by the
            prompt. None unless asked for.
        performed: None, or a list to which `set` adds (the sample that it returns, its keywords),
            in the order in which the changes are made, whoever asks for them.

    Iterating raises what went wrong in any thread; the stream is closed then. Blocks come from
    whichever thread calls `next`, one at a time. While the bottom level samples a block in that
    thread, workers run the levels above for the next block and decode the one before; what they
    have not begun by then is done in that thread too.

    Example:
        with Stream(codec, generators, seed=1) as stream:
            for block in stream:
                speaker.write(block)
    """

    def __init__(self, codec, generators: Sequence, *, block: int, seed: int | None = None,
                 batch: int | None = None,
                 samples: int | None = None, sampling=None, chunk: int | None = None,
                 begin: Prompt | Variation | None = None,
                 log_probs: bool = False, past: float = 0.0, chosen: Mapping | None = None,
                 music=None, ahead: float | None = None):
        if begin is not None and not isinstance(begin, Prompt | Variation):
            raise UserError(f"begin is {begin!r}; it must be what prompt or source made of a "
                            f"recording")
        varied = begin if isinstance(begin, Variation) else None
        engine.check_chain(codec, generators, varied.level if varied else 0)
        for key, value, least in (("batch", batch, 1), ("samples", samples, 0),
                                  ("chunk", chunk, 1)):
            if value is not None:
                check_number(key, value, least, whole=True)
        configs = [g.config for g in generators]
        self.codec, self.batch, self.block = codec, batch, check_block(block, configs)
        seed = draw_seed(seed)
        self.samples = None if samples is None else int(samples)
        self.sampling = check_guidance(configs, sampling_per_level(configs, sampling))
        self.chosen = check_chosen(configs, chosen, batch or 1)
        self._kept = None
        if varied:
            source = configs[0].source
            codes = check_codes(f"the codes of level "
                                f"{varied.level}", varied.codes, source.num_codes, source.books)
            self._kept = GivenCodes(varied.level, self.block, codes, batch or 1)
            length = self._kept.end * varied.level
            self.samples = length if samples is None else self.samples
            if self.samples > length:
                raise UserError(f"{self.samples} samples are asked for, but the piece that is "
                                f"varied has {length}")
        self._generators, self._chunk = generators, chunk
        self.codes: dict[int, np.ndarray] = {}
        self.log_probs: dict[int, np.ndarray] | None = {} if log_probs else None
        self.look_ahead = None if ahead is None else check_number("ahead", ahead, 0)
        self._look()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._open = True
        self._failed = False
        self._mutate = 0.0
        self._notes: tuple[int, ...] = ()
        self._pull = controls.CONTROLS["pull"].default
        self._stay = controls.CONTROLS["stay"].default
        self._pitches: dict[int, np.ndarray] = {}
        self._start(seed, begin if isinstance(begin, Prompt) else None)
        # What `set` changes. Blocks handed out, and those that the chain made, differ once there
        # was a hold or a jump.
        self._handed = 0
        self._queue = performance.Queue(self.block)
        self.performed: list[tuple[int, dict]] | None = None
        # What will play once all is done that was asked for.
        self._coming = Engines(codec, generators, music, self.chosen)
        self._asking = threading.Lock()
        self._loudness = performance.Gain(self.sample_rate)
        self._transposer = Transposer(self.sample_rate, batch or 1)
        kept = check_number("past", past, 0, controls.MOST_PAST) * self.sample_rate
        self._past: deque[performance.Block] = deque(maxlen=round(kept / self.block))
        self._held = self._at = 0  # blocks that are repeated, and the one of them that comes next
        self._ahead: performance.Block | None = None  # what the chain goes on with after a hold
        # what passes into the next block, over so many samples
        self._outgoing: tuple[np.ndarray, int] | None = None

    def _look(self):
        """How many codes the decoder is given on either side of a block: `_halo` before it and
        `_beyond` behind it, the last of which stands for `_assumed` more. `_smooth` more than the
        block are decoded.
        """
        self._halo = self._beyond = self.codec.decode_halo
        self._assumed = self._smooth = 0
        if self.look_ahead is None:
            return
        rate, level = self.sample_rate, self.level
        smooth = -(-round(SMOOTH * rate) // level)
        beyond = max(smooth, round(self.look_ahead * rate / level))
        if beyond < self._halo:
            self._beyond, self._smooth = beyond, smooth
            self._assumed = min(beyond, self._halo - beyond)

    def _start(self, seed: int, prompt: Prompt | None, skip: bool = False):
        """Begin the chain anew, after `skip` where a prompt of whole blocks ends."""
        configs = [g.config for g in self._generators]
        self.seed = seed
        codes, self._original, self.prompt_samples = {}, None, 0
        if prompt is not None:
            self._stay = self._stay if prompt.stay is None else prompt.stay
            codes = check_prompt(prompt.codes, configs)
            self.prompt_samples = len(codes[configs[0].level]) * configs[0].level
            if prompt.keep_original and not skip:
                if np.shape(prompt.audio) != (self.prompt_samples,):
                    raise ValueError(f"the prompt's audio is {list(np.shape(prompt.audio))}; its "
                                     f"codes last {self.prompt_samples} samples")
                self._original = np.asarray(prompt.audio, np.float32)
        self._levels: list[Level] = []
        above: GivenCodes | Level | None = self._kept
        for generator in self._generators:
            level = generator.config.level
            above = Level(generator, above, seed, self.batch or 1, self.block,
                          self.sampling[level], self._chunk,
                          codes.get(level), self.log_probs is not None, self.chosen,
                          self._least_source(above))
            above.mutate = self._mutate
            if prompt is not None and (powers := prompt.pitches.get(level)) is not None:
                above.home = pitches.Home.of(powers, codes[level], self._half(level))
            self._levels.append(above)
        self._chain: list = [self._kept, *self._levels] if self._kept else self._levels
        self._bottom = self._levels[-1]
        self._lean()
        self._done = self.prompt_samples // self.block if skip else 0
        self._fresh = True
        # What the decoder made of the next block's begin when it knew less, [batch, n].
        self._tail: np.ndarray | None = None

    def _half(self, level: int) -> float:
        return pitches.FADES * self.sample_rate / level

    def _least_source(self, above: GivenCodes | Level | None) -> int:
        if self.look_ahead is None or above is None:
            return LEAST_SOURCE
        return min(LEAST_SOURCE, max(1, round(self.look_ahead * self.sample_rate / above.level)))

    @property
    def stay(self) -> float:
        """How strongly a continuation keeps to its recording's pitches, see `set`."""
        return self._stay

    @property
    def coming(self) -> Mapping[int, Sampling]:
        """How each level draws that will play once all is done that was asked for."""
        return self._coming.sampling or self.sampling

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that `set(label=…)` knows."""
        return _vocabulary(self._coming.configs) or ()

    @property
    def label(self) -> str:
        """The label that will play once all is done that was asked for; "" where there is none, and
        where several are mixed or pieces differ.
        """
        shares = self._coming.chosen.get(Labels.input)
        if shares is None or not (shares == shares[0]).all() or shares[0].max() < 1:
            return ""
        return ("" if (number := int(shares[0].argmax())) == len(self.labels)
                else self.labels[number])

    @property
    def engines(self) -> Engines:
        """What will play once all is done that was asked for."""
        return self._coming

    @property
    def position(self) -> int:
        """Samples handed out so far (per piece)."""
        made = self._handed * self.block
        return made if self.samples is None else min(made, self.samples)

    def set(self, **asked) -> int:
        """Change what plays, from the next block on that is not begun. Any thread may call this.

        `controls.CONTROLS` has the range of every number, and says of which the change is heard
        from the sample that is returned on. The others change codes: each level follows from its
        own next block, and they run ahead of the sound by some.

        Args:
            sampling: a `Sampling` for all levels, or a mapping from level to one, or to what
                differs from what the level has now: `{512: {"temperature": 1.2}}`.
            loudness: dB, 0 as the music is made.
            transpose: semitones by which what is heard is higher, at the same tempo; it then comes
                later by up to 0.2 s.
            hold: repeat so many of the last seconds, in whole blocks, until `hold=0`. At most the
                stream's `past`. The chain then goes on where it stood.
            freeze: repeat the codes of so many of the last seconds of the top level, or
                `{level: seconds}`, until 0; at most `past`. The generator hears what is repeated,
                and finer levels are played anew to it. Where the last level is frozen, as the only
                one of a chain of one is, there is no finer one, and what is heard repeats.
            mutate: of what is frozen, the share that each round draws anew, and keeps.
            notes: MIDI numbers of notes that are held: codes that sound them, in any octave, become
                likelier; [] releases them. What each code sounds is measured here, which the first
                time takes some seconds. It takes a codec that plays by oscillators.
            pull: by how many nats.
            stay: how strongly a continuation keeps to the pitches of its recording, half as
                strongly every minute; 0 lets it go where it will.
            label: what the music is to be like, over a second: a label that the weights know; a
                mixture, "calm:0.7,battle:0.3" or {"calm": 0.7, "battle": 0.3}; "" for any. A list
                has one for each piece.
            jump: a seed: the music passes to the piece that begins with it. Nothing is frozen
                there.
            begin: with `jump`, what that piece goes on from, which is not heard itself: a `Prompt`;
                or a recording as a performance names it, `{"file": …, "start": s, "seconds": s}`.
            weights: with `jump`, the folder of the generators that play that piece, with the codecs
                in it where it has some. They are loaded here, before the change is asked for. What
                was played before can no longer be held then, and notes that are held are released.

        Returns:
            The sample (of the stream) that the change holds from. The same changes at the same
            samples are the same music, see `performance.replay`; they are part of the state.

        Raises:
            UserError: what cannot be; nothing is changed then.
        """
        loaded = self._load(asked, self._coming)
        with self._asking:
            change = self.check(**loaded)
            sample = self._queue.put(change)
            self._coming = self._coming.after(change)
            if self.performed is not None:
                self.performed.append((sample, asked))
        return sample

    def check(self, engines: Engines | None = None, **asked) -> performance.Change:
        """The change that `set` makes of the same keywords, which is not made yet.

        engines: what plays by then; None: what does once all that was asked for is done. Raises
        `UserError` where it cannot be.
        """
        for name in asked:
            if name not in controls.NAMES:
                raise UserError(f"no control is called {name!r}; there are "
                                f"{', '.join(controls.NAMES)}")
        engines = engines or self.engines
        asked = self._load({name: value for name, value in asked.items() if value is not None},
                           engines)
        if "jump" in asked:
            asked["jump"] = check_seed("jump", asked["jump"])
            if self._kept:
                raise UserError("a variation follows its recording: there is nowhere to jump to")
        elif "weights" in asked:
            raise UserError("weights are what a jump goes on with: say jump, a seed, too")
        configs = engines.configs
        if "weights" in asked:
            asked["engines"] = self._check_engines(asked.pop("weights"),
                                                   asked.pop("sampling", None), engines)
            configs = asked["engines"].configs
        if "sampling" in asked:
            check_guidance(configs, sampling_per_level(configs, asked["sampling"]))
        if "label" in asked:
            asked["label"] = read_labels(asked["label"], find_labels(configs), self.batch or 1)
        if "freeze" in asked:
            asked["freeze"] = self._check_freeze(asked["freeze"], configs)
        for name in asked.keys() & controls.CONTROLS.keys() - {"freeze"}:
            control = controls.CONTROLS[name]
            most = self._check_past(name) if name == "hold" and asked[name] else control.most
            asked[name] = check_number(name, asked[name], control.least, most)
        if "notes" in asked:
            music = asked["engines"].music if "engines" in asked else engines.music
            asked["notes"], asked["pitches"] = self._check_notes(asked["notes"], configs, music)
        if "begin" in asked:
            if "jump" not in asked or not isinstance(asked["begin"], Prompt):
                raise UserError("begin must be what prompt made of a recording, and goes with "
                                "jump, a seed")
            asked["begin"] = self._cut_prompt(asked["begin"], configs)
        return performance.Change(**asked)

    def _load(self, asked: dict, engines: Engines) -> dict:
        """What was asked for, with what it names on the disk loaded, which takes its time."""
        music, configs = engines.music, engines.configs
        weights, begin = asked.get("weights"), asked.get("begin")
        named = isinstance(weights, str | os.PathLike)
        if music is None and (named or isinstance(begin, Mapping)):
            raise UserError("this stream knows no other weights or recordings: it was made without "
                            "music")
        if weights is not None:
            if not named and not hasattr(weights, "chain_engines"):
                raise UserError(f"weights is {weights!r}; it must be a folder of generators")
            music = music.open(weights) if named else weights
            asked = asked | {"weights": music}
            configs = [g.config for g in music.chain_engines()[1]]
        if asked.get("notes") and music is not None:
            for config in configs:
                music.pitches(config.level)
        if isinstance(begin, Mapping):
            if (not isinstance(begin.get("file"), str | os.PathLike)
                    or not set(begin) <= {"file", "start", "seconds"}):
                raise UserError("begin must be {file, start, seconds} of a recording")
            part = {name: value for name, value in begin.items() if name != "file"}
            asked = asked | {"begin": music.prompt(begin["file"], level=configs[-1].level, **part)}
        return asked

    def hear_codes(self):
        """Measure what codes sound, which `set(notes=…)` else does where notes are first held."""
        self._load({"notes": True}, self._coming)

    def _check_engines(self, music, sampling, before: Engines) -> Engines:
        """What another `VQWave` plays, where it can take over from what plays before."""
        codec, generators = music.chain_engines()
        configs, rate = [g.config for g in generators], codec.config.sample_rate
        if rate != self.sample_rate:
            raise UserError(f"the other weights are of {rate} Hz, but this plays at "
                            f"{self.sample_rate} Hz")
        check_block(self.block, configs)
        wanted = {c.input for config in configs for c in config.conditions}
        given = {name: value for name, value in before.chosen.items() if name in wanted}
        if _vocabulary(configs) != _vocabulary(before.configs):
            given.pop(Labels.input, None)
        sampling = check_guidance(configs, sampling_per_level(configs, sampling))
        chosen = check_chosen(configs, given, self.batch or 1, music.default_choice)
        return Engines(codec, generators, music, chosen, sampling)

    def _check_past(self, name: str) -> float:
        """The seconds that there are to repeat, at most."""
        if not self._past.maxlen:
            raise UserError(f"this stream keeps nothing to {name}: make it with past, in seconds")
        return self._kept_seconds

    @property
    def _kept_seconds(self) -> float:
        """`past`, in whole blocks; they may be a little longer than the most that it can be."""
        return min(self._past.maxlen * self.block / self.sample_rate, controls.MOST_PAST)

    def _check_notes(self, notes, configs, music) -> tuple[tuple[int, ...], dict]:
        """The notes, and what codes sound of those levels of which that can be said."""
        if not isinstance(notes, Sequence) or isinstance(notes, str):
            raise UserError(f"notes is {notes!r}; it must be a list of MIDI numbers")
        notes = tuple(check_number("a note", note, 0, 127, whole=True) for note in notes)
        if len(notes) > controls.MOST_NOTES:
            raise UserError(f"{len(notes)} notes are held; {controls.MOST_NOTES} can be")
        if not notes:
            return notes, {}
        if music is None:
            raise UserError("this stream does not know what its codes sound: it was made without "
                            "music")
        found = {config.level: music.pitches(config.level) for config in configs}
        found = {level: powers for level, powers in found.items() if powers is not None}
        if not found:
            raise UserError("these weights cannot follow notes: none of their codecs plays by "
                            "oscillators")
        return notes, found

    def _check_freeze(self, asked, configs) -> dict[int, float]:
        levels = [config.level for config in configs]
        asked = asked if isinstance(asked, Mapping) else {levels[0]: asked}
        for level in asked:
            if level not in levels:
                raise UserError(f"freeze names level {level}; there are "
                                f"{', '.join(map(str, levels))}")
        return {level: check_number("freeze", seconds, 0,
                                    self._check_past("freeze") if seconds else None)
                for level, seconds in asked.items()}

    def _cut_prompt(self, begin: Prompt, configs) -> Prompt:
        """What a jump goes on from: the prompt's last whole blocks."""
        bottom = configs[-1].level
        given = check_prompt({x: codes for x, codes in begin.codes.items() if x >= bottom}, configs)
        blocks = len(given[bottom]) * bottom // self.block
        if not blocks:
            raise UserError(f"what a jump goes on from must last a block, "
                            f"{self.block / self.sample_rate:.2f} s")
        count = blocks * self.block
        return Prompt({level: x[-(count // level):] for level, x in given.items()},
                      begin.audio[-count:], pitches=begin.pitches, stay=begin.stay)

    @property
    def bits(self) -> dict[int | str, float | np.ndarray]:
        """Bits per code so far, since the last jump, by level, and under "all" those of all levels'
        codes together; [batch] with a batch.

        Of codes that were drawn, under the distribution they were drawn from; a prompt's do not
        count, a frozen level's do. It takes `log_probs`. NaN before the first.
        """
        if self.log_probs is None:
            raise ValueError("bits are counted where the stream was made with log_probs=True")
        levels = {level.config.level: (level.nats, level.drawn) for level in self._levels}
        levels["all"] = tuple(map(sum, zip(*levels.values(), strict=True)))
        bits = {name: nats / np.log(2) / drawn if drawn else np.full_like(nats, np.nan)
                for name, (nats, drawn) in levels.items()}
        return bits if self.batch else {name: float(x[0]) for name, x in bits.items()}

    def __next__(self) -> np.ndarray:
        with self._lock:
            if not self._open or self.position == self.samples:
                self._shut()
                raise StopIteration
            left = (self.block if self.samples is None
                    else min(self.block, self.samples - self.position))
            try:
                self._change(self._queue.take(self._handed + 1))
                made = self._play(left).cut(left, 1 if self.batch else 0)
            except BaseException:
                # A level may stand in the middle of a block: nothing can go on from here.
                self._failed = True
                self._shut()
                raise
            self.codes, self.log_probs = made.codes, made.log_probs
            self._handed += 1
            audio = self._loudness.apply(self._transposer.apply(made.audio))
            return audio if self.batch else audio[0]

    def _change(self, changes: list[performance.Change]):
        """Do what was asked for, between two blocks."""
        for change in changes:
            if change.sampling is not None:
                self._resample(change.sampling)
            if change.loudness is not None:
                self._loudness.decibel = change.loudness
            if change.transpose is not None:
                self._transposer.semitones = change.transpose
            if change.mutate is not None:
                self._mutate = change.mutate
                for level in self._levels:
                    level.mutate = change.mutate
            if change.jump is not None:
                if self._handed:
                    self._leave(round(performance.PASSAGE * self.sample_rate), jumping=True)
                self._held, self._ahead = 0, None
                if change.engines is not None:
                    self._replace(change.engines)
            if change.label is not None:
                self.chosen = self.chosen | {Labels.input: change.label}
            if change.jump is None and change.label is not None:
                for level in self._levels:
                    level.relabel(change.label, CROSS_FADE, self.sample_rate)
            if change.jump is not None:
                self._start(change.jump, change.begin, skip=True)
            if change.notes is not None:
                self._notes = change.notes
                self._pitches |= change.pitches
            if change.pull is not None:
                self._pull = change.pull
            if change.stay is not None:
                self._stay = change.stay
            if any(one is not None for one in (change.notes, change.pull, change.stay)):
                self._lean()
            for level in self._levels:
                if change.freeze and level.level in change.freeze:
                    seconds = change.freeze[level.level]
                    level.freeze(0 if not seconds else
                                 max(1, round(seconds * self.sample_rate / level.level)))
            if change.hold is not None:
                blocks = (max(1, round(change.hold * self.sample_rate / self.block)) if change.hold
                          else 0)
                if self._held:
                    self._leave(round(performance.SEAM * self.sample_rate))
                elif blocks and self._ahead is None:
                    self._ahead = self._make(self.block)
                self._held, self._at = min(blocks, len(self._past)), 0

    def _replace(self, engines: Engines):
        """Go on with other weights."""
        self.codec, self._generators = engines.codec, engines.generators
        self._look()
        self.sampling, self.chosen = engines.sampling, engines.chosen
        self._past.clear()  # the codes of other levels
        self._notes, self._pitches = (), {}

    def _lean(self):
        """Levels lean towards the notes that are held, and a recording's that they go on from."""
        for level in self._levels:
            level.stay = self._stay
            powers = self._pitches.get(level.level)
            level.bias = (None if powers is None
                          else pitches.bias(powers, self._notes, self._pull))

    def _leave(self, over: int, jumping: bool = False):
        """What would come next passes into the next block, over so many samples."""
        if self._outgoing is not None:
            return
        if self._held and self._at:
            self._outgoing = self._past[self._at - self._held].audio, over
        elif jumping:
            self._outgoing = (self._ahead or self._make(self.block)).audio, over

    def _play(self, samples: int) -> performance.Block:
        """The block that comes next, of which so many samples are handed out."""
        held = bool(self._held)
        if held:
            made, first = self._past[self._at - self._held], self._at == 0
            if first and self._outgoing is None:
                made = made.join(self._ahead.audio, round(performance.SEAM * self.sample_rate))
            self._at = (self._at + 1) % self._held
        elif self._ahead is not None:
            made, self._ahead = self._ahead, None
        else:
            made = self._make(samples)
        if self._outgoing is not None:
            made, self._outgoing = made.join(*self._outgoing), None
        if not held and samples == self.block:  # nothing comes after a shorter one
            self._past.append(made)
        return made

    def _make(self, samples: int) -> performance.Block:
        """The chain's next block; codes are noted for so many samples of it."""
        audio = self._join_tail(self._advance())
        if self._original is not None:
            self._join(audio)
        # Where a variation ends, no more is decoded.
        audio = np.pad(audio, ((0, 0), (0, self.block - audio.shape[1])))
        codes, log_probs = self._note(samples)
        self._done += 1
        self._trim()
        return performance.Block(audio, codes, log_probs)

    def _resample(self, chosen):
        for level in self._levels:
            name = level.config.level
            one = chosen if isinstance(chosen, Sampling) else chosen.get(name)
            if one is not None:
                level.resample(one if isinstance(one, Sampling)
                               else override(level.sampling, one, "sampling"))
                self.sampling = self.sampling | {name: level.sampling}

    def close(self):
        """End the stream and its threads: `next` raises StopIteration from here on. `state` still
        works.
        """
        with self._lock:
            self._shut()

    def state(self) -> dict:
        """Where the stream stands between two blocks: numpy arrays, numbers and text, as `np.savez`
        stores them.

        Raises:
            RuntimeError: there was an error in the stream, which leaves nothing to go on from.
        """
        with self._lock:
            if self._failed:
                raise RuntimeError("the stream failed; it has no state to go on from")
            if self._open:
                self._change(self._queue.take(self._handed))
            state = {
                "version": _STATE_VERSION, "seed": self.seed, "batch": self.batch or 0,
                "blocks": self._done,
                "fresh": self._fresh, "handed": self._handed,
                "loudness": np.array(self._loudness.state()), "mutate": self._mutate,
                "notes": np.array(self._notes, np.int32), "pull": self._pull,
                "stay": self._stay, "past": self._kept_seconds,
                "held": self._held, "at": self._at,
                "block": self.block, "codec": self.codec.config.name,
                "generators": np.array([level.config.name for level in self._levels]),
                "samples": -1 if self.samples is None else self.samples,
                "levels": np.array([level.config.level for level in self._levels]),
                "prompt_samples": self.prompt_samples, "log_probs": self.log_probs is not None,
            }
            if self.look_ahead is not None:
                state["look_ahead"] = self.look_ahead
            if self._tail is not None:
                state["tail"] = self._tail
            state |= {f"{_PITCHES}{x}": powers for x, powers in self._pitches.items()}
            state |= {f"{_HOME}{level.level}": level.home.scores for level in self._levels
                      if level.home}
            state |= {f"{_CHOSEN}{name}": value for name, value in self.chosen.items()}
            if self._kept:
                state |= ({"kept_level": self._kept.level, "kept_end": self._kept.end}
                          | self._kept.state())
            if self._original is not None:
                past = self._done * self.block >= self.prompt_samples
                state["original"] = self._original[:0] if past else self._original
            state |= self._past_state() | self._transposer.state() | _origin(self.codec)
            for level in self._levels:
                settings = {f"{level.config.name}_{key}": value for key, value in level.sampling}
                state |= _origin(level.generator) | settings | level.state()
            return state

    def _past_state(self) -> dict:
        """What a hold repeats, and what comes after it."""
        state: dict = {"ahead": self._ahead is not None}
        if self._outgoing is not None:
            state |= {"outgoing": self._outgoing[0], "outgoing_over": self._outgoing[1]}
        made = [*self._past, *([self._ahead] if self._ahead else [])]
        if made:
            state["past_audio"] = np.stack([block.audio for block in made])
            for level in made[0].codes:
                state[f"past_codes_{level}"] = np.stack([one.codes[level] for one in made])
            for level in made[0].log_probs or ():
                state[f"past_log_probs_{level}"] = np.stack([one.log_probs[level] for one in made])
        return state

    def _restore_past(self, state):
        if "outgoing" in state:
            self._outgoing = np.array(state["outgoing"], np.float32), int(state["outgoing_over"])
        made = []
        if "past_audio" in state:
            levels = [level.level for level in self._chain]
            scored = [level.level for level in self._levels]
            codes = {x: np.array(state[f"past_codes_{x}"], np.int32) for x in levels}
            likely = None
            if self.log_probs is not None:
                likely = {x: np.array(state[f"past_log_probs_{x}"], np.float32) for x in scored}
            made = [performance.Block(audio, {x: codes[x][i] for x in levels},
                                  likely and {x: likely[x][i] for x in scored})
                    for i, audio in enumerate(np.array(state["past_audio"], np.float32))]
        if bool(state["ahead"]):
            self._ahead = made.pop()
        self._past.extend(made)

    @classmethod
    def resume(cls, state: Mapping, codec=None, generators: Sequence | None = None, *,
               chunk: int | None = None, music=None) -> Stream:
        """The stream that goes on where `state` was taken (a dict, or what `np.load` gives for it),
        bit for bit.

        Without `codec` and `generators` they are loaded from where they were when the state was
        taken. music: the `VQWave` that they are of, for `set`. Raises `UserError` where they are
        not those that made it, or the state is damaged.
        """
        try:
            if int(state["version"]) != _STATE_VERSION:
                raise UserError(f"the saved state has version {state['version']}; this program "
                                f"reads {_STATE_VERSION}")
            levels = [int(x) for x in state["levels"]]
            if codec is None:
                codec = _reload(state, str(state["codec"]), engine.load_codec)
            if generators is None:
                generators = [_reload(state, str(name), engine.load_generator)
                              for name in state["generators"]]
            if levels != [g.config.level for g in generators]:
                raise UserError(
                    f"the saved state is of {list_levels(levels)}, "
                    f"not of {list_levels([g.config.level for g in generators])}"
                )
            for part in (codec, *generators):
                key = f"{part.config.name}_made_by"
                if str(state[key]) != _origin(part)[key]:
                    raise UserError(
                        f"the saved state was made with other weights, or another engine, of "
                        f"{part.config.name}"
                    )
            sampling = {
                g.config.level: {key: _scalar(state[f"{g.config.name}_{key}"])
                                 for key in Sampling.model_fields}
                for g in generators
            }
            samples, begin = int(state["samples"]), None
            if "kept_end" in state:
                # What a variation keeps is put in its place below; here its length counts.
                source = generators[0].config.source
                begin = Variation(source.level,
                                  np.zeros((int(state["kept_end"]), source.books), np.int32), 0)
            stream = cls(codec, generators, block=int(state["block"]), seed=int(state["seed"]),
                         batch=int(state["batch"]) or None,
                         samples=None if samples < 0 else samples, chunk=chunk,
                         begin=begin, log_probs=bool(state["log_probs"]), sampling=sampling,
                         past=float(state["past"]), music=music,
                         ahead=float(state["look_ahead"]) if "look_ahead" in state else None,
                         chosen={k.removeprefix(_CHOSEN): state[k] for k in state
                                 if k.startswith(_CHOSEN)})
            for level in stream._chain:
                level.restore(state)
            stream.prompt_samples = int(state["prompt_samples"])
            stream._original = (np.array(state["original"], np.float32) if "original" in state
                                else None)
            if "tail" in state:
                stream._tail = np.array(state["tail"], np.float32)
            stream._done, stream._handed = int(state["blocks"]), int(state["handed"])
            # How far the levels run ahead decides where a change of their sampling holds.
            stream._fresh = bool(state["fresh"])
            stream._queue.begun = stream._handed
            stream._held, stream._at = int(state["held"]), int(state["at"])
            stream._loudness.restore(state["loudness"])
            stream._transposer.restore(state)
            stream._mutate = float(state["mutate"])
            stream._notes = tuple(int(note) for note in state["notes"])
            stream._pull, stream._stay = float(state["pull"]), float(state["stay"])
            for level in stream._levels:
                if (scores := state.get(f"{_HOME}{level.level}")) is not None:
                    level.home = pitches.Home(np.array(scores, np.float32),
                                              stream.prompt_samples // level.level,
                                              stream._half(level.level))
            stream._pitches = {int(key.removeprefix(_PITCHES)): np.array(state[key], np.float32)
                               for key in state if key.startswith(_PITCHES)}
            stream._lean()
            stream._restore_past(state)
        except UserError:
            raise
        except (KeyError, ValueError, TypeError) as e:
            raise UserError(f"the saved state is damaged: {e}") from e
        return stream

    def _advance(self) -> np.ndarray:
        """Decode the next block: float32 [batch, block]."""
        needed = (self._done + 1) * self._bottom.per_block + self._beyond
        if self._bottom.end is not None:
            needed = min(needed, self._bottom.end)
        while self._bottom.stop < needed:
            self._sample()
        if self._fresh:
            # The first block is wanted now; from the second on, sampling runs one block ahead so
            # that both cores work.
            self._fresh = False
            return _gather(self._decode())
        return self._sample(decode=True)

    def _sample(self, decode: bool = False) -> np.ndarray | None:
        """Sample the bottom level's next block while workers prepare the context of the one after
        it and decode the block that is handed out next.

        Returns:
            That block, float32 [batch, block], where `decode` asks for it.
        """
        bottom, block = self._bottom, self._bottom.blocks
        wanted, context, ahead, decoded = self._is_needed(block), None, None, []
        if wanted:
            context = bottom.context(block)
            # One long job, so it begins first; the decoder's are short and fill what is left.
            if bottom.source and self._is_needed(block + 1):
                ahead = self._submit(bottom.context, block + 1)
        if decode:
            decoded = self._decode()
        if wanted:
            bottom.sample(context)
        audio = _gather(decoded) if decode else None
        if ahead:
            ahead.result()
        return audio

    def _submit(self, function, *given) -> _Task:
        if self._pool is None:
            # On two cores a third thread would only take turns with the sampling one.
            self._pool = ThreadPoolExecutor(1 if machine.cores() <= 2 else 2,
                                            thread_name_prefix="vqwave-stream")
        return _Task(self._pool, function, *given)

    def _is_needed(self, block: int) -> bool:
        """Whether a block of the bottom level is still heard, or seen by the decoder of one that
        is.
        """
        if self.samples is None:
            return True
        left = -(-self.samples // self.block) - self._handed
        last = (self._done + left) * self._bottom.per_block + self._beyond
        if self._bottom.end is not None:
            last = min(last, self._bottom.end)
        return block * self._bottom.per_block < last

    def _decoder_window(self) -> tuple[np.ndarray, int]:
        """The codes that the next block is decoded from, and how many of them lie before it."""
        begin = self._done * self._bottom.per_block
        first, last = max(0, begin - self._halo), begin + self._bottom.per_block + self._beyond
        if self._bottom.end is not None:
            last = min(last, self._bottom.end)
        codes = self._bottom.window(first, last, pad=0)
        if self._assumed and last != self._bottom.end:
            codes = np.concatenate([codes, *[codes[:, -1:]] * self._assumed], axis=1)
        return codes, begin - first

    def _decode(self) -> list[_Task]:
        """Begin to decode the next block, and a little of the one after it: jobs of a few of its
        rows each, float32 [rows, block + a little].
        """
        codes, before = self._decoder_window()
        start, count = self._done * self._bottom.per_block - before, self._bottom.per_block
        rows = self.codec.rows or len(codes)

        def decode(part):
            return decode_finite(self.codec, part, start, before, count + self._smooth)

        return [self._submit(decode, codes[i : i + rows]) for i in range(0, len(codes), rows)]

    def _join_tail(self, audio: np.ndarray) -> np.ndarray:
        """What was decoded, into which what the decoder had expected passes over: [batch, block].
        """
        audio, after = audio[:, : self.block].copy(), audio[:, self.block :]
        if self._tail is not None:
            for row, expected in zip(audio, self._tail, strict=True):
                count = min(len(expected), len(row))
                row[:count] = cross_fade(expected[:count], row[:count])
        self._tail = after if after.size else None
        return audio

    def _join(self, audio: np.ndarray):
        """Lay the recording over the block that comes next, [batch, block]; at its end it passes
        into the codes'.
        """
        begin, end = self._done * self.block, self.prompt_samples
        # Within a block, so that blocks are made one by one.
        fade = max(end - round(JOIN * self.sample_rate), (end - 1) // self.block * self.block)
        heard = self._original[begin : begin + self.block]
        clear = min(max(fade - begin, 0), len(heard))
        audio[:, :clear] = heard[:clear]
        if clear < len(heard):
            for row in audio:
                row[clear : len(heard)] = cross_fade(heard[clear:], row[clear : len(heard)])

    def _note(self, samples: int) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray] | None]:
        """The codes of the block that was decoded last, and how likely they were; what `bits`
        counts.
        """
        noted: dict[int, np.ndarray] = {}
        likely: dict[int, np.ndarray] | None = None if self.log_probs is None else {}
        for level in self._chain:
            rate = level.level
            begin = self._done * level.per_block
            codes = level.window(begin, begin - (-samples // rate), pad=0)
            noted[rate] = self._squeeze(codes)
            if level.log_probs is not None:
                chosen = level.log_probs_between(begin, begin + codes.shape[1])
                likely[rate] = self._squeeze(chosen)
                drawn = chosen[:, max(0, self.prompt_samples // rate - begin) :]
                level.drawn += drawn.shape[1] * drawn.shape[2]
                level.nats -= drawn.sum((1, 2), dtype=np.float64)
        return noted, likely

    def _squeeze(self, values: np.ndarray) -> np.ndarray:
        """[batch, n, books] without the axes of which there is only one."""
        values = values[..., 0] if values.shape[-1] == 1 else values
        return values if self.batch else values[0]

    def _trim(self):
        """Forget the codes that neither the decoder, nor the context of a block to come, nor
        `codes` will look at, and that are further back than what can be frozen.
        """
        for level, below in zip(self._chain, [*self._chain[1:], None], strict=True):
            keep = self._done * level.per_block
            if below is None:
                keep -= self._halo
            else:
                group = below.blocks // below.group * below.group * below.per_block
                keep = min(keep, below.span(group, group)[0])
            past = self._past.maxlen * level.per_block if level is not self._kept else 0
            level.trim(max(0, min(keep, level.stop - past)))

    def _shut(self):
        self._open = False
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _vocabulary(configs) -> tuple[str, ...] | None:
    """The labels that a chain knows; None where it knows none."""
    return next((c.labels.names for c in configs if c.labels), None)


class _Task:
    """A call that a pool makes, or that `result` makes where no thread of the pool has begun it."""

    def __init__(self, pool: ThreadPoolExecutor, function: Callable, *given):
        self._call = partial(function, *given)
        self._future = pool.submit(self._call)

    def result(self):
        return self._call() if self._future.cancel() else self._future.result()


def _gather(jobs: list[_Task]) -> np.ndarray:
    """The rows that all jobs made. The last are waited for first: the pool begins with the first.
    """
    return np.concatenate([job.result() for job in reversed(jobs)][::-1])


def _scalar(array):
    """A number or text that `np.savez` has made an array of."""
    return np.asarray(array).item()


def _origin(part) -> dict[str, str]:
    """What a state says of an engine: what identifies its numbers, and where to load it from."""
    found, name = part.weight_set, part.config.name
    return {
        f"{name}_made_by": f"{found.checksum} {part.engine}", f"{name}_engine": part.engine,
        f"{name}_folder": str(found.folder.absolute()), f"{name}_tag": found.tag,
    }


def _reload(state, name: str, load):
    """The engine that a state names."""
    found = weights.find(str(state[f"{name}_folder"]), name, str(state[f"{name}_tag"]) or None)
    return load(found, str(state[f"{name}_engine"]))
