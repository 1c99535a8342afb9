"""Lines and bars for a person who waits: bars go to stderr where that is a terminal, and nowhere
else.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def console() -> Console:
    """What is drawn and told beside a command's output: stderr."""
    return Console(stderr=True)


def bar(*columns, transient: bool = True, elapsed: bool = False) -> Progress:
    """A bar of a description, how far it is and the time left (or `elapsed`); silent where stderr
    is no terminal.

    Args:
        columns: what to show in place of the share in percent and the time.
        transient: remove it when it is done.
    """
    shown = columns or (TextColumn("{task.percentage:.0f} %"),
                        TimeElapsedColumn() if elapsed else TimeRemainingColumn())
    terminal = console()
    return Progress(TextColumn("{task.description}", markup=False), BarColumn(),
                    *shown, console=terminal,
                    disable=not terminal.is_terminal, transient=transient)


class Reporter:
    """What a long run reports: lines on stdout, and a bar on stderr where that is a terminal."""

    def __init__(self):
        self.bar = bar(MofNCompleteColumn(), TimeRemainingColumn(),
                       TextColumn("{task.fields[loss]}"))
        self.task = None

    def __call__(self, line: str):
        """Print a line."""
        if self.bar.disable:
            print(line, flush=True)
        else:
            self.bar.console.print(line, highlight=False, markup=False)

    def start(self, total: int, done: int, what: str = "training"):
        """Begin a bar over `total` steps, `done` of which are made."""
        self.stop()
        self.task = self.bar.add_task(what, total=total, completed=done, loss="")
        self.bar.start()

    def advance(self, done: int, loss: float | None = None):
        """Say how many steps are made by now, and the loss where there is one."""
        self.bar.update(self.task, completed=done, loss="" if loss is None else f"loss {loss:.4g}")

    def stop(self):
        """Take the bar away."""
        if self.task is not None:
            self.bar.stop()
            self.bar.remove_task(self.task)
            self.task = None


class SilentReporter(Reporter):
    """For the processes that the first one speaks for."""

    def __init__(self):
        super().__init__()
        self.bar.disable = True

    def __call__(self, line: str):
        pass
