"""A stream: an endless iterator of blocks of music, in constant memory, that a player steers."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from ..config import Sampling
from ..data.scores import Score
from ..errors import UserError, check_number
from . import controls, engine
from .blocks import PASSAGE, SEAM, Block, Leveler, Playback
from .chain import Chain, ChainState, Engines, Options, Workers, start_chain
from .changes import Change, check_block, check_change, engines_after, label_names, load_named
from .labels import choose_labels
from .level import Steering
from .prompt import Prompt, Variation
from .sampling import draw_seed, sampling_per_level
from .snapshot import Snapshot, pack
from .transpose import Transposer


class StreamStatus:
    """What plays, and what will once all queued changes are made."""

    batch: int | None
    block: int
    samples: int | None
    log_probs: dict[int, np.ndarray] | None
    _chain: Chain
    _engines: Engines
    _coming: Engines
    _playback: Playback
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
        """Samples per code of the level that is decoded."""
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
    def sampling(self) -> dict[int, Sampling]:
        """How each level draws."""
        return self._chain.sampling

    @property
    def stay(self) -> float:
        """How strongly a continuation keeps to its recording's pitches, see `set`."""
        return self._steering.stay

    @property
    def engines(self) -> Engines:
        """What plays once all queued changes are made."""
        return self._coming

    @property
    def coming(self) -> Mapping[int, Sampling]:
        """How each level draws once all queued changes are made."""
        return self._coming.sampling or self.sampling

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that `set(label=…)` takes."""
        return label_names(self._coming.configs)

    @property
    def has_score(self) -> bool:
        """Whether a score leads what plays once all queued changes are made."""
        return self._coming.score is not None

    @property
    def label(self) -> str:
        """The label after all queued changes; "" for none, a mixture, or different labels."""
        shares = self._coming.label
        if shares is None or not (shares == shares[0]).all() or shares[0].max() < 1:
            return ""
        return [*self.labels, ""][shares[0].argmax()]

    @property
    def position(self) -> int:
        """Samples handed out so far (per piece)."""
        samples = self._playback.blocks * self.block
        return samples if self.samples is None else min(samples, self.samples)

    def notes(self, begin: int = 0, end: int | None = None, piece: int = 0
              ) -> list[tuple[int, int, int]]:
        """The notes of a piece's score that begin in samples begin … end − 1 (None: as far as the
        score is composed): (first sample, sample after the last, MIDI number) each, in order. The
        score runs ahead of the sound; its last half hour is kept. No notes without a score.
        """
        score = self._chain.score
        if score is None:
            return []
        return score.notes(begin, score.state.times[-1] if end is None else end, piece)


class Stream(StreamStatus):
    """An endless iterator of float32 blocks of music; with `samples` a piece of that length.

    An error of any thread is raised by the iterator, and closes the stream. While the thread that
    calls `next` samples a block of the bottom level, workers run the levels above for the next
    block and decode the one before.

    Args:
        codec, generators: a `CodecEngine`, and `GeneratorEngine`s from the top of the chain down.
        block: samples of a block, a multiple of the top level.
        seed: decides everything; a whole number of at least 0. None draws one, see `.seed`.
        batch: None for one piece, blocks [block]; N for N independent pieces side by side, blocks
            [N, block]. In float32 piece b is the same whatever N is.
        samples: length of the piece, which is the endless one cut; None is endless.
        sampling: see `sampling_per_level`.
        chunk: most frames sampled in one call of a generator; it changes no code.
        begin: a `Prompt`, which the generators continue; a `Variation`, whose codes the first
            generator reads instead of a level above, and which ends where they end; or a `Score`,
            which is performed and then goes on by itself.
        log_probs: compute the log-probability of each code.
        past: the most seconds that `set(hold=…)` and `set(freeze=…)` can repeat.
        label: what the music is like, as `labels.read_labels` reads it.
        music: the `VQWave` of the engines, from which `set` loads other weights and recordings.
        ahead: seconds of codes behind a block that its decoder waits for. The last of them stands
            for the rest, and a block passes into the next one: changes are heard the sooner. None:
            all that the decoder can see, so that the sound is that of the whole piece's codes.
        score: the `GeneratorEngine` of the score that the first generator performs; None: without.
        intro: a new piece begins as recordings do, often quietly. Otherwise it begins where its
            music sounds, see `opening`.
        leveling: pieces without a recording are brought to a similar loudness, see `Leveler`.

    Attributes:
        codes: {level: int32 [n]} of the last block, for every level from the top (or the level
            kept) down, [batch, n] with a batch, and [..., n, books] with several books. n =
            ceil(len(block) / level).
        log_probs: {level: float32 of the same shape}, for the levels that have a generator: the
            natural log of the probability that each code had. None without `log_probs`.
        changed: None, or a list to which `set` adds (sample, keywords) in the order of the calls.
    """

    def __init__(self, codec, generators: Sequence, *, block: int, seed: int | None = None,
                 batch: int | None = None, samples: int | None = None, sampling=None,
                 chunk: int | None = None, begin: Prompt | Variation | Score | None = None,
                 log_probs: bool = False, past: float = 0.0, label=None,
                 music=None, ahead: float | None = None, score=None, intro: bool = True,
                 leveling: bool = False):
        if begin is not None and not isinstance(begin, Prompt | Variation | Score):
            raise UserError(f"begin is {begin!r}; it must be what prompt or source made of a "
                            f"recording")
        varied = begin if isinstance(begin, Variation) else None
        engine.check_chain(codec, generators, varied.level if varied else 0)
        for key, value, least in (("batch", batch, 1), ("samples", samples, 0),
                                  ("chunk", chunk, 1)):
            if value is not None:
                check_number(key, value, least, whole=True)
        if varied:
            length = len(varied.codes) * varied.level
            samples = length if samples is None else min(samples, length)
        configs = [g.config for g in generators]
        block, rate = check_block(block, configs), codec.config.sample_rate
        past = check_number("past", past, 0, controls.MOST_PAST)
        # In whole blocks, which may be a little longer.
        past = min(round(past * rate / block) * block / rate, controls.MOST_PAST)
        options = Options(block, batch, log_probs, past, samples,
                          None if ahead is None else check_number("ahead", ahead, 0), intro,
                          leveling and begin is None)
        seed, sampling = draw_seed(seed), sampling_per_level(configs, sampling, score)
        own = begin is None or isinstance(begin, Score)
        engines = Engines(codec, generators, music, choose_labels(
            configs, label, batch or 1, seed if own else None), score=score)
        steering = Steering()
        if isinstance(begin, Prompt) and begin.stay is not None:
            steering.stay = begin.stay
        self._open_at(engines, options, start_chain(engines, options, seed, sampling, begin),
                      steering, Playback(leveler=Leveler.start(batch or 1)
                                         if options.leveling else None), chunk)

    def _open_at(self, engines: Engines, options: Options, chain: ChainState, steering: Steering,
                 playback: Playback, chunk: int | None):
        """Go on from a state."""
        self.block, self.samples, self.batch = options.block, options.samples, options.batch
        self._options, self._steering, self._chunk = options, steering, chunk
        self._workers = Workers()
        self._engines = self._coming = engines
        self._chain = self._build(chain)
        playback.past = deque(playback.past, round(options.past * self.sample_rate / self.block))
        self._playback = playback
        self._transposer = Transposer(self.sample_rate, options.batch or 1)
        self.codes: dict[int, np.ndarray] = {}
        self.log_probs: dict[int, np.ndarray] | None = {} if options.log_probs else None
        self.changed: list[tuple[int, dict]] | None = None
        self._pending: list[Change] = []
        self._begun = playback.blocks  # blocks that no change can alter any more
        self._lock, self._set_lock = threading.Lock(), threading.Lock()
        self._open, self._failed = True, False

    def _build(self, state: ChainState) -> Chain:
        return Chain(self._engines, self._options, state, self._steering, self._workers,
                     self._chunk)

    def __iter__(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def set(self, **change) -> int:
        """Change what plays, from the next block on that is not begun. Any thread may call this.

        `controls.CONTROLS` describes the numbers loudness, transpose, hold, freeze, mutate, pull
        and stay, with their ranges. It says of which the change is heard from the returned sample
        on. The others change codes: each level follows from its own next block, before it sounds.

        Args:
            sampling: a `Sampling` for all levels, or a mapping from level to one, or to what
                differs from what the level has now: `{512: {"temperature": 1.2}}`.
            hold, freeze: seconds, in whole blocks and frames, at most the stream's `past`. freeze
                may be `{level: seconds}`; the generator hears what is repeated.
            notes: MIDI numbers of held notes: codes that sound them, in any octave, become
                likelier; [] releases them. What each code sounds is measured the first time, which
                takes some seconds. The codec must play by oscillators.
            key: the score keeps to a key, such as "D-minor"; "" frees it. section: what the score
                goes on with from its next beat on, "new" or "theme".
            label: what the music is to be like, over a second; as `labels.read_labels` reads it.
            jump: a seed: the music passes to the piece that begins with it, without a freeze.
            begin: with `jump`, what that piece goes on from, which is not heard itself: a `Prompt`;
                or a recording as a session names it, `{"file": …, "start": s, "seconds": s}`.
            weights: with `jump`, the folder of the generators that play that piece, with their
                codecs where it has some. They are loaded before the change is queued. Earlier
                blocks can no longer be held then, and held notes are released.

        Returns the sample (of the stream) that the change holds from. The same changes at the same
        samples are the same music, see `session.replay`; they are part of the state. Raises
        `UserError` for what cannot be; nothing is changed then.
        """
        loaded = load_named(change, self._coming)
        with self._set_lock:
            checked = check_change(loaded, self._coming, self._options)
            if checked.hold and not self._begun:
                raise UserError("there is nothing to hold yet: nothing was played")
            self._pending.append(checked)
            self._coming, sample = engines_after(checked, self._coming), self._begun * self.block
            if self.changed is not None:
                self.changed.append((sample, change))
        return sample

    def check(self, engines: Engines, **change) -> Change:
        """The change that `set` would make where `engines` play. Raises `UserError` like `set`."""
        return check_change(load_named(change, engines), engines, self._options)

    def hear_codes(self):
        """Measure the pitches of the codes now; otherwise the first `set(notes=…)` does."""
        load_named({"notes": True}, self._coming)

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
                if playback.leveler:
                    block = replace(block, audio=playback.leveler.apply(block.audio,
                                                                        self.sample_rate))
                block = block.cut(samples)
            except BaseException:
                # A level may stand in the middle of a block: nothing can go on from here.
                self._failed = True
                self._shut()
                raise
            playback.blocks += 1
            self.codes = self._without_axes(block.codes)
            self.log_probs = block.log_probs and self._without_axes(block.log_probs)
            audio = playback.gain.apply(self._transposer.apply(block.audio), self.sample_rate)
            return audio if self.batch else audio[0]

    def _without_axes(self, values: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """[batch, n, books] by level without the axes that a caller does not see."""
        values = {level: x[..., 0] if x.shape[-1] == 1 else x for level, x in values.items()}
        return values if self.batch else {level: x[0] for level, x in values.items()}

    def _in_samples(self, seconds: float) -> int:
        return round(seconds * self.sample_rate)

    def _next_of_chain(self, samples: int | None = None) -> Block:
        """The chain's next block; codes are noted for so many samples of it, None: for all."""
        left = (None if self.samples is None
                else -(-self.samples // self.block) - self._playback.blocks)
        return self._chain.next_block(samples or self.block, left, self._playback.past.maxlen or 0)

    def _make_changes(self, begun: int):
        """Make the queued changes, between two blocks. `begun` blocks are begun now."""
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
        if change.jump is not None:
            self._jump(change)
        elif change.label is not None:
            chain.state.label = change.label
            chain.set_labels(change.label)
        if change.notes is not None:
            steering.notes = change.notes
            steering.powers |= change.pitches or {}
        for name, value in change.steering.items():
            setattr(steering, name, value)
        if change.freeze is not None:
            self._chain.freeze(change.freeze)
        if change.hold is not None:
            blocks = round(change.hold * self.sample_rate / self.block)
            self._playback.hold(max(1, blocks) if change.hold else 0, self._in_samples(SEAM),
                                self._next_of_chain)

    def _jump(self, change: Change):
        """Pass to the piece of another seed, label, recording or other weights."""
        self._playback.jump(self._in_samples(PASSAGE), self._next_of_chain)
        engines, sampling = replace(self._engines, label=self._chain.state.label), self.sampling
        if change.engines is not None:
            engines, sampling = change.engines, change.engines.sampling
            self._playback.past.clear()  # the codes of other levels
            self._steering.notes, self._steering.powers = (), {}
        if change.begin is not None and change.begin.stay is not None:
            self._steering.stay = change.begin.stay
        self._engines = engines_after(change, engines)
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
        """Where the stream stands between two blocks: numpy arrays, numbers and text, as `np.savez`
        stores them. Raises `RuntimeError` after an error in the stream.
        """
        with self._lock:
            if self._failed:
                raise RuntimeError("the stream failed; it has no state to go on from")
            if self._open:
                self._make_changes(self._playback.blocks)
            return pack(Snapshot.of(self._engines, self._options, self._chain.state, self._steering,
                                    self._playback, self._transposer.state()))

    @classmethod
    def resume(cls, state: Mapping, codec=None, generators: Sequence | None = None, *,
               chunk: int | None = None, music=None) -> Self:
        """The stream that goes on bit for bit where `state` was taken: a dict, or what `np.load`
        returns.

        Without `codec` and `generators` the state says where to load them from. music: see
        `Stream`. Raises `UserError` for other weights than the state's, and for a damaged state.
        """
        snapshot = Snapshot.unpack(state)
        stream = cls.__new__(cls)
        stream._open_at(snapshot.engines(codec, generators, music), snapshot.options,
                        snapshot.chain, snapshot.steering, snapshot.playback, chunk)
        stream._transposer.restore(snapshot.transposer)
        return stream
