"""Changes of a stream while it plays: loads the named recordings and weights, checks values."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ..config import SCORE, read_level, validate
from ..errors import UserError, check_number
from . import controls
from .chain import Engines, Options
from .edits import Edits
from .labels import choose_labels, find_labels, known_labels, read_labels
from .level import Steering
from .prompt import Prompt, check_prompt
from .sampling import KEY_DRAW, check_seed, choose_sampling, uniforms
from .score import CHORDS, SCALES, chord_shares, key_shares

SECTION_REQUESTS = "new", "theme"
"""Requests for the next section of the score: new music, or the first section again."""
_TONICS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_KEY = re.compile("([a-g])([#b]?)[- ]?(major|minor|m?)")


def read_key(key, seed: int = 0) -> tuple[float, ...]:
    """The `key_shares` of a key like "D-minor", "F#m" or "Bb"; of "minor" and "major" with a tonic
    that the seed draws; () for "". Raises `UserError` for any other text.
    """
    if key == "":
        return ()
    if (mode := str(key).lower()) in SCALES:
        tonic = int(12 * float(uniforms(seed, 0, 0, 0, 1, KEY_DRAW)[0]))
    else:
        parts = _KEY.fullmatch(mode)
        if parts is None:
            raise UserError(f"key is {key!r}; it must be like D-minor, Bb-major or minor")
        letter, accidental, mode = parts.groups()
        tonic = _TONICS[letter] + {"": 0, "#": 1, "b": -1}[accidental]
        mode = {"m": "minor", "": "major"}.get(mode, mode)
    return key_shares(tonic, mode)


MOST_CHORDS = 64
"""The most chords that repeat."""
_CHORD = re.compile("([a-gA-G])([#b]?)(.*)")


def read_chords(text) -> tuple[float, ...]:
    """The `chord_shares` of chords like "Am F C7 G", a bar each, joined: float [12 · chords]. They
    repeat, and each section of the score begins with the first. () for "". Raises `UserError` for
    an unknown chord.
    """
    names = str(text).replace(",", " ").replace("|", " ").split()
    shares: tuple[float, ...] = ()
    for name in names[:MOST_CHORDS]:
        parts = _CHORD.fullmatch(name)
        if parts is None or parts[3] not in CHORDS:
            raise UserError(f"chords has {name!r}; a chord is a note, such as A, F# or Bb, and one "
                            f"of: {', '.join(CHORDS)[2:]}, or nothing for major")
        shares += chord_shares(_TONICS[parts[1].lower()] + {"": 0, "#": 1, "b": -1}[parts[2]],
                               CHORDS[parts[3]])
    if len(names) > MOST_CHORDS:
        raise UserError(f"{len(names)} chords are too many; at most {MOST_CHORDS} can be set")
    return shares


@dataclass(frozen=True)
class Change:
    """The checked keywords of one call of `Stream.set`; None leaves a control as it is."""

    sampling: Any = None
    loudness: float | None = None
    transpose: float | None = None
    freeze: Mapping[int, float] | None = None
    notes: tuple[int, ...] | None = None
    pitches: Mapping[int, np.ndarray] | None = None
    """By level, the power of each pitch class in each code, see `pitches.of_codec`."""
    steering: Mapping[str, Any] = field(default_factory=dict)
    """Values of `level.Steering` by name."""
    key: str | None = None
    """The text for `read_key`, which needs the seed of the piece."""
    chords: str | None = None
    """The text for `read_chords`."""
    label: np.ndarray | None = None
    """The shares of labels, see `labels.read_labels`."""
    jump: int | None = None
    begin: Prompt | None = None
    engines: Engines | None = None
    """The engines after a jump to other weights."""
    hold: float | None = None


def engines_after(change: Change, engines: Engines) -> Engines:
    """The engines after a change."""
    engines = change.engines or engines
    return engines if change.label is None else replace(engines, label=change.label)


LONGEST_BLOCK = 1 << 20
"""The most samples of a block."""


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
        configs = [g.config for g in music.chain_engines()[1]]
    if keywords.get("notes") and music is not None:
        for level in _levels_of_sound(configs):
            music.pitches(level)
    if isinstance(begin, Mapping):
        if (not isinstance(begin.get("file"), str | os.PathLike)
                or not set(begin) <= {"file", "start", "seconds"}):
            raise UserError("begin must be {file, start, seconds} of a recording")
        part = {name: value for name, value in begin.items() if name != "file"}
        keywords["begin"] = music.prompt(begin["file"], level=configs[-1].level, **part)
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
        choose_sampling(configs, change["sampling"])
    if "label" in change:
        change["label"] = read_labels(change["label"], find_labels(configs), options.batch or 1)
    if "freeze" in change:
        change["freeze"] = _check_freeze(change["freeze"], configs, options)
    if "hold" in change:
        change["hold"] = _check_seconds("hold", change["hold"], options)
    for name in change.keys() & controls.CONTROLS.keys() - {"freeze", "hold"}:
        change[name] = check_number(name, change[name], **controls.CONTROLS[name].bounds)
    if "notes" in change:
        change["notes"], change["pitches"] = _check_notes(change["notes"], engines)
    of_score = controls.SCORE & change.keys()
    if of_score and not engines.has_score:
        raise UserError(f"{min(of_score)} needs weights with a score (preset vqwave); these have "
                        f"none")
    if "key" in change:
        read_key(change["key"])
    read_chords(change.get("chords", ""))
    if "edits" in change:
        change["edits"] = validate(Edits, change["edits"], "edits")
    if change.get("section", "new") not in SECTION_REQUESTS:
        raise UserError(f"section is {change['section']!r}; it must be "
                        f"{' or '.join(SECTION_REQUESTS)}")
    if "begin" in change:
        if "jump" not in change or not isinstance(change["begin"], Prompt):
            raise UserError("begin must be a Prompt (see VQWave.prompt), and needs jump, a seed, "
                            "too")
        rate = engines.codec.config.sample_rate
        change["begin"] = _cut_prompt(change["begin"], configs, options.block, rate)
    lasting = {x.name for x in fields(Steering)} - {x.name for x in fields(Change)}
    steering = {name: change.pop(name) for name in change.keys() & lasting}
    return Change(**change, steering=steering)


def _other_engines(music, sampling, before: Engines, options: Options) -> Engines:
    """The engines of another `VQWave`. Raises `UserError` if they cannot continue this stream."""
    codec, generators, sounds = music.chain_engines()
    configs = [g.config for g in generators]
    rate, now = codec.config.sample_rate, before.codec.config.sample_rate
    if rate != now:
        raise UserError(f"the other weights have a sample rate of {rate} Hz, but this stream "
                        f"plays at {now} Hz")
    check_block(options.block, configs)
    same_labels = known_labels(configs).names == known_labels(before.configs).names
    label = choose_labels(configs, before.label if same_labels else "", options.batch or 1)
    return Engines(codec, generators, sounds, music, label, choose_sampling(configs, sampling))


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


def _cut_prompt(prompt: Prompt, configs, block: int, rate: int) -> Prompt:
    """The last whole blocks of a prompt, which a jump skips."""
    bottom = configs[-1].level
    codes = check_prompt({x: codes for x, codes in prompt.codes.items() if x >= bottom}, configs)
    count = len(codes[bottom]) * bottom // block * block
    if not count:
        raise UserError(f"the recording that a jump continues must last a block, at least "
                        f"{block / rate:.2f} s")
    score = prompt.score and prompt.score.earlier((len(prompt.audio) - count) / rate)
    return Prompt({level: x[-(count // level):] for level, x in codes.items()},
                  prompt.audio[-count:], pitches=prompt.pitches, stay=prompt.stay, score=score)


def _check_notes(notes, engines: Engines) -> tuple[tuple[int, ...], dict[int, np.ndarray]]:
    """(notes, {level: pitches of its codes}) for the levels whose codec has oscillators."""
    if not isinstance(notes, Sequence) or isinstance(notes, str):
        raise UserError(f"notes is {notes!r}; it must be a list of MIDI numbers")
    notes = tuple(check_number("a note", note, 0, 127, whole=True) for note in notes)
    if len(notes) > controls.MOST_NOTES:
        raise UserError(f"{len(notes)} notes are held; at most {controls.MOST_NOTES} can be")
    if not notes:
        return notes, {}
    if engines.music is None:
        raise UserError("this stream cannot measure the pitches of its codes: it was made without "
                        "music, a VQWave")
    powers = {x: engines.music.pitches(x) for x in _levels_of_sound(engines.configs)}
    powers = {level: x for level, x in powers.items() if x is not None}
    if not powers:
        raise UserError("these weights cannot follow notes: none of their codecs has oscillators "
                        "(a head of notes or tones)")
    return notes, powers
