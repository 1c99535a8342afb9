"""A chain that plays: the levels from the top down and the decoder make one block after another.

All levels share one grid of blocks. A level samples the level above only as far as its own context
model looks ahead. Context models and decoder always read the same spans of the grid. So the audio
is the same, bit for bit, after every resume.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ..codecs import CodecConfig, Labels
from ..data.scores import Score
from ..errors import UserError
from ..generators import Sampling
from ..levels import SCORE, level_name
from . import marks, pitches
from .blocks import Block, fade_in
from .controls import Steering
from .decoder import Decoder, DecoderState, Sound, SoundState, Workers
from .labels import BEATS_OF_FADE, CROSS_FADE, known_labels, labels_of_section
from .level import LEAST_SOURCE, BufferState, CodeBuffer, Level, LevelState
from .prompt import JOIN, Prompt, Variation, check_codes, check_prompt
from .score import ScoreLevel, ScoreState, opening_score


@dataclass(frozen=True)
class Engines:
    """The engines of a chain: a `CodecEngine` and, from the top down, the `GeneratorEngine`s.

    sounds: by level, the codecs of the levels whose sound a generator reads. music: the `VQWave`
    that made the engines, or None. label: see `choose_labels`. sampling: see `choose_sampling`.
    """

    codec: Any
    generators: Sequence
    sounds: Mapping[int, Any] = field(default_factory=dict)
    music: Any = None
    label: np.ndarray | None = None
    sampling: Mapping[str, Sampling] = field(default_factory=dict)

    @property
    def parts(self) -> list:
        """All engines: the codec that decodes, the generators, the other codecs."""
        return [self.codec, *self.generators, *self.sounds.values()]

    @classmethod
    def of_parts(cls, parts: Sequence, music, state: "ChainState") -> Self:
        """The inverse of `parts`. state: of the chain that plays."""
        codec, *others = parts
        sounds = {x.config.level: x for x in others if isinstance(x.config, CodecConfig)}
        generators = others[: len(others) - len(sounds)]
        return cls(codec, generators, sounds, music, state.label,
                   {level_name(generator.config.level): level.sampling
                    for generator, level in zip(generators, state.levels, strict=True)})

    @property
    def configs(self) -> list:
        """The generators' configs."""
        return [g.config for g in self.generators]

    @property
    def sample_rate(self) -> int:
        return self.codec.config.sample_rate

    @property
    def has_score(self) -> bool:
        """Whether one of the levels is a score."""
        return SCORE in [config.level for config in self.configs]

    @property
    def labels(self) -> Labels:
        """The labels that the chain knows."""
        return known_labels(self.configs)


@dataclass(frozen=True)
class Options:
    """The settings that never change during a stream; see the arguments of `Stream`."""

    block: int
    batch: int | None = None
    log_probs: bool = False
    past: float = 0.0
    samples: int | None = None
    ahead: float | None = None
    intro: bool = True
    runs_ahead: bool = True


@dataclass(kw_only=True)
class ChainState:
    """The state of a chain between two blocks.

    Attributes:
        label: the labels that sections of the score draw from, see `labels_of_section`; or None.
        section: the number of the section whose labels sound.
        levels: of the generators, from the top down.
        source: a variation's kept codes, which the first generator reads as the level above.
        sounds: of the levels whose sound a generator reads, from the top down. decoder: of the
            bottom level.
        runs_ahead: sampling is one block ahead of decoding: with `Options.runs_ahead`, from the
            second block on.
        original: float32 [prompt_samples], the recording that replaces decoded codes; then None.
    """

    seed: int
    label: np.ndarray | None
    levels: list[ScoreState | LevelState]
    section: int = 0
    source: BufferState | None = None
    prompt_samples: int = 0
    sounds: list[SoundState] = field(default_factory=list)
    decoder: DecoderState = field(default_factory=DecoderState)
    runs_ahead: bool = False
    original: np.ndarray | None = None


