"""What the keys of a terminal do to a stream that plays, and a line that shows it.

They go by `controls.CONTROLS`: a number's two keys make it less and more by its step, one key turns
it on and off. What is pressed is kept as a score, which plays the performance again.
"""

from __future__ import annotations

import contextlib
import textwrap
import threading
from collections import deque
from collections.abc import Sequence

from ..errors import UserError
from ..io.files import printable
from . import controls
from .stream import draw_seed

BAR = 2.0
"""Seconds that are held or frozen at first."""

PROMPT_SECONDS = 5.0
"""Of a recording that the music goes on from, where nobody says how many."""

OTHERS = {"r": "next recording", "w": "next weights"}
"""Keys that pass into what was named before the music began."""


class Keys:
    """The keys of one stream. Any thread may call any method.

    recordings: files that the music can pass into, one after the other, the first seconds of each
    being its prompt; folders: of generators, likewise. score: [(sample, keywords of `Stream.set`)]
    of all that was changed.
    """

    def __init__(self, stream, recordings: Sequence = (), folders: Sequence = ()):
        self.stream, self.score = stream, []
        self._lock = threading.RLock()
        self.bar, self.said = BAR, ""
        self._others: dict[str, deque] = {
            "r": deque((one, {"begin": {"file": one, "seconds": PROMPT_SECONDS}})
                       for one in map(str, recordings)),
            "w": deque((one, {"weights": one}) for one in map(str, folders))}
        self._loading: threading.Thread | None = None
        self._look()

    def _look(self):
        """What there is to turn of what plays, or is about to."""
        stream = self.stream
        coming = stream.coming
        self._levels = list(coming)
        self._level = None  # that keys of one level go to; None: to all
        self._controls = {name: one for name, one in controls.CONTROLS.items()
                          if stream.labels or not one.labels}
        self._values = {name: one.default for name, one in self._controls.items()
                        if not one.sampled} | {"stay": stream.stay}
        self._frozen = dict.fromkeys(self._levels, 0.0)  # seconds, which each level has for itself
        self._drawn = {level: {name: getattr(sampling, name)
                               for name, one in self._controls.items() if one.sampled}
                       for level, sampling in coming.items()}
        self._first = {level: dict(drawn) for level, drawn in self._drawn.items()}
        self._keys = {key: (one, i) for one in self._controls.values()
                      for i, key in enumerate(one.keys)}

    def help(self, width: int) -> list[str]:
        """What the keys are, in lines of at most `width` characters."""
        pairs = [f"{'/'.join(one.keys)} {one.name}" for one in self._controls.values()]
        pairs += ["l/L label"] * bool(self.stream.labels) + ["</> bar", "j jump"]
        pairs += [f"{key} {what}" for key, what in OTHERS.items() if self._others[key]]
        if len(self._levels) > 1:
            pairs += [f"1–{len(self._levels)} level", "0 all"]
        # A key and its name stay together.
        kept = "  ".join(pair.replace(" ", "\xa0") for pair in pairs)
        return [line.replace("\xa0", " ")
                for line in textwrap.wrap(kept, width, break_on_hyphens=False)]

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
            elif name == "freeze":
                parts += [f"{name} {level} {seconds:+g} {one.unit}"
                          for level, seconds in self._frozen.items() if seconds]
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
                self._jump()
            elif self._others.get(key):
                self._pass_into(key)
            elif key.isdigit() and int(key) <= len(self._levels):
                self._level = self._levels[int(key) - 1] if int(key) else None

    def _jump(self, **other):
        """To another seed; other: what `Stream.set` is told besides."""
        seed = draw_seed(None)
        self._set(jump=seed, **other)
        with self._lock:
            if "weights" in other:
                self._look()
            self._values["hold"] = 0.0
            self._frozen = dict.fromkeys(self._levels, 0.0)
            self.said = f"seed {seed}"

    def _pass_into(self, key: str):
        """The next recording, or folder of weights; it is loaded while other keys do what they do.
        """
        if self._loading and self._loading.is_alive():
            raise UserError("one moment: something is being loaded")
        name, other = self._others[key][0]
        self._others[key].rotate(-1)

        def load():
            with self._saying():
                self._jump(**other)

        self.said = f"loading {printable(name)}"
        self._loading = threading.Thread(target=load, daemon=True)
        self._loading.start()

    def wait(self):
        """Until what is being loaded is there."""
        if self._loading:
            self._loading.join()

    def _pass_to_label(self, step: int):
        """The next label of the vocabulary, or the one before; past its end no label."""
        names = ["", *self.stream.labels]
        label = names[(names.index(self.stream.label) + step) % len(names)]
        self._set(label=label)
        self.said = f"label {label or 'any'}"

    def put(self, name: str, share: float):
        """Turn a number's knob to a share of its way, from 0 to 1. Of what each level has for
        itself it turns by as much from where each began.
        """
        one = controls.CONTROLS[name]
        value = one.turned(share)
        with self._lock, self._saying():
            if one.sampled:
                values = {level: one.clip(first[name] + value - one.default)
                          for level, first in self._first.items()}
                self._set(sampling={level: {name: x} for level, x in values.items()})
                for level, x in values.items():
                    self._drawn[level][name] = x
            else:
                self._set(**{name: value})
                self._values[name] = value

    def hold_notes(self, notes):
        """These notes are held, of all."""
        with self._saying():
            if notes:  # keys need not wait for what is measured after a jump to other weights
                self.stream.hear_codes()
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
        if one.name == "freeze":
            level = self._levels[0] if self._level is None else self._level
            seconds = 0.0 if self._frozen[level] else self.bar
            self._set(freeze={level: seconds})
            self._frozen[level] = seconds
            return
        before = self._values[one.name]
        if len(one.keys) == 1:
            value = 0.0 if before else self.bar
        else:
            value = one.clip(before + (one.step if place else -one.step))
        self._set(**{one.name: value})
        self._values[one.name] = value

    def _set(self, **change):
        self.score.append((self.stream.set(**change), change))
