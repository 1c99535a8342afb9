"""Levels by number and by name. The number of a level of sound is its samples per frame, such as
512; its name is `512x`. The score is the level `score`.
"""

from collections.abc import Iterable
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from .fields import LARGEST_INTEGER, ConfigError, short

SCORE = 4096
"""The number of the level `score`: about the samples of a step."""


def level_name(level: int) -> str:
    """The name of a level."""
    return "score" if level == SCORE else f"{level}x"


def read_level(name, levels: Iterable[int], what: str = "") -> int:
    """The number of a level, which may be named `512x`, `512` or 512. Raises `ConfigError` if it is
    none of `levels`. what: the beginning of the message.
    """
    numbers = {level_name(level): level for level in levels}
    text = level_name(name) if name == SCORE else str(name)
    for spelling in (text, f"{text}x"):
        if spelling in numbers:
            return numbers[spelling]
    raise ConfigError(f"{what}no level is called {short(text)}; there are {', '.join(numbers)}")


LevelNumber = Annotated[int, BeforeValidator(lambda x: SCORE if x == "score" else x),
                        PlainSerializer(lambda x: "score" if x == SCORE else x),
                        Field(strict=True, ge=1, le=LARGEST_INTEGER)]
"""The number of a level, which YAML files give as `score` or in samples per frame."""
