"""Changes of a stream while it plays: loaded, checked against what plays by then, and queued."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..config import Labels
from ..errors import UserError, check_number
from . import controls
from .chain import Engines, Options
from .conditions import check_chosen
from .labels import find_labels, read_labels
from .prompt import Prompt, check_prompt
from .sampling import check_guidance, check_seed, sampling_per_level


@dataclass(frozen=True)
class Change:
    """One call of `Stream.set`, checked; None leaves a control as it is. See there."""

    sampling: Any = None
    loudness: float | None = None
    transpose: float | None = None
    freeze: Mapping[int, float] | None = None
    mutate: float | None = None
    notes: tuple[int, ...] | None = None
    pitches: Mapping[int, np.ndarray] | None = None
    """By level what each code sounds, see `pitches.of_codec`."""
    pull: float | None = None
    stay: float | None = None
    label: np.ndarray | None = None
    """The shares of labels, see `labels.read_labels`."""
    jump: int | None = None
    begin: Any = None
    engines: Any = None
    """The `Engines` that play after a jump."""
    hold: float | None = None


class Queue:
    """Changes that wait for the next block. Any thread may put one."""

    def __init__(self, block: int):
        self._lock = threading.Lock()
        self._pending: list[Change] = []
        self._block, self.begun = block, 0

    def put(self, change: Change) -> int:
        """The sample that the change holds from: the start of the first block not yet begun."""
        with self._lock:
            if change.hold and not self.begun:
                raise UserError("there is nothing to hold yet: nothing was played")
            self._pending.append(change)
            return self.begun * self._block

    def take(self, begun: int) -> list[Change]:
        """The changes that hold from here on; `begun` blocks are begun now."""
        with self._lock:
            self.begun = begun
            pending, self._pending = self._pending, []
            return pending


def check_block(block: int, configs) -> int:
    """Samples of a block, as an int: a multiple of the top level of these generators. Raises
    `UserError` otherwise.
    """
    top = configs[0].source_level or configs[0].level
    if check_number("block", block, 1, whole=True) % top:
        raise UserError(f"block is {block}; it must be a multiple of the top level, {top}")
    return int(block)


def engines_after(change: Change, engines: Engines) -> Engines:
    """What plays once a change is made."""
    there = change.engines or engines
    return (there if change.label is None else
            replace(there, chosen={**there.chosen, Labels.input: change.label}))


def load_named(keywords: Mapping, engines: Engines) -> dict[str, Any]:
    """Keywords of `Stream.set` with the recordings and weights that they name loaded, and the
    pitches of codes measured, which may take seconds.
    """
    keywords = {name: value for name, value in keywords.items() if value is not None}
    music, configs = engines.music, engines.configs
    weights, begin = keywords.get("weights"), keywords.get("begin")
    is_path = isinstance(weights, str | os.PathLike)
    if music is None and (is_path or isinstance(begin, Mapping)):
        raise UserError("this stream knows no other weights or recordings: it was made without "
                        "music")
    if weights is not None:
        if not is_path and not hasattr(weights, "chain_engines"):
            raise UserError(f"weights is {weights!r}; it must be a folder of generators")
        music = keywords["weights"] = music.open(weights) if is_path else weights
        configs = [g.config for g in music.chain_engines()[1]]
    if keywords.get("notes") and music is not None:
        for config in configs:
            music.pitches(config.level)
    if isinstance(begin, Mapping):
        if (not isinstance(begin.get("file"), str | os.PathLike)
                or not set(begin) <= {"file", "start", "seconds"}):
            raise UserError("begin must be {file, start, seconds} of a recording")
        part = {name: value for name, value in begin.items() if name != "file"}
        keywords["begin"] = music.prompt(begin["file"], level=configs[-1].level, **part)
    return keywords


@dataclass(frozen=True)
class ChangeChecker:
    """Checks changes of one stream.

    varied: it varies a recording, which it follows. past_blocks: how many blocks can be repeated.
    """

    options: Options
    sample_rate: int
    varied: bool
    past_blocks: int

    def check(self, keywords: Mapping, engines: Engines) -> Change:
        """The change that these keywords of `Stream.set` make where `engines` play. Raises
        `UserError` where they make none.
        """
        for name in keywords:
            if name not in controls.NAMES:
                raise UserError(f"no control is called {name!r}; there are "
                                f"{', '.join(controls.NAMES)}")
        change = load_named(keywords, engines)
        if "jump" in change:
            change["jump"] = check_seed("jump", change["jump"])
            if self.varied:
                raise UserError("a variation follows its recording: there is nowhere to jump to")
        elif "weights" in change:
            raise UserError("weights are what a jump goes on with: say jump, a seed, too")
        if "weights" in change:
            change["engines"] = engines = self._check_engines(
                change.pop("weights"), change.pop("sampling", None), engines)
        configs = engines.configs
        if "sampling" in change:
            check_guidance(configs, sampling_per_level(configs, change["sampling"]))
        if "label" in change:
            change["label"] = read_labels(change["label"], find_labels(configs),
                                          self.options.batch or 1)
        if "freeze" in change:
            change["freeze"] = self._check_freeze(change["freeze"], configs)
        for name in change.keys() & controls.CONTROLS.keys() - {"freeze"}:
            control = controls.CONTROLS[name]
            most = self._longest(name) if name == "hold" and change[name] else control.most
            change[name] = check_number(name, change[name], control.least, most)
        if "notes" in change:
            change["notes"], change["pitches"] = _check_notes(change["notes"], engines)
        if "begin" in change:
            if "jump" not in change or not isinstance(change["begin"], Prompt):
                raise UserError("begin must be what prompt made of a recording, and goes with "
                                "jump, a seed")
            change["begin"] = self._cut_prompt(change["begin"], configs)
        return Change(**change)

    def _check_engines(self, music, sampling, before: Engines) -> Engines:
        """The engines of another `VQWave`, where they can take over."""
        codec, generators = music.chain_engines()
        configs, rate = [g.config for g in generators], codec.config.sample_rate
        if rate != self.sample_rate:
            raise UserError(f"the other weights are of {rate} Hz, but this plays at "
                            f"{self.sample_rate} Hz")
        check_block(self.options.block, configs)
        inputs = {c.input for config in configs for c in config.conditions}
        chosen = {name: value for name, value in before.chosen.items() if name in inputs}
        if label_names(configs) != label_names(before.configs):
            chosen.pop(Labels.input, None)
        sampling = check_guidance(configs, sampling_per_level(configs, sampling))
        chosen = check_chosen(configs, chosen, self.options.batch or 1, music.default_choice)
        return Engines(codec, generators, music, chosen, sampling)

    def _longest(self, name: str) -> float:
        """The seconds that can be repeated, at most."""
        if not self.past_blocks:
            raise UserError(f"this stream keeps nothing to {name}: make it with past, in seconds")
        return self.options.past

    def _check_freeze(self, freeze, configs) -> dict[int, float]:
        levels = [config.level for config in configs]
        freeze = freeze if isinstance(freeze, Mapping) else {levels[0]: freeze}
        for level in freeze:
            if level not in levels:
                raise UserError(f"freeze names level {level}; there are "
                                f"{', '.join(map(str, levels))}")
        return {level: check_number("freeze", seconds, 0,
                                    self._longest("freeze") if seconds else None)
                for level, seconds in freeze.items()}

    def _cut_prompt(self, prompt: Prompt, configs) -> Prompt:
        """The last whole blocks of a prompt, for a jump."""
        bottom, block = configs[-1].level, self.options.block
        codes = check_prompt({x: codes for x, codes in prompt.codes.items() if x >= bottom},
                             configs)
        count = len(codes[bottom]) * bottom // block * block
        if not count:
            raise UserError(f"what a jump goes on from must last a block, "
                            f"{block / self.sample_rate:.2f} s")
        return Prompt({level: x[-(count // level):] for level, x in codes.items()},
                      prompt.audio[-count:], pitches=prompt.pitches, stay=prompt.stay)


def label_names(configs) -> tuple[str, ...]:
    """The labels that a chain was trained with."""
    return next((c.labels.names for c in configs if c.labels), ())


def _check_notes(notes, engines: Engines) -> tuple[tuple[int, ...], dict[int, np.ndarray]]:
    """The notes, and by level the pitches of codes where the codec has any."""
    if not isinstance(notes, Sequence) or isinstance(notes, str):
        raise UserError(f"notes is {notes!r}; it must be a list of MIDI numbers")
    notes = tuple(check_number("a note", note, 0, 127, whole=True) for note in notes)
    if len(notes) > controls.MOST_NOTES:
        raise UserError(f"{len(notes)} notes are held; {controls.MOST_NOTES} can be")
    if not notes:
        return notes, {}
    if engines.music is None:
        raise UserError("this stream does not know the pitches of its codes: it was made without "
                        "music")
    powers = {config.level: engines.music.pitches(config.level) for config in engines.configs}
    powers = {level: x for level, x in powers.items() if x is not None}
    if not powers:
        raise UserError("these weights cannot follow notes: none of their codecs plays by "
                        "oscillators")
    return notes, powers
