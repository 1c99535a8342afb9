"""Changes a playing stream with the keys of a terminal (see `controls.CONTROLS`), and describes
the values in a line. All changes are kept, so that the session can be repeated.
"""

import contextlib
import textwrap
import threading
from collections import deque
from collections.abc import Sequence

from ..errors import UserError
from ..io.files import printable
from . import controls
from .sampling import draw_seed

BAR = 2.0
"""The initial length, in seconds, of a hold or a freeze."""
PROMPT_SECONDS = 5.0
"""Default length of the part of a recording that the music continues."""
SECTIONS = {"b": "theme", "B": "new"}
"""Keys that choose the next section of the score."""
NEXT = {"r": "next recording", "w": "next weights"}
"""Keys that continue with the next recording, or the next folder of weights."""

TAKEN = "".join(("<>lLoOjJ0123456789", *SECTIONS, *NEXT, " qQ?"))
"""Keys that controls cannot have. The last four are those of `vqwave play`."""

Values = dict[str | None, float]
"""The values of a control by level; the level is None if the control has only one value."""


class Keys:
    """The keys of one stream. Any thread may call any method.

    recordings: files whose first seconds the music can continue. folders: folders of generators
    that can take over. changes: [(sample, keywords of `Stream.set`)] so far.
    """

    def __init__(self, stream, recordings: Sequence = (), folders: Sequence = ()):
        self.stream, self.changes = stream, []
        self.bar, self.notice, self._mood = BAR, "", ""
        self._lock = threading.RLock()
        self._next = {"r": deque(map(str, recordings)), "w": deque(map(str, folders))}
        self._loading: threading.Thread | None = None
        self._values: dict[str, Values] = {}
        self._read_stream()

    def _read_stream(self):
        """Read the levels and their values after all queued changes. The stream keeps the values
        that are not of its levels.
        """
        stream, sampling = self.stream, self.stream.sampling
        self._levels = list(sampling)
        self._level = None  # the level that keys change; None: all
        self._sounds = [level for level in self._levels if level != "score"]
        self._first: dict[str, Values] = {
            name: {level: getattr(sampling[level], name) for level in stream.sampled[name]}
            if control.sampled else {None: control.default}
            for name, control in controls.CONTROLS.items() if stream.has_score or not control.score}
        self._first |= {"stay": {None: stream.steering.stay},
                        "freeze": dict.fromkeys(self._sounds, 0.0)}
        self._controls = {name: controls.CONTROLS[name] for name, x in self._first.items() if x}
        self._values = {name: dict(first) if self._controls[name].sampled
                        else self._values.get(name, dict(first))
                        for name, first in self._first.items() if first}
        self._keys = {key: (control, i) for control in self._controls.values()
                      for i, key in enumerate(control.keys)}

    def help(self, width: int) -> list[str]:
        """The list of keys, in lines of at most `width` characters."""
        pairs = [f"{'/'.join(control.keys)} {control.name}" for control in self._controls.values()]
        pairs += ["b/B theme, new section", "o/O mood"] * self.stream.has_score
        pairs += ["l/L label"] * bool(self.stream.labels) + ["</> bar", "j jump"]
        pairs += [f"{key} {description}" for key, description in NEXT.items() if self._next[key]]
        if len(self._levels) > 1:
            pairs += [f"1–{len(self._levels)} level", "0 all"]
        # A key and its name stay on one line.
        text = "  ".join(pair.replace(" ", "\xa0") for pair in pairs)
        return [line.replace("\xa0", " ")
                for line in textwrap.wrap(text, width, break_on_hyphens=False)]

    @property
    def line(self) -> str:
        """The last notice, and all values that differ from the initial ones."""
        parts = [self.notice] if self.notice else []
        if self._level is not None:
            parts.append(f"level {self._level}")
        for name, control in self._controls.items():
            values, first = self._values[name], self._first[name]
            if control.sampled and values != first:
                parts.append(f"{name} {'/'.join(f'{x:g}' for x in dict.fromkeys(values.values()))}")
            elif not control.sampled:
                sign = "+" if control.least < 0 else ""
                parts += [" ".join(filter(None, (name, level, f"{value:{sign}.4g}", control.unit)))
                          for level, value in values.items() if value != first[level]]
        return " · ".join(parts)

    def press(self, key: str):
        """Handle a key. An error becomes the notice, and the music continues."""
        self.notice, score = "", self.stream.has_score
        with self._lock, self._notice_errors():
            if key in self._keys:
                self._turn(*self._keys[key])
            elif key in "<>":
                hold = controls.CONTROLS["hold"]
                self.bar = max(hold.step, self.bar + (hold.step if key == ">" else -hold.step))
                self.notice = f"bar {self.bar:g} s"
                if self._values["hold"][None]:
                    self._change(hold, {None: self.bar})
            elif key in "lL" and self.stream.labels:
                label = _next(["", *self.stream.labels], self.stream.label, key == "l")
                self._set(label=label)
                self.notice = f"label {label or 'any'}"
            elif key in SECTIONS and score:
                self._set(section=SECTIONS[key])
                self.notice = f"next section: {SECTIONS[key]}"
            elif key in "oO" and score:
                self._change_mood(key == "o")
            elif key in "jJ":
                self._jump()
            elif self._next.get(key):
                self._continue_with_next(key)
            elif key.isdigit() and int(key) <= len(self._levels):
                self._level = self._levels[int(key) - 1] if int(key) else None

    def _turn(self, control: controls.Control, index: int):
        """Handle key `index` of a control: 0 is less, 1 is more; a single key is on and off."""
        values, step = self._values[control.name], control.step if index else -control.step
        levels = list(values)
        if None not in values and self._level is not None:
            if self._level not in values:
                raise UserError(f"{self._level} has no {control.name}")
            levels = [self._level]
        elif control.name == "freeze":
            levels = levels[:1]
        if len(control.keys) == 1:
            self._change(control, {x: 0.0 if values[x] else self.bar for x in levels})
        else:
            if control.name == "tempo":  # 0 until a tempo is set
                values = {None: values[None] or self.stream.tempo}
            self._change(control, {x: control.clip(values[x] + step) for x in levels})

    def _change_mood(self, forward: bool):
        """Choose the next word of `controls.MOODS`, or the word before, of those whose label the
        weights have. The list ends with no mood.
        """
        labels = self.stream.labels
        moods = {name: change for name, change in controls.MOODS.items()
                 if "label" not in change or change["label"] in labels}
        moods[""] = controls.NO_MOOD | ({"label": ""} if labels else {})
        mood = _next(list(moods), self._mood, forward)
        self._set(**moods[mood])
        self._mood = mood
        for name in self._controls.keys() & moods[mood].keys():
            self._values[name] = {None: moods[mood][name]}
        self.notice = f"mood {mood or 'any'}"

    def _jump(self, **change):
        """Jump to a random seed, with further keywords of `Stream.set`."""
        seed = draw_seed(None)
        self._set(jump=seed, **change)
        with self._lock:
            if "weights" in change:
                self._read_stream()
                self._mood = ""
            self._values["hold"] = {None: 0.0}
            self._values["freeze"] = dict.fromkeys(self._sounds, 0.0)
            self.notice = f"seed {seed}"

    def _continue_with_next(self, key: str):
        """Load the next recording or weights in a thread, so that other keys work meanwhile."""
        if self._loading and self._loading.is_alive():
            raise UserError("please wait: a recording or weights are being loaded")
        path = self._next[key][0]
        self._next[key].rotate(-1)

        def load():
            with self._notice_errors():
                self._jump(**({"begin": {"file": path, "seconds": PROMPT_SECONDS}} if key == "r"
                              else {"weights": path}))

        self.notice = f"loading {printable(path)}"
        self._loading = threading.Thread(target=load, daemon=True)
        self._loading.start()

    def put(self, name: str, share: float):
        """Turn the knob of a control to a position from 0 to 1. All levels change by the same
        amount from their initial values.
        """
        control = controls.CONTROLS[name]
        value = control.turned(share)
        with self._lock, self._notice_errors():
            self._change(control, {
                level: control.clip(first + value - control.default) if control.sampled else value
                for level, first in self._first[name].items()})

    def follow(self, tempo: float):
        """Set the tempo of the score, if there is a score, in beats per minute."""
        with self._lock, self._notice_errors():
            if control := self._controls.get("tempo"):
                self._change(control, {None: control.clip(tempo)})

    def hold_notes(self, notes):
        """Hold these notes, and release all others."""
        with self._notice_errors():
            if notes:  # outside the lock: after a change of weights, measuring takes seconds
                self.stream.measure_pitches()
        with self._lock, self._notice_errors():
            self._set(notes=sorted(notes))

    @contextlib.contextmanager
    def _notice_errors(self):
        try:
            yield
        except UserError as e:
            self.notice = str(e)

    def _change(self, control: controls.Control, values: Values):
        """Set the values of a control."""
        if control.sampled:
            self._set(sampling={level: {control.name: x} for level, x in values.items()})
        else:
            self._set(**{control.name: values.get(None, values)})
        self._values[control.name] |= values

    def _set(self, **change):
        self.changes.append((self.stream.set(**change), change))


def _next(names: Sequence[str], name: str, forward: bool) -> str:
    """The name after `name`, or before; after the last comes the first."""
    return names[(names.index(name) + (1 if forward else -1)) % len(names)]
