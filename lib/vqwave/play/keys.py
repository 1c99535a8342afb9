"""What the keys of a terminal do to a stream that plays, and a line that shows it.

They go by `controls.CONTROLS`: a number's two keys make it less and more by its step, one key turns
it on and off. What is pressed is kept as a score, which plays the performance again.
"""

from __future__ import annotations

import contextlib
import threading

from ..errors import UserError
from . import controls
from .stream import draw_seed

BAR = 2.0
"""Seconds that are held or frozen at first."""


class Keys:
    """The keys of one stream. Any thread may call any method.

    score: [(sample, keywords of `Stream.set`)] of all that was changed.
    """

    def __init__(self, stream):
        self.stream, self.score = stream, []
        self._lock = threading.RLock()
        self.bar, self.said = BAR, ""
        self._levels = [level for level in stream.sampling]
        self._level = None  # that keys of one level go to; None: to all
        self._controls = {name: one for name, one in controls.CONTROLS.items()
                          if stream.labels or not one.labels}
        self._values = {name: one.default for name, one in self._controls.items()
                        if not one.sampled}
        self._drawn = {level: {name: getattr(sampling, name)
                               for name, one in self._controls.items() if one.sampled}
                       for level, sampling in stream.sampling.items()}
        self._first = {level: dict(drawn) for level, drawn in self._drawn.items()}
        self._keys = {key: (one, i) for one in self._controls.values()
                      for i, key in enumerate(one.keys)}
        self._label = 0  # the one that was pressed last, 0 for none

    @property
    def help(self) -> str:
        """What the keys are, in a line."""
        pairs = " ".join(f"{'/'.join(one.keys)} {one.name}" for one in self._controls.values())
        pairs += " l/L label" if self.stream.labels else ""
        levels = f" 1–{len(self._levels)} level 0 all" if len(self._levels) > 1 else ""
        return f"{pairs} </> bar j jump{levels}"

    @property
    def line(self) -> str:
        """What differs from how the music began, and what went wrong last."""
        parts = [self.said] if self.said else []
        if self._level is not None:
            parts.append(f"level {self._level}")
        for name, one in self._controls.items():
            if one.sampled:
                values = [drawn[name] for drawn in self._drawn.values()]
                if values != [drawn[name] for drawn in self._first.values()]:
                    parts.append(f"{name} {'/'.join(f'{x:g}' for x in dict.fromkeys(values))}")
            elif self._values[name] != one.default:
                parts.append(f"{name} {self._values[name]:+g} {one.unit}".rstrip())
        return " · ".join(parts)

    def press(self, key: str):
        """Do what a key stands for. What cannot be is said in the line, and the music goes on."""
        self.said = ""
        with self._lock, self._saying():
            if key in self._keys:
                self._turn(*self._keys[key])
            elif key in "<>":
                step = controls.CONTROLS["hold"].step * (1 if key == ">" else -1)
                self.bar = max(controls.CONTROLS["hold"].step, self.bar + step)
                self.said = f"bar {self.bar:g} s"
                if self._values["hold"]:
                    self._set(hold=self.bar)
                    self._values["hold"] = self.bar
            elif key in "lL" and self.stream.labels:
                self._pass_to_label(1 if key == "l" else -1)
            elif key in "jJ":
                seed = draw_seed(None)
                self._set(jump=seed)
                self._values |= {"hold": 0.0, "freeze": 0.0}
                self.said = f"seed {seed}"
            elif key.isdigit() and int(key) <= len(self._levels):
                self._level = self._levels[int(key) - 1] if int(key) else None
            elif key == "?":
                self.said = self.help

    def _pass_to_label(self, step: int):
        """The next label of the vocabulary, or the one before; past its end no label."""
        names = ["", *self.stream.labels]
        self._label = (self._label + step) % len(names)
        self._set(label=names[self._label])
        self.said = f"label {names[self._label] or 'any'}"

    def put(self, name: str, share: float):
        """Turn a number to a place between its least, 0, and its most, 1, as a knob does."""
        one = controls.CONTROLS[name]
        value = one.clip(one.least + share * (one.most - one.least))
        with self._lock, self._saying():
            if one.sampled:
                self._set(sampling={level: {name: value} for level in self._levels})
                for drawn in self._drawn.values():
                    drawn[name] = value
            else:
                self._set(**{name: value})
                self._values[name] = value

    def hold_notes(self, notes):
        """These notes are held, of all."""
        with self._lock, self._saying():
            self._set(notes=sorted(notes))

    @contextlib.contextmanager
    def _saying(self):
        try:
            yield
        except UserError as e:
            self.said = str(e)

    def _turn(self, one: controls.Control, place: int):
        if one.sampled:
            step = one.step if place else -one.step
            levels = self._levels if self._level is None else [self._level]
            values = {level: one.clip(self._drawn[level][one.name] + step) for level in levels}
            self._set(sampling={level: {one.name: value} for level, value in values.items()})
            for level, value in values.items():
                self._drawn[level][one.name] = value
            return
        before = self._values[one.name]
        if len(one.keys) == 1:
            value = 0.0 if before else self.bar
        else:
            value = one.clip(before + (one.step if place else -one.step))
        level = self._level if one.name == "freeze" else None
        self._set(**{one.name: value if level is None else {level: value}})
        self._values[one.name] = value

    def _set(self, **change):
        self.score.append((self.stream.set(**change), change))
