"""How a run ends early. Scripts print a `UserError` as one line and leave with exit code 2; other
errors are ours.
"""

import contextlib
import math
import numbers
import signal
from typing import Any


class UserError(Exception):
    """Something outside the program is wrong: a file, a flag, a folder. One line: what and, if it
    can, what to do.
    """


def check_number(what: str, value, least=None, most=None, above=None, whole: bool = False) -> Any:
    """`value` as a float, or as an int where it must be `whole`.

    Raises:
        UserError: it is no such number, at least `least`, at most `most`, more than `above`.
    """
    try:
        if (not isinstance(value, numbers.Real) or isinstance(value, bool)
            or not math.isfinite(float(value))):
            raise ValueError
        number: Any = int(value) if whole else float(value)  # type: ignore[call-overload]
        if (number != value or least is not None and number < least
                or most is not None and number > most
                or above is not None and number <= above):
            raise ValueError
    except (ValueError, OverflowError):
        raise UserError(f"{what} is {value!r}; it must be "
                        f"{describe_number(least, most, above, whole)}") from None
    return number


def describe_number(least=None, most=None, above=None, whole: bool = False) -> str:
    """`a whole number from 1 to 9`, `a number above 0`: what a number must be, in words."""
    wanted = "a whole number" if whole else "a number"
    if least is not None and most is not None:
        return f"{wanted} from {_format(least)} to {_format(most)}"
    bounds = (("of at least", least), ("above", above), ("of at most", most))
    return wanted + " and".join(f" {word} {_format(bound)}"
                                for word, bound in bounds if bound is not None)


def _format(bound) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


class Interrupted(BaseException):
    """A signal ended the run in good order. `code` is what the process exits with: 130 for Ctrl-C,
    143 for SIGTERM.
    """

    def __init__(self, number: int, message: str = ""):
        super().__init__(message or f"stopped by {signal.Signals(number).name}; the same command "
                                    f"continues")
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
