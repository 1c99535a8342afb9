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
from . import controls
from .blocks import Block, Leveler, Transport
from .chain import Chain, ChainState, Engines, Options, start_chain
from .changes import Change, check_block, check_change, engines_after, load_named
from .controls import Steering
from .decoder import Workers
from .edits import Edits
from .harmony import read_key
from .labels import choose_labels, name_of
from .prompt import Prompt, Variation
from .sampling import choose_sampling, draw_seed, levels_by_field
from .score import BEATS_PER_BAR, KEPT
from .snapshot import EngineReference, Snapshot
from .transpose import Transposer

AS_COMPOSED = {"intro": True, "leveling": False}
"""The options of a stream that leaves nothing out, and levels nothing."""


class StreamStatus:
    """What a stream plays now, and after all queued changes."""

    _options: Options
    _chain: Chain
    _engines: Engines
    _queued: Engines
    _transport: Transport
    _steering: Steering

    @property
    def block(self) -> int:
        """Samples of a block."""
        return self._options.block

    @property
    def samples(self) -> int | None:
        """Samples of the piece; None: endless."""
        return self._options.samples

    @property
    def batch(self) -> int | None:
        """The number of pieces; None: one piece, whose blocks have no axis of pieces."""
        return self._options.batch

    @property
    def codec(self):
        """The `CodecEngine` that decodes."""
        return self._engines.codec

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self._engines.sample_rate

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
        return tuple(self._queued.labels.groups)

    @property
    def has_score(self) -> bool:
        """Whether the chain has a score after all queued changes."""
        return self._queued.has_score

    @property
    def label(self) -> str:
        """The label after all queued changes, of a part its track; "" for any music, none, a
        mixture, or different labels.
        """
        shares = self._queued.label
        if shares is None or not (shares == shares[0]).all():
            return ""
        return name_of(shares[0], self._queued.labels)

    @property
    def position(self) -> int:
        """The number of samples returned so far, per piece."""
        samples = self._transport.blocks * self.block
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
        forgotten = self._transport.blocks * self.block - KEPT * self.sample_rate
        return max(0, forgotten, self._transport.notes_known_from * self.block)

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
        transport = self._transport
        blocks = self._chain.state.decoder.blocks - (transport.resumes_with is not None)
        return (transport.blocks - blocks) * self.block

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
        semitones = round(self._transport.transposer.semitones)
        return [(first + delay, last + delay, note + semitones, velocity)
                for first, last, note, velocity
                in score.notes(begin - delay, end - delay, piece)]


