"""Evaluators: each measures one topic of a chain on a corpus and yields (name, value).

A name ends with its level or its subject: "mel, 8x", "mel, Opus 6". Recipes state bounds by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from .chain import Chain
from .codecs import Codecs
from .copying import Copying
from .form import Form
from .generators import Generators
from .health import Health
from .labels import Labels
from .notes import Notes
from .scores import Scores
from .variations import Variations

EVALUATORS = {"codecs": Codecs(), "generators": Generators(), "chain": Chain(), "notes": Notes(),
              "variations": Variations(), "labels": Labels(), "copying": Copying(),
              "health": Health(), "form": Form(), "scores": Scores()}


def run(names: Iterable[str], music, corpus) -> dict[str, dict[str, float]]:
    """{evaluator: {name: value}}, without evaluators that do not apply to the chain."""
    values = {name: dict(EVALUATORS[name].run(music, corpus)) for name in names}
    return {name: figures for name, figures in values.items() if figures}
