"""Changes of a stream while it plays: loads the named recordings and weights, checks values."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ..errors import UserError, check_number
from ..generators import Sampling
from ..levels import SCORE, read_level, validate
from . import controls
from .chain import Engines, Options
from .edits import Edits
from .harmony import read_chords, read_key
from .labels import choose_labels, find_labels, read_labels
from .prompt import Prompt, check_prompt
from .sampling import check_seed, choose_sampling

SECTION_REQUESTS = "new", "theme"
"""Requests for the next section of the score: new music, or the first section again."""
LONGEST_BLOCK = 1 << 20
"""The most samples of a block."""


@dataclass(frozen=True)
class Change:
    """The checked keywords of one call of `Stream.set`; None leaves a control as it is.

    steering: values of `controls.Steering` by name. key: the text for `read_key`, which needs the
    seed of the piece. label: see `labels.read_labels`. engines: after a jump to other weights.
    bar: the score changes with its next bar.
    """

    sampling: Mapping[str, Sampling] | None = None
    loudness: float | None = None
    transpose: float | None = None
    hold: float | None = None
    freeze: Mapping[int, float] | None = None
    steering: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    label: np.ndarray | None = None
    jump: int | None = None
    begin: Prompt | None = None
    engines: Engines | None = None
    bar: bool = False

    @property
    def of_score(self) -> bool:
        """Whether the change may act on what a score composes."""
        values = self.sampling, self.key, self.label
        return (any(x is not None for x in values)
                or not self.steering.keys().isdisjoint({*controls.SCORE_CONTROLS, "stay"}))


def engines_after(change: Change, engines: Engines) -> Engines:
    """The engines after a change."""
    engines = change.engines or engines
    values = {"label": change.label, "sampling": change.sampling}
    return replace(engines, **{name: x for name, x in values.items() if x is not None})


def check_block(block: int, configs) -> int:
    """`block` in samples, as an int. Raises `UserError` if it is no multiple of the top level, or
    more than `LONGEST_BLOCK`.
    """
    top = next(c.source_level or c.level for c in configs if c.level != SCORE)
    if check_number("block", block, 1, LONGEST_BLOCK, whole=True) % top:
        raise UserError(f"block is {block}; it must be a multiple of the top level, {top}")
    return int(block)


def load_named(keywords: Mapping, engines: Engines) -> dict[str, Any]:
    """The keywords of `Stream.set`, with `mood` replaced by its controls, and with named recordings
    and weights loaded. Where notes are held, measures the pitches of the codes. Both may take
    seconds.
    """
    keywords = {name: value for name, value in keywords.items() if value is not None}
    if "mood" in keywords:
        keywords = controls.read_mood(keywords.pop("mood")) | keywords
    music, configs = engines.music, engines.configs
    weights, begin = keywords.get("weights"), keywords.get("begin")
    is_path = isinstance(weights, str | os.PathLike)
    if music is None and (is_path or isinstance(begin, Mapping)):
        raise UserError("this stream cannot load weights or recordings: it was made without music, "
                        "a VQWave")
    if weights is not None:
        if not is_path and not hasattr(weights, "chain_engines"):
            raise UserError(f"weights is {weights!r}; it must be a folder of generators")
        music = keywords["weights"] = music.open(weights) if is_path else weights
        configs = music.chain_engines().configs
    if keywords.get("notes") and music is not None:
        for level in _levels_of_sound(configs):
            music.pitches(level)
    if isinstance(begin, Mapping):
        part = dict(begin)
        file = part.pop("file", None)
        if not isinstance(file, str | os.PathLike) or not part.keys() <= {"start", "seconds"}:
            raise UserError("begin must be {file, start, seconds} of a recording")
        keywords["begin"] = music.prompt(file, level=configs[-1].level, **part)
    return keywords


def check_change(keywords: Mapping, engines: Engines, options: Options) -> Change:
    """The change from loaded keywords of `Stream.set`, for a stream of `engines`. Raises
    `UserError` for unknown keywords and for invalid values.
    """
    change = dict(keywords)
    for name in change.keys() - set(controls.NAMES):
        raise UserError(f"no control is called {name!r}; there are {', '.join(controls.NAMES)}")
    if "jump" in change:
        change["jump"] = check_seed("jump", change["jump"])
        if engines.configs[0].source_level:
            raise UserError("a variation follows its recording, so it cannot jump to another piece")
    elif "weights" in change:
        raise UserError("other weights need a new piece: give jump, a seed, too")
    if "weights" in change:
        change["engines"] = engines = _other_engines(
            change.pop("weights"), change.pop("sampling", None), engines, options)
    configs = engines.configs
    if "sampling" in change:
        change["sampling"] = choose_sampling(configs, change["sampling"], engines.sampling)
    if "label" in change:
        change["label"] = read_labels(change["label"], find_labels(configs), options.batch or 1)
    if "freeze" in change:
        change["freeze"] = _check_freeze(change["freeze"], configs, options)
    if "hold" in change:
        change["hold"] = _check_seconds("hold", change["hold"], options)
    for name in change.keys() & controls.CONTROLS.keys() - {"freeze", "hold"}:
        change[name] = check_number(name, change[name], **controls.CONTROLS[name].bounds)
    if "notes" in change:
        change |= _check_notes(change["notes"], engines)
    read_key(change.get("key", ""))
    if not isinstance(change.get("bar", False), bool):
        raise UserError(f"bar is {change['bar']!r}; it must be True or False")
    if "chords" in change:
        change["chords"] = read_chords(change["chords"])
    of_score = controls.SCORE_CONTROLS & change.keys()
    if of_score and not engines.has_score:
        raise UserError(f"{min(of_score)} needs weights with a score (preset vqwave); "
                        f"{'a variation has' if configs[0].source_level else 'these have'} none")
    if "edits" in change:
        change["edits"] = validate(Edits, change["edits"], "edits")
    if change.get("section", "new") not in SECTION_REQUESTS:
        raise UserError(f"section is {change['section']!r}; it must be "
                        f"{' or '.join(SECTION_REQUESTS)}")
    if "begin" in change:
        if "jump" not in change or not isinstance(change["begin"], Prompt):
            raise UserError("begin must be a Prompt (see VQWave.prompt), and needs jump, a seed, "
                            "too")
        change["begin"] = _cut_prompt(change["begin"], engines, options.block)
    lasting = {x.name for x in fields(controls.Steering)} - {"key"}
    steering = {name: change.pop(name) for name in change.keys() & lasting}
    return Change(**change, steering=steering)


def _other_engines(music, sampling, before: Engines, options: Options) -> Engines:
    """The engines of another `VQWave`. Raises `UserError` if they cannot continue this stream."""
    engines = music.chain_engines()
    rate, now = engines.sample_rate, before.sample_rate
    if rate != now:
        raise UserError(f"the other weights have a sample rate of {rate} Hz, but this stream "
                        f"plays at {now} Hz")
    check_block(options.block, engines.configs)
    label = before.label if engines.labels.names == before.labels.names else ""
    return replace(engines, label=choose_labels(engines.configs, label, options.batch or 1),
                   sampling=choose_sampling(engines.configs, sampling))


def _levels_of_sound(configs) -> list[int]:
    return [config.level for config in configs if config.level != SCORE]


def _check_seconds(name: str, seconds, options: Options) -> float:
    """The seconds of music to repeat, from 0 (no repetition) to the stream's `past`."""
    if seconds and not options.past:
        raise UserError(f"this stream keeps no music to {name}: make it with past, in seconds")
    return check_number(name, seconds, 0, options.past or None)


