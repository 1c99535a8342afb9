"""The requests of the page and the settings of a piece, as pydantic models."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import pydantic
import pydantic_core
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from ..errors import UserError, check_number
from ..io import files
from ..levels import SCORE, ChainConfig, level_name, read_level
from ..play import controls
from ..play.edits import Edits
from ..play.harmony import read_chords, read_key
from ..play.keys import PROMPT_SECONDS
from ..play.sampling import draw_seed
from ..play.session import Session
from . import limits
from .names import piece_name

NO_RECORDING = "There is no recording yet: drop one in, or choose to make a new piece."
CONTINUED = ", continued"
"""The end of the title of a continuation, also of one that is continued again."""
MOVING = {"jump", "hold", "transpose"}
"""The controls after which notes are not where they were composed."""
Count = Annotated[int, Field(ge=0, le=1 << 53)]
"""A number of samples, or of a note."""
LevelName = Annotated[str, Field(max_length=limits.LONGEST_TEXT, coerce_numbers_to_str=True),
                      AfterValidator(lambda name: f"{name}x" if name.isdigit() else name)]
"""The name of a level, `512x`, which may be given as a number."""
ShortText = Annotated[str, Field(max_length=limits.LONGEST_TEXT)]
RecordingName = Annotated[ShortText, AfterValidator(lambda name: files.printable(name)[:200])]
Rounded = AfterValidator(lambda seconds: round(seconds, 5))
StartSecond = Annotated[float, Field(ge=0, le=limits.LONGEST_RECORDING), Rounded]
Temperature = Annotated[float, Field(ge=controls.CONTROLS["temperature"].least,
                                     le=controls.CONTROLS["temperature"].most), Rounded]


class Request(BaseModel):
    """A form or a link. None and "" mean the default; a number may be text."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values):
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if value not in (None, "")}


class TakeRequest(Request):
    """A request for a piece. The defaults are the first folder of weights, its shipped or best
    epoch, the chain's default level, the top level to keep, and any label.

    seconds: None is "endless" in requests. temperature: by level; in a link "score:1,32x:0.9".
    recording, name: its id and its file's name. tempo, density, key, chords: of the score when
    the piece begins. changes: (sample, keywords of `Stream.set`) each.
    latency: "live": short blocks, so that changes are heard soon; "page": longer ones, for a slow
    machine. until: samples that may be generated for now; None: all. replaces: the id of a take
    that ends when this one begins.
    """

    weights: ShortText = ""
    epoch: ShortText = ""
    mode: Literal["new", "continue", "vary", "perform"] = "new"
    level: LevelName | None = None
    seed: int = Field(default_factory=lambda: draw_seed(None), ge=0, le=limits.LARGEST_SEED)
    seconds: Annotated[float, Field(ge=0.1, le=limits.LONGEST_TAKE), Rounded] | None = 30.0
    temperature: dict[LevelName, Temperature] = {}
    recording: ShortText = ""
    name: RecordingName = ""
    prompt_start: StartSecond = 0.0
    prompt_seconds: Annotated[float, Field(ge=0.1, le=limits.LONGEST_RECORDING),
                              Rounded] = PROMPT_SECONDS
    keep_original: bool = True
    keep: LevelName | None = None
    label: ShortText = ""
    tempo: float = controls.CONTROLS["tempo"].default
    density: float = controls.CONTROLS["density"].default
    key: ShortText = ""
    chords: ShortText = ""
    latency: Literal["normal", "live", "page"] = "normal"
    changes: Any = ()
    until: Count | None = None
    replaces: ShortText = ""

    @field_validator("seconds", mode="before")
    @classmethod
    def _read_endless(cls, seconds):
        return None if seconds == "endless" else seconds

    @field_validator("temperature", mode="before")
    @classmethod
    def _read_temperatures(cls, text):
        if not isinstance(text, str):
            return text
        return dict(part.partition(":")[::2] for part in text.split(","))

    @field_validator("tempo", "density")
    @classmethod
    def _check_number(cls, value, info) -> float:
        name = info.field_name
        return round(check_number(name, value, **controls.CONTROLS[name].bounds), 5)

    @field_validator("key", "chords")
    @classmethod
    def _check_text(cls, text, info) -> str:
        (read_key if info.field_name == "key" else read_chords)(text)
        return text

    @field_validator("changes", mode="plain")
    @classmethod
    def _read_changes(cls, changes) -> tuple:
        try:
            # pydantic's reader refuses deep nesting, and text that is not Unicode.
            text = changes.encode() if isinstance(changes, str) else pydantic_core.to_json(changes)
            changes = pydantic_core.from_json(text)
            if not has_safe_numbers(changes):
                raise ValueError
            changes = Session(seed=0, changes=changes).changes
        except (UserError, ValueError) as e:
            raise ValueError("cannot be read; use the link as it was copied") from e
        if any({"begin", "weights"} & set(change) for _, change in changes):
            raise ValueError("name files, which only the command plays")
        if len(changes) > limits.MOST_CHANGES:
            raise ValueError(f"are too many; a take remembers {limits.MOST_CHANGES}")
        return changes

    @property
    def first_change(self) -> dict[str, Any]:
        """The controls of the score that differ from the defaults, as keywords of `Stream.set`."""
        return self.model_dump(include=controls.SCORE_CONTROLS, exclude_defaults=True)

    def complete(self, chain: ChainConfig, temperatures: Mapping[int, float]) -> "Settings":
        """The settings of a piece by this chain. temperatures: the defaults by level. Raises
        `UserError` for a level that the chain does not have, and for a missing recording.
        """
        level = chain.ending if self.level is None else chain.check_level(self.level)
        keep, varies, has_score = chain.top, self.mode == "vary", SCORE in chain.generators
        if self.mode != "new" and not self.recording:
            raise UserError(NO_RECORDING)
        if self.mode == "perform" and not has_score:
            raise UserError("These weights have no score, so they cannot play a tune.")
        if varies:
            keep = chain.check_keep(keep if self.keep is None else self.keep, level)
        if self.first_change and (varies or not has_score):
            raise UserError(f"{'A variation has' if has_score else 'These weights have'} no "
                            f"score, so {min(self.first_change)} cannot be set.")
        temperature = {level_name(x): value for x, value in temperatures.items()} | {
            level_name(read_level(name, chain.generators)): value
            for name, value in self.temperature.items()}
        generated = [*map(level_name, chain.generated(level, keep if varies else None))]
        values = self.model_dump(exclude={"recording", "name"} if self.mode == "new" else None)
        return Settings.model_construct(**values | {
            "chain": chain.sizes, "level": level, "keep": keep, "temperature": temperature,
            "generated": generated})


