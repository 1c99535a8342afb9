"""The controls: every number that a player can change while a stream plays."""

import math
from dataclasses import dataclass

from ..config import MOST_GUIDANCE

MOST_NOTES = 16
"""Notes that can be held at a time."""
QUIETEST, LOUDEST = -80.0, 12.0
"""dB that loudness can be set to; 0 leaves the music as it is made."""
MOST_PAST = 60.0
"""Seconds that a stream can keep to repeat."""
HIGHEST_PULL = 12.0
"""Nats by which held notes can make a code likelier, at most."""
STAY, HIGHEST_STAY = 1.0, 4.0
"""How strongly a continuation keeps to its recording's pitches, see `pitches.HomePitches`."""


@dataclass(frozen=True)
class Knob:
    """A controller of a MIDI device that turns a number: from `rest`, at 0, to `full`, at 127.
    volume: in decibels, as in General MIDI: 12 dB softer half way.
    """

    controller: int
    rest: float
    full: float
    volume: bool = False

    def value(self, share: float) -> float:
        """At a share of its way, from 0 to 1."""
        if not self.volume:
            return self.rest + share * (self.full - self.rest)
        return max(self.rest, self.full + 40 * math.log10(max(share, 1e-9)))


@dataclass(frozen=True)
class Control:
    """A number that a player turns while music plays, as sliders, keys and knobs use it.

    name: keyword of `Stream.set`. about: for people. step: of one press of a key. unit: "" of a
    share or a factor. sampled: an option of `Sampling`, which each level has for itself. keys: for
    less and for more; a single key turns it on and off. exact: it holds from the sample that
    `Stream.set` returns; else each level follows from its next block. labels, score: only weights
    trained with these have it. slider: the page shows it as a plain slider.
    """

    name: str
    about: str
    least: float
    most: float
    default: float
    step: float
    unit: str = ""
    sampled: bool = False
    keys: str = ""
    exact: bool = True
    labels: bool = False
    score: bool = False
    slider: bool = False
    knob: Knob | None = None

    def clip(self, value: float) -> float:
        """The nearest value in range, without the rounding errors of many steps."""
        return round(min(max(value, self.least), self.most), 6)

    def turned(self, share: float) -> float:
        """The value at a share of its knob's way; without a knob the default."""
        return self.default if self.knob is None else self.clip(self.knob.value(share))


CONTROLS = {control.name: control for control in (
    Control("temperature", "how freely codes are drawn: below 1 is safer, above 1 is wilder",
            0.0, 4.0, 1.0, 0.05, sampled=True, keys="tT", exact=False, knob=Knob(1, 1.0, 1.5)),
    Control("top_p", "draw only from the likeliest codes that together reach this probability",
            0.05, 1.0, 1.0, 0.05, sampled=True, keys="pP", exact=False),
    Control("guidance", "how strongly the music follows its label; 1 is as trained",
            1.0, MOST_GUIDANCE, 1.0, 0.5, sampled=True, keys="gG", exact=False, labels=True),
    Control("loudness", "louder or softer; 0 is as the music is made",
            QUIETEST, LOUDEST, 0.0, 2.0, "dB", keys="-+", knob=Knob(7, QUIETEST, 0.0, volume=True)),
    Control("transpose", "higher or lower, at the same tempo",
            -12.0, 12.0, 0.0, 1.0, "semitones", keys="[]", slider=True),
    Control("hold", "repeat the last seconds of sound; 0 stops the repetition",
            0.0, MOST_PAST, 0.0, 0.5, "s", keys="h"),
    Control("freeze", "repeat the codes of the last seconds of a level, of the top one unless "
                      "another is named; finer levels go on",
            0.0, MOST_PAST, 0.0, 0.5, "s", keys="f", exact=False),
    Control("mutate", "the share of the frozen codes that each round draws again",
            0.0, 1.0, 0.0, 0.05, keys="mM", exact=False, slider=True, knob=Knob(71, 0.0, 1.0)),
    Control("pull", "how strongly held notes pull the music towards them",
            0.0, HIGHEST_PULL, 3.0, 1.0, "nats", keys="nN", exact=False, slider=True,
            knob=Knob(74, 0.0, 6.0)),
    Control("tempo", "tempo of the score in beats per minute; 0: the tempo that the model "
                     "chooses",
            0.0, 200.0, 0.0, 4.0, "bpm", keys="cC", exact=False, score=True, slider=True),
    Control("density", "how many notes the score has: 0.5 is fewer, 2 is more, 1 as in the "
                       "training music",
            0.25, 3.0, 1.0, 0.25, keys="dD", exact=False, score=True, slider=True),
    Control("stay", "how strongly a continuation keeps to the pitches of its recording; half as "
                    "strongly every minute", 0.0, HIGHEST_STAY, STAY, 0.25, keys="sS", exact=False),
)}
"""Every number that a player can turn: in the studio, a terminal, by MIDI or a file."""
_OF_SCORE = "key", "section"
SCORE = {*(name for name, control in CONTROLS.items() if control.score), *_OF_SCORE}
"""What only weights with a score have."""
NAMES = ("sampling", *(name for name, control in CONTROLS.items() if not control.sampled),
         "notes", "label", *_OF_SCORE, "jump", "begin", "weights")
"""What a session can change: keywords of `Stream.set`."""
