"""Evaluators: each measures one topic of a chain on a corpus and yields (name, value).

A name ends with its level or its subject: "mel, 8x", "mel, Opus 6". Recipes state bounds by name.
"""

from collections.abc import Iterable

from . import chain, codecs, copying, form, generators, health, notes, scores, variations

EVALUATORS = {module.__name__.rpartition(".")[2]: module.run for module in (
    codecs, generators, chain, notes, variations, copying, health, form, scores)}
"""The generator of (name, value) of each topic, made with a `Corpus`."""


def run(names: Iterable[str], corpus) -> dict[str, dict[str, float]]:
    """{evaluator: {name: value}}, without evaluators that do not apply to the chain."""
    values = {name: dict(EVALUATORS[name](corpus)) for name in names}
    return {name: figures for name, figures in values.items() if figures}
