"""Common code of all configs: types of fields, validation with errors of one line, YAML."""

import difflib
import os
import re
import reprlib
from typing import Annotated, Any, TypeVar

import pydantic
import yaml
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticKnownError

from ..errors import UserError

SCHEMA = 2
"""The version of the YAML files."""
LARGEST_INTEGER = 2**31 - 1
"""The largest integer in a config: an int32."""
MOST_YAML, DEEPEST, LONGEST_NUMBER = 16 << 20, 32, 100
"""The limits of a YAML file: bytes, levels of nesting, characters of a number."""
LOUDNESS_RANGE = 80.0
"""The range of a spectrum's loudness in dB below full scale, and the unit of this loudness."""
FULL_SCALE, MOST_LOUDNESS = 1.1, 1.3
"""The loudness of a full-scale sine, and the highest; see `spectrum_layer.loudness_of`."""


class ConfigError(UserError, ValueError):
    """A config is invalid. The message names the key, its value and what the value must be."""


def _no_bool(value):
    """`value`. Without this check pydantic takes true for 1."""
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even; it must be odd")
    return value


def _free_name(name: str) -> str:
    """`name`. Raises `ValueError` if it is the name of a file beside the weights."""
    if re.fullmatch(r".*_(best|\d{5,})", name):
        raise ValueError(f"{name!r} must not end in `_best` or five digits, which are the tags of "
                         f"saved sets")
    if name in ("chain", "preset", "split", "train_all"):
        raise ValueError(f"{name!r} must not be the name of a file beside the weights")
    return name


Whole = Annotated[int, Field(strict=True, ge=0, le=LARGEST_INTEGER)]
Positive = Annotated[int, Field(strict=True, ge=1, le=LARGEST_INTEGER)]
# Floats are not strict, because YAML 1.1 reads 1e-4 as text.
Real = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Weight = Annotated[Real, Field(ge=0)]
AboveZero = Annotated[Real, Field(gt=0)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Share = Annotated[Real, Field(ge=0, lt=1)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]
Name = Annotated[Text, Field(max_length=100, pattern=r"^[A-Za-z][A-Za-z0-9-]*(_[A-Za-z0-9-]+)*$"),
                 AfterValidator(_free_name)]
CodeCount = Annotated[int, Field(strict=True, ge=2, le=65536)]
"""The number of codes, at most 65,536 because cached codes are uint16."""
MAX_BOOKS = 64
"""The most codebooks of a quantizer, and the most codes in a generator's frame."""
BookCount = Annotated[int, Field(strict=True, ge=1, le=MAX_BOOKS)]
Layers = Annotated[int, Field(strict=True, ge=1, le=100)]
Heads = Annotated[int, Field(strict=True, ge=1, le=128)]
KernelSize = Annotated[int, Field(strict=True, ge=1, le=99), AfterValidator(_odd)]
Dilations = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=4096)], ...],
                      Field(min_length=1, max_length=100)]
WindowSize = Annotated[int, Field(strict=True, ge=16, le=65536)]
"""Samples of a spectrum's window."""


class Config(pydantic.BaseModel):
    """A frozen part of a config. An unknown key is refused with the nearest known key."""

    model_config = pydantic.ConfigDict(frozen=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values):
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                known = list(cls.model_fields)
                near = difflib.get_close_matches(short(key).lower(), known, n=1, cutoff=0.0)[0]
                raise ValueError(f"unknown key {short(key)}; did you mean {near!r}? Known: "
                                 f"{', '.join(known)}")
        return values


ConfigType = TypeVar("ConfigType", bound=pydantic.BaseModel)


def default_kind(kind: str) -> BeforeValidator:
    """For a field that is a union of classes: the `kind` of a mapping without `kind`."""
    return BeforeValidator(lambda value: {"kind": kind} | value if isinstance(value, dict)
                           else value)