def start_chain(engines: Engines, options: Options, seed: int,
                begin: Prompt | Variation | Score | None = None, skip: bool = False
                ) -> ChainState:
    """The state of a chain before its first block. skip: a prompt of whole blocks is not played.
    """
    rate, configs, batch = engines.sample_rate, engines.configs, options.batch or 1
    state = ChainState(seed=seed, label=engines.label, levels=[])
    label = labels_of_section(engines.labels, state.label, seed, 0)
    opening: dict[int, dict] = {}  # by level, values of its state
    score = begin if isinstance(begin, Score) else None
    if isinstance(begin, Variation):
        above = configs[0].source or engines.sounds[configs[0].source_level].config
        kept = check_codes(begin.codes, above)
        state.source = BufferState(codes=np.repeat(kept[None], batch, axis=0))
    elif isinstance(begin, Prompt):
        score = begin.score
        for level, codes in check_prompt(begin.codes, configs).items():
            state.prompt_samples = len(codes) * level
            powers = begin.pitches.get(level)
            opening[level] = {"prompt": codes, "home": None if powers is None else (
                pitches.PitchAnchor.of(powers, codes, pitches.FADES * rate / level))}
        if skip:
            state.decoder.blocks = state.prompt_samples // options.block
        elif begin.keep_original:
            if np.shape(begin.audio) != (state.prompt_samples,):
                raise UserError(f"the prompt's audio is {list(np.shape(begin.audio))}; its codes "
                                f"last {state.prompt_samples} samples")
            state.original = np.asarray(begin.audio, np.float32)
    for generator in engines.generators:
        config, kind = generator.config, LevelState
        if config.level == SCORE:
            kind, opening[SCORE] = ScoreState, opening_score(
                score, batch, config.books, rate, recorded=isinstance(begin, Prompt),
                intro=options.intro)
        state.levels.append(kind.start(
            generator, batch, engines.sampling[level_name(config.level)], label, options.log_probs,
            **opening.get(config.level, {})))
        if config.hears:
            state.sounds.append(SoundState(codes=np.zeros((batch, 0, 1), np.float32)))
    return state