class Settings(TakeRequest):
    """Everything that determines a piece: a request with all defaults filled in. `chain` holds the
    levels of sound; `generated` the names of the levels that are generated; `temperature` has a
    number for each level that draws one code after another.
    """

    chain: tuple[int, ...]
    generated: list[str]
    level: int  # type: ignore[assignment]
    keep: int  # type: ignore[assignment]

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels whose codes are shown, from the top or the kept level down."""
        top = self.keep if self.mode == "vary" else self.chain[0]
        return tuple(level for level in self.chain if self.level <= level <= top)

    @property
    def new_levels(self) -> tuple[int, ...]:
        """The levels of sound that are generated."""
        return self.levels[self.mode == "vary":]

    @property
    def temperatures(self) -> dict[str, float]:
        """The temperatures of the levels that are generated."""
        return {name: t for name, t in self.temperature.items() if name in self.generated}

    @property
    def link(self) -> str:
        """The query that fills the form with these settings."""
        derived = {"chain", "generated", "changes", "until", "replaces"}
        query = self.model_dump(exclude=derived, exclude_defaults=True)
        query["seconds"] = "endless" if self.seconds is None else as_typed(self.seconds)
        query["temperature"] = ",".join(f"{level}:{as_typed(value)}"
                                        for level, value in self.temperature.items())
        if self.changes:
            query["changes"] = json.dumps(self.changes, separators=(",", ":"))
        return urlencode(query)

    @property
    def edits(self) -> Edits:
        return next((Edits.model_validate(change["edits"]) for _, change in self.changes
                     if "edits" in change), Edits())

    def edited(self, edits: Edits, changes: Sequence, **update) -> "Settings":
        """The settings of the same piece with these edits, and other changes. Raises `UserError`.
        """
        rest = [(sample, change) for sample, change in changes if "edits" not in change]
        if any(change.keys() & MOVING for _, change in rest):
            raise UserError("A take with a jump, a hold or a transposition cannot be edited: its "
                            "notes are not where they were composed.")
        first = [(0, {"edits": edits.model_dump(mode="json")})] * (edits != Edits())
        return self.model_copy(update={"changes": (*first, *rest), **update})

    def first_edited(self, other: "Settings") -> int:
        """The first step of the score that has other edits than in `other`."""
        ours, theirs = ({(name, *row) for name, rows in x.edits for row in rows}
                        for x in (self, other))
        return min((row[1] for row in ours ^ theirs), default=0)

    @property
    def title(self) -> str:
        return f"{self._title}{', edited' if self.edits != Edits() else ''}"

    @property
    def _title(self) -> str:
        if self.mode == "continue":
            start = f" from {as_typed(self.prompt_start)} s" if self.prompt_start else ""
            return f"{Path(self.name).stem.removesuffix(CONTINUED)}{start}{CONTINUED}"
        if self.mode == "vary":
            return f"{self.name}, varied below {self.keep}x"
        if self.mode == "perform":
            return f"the tune of {self.name}"
        return piece_name(self.seed)

    @property
    def changes_file(self) -> str:
        """The file name for a download of the seed and the changes; "" without changes."""
        return f"{self.file_stem}-{self.seconds:.1f}s.json" if self.changes else ""

    @property
    def file_stem(self) -> str:
        return f"vqwave-seed-{self.seed}"


class CompareRequest(Request):
    """The part of a recording for the codecs of a folder ("": of the first folder)."""

    recording: ShortText = ""
    name: RecordingName = ""
    start: StartSecond = 0.0
    seconds: Annotated[float, Field(ge=0.1, le=limits.LONGEST_COMPARISON)] = 20.0
    weights: ShortText = ""


NUMBERS: dict[str, Any] = {name: (float | None, None) for name, control in controls.CONTROLS.items()
                           if not control.sampled}


class ChangeRequest(pydantic.create_model("Numbers", **NUMBERS)):  # type: ignore[valid-type]
    """A change of a take from the page: `NUMBERS` and these fields; `Stream.set` checks the values.

    until: samples that may be generated for now. heard: the sample that is heard now. playing: the
    take plays, so that more may be generated as time passes. bar: with the next bar of the score.
    wild: temperatures of all levels, from -1 (calm) to 1 (wild). levels: {level: {temperature,
    top_p, guidance}}. jump: to another piece.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    until: Count | None = None
    heard: Count = 0
    playing: bool = False
    bar: bool = False
    wild: Annotated[float, Field(ge=-1, le=1)] | None = None
    key: ShortText | None = None
    chords: ShortText | None = None
    section: ShortText | None = None
    notes: list[Count] | None = None
    label: ShortText | None = None
    levels: dict[LevelName, dict[Literal["temperature", "top_p", "guidance"], float]] | None = None
    jump: bool = False


