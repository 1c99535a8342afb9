"""Everything that decides a piece, as a form, a link or a page's request says it."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from urllib.parse import urlencode

from ..config import ChainConfig, Sampling, override
from ..errors import UserError
from ..io import files
from ..play.performance import Performance
from ..play.sampling import draw_seed

LONGEST = 4 * 3600.0
"""Seconds of a take that has no end of its own."""
LONGEST_RECORDING = 30 * 60.0
LONGEST_LABEL = 1000
"""Characters of a mixture of labels."""
LARGEST_SEED = 2**53 - 1
"""What a browser can count to."""

NO_RECORDING = "There is no recording yet: drop one in, or choose to make a new piece."
MOST_CHANGES = 12_000
"""Of what plays, that one take remembers: more than an hour has blocks."""
LETTING_GO = ("hold", "freeze", "notes")
"""Of `controls.NAMES`, what holds something until it is told 0, or no notes."""
MODES = ("new", "continue", "vary")
ROLES = ("the course of the piece", "its phrases", "its texture", "its grain")
"""What levels say, from the top of a chain to its bottom."""
ALONE = "the whole of the piece"
"""What the level of a chain of one says."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides a piece. `weights`: a folder that the studio offers, "" its first;
    `epoch` "": the set that ships, else the best; `seconds` None: without an end.

    `chain` are the levels that the folder's chain has, `temperature` a number for each; the levels
    that are not at work have theirs for nothing. `recording` is the id that `Studio.receive` gave,
    `name` the file's name; both are empty in mode "new". `level` is where the music stops, `keep`
    the level that mode "vary" keeps. `label`: one, or several with shares, as `Stream.set` takes
    them; "" for any. `score` is what was changed while it played: (sample, keywords
    of `Stream.set`) each.
    """

    chain: tuple[int, ...]
    level: int
    temperature: tuple[float, ...]
    weights: str = ""
    epoch: str = ""
    seed: int = 0
    seconds: float | None = 30.0
    mode: str = "new"
    recording: str = ""
    name: str = ""
    prompt_start: float = 0.0
    prompt_seconds: float = 5.0
    keep_original: bool = True
    keep: int = 0
    label: str = ""
    score: tuple = ()

    @classmethod
    def parse(cls, given: dict, chain: ChainConfig,
              temperatures: dict[int, float] | None = None) -> Settings:
        """Settings from what a form or a link says; what is left out has its default, no seed draws
        one.

        Args:
            given: temperature is a mapping from level to number, or a number for each level from
                the top down, in a list or with commas between.
            chain: that of the folder of weights; the default of `level` is where it ends.
            temperatures: of levels that `given` leaves out; 1 where nothing is said.

        Raises:
            UserError: names the field and what it may be.
        """
        given = {key: value for key, value in given.items() if value is not None and value != ""}
        mode = given.get("mode", "new")
        if mode not in MODES:
            raise UserError(f"There is no way of making music called {mode!r}; there are "
                            f"{', '.join(MODES)}.")
        level = read_choice(given, "level", chain.sizes, chain.ending, "The level to stop at")
        temperature = given.get("temperature", {})
        if isinstance(temperature, dict):
            temperature = [temperature.get(str(x), (temperatures or {}).get(x, 1.0))
                           for x in chain.sizes]
        if isinstance(temperature, str):
            temperature = temperature.split(",")
        if not isinstance(temperature, list | tuple) or len(temperature) != len(chain.sizes):
            raise UserError(f"There must be {len(chain.sizes)} temperatures, one for each level.")
        endless = str(given.get("seconds", "")) == "endless"
        settings = cls(
            chain=chain.sizes,
            weights=str(given.get("weights", cls.weights)),
            epoch=str(given.get("epoch", "")),
            level=level,
            seed=int(read_number(given, "seed", 0, LARGEST_SEED, draw_seed(None),
                                 "The seed", whole=True)),
            seconds=None if endless else round(
                read_number(given, "seconds", 0.1, LONGEST, cls.seconds, "The length"), 5),
            temperature=tuple(
                round(read_temperature(t, x), 4)
                for x, t in zip(chain.sizes, temperature, strict=True)
            ),
            mode=mode,
            keep=chain.top,
            label=str(given.get("label", ""))[:LONGEST_LABEL],
            score=read_score(given.get("score", ())),
        )
        if mode == "new":
            return settings
        recording, name = str(given.get("recording",
                                        "")), files.printable(str(given.get("name", "")))[:200]
        if not recording:
            raise UserError(NO_RECORDING)
        settings = dataclasses.replace(settings, recording=recording, name=name)
        if mode == "continue":
            return dataclasses.replace(
                settings,
                prompt_start=round(read_number(given, "prompt_start", 0,
                                               LONGEST_RECORDING, cls.prompt_start,
                                           "Where in the recording to begin"), 5),
                prompt_seconds=round(read_number(given, "prompt_seconds",
                                                 0.1, LONGEST_RECORDING, cls.prompt_seconds,
                                             "The part of the recording to begin with"), 5),
                keep_original=str(given.get("keep_original", True)).lower() in ("true", "1"),
            )
        if len(chain.sizes) == 1:
            raise UserError("This chain has one level, so a variation would keep nothing or "
                            "everything.")
        keep = read_choice(given, "keep", chain.sizes[:-1], chain.top, "The level to keep")
        if keep <= level:
            raise UserError(f"Level {keep} is kept and the music stops at level {level}, so "
                            f"nothing would be left to make: stop at a finer level, or keep a "
                            f"coarser one.")
        return dataclasses.replace(settings, keep=keep)

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels whose codes are seen, from the top or the level kept down."""
        return tuple(x for x in self.chain
                     if self.level <= x <= (self.keep if self.mode == "vary" else self.chain[0]))

    @property
    def new_levels(self) -> tuple[int, ...]:
        """The levels whose codes are made."""
        return self.levels[self.mode == "vary":]

    @property
    def temperatures(self) -> dict[int, float]:
        """Those of the levels whose codes are made."""
        return {x: t for x, t in zip(self.chain, self.temperature, strict=True)
                if x in self.new_levels}

    @property
    def link(self) -> str:
        """The query that fills the form with these settings."""
        unused = {"chain"} | ({"recording", "name"} if self.mode == "new" else set())
        unused |= ({"prompt_start", "prompt_seconds", "keep_original"} if self.mode != "continue"
                   else set())
        unused |= {"keep"} if self.mode != "vary" else set()
        values = {key: value for key, value in dataclasses.asdict(self).items()
                  if key not in unused and value != ""}
        values["seconds"] = "endless" if self.seconds is None else as_typed(self.seconds)
        values["temperature"] = ",".join(map(as_typed, self.temperature))
        values.pop("score", None)
        if self.score:
            values["score"] = json.dumps(self.score, separators=(",", ":"))
        return urlencode(values)

    @property
    def title(self) -> str:
        """What it is, in words."""
        if self.mode == "continue":
            begins = f" from {as_typed(self.prompt_start)} s" if self.prompt_start else ""
            return f"{self.name}{begins}, continued after {as_typed(self.prompt_seconds)} s"
        return (f"{self.name}, played anew below {self.keep}x" if self.mode == "vary"
                else "New piece")


