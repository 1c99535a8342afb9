"""The controls: every number that a listener can change while a stream plays."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.form import TEMPI
from ..errors import UserError, check_name
from ..generators import MOST_GUIDANCE
from .edits import Edits

MOST_NOTES = 16
"""Notes that can be held at a time."""
QUIETEST, LOUDEST = -80.0, 12.0
"""The range of loudness in dB; 0 leaves the music as it is made."""
MOST_PAST = 60.0
"""The most seconds that a stream can keep and repeat."""
HIGHEST_PULL = 12.0
"""The largest value, in nats, that held notes add to a code's logit."""
STAY, HIGHEST_STAY = 1.0, 4.0
"""How strongly a continuation keeps to its recording's pitches: default and maximum."""
SLOWEST, FASTEST = 30.0, 200.0
"""The range of a tempo that is set, in beats per minute. Training scores have 60 to 120."""


@dataclass(frozen=True)
class Knob:
    """A MIDI controller that sets a control, from `rest` (controller at 0) to `full` (at 127).
    volume: 40·log10 of the position, in dB, as in General MIDI: −12 dB half way.
    """

    controller: int
    rest: float
    full: float
    volume: bool = False

    def value(self, share: float) -> float:
        """The value at a position from 0 to 1."""
        if not self.volume:
            return self.rest + share * (self.full - self.rest)
        return max(self.rest, self.full + 40 * math.log10(max(share, 1e-9)))