def validate(kind: type[ConfigType], values, who: str = "config") -> ConfigType:
    """A config of class `kind`. values: mappings, lists, numbers and text, as in YAML. who: their
    file or section, with which the message of a `ConfigError` begins.
    """
    try:
        return kind.model_validate(values)
    except pydantic.ValidationError as e:
        raise ConfigError(f"{who}: {first_error(e)}") from None


def first_error(errors: pydantic.ValidationError) -> str:
    """The first of pydantic's errors as one line. A key in a union also contains the kind."""
    error = errors.errors(include_url=False)[0]
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    message = error["msg"].replace("Input should", "it must")
    if error["type"] == "union_tag_invalid":  # whose message repeats the value in full
        message = f"its kind must be one of {error['ctx']['expected_tags']}"
    for python, ours in (("tuple", "list"), ("Tuple", "the list"), ("dictionary", "mapping")):
        message = message.replace(python, ours)
    return f"{key or 'it'} is {short(error['input'])}; {message}"


def short(value) -> str:
    """`value` for an error message, shortened."""
    try:
        text = _repr.repr(value)
    except ValueError:
        return "a number too long to print"
    return text if len(text) <= 80 else f"{text[:77]}..."


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxother, _repr.maxstring = 3, 60, 60


def to_dict(config: pydantic.BaseModel) -> dict:
    """The config as mappings, lists, numbers and text, for YAML."""
    return config.model_dump(mode="json")


def replace(config: ConfigType, **changes) -> ConfigType:
    """`config` with these fields changed, validated again."""
    return validate(type(config), dict(config) | changes, getattr(config, "name", "config"))


def merge(base: dict, changes: dict) -> dict:
    """`base`, overridden by `changes`. A mapping of another `kind` replaces the whole mapping."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if (isinstance(old, dict) and isinstance(value, dict)
            and value.get("kind", old.get("kind")) == old.get("kind")):
            value = merge(old, value)
        merged[key] = value
    return merged


def override(config: ConfigType, changes: dict, who: str) -> ConfigType:
    """`config`, overridden by `changes` and validated again."""
    return validate(type(config), merge(to_dict(config), changes), who)


_NUMBERS = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


class _Loader(yaml.SafeLoader):
    """Plain YAML, whose size in memory and whose time are those of the file. Aliases and merge keys
    would unfold a short file without end.
    """

    depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            self._refuse("an alias (*) is not allowed; write the value again")
        if self.depth == DEEPEST:
            self._refuse(f"values are nested more than {DEEPEST} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if node.tag == "tag:yaml.org,2002:merge":
            self._refuse("a merge key (<<) is not allowed; write its keys out")
        # The time to read a number to the base 60 grows with the square of its length.
        if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
            self._refuse(f"a number has more than {LONGEST_NUMBER} characters")
        return node

    def _refuse(self, problem: str):
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)


class _Dumper(yaml.SafeDumper):
    """Writes a list again, instead of an alias that `_Loader` would refuse."""

    def ignore_aliases(self, data):
        return True


def parse_yaml(content: bytes, who) -> Any:
    """The value of a YAML text. who: its file, with which the message of a `ConfigError` begins."""
    try:
        return yaml.load(content.decode(), _Loader)  # noqa: S506 (a `SafeLoader`)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as e:
        # PyYAML raises other errors for an impossible date, or for a tag on the wrong value.
        message = " ".join(str(e).split()).replace('in "<unicode string>",', "at")
        raise ConfigError(f"{who}: not valid YAML: {message}") from e


def load_yaml(path) -> dict:
    """The mapping in a YAML file. Raises `ConfigError` for other content or another schema."""
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_YAML + 1)
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror or e}") from e
    if len(content) > MOST_YAML:
        raise ConfigError(f"{path}: has more than {MOST_YAML >> 20} MiB")
    values = parse_yaml(content, path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys to values, not "
                          f"{type(values).__name__}")
    if values.get("schema", SCHEMA) != SCHEMA:
        raise ConfigError(f"{path}: schema is {short(values['schema'])}; this program reads "
                          f"{SCHEMA}")
    return values


def dump_yaml(values: dict) -> str:
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)
