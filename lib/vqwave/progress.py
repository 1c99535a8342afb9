"""Progress of a long run: bars on stderr, if stderr is a terminal."""

import contextlib
from collections.abc import Collection, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def bar(*columns, transient: bool = True, elapsed: bool = False) -> Progress:
    """A progress bar with a description; invisible if stderr is no terminal. columns: shown instead
    of the percentage and the time left (or `elapsed`). transient: remove the bar at the end.
    """
    columns = columns or (TextColumn("{task.percentage:.0f} %"),
                          TimeElapsedColumn() if elapsed else TimeRemainingColumn())
    terminal = Console(stderr=True)
    return Progress(TextColumn("{task.description}", markup=False), BarColumn(),
                    *columns, console=terminal,
                    disable=not terminal.is_terminal, transient=transient)


@contextlib.contextmanager
def share_bar():
    """A bar for a share: yields `update(description, share done)`."""
    with bar() as shown:
        task = shown.add_task("", total=1.0)
        yield lambda what, share: shown.update(task, description=what, completed=share)


class Reporter:
    """Reports a long run: lines on stdout, and a bar on stderr if it is a terminal."""

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
        """Show a bar of `total` steps, of which `done` are complete."""
        self.stop()
        self.task = self.bar.add_task(what, total=total, completed=done, loss="")
        self.bar.start()

    def advance(self, done: int, loss: float | None = None):
        """Show the number of complete steps, and the loss."""
        self.bar.update(self.task, completed=done, loss="" if loss is None else f"loss {loss:.4g}")

    def track(self, items: Collection, what: str) -> Iterator:
        """The items, with a bar of those that are done. Another bar may not be shown meanwhile."""
        if items:
            self.start(len(items), 0, what)
        for done, item in enumerate(items, 1):
            yield item
            self.advance(done)
        self.stop()

    def stop(self):
        """Remove the bar."""
        if self.task is not None:
            self.bar.stop()
            self.bar.remove_task(self.task)
            self.task = None


class SilentReporter(Reporter):
    """Reports nothing."""

    def __init__(self):
        super().__init__()
        self.bar.disable = True

    def __call__(self, line: str):
        pass
