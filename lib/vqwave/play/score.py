"""The score of a stream: a level that composes beat by beat, ahead of the level that performs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..codecs import Labels
from ..data import form, melody
from ..data.scores import Score, loudness_rows
from ..dsp import beats
from ..dsp.beats import STEPS_PER_BEAT
from ..dsp.transcription import LOUDNESSES
from ..generators import ScoreAbove
from ..generators.composer import BANDS, SILENT, SOUNDING, STRUCK, VELOCITIES
from . import pitches, spreads
from .controls import Steering
from .edits import redraw
from .harmony import key_bias
from .level import Level, LevelState
from .marks import Mark
from .sampling import DENSITY_DRAW, LOUDNESS_DRAW, PLAN_DRAW, TEMPO_DRAW, uniforms

UPBEAT = 8
"""Beats that are composed but not heard, so that a piece does not begin with an opening."""
LONGEST_UPBEAT = 64
SOON = 2
"""A piece begins with a note after which another note begins within so many beats."""
KEPT = 1800
"""Seconds of the score that are kept, so that a theme can return."""
BEATS_PER_BAR = 4
"""Sections last whole bars of so many beats, unless the next section was requested."""
SECTION_BEATS = 16, 16, 32
"""The lengths of a section in beats, drawn with equal probability."""
RECALL = 3.0
"""The bias, in nats, towards the codes of the section that is repeated."""
SECTION_DENSITIES = 0.6, 1.5
"""The range of a section's density, a random factor of the expected number of strikes. That number
is the mean of the training scores, times the density that is set.
"""
DENSITY = 0.5, 1.3
"""The governor keeps the strikes of the last `GOVERNED` steps in this range, as a factor of the
expected number.
"""
DENSITY_IN_CHORDS = 0.8
"""The lower end of this range while chords leave few notes to choose from."""
GOVERNED = 48
GOVERNOR = 4.0
MOST_PUSHED = 2.0
"""The governor's largest bias on strikes, in nats. A larger bias would strike all notes at once."""
LEAST_ATTACKS = 0.5
"""The governor keeps the attacks of the last `ATTACKED` steps above this factor of the expected
number of strikes, at any density. Notes without attacks are performed too quietly to be heard.
"""
ATTACKED = 16
ATTACKS_BY_DENSITY = 0.5
"""The exponent with which the density changes the odds of attacks."""
SAFEST = 0.7
"""A low temperature makes strikes rarer, because each is less likely than none. So the governor's
largest bias is divided by the temperature, but at most by 1 and at least by this value.
"""
COLDEST = 0.05
"""The least temperature for which the bias of `ScoreLevel._temperature_correction` is computed."""
MOST_SHARE = 0.2
"""The largest share of one semitone in the strikes of the last `WATCHED` steps, before a penalty.
Without the penalty a score soon repeats one or two notes (the "tunnels" of Pachet 2026).
"""
WATCHED = 64
OVERUSE = 3.0
SUSTAINED = 22
"""The age, in frames of the performer, that a note keeps while it sounds on. Old notes of training
music have faded, so a long note would fade by 15 dB.
"""
HOME = 0.6
"""The weight of a recording's pitches in the score that continues it, times `stay`."""
WITHOUT_LOUDNESS = np.minimum(np.arange(STRUCK + LOUDNESSES), STRUCK)
"""Each code as that of the softest strike, if it is a strike."""
BANNED = 1e9
"""The penalty, in nats, of a strike that completes a run of notes of a training track."""

NO_LOUDNESS = np.zeros((0, ScoreAbove.LOUDNESS_BANDS), np.float32)


