"""A stream: an endless iterator of blocks of music, in constant memory, that a player steers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from ..config import Labels, Sampling
from ..errors import UserError, check_number
from . import controls, engine
from .blocks import PASSAGE, SEAM, Block, BlockIterator, Playback
from .chain import Chain, ChainState, Engines, Options, Workers, start_chain
from .changes import (
    Change,
    ChangeChecker,
    Queue,
    check_block,
    engines_after,
    label_names,
    load_named,
)
from .conditions import check_chosen
from .level import GivenState, Steering
from .prompt import Prompt, Variation, check_codes
from .sampling import check_guidance, draw_seed, sampling_per_level
from .snapshot import Snapshot, pack
from .transpose import Transposer


class StreamStatus(BlockIterator):
    """What a stream says of itself: what plays, and what will once all queued changes are made."""

    batch: int | None
    block: int
    samples: int | None
    log_probs: dict[int, np.ndarray] | None
    _chain: Chain
    _coming: Engines
    _playback: Playback
    _steering: Steering

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
    def label(self) -> str:
        """The label once all queued changes are made; "" for none, for a mixture, and where the
        pieces of a batch differ.
        """
        shares = self._coming.chosen.get(Labels.input)
        if shares is None or not (shares == shares[0]).all() or shares[0].max() < 1:
            return ""
        return ("" if (number := int(shares[0].argmax())) == len(self.labels)
                else self.labels[number])

    @property
    def position(self) -> int:
        """Samples handed out so far (per piece)."""
        samples = self._playback.blocks * self.block
        return samples if self.samples is None else min(samples, self.samples)

    @property
    def bits(self) -> dict[int | str, float | np.ndarray]:
        """Bits per code so far, since the last jump, by level, and under "all" those of all levels'
        codes together; [batch] with a batch.

        Of codes that were drawn, under the distribution they were drawn from; a prompt's do not
        count, a frozen level's do. It takes `log_probs`. NaN before the first.
        """
        if self.log_probs is None:
            raise ValueError("bits are counted where the stream was made with log_probs=True")
        bits = self._chain.bits
        return bits if self.batch else {name: float(x[0]) for name, x in bits.items()}


class Stream(StreamStatus):
    """An endless iterator of float32 blocks of music; with `samples` a piece of that length.

    Args:
        codec: a `CodecEngine` at the level of the last generator.
        generators: `GeneratorEngine`s from the top of the chain down.
        seed: decides everything; a whole number of at least 0. None draws one, see `.seed`.
        batch: None for one piece, blocks [block]; N for N independent pieces side by side, blocks
            [N, block]. In float32 piece b is the same whatever N is.
        samples: length of the piece, which is the endless one cut; None is endless.
        block: samples of a block, a multiple of the top level.
        sampling: see `sampling_per_level`.
        chunk: most frames sampled in one call of a generator; it changes no code.
        begin: a `Prompt`, which the generators continue, or a `Variation`, whose codes the first
            generator reads instead of a level above; such a piece ends where they end.
        log_probs: compute the log-probability of each code, see `log_probs`.
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

    An error of any thread is raised by the iterator, and closes the stream. While the thread that
    calls `next` samples a block of the bottom level, workers run the levels above for the next
    block and decode the one before.

    Example:
        with Stream(codec, generators, seed=1) as stream:
            for block in stream:
                speaker.write(block)
    """

    def __init__(self, codec, generators: Sequence, *, block: int, seed: int | None = None,
                 batch: int | None = None, samples: int | None = None, sampling=None,
                 chunk: int | None = None, begin: Prompt | Variation | None = None,
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
        block, rate = check_block(block, configs), codec.config.sample_rate
        if varied:
            begin, samples = _check_variation(varied, configs[0].source, samples)
        past = check_number("past", past, 0, controls.MOST_PAST)
        # In whole blocks, which may be a little longer.
        past = min(round(past * rate / block) * block / rate, controls.MOST_PAST)
        options = Options(block, batch or 0, log_probs, past, samples,
                          None if ahead is None else check_number("ahead", ahead, 0))
        seed = draw_seed(seed)
        sampling = check_guidance(configs, sampling_per_level(configs, sampling))
        default = None if music is None else music.default_choice
        engines = Engines(codec, generators, music,
                          check_chosen(configs, chosen, batch or 1, default))
        steering = Steering()
        if isinstance(begin, Prompt) and begin.stay is not None:
            steering.stay = begin.stay
        self._open_at(engines, options, start_chain(engines, options, seed, sampling, begin),
                      steering, Playback(), chunk)

    def _open_at(self, engines: Engines, options: Options, chain: ChainState, steering: Steering,
                 playback: Playback, chunk: int | None):
        """Go on from a state."""
        self.codec, self.block, self.samples = engines.codec, options.block, options.samples
        self.batch = options.batch or None
        self._options, self._steering, self._chunk = options, steering, chunk
        self._workers = Workers()
        self._engines = self._coming = engines
        self._chain = self._build(chain)
        playback.past = deque(playback.past, round(options.past * self.sample_rate / self.block))
        self._playback = playback
        self._transposer = Transposer(self.sample_rate, options.batch or 1)
        self.codes: dict[int, np.ndarray] = {}
        self.log_probs: dict[int, np.ndarray] | None = {} if options.log_probs else None
        self.performed: list[tuple[int, dict]] | None = None
        self._queue = Queue(self.block)
        self._queue.begun = playback.blocks
        self._checker = ChangeChecker(options, self.sample_rate, chain.given is not None,
                                      playback.past.maxlen or 0)
        self._lock, self._set_lock = threading.Lock(), threading.Lock()
        self._open, self._failed = True, False

    @property
    def _seam(self) -> int:
        return round(SEAM * self.sample_rate)

    def _build(self, state: ChainState) -> Chain:
        return Chain(self._engines, self._options, state, self._steering, self._workers,
                     self._chunk)

    def set(self, **change) -> int:
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
        keywords, change = change, load_named(change, self._coming)
        with self._set_lock:
            checked = self.check(**change)
            sample = self._queue.put(checked)
            self._coming = engines_after(checked, self._coming)
            if self.performed is not None:
                self.performed.append((sample, keywords))
        return sample

    def check(self, engines: Engines | None = None, **change) -> Change:
        """The change that `set` makes of the same keywords, which is not made yet.

        engines: what plays by then; None: once all queued changes are made. Raises `UserError`
        where it cannot be.
        """
        return self._checker.check(change, engines or self._coming)

    def hear_codes(self):
        """Measure the pitches of the codes, which `set(notes=…)` otherwise does for the first note.
        """
        load_named({"notes": True}, self._coming)

    def __next__(self) -> np.ndarray:
        with self._lock:
            if not self._open or self.position == self.samples:
                self._shut()
                raise StopIteration
            samples = (self.block if self.samples is None
                       else min(self.block, self.samples - self.position))
            try:
                self._apply(self._queue.take(self._playback.blocks + 1))
                block = self._playback.next_block(self._seam, samples == self.block,
                                                  lambda: self._make(samples))
                block = block.cut(samples, 1 if self.batch else 0)
            except BaseException:
                # A level may stand in the middle of a block: nothing can go on from here.
                self._failed = True
                self._shut()
                raise
            self.codes, self.log_probs = block.codes, block.log_probs
            self._playback.blocks += 1
            audio = self._playback.gain.apply(self._transposer.apply(block.audio),
                                              self.sample_rate)
            return audio if self.batch else audio[0]

    def _apply(self, changes: list[Change]):
        """Make changes, between two blocks."""
        for change in changes:
            if change.sampling is not None:
                self._chain.resample(change.sampling)
            if change.loudness is not None:
                self._playback.gain.decibel = change.loudness
            if change.transpose is not None:
                self._transposer.semitones = change.transpose
            if change.mutate is not None:
                self._steering.mutate = change.mutate
            if change.jump is not None:
                self._jump(change)
            elif change.label is not None:
                self._chain.state.chosen[Labels.input] = change.label
                self._chain.relabel(change.label)
            if change.notes is not None:
                self._steering.notes = change.notes
                self._steering.powers |= change.pitches
            for name in ("pull", "stay"):
                if (value := getattr(change, name)) is not None:
                    setattr(self._steering, name, value)
            if change.freeze:
                self._chain.freeze(change.freeze)
            if change.hold is not None:
                blocks = round(change.hold * self.sample_rate / self.block)
                self._playback.hold(max(1, blocks) if change.hold else 0, self._seam,
                                    lambda: self._make(self.block))

    def _jump(self, change: Change):
        """Pass to the piece of another seed, label, recording or other weights."""
        playback, sampling = self._playback, self.sampling
        if playback.blocks:
            playback.pass_over(round(PASSAGE * self.sample_rate), lambda: self._make(self.block))
        playback.held, playback.following = 0, None
        chosen = self._chain.state.chosen
        if (there := change.engines) is not None:
            self._engines, sampling, chosen = there, there.sampling, there.chosen
            self.codec = there.codec
            playback.past.clear()  # the codes of other levels
            self._steering.notes, self._steering.powers = (), {}
        if change.label is not None:
            chosen = {**chosen, Labels.input: change.label}
        if change.begin is not None and change.begin.stay is not None:
            self._steering.stay = change.begin.stay
        engines = Engines(self._engines.codec, self._engines.generators, self._engines.music,
                          chosen)
        self._engines = engines
        self._chain = self._build(start_chain(engines, self._options, change.jump, sampling,
                                              change.begin, skip=True))

    def _make(self, samples: int) -> Block:
        """The chain's next block; codes are noted for so many samples of it."""
        left = (None if self.samples is None
                else -(-self.samples // self.block) - self._playback.blocks)
        return self._chain.next_block(samples, left, self._playback.past.maxlen)

    def close(self):
        """End the stream and its threads: `next` raises StopIteration from here on. `state` still
        works.
        """
        with self._lock:
            self._shut()

    def _shut(self):
        self._open = False
        self._workers.close()

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
                self._apply(self._queue.take(self._playback.blocks))
            return pack(Snapshot.of(self._engines, self._options, self._chain.state, self._steering,
                                    self._playback, self._transposer.state()))

    @classmethod
    def resume(cls, state: Mapping, codec=None, generators: Sequence | None = None, *,
               chunk: int | None = None, music=None) -> Stream:
        """The stream that goes on where `state` was taken (a dict, or what `np.load` gives for it),
        bit for bit.

        Without `codec` and `generators` they are loaded from where they were when the state was
        taken. music: the `VQWave` that they are of, for `set`. Raises `UserError` where they are
        not those that made it, or the state is damaged.
        """
        snapshot = Snapshot.unpack(state)
        stream = cls.__new__(cls)
        stream._open_at(snapshot.engines(codec, generators, music), snapshot.options,
                        snapshot.chain, snapshot.steering, snapshot.playback, chunk)
        stream._transposer.restore(snapshot.transposer)
        return stream


def _check_variation(varied: Variation, source, samples: int | None) -> tuple[GivenState, int]:
    """The codes that a stream keeps, and its length."""
    codes = check_codes(f"the codes of level {varied.level}", varied.codes, source.num_codes,
                        source.books)
    length = len(codes) * varied.level
    if samples is not None and samples > length:
        raise UserError(f"{samples} samples are asked for, but the piece that is varied has "
                        f"{length}")
    return (GivenState(level=varied.level, codes=codes[None], end=len(codes)),
            length if samples is None else samples)
