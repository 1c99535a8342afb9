"""How a run ends early. Scripts print a `UserError` as one line and leave with exit code 2; other
errors are ours.
"""

import contextlib
import signal


class UserError(Exception):
    """Something outside the program is wrong: a file, a flag, a folder. One line: what and, if it
    can, what to do.
    """


class Interrupted(BaseException):
    """A signal ended the run in good order. `code` is what the process exits with: 130 for Ctrl-C,
    143 for SIGTERM.
    """

    def __init__(self, number: int, message: str = ""):
        super().__init__(message or f"stopped by {signal.Signals(number).name}; the same command continues")
        self.code = 128 + number


@contextlib.contextmanager
def signal_handlers(handler, *numbers: int):
    """`handler` for these signals while the block runs, then what was there before."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