@dataclass(kw_only=True)
class ScoreState(LevelState):
    """The state of the score level between two blocks.

    edited: int32 [batch, n, books], the codes with the edits of `Steering`, which are performed.
    redrawn: int32 [batch, m, books], the next steps of `edited` where beats are drawn again.
    times: int64 [n + 1], the first sample of each step in `codes`, and the end of the last step.
    tempo: the drawn tempo, beats per minute. sections: the first steps of the sections with new
    music. theme: the first step of the repeated section; −1 in a new section. began, until: the
    first step of this section, and the step after its last. grid: int64 [n + 1], the times of a
    prompt's steps. recorded: they are times of a recording, which no tempo changes. line: int64
    [batch, `melody.ORDER`, 2], (step, book) of the last notes of the top line, −1 before the first
    note. loudness: float32 [batch, beats + 1, `ScoreAbove.LOUDNESS_BANDS`], at the beats of `codes`
    and at their end, in dBFS. heard: float32 [beats, bands], that of a prompt's beats. marks: of
    the last beats, some steps of which are not performed yet. landed: the first step of the last
    bar at which a change began.
    """

    edited: np.ndarray = field(default_factory=lambda: np.zeros((1, 0, 1), np.int32))
    redrawn: np.ndarray = field(default_factory=lambda: np.zeros((1, 0, 1), np.int32))
    times: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    tempo: float = 0.0
    sections: list[int] = field(default_factory=list)
    theme: int = -1
    began: int = 0
    until: int = 0
    grid: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    recorded: bool = False
    line: np.ndarray = field(default_factory=lambda: np.full((1, melody.ORDER, 2), -1))
    loudness: np.ndarray = field(default_factory=lambda: NO_LOUDNESS[None].copy())
    heard: np.ndarray = field(default_factory=NO_LOUDNESS.copy)
    marks: list[Mark] = field(default_factory=list)
    landed: int = 0

    @property
    def section(self) -> int:
        """The number of this section's music, from 0; a return has the number of its theme."""
        if self.theme >= 0:
            return self.sections.index(self.theme)
        return max(0, len(self.sections) - 1)


