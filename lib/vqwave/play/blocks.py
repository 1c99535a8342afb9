"""What happens to a block of sound after the decoder: repetition, leveling, transposition, gain."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..data.scores import Score
from .controls import QUIETEST
from .mastering import cross_fade
from .prompt import Prompt
from .transpose import Transposer

RAMP = 0.04644
"""Seconds over which the gain moves to a new value."""
SEAM = 0.0929
"""Seconds of the cross-fade at each end of a held passage."""
PASSAGE = 0.3715
"""Seconds of the cross-fade of a jump, at most one block."""


def fade_in(audio: np.ndarray, before: np.ndarray):
    """Cross-fade in place from `before`, float32 [batch, n], to the first n samples of `audio`."""
    for row, old in zip(audio, before, strict=True):
        count = min(len(row), len(old))
        row[:count] = cross_fade(old[:count], row[:count])


@dataclass
class Block:
    """A block: audio float32 [batch, block]; codes, log-probabilities [batch, n, books]."""

    audio: np.ndarray
    codes: dict[int, np.ndarray]
    log_probs: dict[int, np.ndarray] | None

    def cut(self, samples: int) -> "Block":
        """The first `samples` of the block."""
        codes, log_probs = (
            values and {level: x[:, : -(-samples // level)] for level, x in values.items()}
            for values in (self.codes, self.log_probs))
        return Block(self.audio[:, :samples], codes, log_probs)

    def join(self, before: np.ndarray) -> "Block":
        """This block, cross-faded from `before`, float32 [batch, n]."""
        audio = self.audio.copy()
        fade_in(audio, before)
        return Block(audio, self.codes, self.log_probs)


@dataclass
class Gain:
    """A gain in dB, before and now. The gain changes in a ramp at the beginning of a block."""

    before: float = 0.0
    decibel: float = 0.0

    def apply(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """The next block, float32 [batch, n], with the gain applied."""
        before, now = (0.0 if decibel <= QUIETEST else 10 ** (decibel / 20)
                       for decibel in (self.before, self.decibel))
        self.before = self.decibel
        if before == now == 1.0:
            return audio
        ramp = round(RAMP * sample_rate)
        share = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
        gain = np.full(max(ramp, audio.shape[1]), now, np.float32)
        gain[:ramp] = before + (now - before) * share
        return audio * gain[: audio.shape[1]]


LEVELED_TO = -20.0
"""The target of leveling, in dBFS (RMS)."""
LEVELED = 0.8
"""The share of the distance to `LEVELED_TO` that leveling corrects."""
MOST_LEVELED = 10.0
"""The largest gain or attenuation of leveling, in dB."""
MOST_RAISED = 30.0
"""The largest gain of a given score, in dB: few notes are performed quietly."""
REMEMBERED, PRIOR = 8.0, 3.0
"""The time constant of a piece's mean power, in seconds; and the weight of the initial value (the
target), in seconds.
"""
PROMPT_LOUDNESS = -35.0, -12.0
"""The range of the target of a continuation, in dBFS."""
PROMPT_PRIOR, SCORE_PRIOR = 0.5, 0.02
"""The weight of the initial value after a prompt, and in a given score, in seconds."""
LEAST = -45.0
"""Blocks quieter than this, in dBFS, do not count in a piece's loudness."""
PEAK = 0.97
"""The highest peak of a leveled block."""


@dataclass
class Leveler:
    """A slow gain for each piece that moves its loudness towards a target, linear in a block.

    power: float64 [batch], the weighted sum of blocks' mean squares. seconds: float64 [batch], the
    sum of the weights. gain: float32 [batch], the factor at the end of the last block. target: in
    dBFS. most: the largest gain in dB; more than `MOST_LEVELED` raises only what is quiet. begins:
    the first sample of the stream that is leveled, after a prompt.
    """

    power: np.ndarray
    seconds: np.ndarray
    gain: np.ndarray
    target: float
    most: float
    begins: int

    @classmethod
    def start(cls, batch: int, begin: Prompt | Score | None = None) -> "Leveler":
        """The state before the first block of a piece. New music after a prompt gets the loudness
        of the prompt, and a given score is raised further than composed music.
        """
        target, most, begins, prior = LEVELED_TO, MOST_LEVELED, 0, PRIOR
        if isinstance(begin, Score):
            most, prior = MOST_RAISED, SCORE_PRIOR
        elif begin is not None:
            power = float(np.mean(np.square(begin.audio, dtype=np.float64)))
            target = float(np.clip(10 * np.log10(power + 1e-12), *PROMPT_LOUDNESS))
            begins, prior = len(begin.audio), PROMPT_PRIOR
        return cls(np.full(batch, prior * 10 ** (target / 10)), np.full(batch, prior),
                   np.ones(batch, np.float32), target, most, begins)

    def _follow(self, audio: np.ndarray, duration: float) -> np.ndarray:
        """Add the next block to the mean power of each piece. Returns the gain at the block's end
        in dB, float64 [batch]. duration: of the block, in seconds.
        """
        power = np.square(audio, dtype=np.float64).mean(axis=1)
        least = LEAST + MOST_LEVELED - self.most
        sounds, kept = power > 10 ** (least / 10), np.exp(-duration / REMEMBERED)
        self.power = np.where(sounds, kept * self.power + duration * power, self.power)
        self.seconds = np.where(sounds, kept * self.seconds + duration, self.seconds)
        loudness = 10 * np.log10(self.power / self.seconds)
        decibels = np.clip(LEVELED * (self.target - loudness), -MOST_LEVELED, self.most)
        missing = self.target - 10 * np.log10(np.maximum(power, 1e-12))
        return np.minimum(decibels, np.maximum(missing, MOST_LEVELED))

    def apply(self, audio: np.ndarray, sample_rate: int, prompt: bool = False) -> np.ndarray:
        """The next whole block, float32 [batch, block], leveled. In a prompt, only blocks that
        would clip are lowered.
        """
        decibels = 0.0 if prompt else self._follow(audio, audio.shape[1] / sample_rate)
        before, peaks = self.gain, np.abs(audio).max(axis=1, initial=1e-9)
        limits = np.where(peaks > 1, PEAK / peaks, 1.0) if prompt else PEAK / peaks
        self.gain = np.minimum(10 ** (decibels / 20), limits).astype(np.float32)
        places = np.arange(1, audio.shape[1] + 1, dtype=np.float32)

        def ramp(lengths):
            rise = np.minimum(places / lengths[:, None].astype(np.float32), 1)
            return audio * (before[:, None] + (self.gain - before)[:, None] * rise)

        lengths = np.full(len(audio), audio.shape[1])
        leveled = ramp(lengths)
        clips = np.abs(leveled).max(axis=1, initial=0) > 1
        if not clips.any():
            return leveled
        # The gain falls before the first peak, not over the whole block.
        first_peaks = (np.abs(leveled) > PEAK).argmax(axis=1)
        return ramp(np.where(clips, np.maximum(first_peaks, 1), lengths))