@dataclass(frozen=True)
class Control:
    """A number that a listener changes while music plays, with sliders, keys or MIDI controllers.

    name: the keyword of `Stream.set`. about: a description. step: the change of one key press.
    unit: "" for a share or a factor. sampled: a field of `Sampling`, which each level has for
    itself. keys: for less and for more; a single key switches between 0 and a value.
    score: only weights with a score have the control. slider: the page shows it as
    a plain slider. floor: the smallest value above `least`, if values between them are refused.
    slide: the range of the page's slider, in which music always has notes; None: the whole range.
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
    score: bool = False
    slider: bool = False
    knob: Knob | None = None
    floor: float | None = None
    slide: tuple[float, float] | None = None

    @property
    def bounds(self) -> dict:
        """The keywords of `check_number`."""
        if self.floor is None:
            return {"least": self.least, "most": self.most}
        return {"least": self.floor, "most": self.most, "off": self.least}

    def clip(self, value: float) -> float:
        """The nearest value in range, rounded so that many steps add no rounding errors."""
        least = self.least if self.floor is None or value <= self.least else self.floor
        return round(min(max(value, least), self.most), 6)

    def turned(self, share: float) -> float:
        """The value at a position of its knob from 0 to 1; without a knob the default."""
        return self.default if self.knob is None else self.clip(self.knob.value(share))


CONTROLS = {control.name: control for control in (
    Control("temperature", "how freely codes are drawn: below 1 is safer, above 1 is wilder",
            0.0, 4.0, 1.0, 0.05, sampled=True, keys="tT", knob=Knob(1, 1.0, 1.5),
            slide=(0.5, 1.5)),
    Control("top_p", "draw only from the likeliest codes that together reach this probability",
            0.05, 1.0, 1.0, 0.05, sampled=True, keys="pP", slide=(0.5, 1.0)),
    Control("guidance", "how strongly the music follows its label; 1 is as trained",
            1.0, MOST_GUIDANCE, 1.0, 0.5, sampled=True, keys="gG"),
    Control("loudness", "louder or softer; 0 is as the music is made",
            QUIETEST, LOUDEST, 0.0, 2.0, "dB", keys="-+", knob=Knob(7, QUIETEST, 0.0, volume=True)),
    Control("transpose", "higher or lower, at the same tempo",
            -12.0, 12.0, 0.0, 1.0, "semitones", keys="[]", slider=True),
    Control("hold", "repeat the last seconds of sound; 0 stops the repetition",
            0.0, MOST_PAST, 0.0, 0.5, "s", keys="h"),
    Control("freeze", "repeat the codes of the last seconds of a level, of the top one unless "
                      "another is named; finer levels continue",
            0.0, MOST_PAST, 0.0, 0.5, "s", keys="f"),
    Control("mutate", "the share of the frozen codes that are drawn again in each repetition",
            0.0, 1.0, 0.0, 0.05, keys="mM", slider=True, knob=Knob(71, 0.0, 1.0)),
    Control("pull", "how strongly held notes pull the music towards them",
            0.0, HIGHEST_PULL, 3.0, 1.0, "nats", keys="nN", slider=True,
            knob=Knob(74, 0.0, 6.0)),
    Control("tempo", f"tempo of the score in beats per minute, from {SLOWEST:g} to {FASTEST:g}; "
                     f"0: drawn from the tempi of the training tracks, or as in a given recording "
                     f"or score",
            0.0, FASTEST, 0.0, 4.0, "bpm", keys="cC", score=True, slider=True, floor=SLOWEST,
            slide=(50.0, 180.0)),
    Control("density", "how many notes the score has: 0.5 is fewer, 2 is more, 1 about "
                       "as many as in the training tracks",
            0.25, 3.0, 1.0, 0.25, keys="dD", score=True, slider=True, slide=(0.75, 2.5)),
    Control("stay", "how strongly a continuation keeps to the pitches of its recording; half as "
                    "strongly every minute", 0.0, HIGHEST_STAY, STAY, 0.25, keys="sS"),
)}
"""The controls by name, for the studio, the terminal, MIDI and session files. No two have the same
key, nor one of `keys.TAKEN`.
"""
MOODS: dict[str, dict[str, Any]] = {
    "fast": {"tempo": TEMPI[1]}, "slow": {"tempo": TEMPI[0]},
    "dense": {"density": 1.3}, "sparse": {"density": 0.7},
    "major": {"key": "major"}, "minor": {"key": "minor"},
    "loud": {"label": "loud"}, "soft": {"label": "soft"}}
"""The controls that each word of a mood stands for."""
NO_MOOD: dict[str, Any] = {"key": ""} | {
    name: control.default for name, control in CONTROLS.items() if control.score}
"""The controls of the score without a mood."""
_OF_SCORE = "key", "chords", "section", "edits"
SCORE_CONTROLS = {*(name for name, control in CONTROLS.items() if control.score), *_OF_SCORE}
"""The controls that need weights with a score."""
NAMES = ("sampling", *(name for name, control in CONTROLS.items() if not control.sampled),
         "notes", "label", *_OF_SCORE, "bar", "mood", "jump", "begin", "weights")
"""The keywords of `Stream.set`, which a session can change."""


def read_mood(text) -> dict[str, Any]:
    """The controls that words like "fast,minor" stand for. Raises `UserError` for other words."""
    chosen: dict[str, Any] = {}
    for word in str(text).split(","):
        name = check_name("mood", word.strip().lower(), MOODS)
        if chosen.keys() & MOODS[name].keys():
            raise UserError(f"mood {text}: two of these words set the same control")
        chosen |= MOODS[name]
    return chosen


@dataclass
class Steering:
    """The settings of all levels that a listener changes while the stream plays.

    powers: by level, while notes are held, the power of each pitch class in each code; see
        `pitches.of_codec`.
    key: the share of each pitch class in the key of the score (`harmony.read_key`); empty: any.
    chords: such shares for each bar's chord, joined (`harmony.read_chords`); empty: none.
    section: the request for the score's next section, "new" or "theme"; "" once the section has
        begun.
    edits: of the score that is composed from now on.
    """

    mutate: float = CONTROLS["mutate"].default
    pull: float = CONTROLS["pull"].default
    stay: float = CONTROLS["stay"].default
    tempo: float = CONTROLS["tempo"].default
    density: float = CONTROLS["density"].default
    notes: tuple[int, ...] = ()
    powers: dict[int, np.ndarray] = field(default_factory=dict)
    key: tuple[float, ...] = ()
    chords: tuple[float, ...] = ()
    section: str = ""
    edits: Edits = field(default_factory=Edits)
