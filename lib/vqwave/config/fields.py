"""What every config shares: types of fields, validation with errors of one line, YAML."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml
from pydantic import Field
from pydantic_core import PydanticKnownError

from ..errors import UserError

SCHEMA = 2
"""The version of the YAML files."""

LARGEST = 2**31 - 1
PERIOD = 1 << 18
"""Samples after which a decoder's tones and noise repeat: positions are known modulo this."""

TONE_HOP = 128
"""Samples: how often, at most, a decoder's tones are given a new loudness."""

LEVEL_RANGE = 80.0
"""dB under full scale that a spectrum tells levels apart."""

NORM_EPSILON = 1e-5
"""What a core's layer normalisation adds to the variance."""

FAR = 1 << 30
"""How many frames back an attention takes what is not there to be: it sees nothing of it."""

PRESETS = Path(__file__).parents[1] / "presets"
SHIPPED = "notes"
"""The preset of the weights that ship, taken where none is named."""


class ConfigError(UserError, ValueError):
    """A config that cannot be: names the key, the value it had and what it may be."""


@contextlib.contextmanager
def _one_line(who: str, values):
    """What pydantic says of `values`, as a `ConfigError` of one line that begins with `who`."""
    try:
        yield
    except pydantic.ValidationError as e:
        raise ConfigError(f"{who}: {_first_error(e, values)}") from None
    except RecursionError:
        raise ConfigError(f"{who}: is nested too deeply") from None


_WANTED = {
    "int": "a whole number", "float": "a number", "bool": "true or false",
    "string": "text", "tuple": "a list",
    "model": "a mapping", "dict": "a mapping", "finite": "finite",
}


def _first_error(error: pydantic.ValidationError, values) -> str:
    """The first of pydantic's errors in our words."""
    first = error.errors(include_url=False)[0]
    path, kind = first["loc"], first["type"]
    # pydantic names the classes of a union in the path as well, where no reader expects them.
    words, here = [], values
    for i, part in enumerate(path):
        if (isinstance(here, dict) and part in here
            or isinstance(here, list | tuple) and isinstance(part, int)):
            words.append(part)
            here = here[part]
        elif kind == "missing" and i == len(path) - 1:
            words.append(part)

    def join(words):
        return "".join(f"[{w}]" if isinstance(w, int) else f".{w}" for w in words).lstrip(".")

    key = join(words)
    shown, context = short(first["input"]), first.get("ctx", {})
    if kind == "missing":
        return f"{join(words[:-1])}{': ' if words[:-1] else ''}missing key {str(words[-1])!r}"
    if kind in ("value_error", "assertion_error"):
        return f"{key}: {context['error']}" if key else str(context["error"])
    if kind == "extra_forbidden":
        return f"unknown key {key!r}"
    limit = {"greater_than_equal": ("at least", "ge"), "greater_than": ("above", "gt"),
             "less_than_equal": ("at most", "le"), "less_than": ("below", "lt")}.get(kind)
    if limit:
        wanted = f"{limit[0]} {context[limit[1]]:g}" if isinstance(context[limit[1]], float) else \
            f"{limit[0]} {context[limit[1]]}"
    elif kind in ("literal_error", "enum"):
        wanted = context["expected"]
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        wanted = f"a mapping whose kind is one of {context.get('expected_tags', 'those there are')}"
    elif kind == "too_short":
        wanted = "a list of at least one"
    elif kind == "string_pattern_mismatch":
        wanted = "a name of letters, digits, - and _ that begins with a letter"
    else:
        wanted = next((text for prefix, text in _WANTED.items() if kind.startswith(prefix)),
                      first["msg"])
    return f"{key or 'it'} is {shown}; it must be {wanted}"


def short(value) -> str:
    """`value` for an error line, cut short: YAML's aliases can make a small file mean a very long
    value.
    """
    try:
        text = _repr.repr(value)
    except ValueError:
        return "a number too long to print"
    return text if len(text) <= 80 else f"{text[:77]}..."


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxother, _repr.maxstring = 3, 60, 60