def as_typed(number: float) -> str:
    """The number as one would type it."""
    return f"{number:.5f}".rstrip("0").rstrip(".")


def read_number(given, key, least, most, default, what, whole=False) -> float:
    value = given.get(key, default)
    try:
        if isinstance(value, bool):
            raise ValueError
        number = int(value) if whole and isinstance(value, str) else float(value)
        if (not math.isfinite(number) or whole and number != int(number)
            or not least <= number <= most):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if whole else "a number"
        raise UserError(f"{what} must be {kind} from {least:g} to {most:.16g}, not "
                        f"{str(value)[:40]!r}.") from None
    return number


def read_temperature(value, level: int) -> float:
    """A temperature that `Sampling` takes; text is a number, as a link has it."""
    if isinstance(value, str):
        value = read_number({"t": value}, "t", -math.inf, math.inf, 1.0,
                            f"The temperature of level {level}")
    return override(Sampling(), {"temperature": value}, f"The temperature of level "
                                                        f"{level}").temperature


def read_score(value) -> tuple:
    """What a performance changed, from JSON or a list; see `Settings`. The stream checks the
    values.
    """
    try:
        score = json.loads(value) if isinstance(value, str) else value
        score = Performance(seed=0, changes=score).changes
    except (UserError, ValueError, RecursionError) as e:
        raise UserError("What was changed while the piece played cannot be read: use the link as "
                        "it was copied.") from e
    if any({"begin", "weights"} & set(change) for _, change in score):
        raise UserError("What was changed while the piece played cannot be read: it names files, "
                        "which only the command plays.")
    if sum(not lets_go(change) for _, change in score) > MOST_CHANGES:
        raise UserError(f"What was changed while the piece played cannot be read: a take remembers "
                        f"{MOST_CHANGES} changes.")
    return score


def lets_go(change) -> bool:
    """It does nothing but let go of what is held: that is remembered whatever there is already."""
    return all(name in LETTING_GO and not value for name, value in change.items())


def role(chain: tuple[int, ...], level: int) -> str:
    """What a level of a chain decides, in words."""
    if len(chain) == 1:
        return ALONE
    place = chain.index(level) / (len(chain) - 1)
    return ROLES[round(place * (len(ROLES) - 1))]


def read_choice(given, key, allowed, default, what) -> int:
    value = given.get(key, default)
    if str(value) not in map(str, allowed):
        raise UserError(f"{what} must be one of {', '.join(map(str, allowed))}, not "
                        f"{str(value)[:40]!r}.")
    return int(value)
