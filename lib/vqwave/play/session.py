"""A session: a seed, and the changes that a listener made while the stream played. A change takes
effect at a block that had not begun. So `replay` repeats the music bit for bit.
"""

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field

from ..errors import UserError
from ..io.files import atomic_write, printable, reason
from ..levels import Config, validate
from .changes import engines_after
from .controls import NAMES


def replay(stream, changes: Iterable[tuple[int, Mapping]]) -> Iterator[np.ndarray]:
    """The blocks of a session. stream: a new `Stream` of the same weights, seed and options.
    changes: (sample that `Stream.set` returned, keywords of that call) of each change.
    """
    pending = deque(sorted(changes, key=lambda change: change[0]))
    while True:
        while pending and pending[0][0] <= stream.position:
            stream.set(**pending.popleft()[1])
        if (block := next(stream, None)) is None:
            return
        yield block


class Session(Config):
    """A seed, and the changes in order: (sample, keywords of `Stream.set`)."""

    seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)]
    changes: tuple[tuple[Annotated[int, Field(strict=True, ge=0)],
                         dict[Literal[NAMES], Any]], ...]  # type: ignore[valid-type]

    @classmethod
    def read(cls, path) -> Self:
        """The session in a file {"seed": …, "changes": [[sample, {control: value}], …]}."""
        name = printable(path)
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as e:
            raise UserError(f"{name}: cannot be read: {reason(e)}") from e
        except (ValueError, RecursionError) as e:
            raise UserError(f"{name}: not valid JSON: {e}") from e
        return validate(cls, content, name)

    def write(self, path):
        """Write the file for `read`. Raises `UserError` if it cannot be written."""
        # `replay` makes all changes between two blocks in the order of their samples.
        changes = sorted(self.changes, key=lambda change: change[0])
        try:
            with atomic_write(path) as file:
                file.write(json.dumps({"seed": self.seed, "changes": changes}).encode() + b"\n")
        except OSError as e:
            raise UserError(f"{printable(path)}: cannot be written: {reason(e)}") from e

    def check(self, stream):
        """Check every change against a new `Stream`. A `UserError` says the change's number."""
        engines = stream.queued
        for i, (sample, change) in enumerate(self.changes, 1):
            try:
                if change.get("hold") and not sample:
                    raise UserError("there is nothing to hold yet at sample 0")
                engines = engines_after(stream.check(engines, **change), engines)
            except UserError as e:
                raise UserError(f"change {i} of the session: {e}") from e