def opening_score(prompt: Score | None, batch: int, books: int, sample_rate: int, *,
                  recorded: bool, intro: bool) -> dict[str, Any]:
    """The values of a `ScoreState` with which a piece begins. prompt: a score that the piece
    continues. recorded: whether the piece begins with the recording of this score. intro: keep the
    beats before the first sound of a score that is not recorded.
    """
    empty = np.empty((batch, 0, books), np.int32)
    values = {"edited": empty, "redrawn": empty, "line": np.full((batch, melody.ORDER, 2), -1),
              "loudness": np.zeros((batch, *NO_LOUDNESS.shape), np.float32)}
    if prompt is None or len(prompt.beats) <= 2:
        return values
    codes = prompt.in_steps(books)
    sounding = np.flatnonzero((codes != SILENT).any(-1))
    rest = 0 if recorded or intro else sounding.min(initial=len(codes))
    first = rest - rest % STEPS_PER_BEAT
    # New music follows the last sound at once: the beats go on after the prompt's end.
    codes = codes[first : sounding.max(initial=-1) + 1]
    grid = np.rint(beats.steps(prompt.beats) * sample_rate).astype(np.int64)[first:]
    grid -= grid[0] if first else 0
    half = pitches.FADES * prompt.tempo / 60 * STEPS_PER_BEAT
    if prompt.band_loudness is not None:
        values["heard"] = prompt.band_loudness[first // STEPS_PER_BEAT :]
    return values | {
        "prompt": codes, "recorded": recorded, "grid": grid, "times": grid[:1].copy(),
        "tempo": prompt.tempo, "home": pitches.PitchAnchor(home_scores(codes), len(codes), half)}


def class_of_books(books: int) -> np.ndarray:
    """The pitch class of each semitone's book, 0 for C: int [books - BANDS]."""
    return (np.arange(books - BANDS) + ScoreAbove.LOWEST) % 12


def home_scores(codes: np.ndarray) -> np.ndarray:
    """The scores of `PitchAnchor` for the codes [n, books] of a recording. A strike of pitch class
    k has `HOME` (ln p_k - Σ p ln p), where p is `pitches.distribution` of the recording's strikes.
    Subtracting the mean keeps the density of notes.
    """
    scores = np.zeros((codes.shape[1], STRUCK + LOUDNESSES), np.float32)
    classes, strikes = class_of_books(len(scores)), (codes[:, :-BANDS] >= STRUCK).sum(0)
    share = pitches.distribution(np.bincount(classes, strikes, 12))
    scores[:-BANDS, STRUCK:] = (HOME * (np.log(share) - share @ np.log(share)))[classes, None]
    return scores


class ScoreLevel(Level):
    """The level that composes the score. Its positions are steps of a quarter of a beat. All pieces
    of a batch share the tempo and the plan of sections.

    sample_rate: the rate of `times`. chain_labels: see `known_labels`. Where they are parts,
    sections have their registers and their loudness. labels_of: the labels of a section by its
    number, as `read_labels` returns them, or None.
    """

    state: ScoreState
    steps_per_bar = BEATS_PER_BAR * STEPS_PER_BEAT

    def __init__(self, generator, state: ScoreState, seed: int, steering: Steering,
                 sample_rate: int, chain_labels: Labels,
                 labels_of: Callable[[int], np.ndarray | None]):
        super().__init__(generator, {}, state, seed, generator.config.level * STEPS_PER_BEAT,
                         steering)
        self.sample_rate, self.labels_of = sample_rate, labels_of
        self.spreads = spreads.of_chain(generator.corpus, chain_labels)
        self.loudness = spreads.shares_of_loudness(generator.corpus)
        self.swells = spreads.Swells(generator.corpus, chain_labels)
        self.section_labels: np.ndarray | None = None
        self.redrawing = 0  # 1 + the number of the beats that are drawn again
        self.kept = state.codes[:, :0]  # the first steps of the next beat; see `compose_again`

    def _begin(self):
        """Draw the tempo, and compose the upbeat. Not called after a prompt."""
        state = self.state
        tempi = self.generator.corpus["tempi"].astype(float)
        state.tempo = float(np.quantile(tempi, self._draw(TEMPO_DRAW, 0)))
        while True:
            self.sample(None)
            begin = STEPS_PER_BEAT * (self.blocks - 1 - SOON)
            struck = (state.codes[0, max(0, begin) :] >= STRUCK).any(-1)
            first, later = struck[:STEPS_PER_BEAT], struck[STEPS_PER_BEAT:]
            if self.blocks >= UPBEAT + SOON and (first.any() and later.any()
                                                 or self.blocks > LONGEST_UPBEAT):
                break
        state.times = state.times - state.times[begin + first.argmax()]
        # A return begins with what was heard.
        state.sections = [max(start, begin) for start in state.sections]
        state.marks = [mark for mark in state.marks if mark.start >= begin]
        for plan in (state, *state.marks):
            if plan.theme >= 0:
                plan.theme = max(plan.theme, begin)

    @property
    def settled(self) -> int:
        return self.state.marks[0].start if self.state.marks else self.stop

    @property
    def last_sample(self) -> int:
        """The end of the composed score."""
        return int(self.state.times[-1])

    @property
    def tempo(self) -> float:
        """In beats per minute; 0 before the piece begins."""
        return self.steering.tempo or self.state.tempo

    def _draw(self, stream: int, number: int) -> float:
        return float(uniforms(self.seed, 0, self.level, number, 1, stream)[0])

    def compose(self, sample: int):
        """Compose at least up to a sample of the music."""
        if not self.state.tempo:
            self._begin()
        while self.state.times[-1] < sample:
            self.sample(None)

    def sample(self, context):
        """Compose one beat. Steps of a prompt or of a frozen loop are taken as they are."""
        state, start, begins = self.state, self.stop, not self.state.loudness.shape[1]
        kept = state.edited.shape[1] - state.codes.shape[1]
        state.marks.append(Mark.of(self))
        self._plan()
        self.section_labels = self.labels_of(state.section)
        if begins:
            self._add_loudness(start // STEPS_PER_BEAT)
        redraw(self)
        super().sample(context)
        codes = state.codes[:, -STEPS_PER_BEAT:]
        if state.redrawn.shape[1]:
            codes, state.redrawn = np.split(state.redrawn, [STEPS_PER_BEAT], axis=1)
        state.edited = np.concatenate([state.edited, self.steering.edits.apply(
            codes[:, kept:], state.edited, start + kept)], axis=1)
        if not kept:
            self._add_loudness(start // STEPS_PER_BEAT + 1)
        tempo = self.tempo
        step = 60 * self.sample_rate / tempo / STEPS_PER_BEAT
        beat = step * np.arange(STEPS_PER_BEAT + 1)
        if start + STEPS_PER_BEAT < len(state.grid):
            slower = 1 if state.recorded else state.tempo / tempo
            grid = slower * state.grid[start : start + STEPS_PER_BEAT + 1]
            beat = grid - grid[0]
            if begins:
                state.times = np.rint(grid[:1]).astype(np.int64)
        beat = np.rint(beat).astype(np.int64)
        state.times = np.concatenate([state.times, state.times[-1] + beat[kept + 1 :] - beat[kept]])

    def _uniforms(self, book: int, books: int) -> np.ndarray:
        return super()._uniforms(book + self.redrawing * (self.books + 1), books)

    def _add_loudness(self, beat: int):
        """Add the loudness at a beat: of a prompt, or of the section."""
        state, chance = self.state, self._draw(LOUDNESS_DRAW, self.state.section)
        rows = [state.heard[beat] if beat < len(state.heard) else self.swells.loudness(
                    None if self.section_labels is None else self.section_labels[piece], chance,
                    beat - state.began // STEPS_PER_BEAT) for piece in range(self.batch)]
        state.loudness = np.concatenate([state.loudness, np.stack(rows)[:, None]], axis=1)

    def _draw_block(self, context, draws, forced):
        """Sample each step of each piece alone, because each has its own bias."""
        state, start, steps = self.state, self.stop, []
        if forced is None:
            forced = np.full_like(draws, -1, np.int32)
        if not self.redrawing:
            forced[:, : self.kept.shape[1]] = self.kept
        for step in range(STEPS_PER_BEAT):
            now = slice(step, step + 1)
            rows = [self.generator.sample(
                        None, draws[piece : piece + 1, now], state.previous[piece : piece + 1],
                        [x[piece : piece + 1] for x in state.memory], state.sampling,
                        forced[piece : piece + 1, now], state.log_probs is not None,
                        bias=self._bias(piece, start + step, forced[piece, step] < 0))
                    for piece in range(self.batch)]
            codes, log_probs, memory = zip(*rows, strict=True)
            frames = np.concatenate(codes)
            steps.append((frames, None if state.log_probs is None else np.concatenate(log_probs)))
            state.previous = frames[:, -1]
            for piece, frame in enumerate(frames):
                for _, book in zip(*melody.top_line(frame), strict=True):
                    note = [[start + step, book]]
                    state.line[piece] = np.concatenate([state.line[piece, 1:], note])
            state.memory = [np.concatenate(parts) for parts in zip(*memory, strict=True)]
        frames, log_probs = zip(*steps, strict=True)
        return (np.concatenate(frames, axis=1),
                None if state.log_probs is None else np.concatenate(log_probs, axis=1))

    def _plan(self):
        """At the end of a section, draw the next one: new music, or an earlier section."""
        state, steering, number = self.state, self.steering, 3 * self.blocks
        beats_drawn = SECTION_BEATS[int(len(SECTION_BEATS) * self._draw(PLAN_DRAW, number))]
        length = STEPS_PER_BEAT * beats_drawn
        earlier = [first for first in state.sections
                   if first >= state.first and first + length <= self.stop]
        request = steering.section if earlier or steering.section != "theme" else ""
        if self.stop < state.until and not request:
            return
        if request:  # a theme that is not old enough stays requested
            steering.section = ""
        returns = self._draw(PLAN_DRAW, number + 1) < self.generator.corpus["returns"][0]
        choice = int(len(earlier) * self._draw(PLAN_DRAW, number + 2))
        if earlier and (request == "theme" or (returns and not request)):
            state.theme = earlier[0 if request else choice]
        else:
            state.theme = -1
            state.sections.append(self.stop)
        state.began, state.until = self.stop, self.stop + length

    def _section_density(self) -> float:
        """The density of the section, log-uniform in its range. A return has that of its theme."""
        least, most = SECTION_DENSITIES
        return least * (most / least) ** self._draw(DENSITY_DRAW, self.state.section)

    def _governed(self, struck: np.ndarray, steps: int, expected: float, least: float, most: float
                  ) -> float:
        """The bias on strikes, in nats, that moves their number in a step into the range from
        `least` to `most`. struck: bool [n, books], of which the last `steps` count; missing steps
        count with the expected number of strikes.
        """
        recent = struck[-steps:]
        rate = (recent.sum() + expected * (steps - len(recent))) / steps
        push = GOVERNOR * np.log(np.clip(rate, least, most) / max(rate, expected / steps))
        return min(push, MOST_PUSHED / np.clip(self.state.sampling.temperature, SAFEST, 1))

    def _temperature_correction(self) -> float:
        """The bias on strikes, in nats: -T ln Σ q_k^(1/T), with the temperature T and the share q_k
        of each loudness. With it, strikes are as likely as if they had one code. It is 0 for T = 1.
        """
        temperature = max(self.state.sampling.temperature, COLDEST)
        return -temperature * np.log(np.sum(self.loudness ** (1 / temperature)))

    def _key(self, step: int) -> tuple[float, ...]:
        """The shares of the pitch classes at a step: in the bar's chord, else in the key."""
        key, chords = self.steering.key, self.steering.chords
        bar = (step - self.state.began) // (BEATS_PER_BAR * STEPS_PER_BEAT)
        first = 12 * bar % len(chords) if chords else 0
        return chords[first : first + 12] or key

    def _bias(self, piece: int, step: int, drawn: np.ndarray) -> np.ndarray:
        """The bias of a piece's logits at a step: float32 [books, codes]. drawn: bool [books]."""
        state, steering = self.state, self.steering
        # The biases of all strikes of a book, and of all strikes of a loudness.
        strikes, louder = np.zeros(self.books, np.float32), np.zeros(LOUDNESSES, np.float32)
        usual = float(self.generator.corpus["strikes"][0])
        density = steering.density * self._section_density()
        expected, log_density = usual * density, np.log(density)
        struck = state.codes[piece, -max(GOVERNED, WATCHED) :] >= STRUCK
        least = DENSITY_IN_CHORDS if steering.chords else DENSITY[0]
        strikes[:-BANDS] = log_density + self._temperature_correction() + self._governed(
            struck[:, :-BANDS], GOVERNED, expected, least * expected, DENSITY[1] * expected)
        strikes[-BANDS:] = ATTACKS_BY_DENSITY * log_density + self._governed(
            struck[:, -BANDS:], ATTACKED, usual, LEAST_ATTACKS * usual, np.inf)
        counts = struck[-WATCHED:, :-BANDS].sum(0)
        share = counts / max(1.0, counts.sum(), expected * WATCHED / 2)
        strikes[:-BANDS] -= OVERUSE * np.log(np.maximum(share / MOST_SHARE, 1.0))
        if key := self._key(step):
            classes = class_of_books(self.books)
            by_class = np.bincount(classes, counts, 12)
            strikes[:-BANDS] += key_bias(key, by_class)[classes]
        if self.spreads and self.section_labels is not None:
            section = state.codes[piece, max(0, state.began - state.first) :][-WATCHED:]
            counts = (section[:, :-BANDS] >= STRUCK).sum(0), form.by_loudness(section).sum(0)
            for total, spread, count in zip((strikes[:-BANDS], louder), self.spreads, counts,
                                            strict=True):
                total += spread.bias(self.section_labels[piece], count)
        bias = np.zeros((self.books, STRUCK + LOUDNESSES), np.float32)
        bias[:, STRUCK:] = strikes[:, None]
        bias[:-BANDS, STRUCK:] += louder
        if (home := self.pitch_bias(step)) is not None:
            bias += home
        place = step - state.began + state.theme - state.first
        if state.theme >= 0 and 0 <= place < state.codes.shape[1]:
            theme = state.codes[piece, place]
            # The core still forbids SOUNDING where no note sounded in the step before.
            # A strike returns at any loudness.
            bias += RECALL * (np.minimum(theme, STRUCK)[:, None] == WITHOUT_LOUDNESS)
        if state.line[piece, 0, 0] >= 0:
            copied = melody.completing(state.line[piece], step, self.books - BANDS,
                                       self.generator.ngrams)
            bias[:-BANDS, STRUCK:][copied & drawn[:-BANDS]] = -BANNED
        return bias

    def in_frames(self, begin: int, count: int, frame: int) -> np.ndarray:
        """The rows of `ScoreAbove` for `count` frames of `frame` samples from sample `begin` on:
        int32 [batch, count, books + 1 + `LOUDNESS_BANDS`].
        """
        self.compose(begin + count * frame)
        state = self.state
        ends = begin + frame * np.arange(1, count + 1)
        steps = np.searchsorted(state.times, ends - 1, "right") - 1
        books = self.books
        rows = np.zeros((self.batch, count, books + 1 + ScoreAbove.LOUDNESS_BANDS), np.int32)
        inside = (steps >= 0) & (steps < state.edited.shape[1])
        rows[:, inside, :books] = self._ages(steps[inside], (ends[inside] - 1) // frame, frame)
        middles = ends - frame / 2
        places = np.interp(middles, state.times, np.arange(len(state.times)) + state.first)
        places = places / STEPS_PER_BEAT
        rows[..., books] = (places % 1 * ScoreAbove.PHASES).astype(int)
        for row, loudness in zip(rows, state.loudness, strict=True):
            row[:, books + 1 :] = loudness_rows(loudness, places - state.first // STEPS_PER_BEAT)
        # The upbeat is silent.
        rows[:, ends <= 0, :books] = SILENT
        return rows

    def _ages(self, steps: np.ndarray, frames: np.ndarray, frame: int) -> np.ndarray:
        """The rows of `ScoreAbove` without the phase: int32 [batch, n, books]. frames: [n], the
        numbers of the frames. steps: [n], the step of each frame.
        """
        codes = self.state.edited[:, : int(steps.max(initial=0)) + 1]
        places = np.where(codes >= STRUCK, np.arange(codes.shape[1])[:, None], -1)
        struck = np.maximum.accumulate(places, axis=1)[:, steps]
        ages = frames[:, None] - self.state.times[np.maximum(struck, 0)] // frame
        sounds = codes[:, steps] > SILENT
        rings = (struck >= 0) & (ages < ScoreAbove.RINGING)
        sounds[..., -BANDS:] = rings[..., -BANDS:]
        loudness = np.maximum(np.take_along_axis(codes, np.maximum(struck, 0), 1) - STRUCK, 0)
        loudness[..., -BANDS:] = 0
        oldest = np.repeat([SUSTAINED, ScoreAbove.OLDEST], [self.books - BANDS, BANDS])
        rows = 1 + np.clip(ages, 0, oldest) + ScoreAbove.AGES * loudness
        return np.where(sounds, rows, 0).astype(np.int32)

    def forget(self, sample: int):
        """Forget the steps before a sample, except those of the last `KEPT` seconds."""
        sample = min(sample, self.last_sample - KEPT * self.sample_rate)
        gone = int(np.searchsorted(self.state.times, sample, "right")) - 1
        gone -= gone % STEPS_PER_BEAT
        if gone > 0:
            self._trim(self.state.first + gone)
            self.state.edited = self.state.edited[:, gone:].copy()
            self.state.times = self.state.times[gone:].copy()
            self.state.loudness = self.state.loudness[:, gone // STEPS_PER_BEAT :].copy()

    def notes(self, begin: int, end: int, piece: int = 0) -> list[tuple[int, int, int, int]]:
        """The notes that are struck in samples begin … end − 1, in order: (first sample, sample
        after the last, MIDI number, velocity) each.
        """
        state, notes = self.state, []
        first, last = np.searchsorted(state.times[:-1], [begin, end])
        for step in range(first, last):
            for book in np.flatnonzero(state.edited[piece, step, :-BANDS] >= STRUCK):
                silent = state.edited[piece, step + 1 :, book] != SOUNDING
                stop = step + 1 + (int(silent.argmax()) if silent.any() else silent.size)
                notes.append((int(state.times[step]), int(state.times[stop]),
                              int(book) + ScoreAbove.LOWEST,
                              VELOCITIES[state.edited[piece, step, book] - STRUCK]))
        return notes