def parse_number(value):
    """A float from what YAML makes of a number; YAML 1.1 takes 1e-4 for text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+", value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticKnownError("float_type")
    return float(value) if abs(value) <= LARGEST or isinstance(value, float) else math.inf


Whole = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Positive = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]
CodeCount = Annotated[int, Field(strict=True, ge=2, le=65536)]
"""How many codes there are: cached codes are uint16, so at most 65,536."""
MAX_BOOKS = 64
"""Codes in a frame, at most, that a generator takes; and codebooks of a quantizer."""
Books = Annotated[int, Field(strict=True, ge=1, le=MAX_BOOKS)]
Real = Annotated[float, pydantic.BeforeValidator(parse_number), Field(allow_inf_nan=False)]
Weight = Annotated[float, pydantic.BeforeValidator(parse_number), Field(allow_inf_nan=False, ge=0)]
Fraction = Annotated[float, pydantic.BeforeValidator(parse_number),
                     Field(allow_inf_nan=False, ge=0, le=1)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]
Name = Annotated[str, Field(strict=True, max_length=100,
                            pattern=r"^[A-Za-z][A-Za-z0-9-]*(_[A-Za-z0-9-]+)*$")]


class Config(pydantic.BaseModel):
    """A frozen part of a config; unknown keys are refused with the nearest known one."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __init__(self, **values: Any):
        """Raises `ConfigError`, one line as of `validate`, for what the fields do not allow."""
        with _one_line(type(self).__name__, values):
            super().__init__(**values)

    # Else pydantic would validate mappings inside a mapping by `__init__` too, and name no path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values):
        if isinstance(values, dict):
            known = list(cls.model_fields)
            for key in values:
                if key not in known:
                    near = difflib.get_close_matches(short(key).lower(), known, n=1, cutoff=0.0)[0]
                    raise ValueError(f"unknown key {short(key)}; did you mean {near!r}? Known: "
                                     f"{', '.join(known)}")
        return values


ConfigType = TypeVar("ConfigType", bound=Config)


def check_odd(key: str, value: int):
    if value % 2 == 0:
        raise ValueError(f"{key} is {value}; it must be odd")


def default_kind(kind: str) -> pydantic.BeforeValidator:
    """For a field that is a union of classes told apart by `kind`: which one where none is named.
    """
    return pydantic.BeforeValidator(lambda value: {"kind": kind} | value
                                    if isinstance(value, dict) else value)


def check_name(name: str):
    if re.fullmatch(r".*_(best|\d{5,})", name):
        raise ValueError(f"name is {name!r}; it must not end in `_best` or five digits, which tell "
                         f"saved sets apart")
    if name in ("chain", "preset", "train_all"):
        raise ValueError(f"name is {name!r}; a file beside the weights is called that")


def validate(kind: type[ConfigType], values, who: str = "config") -> ConfigType:
    """A config of class `kind` from a mapping.

    Args:
        values: as YAML holds it: mappings, lists, numbers and text.
        who: where the mapping stands; every error begins with it.

    Raises:
        ConfigError: one line that names the key, what it was and what it may be.
    """
    with _one_line(who, values):
        return kind.model_validate(values)


def to_dict(config: Config) -> dict:
    """Plain lists and numbers, as YAML writes them."""
    return config.model_dump(mode="json", by_alias=True)


def replace(config: ConfigType, **changes) -> ConfigType:
    """`config` with these fields changed, validated anew."""
    return validate(
        type(config),
        {**to_dict(config), **{k: to_dict(v) if isinstance(v, Config) else v
                               for k, v in changes.items()}},
        getattr(config, "name", "config"))


def merge(base: dict, changes: dict) -> dict:
    """`base` with `changes` laid over it, mappings within mappings; a mapping of another `kind`
    replaces the old one.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if (isinstance(old, dict) and isinstance(value, dict)
            and value.get("kind", old.get("kind")) == old.get("kind")):
            value = merge(old, value)
        merged[key] = value
    return merged


def override(config: ConfigType, values: dict, who: str) -> ConfigType:
    """`config` with what a mapping says in its place."""
    return validate(type(config), merge(to_dict(config), values), who)


def load_yaml(path) -> dict:
    """The mapping a YAML file holds. Raises `ConfigError` where it is unreadable, no YAML, or no
    mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{os.fspath(path)}: cannot be read: {e.strerror or e}") from e
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError,
            RecursionError) as e:
        # All but the first escape from PyYAML: for an impossible date, or a tag on the wrong value.
        raise ConfigError(f"{os.fspath(path)}: not valid YAML: {' '.join(str(e).split())}") from e
    if not isinstance(values, dict):
        raise ConfigError(f"{os.fspath(path)}: must hold a mapping of keys to values, not "
                          f"{type(values).__name__}")
    return values


def dump_yaml(values: dict) -> str:
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


def check_schema(values: dict, who: str):
    """Raises `ConfigError` where a file names another version."""
    if values.get("schema", SCHEMA) != SCHEMA:
        raise ConfigError(f"{who}: schema is {short(values['schema'])}; this program reads "
                          f"{SCHEMA}")