class Chain:
    """The levels and the decoder of a stream. `next_block` makes the blocks in order.

    The stream shares its `steering` and `workers`.

    Attributes:
        buffers: by level, from the top down: the levels that are generated, below a variation's
            kept level. sounds: those of sound. levels: those that are generated.
        score: the level of the score, or None. bottom: the level that is decoded.
    """

    def __init__(self, engines: Engines, options: Options, state: ChainState, steering: Steering,
                 workers: Workers):
        self.options, self.state, self.workers = options, state, workers
        self.sample_rate, self.labels = engines.sample_rate, engines.labels
        self.buffers: dict[int, CodeBuffer] = {}
        if state.source:
            end = state.source.first + state.source.codes.shape[1]
            level = engines.configs[0].source_level
            self.buffers[level] = CodeBuffer(level, options.block, state.source, end)
        self.levels: list[Level] = []
        sounds = iter(state.sounds)
        for generator, level_state in zip(engines.generators, state.levels, strict=True):
            sound, config = None, generator.config
            if config.hears:
                above = config.source_level
                sound = Sound(Decoder(engines.sounds[above], self.buffers[above], next(sounds),
                                      workers))
            self.levels.append(self._build_level(generator, level_state, steering, sound))
            self.buffers[config.level] = self.levels[-1]
        self.score: Any = self.buffers.get(SCORE)
        self.sounds = [buffer for buffer in self.buffers.values() if buffer is not self.score]
        self.bottom = self.levels[-1]
        self._last: float = math.inf  # the bottom level is sampled before this position only
        self._followed: np.ndarray | None = None  # the labels that sections draw from
        self._outdated = False  # see `compose_again`
        self.decoder = Decoder(engines.codec, self.bottom, state.decoder, workers, options.ahead)

    def _build_level(self, generator, state: Any, steering: Steering, sound: Sound | None) -> Level:
        options, seed, size = self.options, self.state.seed, generator.config.level
        if size == SCORE:
            return ScoreLevel(generator, state, seed, steering, self.sample_rate, self.labels,
                              self._labels_of)
        least = LEAST_SOURCE
        if (above := generator.config.source_level) and options.ahead is not None:
            least = min(least, max(1, round(options.ahead * self.sample_rate / above)))
        return Level(generator, self.buffers, state, seed, options.block, steering, least,
                     kept=round(options.past * self.sample_rate / size), sound=sound)

    @property
    def first_open(self) -> int:
        """The first step of the score that a change still reaches."""
        return marks.first_open(self.score, self._performed)

    @property
    def next_bar(self) -> int | None:
        """See `marks.next_bar`."""
        return marks.next_bar(self.score, self._performed)

    @property
    def _performed(self) -> int:
        """The sample up to which the score is performed."""
        return max(x.stop * x.level for x in self.levels if x.reads_score)

    def land(self):
        """Let the changes that follow begin with the score's next bar, or with what is not
        composed.
        """
        self.update()
        if self.score:
            bar = self.next_bar
            self.score.state.landed = self.score.stop if bar is None else bar

    def compose_again(self):
        """Compose again, before the next block, the steps that no frame is performed of."""
        self._outdated = self.score is not None

    def update(self):
        """Compose again what changes need, see `compose_again`."""
        if not self._outdated:
            return
        self._outdated = False
        marks.compose_again(self.score, self.first_open)
        for level in self.levels:
            if level.reads_score:
                level.forget_context()

    def set_sampling(self, sampling: Mapping[str, Sampling]):
        """Change the sampling from each level's next block on."""
        for level in self.levels:
            level.set_sampling(sampling[level_name(level.level)])

    def _follow_label(self):
        """Cross-fade to the labels of the section that is composed, where they differ."""
        state, section = self.state, self.score.state.section if self.score else 0
        if state.label is None or (state.section == section and self._followed is state.label):
            return
        shares, seconds = self._labels_of(section), CROSS_FADE
        if self.score and state.section != section:
            seconds = BEATS_OF_FADE * 60 / self.score.tempo
        state.section, self._followed = section, state.label
        for level in self.levels:
            if level.state.labels and (shares != level.state.labels.after).any():
                frames = round(seconds * self.sample_rate / level.level)
                level.state.labels = level.state.labels.fade_to(shares, level.stop, frames)

    def _labels_of(self, section: int) -> np.ndarray | None:
        """See `labels_of_section`."""
        return labels_of_section(self.labels, self.state.label, self.state.seed, section)

    def freeze(self, seconds: Mapping[int, float]):
        """Repeat the last `seconds` of each named level's codes; 0 ends the repetition."""
        for level in self.levels:
            if (span := seconds.get(level.level)) is not None:
                level.freeze(max(1, round(span * self.sample_rate / level.level)) if span else 0)

    def next_block(self, blocks_left: int | None) -> Block:
        """The next block. blocks_left: the number of blocks before the end, None: endless."""
        state, bottom = self.state, self.bottom
        self.update()
        self._follow_label()
        last = (math.inf if blocks_left is None
                else self.decoder.needed + (blocks_left - 1) * bottom.per_block)
        self._last = min(last, bottom.end)
        audio = self._advance()
        if state.original is not None:
            self._lay_original(audio)
        # At the end of a variation the decoder returns less than a block.
        audio = np.pad(audio, ((0, 0), (0, self.options.block - audio.shape[1])))
        codes = {x.level: x.block_of(state.decoder.blocks, 0) for x in self.sounds}
        log_probs = {x.level: x.block_of(state.decoder.blocks, np.nan, x.state.log_probs)
                     for x in self.sounds if x.state.log_probs is not None}
        self.decoder.forget()
        begin = state.decoder.blocks * self.options.block
        if begin >= state.prompt_samples:
            state.original = None
        # Forget codes that nothing will read: neither a decoder, nor the context of a later block.
        for buffer in self.buffers.values():
            buffer.forget(min(begin, buffer.read_from))
        return Block(audio, codes, log_probs if self.options.log_probs else None)

    def _advance(self) -> np.ndarray:
        """Decode the next block: float32 [batch, block]."""
        while self.bottom.stop < min(self.decoder.needed, self._last):
            self._sample()
        if self.state.runs_ahead:
            return self._sample(decode=True)
        # The first block is decoded at once. With `runs_ahead`, sampling is one block ahead from
        # the second on, so sampling and decoding use two cores.
        self.state.runs_ahead = self.options.runs_ahead
        return self.decoder.finish(self.decoder.start())

    def _sample(self, decode: bool = False) -> np.ndarray | None:
        """Sample the bottom level's next block. Meanwhile workers compute the context of the
        following block and, with `decode`, decode the next block of sound, which is returned:
        float32 [batch, block].
        """
        bottom, block = self.bottom, self.bottom.blocks
        needed, next_context = block * bottom.per_block < self._last, None
        # A score is composed in `context`, in this thread. The decoder works meanwhile.
        decoding = self.decoder.start() if decode and not bottom.source else []
        if needed:
            context = bottom.context(block)
            # This context is one long job, so it starts before the decoder's short jobs.
            if bottom.source and (block + 1) * bottom.per_block < self._last:
                next_context = self.workers.start(bottom.context, block + 1)
        if decode and bottom.source:
            decoding = self.decoder.start()
        if needed:
            bottom.sample(context)
        audio = self.decoder.finish(decoding) if decode else None
        if next_context:
            next_context()
        return audio

    def _lay_original(self, audio: np.ndarray):
        """Replace the next block, [batch, block], by the recording. At the end of the recording,
        cross-fade to the decoded codes.
        """
        block, end = self.options.block, self.state.prompt_samples
        begin = self.state.decoder.blocks * block
        # The cross-fade lies within one block, so earlier blocks do not depend on it.
        fade = max(end - round(JOIN * self.sample_rate), (end - 1) // block * block) - begin
        heard = self.state.original[begin : begin + block]
        clear = min(max(fade, 0), len(heard))
        audio[:, :clear] = heard[:clear]
        if clear < len(heard):
            fade_in(audio[:, clear:], np.tile(heard[clear:], (len(audio), 1)))