class Recording(BaseModel):
    """An uploaded recording. outline: the peaks of equal parts, 0 … 255, for a picture."""

    id: str
    name: str
    seconds: float
    outline: tuple[int, ...] = ()
    path: Path = Field(exclude=True)


def has_safe_numbers(value: Any) -> bool:
    """Whether all numbers in a JSON value are finite and at most `limits.LARGEST_SEED`."""
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        parts = value.values() if isinstance(value, Mapping) else value
        return all(map(has_safe_numbers, parts))
    return not isinstance(value, int | float) or abs(value) <= limits.LARGEST_SEED


def explain(error: Mapping) -> str:
    """One of pydantic's errors as a line: the field, what it must be, and its value."""
    if error["type"] == "json_invalid":
        return "The request is not JSON."
    short = reprlib.Repr()
    short.maxstring = short.maxother = 40
    short.maxlevel = 2
    field = " ".join(str(part)[:40] for part in error["loc"] if part not in ("body", "query"))
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    message = message.partition(", unable")[0].replace("valid integer", "whole number")
    return files.printable(f"{field.replace('_', ' ') or 'the request'} {message}, not "
                           f"{short.repr(error['input'])}.")


def as_typed(number: float) -> str:
    """A number in its shortest form."""
    return f"{number:.5f}".rstrip("0").rstrip(".")