@dataclass
class Transport:
    """The state between the chain and the listener. `make` in its methods makes the chain's next
    block.

    blocks: the number of blocks returned. notes_known_from: the first block whose notes are known,
    after a jump, a hold or a transposition. held: how many of the last blocks in `past` repeat;
    loop_index: the index of the next one. resumes_with: the chain's next block, which plays after
    the hold. fading_out: float32 [batch, n], the sound that cross-fades to the next block.
    leveler: None without leveling.
    """

    sample_rate: int
    transposer: Transposer
    leveler: Leveler | None = None
    past: deque[Block] = field(default_factory=deque)
    gain: Gain = field(default_factory=Gain)
    blocks: int = 0
    notes_known_from: int = 0
    held: int = 0
    loop_index: int = 0
    resumes_with: Block | None = None
    fading_out: np.ndarray | None = None

    def hold(self, blocks: int, make: Callable[[], Block]):
        """Repeat the last `blocks` blocks; 0 ends the hold."""
        if self.held:
            self._fade_out(SEAM)
        elif blocks and self.resumes_with is None:
            self.resumes_with = make()
        self.held, self.loop_index = min(blocks, len(self.past)), 0

    def jump(self, make: Callable[[], Block], begin: Prompt | None):
        """Cross-fade from the music that would come next to a new piece. begin: see `Leveler`."""
        if self.blocks:
            self._fade_out(PASSAGE, make)
        if leveler := self.leveler:
            fresh = Leveler.start(1, begin)
            leveler.target, leveler.most, leveler.begins = fresh.target, fresh.most, 0
        self.held, self.resumes_with, self.notes_known_from = 0, None, self.blocks

    def transpose(self, semitones: float):
        """Transpose the sound from the next block on."""
        self.transposer.semitones, self.notes_known_from = semitones, self.blocks

    def _fade_out(self, seconds: float, make: Callable[[], Block] | None = None):
        """Keep the beginning of the next block for a cross-fade to what follows: of the held
        passage if it ends half way, otherwise of the chain (if `make` is given).
        """
        samples = round(seconds * self.sample_rate)
        if self.fading_out is not None:
            return
        if self.held and self.loop_index:
            self.fading_out = self.past[self.loop_index - self.held].audio[:, :samples]
        elif make is not None:
            self.fading_out = (self.resumes_with or make()).audio[:, :samples]

    def next_block(self, samples: int, make: Callable[[], Block]) -> Block:
        """The first `samples` of the next block, as they are heard."""
        block = self._repeat(make)
        if not self.held and samples == block.audio.shape[1]:  # a shorter block is the last
            self.past.append(block)
        audio, rate = block.audio, self.sample_rate
        if self.leveler:
            in_prompt = self.blocks * audio.shape[1] < self.leveler.begins
            audio = self.leveler.apply(audio, rate, in_prompt)
        audio = self.gain.apply(self.transposer.apply(audio[:, :samples]), rate)
        self.blocks += 1
        return Block(audio, block.codes, block.log_probs).cut(samples)

    def _repeat(self, make: Callable[[], Block]) -> Block:
        """The next block of the held passage, or of the chain."""
        if self.held:
            block, first = self.past[self.loop_index - self.held], self.loop_index == 0
            self.notes_known_from = self.blocks + 1
            if first and self.fading_out is None:
                block = block.join(self.resumes_with.audio[:, : round(SEAM * self.sample_rate)])
            self.loop_index = (self.loop_index + 1) % self.held
        else:
            block, self.resumes_with = self.resumes_with or make(), None
        if self.fading_out is not None:
            block, self.fading_out = block.join(self.fading_out), None
        return block