def _check_freeze(freeze, configs, options: Options) -> dict[int, float]:
    levels = _levels_of_sound(configs)
    freeze = freeze if isinstance(freeze, Mapping) else {levels[0]: freeze}
    return {read_level(level, levels, "freeze: "): _check_seconds("freeze", seconds, options)
            for level, seconds in freeze.items()}


def _cut_prompt(prompt: Prompt, engines: Engines, block: int) -> Prompt:
    """The last whole blocks of a prompt, which a jump skips."""
    configs, rate = engines.configs, engines.sample_rate
    bottom = configs[-1].level
    codes = check_prompt({x: codes for x, codes in prompt.codes.items() if x >= bottom}, configs)
    count = len(codes[bottom]) * bottom // block * block
    if not count:
        raise UserError(f"the recording that a jump continues must last a block, at least "
                        f"{block / rate:.2f} s")
    score = prompt.score and prompt.score.earlier((len(prompt.audio) - count) / rate)
    return replace(prompt, codes={level: x[-(count // level):] for level, x in codes.items()},
                   audio=prompt.audio[-count:], keep_original=False, score=score)


def _check_notes(notes, engines: Engines) -> dict[str, Any]:
    """The notes, and the powers of the levels whose codec has oscillators: of `Steering`."""
    if not isinstance(notes, Sequence) or isinstance(notes, str):
        raise UserError(f"notes is {notes!r}; it must be a list of MIDI numbers")
    notes = tuple(check_number("a note", note, 0, 127, whole=True) for note in notes)
    if len(notes) > controls.MOST_NOTES:
        raise UserError(f"{len(notes)} notes are held; at most {controls.MOST_NOTES} can be")
    if not notes:
        return {"notes": notes}
    if engines.music is None:
        raise UserError("this stream cannot measure the pitches of its codes: it was made without "
                        "music, a VQWave")
    powers = {level: power for level in _levels_of_sound(engines.configs)
              if (power := engines.music.pitches(level)) is not None}
    if not powers:
        raise UserError("these weights cannot follow notes: none of their codecs has oscillators "
                        "(a head of source_filter or tones)")
    return {"notes": notes, "powers": powers}
