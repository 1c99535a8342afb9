"""A stream: an endless iterator of blocks of music, in constant memory, steered while it plays."""

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from ..config import Sampling
from ..config.roll import STEPS_PER_BEAT
from ..data.scores import Score
from ..errors import UserError, check_number
from . import controls, engine
from .blocks import PASSAGE, SEAM, Block, Leveler, Transport
from .chain import Chain, ChainState, Engines, Options, start_chain
from .changes import (
    Change,
    check_block,
    check_change,
    engines_after,
    load_named,
    read_chords,
    read_key,
)
from .decoder import Workers
from .edits import Edits
from .labels import choose_labels, known_labels, name_of
from .level import Steering
from .prompt import Prompt, Variation
from .sampling import choose_sampling, draw_seed, levels_by_field
from .score import BEATS_PER_BAR, KEPT
from .snapshot import Snapshot
from .transpose import Transposer

AS_COMPOSED = {"intro": True, "leveling": False}
"""The options of a stream that leaves nothing out, and levels nothing."""


class StreamStatus:
    """What a stream plays now, and after all queued changes."""

    batch: int | None
    block: int
    samples: int | None
    log_probs: dict[int, np.ndarray] | None
    _chain: Chain
    _engines: Engines
    _queued: Engines
    _pending: list[Change]
    _playback: Transport
    _transposer: Transposer
    _steering: Steering

    @property
    def codec(self):
        """The `CodecEngine` that decodes."""
        return self._engines.codec

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.codec.config.sample_rate

    @property
    def level(self) -> int:
        """The level that is decoded, in samples per frame."""
        return self.codec.config.level

    @property
    def seed(self) -> int:
        """The seed of the piece that plays."""
        return self._chain.state.seed

    @property
    def prompt_samples(self) -> int:
        """Samples of the prompt that the piece began with."""
        return self._chain.state.prompt_samples

    @property
    def sampling(self) -> dict[str, Sampling]:
        """The sampling of each level that is generated, by its name."""
        return self._chain.sampling

    @property
    def stay(self) -> float:
        """How strongly a continuation keeps to its recording's pitches, see `set`."""
        return self._steering.stay

    @property
    def queued_engines(self) -> Engines:
        """The engines after all queued changes."""
        return self._queued

    @property
    def queued_sampling(self) -> Mapping[str, Sampling]:
        """The sampling of each level after a queued jump to other weights; otherwise now."""
        return self._queued.sampling or self.sampling

    @property
    def sampled(self) -> dict[str, list[str]]:
        """The names of the levels that take each field of `Sampling`, after all queued changes."""
        return levels_by_field(self._queued.configs)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that `set(label=…)` takes; of parts, the names of tracks, folders and moods.
        """
        return tuple(known_labels(self._queued.configs).groups)

    @property
    def has_score(self) -> bool:
        """Whether the chain has a score after all queued changes."""
        return self._queued.has_score

    @property
    def label(self) -> str:
        """The label after all queued changes, of a part its track; "" for any music, none, a
        mixture, or different labels.
        """
        engines = replace(self._engines, label=self._chain.state.label)
        for change in self._pending:
            engines = engines_after(change, engines)
        shares = engines.label
        if shares is None or not (shares == shares[0]).all():
            return ""
        return name_of(shares[0], known_labels(engines.configs))

    @property
    def position(self) -> int:
        """The number of samples returned so far, per piece."""
        samples = self._playback.blocks * self.block
        return samples if self.samples is None else min(samples, self.samples)

    @property
    def cycle(self) -> int:
        """Blocks after which the work repeats, because a run of a context serves several blocks."""
        return math.lcm(*(level.group for level in self._chain.levels))

    @property
    def tempo(self) -> float:
        """The tempo of the score, in beats per minute; 0 without a score or before it begins."""
        score = self._chain.score
        return score.tempo if score else 0.0

    @property
    def notes_since(self) -> int:
        """The first sample whose notes are known: those of the last half hour, but none before the
        last jump, hold or transposition, and none in a hold.
        """
        forgotten = self._playback.blocks * self.block - KEPT * self.sample_rate
        return max(0, forgotten, self._playback.since * self.block)

    @property
    def beats(self) -> np.ndarray:
        """The samples of the beats of the composed score, int64 [beats]; empty without a score. The
        upbeat is before sample 0. Right from sample `notes_since` on.
        """
        score = self._chain.score
        if score is None:
            return np.zeros(0, np.int64)
        return score.state.times[::STEPS_PER_BEAT] + self._score_delay

    @property
    def places(self) -> np.ndarray:
        """The place of each of `beats` in its bar, 0 for the first beat: int [beats]. Bars are
        counted from the section that is composed.
        """
        state = self._chain.score.state
        return (np.arange(len(self.beats)) - (state.began - state.first) // STEPS_PER_BEAT
                ) % BEATS_PER_BAR

    @property
    def steps(self) -> tuple[int, int]:
        """The first step of the score that is kept, with which `beats` begins, and the next step
        that is composed.
        """
        return self._chain.score.state.first, self._chain.score.stop

    @property
    def section(self) -> tuple[int, int, bool]:
        """The section of the score that is composed: the sample at which it begins, the number of
        its music from 0, and whether that music returns.
        """
        state = self._chain.score.state
        begin = int(state.times[max(0, state.began - state.first)]) + self._score_delay
        return begin, state.section, state.theme >= 0

    def on_bar(self, of_score: bool) -> bool:
        """Whether a change now takes effect with a bar: the bar that is composed next, or for a
        change of the sound (`of_score` False) a bar that begins in the next block.
        """
        if of_score:
            return int(self.places[-1]) == 0  # `beats` has the end of the last beat
        bars = self.beats[self.places == 0]
        return bool(((bars >= self.position) & (bars < self.position + self.block)).any())

    def whole_score(self, end: int, piece: int = 0
                    ) -> tuple[list[tuple[int, int, int, int]], Sequence[int]]:
        """The notes of a piece before sample `end`, and the beats, as `midi_files.write` takes
        them; both empty if notes are missing.
        """
        notes = [] if self.notes_since else self.notes(0, end, piece)
        return notes, self.beats if notes else ()

    @property
    def _score_delay(self) -> int:
        """The samples from the score to the sound. A hold delays the score."""
        # A jump begins a new score.
        blocks = self._chain.state.decoder.blocks - (self._playback.following is not None)
        return (self._playback.blocks - blocks) * self.block

    def notes(self, begin: int = 0, end: int | None = None, piece: int = 0
              ) -> list[tuple[int, int, int, int]]:
        """The notes of a piece's score that begin in samples begin … end − 1, in order; see
        `notes_since`.

        Each is (first sample, sample after the last, MIDI number, velocity). end: None is the end
        of the composed score, which runs ahead of the sound.
        """
        score, delay = self._chain.score, self._score_delay
        if score is None:
            return []
        begin = max(begin, self.notes_since)
        end = score.last_sample + delay if end is None else end
        semitones = round(self._transposer.semitones)
        return [(first + delay, last + delay, note + semitones, velocity)
                for first, last, note, velocity
                in score.notes(begin - delay, end - delay, piece)]


class Stream(StreamStatus):
    """An endless iterator of float32 blocks of music; with `samples`, a piece of that length.

    The thread that calls `next` samples a block of the bottom level. Meanwhile workers sample the
    levels above for the next block, and decode the block before. The iterator raises the errors of
    all threads; an error closes the stream.

    Args:
        codec, generators: a `CodecEngine`, and `GeneratorEngine`s from the top of the chain down,
            that of a score first.
        block: samples of a block, a multiple of the top level.
        seed: a whole number of at least 0, which decides all random draws. None: a random seed,
            see `.seed`.
        batch: None: one piece, blocks [block]. N: N independent pieces, blocks [N, block]. In
            float32, piece b does not depend on N.
        samples: cuts the endless piece to this length; None: endless.
        sampling: see `choose_sampling`.
        begin: a `Prompt`, which the generators continue; a `Variation`, whose codes the first
            generator reads as the level above; or a `Score`, which the stream performs and then
            continues. A variation ends with its codes.
        log_probs: compute the log-probability of each code.
        past: the most seconds that `set(hold=…)` and `set(freeze=…)` can repeat.
        label: the label of the music, in a form that `labels.read_labels` takes.
        sounds: by level, the codecs of the levels whose sound a generator reads.
        music: the `VQWave` of the engines, from which `set` loads other weights and recordings.
        ahead: look-ahead of the decoder in seconds, which adds latency. The decoder repeats the
            last code of the look-ahead, and blocks are cross-faded. None: the decoder's whole halo,
            so that the sound equals the whole piece decoded at once.
        intro: a piece keeps the beats before the first sound of a given score.
        leveling: pieces get a similar loudness, and a continuation that of its prompt; not
            variations. See `Leveler`.

    Attributes:
        codes: {level: int32 [n]} of the last block, from the top (or a variation's kept level)
            down; n = ceil(len(block) / level). With a batch [batch, n]; with several books
            [..., n, books].
        log_probs: {level: float32 of the same shape}, for the levels that have a generator: the
            natural log of each code's probability. None without `log_probs`.
        changed: None, or a list to which `set` adds (sample, keywords) in the order of the calls.
    """

    def __init__(self, codec, generators: Sequence, *, block: int, intro: bool, leveling: bool,
                 seed: int | None = None, batch: int | None = None, samples: int | None = None,
                 sampling=None,
                 begin: Prompt | Variation | Score | None = None, log_probs: bool = False,
                 past: float = 0.0, label=None, music=None, ahead: float | None = None,
                 sounds: Mapping | None = None):
        if begin is not None and not isinstance(begin, Prompt | Variation | Score):
            raise UserError(f"begin is {begin!r}; it must be a Prompt, a Variation or a Score (see "
                            f"VQWave.prompt and VQWave.source)")
        varied = begin if isinstance(begin, Variation) else None
        engine.check_chain(codec, generators, varied.level if varied else 0)
        for key, value, least in (("batch", batch, 1), ("samples", samples, 0)):
            if value is not None:
                check_number(key, value, least, whole=True)
        if varied:
            length = len(varied.codes) * varied.level
            samples = length if samples is None else min(samples, length)
        configs = [g.config for g in generators]
        block, rate = check_block(block, configs), codec.config.sample_rate
        past = check_number("past", past, 0, controls.MOST_PAST)
        # Whole blocks, which may be a little longer than `past`.
        past = min(round(past * rate / block) * block / rate, controls.MOST_PAST)
        options = Options(block, batch, log_probs, past, samples,
                          None if ahead is None else check_number("ahead", ahead, 0), intro,
                          leveling and varied is None)
        seed, sampling = draw_seed(seed), choose_sampling(configs, sampling)
        if label is None and (begin is None or isinstance(begin, Score)):
            label = ""
        engines = Engines(codec, generators, sounds or {}, music,
                          choose_labels(configs, label, batch or 1))
        steering = Steering()
        if isinstance(begin, Prompt) and begin.stay is not None:
            steering.stay = begin.stay
        state = start_chain(engines, options, seed, sampling, begin)
        self._open_at(engines, options, state, steering, Transport(
            leveler=Leveler.start(batch or 1, begin) if options.leveling else None))

    def _open_at(self, engines: Engines, options: Options, chain: ChainState, steering: Steering,
                 playback: Transport):
        """Continue from a state."""
        self.block, self.samples, self.batch = options.block, options.samples, options.batch
        self._options, self._steering = options, steering
        self._workers = Workers()
        self._engines = self._queued = engines
        self._chain = self._build(chain)
        playback.past = deque(playback.past, round(options.past * self.sample_rate / self.block))
        self._playback = playback
        self._transposer = Transposer(self.sample_rate, options.batch or 1)
        self.codes: dict[int, np.ndarray] = {}
        self.log_probs: dict[int, np.ndarray] | None = {} if options.log_probs else None
        self.changed: list[tuple[int, dict]] | None = None
        self._pending = []
        self._begun = playback.blocks  # changes take effect after these blocks
        self._lock, self._set_lock = threading.Lock(), threading.Lock()
        self._open, self._failed = True, False

    def _build(self, state: ChainState) -> Chain:
        return Chain(self._engines, self._options, state, self._steering, self._workers)

    def __iter__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def set(self, **change) -> int:
        """Change the music, starting with the next block that has not begun. Thread-safe.

        `controls.CONTROLS` describes the keywords that are numbers (loudness, transpose, hold,
        tempo, …) and their ranges. Changes of loudness, transpose and hold are heard from
        the returned sample on. The other changes alter codes: each level applies them from its own
        next block on.

        Args:
            sampling: the fields that change in all levels, `{"temperature": 1.2}`, or in one,
                `{"score": {"temperature": 1.2}}`; see `choose_sampling`.
            hold, freeze: seconds, rounded to whole blocks and frames, at most the stream's `past`.
                freeze may be `{"128x": seconds}`; the generator reads the repeated codes.
            notes: MIDI numbers of held notes; [] releases them. Codes that sound these notes, in
                any octave, become likelier. The codec must have oscillators. The first call
                measures the pitches of the codes, which takes some seconds.
            key: of the score, such as "D-minor" or "minor"; its tonic is favoured. "" allows all
                notes. section: the next section of the score: "new", from the next beat on, or
                "theme", as soon as the first section is long enough.
            chords: such as "Am F C G", a bar each, again and again. The score follows them instead
                of the key; "" ends that.
            edits: of the score that is composed from now on, see `edits.Edits`. A jump ends them.
            mood: words like "fast,minor". Each word sets the controls of `controls.MOODS`;
                keywords of the same call win.
            label: the label to reach within a second, in a form that `labels.read_labels` takes.
            jump: a seed. The music cross-fades to the piece of this seed, without a freeze.
            begin: with `jump`, a recording that the new piece continues without playing it: a
                `Prompt`, or `{"file": …, "start": s, "seconds": s}` as in a session.
            weights: with `jump`, the folder of the new piece's generators, and of their codecs if
                they are there. They are loaded before the change is queued. Held notes are
                released, and earlier blocks can no longer be held.

        Returns the first sample of the change. Replaying the changes at these samples gives the
        same music, see `session.replay`. Changes are part of the state. Raises `UserError` for an
        impossible change, and then changes nothing.
        """
        loaded = load_named(change, self._queued)
        with self._set_lock:
            checked = check_change(loaded, self._queued, self._options)
            if checked.hold and not self._begun:
                raise UserError("there is nothing to hold yet: nothing was played")
            self._pending.append(checked)
            self._queued, sample = engines_after(checked, self._queued), self._begun * self.block
            if self.changed is not None:
                self.changed.append((sample, change))
        return sample

    def check(self, engines: Engines, **change) -> Change:
        """The change that `set` would make if `engines` played. Raises `UserError` like `set`."""
        return check_change(load_named(change, engines), engines, self._options)

    def measure_pitches(self):
        """Measure the pitches of the codes now, instead of in the first `set(notes=…)`."""
        load_named({"notes": True}, self._queued)

    def __next__(self) -> np.ndarray:
        with self._lock:
            if not self._open or self.position == self.samples:
                self._shut()
                raise StopIteration
            samples = (self.block if self.samples is None
                       else min(self.block, self.samples - self.position))
            playback = self._playback
            try:
                self._make_changes(playback.blocks + 1)
                block = playback.next_block(self._in_samples(SEAM), samples == self.block,
                                            lambda: self._next_of_chain(samples))
                if leveler := playback.leveler:
                    block = replace(block, audio=leveler.apply(
                        block.audio, self.sample_rate, prompt=self.position < leveler.begins))
                block = block.cut(samples)
            except BaseException:
                # A level may be in the middle of a block, so there is no state to continue from.
                self._failed = True
                self._shut()
                raise
            playback.blocks += 1
            self.codes = self._without_axes(block.codes)
            self.log_probs = block.log_probs and self._without_axes(block.log_probs)
            audio = playback.gain.apply(self._transposer.apply(block.audio), self.sample_rate)
            return audio if self.batch else audio[0]

    def _without_axes(self, values: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """[batch, n, books] by level, without the axis of a single book or of no batch."""
        values = {level: x[..., 0] if x.shape[-1] == 1 else x for level, x in values.items()}
        return values if self.batch else {level: x[0] for level, x in values.items()}

    def _in_samples(self, seconds: float) -> int:
        return round(seconds * self.sample_rate)

    def _next_of_chain(self, samples: int | None = None) -> Block:
        """The chain's next block, with the codes of its first `samples` samples (None: of all)."""
        left = (None if self.samples is None
                else -(-self.samples // self.block) - self._playback.blocks)
        return self._chain.next_block(samples or self.block, left)

    def _make_changes(self, begun: int):
        """Make the queued changes, between two blocks. begun: the number of blocks begun now."""
        with self._set_lock:
            self._begun = begun
            changes, self._pending = self._pending, []
        for change in changes:
            self._make_change(change)

    def _make_change(self, change: Change):
        chain, steering = self._chain, self._steering
        if change.sampling is not None:
            chain.set_sampling(change.sampling)
        if change.loudness is not None:
            self._playback.gain.decibel = change.loudness
        if change.transpose is not None:
            self._transposer.semitones = change.transpose
            self._playback.since = self._playback.blocks
        if change.jump is not None:
            self._jump(change)
        elif change.label is not None:
            chain.state.label = change.label
            chain.follow_label()
        if change.notes is not None:
            steering.notes = change.notes
            steering.powers |= change.pitches or {}
        if change.key is not None:
            steering.key = read_key(change.key, self._chain.state.seed)
        if change.chords is not None:
            steering.chords = read_chords(change.chords)
        for name, value in change.steering.items():
            setattr(steering, name, value)
        if change.freeze is not None:
            self._chain.freeze(change.freeze)
        if change.hold is not None:
            blocks = round(change.hold * self.sample_rate / self.block)
            self._playback.hold(max(1, blocks) if change.hold else 0, self._in_samples(SEAM),
                                self._next_of_chain)

    def _jump(self, change: Change):
        """Cross-fade to the piece of another seed, label, recording or other weights."""
        self._playback.jump(self._in_samples(PASSAGE), self._next_of_chain)
        # A request that waits, and edits, are for the old piece.
        self._steering.section, self._steering.edits = "", Edits()
        if leveler := self._playback.leveler:
            fresh = Leveler.start(1, change.begin)
            leveler.target, leveler.most, leveler.begins = fresh.target, fresh.most, 0
        engines = replace(self._engines, label=self._chain.state.label)
        sampling: Mapping[str, Sampling] | None = self.sampling
        if change.engines is not None:
            engines, sampling = change.engines, change.engines.sampling
            self._playback.past.clear()  # the codes of other levels
            self._steering.notes, self._steering.powers = (), {}
        if change.begin is not None and change.begin.stay is not None:
            self._steering.stay = change.begin.stay
        self._engines = engines_after(change, engines)
        self._chain = self._build(start_chain(
            self._engines, self._options, change.jump, sampling, change.begin, skip=True))

    def close(self):
        """End the stream and its threads. `next` then raises StopIteration; `state` still works."""
        with self._lock:
            self._shut()

    def _shut(self):
        self._open = False
        self._workers.close()

    def state(self) -> dict:
        """The state of the stream between two blocks: numpy arrays, numbers and text, as `np.savez`
        stores them. Raises `RuntimeError` after an error in the stream.
        """
        with self._lock:
            if self._failed:
                raise RuntimeError("the stream failed: it has no state to continue from")
            if self._open:
                self._make_changes(self._playback.blocks)
            return Snapshot.of(self._engines, self._options, self._chain.state, self._steering,
                               self._playback, self._transposer.state()).pack()

    @classmethod
    def resume(cls, state: Mapping, codec=None, generators: Sequence | None = None, *,
               music=None, sounds: Mapping | None = None) -> Self:
        """A stream that continues bit for bit from `state`: a dict, or what `np.load` returns.

        Without `codec` or `generators`, their engines are loaded from the paths in the state.
        music, sounds: see `Stream`. Raises `UserError` for other weights than the state's, and for
        a damaged state.
        """
        snapshot = Snapshot.unpack(state)
        stream = cls.__new__(cls)
        stream._open_at(snapshot.engines(codec, generators, sounds, music), snapshot.options,
                        snapshot.chain, snapshot.steering, snapshot.playback)
        stream._transposer.restore(snapshot.transposer)
        return stream