class Stream(StreamStatus):
    """An endless iterator of float32 blocks of music; with `samples`, a piece of that length.

    The thread that calls `next` samples a block of the bottom level. Meanwhile workers sample the
    levels above for the next block, and decode the block before. The iterator raises the errors of
    all threads; an error closes the stream.

    Args:
        engines: of a chain that fits together, see `VQWave.chain_engines`. From their `music`,
            `set` loads other weights and recordings.
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

    def __init__(self, engines: Engines, *, block: int, intro: bool, leveling: bool,
                 seed: int | None = None, batch: int | None = None, samples: int | None = None,
                 sampling=None, begin: Prompt | Variation | Score | None = None,
                 log_probs: bool = False, past: float = 0.0, label=None,
                 ahead: float | None = None):
        if begin is not None and not isinstance(begin, Prompt | Variation | Score):
            raise UserError(f"begin is {begin!r}; it must be a Prompt, a Variation or a Score (see "
                            f"VQWave.prompt and VQWave.source)")
        for key, value, least in (("batch", batch, 1), ("samples", samples, 0)):
            if value is not None:
                check_number(key, value, least, whole=True)
        if isinstance(begin, Variation):
            length = len(begin.codes) * begin.level
            samples, leveling = length if samples is None else min(samples, length), False
        configs, rate, pieces = engines.configs, engines.sample_rate, batch or 1
        block = check_block(block, configs)
        past = check_number("past", past, 0, controls.MOST_PAST)
        # Whole blocks, which may be a little longer than `past`.
        past = min(round(past * rate / block) * block / rate, controls.MOST_PAST)
        options = Options(block, batch, log_probs, past, samples, ahead, intro)
        seed, sampling = draw_seed(seed), choose_sampling(configs, sampling)
        if label is None and (begin is None or isinstance(begin, Score)):
            label = ""
        engines = replace(engines, label=choose_labels(configs, label, pieces))
        steering = Steering()
        if isinstance(begin, Prompt) and begin.stay is not None:
            steering.stay = begin.stay
        self._open_at(engines, options, start_chain(engines, options, seed, sampling, begin),
                      steering, Transport(rate, Transposer.start(rate, pieces),
                                          Leveler.start(pieces, begin) if leveling else None))

    def _open_at(self, engines: Engines, options: Options, chain: ChainState, steering: Steering,
                 transport: Transport):
        """Continue from a state."""
        self._options, self._steering, self._transport = options, steering, transport
        self._workers = Workers()
        self._engines = self._queued = engines
        self._chain = self._build(chain)
        transport.past = deque(transport.past, round(options.past * self.sample_rate / self.block))
        self.codes: dict[int, np.ndarray] = {}
        self.log_probs: dict[int, np.ndarray] | None = {} if options.log_probs else None
        self.changed: list[tuple[int, dict]] | None = None
        self._pending: list[Change] = []
        self._begun = transport.blocks  # changes take effect after these blocks
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
            try:
                self._make_changes(self._transport.blocks + 1)
                block = self._transport.next_block(samples, self._next_of_chain)
            except BaseException:
                # A level may be in the middle of a block, so there is no state to continue from.
                self._failed = True
                self._shut()
                raise
            self.codes = self._without_axes(block.codes)
            self.log_probs = block.log_probs and self._without_axes(block.log_probs)
            return block.audio if self.batch else block.audio[0]

    def _without_axes(self, values: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """[batch, n, books] by level, without the axis of a single book or of no batch."""
        values = {level: x[..., 0] if x.shape[-1] == 1 else x for level, x in values.items()}
        return values if self.batch else {level: x[0] for level, x in values.items()}

    def _next_of_chain(self) -> Block:
        return self._chain.next_block(None if self.samples is None else (
            -(-self.samples // self.block) - self._transport.blocks))

    def _make_changes(self, begun: int):
        """Make the queued changes, between two blocks. begun: the number of blocks begun now."""
        with self._set_lock:
            self._begun = begun
            changes, self._pending = self._pending, []
        for change in changes:
            self._make_change(change)

    def _make_change(self, change: Change):
        if change.sampling is not None:
            self._chain.set_sampling(change.sampling)
        if change.loudness is not None:
            self._transport.gain.decibel = change.loudness
        if change.transpose is not None:
            self._transport.transpose(change.transpose)
        sampling = self.sampling if change.engines is None else change.engines.sampling
        self._engines = engines_after(change, self._engines)
        if change.jump is not None:
            self._jump(change, sampling)
        elif change.label is not None:
            self._chain.state.label = change.label
            self._chain.follow_label()
        if change.key is not None:
            self._steering.key = read_key(change.key, self.seed)
        for name, value in change.steering.items():
            setattr(self._steering, name, value)
        if change.freeze is not None:
            self._chain.freeze(change.freeze)
        if change.hold is not None:
            blocks = round(change.hold * self.sample_rate / self.block)
            self._transport.hold(max(1, blocks) if change.hold else 0, self._next_of_chain)

    def _jump(self, change: Change, sampling):
        """Cross-fade to the piece of another seed, label, recording or other weights."""
        transport, steering = self._transport, self._steering
        transport.jump(self._next_of_chain, change.begin)
        # A request that waits, and edits, are for the old piece.
        steering.section, steering.edits = "", Edits()
        if change.engines is not None:
            transport.past.clear()  # the codes of other levels
            steering.notes, steering.powers = (), {}
        if change.begin is not None and change.begin.stay is not None:
            steering.stay = change.begin.stay
        self._chain = self._build(start_chain(self._engines, self._options, change.jump, sampling,
                                              change.begin, skip=True))

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
                self._make_changes(self._transport.blocks)
            return Snapshot([EngineReference.of(part) for part in self._engines.parts],
                            self._options, self._chain.state, self._steering,
                            self._transport).pack()

    @classmethod
    def resume(cls, state: Mapping, engines: Engines | None = None, *, music=None) -> Self:
        """A stream that continues bit for bit from `state`: a dict, or what `np.load` returns.

        Without `engines`, they are loaded from the paths in the state. music: the `VQWave` from
        which `set` loads other weights and recordings. Raises `UserError` for other weights than
        the state's, and for a damaged state.
        """
        snapshot = Snapshot.unpack(state)
        stream = cls.__new__(cls)
        stream._open_at(snapshot.engines(engines, music), snapshot.options, snapshot.chain,
                        snapshot.steering, snapshot.transport)
        return stream
