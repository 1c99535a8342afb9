"""The saved state of a stream: dataclasses to arrays for `np.savez`, and back. The code follows the
fields and types of the dataclasses, so a new field needs no further code. A checksum guards the
values, because a stream could play some wrong values without end.
"""

import contextlib
import dataclasses
import hashlib
import types
import typing
import zipfile
import zlib
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydantic

from ..codecs import CodecConfig
from ..errors import UserError
from ..io import weights
from ..io.files import printable, reason
from . import engine
from .blocks import Transport
from .chain import ChainState, Engines, Options
from .controls import Steering

SNAPSHOT_VERSION = 27


def pack(value, name: str = "") -> dict[str, Any]:
    """A value as {key: array, number or text}. The keys are `name`, a dot, and the field of a
    dataclass, the key of a mapping or the index in a list. The items of a deque, which have equal
    shapes, are stacked. None has no key.
    """
    if value is None:
        return {}
    if dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, Mapping):
        parts = value
    elif isinstance(value, deque):
        items = [pack(item, name) for item in value]
        return {key: np.stack([item[key] for item in items]) for key in items[0]} if items else {}
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value))
    elif isinstance(value, pydantic.BaseModel):
        return {name: value.model_dump_json()}
    elif isinstance(value, np.ndarray):
        return {name: value.copy()}
    else:  # an integer of more than 64 bits would be a Python object in NumPy
        return {name: str(value) if isinstance(value, int) and abs(value) >= 2**63 else value}
    packed: dict[str, Any] = {}
    for key, part in parts.items():
        packed |= pack(part, f"{name}.{key}" if name else str(key))
    return packed


def unpack(kind, packed: Mapping[str, Any], name: str = ""):
    """The value of type `kind` from the keys of `pack`. Raises `KeyError` for a missing key."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # None, or one of several kinds, the one with most keys first
        if not any(key == name or key.startswith(f"{name}.") for key in packed):
            return None
        first, *others = [kind for kind in arguments if kind is not types.NoneType]
        for other in others:
            with contextlib.suppress(KeyError):
                return unpack(first, packed, name)
            first = other
        return unpack(first, packed, name)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return typing.cast(Any, kind)(**{field.name: unpack(hints[field.name], packed,
                                          f"{name}.{field.name}" if name else field.name)
                       for field in dataclasses.fields(kind)})
    if origin is deque:
        stacked = {key: value for key, value in packed.items() if key.startswith(f"{name}.")}
        count = len(next(iter(stacked.values()))) if stacked else 0
        return deque(unpack(arguments[0], {key: value[i] for key, value in stacked.items()}, name)
                     for i in range(count))
    if origin in (dict, list, tuple):
        keys = dict.fromkeys(key.removeprefix(f"{name}.").split(".")[0]
                             for key in packed if key.startswith(f"{name}."))
        if origin is dict:
            return {arguments[0](key): unpack(arguments[1], packed, f"{name}.{key}")
                    for key in keys}
        return origin(unpack(arguments[0], packed, f"{name}.{i}") for i in range(len(keys)))
    value = packed[name]
    if kind is np.ndarray:
        return np.array(value)
    value = np.asarray(value).item()
    if issubclass(kind, pydantic.BaseModel):
        return kind.model_validate_json(value)
    return kind(value)  # long integers are packed as text


def checksum(packed: Mapping[str, Any]) -> str:
    """Of the names, types and values of `pack`, before `np.savez` or after `np.load`."""
    total = hashlib.sha256()
    for name in sorted(packed):
        array = np.asarray(packed[name])
        total.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return total.hexdigest()


@dataclasses.dataclass(frozen=True)
class EngineReference:
    """The weights and the engine that a state belongs to, and the folder to load them from."""

    name: str
    checksum: str
    engine: str
    folder: str
    tag: str

    @classmethod
    def of(cls, part) -> typing.Self:
        """The reference to a `CodecEngine` or `GeneratorEngine`."""
        weight_set = part.weight_set
        return cls(part.config.name, weight_set.checksum, part.engine,
                   str(weight_set.folder.absolute()), weight_set.tag)

    def load(self):
        """The engine. Raises `UserError` if its weights are gone."""
        try:
            weight_set = weights.find(self.folder, self.name, self.tag or None)
        except OSError as e:
            raise UserError(f"{printable(self.folder)}: {reason(e)}") from e
        is_codec = isinstance(weight_set.config, CodecConfig)
        return (engine.CodecEngine if is_codec else engine.GeneratorEngine)(weight_set, self.engine)


@dataclasses.dataclass
class Snapshot:
    """The state of a stream between two blocks. parts: of the engines, see `Engines.parts`."""

    parts: list[EngineReference]
    options: Options
    chain: ChainState
    steering: Steering
    transport: Transport

    def pack(self) -> dict[str, Any]:
        """The values for `np.savez`, with their checksum."""
        packed = pack(self) | {"version": SNAPSHOT_VERSION}
        return packed | {"checksum": checksum(packed)}

    @classmethod
    def unpack(cls, state: Mapping) -> typing.Self:
        """The snapshot from `pack`. Raises `UserError` for changed values or other versions."""
        try:
            packed = dict(state)
            if int(packed["version"]) == SNAPSHOT_VERSION:
                if str(packed.pop("checksum")) != checksum(packed):
                    raise ValueError("its checksum is that of other values")
                return unpack(cls, packed)
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, OSError,
                EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as e:
            message = " ".join(str(e).split())
            raise UserError(f"the saved state is damaged: {message}") from e
        raise UserError(f"the saved state has version {packed['version']}; this program reads "
                        f"{SNAPSHOT_VERSION}")

    def engines(self, given: Engines | None, music) -> Engines:
        """The engines of the saved chain: `given`, or loaded. Raises `UserError` for others."""
        parts = given.parts if given else [part.load() for part in self.parts]
        names, others = [x.name for x in self.parts], [x.config.name for x in parts]
        if names != others:
            raise UserError(f"the saved state is of {printable(', '.join(names))}, not of "
                            f"{', '.join(others)}")
        for saved, part in zip(self.parts, parts, strict=True):
            if (saved.checksum, saved.engine) != (part.weight_set.checksum, part.engine):
                raise UserError(f"the saved state was made with other weights, or another engine, "
                                f"of {saved.name}")
        return Engines.of_parts(parts, music or given and given.music, self.chain)
