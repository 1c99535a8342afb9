"""Errors, signals and the end of processes."""

import contextlib
import ctypes
import math
import multiprocessing
import numbers
import os
import signal
import sys
import threading
from collections.abc import Collection, Sequence
from typing import Any

_PR_SET_PDEATHSIG = 1


class UserError(Exception):
    """A file, a flag, a folder or an argument is wrong. A command prints the message, one line with
    a remedy, and ends with exit code 2.
    """


def not_installed(error: ModuleNotFoundError) -> str:
    """The message for a missing library that playing does not need."""
    return (f"this needs {error.name}, which is not installed: pip install 'vqwave[train]', or in "
            f"a checkout bash setup.sh")


def first_names(names: Sequence[str]) -> str:
    """The first five names of a list in one line, and "…" for the others."""
    return ", ".join([*names[:5], *["…"] * (len(names) > 5)])


def check_number(what: str, value, least=None, most=None, above=None, whole: bool = False,
                 off=None) -> Any:
    """`value` as a float, or as an int if `whole`. Raises `UserError` if `value` is no number of at
    least `least`, at most `most` and above `above`, and is not `off`.
    """
    try:
        if (not isinstance(value, numbers.Real) or isinstance(value, bool)
            or not math.isfinite(float(value))):
            raise ValueError
        number: Any = int(value) if whole else float(value)  # type: ignore[call-overload]
        if (number != value or least is not None and number < least and number != off
                or most is not None and number > most
                or above is not None and number <= above):
            raise ValueError
    except (ValueError, OverflowError):
        raise UserError(f"{what} is {value!r}; it must be "
                        f"{describe_number(least, most, above, whole, off)}") from None
    return number


def describe_number(least=None, most=None, above=None, whole: bool = False, off=None) -> str:
    """The bounds in words: `a whole number from 1 to 9`, `0 or a number above 0`."""
    kind = "a whole number" if whole else "a number"
    kind = kind if off is None else f"{_format(off)} or {kind}"
    if least is not None and most is not None:
        return f"{kind} from {_format(least)} to {_format(most)}"
    bounds = (("of at least", least), ("above", above), ("of at most", most))
    return kind + " and".join(f" {word} {_format(bound)}"
                                for word, bound in bounds if bound is not None)


def _format(bound) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def check_name(what: str, name: str, names: Collection[str]) -> str:
    """`name`. Raises `UserError` if it is none of `names`. what: the kind of name."""
    if name not in names:
        raise UserError(f"no {what} is called {name!r}; there are {', '.join(names)}")
    return name


class Interrupted(BaseException):
    """A signal has ended the run. `code` is the exit code: 130 for Ctrl-C, 143 for SIGTERM."""

    def __init__(self, number: int, message: str = ""):
        super().__init__(message or f"stopped by {signal.Signals(number).name}; the same command "
                                    f"continues")
        self.code = 128 + number


@contextlib.contextmanager
def signal_handlers(handler, *numbers: int):
    """Handle these signals with `handler` while the block runs."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def begin_helper():
    """Begin the process of a helper, which ignores Ctrl-C and ends with its parent. This must run
    before the imports of the work, because these take seconds.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent may have blocked SIGTERM, but a pool uses it to end its processes.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    end_with_parent()


def end_with_parent():
    """End this process when its parent has ended. The kernel of Linux does so at once, even while C
    code runs. Elsewhere, and below a fork server, a thread watches.
    """
    parent = multiprocessing.parent_process()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is None or sys.platform == "linux" and os.getppid() == parent.pid:
        return
    if not parent.is_alive():
        os._exit(1)

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
